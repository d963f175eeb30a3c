"""Batch norms under two forward passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Again = Callable[[], AbstractContextManager[None]]


@contextmanager
def statistics_of_first_pass(model: nn.Module) -> Iterator[Again]:
    """Lets a later pass be normed by the batch statistics of the pass made in this block.

    Two passes that are compared must not differ by their norms. Each later pass is made inside a
    ``with again():`` of its own; it takes those statistics as constants and leaves the running
    ones alone. Norms in eval mode stay as they are.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    seen: dict[_BatchNorm, list[tuple[Tensor, Tensor]]] = {norm: [] for norm in norms}
    recording = True

    def note(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        if recording and norm.training and isinstance(norm, _BatchNorm):
            x = given[0].detach()
            x = x.to(torch.promote_types(x.dtype, torch.float32))
            over = [dim for dim in range(x.dim()) if dim != 1]
            var, mean = torch.var_mean(x, over, correction=0)
            seen[norm].append((mean, var))

    @contextmanager
    def again() -> Iterator[None]:
        nonlocal recording
        recording = False
        kept = {norm: (norm.running_mean, norm.running_var) for norm in norms}
        left = {norm: iter(pairs) for norm, pairs in seen.items()}

        def take(norm: nn.Module, _: tuple[Tensor, ...]) -> None:
            if isinstance(norm, _BatchNorm):
                norm.running_mean, norm.running_var = next(left[norm])

        vars(take)["statistics_only"] = True
        with ExitStack() as hooks:
            for norm in norms:
                hooks.callback(norm.register_forward_pre_hook(take).remove)
                norm.eval()
            try:
                yield
            finally:
                for norm, (mean, var) in kept.items():
                    norm.running_mean, norm.running_var = mean, var
                    norm.train()

    vars(note)["statistics_only"] = True  # for `recomputed`
    with ExitStack() as hooks:
        for norm in norms:
            hooks.callback(norm.register_forward_pre_hook(note).remove)
        yield again
