"""Trains a spiking network of your own class on embedded handwriting.

    python examples/train_your_own.py [FOLDER]

A network is any ``nn.Module``: plain layers on (T*B, ...) with layers of neurons in between.
"""

import sys
import tempfile
from pathlib import Path

from torch import Tensor, nn

from spikeproof.data import digits
from spikeproof.seeding import isolated
from spikeproof.spiking import LIF, Spiking
from spikeproof.training import AdamW, Cosine, CrossEntropy, Plan, accuracy, fit, load_weights

T = 4


class Network(nn.Module):
    def __init__(self, neuron: LIF) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.first = Spiking(neuron, T, opens_time=True)
        self.pool = nn.AvgPool2d(2)
        self.dense = nn.Linear(16 * 4 * 4, 64)
        self.second = Spiking(neuron, T)
        self.out = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        s = self.first(self.conv(x))  # (B, ...) comes in, (T*B, ...) goes on
        s = self.second(self.dense(self.pool(s).flatten(1)))
        return self.out(s).unflatten(0, (-1, len(x))).mean(0)


def trained(folder: Path) -> Network:
    """Returns the network with the weights of its best epoch, which are kept in ``folder``."""
    data = digits()
    with isolated(0, "weights"):
        network = Network(LIF(tau=0.8, theta=0.5))
    plan = Plan(epochs=8, batch=32, optimizer=AdamW(0.005), schedule=Cosine())
    fit(
        network,
        data.train,
        CrossEntropy(),
        plan,
        folder,
        validate=lambda model: {"accuracy": accuracy(model, data.validation)},
    )
    load_weights(folder, network)
    return network.eval()


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    print(f"test accuracy {accuracy(trained(folder), digits().test):.2%}; the run is in {folder}")
