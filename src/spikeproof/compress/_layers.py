"""Which weights may be removed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeproof.errors import Refusal

Part = Literal["first", "head", "shortcuts"]

SHORTCUTS = {"shortcut", "downsample"}  # what residual networks call their projections


def prunable(model: nn.Module, dense: Iterable[Part] = ()) -> dict[str, Tensor]:
    """Returns the weights that may be removed, by the names of their parameters.

    They are those of all convolutions and dense layers, the first and the last of them and
    shortcuts too (paper B); parts named in ``dense`` are left out. Biases and norms never count.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    names, left_out = list(layers), set(dense)
    ends = {*names[:1]} if "first" in left_out else set()
    ends |= {*names[-1:]} if "head" in left_out else set()
    kept = {
        f"{name}.weight": _weight(name, layer)
        for name, layer in layers.items()
        if name not in ends and not ("shortcuts" in left_out and SHORTCUTS & {*name.split(".")})
    }
    if not kept:
        raise Refusal(
            f"{type(model).__name__} has no convolution or dense layer whose weights may be "
            "removed; pruning needs one; put it into a network, or name fewer parts in dense"
        )
    return kept


def _weight(name: str, layer: nn.Conv2d | nn.Linear) -> Tensor:
    if not parametrize.is_parametrized(layer, "weight"):
        return layer.weight
    stored = cast("nn.ModuleDict", layer.parametrizations)["weight"]
    if not all(hasattr(part, "scores") for part in stored.children()):
        raise Refusal(
            f"the weight of {name} is computed from others; a mask belongs to a plain one; remove "
            "that parametrization first"
        )
    return stored.get_parameter("original")
