"""Runs a suite over the samples that still stand, block by block, and believes only the judge.

What a sample meets depends on what it met before, never on its neighbours. So blocks may come in
any size and order, in several processes, and again after a kill.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from spikeproof.attacks import Attack, Outcome, Threat, correct, fingerprint, run
from spikeproof.errors import Refusal
from spikeproof.evaluate._ahead import Ahead
from spikeproof.evaluate._blocks import Block, Blocks
from spikeproof.evaluate._feasible import possible
from spikeproof.evaluate._intake import Manifest, Samples
from spikeproof.evaluate._judge import judge
from spikeproof.evaluate._record import StepRecord
from spikeproof.evaluate._roles import climbing
from spikeproof.evaluate._suite import Step, Suite, plain
from spikeproof.evaluate._transfer import Transfer, changed
from spikeproof.seeding import derive

MEMORY = ("out of memory", "not enough memory")  # torch on the CPU has no class of its own


@dataclass(frozen=True)
class Progress:
    """Where an evaluation is: told after every block."""

    step: str
    number: int  # of the step, from 1
    steps: int
    standing: int
    done: int  # samples of this step
    of: int
    rate: float  # samples per second of this step, in this process
    left: float  # seconds of this step


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that decides the bits of a result."""

    model: nn.Module
    samples: Samples
    manifest: Manifest
    places: tuple[int, ...]
    threat: Threat
    suite: Suite
    seed: int
    device: torch.device
    weights: str = field(default="")

    def load(self, places: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns inputs, labels and numbers of these samples, on the device."""
        ids = torch.tensor([self.manifest.indices[place] for place in places])
        x, y = self.samples.batch(ids)
        return x.to(self.device).clone(), y.to(self.device), ids


def conduct(
    job: Job, blocks: Blocks, batch: int, watch: Callable[[Progress], None] | None = None
) -> tuple[tuple[bool, ...], tuple[StepRecord, ...], dict[str, float]]:
    """Returns which samples are right when clean, what every step did, and its seconds."""
    ahead = Ahead(job.model, job.threat, job.suite.steps, job.seed)
    right = _Run(job, blocks, ahead, batch, watch, 0, job.places).clean()
    standing, diced, records, seconds = right, set[int](), [], {}
    for number, step in enumerate(job.suite.steps, 1):
        record = _Run(job, blocks, ahead, batch, watch, number, standing).step(step, right, diced)
        if step.counts:
            fell = set(_chosen(job.places, record.success))
            diced = diced | fell.intersection(standing) if _dice(step) else diced - fell
            standing = tuple(place for place in standing if place not in fell)
        records.append(record)
        seconds[step.id] = sum(block.seconds for block in blocks.of(number))
    hit = set(right)
    return tuple(place in hit for place in job.places), tuple(records), seconds


def _dice(step: Step) -> bool:
    """Returns whether a step is a baseline of random noise."""
    attack = step.attack
    return step.everyone and isinstance(attack, Attack) and attack.search.kind == "random"


class _Unfit(Exception):
    """Why a step is not run."""


class _Run:
    """One step over its samples."""

    def __init__(
        self,
        job: Job,
        blocks: Blocks,
        ahead: Ahead,
        batch: int,
        watch: Callable[[Progress], None] | None,
        number: int,
        standing: tuple[int, ...],
    ) -> None:
        self.job, self.blocks, self.ahead, self.batch = job, blocks, ahead, batch
        self.watch = watch
        self.number, self.standing = number, standing

    def clean(self) -> tuple[int, ...]:
        """Returns the samples that are right when nobody touched them."""
        for places in self._left("clean", self.job.places):
            x, y, _ = self.job.load(places)
            verdict = judge(self.job.model, x, x, y, self.job.threat, batch=1)
            none, zero = (False,) * len(places), (0,) * len(places)
            wrong = _bits(verdict.fooled)
            ones = (1,) * len(places)
            self.blocks.add(
                self.number,
                Block(places, wrong, none, none, none, none, zero, ones, zero, (0.0,) * len(none)),
            )
        wrong_ones = self._fallen()
        return tuple(place for place in self.job.places if place not in wrong_ones)

    def step(self, step: Step, right: Sequence[int], diced: set[int]) -> StepRecord:
        """Returns what a step did, or why it could not be run.

        What fell to noise alone (``diced``) still meets those who follow gradients: whether these
        find it too tells what a gradient is worth (C17).
        """
        met: Sequence[int] = self.standing
        if step.everyone or not step.counts:
            met = right
        elif diced and climbing(step):
            met = [place for place in right if place in diced.union(self.standing)]
        met = [place for place in met if not step.limit or place < step.limit]
        skipped = ""
        for places in self._left(step.id, met):
            try:
                for block, x_adv in self._attempt(step, places):
                    kept = self._first(step, block)
                    rows = [row for row, place in enumerate(block.places) if place in kept]
                    self.blocks.add(self.number, block, kept, x_adv[rows])
            except _Unfit as unfit:
                skipped = str(unfit)
                break
        return _collect(self.job, step, self.blocks.of(self.number), met, skipped)

    def _left(self, name: str, places: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Yields blocks of the samples that no finished block holds."""
        finished = {p for block in self.blocks.of(self.number) for p in block.places}
        left = [place for place in places if place not in finished]
        begun, done, standing = time.monotonic(), 0, set(self.standing)
        while done < len(left):
            block = tuple(left[done : done + self.batch])
            yield block
            done += len(block)
            if self.watch:
                rate = done / max(time.monotonic() - begun, 1e-9)
                self.watch(
                    Progress(
                        step=name,
                        number=self.number,
                        steps=len(self.job.suite.steps),
                        standing=len(standing - self._fallen()),
                        done=len(places) - len(left) + done,
                        of=len(places),
                        rate=rate,
                        left=(len(left) - done) / rate,
                    )
                )

    def _fallen(self) -> set[int]:
        blocks = self.blocks.of(self.number)
        return {place for block in blocks for place in _chosen(block.places, block.success)}

    def _first(self, step: Step, block: Block) -> list[int]:
        """Returns which samples this step is the first to break."""
        known = set(self.standing) if step.counts else set()
        return [place for place in _chosen(block.places, block.success) if place in known]

    def _attempt(self, step: Step, places: tuple[int, ...]) -> Iterator[tuple[Block, Tensor]]:
        """Yields the block with its adversarials, or its halves where it fails, down to one sample.

        So what a crash costs does not depend on how samples were batched.
        """
        begun, error = time.monotonic(), None
        try:
            block, x_adv = self._attacked(step, places)
        except Refusal as refusal:
            if not self.blocks.of(self.number):
                raise _Unfit(str(refusal)) from None
            error = str(refusal), False
        except Exception as raised:  # noqa: BLE001  an attack may raise anything, and costs itself
            error = f"{type(raised).__name__}: {raised}", _out_of_memory(raised)
        # outside the handler, whose traceback holds the tensors of the failed attempt
        if fingerprint(self.job.model) != self.job.weights:
            raise RuntimeError(f"step {step.id} changed a weight or a buffer of the model")
        source = step.source
        if isinstance(source, Transfer) and fingerprint(source.network) != source.weights:
            raise changed(f"transfer source {source.name}")
        if error is None:
            yield replace(block, seconds=block.seconds + time.monotonic() - begun), x_adv
            return
        message, memory = error
        if memory and self.job.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(places) == 1:
            none, zero = (False,), (0,)
            crashed = Block(
                places, none, none, none, none, (True,), zero, zero, zero, (0.0,), message
            )
            yield crashed, torch.zeros(1)
            return
        half = len(places) // 2
        if memory:
            self.batch = min(self.batch, len(places) - half)
        yield from self._attempt(step, places[:half])
        yield from self._attempt(step, places[half:])

    def _attacked(self, step: Step, places: tuple[int, ...]) -> tuple[Block, Tensor]:
        x, y, ids = self.job.load(places)
        threat = step.threat or self.job.threat
        begun = time.monotonic()
        outcome, seconds = self.ahead.outcome(
            self.number,
            places,
            x,
            y,
            ids,
            self.batch,
            lambda x, y, ids: self._outcome(step, x, y, ids, threat),
        )
        elsewhere = time.monotonic() - begun - seconds  # spent for steps ahead, or by one before
        self.job.model.eval()  # whatever the attack left behind
        claims = outcome.fallen.nonzero().squeeze(1)
        x, y, _ = self.job.load(places)  # the attack may have written on its own
        verdict = judge(
            self.job.model,
            outcome.x_adv[claims],
            x[claims],
            y[claims],
            threat,
            batch=2 if len(places) == 1 else 1,
        )
        false = torch.zeros_like(outcome.fallen)
        success, lawful = false.clone(), verdict.admissible & verdict.finite
        inadmissible, unconfirmed, impossible = false.clone(), false.clone(), false.clone()
        told = possible(outcome.x_adv[claims], x[claims], threat)
        impossible[claims] = ~torch.tensor(told, dtype=torch.bool, device=false.device)
        success[claims] = verdict.broken & ~impossible[claims]
        inadmissible[claims], unconfirmed[claims] = ~lawful, lawful & ~verdict.fooled
        size = threat.size(outcome.x_adv.detach().float(), x)
        block = Block(
            places=places,
            success=_bits(success),
            inadmissible=_bits(inadmissible),
            unconfirmed=_bits(unconfirmed),
            infeasible=_bits(impossible),
            crashed=_bits(false),
            at=tuple(torch.where(success, outcome.at, 0).tolist()),
            forwards=tuple(outcome.forwards.tolist()),
            backwards=tuple(outcome.backwards.tolist()),
            size=tuple(torch.where(success, size, 0.0).float().tolist()),
            seconds=-elsewhere,
        )
        return block, outcome.x_adv.detach()

    def _outcome(self, step: Step, x: Tensor, y: Tensor, ids: Tensor, threat: Threat) -> Outcome:
        model, attack = self.job.model, step.attack
        if isinstance(attack, Attack):
            source = step.source(model).eval() if step.source else None
            seed = derive(self.job.seed, step.id)
            return run(
                attack, model, x, y, threat, ids=ids, seed=seed, source=source, most=self.batch
            )
        proposed = attack(model, x.clone(), y, threat)
        model.eval()
        if not isinstance(proposed, Tensor) or proposed.shape != x.shape:
            raise ValueError(f"an attack returns a tensor of shape {tuple(x.shape)}, as its inputs")
        with torch.no_grad():
            fooled = ~correct(model(proposed), y)
        # its own queries cannot be seen from here; one forward pass asked what it found
        return Outcome(proposed, fooled, fooled.long(), torch.ones_like(y), torch.zeros_like(y))


def _collect(
    job: Job, step: Step, blocks: Sequence[Block], met: Sequence[int], skipped: str
) -> StepRecord:
    rows = {
        place: row
        for block in blocks
        for place, *row in zip(
            block.places,
            block.success,
            block.inadmissible,
            block.unconfirmed,
            block.infeasible,
            block.crashed,
            block.at,
            block.forwards,
            block.backwards,
            block.size,
            strict=True,
        )
    }
    empty = [False] * 5 + [0] * 3 + [0.0]
    columns = [*zip(*(rows.get(place, empty) for place in job.places), strict=True)]
    reached = set() if skipped else set(met)
    return StepRecord(
        id=step.id,
        attack=plain(step.attack),
        source=None if step.source is None else plain(step.source),
        everyone=step.everyone,
        limit=step.limit,
        threat=None if step.threat is None else plain(step.threat),
        skipped=skipped,
        message=next((block.message for block in blocks if block.message), ""),
        attacked=tuple(place in reached for place in job.places),
        success=columns[0],
        inadmissible=columns[1],
        unconfirmed=columns[2],
        infeasible=columns[3],
        crashed=columns[4],
        at=columns[5],
        forwards=columns[6],
        backwards=columns[7],
        size=columns[8],
    )


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in MEMORY)


def _chosen(places: Sequence[int], bits: Sequence[bool]) -> Iterator[int]:
    return (place for place, hit in zip(places, bits, strict=True) if hit)


def _bits(values: Tensor) -> tuple[bool, ...]:
    return tuple(bool(value) for value in values.tolist())
