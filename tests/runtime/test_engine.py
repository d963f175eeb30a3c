from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from spikeproof.compress import lower
from spikeproof.errors import Refusal
from spikeproof.ir import Conv, Flatten, Graph, Input, Linear, Neurons, Weights, pack
from spikeproof.models import CNN, Setting, build
from spikeproof.runtime import Activity, Engine, State, trace
from spikeproof.spiking import Averaged
from tests.runtime.networks import NETWORKS, SIDE, made

ORDERS = ("weights", "events", "auto")


CASES = [(name, 8) for name in NETWORKS] + [("cnn", n) for n in (1, 2, 4, 10, 16)]


@pytest.mark.parametrize(("name", "steps"), CASES)
def test_logits_are_those_of_torch_in_every_execution(name, steps):
    net, x = made(name, steps, reset="soft" if steps == 10 else "hard")
    with torch.no_grad():
        wanted = net.steps(x).numpy()
    graph = lower(net, (3, SIDE, SIDE))
    first, *others = (Engine(graph, order, threads=2).steps(x.numpy()) for order in ORDERS)
    np.testing.assert_allclose(first, wanted, rtol=0, atol=1e-5)
    for other in others:
        assert np.array_equal(other, first)


@pytest.mark.parametrize("order", ORDERS)
def test_spikes_are_those_of_the_oracle(order):
    net, x = made("wrn", 6)
    graph = lower(net, (3, SIDE, SIDE))
    activity, maps = Activity(), trace(graph, x.numpy()).maps
    Engine(graph, order)(x.numpy(), activity)
    assert activity.samples == 3
    for place, spikes in activity.spikes.items():
        assert spikes == maps[place].sum()
    for place, events in activity.events.items():
        source = maps[graph.nodes[place].sources[0]]
        assert np.array_equal(events, (source != 0).sum((0, 1)))
    assert sum(activity.spikes.values()) > 1000
    went = set(activity.by_events.values())
    assert went == {"weights": {0}, "events": {3}}.get(order, went)


def test_the_answer_does_not_depend_on_batch_order_or_threads():
    net, _ = made("cnn", 8)
    x = torch.rand((9, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)).numpy()
    graph = lower(net, (3, SIDE, SIDE))
    whole = Engine(graph, threads=3)(x)
    engine = Engine(graph, threads=1)
    assert np.array_equal(np.concatenate([engine(x[i : i + 1]) for i in range(9)]), whole)
    assert np.array_equal(engine(x[::-1].copy())[::-1], whole)


@pytest.mark.parametrize("name", ["mlp", "cnn-frames", "cnn-max-phase", "wrn", "sew"])
def test_parts_of_a_stream_add_up_to_the_whole(name):
    net, x = made(name, 8, reset="soft" if name == "wrn" else "hard")
    x, engine = x.numpy(), Engine(lower(net, (3, SIDE, SIDE)))
    parts, state, first = [], None, 0
    for steps in (1, 5, 2):
        part = x[:, first : first + steps] if x.ndim == 5 else x
        logits, state = engine.stream(part, steps, state)
        parts.append(logits)
        first += steps
    assert state.elapsed == 8
    assert np.array_equal(np.concatenate(parts), engine.steps(x))


def test_a_state_can_be_taken_up_twice():
    net, x = made("cnn", 4)
    engine = Engine(lower(net, (3, SIDE, SIDE)))
    _, state = engine.stream(x.numpy(), 2)
    kept = {place: values.copy() for place, values in state.membranes.items()}
    once, _ = engine.stream(x.numpy(), 2, state)
    twice, _ = engine.stream(x.numpy(), 2, state)
    assert np.array_equal(once, twice)
    assert any(values.any() for values in kept.values())
    assert all(np.array_equal(kept[place], state.membranes[place]) for place in kept)


def test_a_call_leaves_nothing_behind():
    net, x = made("sew", 4)
    engine = Engine(lower(net, (3, SIDE, SIDE)), threads=1)
    first = engine(x.numpy())
    engine(np.ones_like(x.numpy()))
    engine.stream(x.numpy(), 3)
    assert np.array_equal(engine(x.numpy()), first)


def conv_net(rng, side, channels, kernel, stride, pad, steps):
    """Frames, a first convolution of any geometry, neurons, a second one, logits."""
    weights = rng.normal(0, 1, (4, channels, *kernel)).astype(np.float32)
    weights *= rng.random(weights.shape) < 0.6
    high, wide = (
        (s + 2 * p - k) // n + 1 for s, p, k, n in zip(side, pad, kernel, stride, strict=True)
    )
    dense = rng.normal(0, 1, (3, 4 * high * wide)).astype(np.float32)
    return Graph((
        Input((channels, *side), steps, "frames"),
        Conv(0, Weights.of(weights), rng.normal(0, 0.1, 4).astype(np.float32), stride, pad),
        Neurons(1, 0.8, 0.6),
        Flatten(2),
        Linear(3, Weights.of(dense), np.zeros(3, np.float32)),
    ))  # fmt: skip


@pytest.mark.parametrize("seed", range(16))
def test_any_geometry_is_right(seed):
    rng = np.random.default_rng(seed)
    kernel = tuple(int(k) for k in rng.integers(1, 6, 2))
    stride = tuple(int(s) for s in rng.integers(1, 4, 2))
    pad = tuple(int(rng.integers(0, k)) for k in kernel)
    side = tuple(int(s) for s in rng.integers(5, 20, 2))
    steps = int(rng.integers(1, 18))
    graph = conv_net(rng, side, 2, kernel, stride, pad, steps)
    x = (rng.random((2, steps, 2, *side)) < 0.3).astype(np.float32)
    wanted = trace(graph, x).maps[-1]
    first, *others = (Engine(graph, order).steps(x) for order in ORDERS)
    np.testing.assert_allclose(first, wanted, rtol=1e-5, atol=1e-5)
    for other in others:
        assert np.array_equal(other, first)


def test_flat_maps_go_through_neurons_and_sums_too():
    rng = np.random.default_rng(0)

    def dense(source, outputs, inputs):
        weights = rng.normal(0, 1, (outputs, inputs)).astype(np.float32)
        return Linear(source, Weights.of(weights), np.zeros(outputs, np.float32))

    graph = Graph((
        Input((2, 3, 4), 5, "frames"), Flatten(0), Neurons(1, 0.5, 0.5), dense(2, 24, 24),
        Neurons(3, 1.0, 0.5), dense(4, 6, 24), Flatten(5),
    ))  # fmt: skip
    x = rng.random((2, 5, 2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(Engine(graph).steps(x), trace(graph, x).maps[-1], atol=1e-5)


def test_what_cannot_be_run_is_refused():
    net, x = made("cnn", 4)
    graph = lower(net, (3, SIDE, SIDE))
    x = x.numpy()
    with pytest.raises(Refusal, match="execution"):
        Engine(graph, "fast")
    with pytest.raises(Refusal, match="threads"):
        Engine(graph, threads=0)
    with pytest.raises(Refusal, match="empty"):
        Engine(graph)(x[:0])
    with pytest.raises(Refusal, match="form"):
        Engine(graph)(x[:, :1])
    with pytest.raises(Refusal, match="state of node"):
        Engine(graph).stream(x, 1, State(1, {2: np.zeros((7, 8, 16, 16), np.float32)}))
    averaged = build(CNN((4,), 8), Setting(2, 6, T=1, encoder=Averaged(), neuron=None)).eval()
    with pytest.raises(Refusal, match="relu"):
        lower(averaged, (2, 6, 6))


def test_the_runtime_runs_without_torch(tmp_path):
    net, x = made("cnn", 4)
    pack(tmp_path / "net.spkp", lower(net, (3, SIDE, SIDE)))
    np.save(tmp_path / "x.npy", x.numpy())
    script = (
        "import sys, numpy as np\n"
        "sys.modules['torch'] = None\n"
        "from pathlib import Path\n"
        "from spikeproof.ir import unpack\n"
        "from spikeproof.runtime import Engine\n"
        "print(Engine(unpack(Path('net.spkp')))(np.load('x.npy')).argmax(1).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        assert done.stdout.strip() == str(net(x).argmax(1).tolist())
