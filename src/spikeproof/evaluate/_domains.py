"""Paper C's attack on the encoded spikes, beside one on the input that a sensor delivers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from spikeproof.attacks import PGD, Attack, Linf, correct, frozen, run, stochastic
from spikeproof.errors import Refusal
from spikeproof.evaluate._judge import judge
from spikeproof.seeding import derive
from spikeproof.spiking import Phase, Poisson, Spiking, SpikingNetwork, over_time

PAPER = Attack(PGD(7, 0.01))  # paper C's iterations and step
OTHER_BATCH = 7


@dataclass(frozen=True)
class Domains:
    """One budget in two places; tuples have one entry per sample.

    ``sensor`` and ``spikes`` are what falls to the attack on either. ``legal`` is what still falls
    when the attacked spikes go back to the nearest ones that the encoder emits, or attacked copies
    of an image to their mean. ``flipped`` is the share of encoded entries that differ where a
    fallen sample's attacked image is encoded.
    """

    encoder: str
    eps: float
    entries: tuple[int, int]  # of an input, and of what is made of it
    clean: tuple[bool, ...]
    sensor: tuple[bool, ...]
    spikes: tuple[bool, ...]
    legal: tuple[bool, ...]
    flipped: tuple[float, ...]


def domains(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    *,
    attack: Attack | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
) -> Domains:
    """Returns what falls to one attack on images and on the spikes that they are encoded to.

    Spikes are moved by ``eps`` at every step by itself and cut to 0..1, as paper C does. Under a
    static encoder these are copies of the image, one for each step. Gradients are taken in eval
    mode, in which the network answers.
    """
    if not isinstance(model, SpikingNetwork):
        raise Refusal(
            f"{type(model).__name__} has no encoder that is known; spikes are attacked behind one; "
            "build the network as a SpikingNetwork"
        )
    if model.encode.encoder.events:
        raise Refusal(
            "event frames are attacked as the sensor delivers them; there is no other place before "
            "the network; take a threat to frames, such as flips:200"
        )
    attack = attack or PAPER
    ids = torch.arange(len(x)) if ids is None else ids
    threat = Linf(eps)
    if not bool(threat.admits(x, x).all()):
        raise Refusal(
            f"the samples span {float(x.min()):g}..{float(x.max()):g}; encoders read images in "
            "0..1; scale them"
        )
    with frozen(model):
        view = _settled(model, derive(seed, "domains"))
        code = _encoded(view, x)
        inner = Behind(view)
        clean = correct(_answers(inner, code), y)
        named = (("sensor", model, x), ("spikes", inner, code))
        ends = {}
        for name, network, at in named:
            outcome = run(attack, network, at, y, threat, ids=ids, seed=derive(seed, name))
            verdict = judge(network, outcome.x_adv, at, y, threat, batch=OTHER_BATCH)
            ends[name] = outcome.x_adv, outcome.fallen & verdict.broken & clean
        legal = ~correct(_answers(inner, _nearest(view, ends["spikes"][0], code)), y)
        again = _encoded(view, ends["sensor"][0])
        flipped = (again != code).flatten(1).double().mean(1)
    return Domains(
        encoder=str(model.encode.encoder),
        eps=eps,
        entries=(x[0].numel(), code[0].numel()),
        clean=_bits(clean),
        sensor=_bits(ends["sensor"][1]),
        spikes=_bits(ends["spikes"][1]),
        legal=_bits(ends["spikes"][1] & legal),
        flipped=tuple(flipped.tolist()),
    )


def joined(parts: Sequence[Domains]) -> Domains:
    """Returns one of parts of the samples."""
    columns: dict[str, Any] = {
        entry.name: tuple(value for part in parts for value in getattr(part, entry.name))
        for entry in fields(Domains)
        if entry.name not in ("encoder", "eps", "entries")
    }
    return replace(parts[0], **columns)


class Behind(nn.Module):
    """A network behind its encoder: encoded inputs (B, T, C, H, W) to logits."""

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        view = _copy(network)
        for layer in (m for m in view.modules() if isinstance(m, Spiking)):
            layer.opens_time = False  # every step brings a current of its own
        self.network = view

    @override
    def forward(self, x: Tensor) -> Tensor:
        network, encode = self.network, self.network.encode
        code = x.transpose(0, 1)
        if encode.encoder.analog:
            code = (code - encode.mean) / encode.std
        return network.layers(code.flatten(0, 1)).unflatten(0, (encode.T, -1)).mean(0)


def _settled(model: SpikingNetwork, seed: int) -> SpikingNetwork:
    """Returns a view whose noise, if there is any, is one field for all calls and samples."""
    view = _copy(model)
    if stochastic(model):
        view.encode.encoder, view.encode.generator = Poisson(seed), None
    return view


def _copy(model: SpikingNetwork) -> SpikingNetwork:
    return cast("SpikingNetwork", over_time(model, model.encode.T))


def _encoded(model: SpikingNetwork, x: Tensor) -> Tensor:
    """Returns what the network makes of images, sample first and before normalisation."""
    entrance = model.encode
    with torch.no_grad():
        spikes = entrance.encoder.spikes(x, entrance.T, entrance.generator)
    return spikes.transpose(0, 1).contiguous()


def _nearest(model: SpikingNetwork, moved: Tensor, code: Tensor) -> Tensor:
    """Returns the nearest code: 0 or a spike's weight everywhere, or one image for all steps."""
    encoder = model.encode.encoder
    if encoder.static:
        return moved.mean(1, keepdim=True).expand_as(moved).contiguous()
    weights = torch.ones_like(code[:1])
    if isinstance(encoder, Phase):
        weights = weights * encoder.jacobian(code[:, 0], code.shape[1]).transpose(0, 1)
    return torch.where(moved > weights / 2, weights, 0.0)


def _answers(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)


def _bits(values: Tensor) -> tuple[bool, ...]:
    return tuple(bool(value) for value in values.tolist())
