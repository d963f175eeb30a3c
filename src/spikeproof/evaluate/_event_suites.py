"""The named suites for event frames: events added and removed, or moved in time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from spikeproof.attacks import (
    SDA,
    SEA,
    Attack,
    Coordinate,
    CornerEvents,
    DashEvents,
    Flips,
    FrameEvents,
    Gumbel,
    Margin,
    RandomSearch,
    Retiming,
    RetimingSearch,
    SpikeFool,
    Threat,
    TopK,
)
from spikeproof.evaluate._suite import Step
from spikeproof.spiking import ASSG, BPTR, CBA, PDSG, RGA, Rule

GRADIENTS: dict[str, Rule | CBA | None] = {"own": None, "pdsg": PDSG(), "assg": ASSG()}
MORE: dict[str, Rule | CBA | None] = {"rga": RGA(), "bptr": BPTR(), "cba-relu": CBA()}
FACTORS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)  # times the budget: 200 gives 50, 100, 200, 400, 800


def event_steps(name: str, threat: Threat) -> Iterable[Step]:
    """Yields the steps of a tier under a threat to events, from the cheap to the expensive."""
    yield Step("E1-random", Attack(RandomSearch(20)), everyone=True)
    if isinstance(threat, Retiming):
        yield from _retiming(name, threat)
    elif isinstance(threat, Flips):
        yield from _flips(name, threat)


def _flips(name: str, threat: Flips) -> Iterable[Step]:
    for search in (FrameEvents(), CornerEvents(), DashEvents()):
        yield Step(f"E7-{search.kind}", Attack(search, Margin()), everyone=True)
    for rule_name, rule in GRADIENTS.items():
        yield Step(f"E2-sea-{rule_name}", Attack(SEA(), rule=rule), everyone=True)
    yield Step("E5-topk-assg", Attack(TopK(100), rule=ASSG()))
    if name == "smoke":
        return
    for rule_name, rule in (GRADIENTS | MORE).items():
        if rule_name != "assg":
            yield Step(f"E5-topk-{rule_name}", Attack(TopK(100), rule=rule))
    yield Step("E4-spikefool-assg", Attack(SpikeFool(), Margin(), ASSG()))
    yield Step("E4-gumbel-assg", Attack(Gumbel(100), Margin(), ASSG()))
    yield from _fewest(name, threat)
    if name == "full":
        yield Step("E9-coordinate-10000", Attack(Coordinate(10_000), Margin()), limit=200)
    curves = {
        "E1-random": Attack(RandomSearch(20)),
        "E2-sea": Attack(SEA(), rule=ASSG()),
        "E5": Attack(TopK(100), rule=ASSG()),
    }
    for kind, attack in curves.items():
        for k in sorted({round(threat.k * factor) for factor in FACTORS}):
            yield Step(f"{kind}-k-{k}", attack, limit=256, threat=replace(threat, k=k))


def _fewest(name: str, threat: Flips) -> Iterable[Step]:
    for rule_name in ("pdsg", "assg"):
        yield Step(f"E3-sda-{rule_name}", Attack(SDA(500), Margin(), GRADIENTS[rule_name]))
    least = Attack(SDA(500), Margin(), ASSG())
    if name == "standard":  # few are left to tell how few flips are needed, so it asks everyone
        yield Step("E3-sda-least", least, limit=32, threat=replace(threat))
    else:
        # Few flips are its aim, so the sizes of one run tell what stands at every smaller cap.
        cap = replace(threat, k=round(threat.k * max(FACTORS)))
        yield Step(f"E3-sda-k-{cap.k}", least, limit=256, threat=cap)


def _retiming(name: str, threat: Retiming) -> Iterable[Step]:
    steps = 20 if threat.limits == "binf" else 40
    yield Step("E6-retiming-assg", Attack(RetimingSearch(steps), rule=ASSG()))
    if name == "smoke":
        return
    for rule_name, rule in (GRADIENTS | MORE).items():
        if rule_name != "assg":
            yield Step(f"E6-retiming-{rule_name}", Attack(RetimingSearch(steps), rule=rule))
    longer = Attack(RetimingSearch(4 * steps), Margin(), ASSG())
    yield Step(f"E6-retiming-{4 * steps}-margin", longer)
    if name == "full":
        yield Step("E6-retiming-5-restarts", replace(longer, restarts=5))
        yield Step("E9-random-10000", Attack(RandomSearch(10_000)), limit=200)
    if threat.limits == "binf":
        budgets = {1, 2, 3}
    else:
        budgets = {round(threat.budget * factor) for factor in FACTORS}
    for budget in sorted(budgets):
        attack = Attack(RetimingSearch(steps), rule=ASSG())
        step = Step(f"E6-budget-{budget}", attack, limit=256, threat=replace(threat, budget=budget))
        yield step
