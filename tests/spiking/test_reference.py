from __future__ import annotations

import numpy as np
import torch

from spikeproof.seeding import generator
from spikeproof.spiking import BPTT, integrate_and_fire, kernel
from tests.oracles import lif as oracle


def test_the_reference_is_the_oracle_in_both_types_whatever_runs_by_itself():
    source = generator(0, "reference")
    for dtype in (torch.float32, torch.float64):
        current = (torch.randn((9, 3, 4), generator=source) + 0.3).to(dtype)
        for hard in (True, False):
            spikes, last, _ = oracle.layer(current.numpy(), 0.8, 0.7, hard=hard)
            with kernel("reference"):
                ours, after = integrate_and_fire(current, None, 0.8, 0.7, hard=hard, rule=BPTT())
            np.testing.assert_array_equal(ours.numpy(), spikes)
            np.testing.assert_array_equal(after.numpy(), last)
