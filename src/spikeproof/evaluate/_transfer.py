"""Transfer: attacks that follow the gradient of another trained network, judged on the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from spikeproof.attacks import (
    APGD,
    Attack,
    Flips,
    Margin,
    Retiming,
    RetimingSearch,
    SparseSearch,
    Threat,
    TopK,
    fingerprint,
    frozen,
)
from spikeproof.errors import Refusal
from spikeproof.evaluate._intake import check_answers, told
from spikeproof.evaluate._suite import Step, Suite, before_audits, ratio
from spikeproof.spiking import ASSG, Spiking


@dataclass(frozen=True, eq=False)
class Transfer:
    """Another network as the source of gradients, and what a record says of it."""

    name: str
    weights: str
    network: nn.Module = field(repr=False)

    def __call__(self, model: nn.Module) -> nn.Module:  # noqa: ARG002  as every source is called
        """Returns the other network, whatever the model."""
        return self.network


def with_transfer(
    suite: Suite,
    threat: Threat,
    sources: Mapping[str, nn.Module],
    classes: int,
    *,
    draws: int = 1,
) -> Suite:
    """Returns the suite with steps S10-transfer-NAME, before those of the first samples alone.

    Each source lends its own gradient, and where it has neurons of ours, that of ASSG too.
    """
    if not all(name.strip() for name in sources):
        raise Refusal("a transfer source has no name; its steps are called after it; give it one")
    attack = replace(_attack(threat, classes), draws=draws)
    more = [step for name, network in sources.items() for step in _steps(name, network, attack)]
    return Suite(suite.name, before_audits(suite.steps, more))


@contextmanager
def beside(
    role: str, network: nn.Module, probe: Tensor, labels: tuple[int, ...], classes: int
) -> Iterator[None]:
    """Holds a network beside the model, in eval mode with frozen weights, as what it was.

    One that does not answer these samples, or answers with other classes, is refused.
    """
    before = fingerprint(network)
    with frozen(network):
        _check(role, network, probe, labels, classes)
        yield
    if fingerprint(network) != before:
        raise changed(role)


def changed(role: str) -> Refusal:
    """Returns the refusal of a network that did not stay what it was."""
    return Refusal(
        f"{role} is not what it was: an attack or an answer changed a weight or a buffer; all "
        "steps must meet one and the same network; find what changes it, and evaluate anew"
    )


def _check(
    role: str, network: nn.Module, probe: Tensor, labels: tuple[int, ...], classes: int
) -> None:
    try:
        found = check_answers(network, probe, labels)
    except Refusal as refusal:
        raise Refusal(f"{role}: {refusal}") from None
    except Exception as error:  # noqa: BLE001  a network of anybody's may raise anything
        raise Refusal(
            f"{role} cannot read samples of shape {tuple(probe.shape[1:])} ({told(error)}); it "
            "must take the inputs of the model, on its device; name a network of the same data"
        ) from None
    if found != classes:
        raise Refusal(
            f"{role} has {found} classes and the model has {classes}; both must answer alike; "
            "name a network of the same data"
        )


def _steps(name: str, network: nn.Module, attack: Attack) -> Iterable[Step]:
    source = Transfer(name, fingerprint(network), network)
    yield Step(f"S10-transfer-{name}", attack, source=source)
    if any(isinstance(module, Spiking) for module in network.modules()):
        yield Step(f"S10-transfer-{name}-assg", replace(attack, rule=ASSG()), source=source)


def _attack(threat: Threat, classes: int) -> Attack:
    match threat:
        case Flips():
            return Attack(TopK(100))
        case Retiming():
            return Attack(RetimingSearch(40))
    if isinstance(threat, APGD.fits):
        return Attack(APGD(100), ratio(classes))
    if isinstance(threat, SparseSearch.fits):
        return Attack(SparseSearch(100), Margin())
    raise Refusal(
        f"no transfer attack is made for the threat {threat}; a source needs a search that follows "
        "gradients; write a step of your own with this source"
    )
