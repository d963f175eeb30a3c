"""What it saves that a broken sample leaves the batch: benchmarks/active_set.py RUN [SAMPLES].

The same attacks on the same samples twice in one process: over the samples that still stand, each
of which leaves at its first success, and with every attack on every sample to its end. The bits of
what is broken must be equal; the ratio is that of gradient evaluations.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from spikeproof import records
from spikeproof.attacks import (
    APGD,
    FGSM,
    PGD,
    SAPGD,
    Attack,
    Linf,
    Standing,
    correct,
    run,
    under_attack,
)
from spikeproof.catalogue import load_network, read_data, read_spec, to_values
from spikeproof.spiking import ASSG, RGA

RESULTS = Path(__file__).parent / "results"
THREAT = Linf(0.1)
ATTACKS = (
    Attack(FGSM()),
    Attack(PGD(10)),
    Attack(PGD(10), rule=RGA()),
    Attack(SAPGD(100), rule=ASSG()),
    Attack(APGD(100), rule=ASSG()),
)


def noted(s: Standing, x: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Judges as ``Standing`` does and lets everybody stand."""
    fell = ~correct(logits, s.y) & s.threat.admits(x, s.clean) & (s._at == 0)
    s._found[fell], s._at[fell] = x[fell].detach(), s._forwards[fell]
    return torch.arange(len(x))


def gradients(model, x, y, *, shrink: bool) -> tuple[int, torch.Tensor]:
    """Returns how many gradients were taken, and which samples fell to any attack."""
    fallen, total = ~correct(model(x), y), 0
    for attack in ATTACKS:
        rows = (~fallen).nonzero().squeeze(1) if shrink else torch.arange(len(y))
        found = run(attack, model, x[rows], y[rows], THREAT, ids=rows)
        fallen[rows] |= found.fallen
        total += int(found.backwards.sum())
    return total, fallen


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 128
    model, spec = load_network(folder), read_spec(folder)
    x, y = read_data(spec.recipe, Path("data")).test.batch(torch.arange(count))
    with torch.no_grad(), under_attack(model):
        lean, fell = gradients(model, x, y, shrink=True)
        Standing._judge = noted
        full, all_fell = gradients(model, x, y, shrink=False)
    record = {
        "schema": records.SCHEMA,
        "kind": "active_set",
        "recipe": to_values(spec.recipe),
        "threat": to_values(THREAT),
        "attacks": [attack.name for attack in ATTACKS],
        "samples": count,
        "gradients": {"standing": lean, "everyone": full, "ratio": round(full / lean, 2)},
        "fallen": int(fell.sum()),
        "equal_bits": bool(torch.equal(fell, all_fell)),
        "environment": records.environment(),
    }
    records.write_json(RESULTS / "active-set.json", record)
    print(f"{full / lean:.2f} times the gradients; equal bits: {record['equal_bits']}")
