"""Every rule just below and just above its threshold."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from spikeproof.errors import Refusal
from spikeproof.evaluate._checks import (
    LIMITS,
    check_steps,
    control,
    decide,
    draws,
    parity,
    skip,
    twin_failure,
    worst_of,
)
from spikeproof.evaluate._roles import Roles

ROOT = Path(__file__).resolve().parents[2]

# Restated from the table of checks, not read from the code: limit, whether it passes itself,
# and the verdict beyond.
TABLE = {
    "C1": (1e-4, True, "flag"),
    "C2": (1e-5, True, "fail"),
    "C3": (0.001, False, "flag"),
    "C4": (0, True, "fail"),
    "C5": (0, True, "fail"),
    "C6": (0, True, "fail"),
    "C7": (0.01, False, "flag"),
    "C8": (0.9, False, "flag"),
    "C9": (0.5, False, "flag"),
    "C10": (0.005, True, "fail"),
    "C11": (0.005, True, "flag"),
    "C12": (0.005, True, "fail"),
    "C13": (0.01, True, "fail"),
    "C14": (0.002, True, "flag"),
    "C15": (1, True, "flag"),
    "C16": (0.005, True, "flag"),
    "C17": (0, True, "fail"),
    "C18": (0.02, True, "flag"),
    "C19": (0.005, True, "flag"),
    "C20": (0.005, True, "flag"),
    "C21": (0.1, False, "flag"),
    "C22": (0.05, True, "flag"),
    "C23": (0, True, "fail"),
    "C24": (0.2, True, "flag"),
    "C25": (0.002, True, "flag"),
    "C26": (0.01, False, "fail"),
    "C27": (0, True, "fail"),
    "C28": (0, True, "fail"),
    "C29": (0, True, "fail"),
    "C30": (0, True, "fail"),
}


def test_every_check_has_a_rule():
    assert list(LIMITS) == list(TABLE) == [f"C{n}" for n in range(1, 31)]


@pytest.mark.parametrize("id", TABLE)
def test_a_rule_on_both_sides_of_its_threshold(id):
    limit, itself, beyond = TABLE[id]
    step = max(limit, 1) * 1e-6
    assert decide(id, limit - step, "").verdict == "pass"
    assert decide(id, limit, "").verdict == ("pass" if itself else beyond)
    check = decide(id, limit + step, "why")
    assert (check.verdict, check.threshold, check.detail) == (beyond, limit, "why")


@pytest.mark.parametrize("id", TABLE)
def test_what_is_no_number_never_passes(id):
    check = decide(id, math.nan, "")
    assert check.verdict == "fail"
    assert check.value is None  # JSON has no NaN


def test_zero_gradients_fail_above_a_tenth():
    assert decide("C7", 0.1, "").verdict == "flag"
    assert decide("C7", 0.1001, "").verdict == "fail"


def test_a_share_of_samples_is_never_finer_than_one_of_them():
    assert decide("C14", 1 / 64, "", samples=64).verdict == "pass"
    assert decide("C14", 2 / 64, "", samples=64).verdict == "flag"
    assert decide("C14", 2 / 1000, "", samples=1000).verdict == "pass"
    assert decide("C14", 3 / 1000, "", samples=1000).verdict == "flag"
    assert decide("C13", 1 / 64, "", samples=64).verdict == "fail"  # no counted share


def bits(standing, of=1000):
    """The first ones stand."""
    return torch.arange(of) < standing


def of_steps(id, steps, *, classes=10, **more):
    roles, met = more.pop("roles"), more.pop("met", None)
    found = check_steps(steps, roles, classes=classes, met=met, **more)
    assert [check.id for check in found] == [f"C{n}" for n in range(10, 21)]
    return next(check for check in found if check.id == id)


def test_without_steps_nothing_is_judged():
    assert {check.verdict for check in check_steps({}, Roles(), classes=10)} == {"na"}


def test_a_role_without_results_is_refused():
    with pytest.raises(Refusal, match="step 'sqare', of which there are no results"):
        check_steps({"square": bits(1)}, Roles(square=("sqare",)), classes=10)


@pytest.mark.parametrize(
    ("single", "iterative", "verdict"),
    # half of Wilson's interval around 500 of 1000 is 0.0309
    [
        (500, 400, "pass"),
        (530, 500, "pass"),
        (532, 500, "fail"),
        (500, 530, "pass"),
        (500, 532, "fail"),
    ],
)
def test_stronger_attacks_break_more_within_noise(single, iterative, verdict):
    steps = {"random": bits(500), "fgsm": bits(single), "pgd": bits(iterative)}
    roles = Roles(random=("random",), single=("fgsm",), iterative=("pgd",))
    assert of_steps("C10", steps, roles=roles).verdict == verdict


@pytest.mark.parametrize(
    ("last", "verdict"), [(400, "pass"), (395, "pass"), (394, "flag"), (430, "pass"), (432, "fail")]
)
def test_more_iterations_gain_nothing_and_lose_nothing(last, verdict):
    steps = {"50": bits(450), "100": bits(400), "200": bits(last)}
    roles = Roles(steps={100: "100", 50: "50", 200: "200"})
    assert of_steps("C11", steps, roles=roles).verdict == verdict


def test_a_curve_that_rises_beyond_noise_or_stays_up_fails():
    def curve(*standing):
        steps = {str(i): bits(n, 256) for i, n in enumerate(standing)}
        roles = Roles(eps={i / 4: str(i) for i in range(len(standing))})
        return of_steps("C12", steps, roles=roles, unbounded=1.0).verdict

    assert curve(250, 100, 50, 10, 0) == "pass"
    assert curve(250, 100, 115, 10, 0) == "pass"  # half of Wilson's interval is 15.3 samples
    assert curve(250, 100, 116, 10, 0) == "fail"
    assert curve(250, 100, 50, 10, 2) == "pass"
    assert curve(250, 100, 50, 10, 3) == "fail"
    assert curve(250, 100, 50) == "pass"  # does not reach the unbounded budget


def test_an_unbounded_budget_leaves_nothing():
    def at(half, whole):
        steps = {"half": bits(half), "whole": bits(whole)}
        roles = Roles(eps={0.5: "half", 1.0: "whole"})
        return of_steps("C13", steps, roles=roles, unbounded=1.0)

    assert at(120, 10).verdict == "pass"
    assert at(121, 10).verdict == "fail"
    assert at(121, 10).threshold == pytest.approx(0.12)
    assert at(120, 11).verdict == "fail"
    only = of_steps("C13", {"half": bits(0)}, roles=Roles(eps={0.5: "half"}), unbounded=1.0)
    assert only.verdict == "na"


@pytest.mark.parametrize(
    ("id", "role", "fine"),
    [
        ("C14", "square", 2),
        ("C15", "labels", 1),
        ("C16", "transfer", 5),
        ("C17", "random", 0),
        ("C19", "repeats", 5),
    ],
)
def test_what_others_find_behind_the_white_box(id, role, fine):
    roles = Roles(white=("a", "b"), square=("square",), primary="a")
    roles = Roles(**(vars(roles) | {role: ("other",)}))
    for extra, good in ((fine, True), (fine + 1, False)):
        steps = {"a": bits(500), "b": bits(400), "square": bits(400), "other": bits(400 - extra)}
        check = of_steps(id, steps, roles=roles)
        assert (check.verdict == "pass") is good
        assert check.detail == f"{extra} of the 400 that stood fell"


def test_a_sample_that_the_primary_attack_never_met_was_left_by_nobody():
    steps = {"random": bits(300), "white": bits(400)}
    roles = Roles(random=("random",), white=("white",), primary="white")
    assert of_steps("C17", steps, roles=roles).value == 100
    met = {"random": bits(500), "white": bits(300)}
    assert of_steps("C17", steps, roles=roles, met=met).value == 0


@pytest.mark.parametrize(("fresh", "verdict"), [(0, "pass"), (3, "pass"), (4, "flag")])
def test_the_next_gradient_adds_nothing(fresh, verdict):
    steps = {"a": bits(510), "b": bits(500), "c": bits(500 - fresh)}
    assert of_steps("C18", steps, roles=Roles(members=("a", "b", "c"))).verdict == verdict
    assert of_steps("C18", steps, roles=Roles(members=("a",))).verdict == "na"


@pytest.mark.parametrize(("apart", "verdict"), [(20, "pass"), (21, "flag")])
def test_all_gradients_gain_little_over_the_best(apart, verdict):
    place = torch.arange(1000)
    steps = {"a": (place < 500) & (place >= apart), "b": place < 500 - apart}
    check = of_steps("C18", steps, roles=Roles(members=("a", "b", "b")))
    assert (check.verdict, check.value) == (verdict, pytest.approx(apart / 1000))


def test_survivors_only_tell_what_the_last_gradient_adds():
    steps = {"a": bits(500), "b": bits(497)}
    met = {"a": bits(1000), "b": bits(500)}
    check = of_steps("C18", steps, roles=Roles(members=("a", "b")), met=met)
    assert (check.verdict, check.threshold) == ("pass", 0.003)


@pytest.mark.parametrize("id", ["C11", "C12", "C13", "C20"])
def test_a_curve_of_nobody_is_not_judged(id):
    """Where no sample is right nobody is attacked, and of nobody there is no share."""
    steps = {"few": bits(0, of=0), "many": bits(0, of=0)}
    curve = {1: "few", 2: "many"}
    roles = Roles(steps=curve, eps={1.0: "few", 2.0: "many"}, draws=curve)
    check = of_steps(id, steps, roles=roles, stochastic=True, unbounded=2.0)
    assert (check.verdict, check.value) == ("na", None)
    assert "none can fall" in check.detail


def test_noise_asks_for_expectation():
    assert draws({}, stochastic=False, samples=100).verdict == "na"
    assert draws({1: 0.5}, stochastic=True, samples=1000).verdict == "flag"
    fine = {1: 0.45, 10: 0.405, 20: 0.4}
    assert draws(fine, stochastic=True, samples=1000).verdict == "pass"
    assert draws(fine | {10: 0.406}, stochastic=True, samples=1000).verdict == "flag"
    weaker = draws({1: 0.39, 10: 0.4, 20: 0.4}, stochastic=True, samples=1000)
    assert (weaker.verdict, weaker.value) == ("flag", pytest.approx(0.01))


def test_the_undefended_control_must_fall():
    assert control(0.0099).verdict == "pass"
    assert control(0.01).verdict == "fail"


@pytest.mark.parametrize(("hits", "verdict"), [(80, "pass"), (79, "flag")])
def test_adversarials_of_another_graph_should_fool_the_model(hits, verdict):
    twin = bits(100)
    assert twin_failure(twin, bits(hits)).verdict == verdict
    assert twin_failure(~bits(1000), bits(hits)).verdict == "na"


def test_only_equal_protocols_are_ranked():
    one = {"suite": "standard", "eps": 8 / 255, "seed": 0}
    assert parity([one, dict(one)]).verdict == "pass"
    assert parity([one]).verdict == "na"
    check = parity([one, one | {"seed": 1}, {"suite": "standard", "eps": 8 / 255}])
    assert (check.verdict, check.value, check.detail) == ("fail", 1, "they differ in seed")


def test_the_worst_verdict_counts_and_every_check_is_listed():
    mild, hard = decide("C7", 0.02, "mild"), decide("C7", 0.5, "hard")
    merged = worst_of([mild, skip("C8", "no")], [hard, decide("C1", 0, "")], [mild])
    assert [check.id for check in merged] == list(LIMITS)
    assert merged[6] == hard
    assert merged[0].verdict == "pass"
    assert merged[7].detail == "no"
    assert merged[29].verdict == "na"


def test_the_page_has_a_paragraph_on_every_check():
    page = (ROOT / "docs" / "flags.md").read_text()
    found = re.findall(r"^## (C\d+)\n\n\*\*(.+?)\.\*\*", page, re.M)
    assert [id for id, _ in found] == list(LIMITS)
    assert [title.lower() for _, title in found] == [rule.name.lower() for rule in LIMITS.values()]
