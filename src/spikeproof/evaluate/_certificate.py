"""The record of a certification: what holds of every sample, and whether attacks agree."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikeproof.errors import Refusal
from spikeproof.evaluate._intake import Manifest
from spikeproof.evaluate._packing import packed, unpacked
from spikeproof.evaluate._record import Check, Record
from spikeproof.records import read_json, write_json

SCHEMA = 1
KIND = "certificate"
SANDWICH = "sandwich"
VOTED = ("smoothing", "rate_coding")  # what they certify is a vote, not the network's own answer


@dataclass(frozen=True)
class Certificate:
    """What was proved; rows of samples follow ``data.indices``.

    ``clean`` says whether the answer that is certified, the network's or the vote's, is right, and
    ``certified`` whether it stays so for every input that the threat admits. ``margin`` is the
    least lower bound of the label's logit less another's (exact: its least value), ``radius`` how
    far the vote cannot change; a method has one of them. ``checks`` compare it with attacks.
    """

    model: Mapping[str, Any]
    data: Manifest
    threat: Mapping[str, Any]
    method: Mapping[str, Any]
    seed: int
    clean: tuple[bool, ...]
    certified: tuple[bool, ...]
    margin: tuple[float, ...]
    radius: tuple[float, ...]
    checks: tuple[Check, ...]
    environment: Mapping[str, Any]
    times: Mapping[str, Any]

    @property
    def clean_accuracy(self) -> float:
        """The share of samples whose answer is right."""
        return sum(self.clean) / len(self.clean)

    @property
    def certified_accuracy(self) -> float:
        """The share of samples whose answer is right and proved to stay so."""
        return sum(self.certified) / len(self.certified)


def sandwich(certificate: Certificate, record: Record) -> Check:
    """Returns whether attacks broke a certified sample, which proves one of the two wrong.

    Both must be of the same network, weights and constants, of the same threat and samples, and the
    certificate of the network's own answer. The value is the number of contradictions.
    """
    method = certificate.method["kind"]
    if method in VOTED:
        raise Refusal(
            f"the method is {method} and the evaluation is of the network's own answers; what is "
            "certified is a vote over noise, another classifier; compare method ibp or exact"
        )
    made, met = certificate.model, record.model
    pairs = {
        "weights": (made["weights_sha256"], met["weights_sha256"]),
        "constants": (made.get("network_sha256"), met.get("network_sha256", "not told")),
        "threat": (dict(certificate.threat), dict(record.threat)),
        "samples": (certificate.data.tensor_sha256, record.data.tensor_sha256),
        "labels": (certificate.data.label_sha256, record.data.label_sha256),
    }
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise Refusal(
                f"the {name} of the evaluation are {theirs} and of the certificate {ours}; a "
                "certificate says nothing of others; evaluate the same network and samples under "
                "the same threat"
            )
    proved = [certificate.certified[place] for place in record.places]
    rows = zip(record.places, proved, record.robust, record.clean, strict=True)
    wrong = [place for place, sure, stands, right in rows if sure and not (stands and right)]
    detail = (
        f"certified {sum(proved)}, standing {sum(record.robust)}, right {sum(record.clean)} of "
        f"{len(proved)} samples"
    )
    if wrong:
        shown = ", ".join(str(certificate.data.indices[place]) for place in wrong[:5])
        detail += f"; certified and broken: {shown}"
    return Check(
        SANDWICH,
        "no certified sample is broken by an attack",
        len(wrong),
        0,
        "fail" if wrong else "pass",
        detail,
    )


def overview_of(certificate: Certificate) -> dict[str, Any]:
    """Returns the numbers that readers ask first."""
    known = [r for r in certificate.radius if r > 0]
    return {
        "samples": len(certificate.clean),
        "clean_accuracy": certificate.clean_accuracy,
        "certified_accuracy": certificate.certified_accuracy,
        "mean_radius": sum(known) / len(certificate.radius) if certificate.radius else None,
        "abstained": len(certificate.radius) - len(known) if certificate.radius else None,
    }


def write_certificate(path: Path, certificate: Certificate) -> None:
    """Writes a certificate as JSON; rows of numbers are packed."""
    values = packed(asdict(certificate))
    write_json(path, values | {"schema": SCHEMA, "kind": KIND, "summary": overview_of(certificate)})


def read_certificate(path: Path) -> Certificate:
    """Reads a certificate back; another kind or schema is refused by its name."""
    values = read_json(path)
    kind, schema = values.pop("kind", None), values.pop("schema", None)
    if (kind, schema) != (KIND, SCHEMA):
        raise Refusal(
            f"{path} is of kind {kind!r} and schema {schema!r}; a certificate of schema {SCHEMA} "
            "is needed; name one, or certify again"
        )
    values.pop("summary", None)
    try:
        return unpacked(Certificate, values)
    except (ValueError, TypeError, binascii.Error) as error:
        said = (str(error).splitlines() or [""])[0]
        raise Refusal(
            f"{path} is damaged ({type(error).__name__}: {said}); a certificate is read as it was "
            "written; take an unchanged copy"
        ) from None


def beyond(radii: Sequence[float], eps: float, slack: float) -> tuple[bool, ...]:
    """Returns which radii hold the whole budget, and what a judge forgives beside it."""
    return tuple(radius > eps + slack * max(1.0, eps) for radius in radii)
