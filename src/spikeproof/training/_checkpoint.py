"""Weights and states on disk: arrays with a seal, written whole, checked before use, no code."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from spikeproof.errors import Refusal, short
from spikeproof.records import replace_file, write_json

STATE = "state.safetensors"
MODEL = "model.safetensors"
SPEC = "spec.json"
SEAL = "spikeproof"


def save_model(folder: Path, model: nn.Module, spec: Mapping[str, Any]) -> None:
    """Writes ``model.safetensors`` and ``spec.json``, which says how to build the network."""
    write_json(folder / SPEC, spec)
    _write(folder / MODEL, model.state_dict(), {"kind": "model"})


def load_weights(source: Path, model: nn.Module) -> None:
    """Fills ``model`` from a run folder or a safetensors file: all of it, or not at all."""
    path = source / MODEL if source.is_dir() else source
    tensors, note = _read(path)
    if note.get("kind") == "state":
        raise Refusal(
            f"{path} is the resume state of a run; weights are read from a {MODEL}; "
            f"give the folder {path.parent} once an epoch is done"
        )
    _check_fit(model, tensors, path)
    model.load_state_dict(tensors)


def save_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    note: Mapping[str, Any],
    average: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes weights, their mean, the optimizer's memory and the counters of ``note``: one file."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in (average or {}).items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"optimizer/{name}/{key}"] = value
    _write(path, tensors, {**note, "kind": "state"})


def load_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Fills the network, the mean of its weights and the optimizer, and returns the counters."""
    tensors, note = _read(path)
    if note.get("kind") != "state" or not _counts(note):
        raise Refusal(f"{path} is not the state of a run; {_RESTART}")
    weights, mean = _under("model/", tensors), _under("average/", tensors)
    _check_fit(model, weights, path)
    left = tensors.keys() - {f"model/{name}" for name in weights}
    if average:
        _check_fit(model, mean, path)
        left -= {f"average/{name}" for name in mean}
    memory: dict[int, dict[str, Tensor]] = {}
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    for i, (name, parameter) in enumerate(trained):
        shapes = _remembered(optimizer, parameter)
        keys = {f"optimizer/{name}/{kind}": kind for kind in shapes}
        if keys.keys() <= left and all(tensors[k].shape == shapes[keys[k]] for k in keys):
            memory[i] = {kind: tensors[key] for key, kind in keys.items()}
            left -= keys.keys()
    if left:
        raise Refusal(
            f"{path} holds {short(min(left))}, which is no memory of this optimizer; {_RESTART}"
        )
    model.load_state_dict(weights)
    for name, tensor in (average or {}).items():
        tensor.copy_(mean[name])
    blank = optimizer.state_dict()
    blank["state"] = memory
    optimizer.load_state_dict(blank)
    return note


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _remembered(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, torch.Size]:
    if isinstance(optimizer, torch.optim.SGD):
        return {"momentum_buffer": parameter.shape}
    return {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}


def _counts(note: Mapping[str, Any]) -> bool:
    """Tells whether a note is one that the loop can have written."""
    counters = note.get("counters")
    if not isinstance(counters, dict) or not isinstance(note.get("scaler"), dict):
        return False
    whole = {"step", "epoch", "seen", "best_epoch"}
    if not {"loss", *whole} <= counters.keys() <= {"loss", "best", *whole}:
        return False
    return (
        isinstance(note.get("run"), str)
        and all(type(counters[name]) is int and 0 <= counters[name] < 1 << 53 for name in whole)
        and all(type(value) in (int, float) for value in counters.values())
        and all(map(math.isfinite, counters.values()))
        and counters["best_epoch"] <= counters["epoch"] <= counters["step"]
    )


_RESTART = "take an unchanged copy, or start a new run in another folder (--out)"


def _write(path: Path, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
    # Copies: safetensors refuses tied weights, which share their memory.
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    # One entry: safetensors writes several in no fixed order, and equal runs make equal files.
    seal = {"note": note, "sha256": _digest(plain, note)}
    data = save(plain, {SEAL: json.dumps(seal, sort_keys=True, allow_nan=False)})
    replace_file(path, lambda part: part.write_bytes(data))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    _check_magic(path)
    try:
        with safe_open(path, framework="pt") as file:
            sealed = (file.metadata() or {}).get(SEAL)
            # Copies: a mapped file is aligned as it likes, and products depend on alignment.
            tensors = {name: file.get_tensor(name).clone() for name in file.offset_keys()}
    except SafetensorError as error:
        raise Refusal(f"{path} is not a whole safetensors file ({error}); {_RESTART}") from None
    if sealed is None:
        return tensors, {}  # somebody else's safetensors file has no seal to check
    try:
        seal = json.loads(sealed)
        whole = isinstance(seal["note"], dict)
        whole = whole and seal["sha256"] == _digest(tensors, seal["note"])
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise Refusal(f"{path} has changed since it was written: its SHA-256 differs; {_RESTART}")
    return tensors, seal["note"]


def _check_magic(path: Path) -> None:
    if not path.is_file():
        raise Refusal(
            f"{path} does not exist; weights are read from a folder that holds {MODEL}, or from a "
            "safetensors file; finish an epoch of that run or give another path"
        )
    with path.open("rb") as file:
        start = file.read(9)
    # Safetensors begin with eight bytes of length, any value of which may occur, and a brace.
    if start[8:] != b"{" and (start[:4] == b"PK\x03\x04" or start[:1] == b"\x80"):
        raise Refusal(
            f"{path} is a pickle as torch.save writes it, which can run code when it is read; "
            "only safetensors files are read; load it where you trust it, with weights_only=True, "
            "and write it with safetensors.torch.save_file"
        )


def _digest(tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> str:
    seal = hashlib.sha256(json.dumps(note, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        seal.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        seal.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return seal.hexdigest()


def _check_fit(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    wanted = model.state_dict()
    differences = [
        *_names("it lacks", wanted.keys() - tensors.keys()),
        *_names("it has unknown", tensors.keys() - wanted.keys()),
        *(
            f"{name} is {_describe(tensors[name])} there and {_describe(wanted[name])} here"
            for name in sorted(wanted.keys() & tensors.keys())
            if _describe(tensors[name]) != _describe(wanted[name])
        ),
    ]
    if differences:
        more = f" (and {len(differences) - 3} more)" if len(differences) > 3 else ""
        raise Refusal(
            f"{path} does not fit {type(model).__name__}: {', '.join(differences[:3])}{more}; "
            f"names, shapes and dtypes must be equal; build the network that its {SPEC} names"
        )
    spoilt = [name for name, t in tensors.items() if not t.isfinite().all()]
    if spoilt:
        raise Refusal(
            f"{path} holds NaN or infinity in {min(spoilt)}; weights must be finite; "
            "take a checkpoint from before training diverged"
        )


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _names(what: str, names: set[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what} {', '.join(sorted(names)[:3])}{more}"]
