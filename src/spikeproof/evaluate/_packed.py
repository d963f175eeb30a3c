"""A packed network as the model under attack: it answers, and no gradient goes through it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.ir import unpack
from spikeproof.runtime import Engine


class Packed(nn.Module):
    """The answers of a file, by the engine that is deployed.

    Steps that need a gradient are not run and say so; searches that only ask, and gradients of
    other networks (``transfer``), meet the file itself.
    """

    file: Tensor  # its digest, so that records tell files apart

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__()
        self.engine = Engine(unpack(path), threads=threads)
        self.register_buffer("file", torch.tensor([*sha256(path.read_bytes()).digest()]).byte())

    @override
    def forward(self, x: Tensor) -> Tensor:
        logits = torch.from_numpy(self.engine(x.detach().cpu().numpy()))
        return logits.to(x.device)

    @override
    def extra_repr(self) -> str:
        return f"{len(self.engine.graph.nodes)} nodes, {self.engine.graph.kept} weights"
