from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from spikeproof.attacks import stochastic
from spikeproof.catalogue import (
    Spec,
    construct,
    from_values,
    load_network,
    read_data,
    read_recipe,
    read_spec,
    specify,
    to_values,
)
from spikeproof.data import Dataset, Split
from spikeproof.errors import Refusal
from spikeproof.spiking import Frames
from spikeproof.training import save_model

TEXT = """
[model]
kind = "mlp"
hidden = [8]
[network]
T = 3
[train]
epochs = 1
batch = 32
optimizer = { kind = "adam", lr = 0.01 }
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.epochs=7", 7),
        ("train.optimizer.lr = 0.5", 0.5),
        ("data.name=mnist", "mnist"),
        ('data.name="mnist"', "mnist"),
        ("model.hidden=[3, 4]", (3, 4)),
        ("train.tensorboard=true", True),
    ],
)
def test_overrides_are_laid_over_the_file(recipe, override, value):
    changed = read_recipe(recipe, [override])
    for name in override.partition("=")[0].strip().split("."):
        changed = getattr(changed, name)
    assert changed == value


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("epochs", "section.key=value"),
        ("=3", "section.key=value"),
        ("train..epochs=3", "section.key=value"),
        ("model.kind.x=3", "holds a value"),
        ("train.epochs=", "train.epochs is ''"),
    ],
)
def test_a_wrong_override_is_refused(recipe, override, sentence):
    with pytest.raises(Refusal, match=sentence):
        read_recipe(recipe, [override])


@pytest.mark.parametrize("text", [b"[train", b"a = = 3", b"\xff\xfe", b"train = 1\ntrain = 2"])
def test_what_is_not_toml_is_refused(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_bytes(text)
    with pytest.raises(Refusal, match="is not TOML"):
        read_recipe(path)


def test_the_network_of_a_spec_fits_its_data_and_comes_back_from_disk(recipe, tmp_path):
    read = read_recipe(recipe)
    dataset = read_data(read, tmp_path)
    spec = specify(read, dataset)
    assert from_values(Spec, to_values(spec), "test") == spec
    network = construct(spec, seed=4)
    network.train()(dataset.train.batch(torch.arange(50))[0])  # norms have statistics now
    save_model(tmp_path / "run", network, to_values(spec))
    assert read_spec(tmp_path / "run") == spec
    back = load_network(tmp_path / "run")
    x = dataset.test.batch(torch.arange(5))[0]
    assert torch.equal(back(x), network.eval()(x))
    assert not back.training


def test_event_frames_choose_their_encoder_and_their_time(recipe, tmp_path):
    read = read_recipe(recipe, ["data.name=event-digits", "network.T=3"])
    frames = torch.zeros(4, 3, 2, 6, 6, dtype=torch.uint8)
    split = Split(frames, torch.tensor([0, 1, 0, 1]), 1.0)
    dataset = Dataset("events", split, split, split, ("a", "b"))
    spec = specify(read, dataset)
    assert spec.recipe.network.encoder == Frames()
    assert construct(spec)(frames.float()).shape == (4, 2)
    coded = read_recipe(recipe, ['network.encoder={kind="phase"}'])
    with pytest.raises(Refusal, match="spikes already"):
        specify(coded, dataset)


def test_a_constant_channel_and_an_oblong_image(recipe):
    def dataset(*shape):
        split = Split(torch.full((4, *shape), 7, dtype=torch.uint8), torch.arange(4) % 2, 1 / 255)
        return Dataset("flat", split, split, split, ("a", "b"))

    assert specify(read_recipe(recipe), dataset(1, 8, 8)).input.std == (1.0,)
    with pytest.raises(Refusal, match="8x6"):
        specify(read_recipe(recipe), dataset(1, 8, 6))


def test_a_limit_takes_training_samples_only(recipe, tmp_path):
    dataset = read_data(read_recipe(recipe, ["data.limit=100"]), tmp_path)
    whole = read_data(read_recipe(recipe), tmp_path)
    assert len(dataset.train) == 100
    assert len(dataset.test) == len(whole.test)
    assert torch.equal(dataset.validation.x, whole.validation.x)


def test_files_of_ones_own_are_read_by_path_and_format(recipe, tmp_path):
    import numpy as np

    x = np.zeros((40, 4, 4), np.uint8)
    np.savez(tmp_path / "mine.npz", x=x, y=np.arange(40) % 2)
    path = [f"data.path={tmp_path / 'mine.npz'}", "data.format=npz"]
    assert read_data(read_recipe(recipe, path), tmp_path).shape == (1, 4, 4)
    with pytest.raises(Refusal, match="need both"):
        read_recipe(recipe, path[:1])


def test_a_recipe_is_a_value(recipe):
    read = read_recipe(recipe)
    assert dataclasses.replace(read) == read_recipe(Path(recipe))


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("input", "size", 10**9, "size is 1000000000"),
        ("input", "channels", 0, "channels is 0"),
        ("input", "mean", [float("nan")], "mean is nan"),
        ("input", "std", [0.0], "std is 0.0"),
        ("input", "classes", ["a"], "classes is 1"),
        ("input", "std", [1.0, 1.0], "1 means and 2 deviations"),
        (None, "version", 99, "version is 99; it must be 1"),
    ],
)
def test_a_spec_out_of_bounds_is_refused(recipe, tmp_path, section, key, value, said):
    read = read_recipe(recipe)
    values = to_values(specify(read, read_data(read, tmp_path)))
    (values[section] if section else values)[key] = value
    (tmp_path / "spec.json").write_text(json.dumps(values))
    with pytest.raises(Refusal, match=said):
        read_spec(tmp_path)


def test_a_network_with_gates_is_deployed_as_it_was_trained_drawing_anew(recipe, tmp_path):
    made = read_recipe(recipe, ['network.gates={kind="stog",rate=0.5}'])
    spec = specify(made, read_data(made, tmp_path))
    save_model(tmp_path / "run", construct(spec), to_values(spec))
    model = load_network(tmp_path / "run")
    x = torch.full((2, 1, 8, 8), 0.7)
    assert stochastic(model)
    assert not torch.equal(model(x), model(x))
    plain = read_recipe(recipe)
    assert plain.network.gates is None
    assert read_spec(tmp_path / "run") == spec


def test_a_recipe_is_laid_over_its_base(recipe, tmp_path):
    middle, path = tmp_path / "middle.toml", tmp_path / "own.toml"
    middle.write_text('base = "a.toml"\n[train]\nepochs = 7\n[augment]\npad = 2\n')
    path.write_text(
        'base = "middle.toml"\n[model]\nhidden = [4, 4]\n'
        '[train]\noptimizer = { kind = "sgd", lr = 0.5 }\n'
    )
    below, read = read_recipe(recipe), read_recipe(path, ["train.batch=8"])
    assert read.model == dataclasses.replace(below.model, hidden=(4, 4))
    assert (read.train.epochs, read.train.batch, read.augment.pad) == (7, 8, 2)
    assert to_values(read.train.optimizer).keys() >= {"momentum"}  # another kind, nothing of Adam's
    assert read.network == below.network


def test_a_kind_that_a_base_leaves_to_the_default_keeps_its_table(recipe, tmp_path):
    recipe.write_text(TEXT + "[network.neuron]\ntau = 0.25\n")
    path = tmp_path / "own.toml"
    path.write_text('base = "a.toml"\n[network.neuron]\nkind = "lif"\ntheta = 0.5\n')
    neuron = read_recipe(path).network.neuron
    assert (neuron.tau, neuron.theta) == (0.25, 0.5)


def test_a_long_row_of_bases_is_refused(tmp_path):
    for place in range(12):
        (tmp_path / f"{place}.toml").write_text(f'base = "{place + 1}.toml"\n')
    (tmp_path / "12.toml").write_text(TEXT)
    with pytest.raises(Refusal, match="the 8th in a row"):
        read_recipe(tmp_path / "0.toml")
    read_recipe(tmp_path / "6.toml")


def test_a_table_of_the_same_kind_is_completed(recipe, tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('base = "a.toml"\n[train.optimizer]\nweight_decay = 0.1\n')
    optimizer = read_recipe(path).train.optimizer
    assert optimizer == dataclasses.replace(read_recipe(recipe).train.optimizer, weight_decay=0.1)


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ('"none.toml"', "base = 'none.toml'; a base is the path of another recipe"),
        ("3", "base = 3; a base is the path"),
        (f'"{"a" * 5000}"', "a base is the path"),
        ('"."', "a base is the path"),
        ('"own.toml"', "which is based on it or the 8th in a row; bases end soon"),
        ('"other.toml"', "which is based on it or the 8th in a row; bases end soon"),
    ],
)
def test_a_base_that_is_none_is_refused(recipe, tmp_path, base, sentence):
    path = tmp_path / "own.toml"
    path.write_text(f"base = {base}\n")
    (tmp_path / "other.toml").write_text('base = "own.toml"\n')
    with pytest.raises(Refusal, match=re.escape(sentence)):
        read_recipe(path)


@pytest.mark.parametrize("prune", ['kind="rigl"', 'kind="gradual"', 'kind="sign_sampler"'])
def test_no_mean_of_weights_under_masks_that_move(recipe, prune):
    words = [f"prune={{{prune},sparsity=0.5}}", "train.average=0.9"]
    with pytest.raises(Refusal, match="under masks that move"):
        read_recipe(recipe, words)
    read_recipe(recipe, ['prune={kind="magnitude",sparsity=0.5}', "train.average=0.9"])
