"""A trained network written as a file that needs no torch: packed, ONNX or NIR."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from torch import nn

from spikeproof.catalogue import read_spec
from spikeproof.cli._evaluate import load_model
from spikeproof.cli._terminal import terminal
from spikeproof.compress import lower
from spikeproof.errors import Refusal, nearest, short
from spikeproof.ir import Graph, Storage, pack, write_nir, write_onnx

WRITERS = {"onnx": write_onnx, "nir": write_nir}
FORMATS = ("packed", *WRITERS)
ENDINGS = {"spkp": "packed", "onnx": "onnx", "nir": "nir"}


def export(
    model: str, to: str, file: Path, *, shape: str, precision: str, console: Console | None = None
) -> Storage | None:
    """Writes the network of a run folder or a factory; tells where a packed one's bytes are."""
    console = console or terminal()
    to = _format(file, to)
    if to in WRITERS and precision != "fp32":
        raise Refusal(
            f"--precision is {short(precision)}; {to} is written in fp32; leave it out, or pack"
        )
    network = load_model(model).eval()
    graph = lower(network, image_shape(model, shape))
    if to in WRITERS:
        WRITERS[to](file, graph)
        console.print(
            f"{file}: {file.stat().st_size:,} bytes of {to}; {graph.kept:,} of {graph.size:,} "
            "weights are not zero, and all are written"
        )
        return None
    storage = pack(file, graph, precision)
    _report(console, file, graph, storage, network)
    return storage


def _format(file: Path, to: str) -> str:
    """Returns the format that is asked for, or that of the file's ending."""
    if to and to not in FORMATS:
        raise Refusal(f"--to is {short(to)}; {nearest(to, FORMATS)}")
    meant = ENDINGS.get(file.suffix.removeprefix("."))
    if (meant or to) != (to or meant) or not (to or meant):
        raise Refusal(
            f"{short(str(file))} does not end as a file of a network does; what runs it goes by "
            f"its ending; let it be one of {', '.join('.' + ending for ending in ENDINGS)}"
            + (f", for --to {to} its own" if to else "")
        )
    if file.is_dir() or (meant is None and file.exists()):
        raise Refusal(
            f"{file} is there and no exported network; nothing else is overwritten; name another "
            "file"
        )
    return to or meant or "packed"


def image_shape(model: str, shape: str) -> tuple[int, int, int]:
    """Returns (C, H, W): as given, or as the run folder's data had it."""
    if not shape and Path(model).is_dir():
        entrance = read_spec(Path(model)).input
        return entrance.channels, entrance.size, entrance.size
    sides = shape.split("x")
    if len(sides) != 3 or not all(side.isdecimal() and 0 < int(side) <= 65_536 for side in sides):
        raise Refusal(
            f"--shape is {short(shape)}; a factory's images have channels, height and width; "
            "write it like 3x32x32"
        )
    channels, high, wide = map(int, sides)
    return channels, high, wide


def _report(
    console: Console, file: Path, graph: Graph, storage: Storage, network: nn.Module
) -> None:
    before = sum(p.numel() for p in network.parameters())
    console.print(
        f"{file}: {storage.total:,} bytes, {storage.ratio:.1f} times smaller than {before:,} "
        "parameters in fp32"
    )
    console.print(
        f"values {storage.values:,}, places {storage.places:,}, biases and norms "
        f"{storage.arrays:,}, header {storage.header:,}; {graph.kept:,} weights kept"
    )
    if storage.error:
        console.print(
            f"rounding moved weights by up to {storage.error:.2%} of the largest of their layer"
        )
