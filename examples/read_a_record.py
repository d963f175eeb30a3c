"""Reads the record of an evaluation with nothing but JSON and NumPy.

    python examples/read_a_record.py [FOLDER]

Makes a small record first. What every attack did to every sample stands in it, so anybody can count
again: the worst case, who broke what, and what one attack found that no other did.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from train_your_own import trained

from spikeproof.attacks import FGSM, PGD, SAPGD, Attack, Linf
from spikeproof.data import digits
from spikeproof.evaluate import Conditions, Step, Suite, evaluate
from spikeproof.spiking import ASSG

STEPS = (
    Step("fgsm", Attack(FGSM()), everyone=True),
    Step("pgd-10", Attack(PGD(10)), everyone=True),
    Step("sapgd-assg", Attack(SAPGD(20), rule=ASSG()), everyone=True),
)


def numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<u4")


def bits(text: str, count: int) -> np.ndarray:
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)


folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
evaluate(
    trained(folder / "run"), digits(), Linf(0.06), Suite("three", STEPS),
    out=folder / "evaluation", conditions=Conditions(limit=60), checks=(),
)  # fmt: skip

record = json.loads((folder / "evaluation" / "record.json").read_text())
samples = numbers(record["data"]["indices"])[numbers(record["places"])]
clean = bits(record["clean"], len(samples))
broke = {step["id"]: bits(step["success"], len(samples)) for step in record["steps"]}
standing = clean & ~np.any([*broke.values()], axis=0)
print(f"of {len(samples)} samples {clean.sum()} are right and {standing.sum()} still stand")
for name, fell in broke.items():
    others = np.any([other for key, other in broke.items() if key != name], axis=0)
    print(f"{name} broke {fell.sum()}, {(fell & ~others).sum()} of them alone")
print(f"numbers of the samples that stand: {samples[standing][:8].tolist()} ...")
said = record["summary"]["robust_accuracy"]
print(f"the record says so, too: {said:.2%} and {standing.mean():.2%}")
