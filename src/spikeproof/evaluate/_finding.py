"""The doubts that the judge itself can raise, and what all doubts together make of a result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from spikeproof.evaluate._checks import decide, skip
from spikeproof.evaluate._feasible import EVENTS
from spikeproof.evaluate._intake import Manifest
from spikeproof.evaluate._record import Check, Finding, Grade, StepRecord
from spikeproof.interop import grouped

OVERLAP = 0.01  # published sets share a few images between training and test


def own_checks(
    manifest: Manifest,
    threat: Mapping[str, Any],
    steps: Sequence[StepRecord],
    *,
    intact: bool,
    adopted: Mapping[str, Any] | None = None,
) -> tuple[Check, ...]:
    """Returns the checks of what the judge saw: budget, confirmation, gradients, events, data.

    ``adopted`` is what became of a network of another framework.
    """
    outside = sum(sum(step.inadmissible) for step in steps)
    adopted = adopted or {}
    return (
        Check(
            "C4",
            "claims within budget and range, and finite",
            outside,
            0,
            "fail" if outside else "pass",
            _where(steps, "inadmissible"),
        ),
        _confirmed(steps),
        _gradients(steps, adopted),
        *_remembering(adopted.get("leftover", ())),
        _events(threat, steps),
        _data(manifest, intact=intact),
    )


def _gradients(steps: Sequence[StepRecord], adopted: Mapping[str, Any]) -> Check:
    skipped, kept = [step.id for step in steps if step.skipped], adopted.get("kept", {})
    details = [
        f"not run: {', '.join(skipped)}" if skipped else "",
        f"neurons that stay as they are meet fewer gradients: {grouped(kept)}" if kept else "",
        adopted.get("refused", ""),
    ]
    told = "; ".join(detail for detail in details if detail)
    return Check(
        "C6",
        "steps that found what they need, as a gradient that reaches the input",
        len(skipped) + len(kept),
        0,
        "flag" if told else "pass",
        told,
    )


def _remembering(layers: Sequence[str]) -> tuple[Check, ...]:
    if not layers:
        return ()
    detail = "as given, the network began a call where the last one had ended, in layers "
    detail += f"{', '.join(layers)}; every call was begun at rest here"
    return (Check("C2", "state leakage", len(layers), 0, "flag", detail),)


def _confirmed(steps: Sequence[StepRecord]) -> Check:
    mistaken = sum(sum(step.unconfirmed) for step in steps)
    drawn = (step.attack.get("draws", 1) for step in steps if isinstance(step.attack, Mapping))
    if any(draws > 1 for draws in drawn):
        detail = f"{mistaken} claims held in the attack's draws of noise and not in the judge's"
        return skip("C5", f"{detail}; they do not count")
    return Check(
        "C5",
        "claims confirmed by the deployed model at another batch size",
        mistaken,
        0,
        "fail" if mistaken else "pass",
        _where(steps, "unconfirmed"),
    )


def _events(threat: Mapping[str, Any], steps: Sequence[StepRecord]) -> Check:
    if threat.get("kind") not in EVENTS:
        return skip("C28", f"{threat.get('kind')} is no change of events that a sensor delivers")
    false = sum(sum(step.infeasible) for step in steps)
    claimed = false + sum(sum(step.success) for step in steps)
    where = _where(steps, "infeasible") or f"{claimed} claims were worked out anew"
    return decide("C28", false, where)


def conclude(checks: Iterable[Check], steps: Sequence[StepRecord]) -> Finding:
    """Returns the finding: a failure or a crash is ``unreliable``, a flag ``flagged``."""
    checks = tuple(checks)
    failed = [f"{c.id} ({c.name}): {c.detail}" for c in checks if c.verdict == "fail"]
    failed += [
        f"{s.id} crashed on {sum(s.crashed)} samples: {s.message}" for s in steps if any(s.crashed)
    ]
    if failed:
        return Finding("unreliable", tuple(failed))
    flagged = [f"{c.id} ({c.name}): {c.detail}" for c in checks if c.verdict == "flag"]
    if flagged:
        return Finding("flagged", tuple(flagged))
    return Finding("no evidence of masking")


def _data(manifest: Manifest, *, intact: bool) -> Check:
    both = manifest.training
    share = None if both is None else both / len(manifest.indices)
    verdict: Grade = "pass"
    detail = "" if share is not None else "the training samples are not known"
    if share:
        verdict = "flag" if share <= OVERLAP else "fail"
        detail = f"{both} of {len(manifest.indices)} samples are training samples"
    if not intact:
        verdict, detail = "fail", "the samples changed while they were evaluated"
    return Check(
        "C29", "data as in the manifest, disjoint from training", share, 0, verdict, detail
    )


def _where(steps: Sequence[StepRecord], bits: str) -> str:
    counts = [(step.id, sum(getattr(step, bits))) for step in steps]
    return ", ".join(f"{count} in {name}" for name, count in counts if count)
