"""What a run tells about itself: accuracy, one JSON object a line, and curves of the same lines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.errors import Refusal
from spikeproof.records import replace_file

METRICS = "metrics.jsonl"
CURVES = "tensorboard"


@runtime_checkable
class Samples(Protocol):
    """Labelled samples that can be asked for by number."""

    def __len__(self) -> int:
        """Returns how many there are."""
        ...

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns inputs (float32) and labels (int64) of these numbers, on the CPU."""
        ...


def accuracy(
    model: nn.Module, samples: Samples, *, batch: int = 256, device: str | torch.device = "cpu"
) -> float:
    """Returns the share of samples whose largest logit is their label."""
    return measure(model, samples, batch=batch, device=device)["accuracy"]


def measure(
    model: nn.Module, samples: Samples, *, batch: int = 256, device: str | torch.device = "cpu"
) -> dict[str, float]:
    """Returns mean cross entropy ``loss`` and ``accuracy``; the network's modes are kept."""
    if len(samples) == 0:
        raise Refusal("there are 0 samples to measure on; at least 1 is needed; give another split")
    loss, right = 0.0, 0
    with evaluating(model), torch.no_grad():
        for index in torch.arange(len(samples)).split(batch):
            x, y = samples.batch(index)
            logits, y = model(x.to(device)), y.to(device)
            loss += functional.cross_entropy(logits, y, reduction="sum").item()
            right += int((logits.argmax(1) == y).sum())
    return {"loss": loss / len(samples), "accuracy": right / len(samples)}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts every module into evaluation mode inside the block and back into its own after it."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


class Log:
    """Appends lines to ``metrics.jsonl`` and, if given a writer, draws them as curves."""

    def __init__(
        self, folder: Path, *, step: int, epoch: int, writer: Callable[[str], Any] | None = None
    ) -> None:
        self._path = folder / METRICS
        self._curves = None
        lines = _cut(self._path, step, epoch)
        if writer is not None:
            # Drawn anew: a killed writer has lost its buffer, and the lines know everything.
            for curve in (folder / CURVES).glob("events.out.tfevents.*"):
                curve.unlink()
            self._curves = writer(str(folder / CURVES))
            for line in lines:
                self._draw(line)

    def add(self, line: Mapping[str, Any]) -> None:
        """Writes one line to the disk."""
        text = json.dumps(_finite(line), allow_nan=False) + "\n"
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        self._draw(line)

    def close(self) -> None:
        """Ends the curves."""
        if self._curves is not None:
            self._curves.close()

    def _draw(self, line: Mapping[str, Any]) -> None:
        if self._curves is None:
            return
        values = {"loss": line["loss"], "lr": line["lr"]} if line["kind"] == "step" else {}
        for name, value in values.items():
            self._curves.add_scalar(f"train/{name}", value, line["step"])
        for name, value in line.get("validation", {}).items():
            if value is not None:
                self._curves.add_scalar(f"validation/{name}", value, line["step"])


def summary_writer() -> Callable[[str], Any]:
    """Returns the class that writes TensorBoard's files."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise Refusal(
            "tensorboard is true and the package tensorboard is absent; curves need it; "
            "pip install 'spikeproof[tensorboard]' or set tensorboard to false"
        ) from None
    return SummaryWriter


def _cut(path: Path, step: int, epoch: int) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in map(_parsed, text.splitlines()) if _is_past(line, step, epoch)]
    kept = "".join(f"{json.dumps(line)}\n" for line in lines)
    if kept != text:
        replace_file(path, lambda part: part.write_text(kept, encoding="utf-8"))
    return lines


def _parsed(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except ValueError:
        return {}  # a kill tore it; the resumed run writes it again
    return line if isinstance(line, dict) else {}


def _is_past(line: Mapping[str, Any], step: int, epoch: int) -> bool:
    match line:
        case {"kind": "step", "step": int(when)}:
            return when <= step
        case {"kind": "epoch", "epoch": int(when)}:
            return when <= epoch
    return False


def _finite(line: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _finite(value)
        if isinstance(value, Mapping)
        else (None if isinstance(value, float) and not math.isfinite(value) else value)
        for name, value in line.items()
    }
