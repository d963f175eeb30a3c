from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from spikeproof.errors import Refusal
from spikeproof.models import CNN, MLP, WRN, Setting, SEWResNet, SpikingResNet, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    ASSG,
    BPTR,
    CBA,
    IF,
    LIF,
    PDSG,
    Encode,
    Frames,
    Gate,
    Gates,
    Poisson,
    Spiking,
    SpikingNetwork,
    _memory,
    _neurons,
    drawing_from,
    kernel,
    over_time,
    recomputed,
    recorded,
    seen_through,
    smoothed,
    stream,
)

SMALL = Setting(T=3, size=8, neuron=LIF(theta=0.1))
LEARNED = LIF(theta=0.1, learn_theta=True, learn_tau=True, reset="soft")
CASES = {
    "cnn": (CNN((4, 4), 8), SMALL),
    "max pooling": (CNN((4, 4), 8, pool="max"), SMALL),
    "learned": (CNN((4, 4), 8), replace(SMALL, neuron=LEARNED)),
    "events": (CNN((4, 4), 8), replace(SMALL, encoder=Frames())),
    "dense": (MLP((9, 8)), SMALL),
    "wrn": (WRN(10, 1, 0.25), SMALL),
    "sew": (SEWResNet(18, width=0.07), replace(SMALL, size=16)),
    "residual": (SpikingResNet(18, width=0.07), replace(SMALL, size=16)),
    "gates": (CNN((4, 4), 8), replace(SMALL, gates=Gates(0.7))),
}


def batch(setting: Setting, rows: int = 3) -> torch.Tensor:
    time = (setting.T,) if setting.encoder.events else ()
    shape = (rows, *time, setting.channels, setting.size, setting.size)
    return torch.rand(shape, generator=generator(0, "batch"))


def gradients(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Logits, then gradients at the input and at all weights, then all buffers."""
    x = x.clone().requires_grad_()
    logits = model(x)
    found = torch.autograd.grad(logits.square().sum(), [x, *model.parameters()], allow_unused=True)
    return [logits, *(g for g in found if g is not None), *map(torch.clone, model.buffers())]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(map(torch.equal, left, right))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_gradients_and_running_statistics_are_the_same_bit_for_bit(case, training):
    found = []
    for view in (lambda model: model, recomputed):
        model = build(*CASES[case], seed=1).train(training)
        x = batch(CASES[case][1])
        found.append([*gradients(view(model), x), *gradients(view(model), x)])
        assert not training or all(n.num_batches_tracked == 2 for n in norms(model))
    assert sum(bool(g.any()) for g in found[0]) > len(found[0]) // 2
    assert same(*found)


def norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.parametrize("rule", [ASSG(), PDSG(), BPTR(), CBA()], ids=lambda rule: rule.kind)
def test_other_rules_see_a_pass_once(rule):
    model, x, found = build(*CASES["cnn"], seed=1).eval(), batch(SMALL), []
    for view in (model, recomputed(model)):
        through = seen_through(view, rule)
        found.append([part for _ in range(3) for part in gradients(through, x)])
    assert same(*found)


def test_noise_is_drawn_once():
    model, found = build(*CASES["gates"], seed=1), []
    stochastic = build(CNN((4, 4), 8), replace(SMALL, encoder=Poisson()), seed=1)
    for network in (model, stochastic):
        found = []
        for view in (network, recomputed(network)):
            noise = generator(0, "noise")
            drawn = [*gradients(drawing_from(view, noise), batch(SMALL)), noise.get_state()]
            found.append([g for g in drawn if g.shape != (1,)])
            network.load_state_dict(build_like(network))
        assert same(*found)


def build_like(network: SpikingNetwork) -> dict[str, torch.Tensor]:
    """The state of the network with norms that have seen nothing."""
    for norm in norms(network):
        norm.reset_running_stats()
    return network.state_dict()


def test_views_of_it_go_on_as_before():
    model, x = build(*CASES["cnn"], seed=1).eval(), batch(SMALL)
    view = recomputed(model)
    for change in (smoothed, lambda m: over_time(m, 5)):
        assert same(gradients(change(model), x), gradients(change(view), x))
    whole = stream(model, x, 3)
    first = stream(view, x.requires_grad_(), 1)
    rest = stream(view, x, 2, first[1])
    assert torch.equal(whole[0], torch.cat([first[0], rest[0]]))


@pytest.fixture
def counted(monkeypatch):
    """How often neurons run, and the bytes kept for a backward pass."""
    runs, kept = [], []
    pack = _memory._pack
    for name in ("integrate_and_fire", "fire_and_pool"):
        run = getattr(_neurons, name)
        count = lambda *a, run=run, **k: runs.append(0) or run(*a, **k)  # noqa: E731
        monkeypatch.setattr(_neurons, name, count)

    def spy(x):
        found = pack(x)
        if not isinstance(x, nn.Parameter):
            kept.append(found[0].nbytes)
        return found

    monkeypatch.setattr(_memory, "_pack", spy)
    return runs, kept


def test_it_keeps_less_and_runs_twice(counted):
    runs, kept = counted
    model, x, bytes_kept = build(*CASES["cnn"], seed=1), batch(SMALL, 16), []
    for view, times in ((model, 3), (recomputed(model), 6)):
        runs.clear()
        kept.clear()
        loss = view(x).square().sum()
        bytes_kept.append(sum(kept))
        loss.backward()
        assert len(runs) == times
    assert bytes_kept[1] < 0.5 * bytes_kept[0]
    runs.clear()
    with torch.no_grad():
        recomputed(model)(x)
    assert len(runs) == 3


def test_who_watches_sees_a_pass_once_and_all_of_it():
    model, x = build(*CASES["cnn"], seed=1).eval(), batch(SMALL)
    found = []
    for view in (model, recomputed(model)):
        with recorded(view, gradients=True) as layers:
            gradients(view, x)
        found.append([t for one in layers.values() for t in (one.spikes, one.gradient.l1)])
    assert all(len(t) == len(x) for t in found[0])
    assert same(*found)


def test_statistics_that_a_hook_chose_are_chosen_again():
    model, x = build(*CASES["cnn"], seed=1), batch(SMALL)
    norm = norms(model)[0]
    chosen = torch.full((4,), 0.25), torch.full((4,), 2.0)

    def take(module, _):
        module.running_mean, module.running_var = (one.clone() for one in chosen)

    vars(take)["statistics_only"] = True
    found = []
    for view in (model, recomputed(model)):
        inner = norms(view)[0].eval()
        kept = inner.running_mean, inner.running_var
        hook = inner.register_forward_pre_hook(take)
        loss = view(x).square().sum()
        hook.remove()
        inner.running_mean, inner.running_var = kept
        inner.train()
        found.append(torch.autograd.grad(loss, list(view.parameters())))
        assert inner.training
        assert inner.running_mean is kept[0]
    assert norm.num_batches_tracked == 0
    assert same(*map(list, found))


def test_other_hooks_on_norms_see_a_pass_once():
    model, x = build(*CASES["cnn"], seed=1).eval(), batch(SMALL)
    calls = []
    norms(model)[0].register_forward_pre_hook(lambda _, given: calls.append(1) or 3 * given[0])
    found = [
        torch.autograd.grad(view(x).square().sum(), list(view.parameters()))
        for view in (model, recomputed(model))
    ]
    assert len(calls) == 2
    assert same(*map(list, found))


class Scaled(nn.Sequential):
    """Layers in a row whose own forward does more than run them."""

    def forward(self, input):
        return 2 * super().forward(input)


def test_a_row_with_a_forward_of_its_own_is_refused():
    model = build(*CASES["cnn"], seed=1)
    model.layers = Scaled(*model.layers)
    with pytest.raises(Refusal, match="the layers are a Scaled"):
        recomputed(model)(batch(SMALL))


class Blurred(nn.Module):
    """Draws from torch's own generator, as no layer of torch.nn tells."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


def test_noise_and_kernel_are_those_of_the_first_run():
    model, x, found = build(*CASES["cnn"], seed=1), batch(SMALL), []
    model.layers.insert(4, Blurred())
    for view in (model, recomputed(model)):
        with isolated(3, "noise"), kernel("reference"):
            loss = view.train()(x).square().sum()
        found.append(list(torch.autograd.grad(loss, list(view.parameters()))))
    assert same(*found)


def test_half_precision_and_dropout_give_the_same_twice():
    model, x, found = build(*CASES["cnn"], seed=1), batch(SMALL), []
    with isolated(0, "linear"):
        model.layers.insert(4, nn.Dropout(0.5))
    for view in (model, recomputed(model)):
        view.train()
        with isolated(3, "dropout"), torch.autocast("cpu", torch.bfloat16):
            loss = view(x).square().sum()
        with isolated(4, "elsewhere"):
            found.append(list(torch.autograd.grad(loss, list(view.parameters()))))
    assert same(*found)


def test_weights_that_moved_in_between_are_noticed():
    model = build(*CASES["cnn"], seed=1)
    loss = recomputed(model)(batch(SMALL)).square().sum()
    with torch.no_grad():
        model.layers[4].weight.zero_()
    with pytest.raises(RuntimeError, match="weight, which a backward pass needs"):
        loss.backward()


def test_what_cannot_run_twice_is_refused():
    with pytest.raises(Refusal, match=r"Flatten holds no SpikingNetwork; .*; build it with"):
        recomputed(nn.Flatten())
    with pytest.raises(Refusal, match=r"layers are a Flatten; .*; make the layers one"):
        recomputed(SpikingNetwork(Encode(Frames(), 3), nn.Flatten()))
    with isolated(0, "spectral"):
        head = spectral_norm(nn.Linear(4, 2))
    layers = nn.Sequential(nn.Flatten(), head, Spiking(IF(), 3))
    model = recomputed(SpikingNetwork(Encode(Frames(), 3), layers)).train()
    with pytest.raises(Refusal, match=r"changes its tensor .*; a second run would"):
        model(torch.rand((2, 3, 1, 2, 2), generator=generator(0, "x")))


def test_held_noise_that_changed_since_is_what_it_was():
    model, x, found = build(*CASES["gates"], seed=1).eval(), batch(SMALL), []
    for view in (model, recomputed(model)):
        gates = [part for part in view.modules() if isinstance(part, Gate)]
        for gate in gates:
            gate.redraw(7)
        loss = view(x).square().sum()
        for gate in gates:
            gate.redraw(8)
        found.append(list(torch.autograd.grad(loss, list(view.parameters()))))
        assert all(gate.seeds == (8,) for gate in gates)
    assert same(*found)
