from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from spikeproof.compress import lower
from spikeproof.data import digits
from spikeproof.ir import pack
from spikeproof.models import CNN, Setting, build


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A small network, and the digits as an archive."""
    folder = tmp_path_factory.mktemp("run")
    net = build(CNN((4,), 16), Setting(1, 8, T=4), seed=2).eval()
    graph = lower(net, (1, 8, 8))
    pack(folder / "net.spkp", graph)
    test = digits().test
    x, y = test.batch(torch.arange(80))
    np.savez(folder / "set.npz", x_test=x.numpy(), y_test=y.numpy())
    with torch.no_grad():
        accuracy = float((net(x).argmax(1) == y).double().mean())
    return folder, graph, accuracy


def test_a_packed_network_is_run_and_counted(packed, run):
    folder, graph, accuracy = packed
    code, out, _ = run("run", folder / "net.spkp", "--data", folder / "set.npz", "--json")
    record = json.loads(out)
    assert code == 0
    assert record["samples"] == 80
    assert record["accuracy"] == pytest.approx(accuracy)
    assert record["bytes"] == (folder / "net.spkp").stat().st_size
    assert record["weights"] == {"kept": graph.kept, "of": graph.size}
    whole = (folder / "net.spkp").read_bytes()
    assert record["file_sha256"] == hashlib.sha256(whole).hexdigest()
    assert sum(layer["kept"] for layer in record["layers"]) == graph.kept
    assert [layer["name"] for layer in record["layers"]] == list(record["by_events"])
    assert 4 * graph.kept < sum(layer["bytes"] for layer in record["layers"]) < record["bytes"]
    assert record["operations"]["analog"] > 0
    assert record["spikes"] > 0
    # The embedded set comes through the readers of torch, in another scale of the same values.
    code, out, _ = run("run", folder / "net.spkp", "--data", "digits", "--limit", 80)
    assert code == 0
    assert f"{accuracy:.2%} of 80 test samples right" in out


def test_the_executions_agree(packed, run):
    folder, _, _ = packed
    shown = []
    for order in ("weights", "events"):
        words = ("--execution", order, "--limit", 30, "--json", "--threads", 1)
        _, out, _ = run("run", folder / "net.spkp", "--data", folder / "set.npz", *words)
        shown.append(json.loads(out))
    first, second = ({k: v for k, v in r.items() if k != "by_events"} for r in shown)
    assert first == second
    assert set(shown[0]["by_events"].values()) == {0.0}
    assert set(shown[1]["by_events"].values()) == {1.0}


def test_torch_is_not_imported(packed):
    folder, _, _ = packed
    script = (
        "import sys\n"
        "sys.argv = ['spikeproof', 'run', 'net.spkp', '--data', 'set.npz', '--limit', '9']\n"
        "from spikeproof.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "False", done.stderr
    assert "of 9 test samples right" in done.stdout


FACTORIES = """
from spikeproof.models import CNN, Setting, build

def made():
    return build(CNN((4,), 16), Setting(1, 8, T=4), seed=2)

def another():
    return build(CNN((4,), 16), Setting(1, 8, T=4), seed=3)
"""


def test_it_is_compared_with_the_network_that_it_was_made_of(packed, run, tmp_path, monkeypatch):
    folder, _, _ = packed
    (tmp_path / "of_a_user.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    words = ("run", folder / "net.spkp", "--data", folder / "set.npz", "--against")
    code, out, _ = run(*words, "of_a_user:made")
    assert code == 0
    assert "logits within 0.0001 of the network's for 80 of 80 samples; 0 more are ties" in out
    code, out, _ = run(*words, "of_a_user:made", "--json")
    assert json.loads(out)["agreement"]["predictions"] == 0
    code, out, complaint = run(*words, "of_a_user:another")
    assert code == 2
    assert "predictions differ" in out
    assert "no membrane on its threshold; a packed network" in complaint


def test_what_does_not_fit_is_said_in_a_sentence(packed, run, tmp_path):
    folder, _, _ = packed
    net = folder / "net.spkp"
    np.savez(tmp_path / "many.npz", x_test=np.zeros((1, 1, 8, 8)), y_test=np.array([10]))
    np.savez(tmp_path / "none.npz", x_test=np.zeros((0, 1, 8, 8)), y_test=np.zeros(0, int))
    np.savez(tmp_path / "wide.npz", x_test=np.zeros((1, 1, 8, 9)), y_test=np.array([1]))
    for data, word in (
        (tmp_path / "many.npz", "label 10"),
        (tmp_path / "none.npz", "no test samples"),
        (tmp_path / "wide.npz", "form"),
        ("mnits", "mnist"),
    ):
        code, _, complaint = run("run", net, "--data", data)
        assert code == 2
        assert word in complaint
        assert complaint.count("; ") >= 1
    (tmp_path / "bad.spkp").write_bytes(net.read_bytes()[:-3])
    code, _, complaint = run("run", tmp_path / "bad.spkp", "--data", folder / "set.npz")
    assert (code, "export it again" in complaint) == (2, True)
