from __future__ import annotations

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from spikeproof.shapes import Logits, Membrane, Train


@jaxtyped(typechecker=beartype)
def pair(x: Train, y: Membrane) -> Logits:
    return torch.zeros(x.shape[1], 3)


def test_shapes_that_belong_together_pass_and_others_do_not():
    pair(torch.zeros(5, 2, 4, 4), torch.zeros(2, 4, 4))
    with pytest.raises(TypeCheckError):
        pair(torch.zeros(5, 2, 4, 4), torch.zeros(3, 4, 4))
    with pytest.raises(TypeCheckError):
        pair(torch.zeros(5, 2, 4, 4), torch.zeros(2, 4))
    with pytest.raises(TypeCheckError):
        pair(torch.zeros(5, 2, 4, 4, dtype=torch.int64), torch.zeros(2, 4, 4))
