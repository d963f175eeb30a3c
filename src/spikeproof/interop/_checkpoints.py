"""Checkpoints of published code, read without running any code and mapped name by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spikeproof.errors import Refusal, nearest
from spikeproof.spiking import IF

# Where the first layer of a module of theirs stands in ours; both count within a Sequential.
STARTS: Mapping[str, Mapping[str, int]] = {
    "vgg11-layers": {"layer1": 0, "layer2": 4, "layer3": 11, "layer4": 21, "classifier": 27},
    "vgg11-features": {"features": 0, "classifier": 27},
    "vgg16-features": {"features": 0, "classifier": 44},
}
# Layers of a classifier where dropout stands between theirs, from its start in ours.
DROPOUT: Mapping[str, Mapping[int, int]] = {"vgg11-features": {1: 1, 2: 2, 4: 3, 5: 4, 7: 5}}
# Parts of a block of a wide residual network: ours, and theirs.
BLOCK: Mapping[str, str] = {
    "merge": "convex.comb",
    "enter.0": "bn1",
    "enter.1": "act1",
    "branch.0": "conv1",
    "branch.1": "bn2",
    "branch.2": "act2",
    "branch.3": "conv2",
    "shortcut": "convShortcut",
}
LAYOUTS = (*STARTS, "wrn-blocks", "wrn-features")
THRESHOLD = ("learned.theta", "v_th")  # ours, and theirs, of neurons that learn it
SCORES = "popup_scores"
LEAST = {THRESHOLD[0]: IF().floor, "running_var": 0.0}  # what a network of ours computes with
MOST_NAMED = 4
WRAPPED = "module."  # by DataParallel

Names = Mapping[str, str]  # of theirs: ours


def load_foreign(
    path: Path,
    layout: str,
    network: nn.Module,
    *,
    without: Sequence[str] = (),
    share: float | None = None,
) -> None:
    """Fills a network of ours from a checkpoint of others: all of it, or not at all.

    ``layout`` names the table of their names. Entries of the checkpoint that end in a word of
    ``without`` are left out; any other that does not fit is refused, and so is a weight of the
    network that the checkpoint does not have. A checkpoint with HYDRA's ``popup_scores`` keeps all
    weights of a network that uses the ``share`` with the largest scores: here the others become 0.
    """
    if layout not in LAYOUTS:
        raise Refusal(f"layout is {layout!r}; {nearest(layout, LAYOUTS)}")
    if isinstance(without, str):
        raise Refusal(f"without is {without!r}; it is a list of words; write [{without!r}]")
    own = network.state_dict()
    names = foreign_names(layout, list(own))
    found = {
        key: value
        for key, value in _masked(path, _tensors(path), share).items()
        if not any(key.endswith(word) for word in without)
    }
    missing, unexpected = sorted(set(names) - set(found)), sorted(set(found) - set(names))
    if missing or unexpected:
        raise Refusal(
            f"{path} does not fit the layout {layout}: missing {_some(missing)}, unexpected "
            f"{_some(unexpected)}; every name has its counterpart; take the architecture that it "
            "was made with, or name in `without` what shall be left out"
        )
    network.load_state_dict({o: _fitting(t, found[t], o, own[o]) for t, o in names.items()})


def _masked(path: Path, found: dict[str, Tensor], share: float | None) -> dict[str, Tensor]:
    """Returns the tensors as the forward pass of HYDRA uses them, without its scores."""
    scored = [key for key in found if key.endswith(SCORES)]
    if share is None and not scored:
        return found
    if share is None or not scored or not 0 < share <= 1:
        raise Refusal(
            f"{path} has {len(scored)} tables of scores and share is {share}; scores choose which "
            "share of the weights, above 0 and up to 1, is in use; say share = 0.1 for a tenth, "
            "and nothing where there are no scores"
        )
    for key in scored:
        scores, weight = found.pop(key), key.removesuffix(SCORES) + "weight"
        if weight not in found or found[weight].shape != scores.shape:
            raise Refusal(
                f"{key} has no {weight} of its shape; scores choose weights; take another file"
            )
        out = scores.abs().flatten().argsort()[: int((1 - share) * scores.numel())]
        found[weight] = found[weight].clone().flatten().index_fill(0, out, 0).view_as(scores)
    return found


def _fitting(theirs: str, value: Tensor, ours: str, wanted: Tensor) -> Tensor:
    if value.is_nested or value.is_meta:
        raise Refusal(f"{theirs} is no plain tensor; weights are numbers; save them as such")
    kinds = value.is_floating_point(), wanted.is_floating_point()
    if value.shape != wanted.shape or value.layout != wanted.layout or kinds[0] != kinds[1]:
        raise Refusal(
            f"{theirs} is {value.dtype} of shape {tuple(value.shape)} and {ours} {wanted.dtype} of "
            f"{tuple(wanted.shape)}; they must be equal; build the network with its sizes"
        )
    if not torch.isfinite(value.to(wanted.dtype)).all():
        raise Refusal(f"{theirs} has NaN or infinity; weights are finite; take another file")
    for ending, least in LEAST.items():
        if ours.endswith(ending) and value.numel() and value.min() < least:
            raise Refusal(
                f"{theirs} is {value.min().item():g}; {ending} is {least} or more, and would be "
                "another network's if it were raised to that; take another file"
            )
    return value


def foreign_names(layout: str, own: Sequence[str]) -> Names:
    """Returns the names that a checkpoint of a layout must have, and what they are in ours."""
    blocks = [int(name.split(".")[1]) for name in own if name.endswith(".merge")]
    if bool(blocks) != layout.startswith("wrn"):
        kind = "has" if blocks else "has no"
        raise Refusal(
            f"the network {kind} residual blocks; the layout {layout} is of another; "
            f"choose one of: {', '.join(LAYOUTS)}"
        )
    if layout in STARTS:
        theirs: Callable[[int, str], str] = _sequential(layout)
    else:
        theirs = _wide(layout, sorted(blocks))
    names: dict[str, str] = {}
    for name in own:
        if not re.match(r"layers\.\d+\.", name):
            raise Refusal(
                f"the network has {name}; published weights go into networks of spikeproof.models; "
                "build one"
            )
        _, place, rest = name.split(".", 2)
        if rest.endswith(THRESHOLD[0]):
            rest = rest.removesuffix(THRESHOLD[0]) + THRESHOLD[1]
        names[theirs(int(place), rest)] = name
    return names


def _sequential(layout: str) -> Callable[[int, str], str]:
    starts = STARTS[layout]
    moved = {ours: theirs for theirs, ours in DROPOUT.get(layout, {}).items()}

    def theirs(place: int, rest: str) -> str:
        module = max((m for m in starts if starts[m] <= place), key=starts.__getitem__)
        index = place - starts[module]
        if module == "classifier":
            index = moved.get(index, index)
        return f"{module}.{index}.{rest}"

    return theirs


def _wide(layout: str, blocks: list[int]) -> Callable[[int, str], str]:
    size, last = len(blocks) // 3, blocks[-1]

    def theirs(place: int, rest: str) -> str:
        part = next((p for p in BLOCK if place in blocks and (rest + ".").startswith(p + ".")), "")
        inner = BLOCK[part] + rest.removeprefix(part) if part else rest
        if layout == "wrn-features":
            linear = place > last + 2
            return f"classifier.1.{inner}" if linear else f"features.{place}.{inner}"
        if place in blocks:
            group, block = divmod(blocks.index(place), size)
            return f"block{group + 1}.{block}.{inner}"
        before = {0: "conv1", last + 1: "bn1", last + 2: "act"}
        return f"{before.get(place, 'fc')}.{inner}"

    return theirs


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:  # a damaged file raises what its reader likes
        if isinstance(error, OSError | MemoryError):
            raise
        raise Refusal(
            f"{path} cannot be read as weights alone ({type(error).__name__}); a checkpoint that "
            "holds objects could run code; save its state_dict() by torch.save and take that"
        ) from None
    for key in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise Refusal(
            f"{path} holds no table of tensors; a checkpoint is a state_dict, alone or under "
            "'state_dict'; save it so"
        )
    names = [str(key) for key in loaded]
    wrapped = all(name.startswith(WRAPPED) for name in names)
    return {
        name.removeprefix(WRAPPED if wrapped else ""): value
        for name, value in zip(names, loaded.values(), strict=True)
    }


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (", ".join(names[:MOST_NAMED]) or "nothing") + more
