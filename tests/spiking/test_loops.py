from __future__ import annotations

import pytest
import torch

from spikeproof.catalogue import KINDS
from spikeproof.seeding import generator
from spikeproof.spiking import Surrogate

_loops = pytest.importorskip("spikeproof.spiking._loops")
_vectors = pytest.importorskip("spikeproof.spiking._vectors")


@pytest.mark.parametrize("kind", KINDS[Surrogate])
def test_every_curve_of_the_catalogue_is_known_and_the_same(kind):
    curve = kind()
    v = torch.randn(1000, generator=generator(0, "curve")) * 2
    found = torch.empty_like(v)
    loop = _vectors.compiled(
        lambda n: n.store("y", 0, _loops.CURVES[kind](curve, n.load("x"))),
    )
    loop(1000, {"x": (v.data_ptr(), 0), "y": (found.data_ptr(), 0)}, {})
    torch.testing.assert_close(found, curve.slope(v), rtol=2e-6, atol=1e-7)


def test_one_loop_serves_all_that_differ_in_numbers_only():
    what = _loops.Pass(3, hard=True, started=False)
    assert _loops.forward(what) is _loops.forward(_loops.Pass(3, hard=True, started=False))
