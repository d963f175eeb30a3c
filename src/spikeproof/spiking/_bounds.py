"""Interval bounds of a spiking network: S-IBP (Liang et al., NeurIPS 2022), step by step.

From the interval of a membrane follow those of its spike and of what the reset leaves; layers in
between are affine, or rise with their input. What is not known is refused, for a bound that leaves
out a layer is none.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeproof.errors import Refusal
from spikeproof.shapes import Logits
from spikeproof.spiking._encoders import Averaged, Direct, Encode, Frames
from spikeproof.spiking._intervals import (
    FLOAT32,
    Changes,
    Interval,
    affine,
    changed_convolution,
    changed_dense,
    margin_of_sums,
)
from spikeproof.spiking._network import SpikingNetwork
from spikeproof.spiking._neurons import Spiking
from spikeproof.spiking._rules import BPTT
from spikeproof.spiking._surrogates import Surrogate, heaviside

RISING = (nn.Identity, nn.Flatten, nn.MaxPool2d, nn.ReLU)
MEANS = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Bounds:
    """Follows a set of inputs through the layers of a network.

    ``unit`` is the rounding error of the network's arithmetic, 0 where bounds are trained on. A
    module that is none of ours may say itself what it makes of an interval, by a method
    ``bounded(x, bounds)``, in which ``bounds(layer, x)`` follows a layer and ``bounds.sum(a, b)``
    adds.
    """

    def __init__(self, unit: float = 0.0) -> None:
        self.unit = unit

    def __call__(self, layer: Any, x: Interval | Changes) -> Interval | Changes:
        """Returns the set that a layer makes of a set."""
        hooked = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
        if self.unit and hooked:
            raise Refusal(
                f"a hook or a forward of its own may change what {type(layer).__name__} does; "
                "bounds follow what its kind does; remove it"
            )
        if type(layer) is nn.Sequential:
            for part in layer:
                x = self(part, x)
            return x
        if isinstance(layer, nn.Flatten) and isinstance(x, Changes):
            return x.map(layer)
        if isinstance(x, Changes) and is_plain(layer, nn.Linear):
            return changed_dense(x, layer, self.unit)
        if isinstance(x, Changes) and _convolves(layer) and layer.groups == 1:
            return changed_convolution(x, layer, self.unit)
        return self._interval(layer, x.interval if isinstance(x, Changes) else x)

    def sum(self, a: Interval | Changes, b: Interval | Changes) -> Interval:
        """Returns the interval of the sums of one tensor of each."""
        a, b = (x.interval if isinstance(x, Changes) else x for x in (a, b))
        clean = None if a.clean is None or b.clean is None else a.clean + b.clean
        out = Interval(a.lower + b.lower, a.upper + b.upper, clean)
        return self._off(out, 2, a.largest + b.largest)

    def _interval(self, layer: Any, x: Interval) -> Interval:
        if callable(said := getattr(layer, "bounded", None)):
            return said(x, self)
        if type(layer) is Spiking:
            return self._neurons(layer, x)
        if is_plain(layer, nn.Linear):
            return affine(x, functional.linear, layer.weight, layer.bias, self.unit)
        if _convolves(layer):
            knobs = (layer.stride, layer.padding, layer.dilation, layer.groups)

            def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
                return functional.conv2d(x, weight, bias, *knobs)

            return affine(x, convolve, layer.weight, layer.bias, self.unit)
        if any(is_plain(layer, kind) for kind in NORMS):
            return self._norm(layer, x)
        if any(is_plain(layer, kind) for kind in MEANS):
            terms = x.lower.shape[-2] * x.lower.shape[-1] + 1
            if isinstance(layer, nn.AvgPool2d):
                sides = layer.kernel_size
                terms = sides**2 if isinstance(sides, int) else sides[0] * sides[1]
            return self._off(x.map(layer), terms, layer(x.largest))
        if any(is_plain(layer, kind) for kind in RISING):
            return x.map(layer)
        raise Refusal(
            f"{type(layer).__name__} is no layer whose bounds are known; neurons, dense layers, "
            "convolutions, norms, pooling and residual blocks are; give it a method "
            "bounded(x, bounds), or certify by smoothing"
        )

    def _norm(self, layer: Any, x: Interval) -> Interval:
        mean, var = layer.running_mean, layer.running_var
        clean = None
        if x.clean is not None:
            clean = layer(x.clean)
            if layer.training:  # with the statistics that the clean batch was normalised by
                axes = [axis for axis in range(x.clean.dim()) if axis != 1]
                mean, var = x.clean.mean(axes), x.clean.var(axes, unbiased=False)
        if mean is None or var is None:
            raise Refusal(
                f"{type(layer).__name__} has no running statistics; its answer to one sample "
                "depends on others; certify a network that keeps them"
            )
        shape = [-1 if axis == 1 else 1 for axis in range(x.lower.dim())]
        ones = torch.ones_like(mean)
        scale = (ones if layer.weight is None else layer.weight) / (var + layer.eps).sqrt()
        shift = 0 * ones if layer.bias is None else layer.bias
        scale, shift, mean = (value.reshape(shape) for value in (scale, shift, mean))
        ends = [(end - mean) * scale + shift for end in (x.lower, x.upper)]
        out = Interval(torch.minimum(*ends), torch.maximum(*ends), clean)
        size = scale.abs() * (x.largest + mean.abs()) + shift.abs()
        return self._off(out, 8, size)

    def _neurons(self, layer: Spiking, x: Interval) -> Interval:
        clean = None if x.clean is None else layer(x.clean)
        theta, tau = (self._number(value) for value in (layer.theta, layer.tau))
        curve = layer.rule.surrogate if isinstance(layer.rule, BPTT) else None
        if curve is None and torch.is_grad_enabled() and not self.unit:
            raise Refusal(
                f"the gradient rule is {layer.rule}; bounds of spikes are trained through a "
                "surrogate; take network.neuron.rule.kind = 'bptt'"
            )
        detach = layer.rule.detach_reset
        after = Interval(*[torch.zeros_like(layer.unfolded(x.lower)[0])] * 2)
        lows, highs = [], []
        for lower, upper in zip(layer.unfolded(x.lower), layer.unfolded(x.upper), strict=True):
            u = Interval(tau * after.lower + lower, tau * after.upper + upper)
            u = self._off(u, 2, tau * after.largest + Interval(lower, upper).largest)
            low, high = (_fire(end - theta, curve, layer.smooth) for end in (u.lower, u.upper))
            lows.append(low)
            highs.append(high)
            fired = (low.detach(), high.detach()) if detach else (low, high)
            after = reset(u, *fired, theta, hard=layer.neuron.reset == "hard", smooth=layer.smooth)
            after = self._off(after, 2, after.largest)
        return Interval(torch.cat(lows), torch.cat(highs), clean)

    def _number(self, value: Tensor | float) -> Tensor | float:
        if isinstance(value, Tensor):
            return value.double() if self.unit else value
        return torch.tensor(value, dtype=torch.float32).item() if self.unit else value

    def _off(self, x: Interval, terms: int, size: Tensor) -> Interval:
        return x.widened(size * margin_of_sums(terms, self.unit)) if self.unit else x


def reset(
    u: Interval, low: Tensor, high: Tensor, theta: Any, *, hard: bool, smooth: bool
) -> Interval:
    """Returns what a reset leaves of membranes that spike surely (``low``) or perhaps (``high``).

    Where both may happen, the silent membrane lies below theta and the other at 0 (hard) or above
    it (soft): the bounds are those of both branches.
    """
    if smooth:  # spikes between 0 and 1: products of intervals
        if not hard:
            return Interval(u.lower - theta * high, u.upper - theta * low)
        lows, highs = [(end * (1 - high), end * (1 - low)) for end in (u.lower, u.upper)]
        return Interval(torch.minimum(*lows), torch.maximum(*highs))
    perhaps = high - low
    below = torch.minimum(u.lower, torch.zeros_like(u.lower))
    if hard:
        upper = (1 - high) * u.upper + perhaps * theta
        return Interval((1 - high) * u.lower + perhaps * below, upper)
    above = torch.maximum(u.upper - theta, torch.zeros_like(u.upper) + theta)
    sure = 1 - perhaps
    return Interval(
        sure * (u.lower - theta * low) + perhaps * below,
        sure * (u.upper - theta * high) + perhaps * above,
    )


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, curve: Surrogate, smooth: bool) -> Tensor:  # noqa: FBT001
        ctx.save_for_backward(u)
        ctx.curve = curve
        return curve.primitive(u) if smooth else heaviside(u)

    @staticmethod
    def backward(ctx: Any, d_s: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return d_s * ctx.curve.slope(u), None, None


def _fire(u: Tensor, curve: Surrogate | None, smooth: bool) -> Tensor:  # noqa: FBT001
    return heaviside(u) if curve is None else _Fire.apply(u, curve, smooth)


def is_plain(layer: Any, kind: type[nn.Module]) -> bool:
    """Whether a layer computes what torch's own of this kind does."""
    own = type(layer).__module__.startswith("spikeproof.")
    return isinstance(layer, kind) and (own or type(layer).forward is kind.forward)


def _convolves(layer: Any) -> bool:
    if not is_plain(layer, nn.Conv2d):
        return False
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise Refusal(
            f"Conv2d pads by {layer.padding_mode} {layer.padding!r}; bounds are known for so many "
            "zeros on each side; give padding as numbers"
        )
    return True


def entered(encode: Encode, x: Interval | Changes, unit: float) -> Interval | Changes:
    """Returns what an entrance makes of a set of inputs, time folded into the batch."""
    if not isinstance(encode.encoder, Direct | Frames | Averaged):
        raise Refusal(
            f"the encoder is {encode.encoder}; bounds are known of images and frames that enter "
            "as they are; certify by smoothing or rate_coding"
        )
    mean, std, frames = encode.mean, encode.std, isinstance(encode.encoder, Frames)

    def fold(value: Tensor) -> Tensor:
        return value.transpose(0, 1).flatten(0, 1) if frames else value

    def normal(value: Tensor) -> Tensor:
        return fold((value - mean) / std)

    if isinstance(encode.encoder, Averaged):
        frames_in = x.interval if isinstance(x, Changes) else x
        x = frames_in.map(lambda value: value.mean(1))
        error = (frames_in.largest.mean(1) + mean.abs()) / std
        terms = 3 + frames_in.lower.shape[1]
        return x.map(normal).widened(error * margin_of_sums(terms, unit) if unit else 0.0)
    if isinstance(x, Changes):
        error = _normal_error(x.largest, mean, std, unit)
        budget = x.budget / float(std.min()) if x.norm == "l1" else x.budget
        return replace(x.map(normal), error=fold(error + x.error / std), budget=budget)
    return x.map(normal).widened(fold(_normal_error(x.largest, mean, std, unit)))


def _normal_error(largest: Tensor, mean: Tensor, std: Tensor, unit: float) -> Tensor:
    """Returns by how much rounding may move what is normalised."""
    return (largest + mean.abs()) / std * (margin_of_sums(3, unit) if unit else 0.0)


def margins(
    network: SpikingNetwork, x: Interval | Changes, y: Tensor, unit: float = 0.0
) -> tuple[Tensor, Logits | None]:
    """Returns (B, K) lower bounds of the label's logit less each, and the clean logits.

    Its own entry is 0. A last dense layer is bounded together with the difference, which is tighter
    than the difference of two bounds.
    """
    bounds, count = Bounds(unit), len(y)
    whole = network.layers
    layers: list[Any] = [*whole] if isinstance(whole, nn.Sequential) else [whole]
    last: Any = layers.pop() if is_plain(layers[-1], nn.Linear) else None
    out: Interval | Changes = entered(network.encode, x, unit)
    for layer in layers:
        out = bounds(layer, out)
    end = out.interval if isinstance(out, Changes) else out
    steps = len(end.lower) // count

    def mean(value: Tensor) -> Tensor:
        return value.unflatten(0, (steps, count)).mean(0)

    low, high, size = mean(end.lower), mean(end.upper), mean(end.largest)
    own = functional.one_hot(y, last.out_features if last is not None else low.shape[1]) > 0
    if last is None:
        lower = low[own][:, None] - high
        error = size + size[own][:, None]
        clean = None if end.clean is None else mean(end.clean)
    else:
        weight, bias = last.weight, last.bias
        shift = torch.zeros_like(weight[:, 0]) if bias is None else bias
        apart = weight[y][:, None] - weight
        middle, radius = (low + high) / 2, (high - low) / 2
        lower = torch.einsum("bkh,bh->bk", apart, middle)
        lower = lower - torch.einsum("bkh,bh->bk", apart.abs(), radius)
        lower = lower + shift[y][:, None] - shift
        error = size @ weight.abs().T + shift.abs()
        error = error + error[own][:, None]
        clean = None if end.clean is None else mean(functional.linear(end.clean, weight, bias))
    if unit:
        terms = (1 if last is None else last.in_features) + steps
        lower = lower - error * margin_of_sums(terms, unit)
    return lower.masked_fill(own, 0.0), clean


def certified_margins(network: nn.Module, x: Interval | Changes, y: Tensor) -> Tensor:
    """Returns (B, K) lower bounds of the margins of the network as it computes in float32."""
    with torch.no_grad():
        return margins(in_doubles(network), x, y, FLOAT32)[0]


def in_doubles(network: nn.Module) -> SpikingNetwork:
    """Returns a copy in float64 and eval mode, of which bounds are computed."""
    if not isinstance(network, SpikingNetwork):
        raise Refusal(
            f"{type(network).__name__} is no SpikingNetwork; bounds follow layers and neurons that "
            "are known; certify by smoothing"
        )
    return copy.deepcopy(network).double().eval().requires_grad_(requires_grad=False)
