from __future__ import annotations

import builtins

import numpy as np
import pytest

from spikeproof.errors import Refusal
from spikeproof.ir import Conv, Flatten, Graph, Input, Linear, Neurons, Pool, Weights, write_nir


def graph(theta=1.0, tau=0.5, *, hard=True, how="avg", size=(2, 2)):
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    return Graph(
        (
            Input((1, 4, 4), 3),
            Conv(0, Weights.of(drawn(2, 1, 3, 3)), drawn(2), padding=(1, 1)),
            Neurons(1, theta, tau, hard),
            Pool(2, how, size, size),
            Flatten(3),
            Linear(4, Weights.of(drawn(5, 32 // (size[0] * size[1]))), drawn(5)),
        )
    )


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    usual = builtins.__import__

    def absent(name, *args):
        if name == "nir":
            raise ImportError("absent")
        return usual(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(Refusal, match=r"pip install 'spikeproof\[exchange\]'"):
        write_nir(tmp_path / "net.nir", graph())


def test_what_nir_cannot_say_is_refused_by_name(tmp_path):
    pytest.importorskip("nir")
    for made, what in (
        (graph(hard=False), "node 2 subtract their threshold"),
        (graph(how="max"), "node 3 pools maxima"),
    ):
        with pytest.raises(Refusal, match=what):
            write_nir(tmp_path / "net.nir", made)
    assert not list(tmp_path.iterdir())
    with pytest.raises(Refusal, match="dt is 0"):
        write_nir(tmp_path / "net.nir", graph(), dt=0)


@pytest.mark.parametrize("dt", [1e-4, 1e-3, 0.25])
@pytest.mark.parametrize("tau", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_a_step_of_euler_in_nirs_equations_is_our_step(tmp_path, tau, dt):
    nir = pytest.importorskip("nir")
    write_nir(tmp_path / "net.nir", graph(0.7, tau), dt=dt)
    read = nir.read(tmp_path / "net.nir")
    neurons, v, current = read.nodes["neurons_2"], 0.3, 0.2
    slope = float(neurons.r.flat[0]) * current
    if tau < 1:
        assert isinstance(neurons, nir.LIF)
        slope = (float(neurons.v_leak.flat[0]) - v + slope) / float(neurons.tau.flat[0])
    else:
        assert isinstance(neurons, nir.IF)
    assert v + dt * slope == pytest.approx(tau * v + current, rel=1e-6)
    assert not neurons.v_reset.any()


def test_above_the_written_threshold_is_from_theta_on(tmp_path):
    nir = pytest.importorskip("nir")
    for theta in np.random.default_rng(1).uniform(1e-3, 10, 20):
        write_nir(tmp_path / "net.nir", graph(float(theta)))
        (threshold,) = np.unique(nir.read(tmp_path / "net.nir").nodes["neurons_2"].v_threshold)
        one = np.float32(theta)
        u = np.array([np.nextafter(one, np.float32(0)), one, np.nextafter(one, np.float32(99))])
        assert (u > threshold).tolist() == (u >= one).tolist() == [False, True, True]


def test_the_shapes_of_every_node_are_told(tmp_path):
    nir = pytest.importorskip("nir")
    write_nir(tmp_path / "net.nir", graph())
    read = nir.read(tmp_path / "net.nir")
    assert read.check_types()
    assert read.output_type["output"].tolist() == [5]
