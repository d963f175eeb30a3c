"""Records made of thin air, in the form in which evaluations and diagnoses write theirs."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from spikeproof.statistics import only_by, robust_accuracy, wilson

OWN = None
ASSG = {"kind": "assg", "vanishing": 0.85, "surrogate": {"kind": "atan", "alpha": 1.0}}
ATAN = {"kind": "bptt", "detach_reset": False, "surrogate": {"kind": "atan", "alpha": 4.0}}
BPTR = {"kind": "bptr"}
LINF = {"kind": "linf", "eps": 0.1, "low": 0.0, "high": 1.0}
EPSILONS = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)
EVERYONE = ("S1-random", "S2-fgsm-own", "S2-fgsm-atan-4", "S2-fgsm-bptr", "S3-pgd-10")


def bits(values) -> str:
    return base64.b64encode(np.packbits(np.asarray(values, bool)).tobytes()).decode()


def numbers(values, kind="<u4") -> str:
    return base64.b64encode(np.asarray(values, kind).tobytes()).decode()


def attack(kind: str, rule=OWN, loss: str = "ce", **search) -> dict:
    return {
        "search": {"kind": kind, **search}, "loss": {"kind": loss}, "rule": rule,
        "restarts": 1, "draws": 1, "votes": 20,
    }  # fmt: skip


def step(id, made, attacked, success, *, everyone=False, threat=None, **values) -> dict:
    met = int(sum(attacked))
    generator = np.random.default_rng(len(id))
    queries = generator.integers(1, 100, met)
    fell = np.asarray(success)[np.asarray(attacked, bool)]
    none = bits([False] * len(attacked))
    return {
        "id": id, "attack": made, "everyone": everyone, "threat": threat, "skipped": "",
        "message": "", "attacked": bits(attacked), "success": bits(success), "inadmissible": none,
        "unconfirmed": none, "infeasible": none, "crashed": none,
        "at": numbers(np.where(fell, queries, 0)), "forwards": numbers(np.full(met, 100)),
        "backwards": numbers(np.full(met, 99)), "size": numbers(np.full(met, 0.1), "<f4"),
        "source": None, "limit": 0,
    } | values  # fmt: skip


def evaluation(
    samples: int = 40,
    *,
    strength: float = 0.3,
    seed: int = 0,
    name: str = "made-up",
    status: str = "flagged",
    shape=(1, 8, 8),
    suite: str = "standard-images",
    more: int = 0,
) -> dict:
    """A record: ``strength`` is the share that the primary attack breaks of those that stand."""
    generator = np.random.default_rng(seed)
    clean = generator.random(samples) < 0.95
    standing, steps = clean.copy(), []
    made = {
        "S1-random": attack("random", draws=100),
        "S2-fgsm-own": attack("fgsm"),
        "S2-fgsm-atan-4": attack("fgsm", ATAN),
        "S2-fgsm-bptr": attack("fgsm", BPTR),
        "S3-pgd-10": attack("pgd", steps=10),
        "S4-sapgd-assg": attack("sapgd", ASSG, steps=100),
        "S8-square": attack("square", loss="margin", queries=5000),
    }
    made |= {f"S5-apgd-{n:02d}": attack("apgd", {"kind": "rule", "n": n}) for n in range(more)}
    for id, one in made.items():
        everyone = id in EVERYONE
        attacked = clean.copy() if everyone else standing.copy()
        share = strength if id.startswith("S4") else strength / 6 if everyone else 0.005
        success = attacked & (generator.random(samples) < share)
        steps.append(step(id, one, attacked, success, everyone=everyone))
        standing &= ~success
    primary = made["S4-sapgd-assg"]
    for eps in EPSILONS:
        fell = clean & (generator.random(samples) < min(1, strength * eps / 0.1))
        steps.append(step(f"S13-eps-{eps}", primary, clean, fell, threat=LINF | {"eps": eps}))
    checks = [
        {"id": "C1", "name": "determinism", "value": 0.0, "threshold": 1e-4, "verdict": "pass",
         "detail": "5 forward passes differ by 0"},
        {"id": "C11", "name": "converged", "value": 0.07, "threshold": 0.01,
         "detail": "still falls",
         "verdict": {"unreliable": "fail", "flagged": "flag"}.get(status, "pass")},
        {"id": "C16", "name": "transfer", "value": None, "threshold": None, "verdict": "na",
         "detail": "the suite has no step for it"},
    ]  # fmt: skip
    doubtful = [f"C11 (converged): {checks[1]['detail']}"] if checks[1]["verdict"] != "pass" else []
    return {
        "schema": 1, "kind": "evaluation", "suite": suite, "seed": 0, "threat": LINF,
        "shard": [1, 1], "control": "", "artifacts": {},
        "model": {
            "name": "SpikingNetwork", "parameters": 1000 + seed, "weights_sha256": f"{seed:064d}"
        },
        "data": {
            "name": name, "shape": list(shape), "training": 0, "tensor_sha256": "a" * 64,
            "label_sha256": "b" * 64, "indices": numbers(range(samples)),
            "labels": numbers(np.arange(samples) % 10),
        },
        "places": numbers(range(samples)), "clean": bits(clean), "steps": steps,
        "checks": checks, "measured": [], "finding": {"status": status, "reasons": doubtful},
        "reading": {"classes": 10, "stochastic": False, "unbounded": 1.0, "roles": {
            "random": ["S1-random"], "single": ["S2-fgsm-own", "S2-fgsm-atan-4", "S2-fgsm-bptr"],
            "iterative": ["S3-pgd-10"], "primary": "S4-sapgd-assg", "longest": "S4-sapgd-assg",
            "eps": [[eps, f"S13-eps-{eps}"] for eps in EPSILONS],
        }},
        "environment": {"python": "3.11", "cores": 2, "packages": {"torch": "2.13.0"}},
        "times": {"started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:01:00+00:00",
                  "seconds_of_steps": {s["id"]: 1.5 for s in steps}},
        "summary": {"steps": summary(clean, steps)},
    }  # fmt: skip


def unpacked(text: str, samples: int) -> list[bool]:
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(packed, count=samples).astype(bool).tolist()


def summary(clean, steps) -> list[dict]:
    counted = [s for s in steps if s["threat"] is None]
    broken = [unpacked(s["success"], len(clean)) for s in counted]
    alone = only_by(broken)
    return [
        {"id": s["id"], "only_by": alone[n],
         "cumulative": robust_accuracy(clean.tolist(), *broken[: n + 1])}
        for n, s in enumerate(counted)
    ]  # fmt: skip


def write(folder: Path, values: dict, x_adv: np.ndarray | None = None, places=()) -> Path:
    """Writes a record and its adversarials; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if x_adv is not None:
        path = folder / "adversarials.safetensors"
        save_file({"places": np.asarray(places, np.int64), "x_adv": x_adv}, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        kept = {"file": path.name, "sha256": digest, "samples": len(places)}
        values = values | {"artifacts": {"adversarials": kept}}
    (folder / "record.json").write_text(json.dumps(values, sort_keys=True))
    return folder


def broken_places(values: dict) -> list[int]:
    """The samples that fell, in order."""
    count = len(np.frombuffer(base64.b64decode(values["places"]), "<u4"))
    counted = [s for s in values["steps"] if s["threat"] is None]
    rows = np.array([unpacked(s["success"], count) for s in counted])
    return np.flatnonzero(rows.any(0)).tolist()


def standing(values: dict) -> tuple[float, tuple[float, float]]:
    """The worst case and its interval, worked out anew."""
    count = len(np.frombuffer(base64.b64decode(values["places"]), "<u4"))
    clean = np.array(unpacked(values["clean"], count))
    for s in values["steps"]:
        if s["threat"] is None:
            clean &= ~np.array(unpacked(s["success"], count))
    return clean.mean(), wilson(int(clean.sum()), count)


def certificate(values: dict, certified, *, threat=LINF, method="ibp", **more) -> dict:
    """A certificate of the network and samples of an evaluation: which of them are proved."""
    count = len(certified)
    row = {"u4": numbers(range(count))}
    votes = method in ("smoothing", "rate_coding")
    numbers_of = [0.5 if sure else -0.5 for sure in certified]
    return {
        "schema": 1, "kind": "certificate", "model": values["model"], "threat": threat,
        "data": {**values["data"], "indices": row, "labels": row},
        "method": {"kind": method}, "seed": 0,
        "clean": {"bits": values["clean"], "count": count},
        "certified": {"bits": bits(certified), "count": count},
        "margin": [] if votes else numbers_of, "radius": numbers_of if votes else [],
        "checks": [], "environment": {}, "times": {},
    } | more  # fmt: skip


def raster(sample: int, layer: str, parted: float, neurons: int = 20, steps: int = 4) -> dict:
    """What a layer did on a sample, clean and attacked, at random."""
    generator = np.random.default_rng(sample)
    spikes = generator.random((2, neurons * steps)) < 0.3
    told = [{"bits": bits(row), "count": neurons * steps} for row in spikes]
    return {
        "sample": sample, "layer": layer, "T": steps, "steps": steps, "parted": parted,
        "neurons": {"u4": numbers(range(neurons))}, "clean": told[0], "attacked": told[1],
    }  # fmt: skip


def diagnosis() -> dict:
    """A record of a diagnosis: a trail of three operations, two rules, a plane, rates."""
    rules = ["own gradient", "ASSG(surrogate=ATan(alpha=1.0), vanishing=0.85)"]

    def operation(name, kind, zeros):
        return {"name": name, "kind": kind, "zeros": zeros, "near": {"0.001": zeros + 0.1},
                "l1": 1.0, "l2": 0.5}  # fmt: skip

    trail = [operation("input", "input", 0.0), operation("layers.10", "neuron", 0.6),
             operation("output", "output", 0.1)]  # fmt: skip
    at = np.linspace(-0.2, 0.2, 5)
    margin = np.add.outer(at, at).ravel() * 10 - 0.5  # as attackers count: positive is wrong
    floats = {"f8": base64.b64encode(margin.astype("<f8").tobytes()).decode()}
    return {
        "schema": 1, "kind": "diagnosis", "rules": rules, "notes": ["domains: no encoder"],
        "seen": [
            {"inputs": inputs, "firing": [
                {"name": name, "T": 4, "neurons": 64} for name in ("layers.2", "layers.10")
            ]} for inputs in ("clean", "attacked")
        ],
        "rasters": [
            raster(sample, name, parted=0.1 * (sample + (name == "layers.10")))
            for sample in (0, 3) for name in ("layers.2", "layers.10")
        ],
        "planes": [{"sample": 3, "kind": "random", "at": at.tolist(), "margin": floats}],
        "summary": {
            "seen": {
                inputs: {"accuracy": 0.9, "rate": {"layers.10": 0.3, "layers.2": 0.2},
                         "trails": dict.fromkeys(rules, trail)}
                for inputs in ("attacked", "clean")
            },
            "vulnerability": [
                {"forward": "real", "rule": rule, "eps": 0.1, "ratio": 9.0, "linear": 80.0,
                 "upper": 192.0, "above": 0.0, "below": 0.25, "undefined": 0.0} for rule in rules
            ],
            "curves": [
                {"over": "width", "value": v, "name": "", "standing": s}
                for v, s in ((0.5, 0.8), (1.0, 0.7), (2.0, 0.75))
            ],
            "slopes": [{"rule": rules[0], "step": 0.1, "agreement": 0.6}],
            "domains": {"eps": 0.1, "clean": 0.9, "sensor": 0.8, "spikes": 0.5, "legal": 0.85,
                        "flipped": 0.1},
        },
    }  # fmt: skip
