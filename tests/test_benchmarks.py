"""The logic of the benchmarks: what is timed is timed on a quiet machine, not here."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
OURS = ("steps", "linear_cost", "judge_speed", "compare", "neurons", "gpu", "runtime", "memory")
OURS += ("certificates", "pooling", "frontier", "figures", "compression", "first_paint")
PEERS = ("spikingjelly", "snntorch", "norse", "torchattacks", "pyautoattack")


def made(spec):
    """A candidate for the tests; it is made in another process."""
    if "missing" in spec:
        importlib.import_module(spec["missing"])
    return lambda: spec["count"] / spec.get("by", 1), {"count": spec["count"]}


@pytest.mark.parametrize("name", OURS)
def test_a_script_is_imported_without_its_peers(name, monkeypatch):
    if not (ROOT / "benchmarks" / f"{name}.py").exists():
        pytest.skip(f"there is no benchmark {name}")
    for peer in PEERS:
        monkeypatch.setitem(sys.modules, peer, None)
    importlib.import_module(f"benchmarks.{name}")


def test_the_first_is_compared_with_the_others_round_by_round():
    timing = importlib.import_module("benchmarks._timing")
    rows = {
        "ours": {"seconds": [1.0, 2.0, 3.0]},
        "theirs": {"seconds": [4.0, 4.0, 4.0], "peak": 7},
        "gone": {"error": "not installed: gone"},
    }
    found = timing.paired(rows, "ours")
    assert found["theirs"]["ours / this"] == {"q1": 0.375, "median": 0.5, "q3": 0.625}
    assert found["theirs"]["seconds"]["median"] == 4
    assert found["theirs"]["peak"] == 7
    assert found["gone"] == rows["gone"]
    assert timing.paired({"theirs": rows["theirs"]}, "ours")["theirs"].keys() == {"seconds", "peak"}


def test_the_exponent_is_that_of_a_power():
    timing = importlib.import_module("benchmarks._timing")
    assert timing.exponent([1, 2, 4, 8], [3, 6, 12, 24]) == 1
    assert timing.exponent([1, 2, 4], [1, 4, 16]) == 2
    assert timing.exponent([1, 2, 4], [5, 5, 5]) == 0


@pytest.mark.slow  # three processes import torch
def test_candidates_are_timed_in_turn_and_a_missing_or_broken_one_says_so():
    candidates = importlib.import_module("benchmarks._candidates")
    specs = {
        "whole": {"count": 1},
        "missing": {"missing": "a_module_of_nobody", "count": 1},
        "broken": {"count": 1, "by": 0},
    }
    rows = candidates.interleaved(made, specs, rounds=3, warmup=1)
    assert len(rows["whole"]["seconds"]) == 3
    assert rows["whole"]["count"] == 1
    assert rows["whole"]["peak"] > 0
    assert rows["missing"] == {"error": "not installed: a_module_of_nobody"}
    assert rows["broken"]["error"] == "ZeroDivisionError: division by zero"
    assert "seconds" not in rows["broken"]


def test_the_plain_loop_computes_what_we_compute():
    networks = importlib.import_module("benchmarks._networks")
    rebuilt = importlib.import_module("benchmarks._rebuilt")
    ours = networks.network("small", 4, 0.125).eval()
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = ours(x)
        assert logits.abs().max() > 0
        for repeated in (False, True):
            other = rebuilt.Rebuilt(ours, "plain", repeated=repeated).eval()
            torch.testing.assert_close(other(x), logits)


def test_every_step_of_standard_that_follows_gradients_has_a_counterpart():
    from spikeproof.attacks import Linf
    from spikeproof.evaluate import named_suite

    counterparts = importlib.import_module("benchmarks._counterparts")
    suite = named_suite("standard", Linf(0.05), 10, (1, 8, 8))
    without = [s.id for s in suite.steps if counterparts.counterpart(s.attack, 0.05) is None]
    assert without == ["S1-random"]


def test_the_front_holds_what_no_other_dominates():
    nets = importlib.import_module("benchmarks._nets")
    draw = torch.Generator().manual_seed(0)
    drawn = torch.randint(5, (40, 2), generator=draw).tolist()
    points = {str(number): (float(a), float(b)) for number, (a, b) in enumerate(drawn)}
    edge = [points[name] for name in nets.front(points)]
    for point in points.values():
        beaten = any(a >= point[0] and b >= point[1] and (a, b) != point for a, b in edge)
        assert beaten != (point in edge)
    assert edge == sorted(edge)
    assert [b for _, b in edge] == sorted((b for _, b in edge), reverse=True)
    assert not nets.dominates((1.0, 1.0), (1.0, 1.0))


def test_networks_are_paired_seed_by_seed_and_sample_by_sample():
    nets = importlib.import_module("benchmarks._nets")
    assert nets.discordant(["1100", "1010"], ["0110", "0010"]) == (2, 1)
    assert nets.paired(["11111"], ["00000"]) == 0.0625
    with pytest.raises(ValueError, match="shorter"):
        nets.paired(["11"], ["1"])


def test_a_record_is_kept_under_its_own_promise_only(tmp_path):
    nets = importlib.import_module("benchmarks._nets")
    path = tmp_path / "record.json"
    assert not nets.kept(path, {"samples": 2})
    path.write_text('{"samples": 2, "clean": 0.5}')
    assert nets.kept(path, {"samples": 2})
    assert not nets.kept(path, {"samples": 3})
    assert not nets.kept(path, {"samples": 2, "threat": {"eps": 0.1}})


def test_what_was_made_of_a_network_is_not_made_again(tmp_path):
    pooling = importlib.import_module("benchmarks.pooling")
    made = iter(({"found": 1}, {"found": 2}))
    for _ in range(2):
        assert pooling.once(tmp_path / "piece.json", lambda: next(made)) == {"found": 1}
    assert pooling.left([True, True, False], [True, False, False]) == "010"


def test_poolings_differ_in_nothing_else():
    pooling = importlib.import_module("benchmarks.pooling")
    one, other = (pooling.promise(pool, 1) for pool in pooling.POOLS)
    assert (one["recipe"]["model"].pop("pool"), other["recipe"]["model"].pop("pool")) == (
        "max",
        "avg",
    )
    assert one == other != pooling.promise("avg", 2)


def test_settings_of_the_frontier_are_those_that_they_are_called():
    frontier = importlib.import_module("benchmarks.frontier")
    every = frontier.nets()
    assert len({frontier.place(name, 0) for name in every}) == len(every)
    recipes = {name: frontier.promise(net, 0)["recipe"] for name, net in every.items()}
    assert len({json.dumps(recipe) for recipe in recipes.values()}) == len(every)
    assert not recipes["natural"]["penalties"]
    assert recipes["AT 0.15, SR 0.01"]["objective"]["threat"]["eps"] == 0.15
    assert recipes["AT 0.15, SR 0.01"]["penalties"][0]["lamb"] == 0.01
    quarter = recipes["A: AT 2/255, SR 0.1"]
    assert quarter["objective"]["threat"]["eps"] == frontier.EPS / 4
    assert quarter["penalties"][0] | {"lamb": 0.1, "h": 0.01} == quarter["penalties"][0]
    assert recipes["RAT 2/255"]["objective"]["search"]["step_size"] == frontier.EPS / 8


@pytest.mark.parametrize("name", ["digits", "fashion-mnist", "cifar10"])
def test_rows_of_compression_differ_in_what_they_are_called(name):
    compression = importlib.import_module("benchmarks.compression")
    rows = [*compression.items([name])]
    seeds = compression.FIELDS[name].seeds
    assert len({compression.place(row) for row in rows}) == len(rows) == 22 * seeds
    recipes = {row: compression.recipe_of(row) for row in rows}
    promised = {json.dumps(compression.promise(row)) for row in rows}
    assert len(promised) == len(rows)
    assert rows[0].method == "converted"  # its dense network is everybody's
    dense = recipes[rows[0]].stages[0]
    epochs = set()
    for row, recipe in recipes.items():
        assert recipe.train.seed == row.seed
        if row.method == "end_to_end":
            assert not recipe.stages
            assert not recipe.network.analog
            epochs.add(recipe.train.epochs)
            assert (recipe.prune is None) == (row.sparsity == 0)
            continue
        assert recipe.stages[0] == dense
        assert not recipe.stages[-1].analog
        prunes = [stage.prune for stage in recipe.stages if stage.prune]
        assert [(p.kind, p.sparsity) for p in prunes] == [(row.method, row.sparsity)] * (
            row.sparsity > 0
        )
        if row.sparsity:
            epochs.add(sum(stage.epochs or recipe.train.epochs for stage in recipe.stages))
    assert len(epochs) == 1  # sparse networks and those trained end to end learn equally long


def test_the_recipe_that_is_shipped_is_a_row_of_compression():
    from spikeproof.catalogue import read_recipe

    compression = importlib.import_module("benchmarks.compression")
    for name in compression.FIELDS:
        row = compression.Row(name, "harp", 0.9, 0)
        shipped = read_recipe(ROOT / "recipes" / f"{name}-sparse.toml", ["train.seed=0"])
        assert compression.recipe_of(row) == shipped


def test_a_random_mask_is_that_of_training_end_to_end():
    from spikeproof.catalogue import construct, in_stages, read_data, specify

    compression = importlib.import_module("benchmarks.compression")
    rows = [compression.Row("digits", m, 0.9, 1) for m in ("random_static", "end_to_end")]
    masks = []
    for row in rows:
        recipe = compression.recipe_of(row)
        (part,) = (part for _, part in in_stages(recipe) if part.prune)
        model = construct(specify(part, read_data(part, ROOT)), part.train.seed)
        masks.append(part.prune.masks(model, part.train.seed))
    assert masks[0].digest() == masks[1].digest()


def test_the_dense_network_is_handed_on_once(tmp_path):
    share = importlib.import_module("benchmarks.compression").share_dense
    share(tmp_path / "of", tmp_path / "run")
    assert not (tmp_path / "run").exists()  # none yet: the run makes its own
    (tmp_path / "of" / "1-dense").mkdir(parents=True)
    share(tmp_path / "of", tmp_path / "run")
    assert not (tmp_path / "run").exists()  # begun, not done
    (tmp_path / "of" / "1-dense" / "record.json").write_text("{}")
    (tmp_path / "run" / "1-dense.part").mkdir(parents=True)  # a copy that was killed
    share(tmp_path / "of", tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["1-dense"]
    (tmp_path / "run" / "1-dense" / "record.json").write_text("mine")
    share(tmp_path / "of", tmp_path / "run")
    assert (tmp_path / "run" / "1-dense" / "record.json").read_text() == "mine"


def test_what_a_packed_row_says_is_true_of_its_network(tmp_path):
    """Bytes are the file's, kept weights the network's, and the engine answers as torch does."""
    from spikeproof.compress import Magnitude, apply
    from spikeproof.data import digits
    from spikeproof.models import CNN, Setting, build

    compression = importlib.import_module("benchmarks.compression")
    data = digits()
    model = build(CNN((4,), 8), Setting(1, 8, T=2), seed=4).eval()
    apply(model, Magnitude(0.5).masks(model))
    said = compression.packed(model, data, tmp_path)
    sizes = {p: (tmp_path / f"{p}.spkp").stat().st_size for p in compression.PRECISIONS}
    assert {p: said["packed"][p]["bytes"] for p in sizes} == sizes
    assert sizes["fp32"] > sizes["fp16"] > sizes["int8"]
    x, y = data.test.batch(torch.arange(len(data.test)))
    with torch.no_grad():
        right = float((model(x).argmax(1) == y).double().mean())
    assert said["packed"]["fp32"]["accuracy"] == pytest.approx(right)
    assert said["agreement"]["samples"] == len(data.test)
    assert said["agreement"]["unexplained"] == said["agreement"]["predictions"] == 0
    assert 0 < said["operations"]["analog"] < said["operations"]["multiplied"]
    assert compression.weights(model)["density"] == pytest.approx(0.5, abs=0.01)


def test_one_net_beside_another_is_told_with_its_p_values():
    versus = importlib.import_module("benchmarks.frontier").versus
    one = {"clean": 1.0, "standard": 0.6, "right": "11111", "stands": "11100"}
    other = {"clean": 0.8, "standard": 0.0, "right": "01111", "stands": "00000"}
    found = versus(one, other)
    assert found["dominates"]
    assert found["clean"] == {"difference": pytest.approx(0.2), "p": 1.0}
    assert found["standard"] == {"difference": 0.6, "p": 0.25}
    assert not versus(other, one)["dominates"]


@pytest.mark.slow  # a process for each row
@pytest.mark.parametrize(
    ("name", "options", "ratio"),
    [
        ("neurons", (), "T=2: ours / fastest_eager_peer"),
        ("steps", (), "training small T=2 kept allocator: ours / plain"),
        (
            "gpu",
            ("--device", "cpu", "--precisions", "bfloat16", "--rows", "ours", "reference"),
            "neurons T=2 bfloat16: ours / copy",
        ),
    ],
)
def test_a_script_runs_to_its_end_and_can_be_compared_with_itself(name, options, ratio, tmp_path):
    out = str(tmp_path / "record.json")
    words = ["-W", "ignore", "-m", f"benchmarks.{name}", "--quick", *options, "--out", out]
    ended = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert json.loads(Path(out).read_text())["ratios"][ratio] > 0
    assert compared(out, out).returncode == 0


def test_peers_as_they_come_have_rows_and_a_column(monkeypatch):
    steps, pages = (importlib.import_module(f"benchmarks.{n}") for n in ("steps", "pages"))

    def timed(_, specs, **__):
        return {
            n: {"seconds": [1.0 if s["allocator"] == "kept" else 2.0]} for n, s in specs.items()
        }

    monkeypatch.setattr(steps, "interleaved", timed)
    spec = {"kind": "training", "batch": 4, "allocator": "kept", "as_it_comes": True}
    rows = steps.compare(spec, 1, 9, ["ours", "plain"], compiled=False)
    assert list(rows) == ["ours", "plain", "plain, as it comes"]
    found = steps.ratios("step", rows)
    assert found["step: ours / the fastest eager"] == 1
    assert found["step: ours / the fastest as it comes"] == 0.5
    table = pages.steps({"ratios": found, "comparisons": {"step": {"batch": 4, "rows": rows}}})
    head, _, row = (line.split(" | ") for line in table.splitlines())
    assert row[head.index("peer as it comes / ours")] == "2.00"
    assert list(steps.compare(spec | {"as_it_comes": False}, 1, 9, [], compiled=False)) == [
        *steps.OURS,
        *steps.EAGER,
    ]


def written(folder, name, ratios, **environment):
    record = {"kind": "steps", "ratios": ratios, "environment": environment}
    path = folder / name
    path.write_text(json.dumps(record))
    return str(path)


def compared(*arguments):
    command = [sys.executable, "-m", "benchmarks.compare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_worse_or_lost_ratio_fails_by_name(tmp_path):
    old = written(tmp_path, "old.json", {"a": 0.5, "b": 0.5, "c": 1.0}, threads=2)
    new = written(tmp_path, "new.json", {"a": 0.54, "b": 0.6, "d": 9.0}, threads=2)
    found = compared(old, new)
    assert found.returncode == 1
    assert found.stdout.splitlines() == [
        "b: 0.5 before, 0.6 now, +20%",
        "c: 1 before, gone now",
    ]
    assert compared(old, old, "--allow", "0").returncode == 0
    other = written(tmp_path, "other.json", {"a": 0.5}, threads=4)
    refused = compared(old, other)
    assert refused.returncode == 2
    assert "threads: 2 before, 4 now" in refused.stderr


def test_the_tables_of_pooling_and_frontier_are_those_of_their_records():
    figures, pages = (importlib.import_module(f"benchmarks.{n}") for n in ("figures", "pages"))
    page = figures.PAGE.read_text()
    texts = figures.parts()
    assert {"pooling answer", "pooling", "frontier answer", "frontier"} <= texts.keys()
    assert pages.filled(page, texts) == page
    for name, text in texts.items():
        assert f"<!-- {name} -->\n{text}\n<!-- end -->" in page, name


def test_the_tables_of_the_page_are_those_of_the_records():
    pages = importlib.import_module("benchmarks.pages")
    page = pages.PAGE.read_text()
    assert pages.filled(page, pages.parts()) == page
    for name, text in pages.parts().items():
        assert f"<!-- {name} -->\n{text}\n<!-- end -->" in page, name


def test_the_tables_of_the_findings_are_those_of_the_rows():
    findings, pages = (importlib.import_module(f"benchmarks.{n}") for n in ("findings", "pages"))
    page = findings.PAGE.read_text()
    texts = findings.parts()
    assert pages.filled(page, texts) == page
    for name, text in texts.items():
        assert f"<!-- {name} -->\n{text}\n<!-- end -->" in page, name


def test_the_table_of_certificates_is_that_of_the_rows_and_nothing_certified_is_broken():
    module, pages = (importlib.import_module(f"benchmarks.{n}") for n in ("certificates", "pages"))
    text = pages.table(module.rows())
    assert f"<!-- certificates -->\n{text}\n<!-- end -->" in module.PAGE.read_text()
    assert len(module.rows()) > 1
    for path in module.FOLDER.glob("*.json"):
        row = json.loads(path.read_text())
        rows = zip(row["certified"], row["stands"], row["clean"], strict=True)
        assert all(sure <= stands <= right for sure, stands, right in rows)
        assert [margin > 0 for margin in row["margin"]] == [c == "1" for c in row["certified"]]
        assert row["sandwich"]["verdict"] == "pass"
        lines = row["crown"].get("certified", row["certified"])
        assert all(one <= other for one, other in zip(row["certified"], lines, strict=True))
        assert all(sure <= stands for sure, stands in zip(lines, row["stands"], strict=True))


def test_an_interval_draws_seeds_and_samples():
    interval = importlib.import_module("benchmarks.findings").interval
    sure = torch.ones(3, 40, dtype=torch.float64)
    assert interval(sure) == (1, 1)
    coins = (torch.arange(400, dtype=torch.float64) % 2).expand(5, 400)
    low, high = interval(coins)  # equal seeds: the binomial's interval
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)
    seeds = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64).expand(3, 400)
    assert interval(seeds) == (0, 1)  # seeds that disagree: nothing is known
    assert interval(seeds[1:]) == (0.5, 0.5)  # two say nothing of a third


def test_cells_compare_the_seeds_that_both_have():
    findings = importlib.import_module("benchmarks.findings")

    def row(seed, stands):
        whole = {"seed": seed, "stands": stands, "stands_ensemble19": "11", "clean": 1.0}
        whole |= {"pgd-10": 1.0, "masking_gap": 0.5, "firing_rate": 0.1}
        whole |= {"probability": {"l1": 2.0, "spread": 0.25, "adv": 0.6, "rand": 0.02}}
        whole["gradient"] = {"zeros": 0.5}
        return whole

    natural = [row(0, "00"), row(1, "11")]
    cells = dict(
        zip(findings.HEAD, findings.cells("sr", [row(0, "11")], natural, 0.25), strict=True)
    )
    assert cells["over natural"] == "+100.0 (+100.0 to +100.0)"
    found = [cells[key] for key in ("seeds", "training", "zeros", "spread", "rand", "adv")]
    assert found == ["1", "4.0", "50.0", "25", "20.0", "600.0"]
    own = [*findings.cells("natural-average", natural, natural, None)]
    assert own[findings.HEAD.index("over natural")] == ""
    assert own[findings.HEAD.index("`standard`")].startswith("50.0 (")


def test_a_table_of_compression_counts_against_what_is_converted_dense(monkeypatch):
    findings = importlib.import_module("benchmarks.findings")

    def row(seed, stands, operations, accuracy=0.9):
        files = {"fp32": {"accuracy": 0.95, "bytes": 50, "dense": 400}, "int8": {}}
        files["int8"]["accuracy"] = accuracy
        bits = {"stands": stands, "stands_ensemble19": "11", "right": "11"}
        return {
            **bits, "seed": seed, "clean": 1.0, "packed": files,
            "operations": {"behind_neurons": operations},
            "seconds": {"training": {"dense": 2.0, "spiking": 3.0}},
        }  # fmt: skip

    rows = {
        (0.0, "converted"): [row(0, "11", 200.0), row(1, "11", 100.0)],
        (0.95, "hydra"): [row(0, "00", 20.0)],
        (0.95, "harp"): [row(0, "10", 20.0), row(1, "10", 20.0)],
    }
    monkeypatch.setattr(findings, "shrunk", lambda name: rows if name == "digits" else {})
    head, _, dense, _, harp = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in findings.smaller("digits").splitlines()
    )
    found = dict(zip(head, harp, strict=True))
    assert (found["removed, %"], found["method"], found["seeds"]) == ("95", "harp", "2")
    assert found["`standard`"].startswith("50.0 (")
    assert (found["operations"], found["of dense"]) == ("20", "0.150")  # of 0.1 and 0.2
    assert (found["times smaller"], found["lost by int8"]) == ("8.0", "5.0")
    assert found["seconds of training"] == "5"
    assert dict(zip(head, dense, strict=True))["of dense"] == "1.000"
    pairs = [line.split(" | ") for line in findings.compared().splitlines()[2:]]
    assert len(pairs) == 1  # of the one seed that both have
    assert pairs[0][1:4] == ["95", "harp less hydra", "1"]
    assert pairs[0][6].startswith("+50.0 (")


@pytest.mark.slow  # trains and attacks a small network, and starts a browser
def test_pages_are_opened_and_the_script_says_when_they_are_seen(tmp_path):
    browser = importlib.import_module("tests.report.browser")
    if browser.find() is None:
        pytest.skip("no Chromium is here")
    out = tmp_path / "record.json"
    words = ["-m", "benchmarks.first_paint", "--quick", "--work", tmp_path / "work", "--out", out]
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    assert {name: page["runs"] for name, page in record["pages"].items()} == {"one": 1, "fifty": 2}
    for page in record["pages"].values():
        first, whole = page["first_paint_seconds"], page["drawn_seconds"]
        assert 0 < first["largest"] <= whole["largest"]
    assert record["evaluation"]["samples"] == 8


def test_the_table_of_pages_is_that_of_the_record_and_they_are_seen_soon():
    module, pages = (importlib.import_module(f"benchmarks.{n}") for n in ("first_paint", "pages"))
    record = json.loads(module.RECORD.read_text())
    text = pages.table(module.rows(record))
    assert f"<!-- first paint -->\n{text}\n<!-- end -->" in module.PAGE.read_text()
    assert (record["evaluation"]["samples"], record["evaluation"]["suite"]) == (
        1000, "standard-images"
    )  # fmt: skip
    for name, most in (("one", 2), ("fifty", 3)):
        page = record["pages"][name]
        assert page["first_paint_seconds"]["largest"] < most
        assert page["megabytes"] < 10
