from __future__ import annotations

import builtins
import importlib.util
import json
from dataclasses import replace

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
from spikeproof.ir import Graph, Weights, pack, unpack, write_nir, write_onnx
from spikeproof.models import MLP, Setting, build
from spikeproof.runtime import trace

THREAT = Linf(0.03)
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


def test_a_tie_is_an_error(case, tmp_path):
    graph = case[4]
    last = graph.nodes[-1]
    silent = replace(last, weights=Weights.of(0 * last.weights.dense()), bias=0 * last.bias)
    pack(tmp_path / "net.spkp", Graph((*graph.nodes[:-1], silent)))
    assert again(case, tmp_path / "net.spkp").accuracy == 0


def test_adversarials_that_nobody_kept_are_missed_and_none_are_not(case):
    net, data, record, folder, _ = case
    fallen = sum(record.clean) - sum(record.robust)
    assert fallen > 0
    without = replace(record, artifacts={})
    with pytest.raises(Refusal, match=f"broke {fallen} samples"):
        replay(folder / "out", without, net, data, THREAT, folder / "net.spkp")
    steps = (replace(step, success=(False,) * len(step.success)) for step in record.steps)
    harmless = replace(without, steps=tuple(steps))
    found = replay(folder / "out", harmless, net, data, THREAT, folder / "net.spkp")
    assert (found.adversarial.samples, found.robust_accuracy) == (0, found.accuracy)


@pytest.mark.parametrize("kind", ["onnx", "nir"])
def test_files_of_other_formats_are_run_too(case, tmp_path, kind):
    pytest.importorskip({"onnx": "onnxruntime", "nir": "nir"}[kind])
    {"onnx": write_onnx, "nir": write_nir}[kind](tmp_path / f"net.{kind}", case[4])
    found = again(case, tmp_path / f"net.{kind}")
    assert found.robust_accuracy == case[2].robust_accuracy
    assert found.clean.largest < 1e-4
    assert found.clean.differ == found.adversarial.differ == ()


def test_files_that_are_not_the_network_cost_one_sentence(case, tmp_path, capfd):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    write_onnx(tmp_path / "net.onnx", case[4])
    whole = (tmp_path / "net.onnx").read_bytes()
    for content in (b"no network", b"", whole[: len(whole) // 2]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(Refusal, match="no network of ONNX"):
            answer_of(tmp_path / "bad.onnx")
    wide = build(MLP((8,)), Setting(channels=1, size=5, T=3, classes=3), 4).eval()
    write_onnx(tmp_path / "wide.onnx", lower(wide, (1, 5, 5)))
    with pytest.raises(Refusal, match=r"takes tensor\(float\).* and samples are float32"):
        again(case, tmp_path / "wide.onnx")
    model = onnx.load_from_string(whole)
    for held in model.graph.initializer:
        held.raw_data = b"\xff" * len(held.raw_data)
    (tmp_path / "nan.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Refusal, match="NaN"):
        again(case, tmp_path / "nan.onnx")
    assert capfd.readouterr() == ("", "")


def test_without_the_runtime_it_says_what_to_install(monkeypatch, tmp_path):
    usual = builtins.__import__

    def absent(name, *args):
        if name == "onnxruntime":
            raise ImportError("absent")
        return usual(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(Refusal, match=r"pip install 'spikeproof\[exchange\]'"):
        answer_of(tmp_path / "net.onnx")


def test_other_files_and_other_networks_are_refused(case, tmp_path):
    _, data, record, folder, _ = case
    with pytest.raises(Refusal, match=r"\.spkp, \.onnx and \.nir"):
        again(case, tmp_path / "net.pt")
    for kind, package in (("spkp", "numpy"), ("onnx", "onnxruntime"), ("nir", "nir")):
        if importlib.util.find_spec(package):
            with pytest.raises((FileNotFoundError, Refusal), match=f"none.{kind}"):
                again(case, tmp_path / f"none.{kind}")
    other = build(MLP((8,)), Setting(channels=1, size=4, T=3, classes=3), 4).eval()
    with pytest.raises(Refusal, match="weights are"):
        replay(folder / "out", record, other, data, THREAT, folder / "net.spkp")
    wide = build(MLP((8,)), Setting(channels=1, size=4, T=3, classes=5), 4).eval()
    pack(tmp_path / "wide.spkp", lower(wide, (1, 4, 4)))
    with pytest.raises(Refusal, match="same network"):
        again(case, tmp_path / "wide.spkp")
