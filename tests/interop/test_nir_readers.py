"""Our NIR files in the hands of others, step by step, and NIR's equations worked out by hand."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch

from spikeproof.ir import Conv, Flatten, Graph, Input, Linear, Neurons, Pool, Weights, write_nir
from spikeproof.runtime import trace
from spikeproof.seeding import isolated

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]  # theirs
STEPS, DT = 8, 1e-4


def sixteenths(rng, *shape):
    """Numbers of which sums have no rounding, so that order plays no part."""
    return (rng.integers(-16, 17, shape) / 16).astype(np.float32)


def network(kind, tau):
    rng = np.random.default_rng(7)
    if kind == "conv":
        front = (
            Input((2, 6, 6), STEPS, "frames"),
            Conv(0, Weights.of(sixteenths(rng, 4, 2, 3, 3)), sixteenths(rng, 4), padding=(1, 1)),
            Neurons(1, 1.0, tau),
            Pool(2, "avg", (2, 2), (2, 2)),
            Flatten(3),
        )
    else:
        front = (Input((36, 1, 1), STEPS, "frames"), Flatten(0))
    after = len(front)
    return Graph(
        (
            *front,
            Linear(after - 1, Weights.of(sixteenths(rng, 10, 36)), sixteenths(rng, 10)),
            Neurons(after, 1.0, tau),
            Linear(after + 1, Weights.of(sixteenths(rng, 3, 10)), sixteenths(rng, 3)),
        )
    )


def probe(graph):
    rng = np.random.default_rng(8)
    return (rng.integers(0, 17, (1, STEPS, *graph.input.shape)) / 16).astype(np.float32)


def read_by(peer, path):
    nir = pytest.importorskip("nir")
    with contextlib.redirect_stdout(io.StringIO()), isolated(0):
        if peer == "spikingjelly":
            room = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
            return room.import_from_nir(nir.read(path), dt=DT)
        if peer == "snntorch":
            return pytest.importorskip("snntorch.import_nir").import_from_nir(nir.read(path))
        return pytest.importorskip("norse.torch").from_nir(nir.read(path), dt=DT)


def answers(module, x):
    """The logits of every step; the state goes from step to step as these readers want it."""
    state, out = None, []
    with torch.no_grad():
        for t in range(STEPS):
            step = torch.from_numpy(x[:, t])
            given, state = module(step) if state is None else module(step, state)
            out.append(given.reshape(1, -1).numpy())
    return np.stack(out)


def by_the_equations(path, x):
    """NIR's differential equations in float64, neuron by neuron, of the file's arrays alone."""
    nir = pytest.importorskip("nir")
    read = nir.read(path)
    v, out = {}, []
    for t in range(STEPS):
        values = {
            "input": x[0, t].astype(np.float64).reshape(read.nodes["input"].input_type["input"])
        }
        for name in sorted(read.nodes, key=lambda n: int(n.split("_")[1]) if "_" in n else 0):
            if name in ("input", "output"):
                continue
            node = read.nodes[name]
            (given,) = (values[a] for a, b in read.edges if b == name)
            if isinstance(node, nir.Flatten):
                values[name] = given.reshape(-1)
            elif isinstance(node, nir.Affine):
                values[name] = node.weight.astype(np.float64) @ given + node.bias
            else:
                rest = np.zeros(given.shape)
                u, fired = v.get(name, rest).copy(), rest.copy()
                for i in np.ndindex(given.shape):
                    slope = float(node.r[i]) * given[i]
                    if isinstance(node, nir.LIF):
                        slope = (float(node.v_leak[i]) - u[i] + slope) / float(node.tau[i])
                    u[i] += DT * slope
                    if u[i] > float(node.v_threshold[i]):
                        fired[i], u[i] = 1, float(node.v_reset[i])
                v[name], values[name] = u, fired
        (last,) = (a for a, b in read.edges if b == "output")
        out.append(values[last][None])
    return np.stack(out)


SAME = [
    ("spikingjelly", "conv", 1.0),
    ("spikingjelly", "conv", 0.5),
    ("spikingjelly", "conv", 0.75),
    ("snntorch", "conv", 0.5),
    ("snntorch", "conv", 0.75),
    ("snntorch", "flat", 0.5),
    ("norse", "flat", 1.0),
]


@pytest.mark.parametrize(("peer", "kind", "tau"), SAME)
def test_others_have_the_same_spikes_step_by_step(tmp_path, peer, kind, tau):
    graph = network(kind, tau)
    write_nir(tmp_path / "net.nir", graph, dt=DT)
    x = probe(graph)
    want = trace(graph, x).maps
    assert 0 < want[-2].mean() < 1
    np.testing.assert_array_equal(answers(read_by(peer, tmp_path / "net.nir"), x), want[-1])


@pytest.mark.parametrize("tau", [0.5, 0.75, 1.0])
def test_by_nirs_equations_we_are_right(tmp_path, tau):
    graph = network("flat", tau)
    write_nir(tmp_path / "net.nir", graph, dt=DT)
    x = probe(graph)
    np.testing.assert_allclose(
        by_the_equations(tmp_path / "net.nir", x), trace(graph, x).maps[-1], atol=1e-5
    )


def test_norse_leaves_the_resistance_of_a_lif_out(tmp_path):
    graph = network("flat", 0.5)
    write_nir(tmp_path / "net.nir", graph, dt=DT)
    x = probe(graph)
    theirs = answers(read_by("norse", tmp_path / "net.nir"), x)
    assert np.abs(theirs - by_the_equations(tmp_path / "net.nir", x)).max() > 0.1


def test_snntorch_takes_no_if_with_a_resistance(tmp_path):
    pytest.importorskip("snntorch")
    write_nir(tmp_path / "net.nir", network("flat", 1.0), dt=DT)
    with pytest.raises(AssertionError, match="r != 1"):
        read_by("snntorch", tmp_path / "net.nir")
