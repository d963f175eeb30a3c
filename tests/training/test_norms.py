from __future__ import annotations

import pytest
import torch
from torch import nn

from spikeproof.models import CNN, Setting, build
from spikeproof.training._norms import statistics_of_first_pass
from tests.training.robust import images


def network() -> nn.Module:
    setting = Setting(channels=1, size=8, classes=3, T=1, neuron=None)
    return build(CNN((4, 6), 8), setting).double().train()


def test_the_same_inputs_give_the_same_answers_and_others_do_not():
    model, x = network(), images()[0]
    with statistics_of_first_pass(model) as again:
        first = model(x)
        with again():
            torch.testing.assert_close(model(x), first)
        with again():  # alone in a batch, a sample keeps the statistics of all
            torch.testing.assert_close(model(x[:1]), first[:1])
    assert not torch.allclose(model(x[:2]), first[:2]), "batch statistics do matter here"


def test_running_statistics_see_the_first_pass_once():
    model, other, x = network(), network(), images()[0]
    with statistics_of_first_pass(model) as again:
        model(x)
        with again():
            model(x + 0.5)
    other(x)
    for (name, mine), theirs in zip(
        model.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs), name
    assert all(module.training for module in model.modules())


def test_norms_in_eval_mode_stay_as_they_are():
    model, x = network().eval(), images()[0]
    with statistics_of_first_pass(model) as again:
        first = model(x)
        with again():
            assert torch.equal(model(x), first)
    assert not any(module.training for module in model.modules())


def test_a_failure_leaves_no_trace():
    model, x = network(), images()[0]
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def fail():
        with statistics_of_first_pass(model) as again:
            model(x)
            with again():
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert model.state_dict().keys() == before.keys()


def test_a_norm_that_is_used_twice_has_two_statistics():
    norm = nn.BatchNorm1d(2).double()
    model = nn.Sequential(norm, nn.Hardtanh(-0.5, 0.5), norm)
    x = images()[0].flatten(1)[:, :2]
    with statistics_of_first_pass(model) as again:
        first = model(x)
        with again():
            torch.testing.assert_close(model(x), first)


def test_passes_in_eval_mode_are_not_the_first_pass():
    """An attack asks the network in eval mode before the pass that trains."""
    model, x = network(), images()[0]
    with statistics_of_first_pass(model) as again:
        model.eval()(x + 0.5)
        first = model.train()(x)
        with again():
            torch.testing.assert_close(model(x), first)
