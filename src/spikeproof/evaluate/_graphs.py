"""Other networks that an evaluation attacks: those whose gradient it follows, and a control."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from spikeproof.attacks import Attack, correct, run, under_attack
from spikeproof.errors import Refusal
from spikeproof.evaluate._checks import control, skip, twin_failure
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
    found: list[tuple[str, Check]] = []
    with torch.no_grad():
        right = correct(job.model(x), y)
    for step, attack, graph in _followed(job):
        with under_attack(graph):
            rows = right & correct(graph(x).detach(), y)
            x_, y_, ids_ = x[rows], y[rows], ids[rows.cpu()]
            seed = derive(job.seed, step.id, "graph")
            outcome = run(attack, graph, x_, y_, job.threat, ids=ids_, seed=seed)
        verdict = judge(job.model, outcome.x_adv, x_, y_, job.threat, batch=OTHER_BATCH)
        found.append((step.id, twin_failure(outcome.fallen, verdict.fooled)))
    if not found:
        return skip("C24", "the suite follows no other graph than the model's own")
    told = [(id, check) for id, check in found if check.value is not None]
    if not told:
        return skip("C24", "no adversarial fools another graph that the suite follows")
    best = min((check for _, check in told), key=lambda check: check.value or 0.0)
    return replace(best, detail="; ".join(f"{id}: {check.detail}" for id, check in told))


def _followed(job: Job) -> Iterator[tuple[Step, Attack, nn.Module]]:
    """Yields each graph once, with the first attack on it, that of the graph's own gradient."""
    seen = set()
    for step in job.suite.steps:
        attack, twin = step.attack, None
        if not (step.counts and isinstance(attack, Attack)):
            continue
        try:
            graph = step.source(job.model).eval() if step.source else job.model
            if isinstance(attack.rule, CBA):
                twin, attack = attack.rule, replace(attack, rule=None)
                graph = seen_through(graph, twin)
        except Refusal:  # as the step itself was refused, and the record says why
            continue
        name = f"{plain(step.source)} {twin}"
        if graph is job.model or name in seen:
            continue
        seen.add(name)
        yield step, attack, graph


def undefended(job: Job, network: nn.Module | None, x: Tensor, y: Tensor, ids: Tensor) -> Check:
    """Returns C26: what the suite's gradients leave of a network without a defence."""
    if network is None:
        return skip("C26", "no undefended network was given")
    steps = [step for step in job.suite.steps if step.counts and climbing(step)]
    if not steps:
        return skip("C26", "no step of the suite follows a gradient")
    with under_attack(network), torch.no_grad():
        stands = correct(network(x), y)
        for step in sorted(steps, key=lambda step: step.everyone):  # baselines come last
            rows = stands.nonzero().squeeze(1)
            if not len(rows) or not isinstance(step.attack, Attack):
                continue
            x_, y_, ids_ = x[rows], y[rows], ids[rows.cpu()]
            seed = derive(job.seed, step.id)
            try:
                outcome = run(step.attack, network, x_, y_, job.threat, ids=ids_, seed=seed)
            except Refusal:
                continue
            verdict = judge(network, outcome.x_adv, x_, y_, job.threat, batch=OTHER_BATCH)
            stands[rows[outcome.fallen & verdict.broken]] = False
    return control(float(stands.double().mean()))
