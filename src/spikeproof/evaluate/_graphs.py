"""Other networks that an evaluation attacks: those whose gradient it follows, and a control."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from spikeproof.attacks import Attack, correct, run, under_attack
from spikeproof.evaluate._checks import control, skip, twin_failure
from spikeproof.evaluate._intake import told
from spikeproof.evaluate._judge import judge
from spikeproof.evaluate._record import Check
from spikeproof.evaluate._roles import climbing
from spikeproof.evaluate._runner import Job
from spikeproof.evaluate._suite import Step, plain
from spikeproof.seeding import derive
from spikeproof.spiking import CBA, seen_through

OTHER_BATCH = 7


def other_graphs(job: Job, x: Tensor, y: Tensor, ids: Tensor) -> Check:
    """Returns C24 of the suite's steps that follow another graph than the model's.

    Each attacks its graph as if that were the model; the model is then asked about what it found.
    The graph that misleads least decides, as elsewhere the best gradient does.
    """
    found: dict[str, Check] = {}
    lost: list[str] = []
    met = set()
    for step, attack, twin in _followed(job):
        name = f"{plain(step.source)} {twin}"
        if name in met:  # by the first attack on it that could be made
            continue
        try:
            graph = step.source(job.model).eval() if step.source else job.model
            graph = graph if twin is None else seen_through(graph, twin)
            if graph is not job.model:
                found[step.id] = _misled(job, graph, attack, (x, y, ids), step.id)
        except Exception as error:  # noqa: BLE001  as a step of the suite, it costs itself
            lost.append(f"{step.id} was not followed ({told(error)})")
        else:
            met.add(name)
    known = {id: check for id, check in found.items() if check.value is not None}
    if not known:
        reason = "no adversarial fools another graph that the suite follows"
        if not found:
            reason = "the suite follows no other graph than the model's own"
        return skip("C24", "; ".join(lost if lost and not found else [reason, *lost]))
    best = min(known.values(), key=lambda check: check.value or 0.0)
    shown = [f"{id}: {check.detail}" for id, check in known.items()]
    return replace(best, detail="; ".join([*shown, *lost]))


def _followed(job: Job) -> Iterator[tuple[Step, Attack, CBA | None]]:
    """Yields the steps that follow another graph, each attack with that graph's own gradient."""
    for step in job.suite.steps:
        attack = step.attack
        if step.counts and isinstance(attack, Attack):
            if isinstance(attack.rule, CBA):
                yield step, replace(attack, rule=None), attack.rule
            elif step.source:
                yield step, attack, None


def _misled(
    job: Job, graph: nn.Module, attack: Attack, samples: tuple[Tensor, Tensor, Tensor], id: str
) -> Check:
    """Returns C24 of one attack on one graph, as if that were the model."""
    x, y, ids = samples
    with under_attack(graph):
        with torch.no_grad():
            rows = correct(job.model(x), y) & correct(graph(x), y)
        x, y, ids = x[rows], y[rows], ids[rows.cpu()]
        seed = derive(job.seed, id, "graph")
        outcome = run(attack, graph, x, y, job.threat, ids=ids, seed=seed)
    verdict = judge(job.model, outcome.x_adv, x, y, job.threat, batch=OTHER_BATCH)
    return twin_failure(outcome.fallen, verdict.fooled)


def undefended(job: Job, network: nn.Module | None, x: Tensor, y: Tensor, ids: Tensor) -> Check:
    """Returns C26: what the suite's gradients leave of a network without a defence."""
    if network is None:
        return skip("C26", "no undefended network was given")
    steps = [step for step in job.suite.steps if step.counts and climbing(step)]
    if not steps:
        return skip("C26", "no step of the suite follows a gradient")
    try:
        with under_attack(network):
            return _left(job, network, steps, (x, y, ids))
    except Exception as error:  # noqa: BLE001  a network of anybody's may raise anything
        return skip("C26", f"the undefended network could not be attacked ({told(error)})")


def _left(
    job: Job, network: nn.Module, steps: list[Step], samples: tuple[Tensor, Tensor, Tensor]
) -> Check:
    """Returns C26 of what these steps leave of an undefended network, baselines last."""
    x, y, ids = samples
    with torch.no_grad():
        stands = correct(network(x), y)
    if not stands.any():
        return skip("C26", "the undefended network is right on none of these samples")
    made, lost = 0, list[str]()
    for step in sorted(steps, key=lambda step: step.everyone):
        rows = stands.nonzero().squeeze(1)
        if not len(rows) or not isinstance(step.attack, Attack):
            continue
        x_, y_, ids_ = x[rows], y[rows], ids[rows.cpu()]
        seed = derive(job.seed, step.id)
        try:
            outcome = run(step.attack, network, x_, y_, job.threat, ids=ids_, seed=seed)
            verdict = judge(network, outcome.x_adv, x_, y_, job.threat, batch=OTHER_BATCH)
        except Exception as error:  # noqa: BLE001  as a step of the suite, it costs itself
            lost.append(f"{step.id} was not run ({told(error)})")
            continue
        made += 1
        stands[rows[outcome.fallen & verdict.broken]] = False
    if not made:
        return skip("C26", f"no attack could be made on the undefended network: {lost[0]}")
    check = control(float(stands.double().mean()))
    return replace(check, detail="; ".join([check.detail, *lost]))
