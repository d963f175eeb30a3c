"""What broke a sample is on the disk, and breaks it again; whatever happened on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from spikeproof.attacks import PGD, Attack, Flips, Linf, RandomSearch, TopK
from spikeproof.data import Dataset, Split
from spikeproof.errors import Refusal
from spikeproof.evaluate import Conditions, Step, Suite, evaluate, read_record, rejudge
from spikeproof.evaluate._artifacts import (
    FILE,
    KEPT,
    ORIGINALS,
    digest,
    gather,
    read_tensors,
    write_tensors,
)
from spikeproof.seeding import generator

THREAT = Linf(0.1)
SUITE = Suite(
    "s",
    (
        Step("random", Attack(RandomSearch(5)), everyone=True),
        Step("all", Attack(PGD(2)), everyone=True),
        Step("curve", Attack(PGD(3)), threat=Linf(0.5), limit=20),
        Step("pgd", Attack(PGD(5))),
    ),
)


def run(model, points, out, threat=THREAT, suite=SUITE, **more):
    return evaluate(model, points, threat, suite, out=out, conditions=Conditions(**more))


def broken_by(record):
    return tuple(any(column) for column in zip(*record.broken, strict=True))


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_every_broken_sample_breaks_again_from_the_disk(linear, points, tmp_path, batch):
    record = run(linear, points, tmp_path, batch=batch)
    broken = broken_by(record)
    assert 0 < sum(broken) < sum(record.clean)
    again = read_record(tmp_path / "record.json")
    for size in (1, 5):
        assert rejudge(tmp_path, again, linear, points, THREAT, batch=size) == broken
    places, x_adv = read_tensors(tmp_path / FILE)
    assert places == [place for place, fell in enumerate(broken) if fell]
    assert (x_adv - points.x[places]).abs().max() <= 0.1 + 1e-6  # no curve's, whose budget is more
    kept = record.artifacts["adversarials"]
    assert (kept["samples"], kept["bytes"]) == (len(places), (tmp_path / FILE).stat().st_size)
    assert kept["bytes"] < 41 * 16 + 1024
    assert not list((tmp_path / "blocks").glob("*.safetensors"))


def stop_after(count):
    def watch(progress):
        nonlocal count
        count -= 1
        if not count:
            raise KeyboardInterrupt

    return watch


def test_batches_stops_and_shards_leave_the_same_file(linear, points, tmp_path):
    record = run(linear, points, tmp_path / "whole")
    whole, broken = record.artifacts, broken_by(record)
    assert 0 < sum(broken) < len(broken)
    for count in (3, 6, 8):
        out, conditions = tmp_path / str(count), Conditions(batch=10)
        watch = stop_after(count)
        with pytest.raises(KeyboardInterrupt):
            evaluate(linear, points, THREAT, SUITE, out=out, conditions=conditions, watch=watch)
        assert run(linear, points, out, batch=7, resume=True).artifacts == whole
    for part in (2, 3, 1):
        run(linear, points, tmp_path / "shards", batch=part, shard=(part, 3))
    merged = read_record(tmp_path / "shards" / "record.json")
    assert merged.artifacts == whole
    assert rejudge(tmp_path / "shards", merged, linear, points, THREAT) == broken


def test_a_record_that_is_lost_is_written_again(linear, points, tmp_path):
    first = run(linear, points, tmp_path)
    (tmp_path / "record.json").unlink()
    again = run(linear, points, tmp_path, resume=True)
    assert again.artifacts == first.artifacts
    for spoil in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:50])):
        (tmp_path / "record.json").unlink()
        spoil(tmp_path / FILE)
        assert run(linear, points, tmp_path, resume=True).artifacts == first.artifacts
    assert rejudge(tmp_path, first, linear, points, THREAT, batch=3) == broken_by(first)


def zeroed(path):
    places, x_adv = read_tensors(path)
    write_tensors(path, places, 0 * x_adv)


@pytest.mark.parametrize(
    "spoil",
    [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:50]), zeroed],
    ids=["gone", "truncated", "replaced"],
)
def test_a_block_whose_adversarials_were_spoiled_is_run_again(linear, points, tmp_path, spoil):
    whole = run(linear, points, tmp_path / "whole", batch=10)
    out = tmp_path / "out"
    conditions, watch = Conditions(batch=10), stop_after(12)
    with pytest.raises(KeyboardInterrupt):
        evaluate(linear, points, THREAT, SUITE, out=out, conditions=conditions, watch=watch)
    spoil(sorted((out / "blocks").glob("*.safetensors"))[0])
    again = run(linear, points, out, batch=7, resume=True)
    assert again.artifacts == whole.artifacts
    assert again.steps == whole.steps
    assert rejudge(out, again, linear, points, THREAT) == broken_by(whole)


@pytest.mark.parametrize("spoil", [Path.unlink, zeroed], ids=["gone", "replaced"])
def test_adversarials_that_are_not_those_of_the_record_are_refused(linear, points, tmp_path, spoil):
    record = run(linear, points, tmp_path)
    spoil(tmp_path / FILE)
    for use in (
        lambda: rejudge(tmp_path, record, linear, points, THREAT),
        lambda: run(linear, points, tmp_path, resume=True),
    ):
        with pytest.raises(Refusal, match=r"SHA-256 of .*restore the file, or evaluate anew"):
            use()
    for part in (1, 2):
        run(linear, points, tmp_path / "s", shard=(part, 2))
    spoil(tmp_path / "s" / "shard-1-of-2" / FILE)
    with pytest.raises(Refusal, match=r"SHA-256 of .*shard-1-of-2"):
        run(linear, points, tmp_path / "s", shard=(2, 2), resume=True)


def test_nothing_is_kept_where_nobody_wants_it(linear, points, tmp_path):
    record = run(linear, points, tmp_path, keep_adversarials=False)
    assert record.artifacts == {}
    assert not list(tmp_path.rglob("*.safetensors"))
    with pytest.raises(Refusal, match="adversarials was False"):
        run(linear, points, tmp_path, resume=True)
    assert evaluate(linear, points, THREAT, SUITE).artifacts == {}


def test_what_was_changed_is_not_judged(linear, points, tmp_path):
    record = run(linear, points, tmp_path)
    with pytest.raises(Refusal, match="the threat is"):
        rejudge(tmp_path, record, linear, points, Linf(0.2))
    other = Split(points.x.flip(0), points.y.flip(0), 1.0)
    with pytest.raises(Refusal, match="samples"):
        rejudge(tmp_path, record, linear, other, THREAT)
    places, x_adv = read_tensors(tmp_path / FILE)
    write_tensors(tmp_path / FILE, places, x_adv + 0.01)
    with pytest.raises(Refusal, match="the SHA-256 of"):
        rejudge(tmp_path, record, linear, points, THREAT)
    linear.weight.data.mul_(2)
    with pytest.raises(Refusal, match="the weights are"):
        rejudge(tmp_path, record, linear, points, THREAT)


def test_a_file_that_does_not_break_what_it_should_tells_on_the_record(linear, points, tmp_path):
    record = run(linear, points, tmp_path)
    places, _ = read_tensors(tmp_path / FILE)
    write_tensors(tmp_path / FILE, places, points.x[places])  # of clean inputs: nothing breaks
    kept = gather([tmp_path / FILE], tmp_path, record.places, record.steps)
    forged = replace(record, artifacts=kept)
    assert not any(rejudge(tmp_path, forged, linear, points, THREAT))


@pytest.mark.parametrize(
    ("x_adv", "size"),
    [
        (torch.arange(24.0).reshape(2, 1, 3, 4), 1),
        (torch.rand(2, 1, 3, 4, generator=generator(0, "x")), 4),
        (torch.full((2, 1, 3, 4), 256.0), 4),
        (torch.full((2, 1, 3, 4), -1.0), 4),
        (torch.full((2, 1, 3, 4), torch.nan), 4),
    ],
)
def test_counts_are_bytes_and_all_else_is_float32(tmp_path, x_adv, size):
    path = tmp_path / FILE
    write_tensors(path, [4, 2], x_adv)
    places, back = read_tensors(path)
    assert places == [4, 2]
    assert torch.equal(back.nan_to_num(7), x_adv.nan_to_num(7))
    assert 24 * size <= path.stat().st_size - 16 <= 24 * size + 200
    path.write_bytes(b"x")
    with pytest.raises(Refusal, match="holds no adversarials"):
        read_tensors(path)


class Busy(nn.Module):
    """Two classes of event frames: many events, or few."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        count = x.flatten(1).sum(1) - 6
        return torch.stack([-count, count], 1)


def test_event_frames_are_kept_as_bytes(tmp_path):
    x = (torch.rand(12, 3, 2, 2, 2, generator=generator(0, "e")) < 0.25).float()
    frames = Split(x, (x.flatten(1).sum(1) > 6).long(), 1.0)
    threat, suite = Flips(3), Suite("e", (Step("topk", Attack(TopK(20))),))
    record = run(Busy(), frames, tmp_path, threat, suite)
    assert any(record.steps[0].success)
    assert rejudge(tmp_path, record, Busy(), frames, threat) == record.steps[0].success
    assert record.artifacts["adversarials"]["bytes"] < 12 * (24 + 8) + 300
    assert {check.id: check.verdict for check in record.checks}["C28"] == "pass"


def test_some_clean_inputs_and_answers_are_kept(linear, points, tmp_path):
    record = run(linear, points, tmp_path)
    broken = [place for place, fell in enumerate(broken_by(record)) if fell]
    told = record.artifacts["originals"]
    tensors = load_file(tmp_path / ORIGINALS)
    places = tensors["places"].tolist()
    assert told["sha256"] == digest(tmp_path / ORIGINALS)
    assert (told["samples"], told["classes"]) == (len(places), [])
    assert len(places) == min(KEPT, len(broken))
    assert set(places) <= set(broken)
    assert torch.equal(tensors["x"], points.x[places])
    assert torch.equal(tensors["said"], 1 - points.y[places])  # of two classes, the other one


def test_a_data_set_gives_the_names_of_its_classes(linear, points, tmp_path):
    whole = Dataset("points", points.take(torch.arange(2)), points.take(torch.arange(2, 4)),
                    points, ("left", "right"))  # fmt: skip
    record = run(linear, whole, tmp_path)
    assert record.artifacts["originals"]["classes"] == ["left", "right"]
