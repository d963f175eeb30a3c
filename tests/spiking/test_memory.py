from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from spikeproof.spiking import keep_large_blocks

PROGRAM = """
import resource, sys, torch
from spikeproof.spiking import keep_large_blocks
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    assert keep_large_blocks()
least = 1 << 30
for _ in range(10):  # the allocator finds its order only after a few
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = torch.ones(1 << 24)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    least = min(least, faults)
    del block
print(least)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_a_block_of_64_mib_is_used_again():
    assert faults("kept") < 100
    assert faults("fresh") > 1000, "the allocator keeps blocks by itself: there is nothing to ask"


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_large_blocks()
