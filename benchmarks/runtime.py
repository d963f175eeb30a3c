"""One image through a sparse VGG-16 of eight steps: the engine beside what a user would take.

    OMP_NUM_THREADS=1 python benchmarks/runtime.py --threads 1

Every row answers the same image with the same weights, in alternation, in one process; how far
its logits are from torch's is in the record. With one thread, times are processor seconds, which
other work on the machine hardly touches. ``--peers`` names a folder with ONNX Runtime.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from benchmarks._dense import Dense, SparseProducts, csr_of_scipy, csr_of_torch, in_onnxruntime
from benchmarks._pruned import pruned_vgg16
from benchmarks._timing import RESULTS, Values, paired, record
from torch import Tensor, nn

from spikeproof.compress import lower
from spikeproof.data import load
from spikeproof.energy import operations
from spikeproof.ir import Conv, Flatten, Graph, Input, Neurons, Weights, pack
from spikeproof.records import write_json
from spikeproof.runtime import Activity, Engine

SPARSITIES, TURNS, WARM = (0.95, 0.99), 15, 3
DENSITIES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
OURS = {"engine": "auto", "engine, by weights": "weights", "engine, by events": "events"}
Call = Callable[[], Tensor]


def calls(net: nn.Module, graph: Graph, image: Tensor, folder: Path, given: argparse.Namespace):
    """Yields every row's name and its call, or why there is none."""
    x = image.numpy()
    for name, order in OURS.items():
        engine = Engine(graph, order, threads=1)
        yield name, lambda engine=engine: torch.from_numpy(engine(x))
    yield "torch", lambda: net(image)
    dense = Dense(graph).eval()
    yield "torch, norms folded", lambda: dense(image)
    for name, make in (("torch.sparse", csr_of_torch), ("scipy", csr_of_scipy)):
        products = SparseProducts(graph, make)
        yield name, lambda model=products: model(image)
    if not given.quick:
        compiled = torch.compile(Dense(graph).eval())
        yield "torch, compiled", lambda: compiled(image)
        frozen = torch.compile(Dense(graph).eval(), options={"freezing": True})
        yield "torch, compiled and frozen", lambda: frozen(image)
    try:
        yield "onnxruntime", in_onnxruntime(dense, image, folder, given.threads)
    except ImportError as error:
        yield "onnxruntime", str(error)


def timed(call: Callable[[], object], threads: int = 1) -> float:
    """Returns the seconds of one call."""
    clock = time.process_time if threads == 1 else time.perf_counter
    began = clock()
    call()
    return clock() - began


def compared(sparsity: float, images: Tensor, given: argparse.Namespace) -> Values:
    """Returns the rows of one sparsity."""
    net = pruned_vgg16(sparsity, images, 0.1 if given.quick else 1.0)
    graph, image = lower(net, tuple(images.shape[1:])), images[:1]
    rows: dict[str, Values] = {}
    activity = Activity()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        wanted, running = net(image), {}
        for name, call in calls(net, graph, image, Path(folder), given):
            if isinstance(call, str):
                rows[name] = {"error": call}
                continue
            error = float((call() - wanted).abs().max())
            rows[name] = {"error_of_logits": float(f"{error:.3g}"), "seconds": []}
            running[name] = call
            for _ in range(WARM):
                call()
        for _ in range(2 if given.quick else given.turns):
            for name, call in running.items():
                rows[name]["seconds"].append(timed(call, given.threads))
        Engine(graph, threads=1)(image.numpy(), activity)
        storage = pack(Path(folder) / "net.spkp", graph)
    least = {name: min(row["seconds"]) for name, row in rows.items() if "seconds" in row}
    table = paired(rows, "engine")
    for name, seconds in least.items():
        table[name]["least"] = float(f"{seconds:.4g}")
    peers = {name: seconds for name, seconds in least.items() if name not in OURS}
    best = min(peers, key=peers.__getitem__)
    counted = operations(graph, activity.events, 1)
    return {
        "sparsity": sparsity,
        "kept": graph.kept,
        "bytes": storage.total,
        "times_smaller": round(storage.ratio, 2),
        "spikes": sum(activity.spikes.values()),
        "operations": counted.behind_neurons,
        "layers_by_events": sum(activity.by_events.values()),
        "rows": table,
        "best_peer": best,
        "times_faster": round(
            float(np.median(rows[best]["seconds"]) / np.median(rows["engine"]["seconds"])), 2
        ),
        "times_faster_least": round(peers[best] / least["engine"], 2),
    }


def layer(density: float, channels: int, side: int) -> Graph:
    """Returns one convolution that reads frames."""
    drawn = np.random.default_rng(0)
    dense = drawn.standard_normal((channels, channels, 3, 3)).astype(np.float32)
    dense *= drawn.random(dense.shape) < density
    return Graph((
        Input((channels, side, side), 8, "frames"),
        Conv(0, Weights.of(dense), np.zeros(channels, np.float32), padding=(1, 1)),
        Neurons(1, 1.0, 1.0),
        Flatten(2),
    ))  # fmt: skip


def swept(*, quick: bool) -> list[Values]:
    """Returns the seconds of one layer over densities and firing rates."""
    channels, side = (16, 8) if quick else (256, 16)
    found = []
    for density in DENSITIES:
        engines = {
            order: Engine(layer(density, channels, side), order, 1) for order in OURS.values()
        }
        for rate in RATES:
            drawn = np.random.default_rng(1)
            x = (drawn.random((1, 8, channels, side, side)) < rate).astype(np.float32)
            seconds = {
                order: min(timed(lambda run=engine, x=x: run(x)) for _ in range(2 if quick else 9))
                for order, engine in engines.items()
            }
            found.append({
                "density": density, "rate": rate,
                "weights_times_spikes": engines["auto"].graph.kept * float(x.sum()) / x[0, 0].size,
                "seconds": {order: float(f"{s:.4g}") for order, s in seconds.items()},
            })  # fmt: skip
    return found


def main() -> None:
    """Compares, sweeps, writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="of the peers; the engine takes one")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--sparsity", type=float, nargs="*", default=list(SPARSITIES))
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="of CIFAR-10")
    parser.add_argument("--peers", type=Path, help="a folder with ONNX Runtime")
    parser.add_argument("--out", type=Path, default=RESULTS / "runtime.json")
    parser.add_argument("--quick", action="store_true", help="tries the script; measures nothing")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peers:
        sys.path.append(str(given.peers.resolve()))
    if given.quick:
        images = torch.rand((2, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    else:
        images = load("cifar10", given.data_dir).test.batch(torch.arange(8))[0]
    found = [compared(sparsity, images, given) for sparsity in given.sparsity]
    sweep = swept(quick=given.quick)
    if given.quick:
        print(json.dumps({"networks": found, "sweep": sweep[:2]}, indent=1))
        return
    write_json(given.out, record("runtime", "cpu", networks=found, sweep=sweep))
    for row in found:
        print(f"{row['sparsity']}: {row['times_faster']} times as fast as {row['best_peer']}")


if __name__ == "__main__":
    main()
