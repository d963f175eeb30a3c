from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from spikeproof.data import Split
from spikeproof.errors import Refusal
from spikeproof.seeding import generator, isolated
from spikeproof.training import SGD, CrossEntropy, Plan, fit, load_weights, measure
from spikeproof.training._average import Average, averaged


def network() -> nn.Module:
    with isolated(0, "average"):
        return nn.Sequential(nn.Flatten(), nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))


def samples() -> Split:
    x = torch.rand((40, 1, 2, 2), generator=generator(0, "average"))
    return Split(x, (x.mean((1, 2, 3)) > 0.5).long(), 1.0)


def states(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_mean_by_hand():
    """Two steps: decays 1/11, then 2/12, each below the one that is asked for."""
    with isolated(0, "layer"):
        layer = nn.Linear(1, 1, bias=False)
    for decay, wanted in ((0.9, (10 / 11 * 1, 0)), (0.05, (0.95, 0))):
        with torch.no_grad():
            layer.weight.fill_(0.0)
        mean = Average(layer, decay)
        for step, weight in ((1, 1.0), (2, 4.0)):
            with torch.no_grad():
                layer.weight.fill_(weight)
            mean.update(layer, step)
        kept = min(decay, 2 / 12)
        assert mean.tensors["weight"].item() == pytest.approx(kept * wanted[0] + (1 - kept) * 4)


def test_a_constant_is_its_own_mean_and_counters_are_copied():
    model = network()
    mean = Average(model, 0.99)
    model.train()(torch.ones(3, 4))
    for step in range(1, 200):
        mean.update(model, step)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(mean.tensors[name], value)
    assert mean.tensors["2.num_batches_tracked"].item() == 1


def test_a_loan_gives_back_every_bit():
    model = network()
    mean = Average(model, 0.9)
    with torch.no_grad():
        model[1].weight.mul_(math.pi)
    before, kept = states(model), {k: v.clone() for k, v in mean.tensors.items()}
    with averaged(model, mean):
        assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(v, kept[k]) for k, v in mean.tensors.items())


def test_what_is_validated_and_kept_is_the_mean_that_an_oracle_keeps(tmp_path: Path):
    """Norm buffers included; the descent itself is that of a run without a mean."""
    plans = [
        Plan(epochs=3, batch=8, optimizer=SGD(0.3, 0.9), average=share, select="shown")
        for share in (0.0, 0.8)
    ]
    ends: list[dict[str, torch.Tensor]] = []
    path: list[dict[str, torch.Tensor]] = []
    for plan in plans:
        model, shown = network(), []
        if not ends:
            path.append(states(model))

        def validate(seen: nn.Module, shown=shown) -> dict[str, float]:
            shown.append(states(seen))
            return {"shown": float(len(shown))}

        def watch(_: object, model=model) -> None:
            if not ends:
                path.append(states(model))

        folder = tmp_path / str(plan.average)
        fit(model, samples(), CrossEntropy(), plan, folder, validate=validate, watch=watch)
        ends.append(shown[-1])
    mean = path[0]
    for step, weights in enumerate(path[1:], 1):
        decay = min(0.8, step / (step + 10))
        mean = {
            k: decay * mean[k] + (1 - decay) * w if w.is_floating_point() else w
            for k, w in weights.items()
        }
    assert all(torch.equal(path[-1][k], v) for k, v in ends[0].items())
    kept = network()
    load_weights(tmp_path / "0.8", kept)
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(value, mean[name])
        assert torch.equal(value, ends[1][name])
        assert torch.equal(value, model.state_dict()[name]), "the model ends with it, too"
    assert not torch.equal(mean["1.weight"], path[-1]["1.weight"])


def test_what_is_held_at_zero_is_zero_in_the_mean(tmp_path: Path):
    def hold(model: nn.Module, _: torch.optim.Optimizer, __: int) -> None:
        with torch.no_grad():
            model[1].weight[:, ::2] = 0

    plan = Plan(epochs=1, batch=8, optimizer=SGD(0.3), average=0.8)
    model = network()
    fit(
        model,
        samples(),
        CrossEntropy(),
        plan,
        tmp_path,
        validate=lambda seen: measure(seen, samples()),
        hold=hold,
    )
    assert (model[1].weight[:, ::2] == 0).all()
    assert (model[1].weight[:, 1::2] != 0).all()


@pytest.mark.parametrize("where", ["step", "validation"])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path, where: str):
    plan = Plan(epochs=3, batch=8, optimizer=SGD(0.3, 0.9), average=0.8, save_every=4)
    calls = 0

    def run(folder: Path, *, resume: bool = False, stop: int = 0) -> None:
        nonlocal calls
        calls = 0

        def count(kind: str) -> None:
            nonlocal calls
            calls += kind == where
            if stop and calls == stop:
                raise KeyboardInterrupt

        def validate(seen: nn.Module) -> dict[str, float]:
            count("validation")
            return measure(seen, samples())

        fit(
            network(),
            samples(),
            CrossEntropy(),
            plan,
            folder,
            validate=validate,
            watch=lambda _: count("step"),
            resume=resume,
        )

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=2)
    run(tmp_path / "cut", resume=True)
    for name in ("state.safetensors", "model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_share_that_forgets_nothing_is_refused():
    with pytest.raises(Refusal, match=r"^average is 1\.0; it must be from 0 \(off\)"):
        Plan(epochs=1, batch=1, optimizer=SGD(0.1), average=1.0)


def test_tied_weights_come_back_as_they_were():
    with isolated(0, "tied"):
        layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    average = Average(model, 0.9)
    with torch.no_grad():
        layer.weight += 1
    before = layer.weight.clone()
    with averaged(model, average):
        assert not torch.equal(layer.weight, before)
    assert torch.equal(layer.weight, before)
