"""Kills for real: a server that has torch loaded forks a child for each run, and the child dies."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = """
import os, signal, sys, time, traceback
from pathlib import Path
import torch
from torch import nn
from spikeproof.seeding import generator, isolated
from spikeproof.training import Adam, Cosine, CrossEntropy, Orthogonal, Plan, fit, measure

torch.set_num_threads(1)


class Points:
    def __init__(self, count, name):
        self.x = torch.randn(count, 2, generator=generator(0, name))
        self.y = (self.x.sum(1) > 0).long()

    def __len__(self):
        return len(self.x)

    def batch(self, index):
        return self.x[index], self.y[index]


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        with isolated(1, "noisy"):
            self.layers = nn.Sequential(nn.Linear(2, 32), nn.BatchNorm1d(32), nn.Linear(32, 2))

    def forward(self, x):
        if self.training:
            x = x + torch.randn(x.shape, generator=self.noise)
        return self.layers(x)


def with_noise(model, noise):
    model.noise = noise
    return model


def train(folder, epochs, save_every, resume):
    held_out = Points(16, "validation")
    plan = Plan(
        epochs, 8, Adam(0.01), Cosine(), 0.5, 1.0, (Orthogonal(0.01, 0.5, wide=8),), 0.9,
        save_every=save_every, log_every=1,
    )
    fit(
        Noisy(), Points(28, "train"), CrossEntropy(), plan, Path(folder), resume=resume,
        validate=lambda model: measure(model, held_out), per_step=with_noise,
        augment=lambda x, draw: x * torch.rand(len(x), 1, generator=draw), spec={"name": "noisy"},
    )


def die_at(last):
    # Before each thing that touches the disk, and in the middle of each write of arrays.
    count = 0

    def mortal(call, torn=lambda *args: None):
        def run(*args):
            nonlocal count
            count += 1
            if count == last:
                torn(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args)
        return run

    write = Path.write_bytes
    Path.write_bytes = mortal(write, lambda path, data: write(path, data[: len(data) // 2]))
    Path.replace = mortal(Path.replace)
    os.fsync = mortal(os.fsync)


train(sys.argv[1], 1, 9, False)  # torch imports parts of itself only now; children inherit them
for line in sys.stdin:
    folder, epochs, save_every, resume, last, seconds = line.split()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            die_at(int(last))
            train(folder, int(epochs), int(save_every), resume == "resume")
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    if float(seconds):
        time.sleep(float(seconds))
        os.kill(pid, signal.SIGKILL)  # its number is its own until it is waited for
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Server:
    """Starts runs, kills them, and says how they ended."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def run(
        self,
        folder: Path,
        *,
        epochs: int,
        save_every: int,
        resume: bool,
        last: int = 0,
        seconds: float = 0,
    ) -> int:
        words = (folder, epochs, save_every, "resume" if resume else "new", last, seconds)
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, tmp_path_factory.mktemp("server") / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Server(process)
        process.stdin.close()


def kept(folder: Path) -> dict[str, bytes]:
    names = {"plan.json", "spec.json", "state.safetensors", "model.safetensors", "metrics.jsonl"}
    there = {each.name for each in folder.iterdir()}
    assert there == names | {".lock"}
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.slow
def test_a_kill_at_every_touch_of_the_disk(tmp_path: Path, server: Server):
    size = {"epochs": 2, "save_every": 3}
    assert server.run(tmp_path / "whole", resume=False, **size) == 0
    whole = kept(tmp_path / "whole")
    assert server.run(tmp_path / "again", resume=False, **size) == 0
    assert kept(tmp_path / "again") == whole
    ended, last = -signal.SIGKILL, 0
    while ended:
        last += 1
        folder = tmp_path / str(last)
        ended = server.run(folder, resume=False, last=last, **size)
        assert ended in (0, -signal.SIGKILL)
        # The second kill comes early in the resumed run, the third attempt ends it.
        if ended and server.run(folder, resume=True, last=1 + last % 5, **size):
            assert server.run(folder, resume=True, **size) == 0
        assert kept(folder) == whole
    assert last > 30


@pytest.mark.slow
def test_twenty_kills_at_random_moments(tmp_path: Path, server: Server):
    size = {"epochs": 6, "save_every": 1}
    assert server.run(tmp_path / "whole", resume=False, **size) == 0
    whole = kept(tmp_path / "whole")
    draw, kills, runs = random.Random(0), 0, 0
    while kills < 20:
        runs += 1
        folder, ended, patience = tmp_path / str(runs), 1, 0.1
        while ended:
            resume = (folder / ".lock").exists()
            seconds = draw.uniform(0.005, 2 * patience)
            patience *= 1.05  # a machine too busy to take one step in time must not hang the test
            ended = server.run(folder, resume=resume, seconds=seconds, **size)
            assert ended in (0, -signal.SIGKILL)
            kills += bool(ended)
        assert kept(folder) == whole
