from __future__ import annotations

import pytest
import torch

from spikeproof.attacks import L2, PGD, Attack, Linf
from spikeproof.evaluate import Conditions, _measurements
from spikeproof.evaluate._intake import survey
from spikeproof.evaluate._measurements import USUAL_EPS, Measurements, Subject


def subject(net, data, threat):
    manifest = survey(data, 3, threat)
    attack = Attack(PGD(3))
    return Subject(net, data.test, manifest, threat, attack, (None,), 0, torch.device("cpu"))


@pytest.fixture
def made(net, handwriting):
    return Measurements(subject(net, handwriting, Linf(0.1)), ("trail", "landscape"), None, None)


def test_a_sample_is_attacked_once(made, handwriting, monkeypatch):
    asked = []
    ascend = _measurements.ascend

    def counted(attack, model, x, y, threat, *, seed):
        asked.append(seed)
        assert len(x) == 1
        return ascend(attack, model, x, y, threat, seed=seed)

    monkeypatch.setattr(_measurements, "ascend", counted)
    found = made.all(handwriting, Conditions(limit=3))
    assert len(asked) == len(set(asked)) == 3
    assert len(found.planes) == 6
    assert found.vulnerability == found.curves == found.checks == ()
    assert found.domains is None
    assert found.notes == ()
    assert found.times["seconds_of_parts"].keys() == {"trail", "landscape"}


def test_attacked_samples_are_admissible_and_new(made):
    clean, y, ids = made.job.load(range(3))
    attacked, same, _ = made._inputs("attacked", range(3))
    assert torch.equal(y, same)
    assert made.job.threat.admits(attacked, clean).all()
    assert (attacked != clean).flatten(1).any(1).all()
    assert torch.equal(made._inputs("attacked", range(1, 2))[0], attacked[1:2])
    assert torch.equal(made._inputs("clean", range(3))[0], clean)
    assert ids.tolist() == list(made.job.manifest.indices)


def test_a_threat_without_a_linf_budget_takes_the_usual_one_and_says_so(net, handwriting):
    at = subject(net, handwriting, L2(0.5))
    assert at.eps == USUAL_EPS
    found = Measurements(at, ("domains",), None, None).all(handwriting, Conditions(limit=3))
    assert found.domains.eps == USUAL_EPS
    (note,) = found.notes
    assert note.startswith(f"{at.threat} has no Linf budget: vulnerabilities, planes and domains")
