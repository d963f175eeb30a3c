from __future__ import annotations

import builtins

import numpy as np
import pytest
import torch
from torch import nn

from spikeproof.compress import lower
from spikeproof.errors import Refusal
from spikeproof.ir import Affine, Flatten, Graph, Input, Linear, Neurons, Weights, write_onnx
from spikeproof.models import MLP, Setting, build
from spikeproof.runtime import trace
from spikeproof.spiking import Averaged, Latency, Phase, Rate
from tests.runtime.networks import NETWORKS, SIDE, made


def answers(path, x):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.asarray(x, np.float32)})[0]


LARGE = ("sew", "sew50", "vgg16")


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LARGE)) for n in NETWORKS]
)
def test_onnx_runtime_answers_as_the_network(tmp_path, name, reset):
    pytest.importorskip("onnx")
    net, x = made(name, 3, reset=reset)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight *= 2  # so that the last layers fire
    write_onnx(tmp_path / "net.onnx", lower(net, (3, SIDE, SIDE)))
    with torch.no_grad():
        want = net(x).numpy()
    found = answers(tmp_path / "net.onnx", x)
    assert len(np.unique(want)) > 3
    np.testing.assert_allclose(found, want, atol=1e-4)
    top = np.sort(want, 1)
    tied = top[:, -1] - top[:, -2] < 1e-4
    assert ((found.argmax(1) == want.argmax(1)) | tied).all()


CODES = (Phase(4, weighted=True), Phase(), Rate(), Latency(), Averaged())


@pytest.mark.parametrize("encoder", CODES, ids=lambda e: e.kind)
def test_every_code_is_written(tmp_path, encoder):
    pytest.importorskip("onnx")
    setting = Setting(channels=1, size=4, T=6, classes=5, encoder=encoder)
    net = build(MLP((8,)), setting, 2).eval()
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data = torch.round(16 * layer.weight.data) / 4  # sums without rounding
    x = torch.rand((7, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    if encoder.events:
        x = torch.round(4 * x).repeat(6, 1, 1, 1).view(7, 6, 1, 4, 4)
    graph = lower(net, (1, 4, 4), keep_dead=True)
    write_onnx(tmp_path / "net.onnx", graph)
    want = trace(graph, x.numpy())
    assert any(spikes.any() for spikes in want.maps[1:])
    np.testing.assert_allclose(answers(tmp_path / "net.onnx", x), want.logits, atol=1e-6)


def test_a_norm_of_a_row_and_equal_bytes_for_equal_graphs(tmp_path):
    pytest.importorskip("onnx")
    ones = np.ones(4, np.float32)
    graph = Graph(
        (
            Input((1, 2, 2), 3),
            Flatten(0),
            Affine(1, np.arange(4, dtype=np.float32), ones),
            Neurons(2, 1.5, 0.5, hard=False),
            Linear(3, Weights.of(np.eye(4)), 0 * ones),
        )
    )
    x = np.random.default_rng(0).random((5, 1, 2, 2)).astype(np.float32)
    for name in ("a", "b"):
        write_onnx(tmp_path / name, graph)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    np.testing.assert_array_equal(answers(tmp_path / "a", x), trace(graph, x).logits)


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    usual = builtins.__import__

    def absent(name, *args):
        if name == "onnx":
            raise ImportError("absent")
        return usual(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    net, _ = made("mlp", 2)
    with pytest.raises(Refusal, match=r"pip install 'spikeproof\[exchange\]'"):
        write_onnx(tmp_path / "net.onnx", lower(net, (3, SIDE, SIDE)))
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    net, _ = made("mlp", 2)
    (tmp_path / "net.onnx").write_bytes(b"old")
    monkeypatch.setattr("spikeproof.ir._to_onnx.MOST_BYTES", 100)
    with pytest.raises(Refusal, match="a file of ONNX has up to 100"):
        write_onnx(tmp_path / "net.onnx", lower(net, (3, SIDE, SIDE)))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
