from __future__ import annotations

from spikeproof.attacks import APGD, FGSM, PGD, Attack, Linf, Margin, RandomSearch, Square
from spikeproof.evaluate._intake import Manifest
from spikeproof.evaluate._reading import check_record
from spikeproof.evaluate._record import Finding, Record, StepRecord
from spikeproof.evaluate._roles import Roles, roles_of
from spikeproof.evaluate._suite import Step, Suite

SUITE = Suite(
    "some",
    (
        Step("random", Attack(RandomSearch(10)), everyone=True),
        Step("fgsm", Attack(FGSM()), everyone=True),
        Step("pgd-10", Attack(PGD(10)), everyone=True),
        Step("mine", lambda model, x, y, threat: x),
        Step("apgd", Attack(APGD(20))),
        Step("again", Attack(APGD(20), restarts=5)),
        Step("square", Attack(Square(10), Margin())),
        Step("other", Attack(APGD(20)), source=lambda model: model),
        Step("half", Attack(PGD(10)), threat=Linf(0.5)),
        Step("whole", Attack(PGD(10)), threat=Linf(1.0)),
    ),
)


def test_an_attack_has_the_role_of_what_it_is():
    assert roles_of(SUITE) == Roles(
        random=("random",),
        single=("fgsm",),
        iterative=("pgd-10",),
        white=("fgsm", "pgd-10", "apgd"),
        members=("apgd",),
        square=("square",),
        transfer=("other",),
        repeats=("again",),
        primary="apgd",
        longest="apgd",
        eps={0.5: "half", 1.0: "whole"},
    )


def test_roles_are_kept_of_steps_that_were_run():
    roles = roles_of(SUITE).only(["fgsm", "apgd", "whole"])
    assert roles == Roles(
        single=("fgsm",),
        white=("fgsm", "apgd"),
        members=("apgd",),
        primary="apgd",
        longest="apgd",
        eps={1.0: "whole"},
    )
    assert set(roles.ids) == {"fgsm", "apgd", "whole"}
    assert roles_of(SUITE).only([]) == Roles()


def step(id, success, *, threat=None, attacked=None, skipped=""):
    none, zero = (False,) * len(success), (0,) * len(success)
    attacked = attacked or (True,) * len(success)
    return StepRecord(
        id=id, attack={}, everyone=True, threat=threat, skipped=skipped, message="",
        attacked=tuple(attacked), success=tuple(success), inadmissible=none, unconfirmed=none,
        infeasible=none, crashed=none, at=zero, forwards=zero, backwards=zero, size=zero,
    )  # fmt: skip


def test_a_record_is_judged_by_its_bits():
    yes, no = True, False
    steps = (
        step("fgsm", (yes, no, no, no)),
        step("apgd", (no, yes, no, no), attacked=(no, yes, yes, no)),
        step("random", (no, no, yes, no)),
        step("square", (no,) * 4, skipped="does not fit"),
        step("half", (yes, no, no, no), threat={"eps": 0.5}, attacked=(yes, yes, no, no)),
        step("whole", (yes, yes, no, no), threat={"eps": 1.0}, attacked=(yes, yes, no, no)),
    )
    record = Record(
        model={},
        data=Manifest("d", (0, 1, 2, 3), (0, 0, 0, 0), (1,), "", ""),
        threat={},
        suite="some",
        seed=0,
        places=(0, 1, 2, 3),
        shard=(1, 1),
        clean=(yes, yes, yes, no),
        steps=steps,
        checks=(),
        finding=Finding("flagged"),
        environment={},
        times={},
    )
    found = {
        check.id: check for check in check_record(record, roles_of(SUITE), classes=2, unbounded=1.0)
    }
    assert (found["C17"].verdict, found["C17"].value) == ("fail", 1)
    assert found["C14"].verdict == "na"
    assert (found["C12"].verdict, found["C13"].verdict) == ("pass", "pass")
    assert found["C13"].value == 0
