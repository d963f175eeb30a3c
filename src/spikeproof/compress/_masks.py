"""Masks: which weights are kept, as a value of its own and as the weights carry it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from spikeproof.compress._layers import Part, prunable
from spikeproof.errors import Refusal
from spikeproof.records import replace_file

TINY = 1e-12  # a kept weight of exactly 0 becomes this, so that `weight != 0` is the mask
KIND = "spikeproof masks 1"


@dataclass(frozen=True, eq=False)
class Masks:
    """Which weights are kept: a boolean tensor for each weight tensor, by parameter name."""

    kept: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, mask in self.kept.items():
            if mask.dtype != torch.bool:
                raise Refusal(
                    f"the mask of {name} is {mask.dtype}; masks are boolean; compare it with 0"
                )
        object.__setattr__(self, "kept", MappingProxyType(dict(self.kept)))

    @property
    def weights(self) -> int:
        """Weights kept."""
        return sum(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """Weights kept in every layer."""
        return {name: int(mask.sum()) for name, mask in self.kept.items()}

    @property
    def density(self) -> float:
        """Share of the weights that is kept."""
        return self.weights / sum(mask.numel() for mask in self.kept.values())

    @property
    def densities(self) -> dict[str, float]:
        """Share of the weights that is kept in every layer."""
        return {name: n / self.kept[name].numel() for name, n in self.counts.items()}

    def digest(self) -> str:
        """Returns a text that two masks share if and only if they keep the same weights."""
        seal = hashlib.sha256()
        for name, mask in sorted(self.kept.items()):
            seal.update(f"{name} {tuple(mask.shape)}\n".encode())
            seal.update(mask.cpu().contiguous().numpy().tobytes())
        return seal.hexdigest()

    def save(self, path: Path) -> None:
        """Writes the masks as a safetensors file."""
        plain = {name: mask.cpu().contiguous().clone() for name, mask in self.kept.items()}
        data = save(plain, {"kind": KIND})
        replace_file(path, lambda part: part.write_bytes(data))

    @classmethod
    def load(cls, path: Path) -> Masks:
        """Reads the masks of a file that ``save`` wrote."""
        remedy = "give a file that Masks.save wrote, unchanged"
        try:
            with safe_open(path, framework="pt") as file:
                kind = (file.metadata() or {}).get("kind")
                kept = {name: file.get_tensor(name) for name in file.offset_keys()}
        except (OSError, SafetensorError) as error:
            raise Refusal(
                f"{path} cannot be read ({error}); masks are whole files; {remedy}"
            ) from None
        if kind != KIND:
            raise Refusal(f"{path} is of kind {kind}; it must be '{KIND}'; {remedy}")
        return cls(kept)


def kept_count(weights: int, sparsity: float) -> int:
    """Returns how many of so many weights stay: all but ``int(sparsity * weights)`` (paper B).

    >>> kept_count(1000, 0.9), kept_count(9, 0.9)
    (100, 1)
    """
    return weights - int(sparsity * weights)


def masks_of(model: nn.Module, dense: Iterable[Part] = ()) -> Masks:
    """Returns the masks that the weights carry: what is not exactly 0 is kept."""
    return Masks({name: (w != 0).detach() for name, w in prunable(model, dense).items()})


def apply(model: nn.Module, masks: Masks) -> None:
    """Removes the weights that are not kept; those that are will not be exactly 0 (``TINY``)."""
    enforce(matched(model, masks), masks)


def matched(model: nn.Module, masks: Masks) -> dict[str, Tensor]:
    """Returns the weights that the masks are for."""
    weights = prunable(model)
    for name, mask in masks.kept.items():
        if name not in weights:
            raise Refusal(
                f"the masks have {name}, which {type(model).__name__} has not; masks fit the "
                "network that they were made for; make them anew"
            )
        if weights[name].shape != mask.shape:
            raise Refusal(
                f"the mask of {name} has shape {tuple(mask.shape)} and the weight "
                f"{tuple(weights[name].shape)}; masks fit the network that they were made for; "
                "make them anew"
            )
    return {name: weights[name] for name in masks.kept}


@torch.no_grad()
def enforce(weights: Mapping[str, Tensor], masks: Masks) -> None:
    """Sets removed weights to 0 and kept ones of 0 to ``TINY``."""
    for name, weight in weights.items():
        kept = masks.kept[name].to(weight.device)
        weight.masked_fill_(~kept, 0)
        weight.masked_fill_(kept & (weight == 0), TINY)
