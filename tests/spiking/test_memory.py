from __future__ import annotations

import platform
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

from spikeproof.models import CNN, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import IF, _memory, keep_large_blocks

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


@pytest.fixture
def packed(monkeypatch):
    """What was packed: the shapes and the types in which they are kept."""
    found, pack = [], _memory._pack

    def spy(x):
        kept = pack(x)
        found.append((tuple(x.shape), kept[0].dtype))
        return kept

    monkeypatch.setattr(_memory, "_pack", spy)
    return found


def test_spikes_are_kept_in_a_byte_and_gradients_stay_the_same(packed):
    with isolated(0, "conv"):
        conv = nn.Conv2d(2, 3, 3)
    source = torch.rand((4, 2, 6, 6), generator=generator(0, "spikes")).round().requires_grad_()
    found = []
    for note in (False, True):
        x = (source * 1).to(memory_format=torch.channels_last)
        if note:
            _memory.note_spikes(x)
        with _memory.spikes_kept_small():
            out = conv(x).square().sum() + nn.functional.avg_pool2d(x, 2).square().sum()
        found.append(torch.autograd.grad(out, [source, *conv.parameters()]))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    small = [shape for shape, kind in packed if kind == torch.bool]
    assert small == [(4, 2, 6, 6)] * 2


def test_spikes_that_were_written_to_are_kept_as_they_are(packed):
    x = _memory.note_spikes(torch.ones(3).requires_grad_() * 1)
    with _memory.spikes_kept_small():
        x *= 0.5
        out = x * x
    assert [kind for _, kind in packed] == [torch.float32] * len(packed)
    (slope,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(slope, torch.ones(3))


def test_overwriting_what_is_needed_is_still_noticed():
    x = torch.ones(3).requires_grad_() * 1
    with _memory.spikes_kept_small():
        out = x * x
    with torch.no_grad():
        x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_a_network_keeps_its_spikes_small_and_trains_the_same(packed, monkeypatch):
    model = build(CNN((4, 4), 8), Setting(T=3, size=8, neuron=IF(theta=0.5)), seed=1).train()
    x = torch.rand((2, 3, 8, 8), generator=generator(1, "spikes"))
    small = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    assert sum(kind == torch.bool for _, kind in packed) == 1  # of the last linear
    monkeypatch.setattr(_memory, "_pack", lambda x: (x, x._version))
    whole = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    assert any(bool(g.any()) for g in whole)
    for a, b in zip(small, whole, strict=True):
        assert torch.equal(a, b)


def test_without_a_gradient_nothing_is_packed(packed):
    with torch.no_grad(), _memory.spikes_kept_small():
        torch.ones(3) * 2
    assert packed == []


def test_an_output_that_its_own_node_keeps_is_freed_with_the_graph():
    with _memory.spikes_kept_small():
        y = torch.ones(3, requires_grad=True).sigmoid()
    alive = weakref.ref(y)
    del y
    assert alive() is None


def test_hooks_of_others_are_left_alone(packed):
    seen = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda x: seen.append(x) or x, lambda x: x)
    x = _memory.note_spikes(torch.ones(3).requires_grad_() * 1)
    with hooks, _memory.spikes_kept_small():
        out = x * x
    out.sum().backward()
    assert len(seen) == 2
    assert packed == []
