"""Makes a sparse spiking network of your own ReLU network, packs it, and runs it without torch.

    python examples/convert_pack_run.py [FOLDER]

Train with ReLU, keep a fifth of the weights, put neurons in the place of ReLUs, tune, write a file.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from spikeproof.compress import Magnitude, apply, calibrate, holding, lower, spiking_twin
from spikeproof.data import digits
from spikeproof.energy import operations, picojoules
from spikeproof.ir import pack, unpack
from spikeproof.runtime import Activity, Engine
from spikeproof.seeding import isolated
from spikeproof.spiking import IF
from spikeproof.training import AdamW, Cosine, CrossEntropy, Plan, accuracy, fit, load_weights

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
data = digits()


def tuned(network: nn.Module, epochs: int, name: str) -> nn.Module:
    """Trains; weights that are masked stay away."""
    fit(
        network,
        data.train,
        CrossEntropy(),
        Plan(epochs, batch=32, optimizer=AdamW(0.005), schedule=Cosine()),
        folder / name,
        validate=lambda model: {"accuracy": accuracy(model, data.validation)},
        hold=holding(),
    )
    load_weights(folder / name, network)
    print(f"{name}: {accuracy(network.eval(), data.test):.1%} of the test images")
    return network


with isolated(0, "weights"):
    conv, dense, out = nn.Conv2d(1, 16, 3, padding=1), nn.Linear(256, 64), nn.Linear(64, 10)
layers = (conv, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), dense, nn.ReLU(), out)
analog = tuned(nn.Sequential(*layers), 6, "analog")
apply(analog, Magnitude(sparsity=0.8).masks(analog))
spiking = spiking_twin(analog, IF(learn_theta=True), steps=4)
calibrate(spiking, [data.train.batch(torch.arange(256))[0]])
tuned(spiking, 6, "spiking")

graph = lower(spiking, (1, 8, 8))
storage = pack(folder / "net.spkp", graph)
engine, activity = Engine(unpack(folder / "net.spkp")), Activity()
x, y = data.test.batch(torch.arange(len(data.test)))
right = (engine(x.numpy(), activity).argmax(1) == y.numpy()).mean()
energy = picojoules(operations(graph, activity.events, activity.samples)).total
print(f"packed: {right:.1%} in {storage.total:,} bytes, {energy / 1e6:.2g} uJ an image")
