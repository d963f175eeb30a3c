from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeproof.compress import NM, Block, Magnitude, RandomStatic, Unstructured
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from tests.compress.descent import network
from tests.oracles import pruning

SHAPES = [(5, 7), (6, 3, 3, 3), (4, 8), (1, 1)]


def scores(shape):
    return torch.rand(shape, generator=generator(0, "scores", *shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kappa", [0.0, 0.3, 0.9])
def test_any_weights_are_those_of_the_oracle(shape, kappa):
    score = scores(shape).mul(4).round()  # with ties
    keep = score.numel() - int(kappa * score.numel())
    mask = Unstructured().pick(score, keep)
    assert np.array_equal(mask.numpy(), pruning.magnitude(score.numpy(), kappa))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 8), (4, 4), (1, 1)])
def test_n_of_every_m(shape, n, m):
    score = scores(shape)
    rows, kept = score.flatten(1), NM(n, m).pick(score, 0).flatten(1)
    for row, chosen in zip(rows, kept, strict=True):
        for begin in range(0, len(row), m):
            group, mask = row[begin : begin + m], chosen[begin : begin + m]
            assert mask.sum() == min(n, len(group))
            if n < len(group):
                assert group[mask].min() >= group[~mask].max()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", [Block(), Block(2, 3), Block(1, 9), Block(1, 1)], ids=str)
def test_whole_blocks_of_the_largest_sums(shape, block):
    score = scores(shape)
    keep = score.numel() - int(0.6 * score.numel())
    mask = block.pick(score, keep).flatten(1)
    sums = {True: [], False: []}
    high, wide = mask.shape
    for top in range(0, high, block.rows):
        for left in range(0, wide, block.columns):
            where = (slice(top, top + block.rows), slice(left, left + block.columns))
            assert mask[where].all() or not mask[where].any()
            sums[bool(mask[where].all())].append(score.flatten(1)[where].sum().item())
    tiles = len(sums[True]) + len(sums[False])
    assert len(sums[True]) == -(-keep * tiles // score.numel())
    assert not sums[False] or min(sums[True]) >= max(sums[False])


def test_blocks_of_one_are_no_blocks():
    score = scores((6, 3, 3, 3))
    assert torch.equal(Block(1, 1).pick(score, 40), Unstructured().pick(score, 40))


def test_a_method_prunes_in_a_pattern():
    model = network()
    masks = Magnitude(0.5, pattern=NM(2, 4)).masks(model)
    dense = next(m for n, m in masks.kept.items() if m.shape[1:].numel() % 4 == 0)
    assert (dense.flatten(1).unflatten(1, (-1, 4)).sum(2) == 2).all()
    lots = RandomStatic(0.5, pattern=Block(2, 3)).masks(model)
    assert all(0 < share < 1 for share in lots.densities.values())


@pytest.mark.parametrize("made", [lambda: NM(5, 4), lambda: NM(0, 4), lambda: Block(0, 4)])
def test_impossible_patterns_are_refused(made):
    with pytest.raises(Refusal, match="must be a number from"):
        made()


def test_a_sparsity_that_a_pattern_cannot_have_is_refused():
    with pytest.raises(Refusal, match=r"2:4 removes 0\.5 of every layer"):
        Magnitude(0.9, pattern=NM(2, 4))
    with pytest.raises(Refusal, match="allocation 'layer'"):
        Magnitude(0.5, "global", NM(2, 4))
