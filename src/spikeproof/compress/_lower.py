"""A trained network as data: norms folded, masks applied, what is dead left out.

The network runs once, on zeros, and its layers and sums are noted as they happen, so that residual
connections and learned merges are found wherever they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from spikeproof import seeding
from spikeproof.errors import Refusal, short
from spikeproof.ir import (
    Add,
    Affine,
    Code,
    Conv,
    Flatten,
    Graph,
    Input,
    Linear,
    Neurons,
    Node,
    Pool,
    Weights,
    without_dead,
)
from spikeproof.spiking import Encode, Phase, Poisson, Spiking, SpikingNetwork

SUMS = ("add", "radd", "iadd", "add_")
PRODUCTS = ("mul", "rmul", "imul", "mul_")
RESHAPES = ("flatten", "reshape", "view")
LAYERS = (
    nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d,
    nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d, Spiking,
)  # fmt: skip

MODAL = (nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d)  # two ways of running


def lower(model: nn.Module, shape: tuple[int, ...], *, keep_dead: bool = False) -> Graph:
    """Returns the graph of a network in eval mode; ``shape`` is that of an image, (C, H, W).

    Neurons that can never fire on images in [0, 1] and weights that reach no logit are left out,
    which changes no answer; ``keep_dead`` keeps them.
    """
    if not isinstance(model, SpikingNetwork):
        raise Refusal(
            f"the model is a {type(model).__name__}; a packed network has spikeproof's neurons; "
            "build it with spikeproof.models or as a SpikingNetwork"
        )
    if any(module.training for module in model.modules() if isinstance(module, MODAL)):
        raise Refusal("the model is in train mode; a packed one is fixed; call model.eval() first")
    lowering = _Lowering([entrance(model.encode, shape)])
    nodes = lowering.run(model, shape)
    graph = Graph(tuple(nodes), sum(p.numel() for p in model.parameters()))
    return graph if keep_dead else without_dead(graph)


def entrance(encode: Encode, shape: tuple[int, ...]) -> Input:
    """Returns the input node: normalisation and code, with the noise that a Poisson code draws."""
    encoder, noise = encode.encoder, None
    if isinstance(encoder, Poisson):
        drawn = seeding.generator(encoder.seed, "poisson")
        noise = torch.rand((encode.T, *shape), generator=drawn).numpy()
    phase = encoder if isinstance(encoder, Phase) else Phase()
    analog = encoder.analog
    return Input(
        tuple(shape),
        encode.T,
        cast("Code", encoder.kind),  # type: ignore[attr-defined]  # every encoder has its kind
        tuple(encode.mean.flatten().tolist()) if analog else (0.0,),
        tuple(encode.std.flatten().tolist()) if analog else (1.0,),
        phase.bits,
        phase.weighted,
        noise,
    )


@dataclass(frozen=True)
class _Term:
    """A map in a weighted sum."""

    node: int
    scale: float = 1.0


class _Calls(TorchFunctionMode):
    """Tells of every function that is called outside of a layer."""

    def __init__(self, lowering: _Lowering) -> None:
        super().__init__()
        self.lowering = lowering

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.lowering.depth == 0 and isinstance(out, Tensor):
            self.lowering.call(func, args, kwargs or {}, out)
        return out


@dataclass
class _Lowering:
    """The nodes made so far, and what every tensor of the run has become."""

    nodes: list[Node]
    depth: int = 0  # how many layers deep the run is
    terms: dict[int, _Term] = field(default_factory=dict)
    alive: list[Tensor] = field(default_factory=list)  # an address is used once
    norms: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def run(self, model: SpikingNetwork, shape: tuple[int, ...]) -> list[Node]:
        """Runs the network's layers and returns its nodes."""
        encode, device = model.encode, next(model.parameters()).device
        frames = (encode.T,) if encode.encoder.events else ()
        with torch.no_grad(), ExitStack() as stack:
            x = encode(torch.zeros((1, *frames, *shape), device=device))
            for name, module in model.layers.named_modules():
                if isinstance(module, LAYERS):
                    stack.callback(module.register_forward_pre_hook(self._enter).remove)
                    stack.callback(module.register_forward_hook(self._leave(name)).remove)
            self._note(x, _Term(0))
            stack.enter_context(_Calls(self))
            out = model.layers(x)
        last = self._map(out)
        nodes = _folded(self.nodes, self.norms)
        if last != len(self.nodes) - 1:
            raise Refusal(
                "the network's answer is not its last layer's; a packed one ends there; "
                "leave out what is not used"
            )
        return nodes

    def call(
        self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Tensor
    ) -> None:
        """Takes note of a function of maps; what is computed of constants is a constant."""
        given = [self.terms.get(id(a)) if isinstance(a, Tensor) else None for a in args]
        terms = [term for term in given if term is not None]
        name = str(getattr(func, "__name__", func)).strip("_")
        plain = len(args) == 2 and not kwargs
        if not terms:
            return
        if name in SUMS and plain and len(terms) == 2:
            left, right = terms
            self._note(out, self._add(Add(left.node, right.node, (left.scale, right.scale))))
        elif name in PRODUCTS and plain and len(terms) == 1 and _numel(args, given) == 1:
            (factor,) = (a for a, term in zip(args, given, strict=True) if term is None)
            self._note(out, _Term(terms[0].node, terms[0].scale * float(factor)))
        elif name in RESHAPES and out.shape == args[0].flatten(1).shape:
            self._note(out, self._flat(self._map(args[0]), args[0]))
        else:
            raise Refusal(
                f"the network calls {short(name)} on its maps; a packed one knows sums of maps and "
                "products with numbers; use layers for the rest"
            )

    def _enter(self, _module: nn.Module, _inputs: Any) -> None:
        self.depth += 1

    def _leave(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            self.depth -= 1
            if self.depth == 0:
                term = self._module(name, module, inputs[0])
                self._note(out, term)

        return hook

    def _note(self, value: Tensor, term: _Term) -> None:
        self.alive.append(value)
        self.terms[id(value)] = term

    def _map(self, value: Tensor) -> int:
        term = self.terms.get(id(value))
        if term is None:
            raise Refusal(
                "a layer reads what no layer gave; a packed network is made of layers, sums and "
                "products with numbers; rewrite its forward pass"
            )
        if term.scale == 1.0:
            return term.node
        channels = value.shape[1]
        scale = np.full(channels, term.scale, np.float32)
        return self._add(Affine(term.node, scale, np.zeros(channels, np.float32))).node

    def _add(self, node: Node) -> _Term:
        self.nodes.append(node)
        return _Term(len(self.nodes) - 1)

    def _module(self, name: str, module: nn.Module, x: Tensor) -> _Term:
        source = self._map(x)
        match module:
            case nn.Conv2d():
                return self._add(_conv(module, source))
            case nn.Linear():
                return self._add(Linear(source, *_weights(module, module.weight)))
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                return self._norm(name, module, source)
            case Spiking():
                hard = module.neuron.reset == "hard"
                theta, tau = (float(v) for v in (module.theta, module.tau))
                return self._add(Neurons(source, theta, tau, hard))
            case nn.MaxPool2d() | nn.AvgPool2d():
                return self._add(_pool(module, source))
            case nn.AdaptiveAvgPool2d() if module.output_size in (1, (1, 1)):
                side = (x.shape[2], x.shape[3])
                return self._add(Pool(source, "avg", side, (1, 1)))
            case nn.Flatten() if (module.start_dim, module.end_dim) == (1, -1):
                return self._flat(source, x)
            case nn.Identity() | nn.Dropout() | nn.Dropout2d():
                return _Term(source)
        raise Refusal(
            f"{name} is {short(module)}; a packed network pools to one place and flattens all but "
            "the batch; replace it"
        )

    def _flat(self, source: int, x: Tensor) -> _Term:
        return _Term(source) if x.dim() == 2 else self._add(Flatten(source))

    def _norm(self, name: str, norm: nn.BatchNorm1d | nn.BatchNorm2d, source: int) -> _Term:
        if norm.running_mean is None or norm.running_var is None:
            raise Refusal(
                f"{name} keeps no statistics; a packed norm is fixed; train it with "
                "track_running_stats"
            )
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        shift = -norm.running_mean.double() * scale
        if norm.bias is not None:
            shift = shift + norm.bias.double()
        gain, offset = (v.cpu().numpy() for v in (scale, shift))
        self.norms[len(self.nodes)] = gain, offset
        return self._add(Affine(source, gain.astype(np.float32), offset.astype(np.float32)))


def _numel(args: tuple[Any, ...], given: list[_Term | None]) -> int:
    (factor,) = (a for a, term in zip(args, given, strict=True) if term is None)
    return factor.numel() if isinstance(factor, Tensor) else 1


def _folded(nodes: list[Node], norms: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> list[Node]:
    """Folds every norm into the convolution that it alone reads, rounding once."""
    uses = np.bincount([s for node in nodes for s in node.sources], minlength=len(nodes))
    made: list[Node] = []
    place_of: list[int] = []
    for place, node in enumerate(nodes):
        before = nodes[node.sources[0]] if node.sources else None
        if place in norms and isinstance(before, Conv | Linear) and uses[node.sources[0]] == 1:
            target = place_of[node.sources[0]]
            gain, offset = norms[place]
            row = before.weights.positions // np.uint32(before.weights.size // len(gain))
            values = (before.weights.values * gain[row]).astype(np.float32)
            there = values != 0
            weights = Weights(before.weights.shape, before.weights.positions[there], values[there])
            bias = (before.bias * gain + offset).astype(np.float32)
            folded = replace(before, source=place_of[before.source], weights=weights, bias=bias)
            made[target] = folded
            place_of.append(target)
            continue
        place_of.append(len(made))
        made.append(_moved(node, place_of))
    return made


def _moved(node: Node, place_of: list[int]) -> Node:
    match node:
        case Input():
            return node
        case Add():
            return replace(node, left=place_of[node.left], right=place_of[node.right])
    return replace(node, source=place_of[node.source])


def _weights(module: nn.Conv2d | nn.Linear, weight: Tensor) -> tuple[Weights, np.ndarray]:
    bias = np.zeros(len(weight), np.float32)
    if module.bias is not None:
        bias = module.bias.detach().cpu().float().numpy().copy()
    return Weights.of(weight.detach().cpu().float().numpy()), bias


def _conv(module: nn.Conv2d, source: int) -> Conv:
    plain = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    if not plain or isinstance(module.padding, str):
        raise Refusal(
            f"{short(module)} has groups, dilation or another padding than a number of zeros; "
            "a packed convolution has none of them; replace it"
        )
    weights, bias = _weights(module, module.weight)
    return Conv(source, weights, bias, _pair(module.stride), _pair(module.padding))


def _pool(module: nn.MaxPool2d | nn.AvgPool2d, source: int) -> Pool:
    how = "max" if isinstance(module, nn.MaxPool2d) else "avg"
    usual = not module.ceil_mode and getattr(module, "dilation", 1) in (1, (1, 1))
    counted = getattr(module, "count_include_pad", True) or module.padding in (0, (0, 0))
    if not usual or not counted or getattr(module, "divisor_override", None):
        raise Refusal(
            f"{short(module)} rounds up, dilates or divides by another number than its window; "
            "a packed pool does not; replace it"
        )
    size, stride, padding = (_pair(v) for v in (module.kernel_size, module.stride, module.padding))
    return Pool(source, "max" if how == "max" else "avg", size, stride, padding)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
