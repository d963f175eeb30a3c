from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeproof.cli._export import image_shape
from spikeproof.compress import lower
from spikeproof.errors import Refusal
from spikeproof.ir import unpack
from spikeproof.models import MLP, Setting, build
from spikeproof.runtime import Engine

FACTORY = """
from spikeproof.models import MLP, Setting, build

def net():
    return build(MLP((8,)), Setting(channels=1, size=8, T=2), 3)
"""


@pytest.fixture
def factory(tmp_path, monkeypatch):
    (tmp_path / "mynet.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "mynet:net"


def test_a_model_is_packed(factory, run, tmp_path):
    code, out, _ = run("export", factory, "net.spkp", "--to", "packed", "--shape", "1x8x8")
    size = (tmp_path / "net.spkp").stat().st_size
    assert code == 0
    assert f"net.spkp: {size:,} bytes" in out
    net = build(MLP((8,)), Setting(channels=1, size=8, T=2), 3).eval()
    graph = unpack(tmp_path / "net.spkp")
    assert graph.kept == lower(net, (1, 8, 8)).kept
    x = np.full((1, 1, 8, 8), 0.5, np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(
            Engine(graph)(x), net(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize(("kind", "package"), [("onnx", "onnx"), ("nir", "nir")])
def test_a_model_is_written_for_others(factory, run, tmp_path, kind, package):
    pytest.importorskip(package)
    words = ("export", factory, f"net.{kind}", "--shape", "1x8x8")
    code, out, said = run(*words)
    size = (tmp_path / f"net.{kind}").stat().st_size
    assert code == 0, said
    assert f"net.{kind}: {size:,} bytes of {kind}" in out
    assert run(*words[:2], "same", "--to", kind, *words[3:])[0] == 0
    assert (tmp_path / "same").stat().st_size == size
    code, _, said = run(*words, "--precision", "int8")
    assert code == 2
    assert "fp32" in said


def test_the_loss_of_narrow_values_is_told(factory, run):
    code, out, _ = run("export", factory, "net.spkp", "--shape", "1x8x8", "--precision", "int8")
    assert code == 0
    assert "rounding moved weights by up to 0." in out


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("--shape", "1x8x8", "--to", "onyx"), "onnx"),
        (("--shape", "1x8"), "3x32x32"),
        (("--shape", ""), "3x32x32"),
        (("--shape", "1x8x0"), "3x32x32"),
        (("--shape", "1x8x8", "--precision", "fp8"), "int8"),
    ],
)
def test_what_cannot_be_exported_is_refused(factory, run, words, word):
    code, _, complaint = run("export", factory, "net.spkp", *words)
    assert code == 2
    assert word in complaint


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("net.ONNX",), "does not end as a file of a network"),
        (("keep.toml",), "does not end as a file of a network"),
        (("net.onnx", "--to", "nir"), "for --to nir its own"),
        (("keep.toml", "--to", "packed"), "nothing else is overwritten"),
        (("folder.spkp",), "nothing else is overwritten"),
    ],
)
def test_only_exported_networks_are_written_over(factory, run, tmp_path, words, word):
    (tmp_path / "keep.toml").write_text("mine")
    (tmp_path / "folder.spkp").mkdir()
    code, _, complaint = run("export", factory, *words, "--shape", "1x8x8")
    assert code == 2
    assert word in complaint
    assert (tmp_path / "keep.toml").read_text() == "mine"


def test_a_shape_is_three_numbers():
    assert image_shape("a:b", "3x32x24") == (3, 32, 24)
    with pytest.raises(Refusal, match="3x32x32"):
        image_shape("a:b", "axbxc")
