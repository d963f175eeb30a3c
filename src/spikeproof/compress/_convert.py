"""From an analog network to a spiking one: weights are copied, ReLUs become neurons."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules import activation
from torch.nn.modules.batchnorm import _BatchNorm

from spikeproof.errors import Refusal, short
from spikeproof.spiking import LIF, Direct, Encode, Spiking, SpikingNetwork

RELUS = {functional.relu, torch.relu, torch.relu_, functional.relu_, "relu", "relu_"}
CURVES = {
    functional.elu,
    functional.gelu,
    functional.hardswish,
    functional.leaky_relu,
    functional.mish,
    functional.relu6,
    functional.silu,
    torch.sigmoid,
    torch.tanh,
    "sigmoid",
    "tanh",
}
NO_CURVES = (nn.ReLU, nn.Softmax, nn.LogSoftmax)


def convert(analog: nn.Module, network: nn.Module) -> None:
    """Copies the weights and the scales and shifts of norms from a twin with the same names.

    The running statistics of norms are dropped, for spikes have others: fine-tuning gathers them
    anew, or ``estimate_norms``. Removed weights stay removed. Thresholds come from ``calibrate``.
    """
    given, wanted = dict(analog.named_parameters()), dict(network.named_parameters())
    own = {
        f"{name}.learned.{key}"
        for name, layer in network.named_modules()
        if isinstance(layer, Spiking)
        for key in layer.learned
    }
    for name in [*(wanted.keys() - own - given.keys()), *(given.keys() - wanted.keys())]:
        where = "the spiking one" if name in given else "the analog one"
        raise Refusal(
            f"{short(name)} is missing in {where}; networks are converted to their twins, which "
            "have the same names; build both from one architecture"
        )
    for name in wanted.keys() - own:
        if given[name].shape != wanted[name].shape:
            raise Refusal(
                f"{name} has shape {tuple(given[name].shape)} in the analog network and "
                f"{tuple(wanted[name].shape)} in the spiking one; twins have equal shapes; build "
                "both from one architecture"
            )
    with torch.no_grad():
        for name in wanted.keys() - own:
            wanted[name].copy_(given[name])
    forget_statistics(network)


def spiking_twin(
    analog: nn.Module,
    neuron: LIF,
    steps: int,
    *,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> SpikingNetwork:
    """Returns a spiking network made of a user's own: a layer of neurons at every use of a ReLU.

    The model maps images to logits. Its graph is traced, so its forward pass may not branch on
    values. All paths go through the first ReLU, where time opens; a sum of one that did and one
    that did not is refused. The new network has weights of its own under the same names.
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(analog).eval())
    except (fx.proxy.TraceError, TypeError, NotImplementedError) as error:
        raise Refusal(
            f"the forward pass of {type(analog).__name__} cannot be traced ({error}); it must not "
            "branch on values; write it without such branches, or build the twin by hand"
        ) from None
    modules, graph = dict(traced.named_modules()), traced.graph
    uses: Counter[object] = Counter()
    timed: set[fx.Node] = set()
    fired = False
    for node in list(graph.nodes):
        _check_curve(node, modules)
        if _is_relu(node, modules):
            name = _name(node, uses, modules)
            current = node.args[0] if node.args else next(iter(node.kwargs.values()))
            opens = current not in timed
            if opens and fired:
                raise _two_times(node)
            traced.add_submodule(name, Spiking(neuron, steps, opens_time=opens))
            node.op, node.target, node.args, node.kwargs = "call_module", name, (current,), {}
            timed.add(node)
            fired = True
        elif any(parent in timed for parent in node.all_input_nodes):
            if any(p.op != "get_attr" and p not in timed for p in node.all_input_nodes):
                raise _two_times(node)
            timed.add(node)
    if not fired:
        raise Refusal(
            f"{type(analog).__name__} uses no ReLU; neurons come in their place; "
            "train a network that has some"
        )
    graph.lint()
    layers = fx.GraphModule(traced, graph)
    forget_statistics(layers)
    network = SpikingNetwork(Encode(Direct(), steps, mean, std), layers)
    return network.train(analog.training)


def forget_statistics(network: nn.Module) -> None:
    """Drops the running statistics of all norms."""
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.reset_running_stats()


def _is_relu(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.ReLU)
    return node.op in ("call_function", "call_method") and node.target in RELUS


def _check_curve(node: fx.Node, modules: Mapping[str, nn.Module]) -> None:
    if node.op == "call_module":
        module = modules[str(node.target)]
        bent = type(module).__name__ in activation.__all__ and not isinstance(module, NO_CURVES)
    else:
        bent = node.op in ("call_function", "call_method") and node.target in CURVES
    if bent:
        raise Refusal(
            f"{node.name} is a nonlinearity that is no ReLU; only the rate of a ReLU is one that "
            "neurons can have; train the network with ReLUs"
        )


def _name(node: fx.Node, uses: Counter[object], taken: Mapping[str, nn.Module]) -> str:
    """Returns the name of the module that stood there, with a number at its further uses."""
    base = str(node.target) if node.op == "call_module" else "neurons"
    while True:
        uses[base] += 1
        name = base if uses[base] == 1 else f"{base}_{uses[base]}"
        if name not in taken or (node.op == "call_module" and name == base):
            return name


def _two_times(node: fx.Node) -> Refusal:
    return Refusal(
        f"{node.name} joins a path that has passed a ReLU and one that has not; time opens once, "
        "at the first ReLU, and every path must have gone through it; put a ReLU before the paths "
        "part"
    )
