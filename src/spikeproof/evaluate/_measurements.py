"""The measurements of a diagnosis, part by part, and the record of them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from spikeproof.attacks import Attack, Linf, Threat, Victim, ascend, correct, fingerprint
from spikeproof.data import Dataset
from spikeproof.errors import Refusal
from spikeproof.evaluate import _domains, _trail, _vulnerability
from spikeproof.evaluate._diagnosis import Diagnosis, Firing, Inputs, Seen
from spikeproof.evaluate._domains import Domains, domains
from spikeproof.evaluate._evaluate import Conditions, _environment, _model, evaluate
from spikeproof.evaluate._intake import Manifest, Samples
from spikeproof.evaluate._landscape import Directional, Plane, directional, plane
from spikeproof.evaluate._parts import Parts
from spikeproof.evaluate._rasters import Raster, rasters
from spikeproof.evaluate._record import Record
from spikeproof.evaluate._runner import Progress
from spikeproof.evaluate._suite import plain
from spikeproof.evaluate._sweeps import points, sweeps
from spikeproof.evaluate._trail import Trail, trail
from spikeproof.evaluate._trials import named
from spikeproof.evaluate._vulnerability import Forward, Vulnerability, vulnerability
from spikeproof.records import LOCK
from spikeproof.seeding import derive
from spikeproof.spiking import CBA, Rule, Spiking, SpikingNetwork, recorded

FEW = 4  # samples whose planes and spikes are kept
DIRECTED = 16  # samples whose gradients are compared with differences
SHARES = (1 / 64, 1 / 8, 1.0)  # of the budget, for the vulnerabilities
USUAL_EPS = 8 / 255  # where the threat has no Linf budget

Through = Rule | CBA | None


@dataclass(frozen=True, eq=False)
class Subject:
    """Everything that decides the numbers of a diagnosis."""

    model: nn.Module
    samples: Samples
    manifest: Manifest
    threat: Threat
    attack: Attack
    rules: tuple[Through, ...]
    seed: int
    device: torch.device

    def load(self, places: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Returns inputs, labels and numbers of these samples, on the device."""
        ids = torch.tensor([self.manifest.indices[place] for place in places])
        x, y = self.samples.batch(ids)
        return x.to(self.device).clone(), y.to(self.device), ids

    @property
    def eps(self) -> float:
        """The Linf budget of vulnerabilities, planes and domains."""
        return self.threat.eps if isinstance(self.threat, Linf) else USUAL_EPS


@dataclass(frozen=True)
class _Answers:
    correct: tuple[bool, ...]
    firing: tuple[Firing, ...]


@dataclass(frozen=True)
class _Rasters:
    layers: tuple[Raster, ...]


@dataclass(frozen=True)
class _Around:
    planes: tuple[Plane, ...] = ()
    directions: tuple[Directional, ...] = ()


class Measurements:
    """The parts of a diagnosis, one after the other; what is finished lies in ``parts``."""

    def __init__(
        self,
        job: Subject,
        asked: Sequence[str],
        out: Path | None,
        watch: Callable[[Progress], None] | None,
    ) -> None:
        self.job, self.asked, self.out, self.watch = job, asked, out, watch
        self.parts = Parts(out, len(job.manifest.indices), len(asked), watch)
        self.notes = self.parts.notes
        self.attacked: dict[int, Tensor] = {}

    def all(self, data: Samples | Dataset, conditions: Conditions) -> Diagnosis:
        """Returns the diagnosis."""
        began, job = (datetime.now(UTC), time.monotonic()), self.job
        seconds: dict[str, float] = {}
        found: dict[str, Any] = {}
        makes: dict[str, Callable[[], Any]] = {
            "trail": self._seen,
            "rasters": self._rasters,
            "vulnerability": self._vulnerability,
            "landscape": self._landscape,
            "domains": self._domains,
            "curves": lambda: self._curves(data, conditions),
        }
        self._note_model()
        for number, name in enumerate(self.asked, 1):
            self.parts.number = number
            start = time.monotonic()
            found[name] = makes[name]()
            seconds[name] = round(time.monotonic() - start, 3)
        around = found.get("landscape") or _Around()
        record = found.get("curves")
        return Diagnosis(
            model=_model(job.model, fingerprint(job.model)),
            data=job.manifest,
            threat=plain(job.threat),
            attack=plain(job.attack),
            rules=tuple(named(rule) for rule in job.rules),
            seed=job.seed,
            seen=found.get("trail", ()),
            vulnerability=found.get("vulnerability", ()),
            curves=points(record, job.rules) if record else (),
            checks=record.checks if record else (),
            finding=record.finding if record else None,
            directions=around.directions,
            planes=around.planes,
            domains=found.get("domains"),
            notes=tuple(dict.fromkeys(self.notes)),
            rasters=found.get("rasters", ()),
            environment=_environment(job.device),
            times={
                "started": began[0].isoformat(timespec="seconds"),
                "ended": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds_of_this_process": round(time.monotonic() - began[1], 3),
                "seconds_of_parts": seconds,
            },
        )

    def _note_model(self) -> None:
        model = self.job.model
        if not any(isinstance(module, Spiking) for module in model.modules()):
            self.notes.append(
                f"{type(model).__name__} has no layer of spikeproof's neurons: firing rates, other "
                "rules, widths and a smooth forward pass are unknown"
            )
        if not isinstance(self.job.threat, Linf):
            self.notes.append(
                f"{self.job.threat} has no Linf budget: vulnerabilities, planes and domains take "
                f"eps {USUAL_EPS:.4g}"
            )
        if isinstance(model, SpikingNetwork) and not model.encode.encoder.analog:
            self.notes.append(
                f"{model.encode.encoder} emits spikes: the smooth forward pass keeps the steps of "
                "its entrance, and its gradient there is the declared one"
            )

    def _seen(self) -> tuple[Seen, ...]:
        whole = range(len(self.job.manifest.indices))
        found = []
        for inputs in get_args(Inputs):
            answers = self.parts.of(f"answers {inputs}", _Answers, partial(self._answers, inputs))
            if not answers:
                continue
            trails = {}
            for number, rule in enumerate(self.job.rules):
                make = partial(self._trail, inputs, rule)
                if parts := self.parts.of(f"trail {inputs} {number}", Trail, make):
                    trails[named(rule)] = _trail.joined(parts)
            right = tuple(bit for part in answers for bit in part.correct)
            found.append(Seen(inputs, right[: len(whole)], _fired(answers), trails))
        return tuple(found)

    def _trail(self, inputs: Inputs, rule: Through, places: Sequence[int]) -> Trail:
        x, y, _ = self._inputs(inputs, places)
        return trail(self.job.model, x, y, rule, seed=self.job.seed)

    def _answers(self, inputs: Inputs, places: Sequence[int]) -> _Answers:
        """Asks for one sample after the other, as the trail does."""
        x, y, _ = self._inputs(inputs, places)
        victim = Victim(self.job.model)
        victim.redraw(derive(self.job.seed, "trail"))
        with recorded(victim.model) as layers:
            logits = torch.cat([victim.logits(row[None]) for row in x])
        firing = tuple(
            Firing(name, layer.T, layer.neurons, tuple(layer.rate.tolist()))
            for name, layer in layers.items()
        )
        return _Answers(tuple(bool(bit) for bit in correct(logits, y)), firing)

    def _inputs(self, inputs: Inputs, places: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        x, y, ids = self.job.load(places)
        if inputs == "clean":
            return x, y, ids
        for row, place in enumerate(places):
            if place not in self.attacked:
                seed = derive(self.job.seed, "attacked", int(ids[row]))
                alone = x[row : row + 1], y[row : row + 1]
                self.attacked[place] = ascend(
                    self.job.attack, self.job.model, *alone, self.job.threat, seed=seed
                )
        return torch.cat([self.attacked[place] for place in places]), y, ids

    def _rasters(self) -> tuple[Raster, ...]:
        """Returns the spikes of the first samples."""

        def make(places: Sequence[int]) -> _Rasters:
            pair = [self._inputs(inputs, places)[0] for inputs in get_args(Inputs)]
            return _Rasters(rasters(self.job.model, *pair, sample=places[0], seed=self.job.seed))

        parts = self.parts.of("rasters", _Rasters, make, most=FEW, chunk=1)
        return tuple(raster for part in parts for raster in part.layers)

    def _vulnerability(self) -> tuple[Vulnerability, ...]:
        ways: list[tuple[Forward, Through]] = [("real", rule) for rule in self.job.rules]
        found = []
        for number, (forward, rule) in enumerate([("smooth", None), *ways]):
            for share in SHARES:
                make = partial(self._vulnerable, forward, rule, share * self.job.eps)
                name = f"vulnerability {forward} {number} {share}"
                if parts := self.parts.of(name, Vulnerability, make):
                    found.append(_vulnerability.joined(parts))
        return tuple(found)

    def _vulnerable(
        self, forward: Forward, rule: Through, eps: float, places: Sequence[int]
    ) -> Vulnerability:
        x, y, ids = self.job.load(places)
        how: dict[str, Any] = {"forward": forward, "rule": rule, "ids": ids}
        return vulnerability(self.job.model, x, y, eps, **how, seed=self.job.seed)

    def _landscape(self) -> _Around:
        """Returns planes and slopes of the first samples."""
        often: dict[str, Any] = {"most": FEW, "chunk": 1}
        parts = [
            *self.parts.of("planes random", _Around, partial(self._plane, "clean"), **often),
            *self.parts.of(
                "planes adversarial", _Around, partial(self._plane, "attacked"), **often
            ),
        ]
        for number, rule in enumerate(self.job.rules):
            make = partial(self._directions, rule)
            parts += self.parts.of(f"directions {number}", _Around, make, most=DIRECTED)
        planes = tuple(plane for part in parts for plane in part.planes)
        return _Around(planes, tuple(one for part in parts for one in part.directions))

    def _plane(self, inputs: Inputs, places: Sequence[int]) -> _Around:
        x, y, _ = self.job.load(places)
        there = self._inputs(inputs, places)[0]
        if inputs == "attacked" and torch.equal(there, x):
            return _Around()
        how: dict[str, Any] = {"sample": places[0], "seed": self.job.seed}
        ahead = there if inputs == "attacked" else None
        return _Around((plane(self.job.model, x, y, self.job.eps, adversarial=ahead, **how),))

    def _directions(self, rule: Through, places: Sequence[int]) -> _Around:
        x, y, _ = self.job.load(places)
        found: list[Directional] = []
        for i, place in enumerate(places):
            how: dict[str, Any] = {"rule": rule, "sample": place, "seed": self.job.seed}
            alone = x[i : i + 1], y[i : i + 1]
            found += directional(self.job.model, *alone, self.job.eps, **how)
        return _Around((), tuple(found))

    def _domains(self) -> Domains | None:
        def make(places: Sequence[int]) -> Domains:
            x, y, ids = self.job.load(places)
            return domains(self.job.model, x, y, self.job.eps, ids=ids, seed=self.job.seed)

        parts = self.parts.of("domains", Domains, make)
        return _domains.joined(parts) if parts else None

    def _curves(self, data: Samples | Dataset, conditions: Conditions) -> Record | None:
        """Returns the record of the curves' suite, with all doubts about the model."""
        folder = self.out / "curves" if self.out else None
        begun = folder is not None and (folder / LOCK).exists()
        how = replace(conditions, resume=begun, keep_adversarials=False)
        try:
            suite = sweeps(self.job.model, self.job.threat, self.job.rules)
            return evaluate(
                self.job.model,
                data,
                self.job.threat,
                suite,
                out=folder,
                conditions=how,
                watch=self._passed_on,
            )
        except Refusal as refusal:
            self.notes.append(f"curves: {refusal}")
            return None

    def _passed_on(self, progress: Progress) -> None:
        if self.watch:
            self.watch(replace(progress, step=f"curves: {progress.step}"))


def _fired(parts: Sequence[_Answers]) -> tuple[Firing, ...]:
    columns = zip(*(part.firing for part in parts), strict=True)
    return tuple(
        replace(column[0], rate=tuple(rate for layer in column for rate in layer.rate))
        for column in columns
    )
