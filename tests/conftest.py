from __future__ import annotations

import tests.instrumented  # noqa: F401  before anything of the package

# isort: split
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from spikeproof.cli import main
from spikeproof.seeding import untouched

ROOT = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)
settings.register_profile("default", deadline=None, derandomize=True, database=None)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def _global_generators_untouched():
    with untouched():
        yield


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line: words to exit code, what was printed, and what was complained about."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["spikeproof", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code or 0
        out = capsys.readouterr()
        return code, " ".join(out.out.split()), out.err.strip()

    return call


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: SPIKEPROOF_DATA, or ../shared/data, unpacked once."""
    if named := os.environ.get("SPIKEPROOF_DATA"):
        return Path(named)
    packed = ROOT.parent / "shared" / "data"
    if not (packed / "unpack.py").exists():
        pytest.skip(f"real data is absent: set SPIKEPROOF_DATA, or fill {packed}")
    out = ROOT / ".data"
    out.mkdir(exist_ok=True)
    lock = out / ".lock"
    with lock.open("w") as held:  # two workers, one unpacking
        fcntl.flock(held, fcntl.LOCK_EX)
        done = out / ".unpacked"
        if not done.exists():
            subprocess.run([sys.executable, packed / "unpack.py", out], check=True)
            done.touch()
    return out
