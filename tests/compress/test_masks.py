from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeproof.compress import TINY, Magnitude, Masks, apply, kept_count, masks_of, prunable
from spikeproof.errors import Refusal
from spikeproof.seeding import generator
from tests.compress.descent import network


def some() -> Masks:
    draw = generator(0, "masks")
    shapes = {"a.weight": (3, 4), "b.weight": (2, 3, 3, 3)}
    return Masks({n: torch.rand(shape, generator=draw) < 0.3 for n, shape in shapes.items()})


@given(st.integers(1, 10_000_000), st.floats(0, 1, exclude_max=True))
def test_of_n_weights_all_but_the_whole_part_of_kappa_n_stay(n, kappa):
    kept = kept_count(n, kappa)
    assert kept == n - int(kappa * n)
    assert 1 <= kept <= n


def test_densities_are_counted():
    masks = some()
    a, b = (int(masks.kept[name].sum()) for name in ("a.weight", "b.weight"))
    assert masks.counts == {"a.weight": a, "b.weight": b}
    assert masks.weights == a + b
    assert masks.density == (a + b) / 66
    assert masks.densities == {"a.weight": a / 12, "b.weight": b / 54}


def test_a_mask_is_a_value():
    masks = some()
    with pytest.raises(dataclasses.FrozenInstanceError):
        masks.kept = {}
    with pytest.raises(TypeError):
        masks.kept["c"] = torch.ones(1, dtype=torch.bool)
    with pytest.raises(Refusal, match=r"float32; masks are boolean"):
        Masks({"a": torch.ones(2)})


def test_a_file_gives_the_masks_back(tmp_path):
    masks = some()
    masks.save(tmp_path / "m.safetensors")
    again = Masks.load(tmp_path / "m.safetensors")
    assert again.digest() == masks.digest()
    assert again.kept.keys() == masks.kept.keys()
    assert all(torch.equal(again.kept[n], m) for n, m in masks.kept.items())


def test_digests_tell_masks_apart():
    masks = some()
    flipped = masks.kept["a.weight"].clone()
    flipped[0, 0] ^= True
    reshaped = {**masks.kept, "a.weight": masks.kept["a.weight"].reshape(4, 3)}
    others = [
        Masks({**masks.kept, "a.weight": flipped}),
        Masks(reshaped),
        Masks({"a": masks.kept["a.weight"], "b.weight": masks.kept["b.weight"]}),
    ]
    assert len({m.digest() for m in (masks, *others)}) == 4


@pytest.mark.parametrize("damage", ["absent", "short", "other", "foreign"])
def test_a_file_that_holds_no_masks_is_refused(tmp_path, damage):
    path = tmp_path / "m.safetensors"
    if damage != "absent":
        some().save(path)
        data = path.read_bytes()
        path.write_bytes({"short": data[:-3], "other": b"x" * 50, "foreign": data}[damage])
    if damage == "foreign":
        path.write_bytes(data.replace(b"masks 1", b"masks 9"))
    with pytest.raises(Refusal, match=r"give a file that Masks\.save wrote"):
        Masks.load(path)


def test_the_weights_carry_their_masks():
    model = network()
    masks = Magnitude(0.7).masks(model)
    weights = prunable(model)
    first = next(iter(masks.kept))
    kept = masks.kept[first].nonzero()[0]
    with torch.no_grad():
        weights[first][tuple(kept)] = 0  # trap: a kept weight may be exactly 0
    before = {name: w.detach().clone() for name, w in weights.items()}
    apply(model, masks)
    assert masks_of(model).digest() == masks.digest()
    assert weights[first][tuple(kept)] == TINY
    for name, mask in masks.kept.items():
        assert (weights[name][~mask] == 0).all()
        same = mask & (before[name] != 0)
        assert torch.equal(weights[name][same], before[name][same])


def test_masks_of_another_network_are_refused():
    model = network()
    with pytest.raises(Refusal, match=r"have a\.weight, which SpikingNetwork has not"):
        apply(model, some())
    name = next(iter(prunable(model)))
    with pytest.raises(Refusal, match="has shape"):
        apply(model, Masks({name: torch.ones(2, dtype=torch.bool)}))
