from __future__ import annotations

import pytest

from spikeproof.energy import Layer, Operations, gain
from spikeproof.errors import Refusal


def counted(analog, spikes, graded):
    rows = (("analog", analog), ("spikes", spikes), ("graded", graded))
    return Operations(
        tuple(Layer(kind, kind, 1.0, float(n), float(n), float(n), 1, 1) for kind, n in rows),
        100.0,
        40.0,
    )


def test_what_is_counted_where():
    found = counted(5, 7, 11)
    assert (found.analog, found.synaptic, found.multiplied) == (5, 7, 16)
    assert found.behind_neurons == 18


def test_the_gain_leaves_the_analog_layer_out():
    assert gain(counted(5, 60, 30), counted(500, 20, 10)) == 3
    with pytest.raises(Refusal, match="ratio"):
        gain(counted(5, 60, 30), counted(500, 0, 0))
