from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from spikeproof.training import Samples, accuracy, evaluating, measure
from spikeproof.training._metrics import Log, summary_writer

STEP = {"kind": "step", "step": 1, "epoch": 1, "loss": 0.5, "lr": 0.1}
EPOCH = {"kind": "epoch", "step": 2, "epoch": 1, "loss": 0.4, "validation": {"accuracy": 0.75}}


class Logits:
    """Samples that are their own logits."""

    def __init__(self, count: int) -> None:
        self.x = torch.randn(count, 3, generator=generator(0, "logits"))
        self.y = torch.randint(3, (count,), generator=generator(0, "labels"))

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return self.x[index], self.y[index]


@pytest.mark.parametrize("batch", [1, 4, 11, 256])
def test_measures_are_means_over_samples_whatever_the_batch(batch: int):
    samples = Logits(11)
    assert isinstance(samples, Samples)
    got = measure(nn.Identity(), samples, batch=batch)
    right = sum(int(x.argmax() == y) for x, y in zip(samples.x, samples.y, strict=True)) / 11
    assert got["accuracy"] == accuracy(nn.Identity(), samples, batch=batch) == right
    assert got["loss"] == pytest.approx(functional.cross_entropy(samples.x, samples.y).item())


def test_nothing_cannot_be_measured():
    with pytest.raises(Refusal, match="0 samples"):
        accuracy(nn.Identity(), Logits(0))


def test_modes_are_kept_module_by_module():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3)).train()
    model[1].eval()
    seen = []
    model[0].register_forward_hook(lambda module, *_: seen.append(module.training))
    measure(model, Logits(5))
    assert seen == [False]
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert model[0].num_batches_tracked == 0
    with pytest.raises(KeyError), evaluating(model):
        raise KeyError
    assert model[0].training


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_are_appended_and_what_json_lacks_is_null(tmp_path: Path):
    log = Log(tmp_path, step=0, epoch=0)
    log.add(STEP)
    log.add({**EPOCH, "validation": {"accuracy": 0.5, "loss": math.inf}})
    log.close()
    assert lines(tmp_path) == [STEP, {**EPOCH, "validation": {"accuracy": 0.5, "loss": None}}]


def test_lines_after_the_resumed_step_are_cut(tmp_path: Path):
    log = Log(tmp_path, step=0, epoch=0)
    every = [STEP, {**STEP, "step": 2}, EPOCH, {**STEP, "step": 3, "epoch": 2}]
    for line in every:
        log.add(line)
    whole = (tmp_path / "metrics.jsonl").read_text()
    for step, epoch, kept in [(3, 1, 4), (2, 1, 3), (2, 0, 2), (1, 0, 1), (0, 0, 0)]:
        (tmp_path / "metrics.jsonl").write_text(whole + '{"kind": "step", "st')
        Log(tmp_path, step=step, epoch=epoch)
        assert lines(tmp_path) == every[:kept]


def test_foreign_lines_are_cut(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_bytes(b'7\n{"kind": "step"}\n\xff\n\n')
    Log(tmp_path, step=9, epoch=9)
    assert lines(tmp_path) == []


def test_curves_are_the_lines_also_after_a_kill(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed = Log(tmp_path, step=0, epoch=0, writer=summary_writer())
    killed.add(STEP)
    killed.add({**STEP, "step": 2})  # after the last save
    killed.close()
    log = Log(tmp_path, step=1, epoch=0, writer=summary_writer())
    log.add({**STEP, "step": 2, "loss": 0.25})
    log.add({**EPOCH, "validation": {"accuracy": 0.75, "loss": math.inf}})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == [
        "train/loss",
        "train/lr",
        "validation/accuracy",
        "validation/loss",
    ]
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 0.5), (2, 0.25)]
    assert [(e.step, e.value) for e in events.Scalars("validation/accuracy")] == [(2, 0.75)]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(Refusal, match=r"pip install 'spikeproof\[tensorboard\]'"):
        summary_writer()
