from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from spikeproof.attacks import Linf
from spikeproof.catalogue import load_network, read_data, read_recipe, read_spec, read_suite
from spikeproof.cli._train import train
from spikeproof.evaluate import Conditions, evaluate
from tests.report import records

RECIPE = """
[model]
kind = "mlp"
hidden = [16]
[network]
T = 2
[train]
epochs = 4
batch = 64
optimizer = { kind = "adam", lr = 0.01 }
"""

SUITE = """
name = "mine"

[[steps]]
id = "noise"
everyone = true
attack = { search = { kind = "random", draws = 3 } }

[[steps]]
id = "pgd"
attack = { search = { kind = "pgd", steps = 3 }, rule = { kind = "bptr" } }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder as the commands before this one leave it."""
    out, quiet = tmp_path_factory.mktemp("cli"), Console(quiet=True)
    (out / "tiny.toml").write_text(RECIPE)
    (out / "mine.toml").write_text(SUITE)
    train(read_recipe(out / "tiny.toml"), out / "run", out, console=quiet)
    evaluate(
        load_network(out / "run"),
        read_data(read_spec(out / "run").recipe, out),
        Linf(0.2),
        read_suite(out / "mine.toml"),
        out=out / "run" / "evaluation",
        conditions=Conditions(limit=30),
        checks=(),
    )
    return out / "run"


def pictures(path):
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'src="data:image/png;base64,([^"]*)" alt="sample (\d+), (\w+)"', text)
    return {
        (int(place), kind): np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))
        for uri, place, kind in found
    }


def test_the_page_shows_what_the_network_saw_and_said(run, folder, tmp_path):
    out = tmp_path / "page.html"
    code, said, err = run("report", folder, "-o", out)
    assert (code, err) == (0, "")
    assert "run keeps" in said.replace("\u00a0", " ")
    assert f"page: {out}" in said
    shown = pictures(out)
    assert {kind for _, kind in shown} == {"clean", "perturbed", "difference"}
    model, data = load_network(folder), read_data(read_spec(folder).recipe, tmp_path).test
    values = json.loads((folder / "evaluation" / "record.json").read_text())
    indices = np.frombuffer(base64.b64decode(values["data"]["indices"]), "<u4")
    titles = re.findall(r"<h3>(\d) → (\d)</h3>", out.read_text(encoding="utf-8"))
    places = sorted({place for place, _ in shown})
    assert len(titles) == len(places) > 2
    for place, (label, answer) in zip(places, titles, strict=True):
        x, y = data.batch(torch.tensor([int(indices[place])]))
        assert np.abs(shown[place, "clean"] - 255 * x[0, 0].numpy()).max() <= 0.5
        assert int(label) == int(y)
        perturbed = torch.tensor(shown[place, "perturbed"] / 255.0, dtype=torch.float32)
        assert (perturbed - x[0, 0]).abs().max() <= 0.2 + 0.01
        with torch.no_grad():
            assert int(model(x).argmax()) == int(label) != int(answer)


def test_a_record_away_from_its_network_still_shows_the_samples(run, folder, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    for name in ("record.json", "adversarials.safetensors"):
        (away / name).write_bytes((folder / "evaluation" / name).read_bytes())
    assert run("report", away, "-o", tmp_path / "page.html")[0] == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert {kind for _, kind in pictures(tmp_path / "page.html")} > {"clean"}
    assert "→" not in "".join(re.findall("<h3>.*?</h3>", text))
    assert run("report", away, folder, "-o", tmp_path / "both.html")[0] == 0
    both = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<h3>\d → \d</h3>", both)) % 2 == 0  # found in the other run


def test_an_unknown_set_shows_the_adversarials_alone(run, tmp_path):
    values = records.evaluation(20, name="a set of mine")
    places = records.broken_places(values)
    x_adv = np.zeros((len(places), 1, 8, 8), np.float32)
    records.write(tmp_path / "run", values, x_adv, places)
    assert run("report", tmp_path / "run", "-o", tmp_path / "page.html")[0] == 0
    assert {kind for _, kind in pictures(tmp_path / "page.html")} == {"perturbed"}


def test_a_leaderboard_is_a_page_and_its_export(run, tmp_path):
    records.write(tmp_path / "in" / "one", records.evaluation(50))
    records.write(tmp_path / "in" / "two", records.evaluation(50, status="unreliable"))
    code, said, _ = run("report", "--leaderboard", tmp_path / "in", "-o", tmp_path / "board.html")
    assert code == 0
    assert "1 one:" in said
    assert "- two:" in said
    exported = json.loads((tmp_path / "board.json").read_text())["entries"]
    assert [entry["name"] for entry in exported] == ["one", "two"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no run was named"),
        (("RUN", "-o", "OUT"), "is a folder"),
        (("RUN", "-o", "OUT/page.txt"), "ends in .html"),
        (("RUN", "--claim", "45", "-o", "OUT/page.html"), "write 0.45 for 45 %"),
        (("RUN", "--leaderboard", "OUT", "-o", "OUT/page.html"), "both runs and --leaderboard"),
        (("--leaderboard", "OUT", "--claim", "0.4", "-o", "OUT/page.html"), "--claim"),
        (("OUT/none", "-o", "OUT/page.html"), "does not exist"),
    ],
)
def test_what_cannot_be_done_costs_one_sentence(run, tmp_path, words, said):
    made = records.write(tmp_path / "run", records.evaluation())
    (tmp_path / "out").mkdir()
    given = [w.replace("RUN", str(made)).replace("OUT", str(tmp_path / "out")) for w in words]
    code, _, err = run("report", *given)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not list((tmp_path / "out").iterdir())


def test_records_without_pictures_are_reported_without_torch(tmp_path):
    records.write(tmp_path / "run", records.evaluation())
    script = (
        "import sys; sys.argv = ['spikeproof', 'report', 'run', '-o', 'page.html']\n"
        "from spikeproof.cli import main; main()\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").exists()
