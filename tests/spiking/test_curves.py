from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from typing_extensions import override

from spikeproof.catalogue import KINDS
from spikeproof.spiking import ASSG, BPTR, BPTT, HART, PDSG, RGA, Surrogate, Triangle, _curves

CURVES = [member() for member in KINDS[Surrogate]]


def test_every_curve_of_the_catalogue_has_a_number_of_its_own():
    kinds = {_curves.curve(BPTT(curve))[0] for curve in CURVES}
    assert kinds == set(range(_curves.GIVEN))
    assert len(CURVES) == _curves.GIVEN


@pytest.mark.parametrize("rule", [BPTR(), RGA(), PDSG()], ids=lambda r: r.kind)
def test_rules_without_a_curve_have_their_slopes_given(rule):
    assert _curves.curve(rule)[0] == _curves.GIVEN


def test_what_a_user_changed_is_given():
    @dataclass(frozen=True)
    class Wider(Triangle):
        @override
        def slope(self, u):
            return super().slope(u / 2)

    class Louder(BPTT):
        @override
        def slopes(self, trace, memory):
            return 2 * super().slopes(trace, memory)

    for rule in (BPTT(Wider()), HART(Wider()), Louder()):
        assert _curves.curve(rule)[0] == _curves.GIVEN


def test_a_mean_takes_what_it_does_not_keep():
    rule = ASSG(beta_mean=0.75, beta_deviation=0.5)
    assert _curves.keeping(rule) == (0.75, 0.25, 0.5, 0.5)
    assert _curves.sharpening(rule) == (np.float32(rule.width), np.float32(rule.rho))
    assert _curves.keeping(BPTT()) == (0, 1, 0, 1)
