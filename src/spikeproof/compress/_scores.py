"""Learned scores: HYDRA (Sehwag et al., 2020, https://arxiv.org/abs/2002.10509)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from typing_extensions import override

from spikeproof.compress._holding import Hold
from spikeproof.compress._layers import Part, prunable
from spikeproof.compress._masks import Masks, apply, kept_count
from spikeproof.compress._patterns import Pattern, Unstructured
from spikeproof.compress._pruning import Pruning, check_sparsity
from spikeproof.errors import Refusal


class Scores(nn.Module):
    """Gives a layer the weight ``w * mask``, its mask being chosen by a score for every weight.

    The mask's gradient goes straight through to the size of the scores: with g at the weight in
    force, ``ds = g * w * sign(s)`` for every weight, chosen or not.
    """

    def __init__(self, weight: Tensor, keep: int, pattern: Pattern) -> None:
        super().__init__()
        self.keep, self.pattern = keep, pattern
        self.scores = nn.Parameter(first_scores(weight))
        self._seen: tuple[object, Tensor] | None = None

    def share(self) -> Tensor | None:
        """The share of weights to keep, where that is learned too."""
        return None

    def count(self) -> int:
        """Returns how many weights the mask in force keeps."""
        return self.keep

    def mask(self) -> Tensor:
        """Returns the mask in force."""
        key = (self.scores._version, self.scores.device, self.count())
        if self._seen is None or self._seen[0] != key:  # sorted once a step, not once a pass
            self._seen = key, self.pattern.pick(self.scores.abs(), self.count())
        return self._seen[1]

    @override
    def forward(self, weight: Tensor) -> Tensor:
        return weight * _Straight.apply(self.scores.abs(), self.share(), self.mask())


class _Straight(torch.autograd.Function):
    """The mask; backward, scores get its gradient and the share kept gets the sum of it."""

    @staticmethod
    def forward(ctx: Any, size: Tensor, share: Tensor | None, mask: Tensor) -> Tensor:
        ctx.shared = share is not None
        return mask.to(size.dtype)

    @staticmethod
    def backward(ctx: Any, d_mask: Tensor) -> tuple[Tensor, Tensor | None, None]:
        return d_mask, d_mask.sum() if ctx.shared else None, None


def first_scores(weight: Tensor) -> Tensor:
    """Returns ``sqrt(6 / fan_in) w / max |w|``: at first, scores choose by magnitude."""
    fan_in = weight[0].numel()
    largest = weight.detach().abs().amax().clamp_min(torch.finfo(weight.dtype).tiny)
    return math.sqrt(6 / fan_in) * weight.detach() / largest


class Search(Pruning):
    """Pruning by scores, which are learned under any objective while the weights stay.

    Between ``begin`` and ``end`` the network's layers hold scores; norms, merges and thresholds
    learn with them. ``masks`` says what the scores choose.
    """

    @abstractmethod
    def scored(self, name: str, weight: Tensor, keep: int) -> Scores:
        """Returns the scores of one layer, which should keep so many weights."""

    @override
    def masks(self, model: nn.Module, seed: int = 0) -> Masks:
        found = dict(scores_of(model))
        if not found:
            weights = prunable(model, self.dense)
            kept = {n: kept_count(w.numel(), self.sparsity) for n, w in weights.items()}
            found = {n: self.scored(n, w, kept[n]) for n, w in weights.items()}
        with torch.no_grad():
            return self.chosen(found)

    def chosen(self, scores: dict[str, Scores]) -> Masks:
        """Returns what the scores choose."""
        return Masks({name: layer.mask() for name, layer in scores.items()})

    @override
    def begin(self, model: nn.Module, seed: int = 0) -> Masks:
        if any(True for _ in scores_of(model)):
            raise Refusal(
                f"{type(model).__name__} holds scores already; a search begins on a plain "
                "network; end the other search first"
            )
        for name, weight in prunable(model, self.dense).items():
            layer = model.get_submodule(name.removesuffix(".weight"))
            scores = self.scored(name, weight, kept_count(weight.numel(), self.sparsity))
            parametrize.register_parametrization(layer, "weight", scores)
            _learn(layer, learn=False)
        return self.masks(model, seed)

    @override
    def hold(self, steps: int, epochs: int, seed: int = 0) -> Hold:
        return _let_be

    @override
    def end(self, model: nn.Module) -> Masks:
        masks = self.masks(model)
        for name, _ in list(scores_of(model)):
            layer = model.get_submodule(name.removesuffix(".weight"))
            _make_plain(layer)
            _learn(layer, learn=True)
        apply(model, masks)
        return masks


def scores_of(model: nn.Module) -> Iterator[tuple[str, Scores]]:
    """Returns the layers' scores by the names of the weights."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            for part in module.parametrizations.weight:
                if isinstance(part, Scores):
                    yield f"{name}.weight", part


def _let_be(_: nn.Module, __: torch.optim.Optimizer, ___: int) -> None:
    """Holds nothing: the mask is part of the layer while its scores are learned."""


def _make_plain(layer: nn.Module) -> None:
    # Not by remove_parametrizations: it takes the weight from the class, which copies share.
    holder = cast("nn.Module", layer.parametrizations)
    weight = holder.get_parameter("weight.original")
    layer.__class__ = type(layer).__bases__[0]
    del layer.parametrizations
    others = dict(layer._parameters)
    layer._parameters.clear()
    layer._parameters.update({"weight": weight, **others})


def _learn(layer: nn.Module, *, learn: bool) -> None:
    for name, parameter in layer.named_parameters():
        if ".0." not in name:  # the scores themselves
            parameter.requires_grad_(learn)


@dataclass(frozen=True)
class Hydra(Search):
    """Learned scores under the share of every layer (paper B's uniform masks)."""

    sparsity: float = 0.9
    pattern: Pattern = field(default_factory=Unstructured)
    dense: tuple[Part, ...] = ()
    kind: Literal["hydra"] = "hydra"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        self.pattern.check(self.sparsity, "layer")

    @override
    def scored(self, name: str, weight: Tensor, keep: int) -> Scores:
        return Scores(weight, keep, self.pattern)
