"""Trains a network in SpikingJelly's own loop, adopts it, and attacks it through two gradients.

    python examples/adopt_spikingjelly.py [FOLDER]

Writes the record. Without SpikingJelly it says so, and does nothing else.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from spikeproof.attacks import PGD, Attack, Linf
from spikeproof.data import digits
from spikeproof.evaluate import Conditions, Step, Suite, evaluate
from spikeproof.interop import adopt
from spikeproof.records import write_json
from spikeproof.seeding import isolated
from spikeproof.spiking import ASSG


class Net(nn.Module):
    """Step by step; who calls it resets it afterwards."""

    def __init__(self, neurons: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), neurons, nn.Linear(48, 10))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layers(x) for _ in range(4)]).mean(0)


out = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
with warnings.catch_warnings(), isolated(0):
    warnings.simplefilter("ignore")  # of old releases
    try:
        from spikingjelly.activation_based import functional, neuron
    except ImportError as absent:
        print(f"nothing to adopt: {absent}")
        write_json(out / "skipped.json", {"why": str(absent)})
        sys.exit()
    data = digits()
    net = Net(neuron.LIFNode())
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for rows in torch.randint(len(data.train), (200, 64)):
        x, y = data.train.batch(rows)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
        functional.reset_net(net)
    model = adopt(net.eval(), [data.test.batch(torch.arange(200))[0]])
    print(model.adoption)
    suite = Suite("two", (Step("own", Attack(PGD(10))), Step("assg", Attack(PGD(10), rule=ASSG()))))
    record = evaluate(
        model, data, Linf(0.06), suite, out=out, conditions=Conditions(limit=50), checks=()
    )
    print(f"{record.clean_accuracy:.0%} clean, {record.robust_accuracy:.0%} left")
