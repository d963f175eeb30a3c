"""Defects that evaluations of spiking networks have really had, each as a test of ours."""

from __future__ import annotations

import ast
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

import spikeproof
from spikeproof.attacks import (
    APGD,
    FAB,
    FGSM,
    L2,
    MIFGSM,
    PGD,
    RFGSM,
    SAPGD,
    Attack,
    Linf,
    Margin,
    RandomSearch,
    Search,
    Square,
    run,
    under_attack,
)
from spikeproof.catalogue import KINDS
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from spikeproof.spiking import (
    ASSG,
    BPTR,
    CBA,
    PDSG,
    RGA,
    Encode,
    Poisson,
    Rule,
    Trace,
    drawing_from,
    seen_through,
)
from tests.attacks.test_attack import noisy
from tests.contracts.attack import COUNT, Flat, samples, small_network

IDS = torch.arange(COUNT)
SEARCHES = [FGSM(), RFGSM(), PGD(5), MIFGSM(5), APGD(5), SAPGD(5), FAB(5)]


class Swallows(nn.Module):
    """Like a spiking network fed NaN: no comparison holds, so it answers, and wrongly."""

    def forward(self, x):
        blind = x.isnan().flatten(1).any(1).float()
        zero = 0 * x.nan_to_num().flatten(1).sum(1)
        return torch.stack([1 - 2 * blind + zero, zero], 1)


@pytest.mark.parametrize("search", SEARCHES, ids=lambda s: s.kind)
def test_trap_01_nan_is_no_success(search):
    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.int64)
    out = run(Attack(search, Margin()), Swallows(), x, y, Linf(0.1), ids=torch.arange(3))
    assert not out.fallen.any()
    assert torch.equal(out.x_adv, x)
    bad = torch.full_like(x, torch.nan)
    for ball in (Linf(0.1), L2(1.0)):
        assert not ball.admits(bad, x).any()
    assert Swallows()(bad).argmax(1).tolist() == [1, 1, 1], "the double no longer bites"


def test_trap_02_the_budget_is_checked_in_both_directions_and_forgives_rounding():
    x = torch.rand(1, 1, 100, 100, generator=generator(0, "trap"))
    eps = 8 / 255
    ball = Linf(eps, low=-1.0, high=2.0)
    assert ((x + eps - x) > eps).any(), "rounding no longer exceeds"
    assert ball.admits(x + eps, x).all()
    assert ball.admits(x - eps, x).all()
    assert not ball.admits(x + 1.001 * eps, x).any()
    assert not ball.admits(x - 1.001 * eps, x).any()
    assert ball.admits(x, x).all()


class Drawn(nn.Module):
    """Its loss is the weight of the spikes that came: a gradient of 2 w s for each draw s."""

    seen: ClassVar[list] = []  # of the class, for a view of a model is a copy

    def __init__(self):
        super().__init__()
        self.encode = Encode(Poisson(), 1)
        self.weight = torch.linspace(-1, 1, 16)

    def forward(self, x):
        spikes = self.encode(x).flatten(1)
        self.seen.append(spikes.detach())
        height = (self.weight * spikes.square()).sum(1)
        return torch.stack([100 - height, 0 * height], 1)


def test_trap_03_a_gradient_is_the_mean_of_its_draws_and_not_the_last():
    @dataclass(frozen=True)
    class Once(Search):
        kind: str = "once"

        def __call__(self, s):
            got.append(s.gradient(s.x)[0].flatten(1))

    got = []
    Drawn.seen.clear()
    model = drawing_from(Drawn().eval(), generator(1, "noise"))
    x, draws = torch.linspace(0.1, 0.9, 16).reshape(1, 1, 4, 4), 400
    attack = Attack(Once(), Margin(), draws=draws, votes=1)
    found = run(attack, model, x, torch.tensor([0]), Linf(0.0), ids=torch.tensor([0]))
    assert (found.backwards, found.forwards) == (draws, draws)
    spikes = torch.cat([rows[:1] for rows in Drawn.seen])  # a row alone is sent twice
    assert len(spikes) == draws, "one draw for every gradient"
    torch.testing.assert_close(got[0][0], 2 * model.weight * spikes.mean(0))
    assert not torch.allclose(got[0][0], 2 * model.weight * spikes[-1], atol=0.2)
    # The mean over all noise is 2 w x, from which 400 draws err by 5 of their deviations at most.
    deviation = 2 * model.weight.abs() * (x.flatten() * (1 - x.flatten()) / draws).sqrt()
    assert ((got[0][0] - 2 * model.weight * x.flatten()).abs() <= 5 * deviation + 1e-6).all()


RULES = [CBA(), *(rule() for rule in KINDS[Rule])]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.kind)
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_trap_03_no_rule_and_no_mode_stays_on_the_model(rule, ends):
    @dataclass(frozen=True)
    class Fails(Search):
        kind: str = "fails"

        def __call__(self, s):
            s.gradient(s.x)
            raise ZeroDivisionError("in the middle of the attack")

    model, (x, y) = noisy(), samples()
    modules = dict(model.named_modules())
    modules["layers"].train()
    before = {n: {k: v for k, v in vars(m).items() if k[0] != "_"} for n, m in modules.items()}
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) for m in modules.values()]
    slope = own_gradient(model, x)
    attack = Attack(PGD(2) if ends == "well" else Fails(), rule=rule, draws=2, votes=2)
    outcome = nullcontext() if ends == "well" else pytest.raises(ZeroDivisionError)
    with outcome, under_attack(model):
        run(attack, model, x, y, Linf(0.1), ids=IDS)
    for name, module in model.named_modules():
        assert modules[name] is module
        kept = {k: v for k, v in vars(module).items() if k[0] != "_"}
        assert kept.keys() == before[name].keys()
        assert all(kept[key] is value for key, value in before[name].items()), name
    assert hooks == [len(m._forward_hooks) + len(m._backward_hooks) for m in modules.values()]
    assert torch.equal(own_gradient(model, x), slope)


def own_gradient(model, x):
    """Returns the model's gradient through itself, under noise that is always the same."""
    z = x.clone().requires_grad_()
    view = drawing_from(model, generator(5, "still"))
    return torch.autograd.grad(view(z).square().sum(), z)[0]


def test_trap_05_no_rule_means_the_models_own_gradient_and_not_its_twin():
    model, (x, y) = small_network(), samples()
    plain = run(Attack(FGSM()), model, x, y, Linf(0.1), ids=IDS)
    own = next(m.rule for m in model.modules() if hasattr(m, "rule"))
    same = run(Attack(FGSM(), rule=own), model, x, y, Linf(0.1), ids=IDS)
    twin = run(Attack(FGSM(), rule=CBA()), model, x, y, Linf(0.1), ids=IDS)
    assert torch.equal(plain.x_adv, same.x_adv)
    assert not torch.equal(plain.x_adv, twin.x_adv)


def test_trap_06_the_deployed_model_decides_even_when_the_twin_is_fooled():
    model, (x, y) = small_network(), samples()
    out = run(Attack(PGD(10), rule=CBA()), model, x, y, Linf(0.12), ids=IDS)
    deployed = model(out.x_adv).argmax(1) != y
    assert deployed[out.fallen].all()
    twin = seen_through(model, CBA())
    assert (twin(out.x_adv).argmax(1) != model(out.x_adv).argmax(1)).any()


def test_trap_06_ties_are_errors_of_every_view():
    from spikeproof.attacks import correct

    tie = torch.tensor([[1.0, 1.0], [2.0, 1.0]])
    assert correct(tie, torch.tensor([0, 0])).tolist() == [False, True]
    assert correct(tie, torch.tensor([1, 1])).tolist() == [False, False]


def test_trap_07_the_reference_budget_is_a_hundred_steps():
    assert APGD().steps == 100
    assert SAPGD().steps == 100
    assert FAB().steps == 100
    assert Square().queries == 5000


def test_trap_04_rules_are_named_by_their_formula():
    shape = (4, 1, 3)
    current = torch.tensor([0.5, 1.5, 3.0]).expand(shape)
    spikes = torch.tensor([0.0, 1.0, 1.0]).expand(shape)
    trace = Trace(current, current, spikes, 1.0, 1.0)
    assert BPTR().slopes(trace, None).flatten().tolist() == [0, 1, 1]
    assert RGA().slopes(trace, None).flatten().tolist() == [0.5, 0.5, 0]


def test_trap_08_fresh_noise_is_drawn_for_every_step():
    model, (x, y) = noisy(), samples()
    seen = []

    class Watched(Attack):
        pass

    from spikeproof.attacks import Victim

    original = Victim.redraw
    try:
        Victim.redraw = lambda self, *seeds: seen.extend(seeds) or original(self, *seeds)
        run(Watched(PGD(4), draws=3, votes=2), model, x[:4], y[:4], Linf(0.0), ids=IDS[:4])
    finally:
        Victim.redraw = original
    assert len(seen) >= 12
    assert len(set(seen)) == len(seen)


def test_trap_09_a_gradient_does_not_depend_on_the_neighbours():
    model, (x, y) = small_network(), samples()
    attack = Attack(PGD(5), rule=PDSG())
    whole = run(attack, model, x, y, Linf(0.1), ids=IDS)
    for i in (0, 7, 23):
        alone = run(attack, model, x[i : i + 1], y[i : i + 1], Linf(0.1), ids=IDS[i : i + 1])
        assert torch.equal(alone.x_adv[0], whole.x_adv[i])


@pytest.mark.parametrize("search", [*SEARCHES, RandomSearch(5), Square(5)], ids=lambda s: s.kind)
def test_trap_10_the_range_is_the_threats_and_not_zero_to_one(search):
    class Read(Flat):
        def forward(self, x):
            seen.append((x.detach().amin().item(), x.detach().amax().item()))
            slope = x.flatten(1).sum(1)
            return torch.stack([50 - 0.01 * slope, 0.01 * slope], 1)

    seen = []
    x = torch.tensor([0.0, 3.0, 9.0, 10.0]).reshape(1, 1, 2, 2)
    ball = Linf(2.0, low=0.0, high=10.0)
    run(Attack(search, Margin()), Read(), x, torch.tensor([0]), ball, ids=torch.tensor([0]))
    assert min(low for low, _ in seen) >= 0
    assert max(high for _, high in seen) <= 10
    assert max(high for _, high in seen) > 9, "cut to a smaller range"


def test_trap_11_a_memory_belongs_to_samples_and_ends_with_the_batch():
    model, (x, y) = small_network(), samples()
    attack = Attack(SAPGD(10), rule=ASSG())
    whole = run(attack, model, x, y, Linf(0.06), ids=IDS)
    for rows in (IDS[:9], IDS[9:]):
        part = run(attack, model, x[rows], y[rows], Linf(0.06), ids=IDS[rows])
        assert torch.equal(part.x_adv, whole.x_adv[rows])
    assert 0 < whole.fallen.sum() < COUNT, "nobody left the batch, or everybody"


@pytest.mark.parametrize("search", [Square(9), FAB(3)], ids=lambda s: s.kind)
def test_trap_16_frames_of_five_axes_are_searched_and_never_called_binary(search):
    class Frames(nn.Module):
        def forward(self, x):
            height = x.flatten(1).mean(1)
            return torch.stack([1 - height, height - 0.2], 1)

    x = torch.zeros(2, 4, 2, 5, 5)
    ball = Linf(0.1)
    y = torch.zeros(2, dtype=torch.int64)
    out = run(Attack(search, Margin()), Frames(), x, y, ball, ids=torch.arange(2))
    assert out.x_adv.shape == x.shape
    assert ball.admits(out.x_adv, x).all()
    assert ball.kind == "linf"


def test_trap_18_a_budget_in_grey_values_is_refused():
    with pytest.raises(Refusal, match="did you mean 8/255"):
        Linf(8)
    with pytest.raises(Refusal, match=r"did you mean 2\.55/255"):
        Linf(2.55)


def test_trap_19_running_statistics_do_not_move():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5))
    model[1].running_mean += 0.3
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = samples()
    with under_attack(model):
        first = run(Attack(PGD(3)), model, x, y, Linf(0.1), ids=IDS)
        again = run(Attack(PGD(3)), model, x, y, Linf(0.1), ids=IDS)
    assert torch.equal(first.x_adv, again.x_adv), "dropout is on"
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert model.training


def test_trap_21_no_string_is_compared_by_identity():
    for path in Path(spikeproof.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                texts = [
                    c
                    for c in (node.left, *node.comparators)
                    if isinstance(c, ast.Constant) and isinstance(c.value, str)
                ]
                identity = any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)
                assert not (identity and texts), path.name


def test_noise_views_leave_the_network_its_generator():
    model = noisy()
    generator_before = model.encode.generator
    x, y = samples()
    run(Attack(FGSM()), model, x, y, Linf(0.1), ids=IDS)
    assert model.encode.generator is generator_before
    assert drawing_from(model, generator(3, "n")).encode.generator is not generator_before
