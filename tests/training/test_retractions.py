from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from spikeproof.data import Split
from spikeproof.errors import Refusal
from spikeproof.models import CNN, WRN, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.training import SGD, CrossEntropy, Orthogonal, Plan, Simplex, fit
from spikeproof.training._retractions import _on_simplex


def draw(seed: int = 0) -> torch.Generator:
    return generator(seed, "retraction")


def dense(inputs: int, outputs: int) -> nn.Linear:
    with isolated(0, "dense"):
        return nn.Linear(inputs, outputs).double()


def test_singular_values_go_where_the_formula_says():
    with isolated(0, "conv"):
        layer = nn.Conv2d(3, 4, 2).double()
    with torch.no_grad():
        layer.weight.mul_(3)
    before = torch.linalg.svd(layer.weight.flatten(1), full_matrices=False)
    Orthogonal(0.1)(layer, draw())
    s = before.S
    wanted = before.U @ torch.diag(s * (1.1 - 0.1 * s**2)) @ before.Vh
    torch.testing.assert_close(layer.weight.flatten(1), wanted)


def test_orthogonal_rows_stay_and_others_become_orthogonal():
    layer = dense(9, 5)
    with torch.no_grad():
        layer.weight.copy_(torch.linalg.qr(torch.rand(9, 5, generator=draw()).double()).Q.T)
    before = layer.weight.clone()
    Orthogonal(0.3)(layer, draw())
    torch.testing.assert_close(layer.weight, before)
    with torch.no_grad():
        layer.weight.add_(0.3 * torch.rand(5, 9, generator=draw(1)))
    for _ in range(200):
        Orthogonal(0.1)(layer, draw())
    torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(5).double())


def test_of_a_wide_dense_layer_a_share_of_rows_moves_that_the_generator_draws():
    layer = dense(6, 200)
    moved = []
    for seed in (0, 0, 1):
        copy = dense(6, 200)
        Orthogonal(0.1)(copy, draw(seed))
        rows = (copy.weight != layer.weight).any(1)
        assert torch.equal(copy.bias, layer.bias)
        chosen = layer.weight[rows]
        wanted = 1.1 * chosen - 0.1 * chosen @ chosen.T @ chosen
        torch.testing.assert_close(copy.weight[rows], wanted)
        moved.append(rows)
    assert [int(rows.sum()) for rows in moved] == [60, 60, 60]
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])


@pytest.mark.parametrize("seed", range(20))
def test_no_point_of_the_simplex_is_nearer(seed: int):
    noise = generator(seed, "simplex")
    count = 2 + seed % 4
    scalars = 2 * torch.randn(count, generator=noise, dtype=torch.float64)
    found = _on_simplex(scalars)
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(), torch.tensor(1.0).double())
    others = torch.rand(4000, count, generator=noise, dtype=torch.float64).log().neg()
    others = torch.cat([others / others.sum(1, keepdim=True), torch.eye(count).double()])
    assert (others - scalars).norm(dim=1).min() >= (found - scalars).norm() - 1e-12
    torch.testing.assert_close(_on_simplex(found), found)


def test_the_merges_of_a_network_become_convex():
    model = build(WRN(10, 1, 0.3), Setting(channels=1, size=8, classes=3, T=2))
    merges = {name: p for name, p in model.named_parameters() if p.shape == (2,)}
    merges = {name: p for name, p in merges.items() if "merge" in name}
    assert len(merges) == 3
    with torch.no_grad():
        for number, scalars in enumerate(merges.values()):
            scalars.copy_(torch.tensor([0.9, -0.2 + number]))
    before = {name: p.clone() for name, p in model.named_parameters()}
    Simplex()(model, draw())
    wanted = ([1.0, 0.0], [0.55, 0.45], [0.05, 0.95])
    for scalars, values in zip(merges.values(), wanted, strict=True):
        torch.testing.assert_close(scalars.detach(), torch.tensor(values), atol=1e-6, rtol=0)
    for name, parameter in model.named_parameters():
        assert (name in merges) or torch.equal(parameter, before[name]), name


def test_the_loop_retracts_after_every_step_and_a_resumed_run_does_the_same(tmp_path: Path):
    x = torch.rand((24, 1, 8, 8), generator=generator(0, "loop"))
    split = Split(x, (x.mean((1, 2, 3)) > 0.5).long(), 1.0)
    knobs = {"epochs": 2, "batch": 8, "optimizer": SGD(1e-9)}
    # nothing is learned: after six steps the weights are those of six retractions
    plan = Plan(**knobs, retractions=(Orthogonal(0.05, wide=4),))

    def run(folder: Path, *, stop: int = 0, resume: bool = False) -> nn.Module:
        model = build(CNN((3,), 6), Setting(channels=1, size=8, classes=2, T=2))

        def watch(at: object) -> None:
            if at.step == stop:
                raise KeyboardInterrupt

        fit(
            model,
            split,
            CrossEntropy(),
            plan,
            folder,
            validate=lambda _: {"accuracy": 0.0},
            watch=watch,
            resume=resume,
        )
        return model

    model = run(tmp_path / "whole")
    by_hand = build(CNN((3,), 6), Setting(channels=1, size=8, classes=2, T=2))
    for step in range(1, 7):
        Orthogonal(0.05, wide=4)(by_hand, generator(0, "retraction", 0, step))
    for mine, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-6)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=4)
    run(tmp_path / "cut", resume=True)
    state = "state.safetensors"
    assert (tmp_path / "cut" / state).read_bytes() == (tmp_path / "whole" / state).read_bytes()


@pytest.mark.parametrize("knobs", [{"beta": -1}, {"beta": 0.6}, {"rows": 1.5}, {"wide": 0}])
def test_knobs_out_of_range_are_refused(knobs: dict[str, float]):
    with pytest.raises(Refusal, match="of orthogonal"):
        Orthogonal(**knobs)


def test_the_layout_of_a_weight_does_not_matter():
    with isolated(0, "layout"):
        model = nn.Sequential(nn.Conv2d(2, 4, 3))
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for each in (model, other):
        Orthogonal(beta=0.1)(each, generator(0, "rows"))
    assert torch.equal(model[0].weight, other[0].weight)
    assert other[0].weight.is_contiguous(memory_format=torch.channels_last)
