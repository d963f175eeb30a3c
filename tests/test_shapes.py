from __future__ import annotations

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from spikeproof.shapes import Images, Labels, Logits


@jaxtyped(typechecker=beartype)
def pair(x: Images, y: Labels) -> Logits:
    return torch.zeros(len(x), 3)


def test_shapes_that_belong_together_pass_and_others_do_not():
    pair(torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(TypeCheckError):
        pair(torch.zeros(2, 1, 4, 4), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(TypeCheckError):
        pair(torch.zeros(2, 4, 4), torch.zeros(2, dtype=torch.int64))
