"""What works on this machine, and how to get what does not."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from rich.table import Table

from spikeproof import __version__
from spikeproof.cli._terminal import terminal
from spikeproof.data import inventory
from spikeproof.spiking import kernel_in_use

EXTRAS = {
    "PIL": ("folders of pictures", "images"),
    "lz4": ("AEDAT 4 recordings with LZ4", "events"),
    "zstandard": ("AEDAT 4 recordings with Zstandard", "events"),
    "tensorboard": ("curves of training", "tensorboard"),
    "nir": ("networks for other simulators", "exchange"),
    "onnx": ("networks for other runtimes", "exchange"),
    "onnxruntime": ("exported networks run again", "exchange"),
    "triton": ("neurons in one pass on a GPU", "kernels"),
}


def doctor(root: Path) -> None:
    """Prints one row for each thing that can be there or not."""
    table = Table("what", "found", "means")
    for row in (*_machine(), *_extras(), *_sets(root)):
        table.add_row(*row)
    terminal().print(table)


def _machine() -> Iterator[tuple[str, str, str]]:
    yield "spikeproof", __version__, f"Python {platform.python_version()}"
    build = torch.version.cuda or "CPU build"
    yield "torch", torch.__version__, f"{build}, {torch.get_num_threads()} threads"
    yield "cores", str(os.cpu_count()), f"{platform.system()} {platform.machine()}"
    if torch.cuda.is_available():
        yield "GPU", torch.cuda.get_device_name(), "training takes it (--device auto)"
        yield "neurons, GPU", kernel_in_use("cuda"), "float32 and 16 bits; float64: the reference"
    else:
        yield "GPU", "none", "everything runs on the CPU"
    yield "neurons, CPU", kernel_in_use(), "float32 and 16 bits; float64: the reference"
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield "disk", f"{free:.0f} GiB free", "run folders hold a few copies of the weights"


def _extras() -> Iterator[tuple[str, str, str]]:
    for module, (purpose, extra) in EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield module, "none", f"{purpose}: pip install 'spikeproof[{extra}]'"
        else:
            yield module, metadata.version({"PIL": "pillow"}.get(module, module)), purpose


def _sets(root: Path) -> Iterator[tuple[str, str, str]]:
    for row in inventory(root):
        where = str(row.where or "embedded") if row.present else "none"
        yield f"data: {row.name}", where, row.problem or row.note or "ready"
