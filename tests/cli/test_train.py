"""A killed command, resumed, ends where the uninterrupted one does; and what a record says."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from rich.console import Console

from spikeproof.catalogue import load_network, read_recipe
from spikeproof.cli._train import pick_device, train
from spikeproof.errors import Refusal
from spikeproof.records import read_json
from spikeproof.training import accuracy

RECIPE = """
[augment]
pad = 1
[model]
kind = "cnn"
channels = [8]
hidden = 16
[network]
T = 2
[train]
epochs = 6
batch = 32
save_every = 3
optimizer = { kind = "adamw", lr = 0.01 }
schedule = { kind = "cosine" }
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE)
    return path


def quiet():
    return Console(quiet=True)


def test_a_record_says_what_was_done_and_what_came_out(recipe, tmp_path):
    read = read_recipe(recipe, ["train.epochs=2"])
    record = train(read, tmp_path / "run", tmp_path, console=quiet())
    assert record == read_json(tmp_path / "run" / "record.json")
    assert record["recipe"]["model"]["channels"] == [8]
    assert record["data"]["test"] == 359
    network = load_network(tmp_path / "run")
    from spikeproof.data import load

    test = load("digits", tmp_path).test
    assert accuracy(network, test) == record["result"]["test"]["accuracy"]


def test_the_record_is_of_the_network_that_was_trained(recipe, tmp_path):
    """A spec that somebody changed on the disk decides nothing."""
    read = read_recipe(recipe, ["train.epochs=1"])
    first = train(read, tmp_path / "run", tmp_path, console=quiet())
    spec = tmp_path / "run" / "spec.json"
    spec.write_text(spec.read_text().replace('"T": 2', '"T": 1'))
    again = train(read, tmp_path / "run", tmp_path, resume=True, console=quiet())
    assert again["result"]["test"] == first["result"]["test"]


def test_a_stochastic_network_is_trained_with_fresh_noise(recipe, tmp_path):
    words = ["train.epochs=1", 'network.encoder={kind="poisson"}']
    losses = []
    for name in ("a", "b"):
        read = read_recipe(recipe, words)
        losses.append(train(read, tmp_path / name, tmp_path, console=quiet())["result"])
    for result in losses:
        del result["minutes_of_training"]
    assert losses[0] == losses[1]


def test_devices_are_picked_or_refused():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:99", "", "meta", "hpu", "mkldnn", "mps", "xla", "cpu:5"):
        with pytest.raises(Refusal, match="take cpu or auto"):
            pick_device(name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_commands_end_like_the_uninterrupted_one(recipe, tmp_path):
    """Three commands killed with SIGKILL at random moments; the room's own test has twenty."""
    command = [sys.executable, "-m", "spikeproof", "train", str(recipe), "--device", "cpu", "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    begun = time.monotonic()
    subprocess.run([*command, str(whole)], check=True, capture_output=True, env=environment)
    length = time.monotonic() - begun
    chance = random.Random(0)
    kills = 0
    while kills < 3:
        resume = ["--resume"] if (broken / ".lock").exists() else []
        process = subprocess.Popen(
            [*command, str(broken), *resume],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )
        try:
            process.wait(chance.uniform(0.5, 0.95) * length)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            assert process.returncode == 0, process.stderr.read().decode()
            shutil.rmtree(broken)  # the machine had been slower before
            length /= 2
        process.stderr.close()
    final = [*command, str(broken), *(["--resume"] if (broken / ".lock").exists() else [])]
    subprocess.run(final, check=True, capture_output=True, env=environment)
    for name in ("model.safetensors", "state.safetensors", "metrics.jsonl"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes(), name
