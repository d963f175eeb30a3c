from __future__ import annotations

import json
import shutil

import pytest
from rich.console import Console

from spikeproof.catalogue import read_recipe
from spikeproof.cli._evaluate import shard_of
from spikeproof.cli._train import train
from spikeproof.errors import Refusal
from spikeproof.evaluate import read_record

RECIPE = """
[model]
kind = "mlp"
hidden = [16]
[network]
T = 2
[train]
epochs = 2
batch = 64
optimizer = { kind = "adam", lr = 0.01 }
"""

FACTORY = """
import torch
from spikeproof.models import MLP, Setting, build

def build_it():
    return build(MLP((8,)), Setting(channels=1, size=8, T=2), 3)

def no_model():
    return 7

class Bare(torch.nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10].softmax(1)
"""

THEIRS = """
import torch
from torch import nn

class Fires(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        return (u >= 0).float()

    @staticmethod
    def backward(ctx, d):
        return d

class Mine(nn.Module):
    off = 0.0

    def forward(self, x):
        return Fires.apply(x - 0.1)

    def charge(self, current, state):
        return current[0:] - 0.1 - self.off, (current,)

    def reset(self, spikes, state):
        return (state[0] - spikes,)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.neurons = Mine()
        self.weight = nn.Parameter(torch.arange(640.0).view(64, 10).sin())

    def forward(self, x):
        return self.neurons((x.flatten(1) @ self.weight)[None]).mean(0)

def same():
    return Net()

def other():
    net = Net()
    net.neurons.off = 0.5
    return net
"""

SUITE = """
name = "mine"

[[steps]]
id = "noise"
everyone = true
attack = { search = { kind = "random", draws = 3 } }

[[steps]]
id = "pgd"
limit = 20
[steps.attack]
search = { kind = "pgd", steps = 3 }
loss = { kind = "margin" }
rule = { kind = "bptr" }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli")
    recipe = out / "tiny.toml"
    recipe.write_text(RECIPE)
    train(read_recipe(recipe), out / "run", out, console=Console(quiet=True))
    return out / "run"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "our_own_net.py").write_text(FACTORY)
    (tmp_path / "mine.toml").write_text(SUITE)
    return tmp_path


def test_a_program_gets_json_and_a_person_reads_the_rest_aside(run, folder, here):
    how = ("--suite", "mine.toml", "--threat", "linf:0.1", "--limit", 20, "--device", "cpu")
    for name in "ab":
        _, said, aside = run("evaluate", folder, *how, "--out", here / name, "--json")
        told, record = json.loads(said), read_record(here / name / "record.json")
        assert told["robust_accuracy"] == record.robust_accuracy
        assert told["finding"]["status"] == record.finding.status
        assert f"worst case {record.robust_accuracy:.2%}" in aside
    _, said, aside = run("compare", here / "a", here / "b", "--json")
    (pair,) = json.loads(said)
    assert (pair["only_first"], pair["only_second"], pair["p"]) == (0, 0, 1.0)
    assert "McNemar" in aside
    few = ("--part", "trail", "--limit", 2, "--out", here / "d", "--device", "cpu")
    _, said, aside = run("diagnose", folder, *few, "--json")
    assert json.loads(said)["samples"] == 2
    assert "record:" in aside
    assert run("diagnose", folder, *few, "--resume", "--json", "--quiet")[1:] == (said, "")
    (here / "tiny.toml").write_text(RECIPE)
    words = ("train.epochs=1", "data.limit=64", "--out", here / "run", "--device", "cpu")
    _, said, aside = run("train", here / "tiny.toml", *words, "--json")
    assert json.loads(said) == json.loads((here / "run" / "record.json").read_text())
    assert "epoch 1/1" in aside


def test_the_last_lines_say_worst_case_doubts_and_where_the_record_is(run, folder, tmp_path):
    words = ("--threat", "linf:0.1", "--limit", 20, "--out", tmp_path / "e", "--device", "cpu")
    code, said, complaint = run("evaluate", folder, *words)
    assert (code, complaint) == (0, "")
    record = read_record(tmp_path / "e" / "record.json")
    low, high = record.interval
    assert f"worst case {record.robust_accuracy:.2%}" in said
    assert f"interval {low:.2%} to {high:.2%}" in said
    assert "doubts: no evidence of masking" in said
    assert said.replace(" ", "").endswith("record.json")
    assert said.index("worst case") < said.index("doubts:") < said.rindex("record:")
    assert record.suite == "smoke-images"
    assert record.data.name == "digits"
    assert record.data.training == 0
    code, told, complaint = run("evaluate", folder, *words, "--resume", "--quiet")
    assert (code, complaint) == (0, "")
    assert told == said[said.index("clean accuracy") :]


def test_a_run_is_resumed_and_never_overwritten(run, folder, tmp_path):
    words = ("--limit", 8, "--out", tmp_path / "e", "--device", "cpu")
    assert run("evaluate", folder, *words)[0] == 0
    before = (tmp_path / "e" / "record.json").read_bytes()
    code, _, complaint = run("evaluate", folder, *words)
    assert code == 2
    assert "already holds an evaluation" in complaint
    assert run("evaluate", folder, *words, "--resume")[0] == 0
    assert (tmp_path / "e" / "record.json").read_bytes() == before
    code, _, complaint = run("evaluate", folder, *words, "--resume", "--threat", "linf:0.2")
    assert code == 2
    assert "threat.eps was" in complaint


def test_a_factory_and_a_suite_of_your_own(run, here):
    words = ("--data", "digits", "--suite", "mine.toml", "--limit", 30, "--device", "cpu")
    code, said, complaint = run("evaluate", "our_own_net:build_it", *words, "--threat", "linf:0.05")
    assert (code, complaint) == (0, "")
    out = here / "runs" / "our_own_net.build_it" / "evaluation"
    record = read_record(out / "record.json")
    assert [step.id for step in record.steps] == ["noise", "pgd"]
    assert record.steps[1].attack["rule"] == {"kind": "bptr"}
    assert sum(record.steps[1].attacked) <= 20
    assert "pgd: broke" in said


def test_shards_add_up_and_two_records_are_compared(run, folder, tmp_path):
    words = ("--limit", 12, "--threat", "linf:0.1", "--device", "cpu")
    for part in ("1/2", "2/2"):
        code, said, _ = run("evaluate", folder, *words, "--out", tmp_path / "s", "--shard", part)
        assert code == 0
    assert "shard-2-of-2" in said.replace(" ", "")
    assert run("evaluate", folder, *words, "--out", tmp_path / "w")[0] == 0
    whole, merged = (read_record(tmp_path / n / "record.json") for n in ("w", "s"))
    assert whole.steps == merged.steps
    code, said, _ = run("compare", tmp_path / "s", tmp_path / "w" / "record.json")
    assert code == 0
    assert "0 samples stand in the first alone, 0 in the second" in said
    assert "p = 1, 1 with Holm" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere",), "is no run folder, no packed file and no package.module:factory"),
        (("our_own_net:build_it",), "give --data"),
        (("our_own_net:absent", "--data", "digits"), "cannot be imported"),
        (("no_such_package:f", "--data", "digits"), "cannot be imported"),
        (("our_own_net:torch", "--data", "digits"), "is no function"),
        (("our_own_net:no_model", "--data", "digits"), "returns a int"),
        (("torch.nn:Linear", "--data", "digits"), "cannot be called without arguments"),
        (
            ("our_own_net:build_it", "--data", "digits", "--transfer", "torch.nn:Linear"),
            "arguments",
        ),
        (("our_own_net:build_it", "--data", "digits", "--transfer", ""), "'' is no run folder"),
        (("",), "'' is no run folder"),
        (("", "--data", "digits"), "'' is no run folder"),
        (("our_own_net:Bare", "--data", "digits"), "returns probabilities"),
        (("our_own_net:build_it", "--data", "digit"), "digits"),
        (("our_own_net:build_it", "--data", "digits", "--threat", "linf:8"), "mean 8/255"),
        (("our_own_net:build_it", "--data", "digits", "--suite", "smok"), "did you mean 'smoke'"),
        (("our_own_net:build_it", "--data", "digits", "--shard", "2"), "has the form k/n"),
        (("our_own_net:build_it", "--data", "digits", "--limit", "400"), "400 samples were asked"),
        (("our_own_net:build_it", "--data", "digits", "--resume"), "nothing to resume"),
    ],
)
def test_what_cannot_be_evaluated_costs_one_sentence(run, here, words, said):
    code, _, complaint = run("evaluate", *words)
    assert code == 2
    assert said in complaint
    assert complaint.count("\n") == 0


def test_records_of_different_things_are_not_compared(run, folder, tmp_path):
    for name, eps in (("a", "linf:0.1"), ("b", "linf:0.2")):
        words = ("--limit", 8, "--threat", eps, "--device", "cpu", "--out", tmp_path / name)
        assert run("evaluate", folder, *words)[0] == 0
    code, _, complaint = run("compare", tmp_path / "a", tmp_path / "b")
    assert code == 2
    assert "threat.eps is 0.1" in complaint
    (tmp_path / "old.json").write_text(json.dumps({"schema": 0, "kind": "evaluation"}))
    code, _, complaint = run("compare", tmp_path / "a", tmp_path / "old.json")
    assert "has schema 0" in complaint


def test_a_network_without_a_gradient_says_so(run, here):
    (here / "deaf_net.py").write_text(
        "import torch\n"
        "class Deaf(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.detach().flatten(1)[:, 20:30]\n"
    )
    words = ("--data", "digits", "--limit", 60, "--device", "cpu")
    code, said, _ = run("evaluate", "deaf_net:Deaf", *words)
    assert code == 0
    assert "not run, the gradient of Deaf does not reach its input" in said
    assert "doubts: unreliable" in said
    assert "C6" in said


def test_a_network_of_another_framework_is_adopted_and_the_record_says_so(run, here):
    (here / "theirs.py").write_text(THEIRS)
    words = ("--data", "digits", "--suite", "mine.toml", "--limit", 20, "--device", "cpu", "--out")
    code, out, said = run("evaluate", "theirs:same", *words, here / "same")
    assert code == 0, said
    assert "Net: adopted 1 layer of neurons (by hand); logits equal bit for bit on 256" in out
    record = read_record(here / "same" / "record.json")
    assert record.model["name"] == "Net"
    assert record.model["adopted"]["replaced"] == ["neurons"]
    assert not record.steps[1].skipped
    code, out, said = run("evaluate", "theirs:other", *words, here / "other")
    assert code == 0, said
    assert "adopted nothing (by hand)" in out
    assert "layer neurons is the first to differ" in out
    record = read_record(here / "other" / "record.json")
    assert record.model["adopted"]["own"] == ["neurons"]
    assert record.finding.status != "no evidence of masking"
    assert "layer neurons is the first to differ" in " ".join(record.finding.reasons)


def test_the_form_of_a_shard():
    assert shard_of("2/5") == (2, 5)
    for text in ("2", "a/b", "1/", "-1/2"):
        with pytest.raises(Refusal, match="form k/n"):
            shard_of(text)


def test_other_networks_are_named_by_their_folders(run, folder, here, tmp_path):
    shutil.copytree(folder, tmp_path / "seed-2")
    shutil.copytree(folder, tmp_path / "elsewhere" / "seed-2")
    words = ("--limit", 12, "--suite", "mine.toml", "--device", "cpu", "--out", tmp_path / "e")
    sources = ("--transfer", tmp_path / "seed-2", "--transfer", "our_own_net:build_it")
    code, said, complaint = run("evaluate", folder, *words, *sources)
    assert (code, complaint) == (0, "")
    assert "S10-transfer-seed-2: broke" in said
    steps = {s.id: s for s in read_record(tmp_path / "e" / "record.json").steps}
    record = read_record(tmp_path / "e" / "record.json")
    assert steps["S10-transfer-seed-2"].source["weights"] == record.model["weights_sha256"]
    assert (
        steps["S10-transfer-our_own_net.build_it-assg"].source["weights"]
        != (record.model["weights_sha256"])
    )
    code, _, complaint = run("evaluate", folder, *words, "--resume")
    assert code == 2
    assert "suite.steps" in complaint
    twice = ("--transfer", tmp_path / "seed-2", "--transfer", tmp_path / "elsewhere" / "seed-2")
    code, _, complaint = run("evaluate", folder, *words, *twice, "--resume")
    assert code == 2
    assert "two transfer sources are called seed-2" in complaint


def test_other_commands_adopt_it_too(run, here):
    (here / "theirs.py").write_text(THEIRS)
    words = ("theirs:same", "--data", "digits", "--limit", 8)
    code, out, said = run("diagnose", *words, "--part", "trail", "--out", here / "looked")
    assert code == 0, said
    assert "Net: adopted 1 layer of neurons (by hand)" in out
    assert "digits: 8 of 359 test samples; Net under" in out
    assert "spikes per neuron and step: unknown" not in out
    code, out, said = run("energy", *words, "--json")
    assert code == 0, said
    assert json.loads(out)["updates"] > 0


def test_a_packed_file_is_attacked_by_what_needs_no_gradient(run, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--data", "digits", "--suite", "smoke", "--limit", 4)
    code, _, _ = run("export", folder, "net.spkp")
    assert code == 0
    code, out, _ = run("evaluate", "net.spkp", *words)
    assert code == 0
    assert "S1-random: broke" in out
    assert "S3-pgd-7: not run, the gradient of Packed does not reach its input" in out
    assert "doubts: unreliable" in out
    assert read_record(tmp_path / "runs/net/evaluation/record.json").model["name"] == "Packed"
    code, _, complaint = run("evaluate", "net.spkp")
    assert (code, "give --data" in complaint) == (2, True)
    (tmp_path / "net.spkp").write_bytes((tmp_path / "net.spkp").read_bytes()[:-9])
    code, _, complaint = run("evaluate", "net.spkp", *words)
    assert (code, complaint.count("\n"), "export it again" in complaint) == (2, 0, True)
    code, _, complaint = run("evaluate", "gone.spkp", *words)
    assert (code, "gone.spkp is no file" in complaint) == (2, True)
