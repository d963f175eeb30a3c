from __future__ import annotations

from dataclasses import replace

import pytest

from spikeproof.attacks import L0, L1, L2, PGD, Flips, Linf, RelaxedLinf, Retiming
from spikeproof.errors import Refusal
from spikeproof.evaluate import ensemble19, named_suite
from spikeproof.evaluate._suites import REGISTRY, double_time, half_time
from spikeproof.models import MLP, Setting, build
from spikeproof.spiking import Poisson

IMAGE, EVENTS = (3, 32, 32), (10, 2, 34, 34)
BALLS = (Linf(8 / 255), L2(0.5), L1(12.0), L0(10))
RELAXED = RelaxedLinf(8 / 255, high=4.0)
THREATS = (*BALLS, RELAXED, Flips(200), Retiming(2))


@pytest.mark.parametrize("name", ["smoke", "standard", "full", "ensemble19"])
@pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.kind)
def test_every_step_of_every_suite_fits(name, threat):
    if name == "ensemble19" and threat not in (*BALLS, RELAXED):
        pytest.skip("paper B's ensemble is of images")
    suite = named_suite(name, threat, 10, IMAGE if threat in BALLS else EVENTS)
    suite.check(threat)
    ids = [step.id for step in suite.steps]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("threat", THREATS, ids=lambda t: t.kind)
def test_a_higher_tier_holds_all_of_the_lower(threat):
    small, middle, large = (
        [s for s in named_suite(n, threat, 10, IMAGE).steps if s.counts]
        for n in ("smoke", "standard", "full")
    )
    assert set(map(str, small)) <= set(map(str, middle)) <= set(map(str, large))
    assert len(small) < len(middle) < len(large)


def test_baselines_meet_everyone_and_come_first():
    steps = named_suite("standard", Linf(8 / 255), 10, IMAGE).steps
    baselines = [step.everyone for step in steps]
    assert baselines == sorted(baselines, reverse=True)
    assert next(s.id for s in steps if s.everyone) == "S1-random"
    pgd = next(s.attack.search for s in steps if s.id == "S3-pgd-7")
    assert pgd.step_size == pytest.approx(2.55 / 255)


def test_the_primary_attack_and_the_curve_are_those_of_the_protocol():
    steps = {s.id: s for s in named_suite("standard", Linf(8 / 255), 10, IMAGE).steps}
    primary = [s for name, s in steps.items() if name.startswith("S4-sapgd")]
    assert sorted(s.attack.rule.vanishing / 2 for s in primary) == [0.41, 0.425, 0.435, 0.45]
    assert all(s.attack.search.steps == 100 for s in primary)
    curve = [s.threat.eps * 255 for s in steps.values() if not s.counts]
    assert curve == pytest.approx([1, 2, 4, 8, 16, 32, 64, 127.5, 255])
    assert all(s.attack.search.targets == 9 for n, s in steps.items() if n.startswith("S6"))


def test_fewer_classes_have_fewer_targets():
    steps = named_suite("standard", Linf(0.1), 3, IMAGE).steps
    assert {s.attack.search.targets for s in steps if s.id.startswith("S6")} == {2}


@pytest.mark.parametrize("name", ["standard", "full"])
def test_two_classes_meet_no_loss_that_is_a_constant(name):
    steps = named_suite(name, Linf(0.1), 2, IMAGE).steps
    assert not [s.id for s in steps if "dlr" in s.attack.loss.kind]
    assert {"S5-apgd-margin-100-own", "S10-half_time"} <= {s.id for s in steps}


def test_the_ensemble_is_that_of_the_paper_under_any_search():
    suite = ensemble19(PGD(7))
    assert len(suite.steps) == 19
    assert [s.id[3:] for s in suite.steps][:6] == [
        *("triangle-1", "triangle-2", "triangle-3", "triangle-0.5", "triangle-0.25", "exp-d-0.5")
    ]
    assert [s.id[3:] for s in suite.steps][-3:] == ["straight-through", "bptr", "cba-relu"]
    assert {s.attack.search for s in suite.steps} == {PGD(7)}
    assert len({s.attack.rule for s in suite.steps}) == 19
    assert not any(s.everyone for s in suite.steps)


@pytest.mark.parametrize(("threat", "shape"), [(Linf(0.1), IMAGE), (RELAXED, EVENTS)])
def test_against_noise_gradients_are_averaged(threat, shape):
    suite = named_suite("standard", threat, 10, shape, draws=10)
    quiet = {step.id for step in named_suite("standard", threat, 10, shape).steps}
    for step in (step for step in suite.steps if step.id in quiet):
        assert (step.attack.draws == 10) == (not step.attack.search.blind)
    baselines = [s for s in suite.steps if s.everyone and not s.attack.search.blind]
    assert len(baselines) == 6, "one step and several are compared with equal draws (C10)"
    noisy = [step for step in suite.steps if step.id not in quiet]
    assert [step.attack.draws for step in noisy if step.counts] == [20] * 3
    assert [step.attack.draws for step in noisy if not step.counts] == [1, 10, 20]
    primary = next(s for s in suite.steps if "sapgd-assg-0.425" in s.id)
    for step in (step for step in noisy if not step.counts):
        assert replace(step.attack, draws=10) == primary.attack
        assert step.threat == threat


def test_every_gradient_meets_those_that_stand():
    ids = {s.id for s in named_suite("standard", Linf(0.1), 10, IMAGE).steps if not s.everyone}
    assert {f"S5-apgd-ce-50-{name}" for name in REGISTRY} <= ids
    assert len(set(map(str, REGISTRY.values()))) == len(REGISTRY)


def test_relaxed_frames_meet_what_images_meet_under_a_name_that_says_so():
    for name in ("smoke", "standard", "full"):
        image, relaxed = (
            named_suite(name, threat, 10, shape)
            for threat, shape in ((Linf(8 / 255), IMAGE), (RELAXED, EVENTS))
        )
        assert relaxed.name == f"{name}-relaxed-events"
        assert {s.id[:3] for s in relaxed.steps} == {"E8-"}
        known = {s.id.partition("-")[2] for s in image.steps if s.counts and s.source is None}
        assert known == {s.id[3:] for s in relaxed.steps if s.counts}
    budgets = [s.threat.eps for s in relaxed.steps if not s.counts]
    assert {8 / 255, 1.0, 2.0, 4.0} <= set(budgets), "one event, the grey frame, and everything"
    assert all(isinstance(s.threat, RelaxedLinf) for s in relaxed.steps if not s.counts)


def test_the_audit_is_of_the_full_suite_alone():
    ids = {
        n: {s.id for s in named_suite(n, Linf(0.1), 10, IMAGE).steps} for n in ("standard", "full")
    }
    audit = {"S7-fab-t-assg-0.425", "S9-hop-skip-jump", "S11-sapgd-1000-margin"}
    assert audit <= ids["full"]
    assert not audit & ids["standard"]


def test_an_unknown_suite_is_refused_with_the_nearest():
    with pytest.raises(Refusal, match="did you mean 'standard'"):
        named_suite("standart", Linf(0.1), 10, IMAGE)


def test_a_network_runs_shorter_and_longer_with_its_own_weights(linear):
    model = build(MLP((8,)), Setting(channels=1, size=8, T=4), 0).eval()
    assert (half_time(model).encode.T, double_time(model).encode.T) == (2, 8)
    assert half_time(half_time(half_time(model))).encode.T == 1
    shared = zip(model.parameters(), double_time(model).parameters(), strict=True)
    assert all(a is b for a, b in shared)
    noisy = build(MLP((8,)), Setting(channels=1, size=8, T=4, encoder=Poisson()), 0)
    assert double_time(noisy).encode.T == 8
    with pytest.raises(Refusal, match="number of steps of Linear"):
        half_time(linear)
