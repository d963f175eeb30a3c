from __future__ import annotations

import json
import pickle
import re
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from spikeproof.attacks import PGD, Attack, Linf, fingerprint
from spikeproof.data import Split
from spikeproof.errors import Refusal
from spikeproof.evaluate import Step, Suite, evaluate, read_record
from spikeproof.interop import (
    Adopted,
    adopt,
    adopt_or_lend,
    adoption_of,
    foreign,
    grouped,
    lend,
)
from spikeproof.spiking import ASSG, IF, Spiking
from tests.interop.networks import gradient, samples
from tests.interop.test_handwritten import Paper, Stateful
from tests.interop.test_proof import Two

SUITE = Suite("s", (Step("own", Attack(PGD(3))), Step("assg", Attack(PGD(3), rule=ASSG()))))


def judged(net, tmp_path, count=16):
    x = (samples(count, 64) / 8 + 0.5).clamp(0, 1).view(-1, 1, 8, 8)
    with torch.no_grad():
        y = net(x).argmax(1)
    record = evaluate(net, Split(x, y, 1.0), Linf(0.1), SUITE, out=tmp_path, checks=())
    return read_record(tmp_path / "record.json"), record


def test_layers_are_found_by_name_and_none_inside_another():
    class Outer(Stateful):
        def __init__(self):
            super().__init__()
            self.inner = Stateful()

    net = nn.Sequential(nn.ReLU(), Outer(), Spiking(IF(), 2))
    assert foreign(net) == {"1": "by hand"}
    assert foreign(Stateful()) == {"": "by hand"}
    assert foreign(nn.ReLU()) == {}


def test_an_adopted_network_has_nothing_left_to_adopt():
    ours = adopt(Two(), [samples()])
    assert foreign(ours) == {}
    with pytest.raises(Refusal, match="has no neurons of SpikingJelly"):
        adopt(ours, [samples()])


def test_one_neuron_is_a_network_too():
    net = Stateful()
    ours = adopt(net, [samples()])
    assert ours.adoption.replaced == ("",)
    net.u = None
    assert torch.equal(ours(samples()), net(samples()))


def test_a_layer_that_has_two_names_stays_one():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = self.b = Stateful()

        def forward(self, x):
            self.a.u = None
            return self.b(self.a(x))

    ours = adopt(Twice(), [samples()])
    assert ours.net.a is ours.net.b
    assert ours.adoption.replaced == ("a", "b")


def test_the_copy_has_weights_of_its_own():
    net, x = Paper("vgg").eval(), samples(4, 64)
    ours = adopt(net, [x])
    before, seal = net(x), fingerprint(ours)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    assert torch.equal(before, net(x))
    assert fingerprint(ours) != seal


def test_results_of_an_earlier_call_do_not_hinder_the_copy():
    net = Two()
    net.second.u = (net.second(samples().requires_grad_()) * 2).sum()
    assert net.second.u.grad_fn is not None
    assert gradient(adopt(net, [samples()]), samples()).any()


def test_what_cannot_be_copied_is_refused():
    net = Two()
    net.kept = [(samples().requires_grad_() * 2,)]
    assert gradient(adopt(net, [samples()]), samples()).any()
    net.lock = threading.Lock()
    with pytest.raises(Refusal, match="cannot be copied"):
        adopt(net, [samples()])


def test_the_record_tells_what_was_adopted_and_how_sure_that_is(tmp_path):
    net, x = Paper("vgg").eval(), samples(4, 64)
    read, record = judged(adopt(net, [x]), tmp_path)
    told = read.model["adopted"]
    assert read.model["name"] == "Paper"
    assert told["replaced"] == ["features.1", "features.3"]
    assert (told["apart"], told["samples"], told["kept"]) == (0.0, 4, {})
    assert not any(step.skipped for step in record.steps)
    assert json.dumps(told)


def test_what_stays_and_what_remembers_is_doubtful(tmp_path):
    class Forgetful(Paper):
        def __init__(self):
            super().__init__("vgg")
            self.mine = Stateful()

        def forward(self, x):
            return super().forward(x) + self.mine(x.flatten(1)[:, :4])

    _, record = judged(adopt(Forgetful().eval(), [samples(4, 64)]), tmp_path / "a")
    checks = {check.id: check for check in record.checks}
    assert checks["C2"].verdict == "flag"
    assert "began a call where the last one had ended, in layers mine" in checks["C2"].detail
    assert "C2" in " ".join(record.finding.reasons)
    assert checks["C6"].verdict == "pass"
    _, record = judged(
        lend(Paper("vgg").eval(), [samples(4, 64)], why="for a test"), tmp_path / "b"
    )
    checks = {check.id: check for check in record.checks}
    assert checks["C2"].verdict == "na"
    assert checks["C6"].verdict == "flag"
    assert "neurons that stay as they are meet fewer gradients" in checks["C6"].detail
    assert "for a test" in checks["C6"].detail
    assert record.steps[1].skipped, "no rule has neurons to go through"


def test_reasons_are_told_once():
    assert grouped({"a": "x", "": "y", "b": "x"}) == "a, b: x; the model: y"


def test_an_adopted_network_moves_with_its_parts():
    ours = adopt(Paper("vgg").eval(), [samples(4, 64)]).double()
    assert isinstance(ours, Adopted)
    assert ours(samples(4, 64).double()).dtype == torch.float64


def test_every_row_of_the_page_names_a_test_that_is_there():
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "interop.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "test" in line][1:]
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert len(rows) > 15
    for row in rows:
        (name,) = re.findall(r"`(test_\w+)`", row)
        assert f"def {name}(" in tests, row


def test_a_hook_on_neurons_goes_on_seeing_them():
    net, seen = Two(), []
    net.second.register_forward_hook(lambda module, _, out: seen.append((module, out)))
    ours = adopt(net, [samples()])
    seen.clear()
    ours(samples())
    assert len(seen) == 4, "a step each"
    assert isinstance(seen[0][0], type(net.second)), "it is told what it was set on"
    assert type(seen[0][0]) is not type(net.second)


def test_a_network_that_cannot_answer_is_refused_and_not_judged():
    with pytest.raises(Refusal, match="fails in eval mode"):
        adopt_or_lend(Two(), [torch.tensor(1.0).expand(3)])


def test_a_network_that_nobody_adopted_is_doubtful(tmp_path):
    net, x = Two().eval(), samples(8)
    told = adoption_of(net)
    assert (told["own"], told["replaced"]) == (("first", "second"), ())
    assert "nobody has adopted it" in told["kept"]["first"]
    assert adoption_of(adopt(net, [x]))["replaced"] == ("first", "second")
    assert adoption_of(nn.ReLU()) == {}
    _, record = judged(Paper("vgg").eval(), tmp_path)
    check = {check.id: check for check in record.checks}["C6"]
    assert check.verdict == "flag"
    assert "nobody has adopted it" in check.detail


def test_an_adopted_network_is_pickled_with_its_kind_and_its_hooks():
    net, seen = nn.Sequential(Paper("vgg")).eval(), []
    ours = adopt(net, [samples(4, 64)])
    again = pickle.loads(pickle.dumps(ours))  # noqa: S301  of our own
    x = samples(4, 64)
    assert torch.equal(ours(x), again(x))
    assert torch.equal(gradient(ours, x), gradient(again, x))
    assert [type(m) for m in again.modules()] == [type(m) for m in ours.modules()]
    two = Two()
    two.second.register_full_backward_hook(lambda *_: seen.append(1))
    gradient(adopt(two, [samples()]), samples())
    assert seen
