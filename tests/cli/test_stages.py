"""Recipes of several trainings: what each leaves, and that what is done is not done again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from spikeproof.catalogue import in_stages, load_network, read_data, read_recipe
from spikeproof.cli import _fitting
from spikeproof.cli._fitting import Run
from spikeproof.cli._stages import train_in_stages
from spikeproof.cli._train import train
from spikeproof.compress import Calibration, Masks, kept_count, masks_of, prunable
from spikeproof.data import subset
from spikeproof.errors import Refusal
from spikeproof.records import read_json
from spikeproof.spiking import Spiking

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
[data]
limit = 96
[model]
kind = "cnn"
channels = [4]
hidden = 8
[network]
T = 2
neuron = { kind = "if", learn_theta = true }
[calibration]
steps = 4
batches = 2
batch = 16
[train]
epochs = 2
batch = 32
optimizer = { kind = "sgd", lr = 0.1, momentum = 0.9, weight_decay = 1e-4 }
[[stages]]
name = "dense"
analog = true
[[stages]]
name = "scores"
analog = true
prune = { kind = "harp", sparsity = 0.8 }
[[stages]]
name = "sparse"
analog = true
lr = 0.01
[[stages]]
name = "spiking"
lr = 0.01
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def run(recipe, out, *overrides, resume=False, console=None):
    read = read_recipe(recipe, overrides)
    return train(
        read, out, out.parent, resume=resume, console=console or Console(quiet=True), device="cpu"
    )


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.name in ("model.safetensors", "masks.safetensors", "spec.json")
    }


def test_every_stage_leaves_a_network_and_the_last_one_is_the_runs(recipe, tmp_path):
    out = tmp_path / "run"
    record = run(recipe, out)
    assert record == read_json(out / "record.json")
    assert record["result"]["stages"].keys() == {"dense", "scores", "sparse", "spiking"}
    pruned = load_network(out / "2-scores" / "pruned")
    masks = masks_of(pruned)
    total = sum(w.numel() for w in prunable(pruned).values())
    assert masks.weights == kept_count(total, 0.8)
    assert Masks.load(out / "2-scores" / "pruned" / "masks.safetensors").digest() == masks.digest()
    assert record["result"]["stages"]["scores"]["density"] == masks.density
    sparse, spiking, final = (load_network(out / n) for n in ("3-sparse", "4-spiking", ""))
    for network in (sparse, spiking, final):
        assert masks_of(network).digest() == masks.digest()
    assert not torch.equal(next(sparse.parameters()), next(pruned.parameters()))
    assert any(isinstance(m, Spiking) for m in final.modules())
    thresholds = record["result"]["stages"]["spiking"]["calibrated_thresholds"]
    assert len(thresholds) == 2
    assert all(theta >= 0.03 for theta in thresholds.values())
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(final(x), spiking(x))


@pytest.mark.parametrize("step", [3, 8, 17, 23])
def test_a_run_that_is_ended_anywhere_goes_on_to_the_same_files(
    recipe, tmp_path, monkeypatch, step
):
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    run(recipe, whole)
    done, fit = [], _fitting.fit

    def interrupted(*args, watch, **knobs):
        def count(progress):
            watch(progress)
            done.append(1)
            if len(done) == step:
                raise KeyboardInterrupt

        return fit(*args, watch=count, **knobs)

    monkeypatch.setattr(_fitting, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, ended)
    assert not (ended / "record.json").exists()
    run(recipe, ended, resume=True)
    assert files(ended) == files(whole)


def test_what_is_done_is_not_done_again_and_must_be_what_is_asked(recipe, tmp_path, monkeypatch):
    out = tmp_path / "run"
    run(recipe, out)
    before = files(out)
    with pytest.raises(Refusal, match="already holds a run"):
        run(recipe, out)

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(_fitting, "fit", never)
    run(recipe, out, resume=True)
    assert files(out) == before
    with pytest.raises(Refusal, match=r"train\.epochs was 2 in the stage of .*1-dense"):
        run(recipe, out, "train.epochs=3", resume=True)


def test_nothing_to_resume_is_said(recipe, tmp_path):
    with pytest.raises(Refusal, match="there is nothing to resume"):
        run(recipe, tmp_path / "run", resume=True)


def test_a_recipe_that_prunes_alone_trains_sparsely_from_the_start(recipe, tmp_path):
    recipe.write_text(RECIPE.split("[[stages]]")[0])
    prune = 'prune={ kind = "random_static", sparsity = 0.9 }'
    record = run(recipe, tmp_path / "run", prune)
    network = load_network(tmp_path / "run")
    layers = prunable(network).values()
    kept = sum(kept_count(w.numel(), 0.9) for w in layers)
    assert masks_of(network).weights == kept
    assert record["result"]["density"] == kept / sum(w.numel() for w in layers)


def test_a_fresh_stage_keeps_the_masks_of_an_analog_one(recipe, tmp_path):
    head = RECIPE.split("[[stages]]")[0]
    recipe.write_text(
        head
        + '[[stages]]\nname = "dense"\nanalog = true\n'
        + 'prune = { kind = "magnitude", sparsity = 0.8 }\n'
        + '[[stages]]\nname = "fresh"\nfresh = true\n'
    )
    record = run(recipe, tmp_path / "run")
    masks = Masks.load(tmp_path / "run" / "1-dense" / "pruned" / "masks.safetensors")
    assert masks_of(load_network(tmp_path / "run")).digest() == masks.digest()
    assert "calibrated_thresholds" not in record["result"]["stages"]["fresh"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sparse-vgg16", "sparse-wrn28"])
def test_paper_b_passes_all_its_stages_on_a_slice_at_its_own_size(name, tmp_path, real_data):
    """All numbers are those of the file but epochs, batch, calibration and the samples."""
    recipe = read_recipe(ROOT / "recipes" / "papers" / f"{name}.toml", ["train.batch=4"])
    assert [part.train.epochs for _, part in in_stages(recipe)] == [100, 20, 30, 80]
    recipe = replace(
        recipe,
        calibration=Calibration(steps=2, batches=1, batch=4),
        stages=tuple(replace(stage, epochs=1) for stage in recipe.stages),
    )
    dataset = read_data(recipe, real_data)
    few = replace(
        dataset,
        train=subset(dataset.train, 4),
        validation=subset(dataset.validation, 2),
        test=subset(dataset.test, 2),
    )
    run_ = Run(few, torch.device("cpu"), Console(quiet=True), resume=False)
    network, result = train_in_stages(recipe, tmp_path / "run", run_)
    total = sum(w.numel() for w in prunable(network).values())
    assert masks_of(network).weights == kept_count(total, 0.9)
    assert total == {"sparse-vgg16": 15_302_848, "sparse-wrn28": 5_841_840}[name]
    assert [stage["steps"] for stage in result["stages"].values()] == [1, 1, 1, 1]
    fired = len(result["stages"]["spiking"]["calibrated_thresholds"])
    assert fired == {"sparse-vgg16": 15, "sparse-wrn28": 25}[name]
