"""The words for shapes: time comes first, batch second; inside a network both are one axis."""

from __future__ import annotations

from jaxtyping import Float, Int, UInt8
from torch import Tensor

Images = Float[Tensor, "B C H W"]
Frames = Float[Tensor, "B T C H W"]
Train = Float[Tensor, "T B *F"]
Folded = Float[Tensor, "TB *F"]
Membrane = Float[Tensor, "B *F"]
Logits = Float[Tensor, "B K"]
Labels = Int[Tensor, "B"]
Bytes = UInt8[Tensor, "N *F"]
