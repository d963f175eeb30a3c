from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from spikeproof.errors import Refusal
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import (
    ASSG,
    BPTR,
    BPTT,
    CBA,
    HART,
    IF,
    LIF,
    PDSG,
    RGA,
    ATan,
    Averaged,
    Direct,
    Encode,
    Frames,
    Gaussian,
    Latency,
    Phase,
    Poisson,
    Rate,
    Rule,
    Sigmoid,
    Spiking,
    SpikingNetwork,
    State,
    Triangle,
    drawing_from,
    forget,
    keep_samples,
    over_time,
    recorded,
    seen_through,
    smoothed,
    stream,
    unobserved,
)

STEPS = 6
RULES = [BPTT(ATan()), BPTR(), RGA(), HART(), PDSG(), ASSG(), CBA(), CBA("clip_floor")]
ENCODERS = [Direct(), Poisson(), Phase(), Phase(weighted=True), Rate(), Latency(), Frames()]


def network(encoder=Direct(), steps=STEPS, rule: Rule = BPTT(), reset="hard") -> SpikingNetwork:  # noqa: B008
    with isolated(0, "views"):
        conv, deep, head = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(20, 3)
    norm = nn.BatchNorm2d(4)
    layers = nn.Sequential(
        conv,
        norm,
        Spiking(
            LIF(tau=0.8, theta=0.3, rule=rule, learn_theta=True),
            steps,
            opens_time=encoder.static,
        ),
        deep,
        Spiking(IF(theta=0.4, rule=rule, reset=reset), steps),
        nn.Flatten(),
        head,
    )
    return SpikingNetwork(Encode(encoder, steps, (0.4, 0.5), (0.3, 0.2)), layers).double().eval()


def images(batch=3, seed=0, steps: int | None = None) -> torch.Tensor:
    shape = (batch, 2, 6, 6) if steps is None else (batch, steps, 2, 6, 6)
    return torch.rand(shape, generator=generator(seed, "images"), dtype=torch.float64)


def inputs(encoder, **knobs) -> torch.Tensor:
    return images(steps=STEPS if encoder.events else None, **knobs)


def trace(model: nn.Module) -> list:
    """Everything that a view could have left behind."""
    left: list = []
    for name, module in model.named_modules():
        left += [name, type(module), id(module), module.training]
        left += [
            list(getattr(module, kind))
            for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        ]
        plain = {k: v for k, v in vars(module).items() if not k.startswith("_")}
        left += [(key, id(value)) for key, value in sorted(plain.items())]
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        left += [name, id(value), value.requires_grad, value.grad, value.tolist()]
    return left


def gradient(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.clone().requires_grad_()
    return torch.autograd.grad(model(x)[:, 0].sum(), x)[0]


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_weights_are_the_same_objects_both_ways(rule):
    model, x = network(), images()
    view = seen_through(model, rule)
    theirs = dict(model.named_parameters())
    shared = {id(p) for p in view.parameters()}
    assert shared == {id(p) for p in theirs.values()}
    before = view(x)
    with torch.no_grad():
        model.layers[6].weight *= 2
        model.layers[6].bias *= 2
    torch.testing.assert_close(view(x), 2 * before)
    next(view.parameters()).requires_grad_(False)
    assert not next(model.parameters()).requires_grad
    view.train()(x)  # running statistics are shared as well; the mode is not
    assert model.layers[1].num_batches_tracked == 1
    assert not model.training


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_view_leaves_no_trace(rule):
    model, x = network(), images()
    before, native = trace(model), gradient(model, x)
    view = seen_through(model, rule)
    gradient(view, x)
    smoothed(model)(x)
    seen_through(over_time(model, 3), rule)(x)
    drawing_from(view, generator(1))(x)
    stream(model, x, 2)
    keep_samples(view, torch.tensor([0]))
    with unobserved(view):
        pass
    forget(view)
    assert trace(model) == before
    assert torch.equal(gradient(model, x), native)


@dataclass(frozen=True)
class Broken(BPTT):
    """Fails in the forward pass, or in the backward pass."""

    backwards: bool = False

    def slopes(self, trace, memory):
        if not self.backwards:
            raise KeyError("forward")
        return super().slopes(trace, memory)

    @property
    def averaged(self):
        raise KeyError("backward")


@pytest.mark.parametrize("backwards", [False, True])
def test_an_exception_in_a_view_leaves_no_trace(backwards):
    model, x = network(), images()
    before, native = trace(model), gradient(model, x)
    view = seen_through(model, Broken(backwards=backwards))
    with pytest.raises(KeyError, match="backward" if backwards else "forward"):
        gradient(view, x)
    with pytest.raises(RuntimeError):
        stream(model, x[..., :3], 2)
    assert trace(model) == before
    assert torch.equal(gradient(model, x), native)


@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
@pytest.mark.parametrize("rule", RULES[:-2], ids=repr)
def test_a_rule_never_changes_a_logit(rule, encoder):
    model, x = network(encoder), inputs(encoder)
    for dtype in (torch.float32, torch.float64):
        model, x = model.to(dtype), x.to(dtype)
        assert torch.equal(seen_through(model, rule)(x), model(x))


def test_rules_do_change_the_gradient():
    model, x = network(), images()
    seen = [gradient(seen_through(model, rule), x) for rule in (BPTT(), *RULES)]
    for i, a in enumerate(seen):
        assert a.abs().sum() > 0
        assert not any(torch.equal(a, b) for b in seen[:i])


def test_views_of_views():
    model, x = network(Poisson()), images()
    source = generator(4)
    twice = seen_through(seen_through(model, BPTR()), HART())
    assert torch.equal(gradient(twice, x), gradient(seen_through(model, HART()), x))
    drawn = drawing_from(model, source)
    chain = over_time(seen_through(drawn, BPTT(Gaussian())), 4)
    assert chain.encode.generator is source, "a copied generator would repeat its noise"
    assert chain.layers[2].rule == BPTT(Gaussian())
    first = chain(x)
    assert not torch.equal(chain(x), first)
    expected = drawing_from(over_time(model, 4), generator(4))
    assert torch.equal(expected(x), first)
    assert model.encode.generator is None


def test_views_do_not_share_their_memory():
    model, x = network(), images()
    one, two = seen_through(model, ASSG()), seen_through(model, ASSG())
    first = gradient(one, x)
    second = gradient(one, x)
    assert not torch.equal(first, second)
    assert torch.equal(gradient(two, x), first)
    gradient(two, x)
    third = gradient(over_time(one, STEPS), x)
    assert torch.equal(gradient(two, x), third), "a view of a view goes on with its memory"
    assert not torch.equal(gradient(one, x), third), "and leaves its trace there"


@pytest.mark.parametrize(
    "view",
    [
        lambda m: seen_through(m, BPTT()),
        lambda m: seen_through(m, CBA()),
        smoothed,
        lambda m: over_time(m, 2),
        lambda m: stream(m, images(), 1),
    ],
)
def test_a_model_without_neurons_is_refused(view):
    model = SpikingNetwork(Encode(Direct(), 2), nn.Sequential(nn.Flatten(), nn.ReLU()))
    with pytest.raises(Refusal, match="has no layer of spikeproof's neurons"):
        view(model)


@pytest.mark.parametrize(
    "view",
    [
        lambda m: seen_through(m, BPTT()),
        lambda m: seen_through(m, CBA()),
        smoothed,
        lambda m: over_time(m, 2),
        lambda m: stream(m, images(), 1),
    ],
)
def test_the_analog_twin_has_no_neurons_either(view):
    with pytest.raises(Refusal, match="has no layer of spikeproof's neurons"):
        view(seen_through(network(), CBA()))


@pytest.mark.parametrize("encoder", [*ENCODERS, Averaged()], ids=repr)
def test_the_analog_twin_sees_what_the_sensor_delivers(encoder):
    """Values normalised, where the model normalises; frames as their mean; spikes as pixels."""
    model, x = network(encoder), inputs(encoder)
    out = seen_through(model, CBA())
    seen = x.mean(1) if encoder.events else x
    if encoder.analog:
        seen = (seen - model.encode.mean) / model.encode.std
    conv, norm, first, deep, second, flat, head = model.layers
    hidden = torch.relu(norm(conv(seen)) / first.theta)
    hidden = torch.relu(deep(hidden) / second.theta)
    torch.testing.assert_close(out(x), head(flat(hidden)))


def test_tied_weights_stay_tied():
    model = network()
    with isolated(1, "tied"):
        twin = nn.Conv2d(5, 4, 1, bias=False)
    tied = nn.Sequential(model.layers[3], twin, model.layers[3]).double()
    copy = seen_through(SpikingNetwork(model.encode, nn.Sequential(*model.layers, tied)), HART())
    assert copy.layers[3] is copy.layers[7][0] is copy.layers[7][2]
    assert copy.layers[3].weight is model.layers[3].weight


class Twice(nn.Module):
    """The same block two times: one layer of neurons, two states."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(self.block(x))


@pytest.mark.parametrize("kind", ["two names", "a shared block", "two calls"])
def test_a_layer_of_neurons_in_two_places(kind):
    with isolated(2, "tied"):
        linear, head = nn.Linear(8, 8), nn.Linear(8, 3)
    opening = Spiking(IF(theta=0.2), STEPS, opens_time=True)
    neurons = Spiking(LIF(tau=0.9, theta=0.25), STEPS)
    block = nn.Sequential(linear, neurons)
    middle = {
        "two names": nn.Sequential(linear, neurons, linear, neurons),
        "a shared block": nn.Sequential(block, block),
        "two calls": Twice(block),
    }[kind]
    layers = nn.Sequential(nn.Flatten(), opening, middle, head)
    model = SpikingNetwork(Encode(Direct(), STEPS), layers).double()
    x = torch.rand((3, 2, 2, 2), generator=generator(1), dtype=torch.float64)
    whole = model.steps(x)
    first, state = stream(model, x, 2)
    second, state = stream(model, x, STEPS - 2, state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    assert len(state.membranes) == 3
    for rule in (HART(), BPTR()):
        assert torch.equal(seen_through(model, rule)(x), model(x))
    analog = torch.relu(x.flatten(1) / 0.2)
    for _ in range(2):
        analog = torch.relu(linear(analog) / 0.25)
    torch.testing.assert_close(seen_through(model, CBA())(x), head(analog))


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("curve", [ATan(2.0), Sigmoid(4.0), Gaussian()], ids=repr)
def test_a_smooth_network_has_its_true_gradient(curve, reset):
    model = network(rule=BPTT(curve, detach_reset=True), reset=reset)
    view, x = smoothed(model), images(2).requires_grad_()
    parameters = {name: p.detach().clone() for name, p in view.named_parameters()}
    names = ["layers.0.weight", "layers.2.learned.theta"]

    def run(x, *values):
        return torch.func.functional_call(
            view, parameters | dict(zip(names, values, strict=True)), (x,)
        )

    values = [parameters[name].requires_grad_() for name in names]
    assert torch.autograd.gradcheck(run, (x, *values))
    assert not torch.equal(view(x), model(x))
    assert model.layers[2].rule.detach_reset


def test_a_smooth_network_needs_a_curve_and_keeps_it():
    with pytest.raises(Refusal, match="view the model through BPTT first"):
        smoothed(seen_through(network(), BPTR()))
    with pytest.raises(Refusal, match="through the rule first, then smooth it"):
        seen_through(smoothed(network()), BPTT(ATan()))
    x = images()
    view = smoothed(seen_through(network(), BPTT(ATan())))
    assert torch.equal(view(x), smoothed(network(rule=BPTT(ATan())))(x))


def test_over_time_is_the_model_built_with_that_t():
    for encoder in ENCODERS:
        x = images(steps=3) if encoder.events else images()
        assert torch.equal(over_time(network(encoder), 3)(x), network(encoder, 3)(x))
    with pytest.raises(Refusal, match="T is 0"):
        over_time(network(), 0)


def test_drawing_from_gives_fresh_noise_and_leaves_the_model_frozen():
    model, x = network(Poisson()), images()
    frozen = model(x)
    view = drawing_from(model, generator(9))
    draws = [view(x) for _ in range(3)]
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(drawing_from(model, generator(9))(x), draws[0])
    assert torch.equal(model(x), frozen)
    rule = seen_through(view, BPTR())
    assert not torch.equal(rule(x), rule(x)), "a view of a drawing view draws too"


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("encoder", ENCODERS, ids=repr)
def test_a_stream_adds_up(encoder, reset):
    model, x = network(encoder, reset=reset), inputs(encoder)
    whole = model.steps(x)
    for cuts in ((1,) * STEPS, (2, 3, 1), (STEPS,)):
        state, parts = State(), []
        for steps in cuts:
            now = slice(state.elapsed, state.elapsed + steps)
            out, state = stream(model, x[:, now] if encoder.events else x, steps, state)
            assert out.shape == (steps, 3, 3)
            parts.append(out)
        torch.testing.assert_close(torch.cat(parts), whole)
        assert state.elapsed == STEPS
        assert set(state.membranes) == {"layers.2", "layers.4"}


def test_a_stream_of_frames_has_no_end_and_a_code_has_one():
    model = network(Frames())
    state = State()
    for seed in range(4):
        _, state = stream(model, images(2, seed, steps=5), 5, state)
    assert state.elapsed == 20
    with pytest.raises(Refusal, match="step 7 of a code of T = 6"):
        stream(network(Phase()), images(), 4, State(3))
    with pytest.raises(Refusal, match="a stream goes on by at least one"):
        stream(network(), images(), 0)


@pytest.mark.parametrize("encoder", [e for e in ENCODERS if not e.events], ids=repr)
def test_a_stream_carries_gradients_through_its_state(encoder):
    model, x = network(encoder), images()
    parts = x.clone().requires_grad_()
    first, state = stream(model, parts, 2)
    second, _ = stream(model, parts, STEPS - 2, state)
    mean = torch.cat([first, second]).mean(0)
    (slope,) = torch.autograd.grad(mean[:, 0].sum(), parts)
    torch.testing.assert_close(slope, gradient(model, x))


def test_a_view_keeps_the_mode_it_was_taken_in():
    assert not seen_through(network(), BPTT(Triangle())).training
    assert seen_through(network().train(), BPTT(Triangle())).training


def test_a_view_made_while_recording_is_not_recorded():
    model, x = network(), images()
    with recorded(model) as layers:
        view = seen_through(model, BPTR())
        view(x)
        assert all(len(layer.spikes) == 0 for layer in layers.values())
        model(x)
    view(x)
    assert all(len(layer.spikes) == len(x) for layer in layers.values())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in view.modules())


def test_a_pruned_model_can_be_viewed():
    model, x = network(), images()
    layer = next(m for m in model.modules() if isinstance(m, nn.Linear))
    prune.l1_unstructured(layer, "weight", 0.5)
    logits = model(x)
    view = seen_through(model, BPTR())
    assert torch.equal(view(x), logits)
    with torch.no_grad():
        layer.weight_orig.mul_(2)
    assert torch.equal(view(x), model(x))


def test_a_layer_alone_has_no_analog_view():
    with pytest.raises(Refusal, match=r"nn\.Sequential"):
        seen_through(Spiking(IF(), 2), CBA())


def named_twice() -> tuple[SpikingNetwork, list[nn.Linear]]:
    with isolated(0, "twice"):
        linears = [nn.Linear(72, 4), nn.Linear(4, 4), nn.Linear(4, 3)]
    shared = Spiking(LIF(tau=0.8, theta=0.3), STEPS)
    layers = nn.Sequential(nn.Flatten(), linears[0], shared, linears[1], shared, linears[2])
    return SpikingNetwork(Encode(Frames(), STEPS), layers).double().eval(), linears


def test_a_layer_under_two_names_is_streamed_under_both():
    model, _ = named_twice()
    x = images(steps=STEPS)
    first, state = stream(model, x[:, :2], 2)
    second, state = stream(model, x[:, 2:], STEPS - 2, state)
    torch.testing.assert_close(torch.cat([first, second]), model.steps(x))
    assert len(state.membranes) == 2


def test_a_layer_under_two_names_is_analog_under_both():
    model, (first, middle, last) = named_twice()
    x = images(steps=STEPS)
    rates = torch.relu(first(x.mean(1).flatten(1)) / 0.3)
    expected = last(torch.relu(middle(rates) / 0.3))
    torch.testing.assert_close(seen_through(model, CBA())(x), expected)
