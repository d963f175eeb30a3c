"""Records to one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from spikeproof.errors import Refusal
from spikeproof.records import replace_file
from spikeproof.report._blocks import Chapter, Page, Section
from spikeproof.report._certificates import certificate_section, certified_fact
from spikeproof.report._comparison import comparison_sections, summary_sentence
from spikeproof.report._contributions import contribution_section, masking_section
from spikeproof.report._curves import accuracy_section
from spikeproof.report._energy import energy_section, layer_bytes, packed_section
from spikeproof.report._inside import fed, firing, inside_sections
from spikeproof.report._pictures import Look, picture_section
from spikeproof.report._provenance import Carrier, provenance_section
from spikeproof.report._read import DAMAGE, Certificate, Evaluation, Run
from spikeproof.report._verdict import doubts_section, headline, verdict
from spikeproof.report._words import TONES, listed

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("d3.min.js", "plot.umd.min.js", "page.js")
LICENCES = ("LICENSE-plot.txt", "LICENSE-d3.txt")  # which want to go where the scripts go
UNATTACKED = ("diagnosis", "certificates")  # what chapters without an evaluation say
MASKED = ("-widths", "-trail")  # sections of a diagnosis that speak of masking
OPEN = 4  # chapters that are open; of more, each opens on a click
# what could end a script element, or a line of a script in old engines
ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def make_page(runs: Sequence[Run], look: Look | None = None, claimed: float | None = None) -> Page:
    """Returns the page of these runs.

    ``look`` finds the inputs that the adversarials of an evaluation were made of; ``claimed`` is
    the robust accuracy that the authors of a single evaluation state.
    """
    pairs = [(run, found) for run in runs for found in run.evaluations]
    if claimed is not None and len(pairs) != 1:
        raise Refusal(
            f"a claim was given for {len(pairs)} evaluations; it is the number of one; name its run"
        )
    if not pairs and not any(run.diagnoses or run.certificates for run in runs):
        raise Refusal(
            f"{runs[0].path} holds neither evaluation, diagnosis nor certificate; a report is made "
            "of these; run spikeproof evaluate first"
        )
    try:
        page = _assembled(runs, look, claimed)
        as_island(page.figures)
    except DAMAGE as error:
        if isinstance(error, Refusal):
            raise
        names = ", ".join(str(run.path) for run in runs[:3])
        raise Refusal(
            f"a record of {names} is damaged ({type(error).__name__}: {error}); a record is read "
            "as it was written; take an unchanged copy"
        ) from None
    return page


def write_page(path: Path, page: Page) -> None:
    """Writes a page as one HTML file, whole or not at all."""
    text = render("page.html", page.title, page.figures, page=page)
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def render(template: str, title: str, figures: Mapping[str, Any], **values: Any) -> str:
    """Returns a page; all that stands in records is escaped."""
    scripts = [(ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),  # noqa: S704  our own
            scripts=[Markup(script) for script in scripts],  # noqa: S704  our own
            policy=_policy(scripts),
            licences=[(ASSETS / name).read_text(encoding="utf-8") for name in LICENCES],
            island=Markup(as_island(figures)),  # noqa: S704  escaped there
            **values,
        )
    )


def as_island(values: Any) -> str:
    """Returns JSON that can stand inside a script element, whatever its texts are."""
    return json.dumps(values, allow_nan=False, ensure_ascii=True).translate(ESCAPED)


def _policy(scripts: Sequence[str]) -> str:
    """Returns what the page may do: run these scripts, and fetch nothing."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _assembled(runs: Sequence[Run], look: Look | None, claimed: float | None) -> Page:
    pairs = [(run, found) for run in runs for found in run.evaluations]
    carrier, many = Carrier(), len(pairs) > 1
    chapters = list(_chapters(runs, look, claimed, carrier))
    if not pairs:
        names = listed(run.name for run in runs)
        what = "diagnosed" if any(run.diagnoses for run in runs) else "certified"
        said = f"{names} {'was' if len(runs) == 1 else 'were'} {what} and not evaluated."
        return Page(names, said, "", "", (), tuple(chapters))
    founds = [found for _, found in pairs]
    if not many:
        found = founds[0]
        title, sentence, status = found.name, verdict(found, claimed), found.status
    else:
        title, sentence, status = f"{len(founds)} evaluations", summary_sentence(founds), ""
    links = [chapter.id for chapter in chapters if chapter.subtitle not in UNATTACKED]
    intro = comparison_sections(pairs, links) if many else ()
    return Page(title, sentence, status, TONES.get(status, ""), intro, tuple(chapters))


def _chapters(
    runs: Sequence[Run], look: Look | None, claimed: float | None, carrier: Carrier
) -> Iterator[Chapter]:
    folded = sum(len(run.evaluations) for run in runs) > OPEN
    attacked = {found.weights for run in runs for found in run.evaluations}
    given = {c.path.resolve(): c for run in runs for c in run.certificates}
    strange = {run.path: [c for c in run.certificates if c.weights not in attacked] for run in runs}
    parts = (max(len(r.evaluations), bool(r.diagnoses or strange[r.path])) for r in runs)
    number, many = 0, sum(parts) > 1
    for run in runs:
        for found in run.evaluations:
            number += 1
            key = f"run-{number}"
            last = found is run.evaluations[-1]
            inside = _diagnosed(run, key) if last else []
            proofs = [c for c in given.values() if c.weights == found.weights]
            proofs += strange[run.path] if last else []
            sections = _sections(found, run, key, look, claimed, carrier, inside, proofs)
            title = found.name if many else ""
            sentence = verdict(found, claimed).removeprefix(f"{found.name} ") if many else ""
            chapter = Chapter(key, title, sentence, TONES.get(found.status, ""), tuple(sections))
            yield replace(chapter, folded=folded)
        if not run.evaluations and (run.diagnoses or strange[run.path]):
            number += 1
            key = f"run-{number}"
            proved = certificate_section(strange[run.path], f"{key}-certificates")
            whole = (*_diagnosed(run, key), *([proved] if proved else []))
            yield Chapter(key, run.name, UNATTACKED[0 if run.diagnoses else 1], "", whole)


def _sections(
    found: Evaluation,
    run: Run,
    key: str,
    look: Look | None,
    claimed: float | None,
    carrier: Carrier,
    inside: Sequence[Section],
    proofs: Sequence[Certificate],
) -> Iterator[Section]:
    yield Section(f"{key}-numbers", "", (headline(found, claimed, certified_fact(proofs, found)),))
    yield doubts_section(found, key)
    yield accuracy_section(found, key)
    yield contribution_section(found, key)
    sections = [
        masking_section(found, key),
        *(section for section in inside if section.id.endswith(MASKED)),
        picture_section(found, key, look),
        *(section for section in inside if not section.id.endswith(MASKED)),
        certificate_section(proofs, f"{key}-certificates", found),
    ]
    yield from (section for section in sections if section is not None)
    yield provenance_section(found, run, key, carrier)


def _diagnosed(run: Run, key: str) -> list[Section]:
    """Returns what was measured of a network beside its evaluations."""
    neurons = fed(run.diagnoses[0]) if run.energy and len(run.diagnoses) == 1 else {}
    weighted = {str(layer["name"]) for layer in (run.energy or {}).get("layers", ())}
    neurons = {name: one for name, one in neurons.items() if name in weighted}
    whole = neurons and {one.name for one in neurons.values()} == set(firing(run.diagnoses[0]))
    found = [
        section
        for n, diagnosis in enumerate(run.diagnoses, 1)
        for section in inside_sections(diagnosis, f"{key}-inside-{n}", layers=not whole)
    ]
    told = False
    if run.energy:
        found.append(energy_section(run.energy, f"{key}-energy", run.packed, neurons))
        told = bool(layer_bytes(run.energy["layers"], run.packed))
    if run.packed:
        found.append(packed_section(run.packed, f"{key}-packed", alone=not told))
    return found
