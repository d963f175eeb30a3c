from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from spikeproof.attacks import PGD, Attack, Flips, Linf
from spikeproof.data import Split
from spikeproof.errors import Refusal
from spikeproof.evaluate import Step, Suite, evaluate, submit, write_submission
from spikeproof.evaluate._artifacts import read_tensors
from spikeproof.seeding import isolated
from spikeproof.statistics import wilson

THREAT = Linf(0.1)
WEAK = Suite("weak", (Step("one", Attack(PGD(1)), limit=20),))
STRONG = Suite("strong", (Step("pgd", Attack(PGD(20))),))


@pytest.fixture
def found(linear, points, tmp_path):
    """The record of a weak suite, and what a strong one finds."""
    record = evaluate(linear, points, THREAT, WEAK, out=tmp_path / "weak", checks=())
    evaluate(linear, points, THREAT, STRONG, out=tmp_path / "strong", checks=())
    places, x_adv = read_tensors(tmp_path / "strong" / "adversarials.safetensors")
    return record, places, x_adv


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_what_somebody_found_is_counted_once(linear, points, tmp_path, found):
    record, places, x_adv = found
    file = saved(tmp_path / "a.npz", x_adv=x_adv.numpy(), indices=places)
    told = submit(file, record, linear, points, THREAT)
    assert told.given == told.broken == tuple(places)
    stood = [i for i, stands in enumerate(record.robust) if stands]
    assert told.new == tuple(i for i in places if i in stood)
    assert 0 < len(told.new) < len(told.broken)
    assert told.robust_accuracy == (len(stood) - len(told.new)) / len(record.clean)
    assert told.interval == wilson(len(stood) - len(told.new), len(record.clean))
    assert (told.outside, told.unconfirmed) == ((), ())


def test_all_samples_of_the_record_need_no_numbers(linear, points, tmp_path, found):
    record, places, x_adv = found
    every = points.x.clone()
    every[places] = x_adv
    told = submit(saved(tmp_path / "a.npz", x_adv=every.numpy()), record, linear, points, THREAT)
    assert told.broken == tuple(i for i in range(len(points)) if i in places)
    right = [i for i, right in enumerate(record.clean) if right]
    assert set(told.unconfirmed) == set(right) - set(places)
    assert not set(told.broken) - set(right), "what was wrong when clean cannot be broken"


def test_claims_that_do_not_hold_count_for_nothing(linear, points, tmp_path, found):
    record, places, x_adv = found
    far, odd = x_adv + 0.3, x_adv.clone()
    odd[0, 0, 0, 0] = torch.nan
    for inputs, kept in ((far, 0), (odd, len(places) - 1)):
        file = saved(tmp_path / "a.npz", x_adv=inputs.numpy(), indices=places)
        told = submit(file, record, linear, points, THREAT)
        assert len(told.broken) <= kept
        assert len(told.outside) >= len(places) - kept - len(told.unconfirmed)
    assert odd.isnan().sum() == 1
    assert places[0] in told.outside


def test_events_must_be_such_as_a_sensor_delivers(tmp_path):
    x = torch.zeros(4, 2, 1, 2, 2)
    data, threat = Split(x, torch.zeros(4, dtype=torch.int64), 1.0), Flips(2)
    with isolated(0):
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(8, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[1] = 1.0
        net[1].bias.copy_(torch.tensor([0.4, 0.0]))
    suite = Suite("s", (Step("none", lambda model, x, y, threat: x),))
    record = evaluate(net, data, threat, suite, checks=())
    half, one = x.clone(), x.clone()
    half[:, 0, 0, 0, 0], one[:, 0, 0, 0, 0] = 0.5, 1.0
    assert submit(saved(tmp_path / "a.npz", x_adv=one), record, net, data, threat).new
    told = submit(saved(tmp_path / "b.npz", x_adv=half), record, net, data, threat)
    assert len(told.outside) == 4


def test_it_is_written_with_its_sources(linear, points, tmp_path, found):
    record, places, x_adv = found
    file = saved(tmp_path / "a.npz", x_adv=x_adv.numpy(), indices=places)
    told = submit(file, record, linear, points, THREAT)
    write_submission(tmp_path / "s.json", told, tmp_path / "weak" / "record.json", file)
    there = json.loads((tmp_path / "s.json").read_text())
    assert there["kind"] == "submission"
    assert there["broken"] == places
    assert there["robust_accuracy"] == told.robust_accuracy
    assert len(there["record"]["sha256"]) == len(there["adversarials"]["sha256"]) == 64


def test_another_network_threat_or_set_is_refused(linear, points, tmp_path, found):
    record, places, x_adv = found
    file = saved(tmp_path / "a.npz", x_adv=x_adv.numpy(), indices=places)
    with pytest.raises(Refusal, match="the threat is"):
        submit(file, record, linear, points, Linf(0.2))
    other = Split(1 - points.x, points.y, 1.0)
    with pytest.raises(Refusal, match="the samples being"):
        submit(file, record, linear, other, THREAT)
    strange = replace(record, model=record.model | {"weights_sha256": "0"})
    with pytest.raises(Refusal, match="the weights are"):
        submit(file, strange, linear, points, THREAT)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros(3)}, "is no npz archive with x_adv"),
        ({"x_adv": np.zeros((2, 5), np.float32), "indices": [0, 1]}, "one input for each sample"),
        ({"x_adv": np.zeros((2, 1, 2, 2), "<U3"), "indices": [0, 1]}, "inputs are numbers"),
        ({"x_adv": np.zeros((2, 1, 2, 2)), "indices": [0.0, 1.0]}, "a list of whole ones"),
        ({"x_adv": np.zeros((2, 1, 2, 2)), "indices": [0, 9999]}, "sample 9999"),
        ({"x_adv": np.zeros((2, 1, 2, 2)), "indices": [1, 1]}, "sample 1 twice"),
        ({"x_adv": np.array([None, 1], object)}, "inputs are numbers"),
        ({"x_adv": np.zeros((0, 1, 2, 2)), "indices": np.zeros(0, int)}, "for 0 of 41 samples"),
        ({"x_adv": np.zeros((9999, 1, 2, 2)), "indices": np.arange(9999)}, "for 9999 of 41"),
    ],
)
def test_a_file_that_says_nothing_costs_one_sentence(linear, points, tmp_path, found, arrays, said):
    with pytest.raises(Refusal, match=said):
        submit(saved(tmp_path / "a.npz", **arrays), found[0], linear, points, THREAT)


def test_a_damaged_archive_is_refused(linear, points, tmp_path, found):
    record, places, x_adv = found
    file = saved(tmp_path / "a.npz", x_adv=x_adv.numpy(), indices=places)
    whole = file.read_bytes()
    for kept in (0, 3, len(whole) // 2, len(whole) - 7):
        file.write_bytes(whole[:kept])
        with pytest.raises(Refusal, match="no npz archive"):
            submit(file, record, linear, points, THREAT)
    broken = bytearray(whole)
    broken[len(whole) // 3] ^= 255
    file.write_bytes(broken)
    with pytest.raises(Refusal, match="no npz archive"):
        submit(file, record, linear, points, THREAT)


def test_what_is_no_array_and_what_would_fill_the_memory_is_refused_unread(
    linear, points, tmp_path, found
):
    file = tmp_path / "a.npz"
    for name, content in (("x_adv", b"1"), ("x_adv.npy", b"no magic"), ("x_adv.npy", b"")):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, content)
        with pytest.raises(Refusal, match="no npz archive"):
            submit(file, found[0], linear, points, THREAT)
    huge = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 1, 2, 2)}
    with zipfile.ZipFile(file, "w") as archive, archive.open("x_adv.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, huge)
    with pytest.raises(Refusal, match="has x_adv of shape"):
        submit(file, found[0], linear, points, THREAT)
