"""Kills for real: a server that has torch loaded forks a child for each run, and the child dies."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spikeproof.evaluate import read_record

SERVER = """
import os, signal, sys, time, traceback
from pathlib import Path
import torch
from spikeproof.attacks import PGD, Attack, Linf, RandomSearch
from spikeproof.data import digits
from spikeproof.evaluate import Conditions, Step, Suite, evaluate
from spikeproof.models import MLP, Setting, build
from spikeproof.spiking import ASSG

torch.set_num_threads(1)
data = digits().test
model = build(MLP((16,)), Setting(channels=1, size=8, T=2), 0).eval()
right = model(data.batch(torch.arange(len(data)))[0]).argmax(1) == data.y
data = data.take(right.nonzero()[:, 0])
suite = Suite("s", (
    Step("random", Attack(RandomSearch(4)), everyone=True),
    Step("pgd", Attack(PGD(5))),
    Step("curve", Attack(PGD(3), rule=ASSG()), threat=Linf(0.2), limit=6),
))


def run(folder, batch, resume):
    conditions = Conditions(20, 0, batch, (1, 1), resume)
    evaluate(
        model, data, Linf(0.02), suite, out=Path(folder), conditions=conditions, checks=()
    )


def die_at(last):
    # Before each thing that touches the disk, and in the middle of each write.
    count = 0

    def mortal(call, torn=lambda *args: None):
        def run(*args, **more):
            nonlocal count
            count += 1
            if count == last:
                torn(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **more)
        return run

    write = Path.write_text
    Path.write_text = mortal(write, lambda path, text: write(path, text[: len(text) // 2]))
    Path.replace = mortal(Path.replace)
    os.fsync = mortal(os.fsync)


run(sys.argv[1], 8, False)  # torch imports parts of itself only now; children inherit them
for line in sys.stdin:
    folder, batch, resume, last, seconds = line.split()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            die_at(int(last))
            run(folder, int(batch), resume == "resume")
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
    """Starts evaluations, kills them, and says how they ended."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def run(
        self, folder: Path, *, batch: int, resume: bool, last: int = 0, seconds: float = 0
    ) -> int:
        words = (folder, batch, "resume" if resume else "new", last, seconds)
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


def kept(folder: Path):
    assert not list(folder.rglob("*.part"))
    return replace(read_record(folder / "record.json"), times={})


@pytest.mark.slow
def test_a_kill_at_every_touch_of_the_disk(tmp_path: Path, server: Server):
    assert server.run(tmp_path / "whole", batch=10, resume=False) == 0
    whole = kept(tmp_path / "whole")
    assert 0 < sum(whole.robust) < sum(whole.clean)
    ended, last = -signal.SIGKILL, 0
    while ended:
        last += 1
        folder = tmp_path / str(last)
        ended = server.run(folder, batch=10, resume=False, last=last)
        assert ended in (0, -signal.SIGKILL)
        # The second kill comes early in the resumed run, the third attempt ends it.
        if ended and server.run(folder, batch=7, resume=True, last=1 + last % 7):
            assert server.run(folder, batch=9, resume=True) == 0
        assert kept(folder) == whole
    assert last > 20


@pytest.mark.slow
def test_thirty_kills_at_random_moments_of_one_run_after_another(tmp_path: Path, server: Server):
    assert server.run(tmp_path / "whole", batch=64, resume=False) == 0
    whole = kept(tmp_path / "whole")
    draw, kills, runs = random.Random(0), 0, 0
    while kills < 30:
        runs += 1
        folder, ended, patience = tmp_path / str(runs), 1, 0.03
        while ended:
            resume = (folder / ".lock").exists()
            seconds = draw.uniform(0.005, 2 * patience)
            patience *= 1.05  # a machine too busy for one block in time must not hang the test
            ended = server.run(folder, batch=1 + kills % 7, resume=resume, seconds=seconds)
            assert ended in (0, -signal.SIGKILL)
            kills += bool(ended)
        assert kept(folder) == whole
