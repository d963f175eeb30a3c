"""The words for shapes: time comes first, batch second; inside a network both are one axis."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

Train = Float[Tensor, "T B *F"]
Folded = Float[Tensor, "TB *F"]
Membrane = Float[Tensor, "B *F"]
Logits = Float[Tensor, "B K"]
