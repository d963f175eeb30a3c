from __future__ import annotations

import base64
import copy
import gzip
import hashlib
import importlib.util
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from spikeproof.errors import Refusal
from spikeproof.report import Originals, leaderboard, make_page, read_runs, write_page
from spikeproof.report._page import as_island
from tests.report import records
from tests.report.browser import browser, find

ODD = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> & \" ' \u2028 \u202e \U0001f9ff </title>"
)
READY = "document.documentElement.dataset.drawn === 'yes'"
needs_browser = pytest.mark.skipif(
    find() is None, reason="no Chromium is here: install one, or name it in SPIKEPROOF_BROWSER"
)


def axe() -> str:
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None:
        pytest.skip("axe-core is absent: scripts/setup test brings it")
    return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text()


def whole(folder: Path, **values) -> Path:
    """A run folder with training, an evaluation with adversarials, and a diagnosis."""
    made = records.evaluation(60, more=4, **values)
    places = records.broken_places(made)
    x_adv = np.random.default_rng(0).random((len(places), 1, 8, 8)).astype(np.float32)
    records.write(folder, {"kind": "training", "recipe": {"seed": 0}, "result": {}})
    records.write(folder / "evaluation", made, x_adv, places)
    records.write(folder / "diagnosis", records.diagnosis())
    records.write(folder / "certificate", records.certificate(made, [False] * 60))
    return folder


def look(found, numbers, x_adv):
    return Originals(x_adv.clip(0.05, 0.95), tuple(n % 10 for n in numbers), (3,) * len(numbers))


def written(path: Path, *folders: Path) -> Path:
    write_page(path, make_page(read_runs(folders), look))
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    root = tmp_path_factory.mktemp("pages")
    one = whole(root / "one")
    others = [records.write(root / f"r{n}", records.evaluation(60, seed=n)) for n in range(5)]
    hostile = records.evaluation(30, name=ODD, status="unreliable")
    hostile["model"]["name"] = ODD
    hostile["checks"][1] |= {"name": ODD, "detail": ODD}
    hostile["steps"][0]["message"] = ODD
    hostile["steps"][0]["crashed"] = records.bits([True] * 30)
    hostile["steps"][1]["id"] = ODD
    hostile["steps"][1]["attack"] = ODD
    hostile["suite"] = ODD
    records.write(root / "hostile", hostile)
    checks = [{"id": "sandwich", "verdict": "fail", "detail": ODD}]
    proof = records.certificate(hostile, [False] * 30, method=ODD, checks=checks)
    records.write(root / "hostile" / "certificate", proof)
    diagnosis = records.diagnosis()
    text = json.dumps(diagnosis).replace("layers.10", "LAYER").replace("own gradient", "RULE")
    odd = json.dumps(ODD)[1:-1]
    (root / "hostile" / "inside").mkdir()
    (root / "hostile" / "inside" / "record.json").write_text(
        text.replace("LAYER", odd).replace("RULE", odd)
    )
    leaderboard(root, root / "board.html")
    return {
        "one": written(root / "one.html", one),
        "many": written(root / "many.html", one, *others),
        "hostile": written(root / "hostile.html", root / "hostile"),
        "board": root / "board.html",
    }


@pytest.fixture(scope="module")
def tab_of(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


class Seen(HTMLParser):
    """Tags, what scripts hold, and what is fetched."""

    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self.fetched, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append([dict(attrs), ""])
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "action") or (tag, name) == (
                "link",
                "href",
            ):
                self.fetched.append(value)
            assert not name.startswith("on"), name

    def handle_endtag(self, tag):
        self.tags.append(f"/{tag}")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script" and self.scripts:
            self.scripts[-1][1] += data
        self.text += data


def parsed(path):
    seen = Seen()
    seen.feed(path.read_text(encoding="utf-8"))
    return seen


def test_a_page_fetches_nothing_and_runs_only_its_own_scripts(pages):
    for path in pages.values():
        seen = parsed(path)
        assert all(url.startswith("data:image/png;base64,") for url in seen.fetched)
        assert not {"link", "iframe", "object", "base", "form"} & set(seen.tags)
        text = path.read_text(encoding="utf-8")
        policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
        allowed = set(re.findall(r"sha256-[A-Za-z0-9+/=]+", policy))
        runs = [body for attrs, body in seen.scripts if "type" not in attrs]
        digests = [hashlib.sha256(body.encode()).digest() for body in runs]
        assert {f"sha256-{base64.b64encode(d).decode()}" for d in digests} == allowed
        assert "connect-src" not in policy
        assert policy.startswith("default-src 'none'")


def test_text_of_a_record_is_text(pages):
    raw = pages["hostile"].read_text(encoding="utf-8")
    assert "<script>alert" not in raw
    assert "onerror=alert(1)>" not in raw
    seen = parsed(pages["hostile"])
    assert seen.text.count(ODD) >= 4
    assert len(seen.scripts) == len(parsed(pages["one"]).scripts)


def test_an_island_holds_any_text_and_cannot_be_left():
    values = {ODD: [ODD, 1.5, None], "x": "</script><!--"}
    island = as_island(values)
    assert not set(island) & set("<>&\u2028\u2029")
    assert island.isascii()
    assert json.loads(island) == values
    with pytest.raises(ValueError, match="JSON"):
        as_island(float("nan"))


def test_a_page_carries_the_licences_of_what_it_carries(pages):
    text = " ".join(parsed(pages["one"]).text.split())
    for owner in ("Copyright 2020-2025 Observable, Inc.", "Copyright 2010-2026 Mike Bostock"):
        assert f"{owner} Permission to use, copy, modify" in text


def test_sections_stand_in_the_order_of_questions(pages, tmp_path):
    (run,) = read_runs([pages["one"].parent / "one"])
    titles = [s.title for s in make_page([run], look).sections if s.title]
    assert titles == [
        "Doubts", "Accuracy against the attacker", "Which attack broke what",
        "The same network through each gradient", "One attack, one thing changed",
        "The trail of sparsity", "What breaks it", "Spikes, clean against attacked",
        "Vulnerability against its bounds", "The landscape around a sample",
        "Before and behind the encoder", "Layers", "What the diagnosis left out",
        "Certificates beside attacks", "Provenance",
    ]  # fmt: skip


def test_every_figure_has_a_table_and_names_are_unique(pages):
    for path in pages.values():
        text = path.read_text(encoding="utf-8")
        ids = re.findall(r'\sid="([^"]*)"', text)
        assert len(ids) == len(set(ids))
        figures = re.findall(r'data-figure="([^"]*)"', text)
        assert all(f"{name}-table" in ids for name in figures)
        targets = re.findall(r'href="#([^"]*)"', text)
        assert set(targets) <= set(ids)


def test_the_same_records_make_the_same_page(pages, tmp_path):
    again = written(tmp_path / "again.html", pages["one"].parent / "one")
    assert again.read_bytes() == pages["one"].read_bytes()


def test_a_diagnosis_alone_makes_a_page_and_training_alone_none(tmp_path):
    records.write(tmp_path / "d", records.diagnosis())
    page = make_page(read_runs([tmp_path / "d"]))
    assert page.verdict == "d was diagnosed and not evaluated."
    assert "The trail of sparsity" in [s.title for s in page.sections]
    records.write(tmp_path / "t", {"kind": "training"})
    with pytest.raises(Refusal, match="neither evaluation, diagnosis nor certificate"):
        make_page(read_runs([tmp_path / "t"]))


def test_a_claim_is_of_one_evaluation(tmp_path):
    for name in ("a", "b"):
        records.write(tmp_path / name, records.evaluation())
    with pytest.raises(Refusal, match="for 2 evaluations"):
        make_page(read_runs([tmp_path / "a", tmp_path / "b"]), claimed=0.5)
    assert "were claimed" in make_page(read_runs([tmp_path / "a"]), claimed=0.5).verdict


def places_of(values, path=()):
    """Every place of a record: the path of keys and numbers that leads there."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values)
    for key, inner in pairs:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places_of(inner, (*path, key))


def proof():
    return records.certificate(records.evaluation(12), [False] * 12)


@pytest.mark.parametrize("make", [lambda: records.evaluation(12), records.diagnosis, proof])
def test_whatever_stands_in_a_record_makes_a_page_or_one_sentence(make, tmp_path):
    generator = np.random.default_rng(0)
    odd = [None, "", ODD, -1, 1e300, float("nan"), True, [], {}, [[]], {"kind": {}}, "AA=="]
    said = []
    paths = [path for path in places_of(make()) if path not in (("kind",), ("schema",))]
    chosen = generator.permutation(len(paths))[:60]
    for n, at in enumerate(chosen):
        values = copy.deepcopy(make())
        *outer, last = paths[at]
        inner = values
        for key in outer:
            inner = inner[key]
        inner[last] = odd[n % len(odd)]
        folder = records.write(tmp_path / f"r{n}", values)
        try:
            write_page(folder / "page.html", make_page(read_runs([folder])))
        except Refusal as refusal:
            said.append(str(refusal))
    assert all("damaged" in text for text in said)
    assert 0 < len(said) < len(chosen)
    assert len([*tmp_path.glob("*/page.html")]) == len(chosen) - len(said)


@pytest.mark.slow
def test_a_thousand_samples_and_fifty_runs_stay_small(tmp_path):
    values = records.evaluation(1000, more=52)
    for n in range(50):
        records.write(tmp_path / f"r{n:02d}", values)
    runs = [tmp_path / f"r{n:02d}" for n in range(50)]
    assert written(tmp_path / "one.html", runs[0]).stat().st_size < 2e6
    assert written(tmp_path / "fifty.html", *runs).stat().st_size < 10e6


@needs_browser
@pytest.mark.parametrize("name", ["one", "many", "hostile", "board"])
def test_a_browser_draws_everything_complains_of_nothing_and_asks_nobody(pages, tab_of, name):
    tab = tab_of
    tab.open(pages[name])
    tab.wait(READY)
    tab.ask("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    tab.wait(
        "[...document.querySelectorAll('[data-figure]')].every((p) => p.querySelector('svg g'))"
    )
    assert tab.complaints() == []
    assert tab.requests() == []
    assert tab.ask("window.scrollX, document.documentElement.scrollWidth <= innerWidth")
    tab.size(400, 800)
    assert tab.ask("document.documentElement.scrollWidth <= innerWidth")
    drawn = tab.ask("document.querySelectorAll('[data-figure]').length")
    assert drawn == len(re.findall("data-figure=", pages[name].read_text())) > (name != "board") - 1
    if name == "hostile":
        assert (
            tab.ask("document.querySelectorAll('img[src=x], main script:not([type])').length") == 0
        )
        assert tab.ask(f"document.body.innerText.includes({json.dumps(ODD[:50])})")


@needs_browser
@pytest.mark.parametrize(
    ("name", "dark"), [("one", False), ("one", True), ("many", False), ("board", True)]
)
def test_axe_finds_nothing_serious(pages, tab_of, name, dark):
    source = axe()
    tab = tab_of
    tab.open(pages[name], dark=dark)
    tab.wait(READY)
    tab.ask("document.querySelectorAll('.numbers').forEach((d) => { d.open = true; })")
    tab.ask(source + "; 0")
    found = tab.ask("axe.run().then((r) => r.violations.map((v) => [v.id, v.impact, "
                    "v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200))]))")  # fmt: skip
    assert [v for v in found if v[1] in ("serious", "critical")] == []


@needs_browser
def test_tables_are_sorted_and_filtered_by_keyboard(pages, tab_of):
    tab = tab_of
    tab.open(pages["many"])
    tab.wait(READY)
    table = "document.querySelector('#overview table[id^=overview-]')"
    column = f"[...{table}.tBodies[0].rows].map((r) => parseFloat(r.cells[4].dataset.v))"
    tab.ask(f"{table}.tHead.rows[0].cells[4].querySelector('button').focus()")
    tab.press("Enter", 13, "\r")
    assert tab.ask(f"{table}.tHead.rows[0].cells[4].getAttribute('aria-sort')") == "descending"
    worst = tab.ask(column)
    assert worst == sorted(worst, reverse=True)
    assert len(worst) == 6
    tab.press("Enter", 13, "\r")
    assert tab.ask(column) == sorted(worst)
    tab.ask("document.querySelector('#overview [data-filter]').focus()")
    for letter in "r3":
        tab.press(letter, ord(letter.upper()), letter)
    shown = (
        f"[...{table}.tBodies[0].rows].filter((r) => !r.hidden).map((r) => r.cells[0].textContent)"
    )
    assert tab.ask(shown) == ["r3"]
    assert tab.ask("document.querySelector('#overview [role=status]').textContent") == "1 of 6 rows"


@needs_browser
def test_the_theme_is_switched_and_figures_follow(pages, tab_of):
    tab = tab_of
    tab.open(pages["one"])
    tab.wait(READY)
    ink = "getComputedStyle(document.querySelector('.plot svg')).color"
    paper = "getComputedStyle(document.body).backgroundColor"
    seen = {}
    tab.ask("document.getElementById('theme').focus()")
    for _ in range(3):
        tab.press("Enter", 13, "\r")
        said = tab.ask("document.getElementById('theme').textContent")
        seen[said] = (tab.ask(paper), tab.ask(ink))
    assert set(seen) == {"Theme: light", "Theme: dark", "Theme: system"}
    assert seen["Theme: dark"] != seen["Theme: light"] == seen["Theme: system"]
    assert seen["Theme: dark"][1] != seen["Theme: light"][1]


@needs_browser
def test_the_record_comes_back_on_a_click(pages, tab_of):
    tab = tab_of
    tab.open(pages["one"])
    tab.wait(READY)
    tab.ask("URL.createObjectURL = (b) => { window.kept = b; return 'data:,'; };"
            "document.querySelector('.download').click()")  # fmt: skip
    tab.wait("window.kept !== undefined")
    digest = tab.ask(
        "kept.arrayBuffer().then((b) => crypto.subtle.digest('SHA-256', b)).then((d) => "
        "[...new Uint8Array(d)].map((x) => x.toString(16).padStart(2, '0')).join(''))"
    )
    path = pages["one"].parent / "one" / "evaluation" / "record.json"
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    packed = tab.ask("document.querySelector('script[type=\"text/plain\"]').textContent.trim()")
    assert gzip.decompress(base64.b64decode(packed)) == path.read_bytes()


@needs_browser
def test_the_first_paint_does_not_wait_for_the_figures(pages, tab_of):
    tab = tab_of
    tab.open(pages["many"])
    tab.wait(READY)
    assert tab.ask("performance.getEntriesByName('first-contentful-paint').length") == 1
    order = tab.ask(
        "performance.getEntriesByName('first-contentful-paint')[0].startTime < performance.now()"
    )
    assert order


@needs_browser
def test_a_folded_chapter_opens_where_a_link_leads(pages, tab_of):
    tab = tab_of
    tab.open(pages["many"])
    tab.wait(READY)
    assert tab.ask("document.querySelectorAll('details.chapter[open]').length") == 0
    tab.ask("document.querySelector('#overview td a, #overview th a').click()")
    tab.wait("document.querySelectorAll('details.chapter[open]').length === 1")
    tab.wait("document.querySelectorAll('details.chapter[open] .plot svg').length > 3")
