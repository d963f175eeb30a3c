"""Looks at one network through every gradient rule: same logits, other gradients.

    python examples/look_at_gradients.py [FOLDER]

Prints, for each layer of neurons and for the input, the mean l2 norm of a sample's gradient and
the share of its entries that are exactly zero.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn
from train_your_own import trained

from spikeproof.data import digits
from spikeproof.records import write_json
from spikeproof.spiking import ASSG, BPTR, BPTT, CBA, HART, PDSG, RGA, ATan, recorded, seen_through

RULES = {
    "bptt, triangle": BPTT(),
    "bptt, arctan": BPTT(ATan()),
    "bptr": BPTR(),
    "rga": RGA(),
    "hart": HART(),
    "pdsg": PDSG(),
    "assg": ASSG(),
    "cba": CBA(),
}


def look(network: nn.Module) -> dict[str, dict[str, tuple[float, float]]]:
    x, y = digits().test.batch(torch.arange(100))
    found = {}
    for name, rule in RULES.items():
        view, inputs = seen_through(network, rule), x.clone().requires_grad_()
        with recorded(view, gradients=True) as layers:
            nn.functional.cross_entropy(view(inputs), y, reduction="sum").backward()
        g = inputs.grad.flatten(1)
        found[name] = {"input": (g.norm(dim=1).mean().item(), g.eq(0).float().mean().item())}
        if not isinstance(rule, CBA):  # its layers are activations and hold no neurons
            for layer, record in layers.items():
                gradient = record.gradient
                found[name][layer] = (gradient.l2.mean().item(), gradient.zeros.mean().item())
    return found


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    found = look(trained(folder / "run"))
    for name, places in found.items():
        cells = [
            f"{place} {norm:.3f} ({zeros:.0%} zeros)" for place, (norm, zeros) in places.items()
        ]
        print(f"{name:15}", *cells, sep="  ")
    write_json(folder / "gradients.json", found)
