"""Other graphs mislead as far as they differ, and a control must fall."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.attacks import CE, PGD, Attack, Linf, RandomSearch
from spikeproof.errors import Refusal
from spikeproof.evaluate import Adaptive, Conditions, Job, Step, Suite, evaluate
from spikeproof.evaluate._graphs import other_graphs, undefended
from spikeproof.evaluate._intake import survey
from spikeproof.spiking import CBA

WIDE = Linf(0.5)


class Turned(nn.Module):
    """The same answers on clean input, and errors that lie elsewhere."""

    def __init__(self, model, weights):
        super().__init__()
        self.model, self.weights = model, torch.tensor(weights)

    def forward(self, x):
        return self.model(x * self.weights.reshape(1, 1, 2, 2))


def source(*weights):
    def turned(model):
        return Turned(model, weights)

    turned.__qualname__ = f"turned{weights}"
    return turned


def job(model, data, *steps, threat=WIDE):
    manifest = survey(data, 0, threat)
    places = tuple(range(len(manifest.indices)))
    device = torch.device("cpu")
    return Job(model, data, manifest, places, threat, Suite("s", steps), 0, device)


def samples(points):
    return points.x, points.y, torch.arange(len(points.y))


def step(id, *weights, attack=None):
    return Step(id, attack or Attack(PGD(20), CE()), source=source(*weights))


def test_the_same_network_misleads_nobody(linear, points):
    check = other_graphs(job(linear, points, step("same", 1.0, 1.0, 1.0, 1.0)), *samples(points))
    assert (check.id, check.verdict, check.value) == ("C24", "pass", 0)
    assert "same: 0 of" in check.detail


def test_a_graph_that_sees_something_else_misleads(linear, points):
    blind = step("blind", 0.0, 0.0, 1.0, 1.0)  # half of the weights of the margin are missing
    check = other_graphs(job(linear, points, blind, threat=Linf(0.12)), *samples(points))
    assert check.verdict == "flag"
    both = job(linear, points, blind, step("same", 1.0, 1.0, 1.0, 1.0), threat=Linf(0.12))
    check = other_graphs(both, *samples(points))
    assert (check.verdict, check.value) == ("pass", 0)
    assert check.detail.count(";") == 1, "each is told"


def test_without_another_graph_or_success_there_is_no_check(linear, points):
    own = Step("own", Attack(PGD(2)))

    def never(model):
        raise Refusal("no; never; nothing")

    refused = Step("refused", Attack(PGD(2)), source=never)
    check = other_graphs(job(linear, points, own, refused), *samples(points))
    assert (check.verdict, check.detail) == ("na", "refused was not followed (no; never; nothing)")
    check = other_graphs(job(linear, points, own), *samples(points))
    assert (check.verdict, check.detail) == (
        "na",
        "the suite follows no other graph than the model's own",
    )
    still = job(linear, points, step("same", 1.0, 1.0, 1.0, 1.0), threat=Linf(0.0))
    assert other_graphs(still, *samples(points)).verdict == "na"


def test_the_analog_twin_is_such_a_graph(net, handwriting):
    x, y = handwriting.test.batch(torch.arange(32))
    twin = Step("twin", Attack(PGD(10), rule=CBA()))
    again = Step("again", Attack(PGD(5), rule=CBA()))
    steps = job(net, handwriting.test, twin, again)
    check = other_graphs(steps, x, y, torch.arange(32))
    assert check.verdict in ("pass", "flag")
    assert check.detail.startswith("twin: ")
    assert "again" not in check.detail


def test_a_network_without_a_defence_must_fall(linear, points):
    everyone = Step("base", Attack(PGD(1)), everyone=True)
    suite = (Step("noise", Attack(RandomSearch(3))), everyone, Step("pgd", Attack(PGD(20))))
    wide, narrow = (job(linear, points, *suite, threat=t) for t in (Linf(1.0), Linf(0.01)))
    found = undefended(wide, linear, *samples(points))
    assert (found.id, found.verdict, found.value) == ("C26", "pass", 0)
    found = undefended(narrow, linear, *samples(points))
    assert found.verdict == "fail"
    assert 0.5 < found.value < 0.9, "clean errors do not stand"
    assert undefended(wide, None, *samples(points)).detail == "no undefended network was given"
    blind = job(linear, points, suite[0])
    assert undefended(blind, linear, *samples(points)).verdict == "na"


class Deaf(nn.Module):
    """A network whose gradient nobody gets."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        with torch.no_grad():
            return self.inner(x)


def crash(standing):
    raise ValueError("boom\nbang")


def broken_source(model):
    raise ValueError("no source")


SAME = (1.0, 1.0, 1.0, 1.0)
CRASH = Attack(Adaptive(crash))


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        (Step("deaf", Attack(PGD(2)), source=Deaf), "deaf was not followed (the gradient of"),
        (step("crash", *SAME, attack=CRASH), "crash was not followed (ValueError: boom)"),
        (Step("gone", Attack(PGD(2)), source=broken_source), "gone was not followed (ValueErr"),
    ],
    ids=lambda value: getattr(value, "id", ""),
)
def test_a_graph_that_cannot_be_followed_costs_itself(linear, points, lost, said):
    check = other_graphs(job(linear, points, lost), *samples(points))
    assert (check.verdict, check.detail.startswith(said)) == ("na", True), check.detail
    both = job(linear, points, lost, step("same", *SAME))
    check = other_graphs(both, *samples(points))
    assert (check.verdict, check.value) == ("pass", 0)
    assert check.detail.startswith("same: 0 of")
    assert said in check.detail


def test_a_control_that_cannot_be_attacked_is_no_failure_of_the_suite(linear, points):
    pgd = Step("pgd", Attack(PGD(20)))
    deaf = undefended(job(linear, points, pgd), Deaf(linear), *samples(points))
    assert deaf.verdict == "na"
    assert "pgd was not run (the gradient of Deaf does not reach its input" in deaf.detail
    found = undefended(job(linear, points, Step("crash", CRASH), pgd), linear, *samples(points))
    assert (found.verdict, found.value) == ("pass", 0)
    assert found.detail.endswith("; crash was not run (ValueError: boom)")

    def spoil(standing):
        linear.weight.data += 1

    spoiling = job(linear, points, Step("spoil", Attack(Adaptive(spoil))))
    assert undefended(spoiling, linear, *samples(points)).verdict == "na"
    linear.weight.data *= -1
    wrong = undefended(job(linear, points, pgd), Never(), *samples(points))
    assert (wrong.verdict, "right on none" in wrong.detail) == ("na", True)


class Never(nn.Module):
    def forward(self, x):
        return torch.zeros(len(x), 2)  # a tie is an error


@pytest.mark.doubtful
def test_an_evaluation_that_met_crashes_ends_alike_whatever_the_batch(linear, points, tmp_path):
    suite = Suite(
        "s",
        (
            Step("pgd", Attack(PGD(3))),
            Step("crash", CRASH, everyone=True),
            step("crash-too", *SAME, attack=CRASH),
            Step("gone", Attack(PGD(2)), source=broken_source),
        ),
    )
    told = []
    for batch in (1, 7, 64):
        record = evaluate(
            linear,
            points,
            Linf(0.1),
            suite,
            conditions=Conditions(batch=batch),
            transfer={"deaf": Deaf(linear), "open": type(linear)()},
            control=type(linear)(),
        )
        told.append((record.measured, record.checks, record.finding, record.clean))
        assert record.finding.status == "unreliable"
        assert any("crash crashed on" in reason for reason in record.finding.reasons)
        found = {check.id: check for check in record.measured}
        assert "S10-transfer-deaf was not followed" in found["C24"].detail
        assert found["C24"].detail.startswith("S10-transfer-open: ")
        assert "crash was not run (ValueError: boom)" in found["C26"].detail
    assert told[0] == told[1] == told[2]


def test_the_control_of_an_evaluation_is_checked_and_remembered(linear, points, tmp_path):
    suite = Suite("s", (Step("pgd", Attack(PGD(3))),))
    evaluate(linear, points, WIDE, suite, out=tmp_path, control=type(linear)())
    (tmp_path / "record.json").unlink()
    with pytest.raises(Refusal, match="control was '"):
        evaluate(linear, points, WIDE, suite, out=tmp_path, conditions=Conditions(resume=True))

    class Three(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3]

    with pytest.raises(Refusal, match="undefended network has 3 classes and the model has 2"):
        evaluate(linear, points, WIDE, suite, control=Three())
