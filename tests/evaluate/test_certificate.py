from __future__ import annotations

from dataclasses import replace

import pytest

from spikeproof.attacks import PGD, Attack, Linf
from spikeproof.errors import Refusal
from spikeproof.evaluate import (
    IBP,
    Step,
    Suite,
    certify,
    evaluate,
    overview_of,
    read_certificate,
    sandwich,
    write_certificate,
)
from spikeproof.evaluate._certificate import beyond
from spikeproof.evaluate._evaluate import Conditions
from spikeproof.spiking import over_time

FEW = Conditions(limit=24)


@pytest.fixture(scope="module")
def pair(request):
    net, data = request.getfixturevalue("net"), request.getfixturevalue("handwriting")
    suite = Suite("pgd", (Step("pgd", Attack(PGD(5)), everyone=True),))
    threat = Linf(0.004)
    record = evaluate(net, data, threat, suite, conditions=FEW, checks=())
    return certify(net, data, threat, IBP(), conditions=FEW), record


def test_certified_stands_below_attacked_sample_by_sample(pair):
    certificate, record = pair
    check = sandwich(certificate, record)
    assert (check.verdict, check.value) == ("pass", 0)
    assert 0 < sum(certificate.certified) <= sum(record.robust)
    pairs = zip(certificate.certified, record.robust, strict=True)
    assert all(stands for sure, stands in pairs if sure)


def test_a_certified_sample_that_an_attack_broke_fails(pair):
    certificate, record = pair
    place = certificate.certified.index(True)
    (step,) = record.steps
    success = tuple(i == place or hit for i, hit in enumerate(step.success))
    broken = replace(record, steps=(replace(step, success=success),))
    check = sandwich(certificate, broken)
    assert (check.verdict, check.value) == ("fail", 1)
    assert str(certificate.data.indices[place]) in check.detail


def test_only_the_same_network_threat_and_samples_are_compared(pair):
    certificate, record = pair
    others = {
        "weights": {"model": {**record.model, "weights_sha256": "0"}},
        "constants": {"model": {**record.model, "network_sha256": "0"}},
        "threat": {"threat": {**record.threat, "eps": 0.005}},
        "samples": {"data": replace(record.data, tensor_sha256="0")},
    }
    for name, change in others.items():
        with pytest.raises(Refusal, match=f"the {name} of the evaluation"):
            sandwich(certificate, replace(record, **change))
    voted = replace(certificate, method={"kind": "smoothing"})
    with pytest.raises(Refusal, match="another classifier"):
        sandwich(voted, record)


def test_the_same_weights_with_other_constants_are_another_network(pair, net, handwriting):
    certificate, record = pair
    other = over_time(net, net.encode.T + 1)
    again = certify(other, handwriting, Linf(0.004), IBP(), conditions=FEW)
    assert again.model["weights_sha256"] == certificate.model["weights_sha256"]
    with pytest.raises(Refusal, match="the constants of the evaluation"):
        sandwich(again, record)
    told_by_none = {key: of for key, of in record.model.items() if key != "network_sha256"}
    with pytest.raises(Refusal, match="the constants of the evaluation are not told"):
        sandwich(certificate, replace(record, model=told_by_none))


def test_a_certificate_is_read_as_it_was_written(pair, tmp_path):
    certificate, _ = pair
    path = tmp_path / "record.json"
    write_certificate(path, certificate)
    back = read_certificate(path)
    assert back == replace(certificate, times=back.times, environment=back.environment)
    assert dict(back.times) == dict(certificate.times)
    told = overview_of(back)
    assert told["certified_accuracy"] == sum(certificate.certified) / 24
    assert told["abstained"] is None
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(Refusal, match="schema 9"):
        read_certificate(path)
    path.write_text('{"kind": "certificate", "schema": 1, "clean": 3}')
    with pytest.raises(Refusal, match="damaged"):
        read_certificate(path)


def test_a_radius_holds_a_budget_that_is_smaller_with_what_a_judge_forgives():
    assert beyond((0.1, 0.100002, 0.2, 0.0), 0.1, 1e-6) == (False, True, True, False)
