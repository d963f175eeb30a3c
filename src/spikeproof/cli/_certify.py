"""Certificates at the terminal: a model, its samples, and what is proved of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from spikeproof.catalogue import read_threat
from spikeproof.cli._evaluate import Target, load_target, named, watched
from spikeproof.cli._terminal import tell, terminal
from spikeproof.cli._train import pick_device
from spikeproof.errors import Refusal, nearest
from spikeproof.evaluate import (
    CROWN,
    IBP,
    Certificate,
    Conditions,
    Exact,
    Method,
    Progress,
    RateCoding,
    Smoothing,
    certify,
    overview_of,
    read_record,
)


def method_of(name: str, sigma: float, draws: int, alpha: float) -> Method:
    """Returns the method of a name, with the knobs that are its own."""
    made: dict[str, Callable[[], Method]] = {
        "ibp": IBP,
        "crown": CROWN,
        "exact": Exact,
        "smoothing": lambda: Smoothing(sigma, n=draws, alpha=alpha),
        "rate_coding": lambda: RateCoding(n=draws, alpha=alpha),
    }
    if name not in made:
        raise Refusal(f"{name!r} is no method of certificates; {nearest(name, made)}")
    return made[name]()


def certify_command(
    target: Target,
    threat: str,
    method: Method,
    out: Path,
    conditions: Conditions,
    against: Path | None = None,
    console: Console | None = None,
) -> Certificate:
    """Returns the certificate, which is also written to ``out``."""
    console = console or terminal()
    met = read_threat(threat)
    record = None
    if against is not None:
        record = read_record(against / "record.json" if against.is_dir() else against)
    model, dataset = load_target(target, console)
    console.print(
        f"{dataset.name}: {conditions.limit or len(dataset.test)} of {len(dataset.test)} test "
        f"samples; {named(model)} under {threat}; method {method.kind}"
    )
    with watched(console, "certificates", _told) as watch:
        certificate = certify(
            model.to(pick_device(target.device)),
            dataset,
            met,
            method,
            out=out,
            conditions=conditions,
            against=record,
            watch=watch,
        )
    report(console, certificate)
    tell(console, f"record: {out / 'record.json'}")
    return certificate


def report(console: Console, certificate: Certificate) -> None:
    """Prints the numbers that are looked for first."""
    told = overview_of(certificate)
    count = told["samples"]
    tell(console, f"clean accuracy {told['clean_accuracy']:.2%} on {count} samples")
    tell(console, f"certified accuracy {told['certified_accuracy']:.2%}")
    if certificate.radius:
        tell(
            console,
            f"mean radius {told['mean_radius']:.4g}; no answer for {told['abstained']} samples; a "
            "vote over noise is certified, not the network's own answer",
        )
    for check in certificate.checks:
        tell(console, f"{check.id}: {check.verdict}, {check.detail}")


def _told(p: Progress, left: str) -> tuple[str, str]:
    return p.step, f"{p.standing} certified, {p.rate:,.1f} samples/s, {left} left"
