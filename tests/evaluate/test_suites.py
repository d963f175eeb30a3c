from __future__ import annotations

import pytest

from spikeproof.attacks import L0, L1, L2, PGD, Attack, Flips, Linf, Retiming
from spikeproof.errors import Refusal
from spikeproof.evaluate import ensemble19, named_suite
from spikeproof.evaluate._suites import double_time, half_time
from spikeproof.models import MLP, Setting, build
from spikeproof.spiking import Poisson

IMAGE, EVENTS = (3, 32, 32), (10, 2, 34, 34)
BALLS = (Linf(8 / 255), L2(0.5), L1(12.0), L0(10))


@pytest.mark.parametrize("name", ["smoke", "standard", "full", "ensemble19"])
@pytest.mark.parametrize("threat", [*BALLS, Flips(200), Retiming(2)], ids=lambda t: t.kind)
def test_every_step_of_every_suite_fits(name, threat):
    if name == "ensemble19" and threat not in BALLS:
        pytest.skip("paper B's ensemble is of images")
    suite = named_suite(name, threat, 10, IMAGE if threat in BALLS else EVENTS)
    suite.check(threat)
    ids = [step.id for step in suite.steps]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("threat", [*BALLS, Flips(200), Retiming(2)], ids=lambda t: t.kind)
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


def test_against_noise_gradients_are_averaged():
    suite = named_suite("standard", Linf(0.1), 10, IMAGE, draws=10)
    for step in suite.steps:
        averaged = isinstance(step.attack, Attack) and step.attack.draws == 10
        assert averaged == (not step.everyone and not step.attack.search.blind)


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
