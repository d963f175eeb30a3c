from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spikeproof.compress import lower
from spikeproof.errors import Refusal
from spikeproof.ir import (
    Add,
    Affine,
    Conv,
    Flatten,
    Graph,
    Input,
    Linear,
    Neurons,
    Pool,
    Weights,
    read_nir,
    write_nir,
)
from spikeproof.runtime import agreement, trace
from tests.runtime.networks import SIDE, made

nir = pytest.importorskip("nir")


def random_graph(seed):  # noqa: C901  every kind of node
    """A network of every node that NIR can say, with sums and norms in any place."""
    rng = np.random.default_rng(seed)

    def one_of(*options):
        return options[rng.integers(len(options))]

    def numbers(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    channels, side = int(rng.integers(1, 4)), int(rng.integers(4, 7))
    code = one_of("direct", "frames", "averaged", "phase", "rate", "poisson")
    noise = rng.random((3, channels, side, side)).astype(np.float32) if code == "poisson" else None
    nodes = [Input((channels, side, side), 3, code, (0.1,), (0.3,), 5, True, noise)]
    timed = code not in ("direct", "averaged")
    for _ in range(rng.integers(1, 7)):
        last = len(nodes) - 1
        match one_of("conv", "neurons", "pool", "affine", "add"):
            case "conv":
                weights = numbers(3, channels, 3, 3) * (rng.random((3, channels, 3, 3)) < 0.5)
                nodes.append(Conv(last, Weights.of(weights), numbers(3), padding=(1, 1)))
                channels = 3
            case "neurons":
                theta, tau = rng.uniform(0.3, 2), one_of(0.0, 0.3, 0.9, 1.0)
                nodes.append(Neurons(last, float(theta), tau))
                timed = True
            case "pool":
                nodes.append(Pool(last, "avg", (3, 3), (1, 1), (1, 1)))
            case "affine":
                nodes.append(Affine(last, numbers(channels), numbers(channels)))
            case "add":
                nodes.append(Affine(last, numbers(channels), numbers(channels)))
                scales = one_of((1.0, 1.0), (0.3, 1.0), (0.7, -2.0))
                left = one_of(last, last + 1)
                nodes.append(Add(left, last + 1, scales))
    nodes.append(Flatten(len(nodes) - 1))
    if one_of(True, False):
        wide = channels * side * side
        nodes.append(Affine(len(nodes) - 1, numbers(wide), numbers(wide)))
    wide = channels * side * side
    nodes.append(Linear(len(nodes) - 1, Weights.of(numbers(4, wide)), numbers(4)))
    if not timed:
        nodes.append(Neurons(len(nodes) - 1, 0.5, 0.5))
    return Graph(tuple(nodes), int(rng.integers(0, 1000)))


def values(thing):
    """All that a graph holds, as plain values."""
    if isinstance(thing, np.ndarray):
        return str(thing.dtype), thing.shape, thing.tobytes()
    if isinstance(thing, Graph | Weights) or hasattr(thing, "kind"):
        return type(thing), [values(getattr(thing, f.name)) for f in fields(thing)]
    return [values(one) for one in thing] if isinstance(thing, tuple) else thing


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), dt=st.sampled_from([1e-4, 1e-3, 0.1]))
def test_a_round_trip_is_the_identity(tmp_path_factory, seed, dt):
    graph = random_graph(seed)
    path = tmp_path_factory.mktemp("nir") / "net.nir"
    write_nir(path, graph, dt=dt)
    assert values(read_nir(path)) == values(graph)


@pytest.mark.parametrize("name", ["mlp", "cnn", "cnn-poisson", "cnn-frames", "wrn", "sew-avg"])
def test_the_graph_that_is_read_answers_as_the_network(tmp_path, name):
    net, x = made(name, 3)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight *= 2  # so that the last layers fire
        want = net(x).numpy()
    assert len(np.unique(want)) > 3
    write_nir(tmp_path / "net.nir", lower(net, (3, SIDE, SIDE)))
    read = read_nir(tmp_path / "net.nir")
    found = agreement(read, x.numpy(), trace(read, x.numpy()).logits, want)
    assert (found.samples, found.unexplained) == (3, 0)


def ours(tmp_path, tau=0.5, theta=1.0):
    rng = np.random.default_rng(3)
    graph = Graph(
        (
            Input((6, 1, 1), 5, "frames"),
            Flatten(0),
            Linear(1, Weights.of(rng.standard_normal((8, 6))), np.zeros(8, np.float32)),
            Neurons(2, theta, tau),
            Linear(3, Weights.of(rng.standard_normal((3, 8))), np.ones(3, np.float32)),
        )
    )
    write_nir(tmp_path / "net.nir", graph)
    return graph, nir.read(tmp_path / "net.nir")


def stripped(read):
    """The file as another tool would have written it."""
    for node in (read, *read.nodes.values()):
        node.metadata = {}
    return read


def test_without_our_metadata_it_has_the_same_spikes(tmp_path):
    for tau in (0.5, 0.75, 1.0):
        graph, read = ours(tmp_path, tau)
        nir.write(tmp_path / "other.nir", stripped(read))
        with pytest.raises(Refusal, match="how many steps"):
            read_nir(tmp_path / "other.nir")
        other = read_nir(tmp_path / "other.nir", steps=5)
        x = np.random.default_rng(4).random((6, 5, 6, 1, 1)).astype(np.float32)
        np.testing.assert_array_equal(trace(graph, x).logits, trace(other, x).logits)


def test_what_was_changed_in_the_arrays_counts_more_than_our_metadata(tmp_path):
    _, read = ours(tmp_path)
    read.nodes["neurons_3"].v_threshold[:] = 0.25
    nir.write(tmp_path / "other.nir", read)
    neurons = read_nir(tmp_path / "other.nir").nodes[3]
    assert neurons.theta == pytest.approx(0.25, rel=1e-6)


def test_currents_that_others_scale_are_scaled(tmp_path):
    """tau v' = v_leak - v + r I, at dt = 1 ms and tau = 4 ms, is u <- 3/4 u + (r I + v_leak)/4."""
    _, read = ours(tmp_path, theta=0.5)
    neurons = stripped(read).nodes["neurons_3"]
    neurons.tau[:], neurons.r[:], neurons.v_leak[:], neurons.v_threshold[:] = 4e-3, 2, 0.1, 0.5
    nir.write(tmp_path / "other.nir", read)
    graph = read_nir(tmp_path / "other.nir", steps=5, dt=1e-3)
    x = np.random.default_rng(5).random((4, 5, 6, 1, 1)).astype(np.float32)
    maps = trace(graph, x, np.float64).maps
    current = maps[2]
    v, fired = np.zeros_like(current[0]), []
    for step in current:
        v = v + 1e-3 / 4e-3 * (0.1 - v + 2 * step)
        fired.append(v > 0.5)
        v = np.where(fired[-1], 0, v)
    np.testing.assert_array_equal(maps[-2], np.stack(fired))
    assert np.stack(fired).any()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("v_reset", [0.5], "resets to another value"),
        ("v_threshold", np.arange(1, 9), "8 values of v_threshold"),
        ("tau", [1e-5], "smaller dt"),
    ],
)
def test_dynamics_that_are_not_ours_are_refused_by_name(tmp_path, name, value, why):
    _, read = ours(tmp_path)
    getattr(stripped(read).nodes["neurons_3"], name)[:] = value
    nir.write(tmp_path / "other.nir", read)
    with pytest.raises(Refusal, match=f"neurons_3.*{why}"):
        read_nir(tmp_path / "other.nir", steps=5)


def test_other_nodes_and_loops_are_refused_by_name(tmp_path):
    _, read = ours(tmp_path)
    read.nodes["late"] = nir.Delay(np.ones(8, np.float32))
    read.edges = [e for e in read.edges if e != ("neurons_3", "linear_4")]
    read.edges += [("neurons_3", "late"), ("late", "linear_4")]
    nir.write(tmp_path / "other.nir", read)
    with pytest.raises(Refusal, match="late is a Delay"):
        read_nir(tmp_path / "other.nir")
    _, read = ours(tmp_path)
    read.nodes["back"] = nir.Linear(np.eye(8, dtype=np.float32))
    read.edges += [("neurons_3", "back"), ("back", "neurons_3")]
    nir.write(tmp_path / "other.nir", read)
    with pytest.raises(Refusal, match="feeds itself"):
        read_nir(tmp_path / "other.nir")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", "8"),
        ("steps", 2.5),
        ("steps", 0),
        ("dt", "short"),
        ("dt", None),
        ("code", "morse"),
        ("code", ["frames"]),
        ("code", "poisson"),
        ("mean", 0.5),
        ("std", ["one"]),
        ("bits", "eight"),
        ("parameters", -1),
    ],
)
def test_damaged_metadata_cost_one_sentence(tmp_path, key, value):
    _, read = ours(tmp_path)
    told = json.loads(nir.read(tmp_path / "net.nir").metadata["spikeproof"])
    read.metadata = {"spikeproof": json.dumps({**told, key: value})}
    nir.write(tmp_path / "other.nir", read)
    with pytest.raises(Refusal) as refused:
        read_nir(tmp_path / "other.nir")
    assert str(refused.value).count(";") >= 1
    assert "\n" not in str(refused.value)


def test_files_that_are_no_nir_are_refused(tmp_path):
    ours(tmp_path)
    whole = (tmp_path / "net.nir").read_bytes()
    for content in (b"", b"no HDF5", whole[:100], whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / "bad.nir").write_bytes(content)
        with pytest.raises(Refusal, match="no graph of NIR"):
            read_nir(tmp_path / "bad.nir")
    with pytest.raises(FileNotFoundError):
        read_nir(tmp_path / "none.nir")
    with pytest.raises(IsADirectoryError):
        read_nir(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path):
    for name, weight in (
        ("linear_4", np.zeros((3, 7), np.float32)),
        ("linear_2", np.full((8, 6), np.nan, np.float32)),
        ("linear_2", np.zeros(8, np.float32)),
    ):
        _, read = ours(tmp_path)
        read.nodes[name].weight = weight
        nir.write(tmp_path / "other.nir", read)
        with pytest.raises(Refusal):
            read_nir(tmp_path / "other.nir")
