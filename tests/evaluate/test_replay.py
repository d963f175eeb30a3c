from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from spikeproof.attacks import PGD, Attack, Linf
from spikeproof.compress import lower
from spikeproof.data import Split
from spikeproof.errors import Refusal
from spikeproof.evaluate import Step, Suite, evaluate, replay, write_replay
from spikeproof.evaluate._artifacts import read_tensors
from spikeproof.evaluate._replay import answer_of
from spikeproof.ir import pack, unpack, write_onnx
from spikeproof.models import MLP, Setting, build
from spikeproof.runtime import trace

THREAT = Linf(0.2)
SUITE = Suite("some", (Step("pgd", Attack(PGD(5))),))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A network, samples that it has right, its record, and its packed file."""
    folder = tmp_path_factory.mktemp("replay")
    net = build(MLP((8,)), Setting(channels=1, size=4, T=3, classes=3), 3).eval()
    for parameter in net.parameters():
        parameter.data *= 2
    x = torch.rand((60, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        data = Split(x, net(x).argmax(1), 1.0)
    record = evaluate(net, data, THREAT, SUITE, out=folder / "out", checks=())
    assert 5 < sum(record.robust) < 55
    graph = lower(net, (1, 4, 4))
    pack(folder / "net.spkp", graph)
    return net, data, record, folder, graph


def again(case, file):
    net, data, record, folder, _ = case
    return replay(folder / "out", record, net, data, THREAT, file)


def test_a_faithful_file_falls_as_the_network_does(case):
    record, folder = case[2:4]
    found = again(case, folder / "net.spkp")
    broken = tuple(i for i, stands in enumerate(record.robust) if not stands)
    assert (found.clean.samples, found.adversarial.samples) == (60, len(broken))
    assert found.clean.largest < 1e-4
    assert found.clean.differ == found.adversarial.differ == found.spared == found.lost == ()
    assert found.fooled == broken
    assert found.robust_accuracy == record.robust_accuracy
    write_replay(folder / "r.json", found, folder / "out" / "record.json", folder / "net.spkp")
    told = json.loads((folder / "r.json").read_text())
    assert told["kind"] == "replay"
    assert told["adversarial"]["samples"] == len(broken)


def test_what_a_file_answers_otherwise_is_counted_by_hand(case, tmp_path):
    _, data, _, folder, graph = case
    pack(tmp_path / "net.spkp", graph, "int8")
    file = unpack(tmp_path / "net.spkp")
    file.nodes[-1].bias[0] += 0.2  # so that something differs
    pack(tmp_path / "net.spkp", file)
    found = again(case, tmp_path / "net.spkp")
    places, x_adv = read_tensors(folder / "out" / "adversarials.safetensors")
    clean = trace(file, data.x.numpy()).logits.argmax(1)
    resists = trace(file, x_adv.numpy()).logits.argmax(1) == data.y[places].numpy()
    wrong = [i for i in range(60) if clean[i] != data.y[i]]
    assert 0 < len(wrong) < 60
    assert found.clean.differ == found.lost == tuple(wrong)
    assert found.spared == tuple(np.array(places)[resists].tolist())
    stands = (clean == data.y.numpy()).copy()
    stands[np.array(places)[~resists]] = False
    assert found.robust_accuracy == stands.mean()


def test_onnx_runtime_is_asked_too(case, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    write_onnx(tmp_path / "net.onnx", case[4])
    found = again(case, tmp_path / "net.onnx")
    assert found.robust_accuracy == case[2].robust_accuracy
    assert found.clean.largest < 1e-4
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(Refusal, match="no network of ONNX"):
        answer_of(tmp_path / "bad.onnx")


def test_other_files_and_other_networks_are_refused(case, tmp_path):
    _, data, record, folder, _ = case
    with pytest.raises(Refusal, match=r"\.spkp and \.onnx"):
        again(case, tmp_path / "net.nir")
    with pytest.raises(FileNotFoundError):
        again(case, tmp_path / "net.spkp")
    other = build(MLP((8,)), Setting(channels=1, size=4, T=3, classes=3), 4).eval()
    with pytest.raises(Refusal, match="weights are"):
        replay(folder / "out", record, other, data, THREAT, folder / "net.spkp")
    wide = build(MLP((8,)), Setting(channels=1, size=4, T=3, classes=5), 4).eval()
    pack(tmp_path / "wide.spkp", lower(wide, (1, 4, 4)))
    with pytest.raises(Refusal, match="same network"):
        again(case, tmp_path / "wide.spkp")
