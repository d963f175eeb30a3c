"""The adversarials of an evaluation: kept beside its record, and judged again from the disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spikeproof.attacks import Threat, fingerprint, under_attack
from spikeproof.data import Dataset
from spikeproof.errors import Refusal
from spikeproof.evaluate._intake import Manifest, Samples, in_proportion, sealed
from spikeproof.evaluate._judge import judge, taken_for
from spikeproof.evaluate._record import Record, StepRecord
from spikeproof.evaluate._suite import plain
from spikeproof.records import digest, replace_file

FILE = "adversarials.safetensors"
ORIGINALS = "originals.safetensors"
KEPT = 24  # clean inputs, for those who have no data set
COUNTS = 255  # the largest number of events that a byte holds


def write_tensors(path: Path, places: Sequence[int], x_adv: Tensor) -> None:
    """Writes the adversarials of these samples; whole numbers as bytes, all others as float32."""
    _write(path, {"places": torch.tensor(places, dtype=torch.int64), "x_adv": _small(x_adv)})


def gather(
    files: Iterable[Path], folder: Path, places: Sequence[int], steps: Sequence[StepRecord]
) -> dict[str, Any]:
    """Writes one adversarial of every broken sample into ``folder``; returns what a record says.

    ``files`` hold them in any order; ``places`` are the samples that ``steps`` speak of.
    """
    rows: dict[int, Tensor] = {}
    for path in files:
        rows.update(zip(*read_tensors(path), strict=True))
    hit = [any(column) for column in zip(*(s.success for s in steps if s.counts), strict=True)]
    broken = sorted(place for place, fell in zip(places, hit, strict=True) if fell)
    if missing := [place for place in broken if place not in rows]:
        raise Refusal(
            f"the adversarials of {len(missing)} broken samples are not in {folder}; they are "
            "written as samples fall and are needed until the record is; evaluate again into "
            "another folder, or with Conditions(keep_adversarials=False)"
        )
    if not broken:
        (folder / FILE).unlink(missing_ok=True)
        return {}
    write_tensors(folder / FILE, broken, torch.stack([rows[place].float() for place in broken]))
    return {"adversarials": _told(folder / FILE, len(broken))}


def keep_originals(
    folder: Path,
    model: nn.Module,
    samples: Samples,
    manifest: Manifest,
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Writes what some of the adversarials in ``folder`` were made of, and what they are taken for.

    Classes are kept in proportion. Returns what a record says, with the names of the classes.
    """
    places, x_adv = read_tensors(folder / FILE)
    labels = torch.tensor([manifest.labels[place] for place in places])
    rows = torch.tensor(in_proportion(labels, min(KEPT, len(places))))
    chosen = [places[row] for row in rows.tolist()]
    x, y = samples.batch(torch.tensor([manifest.indices[place] for place in chosen]))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    said = taken_for(model, x_adv[rows].to(device), y.to(device))
    tensors = {
        "places": torch.tensor(chosen, dtype=torch.int64),
        "x": _small(x),
        "said": said.cpu(),
    }
    _write(folder / ORIGINALS, tensors)
    told = _told(folder / ORIGINALS, len(chosen))
    return {"originals": told | {"classes": list(classes)}}


def read_tensors(path: Path) -> tuple[list[int], Tensor]:
    """Returns the samples of a file of adversarials, and these as float32."""
    try:
        tensors = load_file(path)
        places, x_adv = tensors["places"].tolist(), tensors["x_adv"].float()
    except (OSError, KeyError, SafetensorError) as error:
        raise Refusal(
            f"{path} holds no adversarials ({type(error).__name__}: {error}); they are read as "
            "they were written; take an unchanged copy or evaluate again"
        ) from None
    return places, x_adv


def rejudge(
    folder: Path,
    record: Record,
    model: nn.Module,
    data: Samples | Dataset,
    threat: Threat,
    *,
    batch: int = 1,
) -> tuple[bool, ...]:
    """Returns which samples the adversarials beside a record break, told by the judge alone.

    They are those of ``record.broken`` put together, or the record does not tell the truth.
    """
    samples = data.test if isinstance(data, Dataset) else data
    check_terms(record, model, samples, threat)
    broken = dict.fromkeys(record.places, False)
    file = unchanged(folder, record)
    places, x_adv = read_tensors(file) if file else ([], torch.zeros(0))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with under_attack(model):
        for rows in torch.arange(len(places)).split(256):
            chosen = [places[row] for row in rows.tolist()]
            x, y = samples.batch(torch.tensor([record.data.indices[place] for place in chosen]))
            args = (x_adv[rows].to(device), x.to(device), y.to(device))
            verdict = judge(model, *args, threat, batch=batch)
            broken.update(zip(chosen, verdict.broken.tolist(), strict=True))
    return tuple(broken[place] for place in record.places)


def check_terms(record: Record, model: nn.Module, samples: Samples, threat: Threat) -> None:
    """Refuses another network, other samples and another threat than those of the record."""
    for said, found, name in (
        (record.model["weights_sha256"], fingerprint(model), "the weights are"),
        (record.threat, plain(threat), "the threat is"),
        (True, sealed(samples, record.data), "the samples being those of the record is"),
    ):
        if said != found:
            raise Refusal(
                f"{name} {found} and the record says {said}; adversarials are judged under what "
                "they were made for; take what the record names"
            )


def unchanged(folder: Path, record: Record) -> Path | None:
    """Returns where the adversarials of a record lie, if it has any; another file is refused."""
    kept: Mapping[str, Any] = record.artifacts.get("adversarials", {})
    if not kept:
        return None
    path = folder / kept["file"]
    found = digest(path) if path.is_file() else "absent"
    if found != kept["sha256"]:
        raise Refusal(
            f"the SHA-256 of {path} is {found} and the record says {kept['sha256']}; adversarials "
            "are those of their record, unchanged; restore the file, or evaluate anew"
        )
    return path


def _told(path: Path, samples: int) -> dict[str, Any]:
    size = path.stat().st_size
    return {"file": path.name, "sha256": digest(path), "samples": samples, "bytes": size}


def _small(x: Tensor) -> Tensor:
    """Returns whole numbers as bytes, all others as float32."""
    x = x.detach().float().cpu().contiguous()
    small = x.clamp(0, COUNTS).to(torch.uint8)
    return small if bool((small.float() == x).all()) else x


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    replace_file(path, lambda part: save_file(tensors, part))
