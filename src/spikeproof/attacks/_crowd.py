"""A model seen through several gradient rules at once, each by its own rows of the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.attacks._victim import Victim
from spikeproof.errors import Refusal
from spikeproof.spiking import Rule, Spiking, forget, keep_samples, seen_through


def shareable(model: nn.Module) -> bool:
    """Returns whether neurons do what they are known to do, so that rows can follow many rules."""
    neurons = (module for module in model.modules() if isinstance(module, Spiking))
    return all(
        type(layer) is Spiking and not layer._forward_hooks and not layer._forward_pre_hooks
        for layer in neurons
    )


class Crowd(Victim):
    """A victim whose batch comes in parts, one after the other, and each part has its own rule.

    All layers but the neurons see one batch, so what a call costs beside arithmetic is paid once.
    ``rules`` says the rule of each part and ``sizes`` its rows.
    """

    def __init__(
        self, model: nn.Module, rules: Sequence[Rule | None], sizes: Sequence[int]
    ) -> None:
        super().__init__(model, rules[0] if len(rules) == 1 else None)
        self._sizes = list(sizes)
        self._views = [self.source]
        if len(rules) > 1:
            self._views = [seen_through(model, rule) if rule else model for rule in rules]
            self.source = self._parted(next(rule for rule in rules if rule))

    @override
    def forget(self) -> None:
        for view in self._views:
            forget(view)

    @override
    def keep(self, rows: Tensor) -> None:
        low = 0
        for part, view in enumerate(self._views):
            high = low + self._sizes[part]
            mine = rows[(rows >= low) & (rows < high)] - low
            keep_samples(view, mine)
            low, self._sizes[part] = high, len(mine)

    def _parted(self, any_rule: Rule) -> nn.Module:
        frame = seen_through(self.model, any_rule)  # all its neurons are replaced
        made: dict[int, nn.Module] = {}
        for name, layer in list(frame.named_modules(remove_duplicate=False)):
            if not isinstance(layer, Spiking):
                continue
            if not name:
                raise Refusal(
                    "the model is a single layer of neurons; rules share a batch inside a network; "
                    "put it into an nn.Sequential"
                )
            if id(layer) not in made:
                own = [view.get_submodule(name) for view in self._views]
                made[id(layer)] = _Parted(own, self._sizes)
            frame.set_submodule(name, made[id(layer)])
        return frame


class _Parted(nn.Module):
    """A layer of neurons whose rows follow one rule after the other."""

    def __init__(self, layers: Sequence[nn.Module], sizes: list[int]) -> None:
        super().__init__()
        self.layers, self.sizes = nn.ModuleList(layers), sizes

    @override
    def forward(self, x: Tensor) -> Tensor:
        layers = [layer for layer in self.layers if isinstance(layer, Spiking)]
        parts = layers[0].unfolded(x).split(self.sizes, 1)
        pairs = zip(layers, parts, strict=True)
        trains = [layer.run(part)[0] for layer, part in pairs if part.shape[1]]
        return torch.cat(trains, 1).flatten(0, 1)
