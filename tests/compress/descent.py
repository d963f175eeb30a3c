"""A few steps of descent, as the training loop takes them."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional

from spikeproof.models import CNN, Setting, build
from spikeproof.seeding import generator, isolated
from spikeproof.spiking import IF


def network(neuron=None, T=2, **knobs):
    setting = Setting(channels=2, size=6, classes=3, T=T, neuron=neuron)
    return build(CNN((6, 8), 10, **knobs), setting, 3)


def learning():
    return network(IF(theta=0.3, learn_theta=True))


def sgd(model, lr=0.05, momentum=0.9, weight_decay=0.01):
    learned = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.SGD(learned, lr, momentum, weight_decay=weight_decay)


def descend(model, hold, steps, optimizer=None, start=0, loss=None):
    """Runs the steps ``start + 1`` to ``steps``; which batch a step sees is its number's alone."""
    optimizer = optimizer or sgd(model)
    hold(model, optimizer, start)
    for step in range(start + 1, steps + 1):
        draw = generator(5, "batch", step)
        x = torch.rand((8, 2, 6, 6), generator=draw)
        y = torch.randint(3, (8,), generator=draw)
        optimizer.zero_grad()
        value = functional.cross_entropy(model(x), y)
        (value if loss is None else value + loss(model)).backward()
        optimizer.step()
        hold(model, optimizer, step)
    return optimizer


def linear(*widths, seed=0):
    """Dense layers and ReLUs, whose weights are normal."""
    draw = generator(seed, "linear")
    layers = []
    for inputs, outputs in itertools.pairwise(widths):
        with isolated(seed):
            layer = nn.Linear(inputs, outputs, bias=False, dtype=torch.float64)
        layer.weight.data = torch.randn(outputs, inputs, generator=draw, dtype=torch.float64)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])
