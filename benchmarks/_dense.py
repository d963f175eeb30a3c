"""A graph in plain torch, for those that run it whole: dense, or with a sparse product."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.ir import Conv, Flatten, Graph, Linear, Neurons, Pool, Weights
from spikeproof.spiking import BPTT, integrate_and_fire

Product = Callable[[Tensor], Tensor]


class Dense(nn.Module):
    """The sequence of a graph with norms folded, in operations that every exporter knows."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph, self.steps = graph, graph.input.steps
        for place, node in enumerate(graph.nodes):
            if isinstance(node, Conv | Linear):
                dense = torch.from_numpy(node.weights.dense())
                if isinstance(node, Conv):
                    dense = dense.contiguous(memory_format=torch.channels_last)
                self.register_buffer(f"w{place}", dense)
                self.register_buffer(f"b{place}", torch.from_numpy(node.bias.copy()))

    def weighted(self, place: int, node: Conv | Linear, x: Tensor) -> Tensor:
        """Returns the currents of a layer."""
        weight, bias = getattr(self, f"w{place}"), getattr(self, f"b{place}")
        if isinstance(node, Linear):
            return functional.linear(x, weight, bias)
        return functional.conv2d(x, weight, bias, node.stride, node.padding)

    def fire(self, node: Neurons, x: Tensor) -> Tensor:
        """Returns spikes, (T, ...), one step after the other."""
        u, spikes = torch.zeros_like(x[:1]), []
        for t in range(self.steps):
            u = node.tau * u + x[t if len(x) > 1 else 0][None]
            s = (u - node.theta >= 0).to(x.dtype)
            u = u * (1 - s) if node.hard else u - node.theta * s
            spikes.append(s)
        return torch.cat(spikes)

    def forward(self, x: Tensor) -> Tensor:
        """Runs one image."""
        for place, node in enumerate(self.graph.nodes):
            match node:
                case Conv() | Linear():
                    x = self.weighted(place, node, x)
                case Neurons():
                    x = self.fire(node, x)
                case Pool():
                    x = functional.max_pool2d(x, node.size, node.stride)
                case Flatten():
                    x = x.flatten(1)
        return x.mean(0, keepdim=True)


class SparseProducts(Dense):
    """The same with sparse matrices: patches side by side, then one product for all steps."""

    def __init__(self, graph: Graph, make: Callable[[Weights], Product]) -> None:
        super().__init__(graph)
        self.products = {
            place: make(node.weights)
            for place, node in enumerate(graph.nodes)
            if isinstance(node, Conv | Linear)
        }

    def weighted(self, place: int, node: Conv | Linear, x: Tensor) -> Tensor:
        bias = getattr(self, f"b{place}")
        if isinstance(node, Linear):
            return self.products[place](x.T.contiguous()).T + bias
        kernel = node.weights.shape[2:]
        patches = functional.unfold(x, kernel, padding=node.padding, stride=node.stride)
        steps, _, positions = patches.shape
        columns = patches.transpose(0, 1).reshape(-1, steps * positions)
        out = self.products[place](columns).reshape(-1, steps, positions).transpose(0, 1)
        side = [
            (s + 2 * p - k) + 1 for s, p, k in zip(x.shape[2:], node.padding, kernel, strict=True)
        ]
        return out.reshape(steps, -1, *side) + bias[:, None, None]

    def fire(self, node: Neurons, x: Tensor) -> Tensor:
        current = x.expand(self.steps, *x.shape[1:])[:, None]
        how = {"hard": node.hard, "rule": BPTT()}
        return integrate_and_fire(current, None, node.theta, node.tau, **how)[0][:, 0]


def csr_of_torch(weights: Weights) -> Product:
    """Returns the product with torch's own sparse matrix."""
    matrix = torch.from_numpy(weights.dense().reshape(weights.shape[0], -1)).to_sparse_csr()
    return lambda columns: matrix @ columns


def csr_of_scipy(weights: Weights) -> Product:
    """Returns the product with scipy's sparse matrix."""
    matrix = scipy.sparse.csr_matrix(weights.dense().reshape(weights.shape[0], -1))
    return lambda columns: torch.from_numpy(np.asarray(matrix @ columns.numpy()))


def in_onnxruntime(model: Dense, image: Tensor, folder: Path, threads: int) -> Callable[[], Tensor]:
    """Returns a call of ONNX Runtime on the exported network."""
    import onnxruntime

    path, shown = folder / "net.onnx", sys.stdout
    sys.stdout = sys.stderr  # the exporter tells its progress
    try:
        torch.onnx.export(model, (image,), path, dynamo=True, input_names=["x"])
    finally:
        sys.stdout = shown
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {"x": image.numpy()}
    return lambda: torch.from_numpy(session.run(None, given)[0])
