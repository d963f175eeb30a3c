from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from spikeproof.attacks import L1, L2, Flips, Linf
from spikeproof.data import Split
from spikeproof.errors import Refusal
from spikeproof.evaluate import (
    CROWN,
    IBP,
    Conditions,
    Exact,
    RateCoding,
    Smoothing,
    certify,
    read_certificate,
)
from spikeproof.models import MLP, Setting, build
from spikeproof.seeding import generator
from spikeproof.spiking import Frames, Poisson

FEW = Conditions(limit=20)


def timeless(certificate):
    return replace(certificate, times={}, environment={})


@pytest.fixture(scope="module")
def events():
    net = build(MLP((8,)), Setting(1, 3, 3, 1, encoder=Frames()), 5).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2)
    x = (torch.rand((40, 1, 1, 3, 3), generator=generator(0, "events")) < 0.4).float()
    return net, Split(x, net(x).argmax(1), 1.0)


def test_bounds_prove_no_more_than_the_truth_and_something(events):
    net, samples = events
    found = {k: certify(net, samples, Flips(k), IBP()) for k in (0, 1, 2)}
    truth = {k: certify(net, samples, Flips(k), Exact()) for k in (0, 1, 2)}
    for k, certificate in found.items():
        pairs = zip(certificate.certified, truth[k].certified, strict=True)
        assert all(true for sure, true in pairs if sure)
        margins = zip(certificate.margin, truth[k].margin, strict=True)
        assert all(low <= exact + 1e-6 for low, exact in margins)
    counts = [sum(found[k].certified) for k in (0, 1, 2)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == sum(found[0].clean) > counts[2]
    assert sum(found[1].certified) > 0
    assert sum(truth[2].certified) < sum(truth[0].certified)


def test_lines_prove_what_intervals_prove_and_no_more_than_the_truth(events):
    net, samples = events
    for k in (0, 1, 2):
        wide, lines, truth = (
            certify(net, samples, Flips(k), method) for method in (IBP(), CROWN(), Exact())
        )
        rows = zip(wide.margin, lines.margin, truth.margin, strict=True)
        assert all(low <= line <= exact + 1e-6 for low, line, exact in rows)
        assert sum(wide.certified) <= sum(lines.certified) <= sum(truth.certified)
        if k:
            assert max(a - b for a, b in zip(lines.margin, wide.margin, strict=True)) > 0.01


def test_a_certification_is_resumed_to_the_same_record(net, handwriting, tmp_path):
    method, threat = Smoothing(0.1, n=100), L2(0.05)
    whole = certify(net, handwriting, threat, method, out=tmp_path / "whole", conditions=FEW)

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        certify(net, handwriting, threat, method, out=tmp_path / "cut", conditions=FEW, watch=stop)
    told = []
    again = replace(FEW, resume=True)
    out = tmp_path / "cut"
    back = certify(net, handwriting, threat, method, out=out, conditions=again, watch=told.append)
    assert timeless(back) == timeless(whole)
    assert [p.done for p in told] == [16, 20]
    assert timeless(read_certificate(out / "record.json")) == timeless(back)
    assert not (out / "parts").exists()
    same = certify(net, handwriting, threat, method, out=out, conditions=again)
    assert timeless(same) == timeless(back)
    with pytest.raises(Refusal, match=r"method\.sigma"):
        certify(net, handwriting, threat, Smoothing(0.2, n=100), out=out, conditions=again)


def test_a_vote_is_certified_where_it_is_right_and_its_radius_holds_the_budget(net, handwriting):
    found = certify(net, handwriting, L2(0.1), Smoothing(0.1, n=300), conditions=FEW)
    assert found.margin == ()
    assert 0 < found.certified_accuracy <= found.clean_accuracy
    rows = zip(found.certified, found.radius, found.clean, strict=True)
    assert all((not sure) or (radius > 0.1 and right) for sure, radius, right in rows)
    more = certify(net, handwriting, L2(0.2), Smoothing(0.1, n=300), conditions=FEW)
    assert more.radius == found.radius
    assert sum(more.certified) <= sum(found.certified)


def test_rates_are_certified_in_l1():
    net = build(MLP((8,)), Setting(1, 2, 2, 2, encoder=Poisson()), 1).eval()
    x = torch.rand((10, 1, 2, 2), generator=generator(0, "rates"))
    samples = Split(x, net(x).argmax(1), 1.0)
    found = certify(net, samples, L1(0.01), RateCoding(n=500))
    assert max(found.radius) <= 1 - 0.5**0.5
    assert any(found.certified)


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10]


@pytest.mark.parametrize(
    ("threat", "method", "told"),
    [
        (Linf(0.1), Smoothing(), "its radius is one in l2"),
        (L2(0.1), RateCoding(), "its radius is one in l1"),
        (L1(0.1), RateCoding(), "none of ours"),
        (L2(0.1), IBP(), "Flat is no SpikingNetwork|bounds are known of"),
        (Linf(0.1), IBP(), "Flat is no SpikingNetwork"),
        (Linf(0.1), CROWN(), "Flat is no SpikingNetwork"),
        (Linf(0.1), Exact(), "0 or 1"),
    ],
    ids=str,
)
def test_what_cannot_be_certified_is_refused(handwriting, threat, method, told):
    with pytest.raises(Refusal, match=told):
        certify(Flat(), handwriting, threat, method, conditions=FEW)


def test_a_network_with_too_many_membranes_is_refused(net, handwriting):
    with pytest.raises(Refusal, match="128 membranes in time or more"):
        certify(net, handwriting, Linf(0.1), CROWN(most=100), conditions=FEW)
    with pytest.raises(Refusal, match="steps is -1"):
        CROWN(steps=-1)


def test_a_shard_is_refused(net, handwriting):
    with pytest.raises(Refusal, match="one process"):
        certify(net, handwriting, Linf(0.1), conditions=Conditions(limit=4, shard=(1, 2)))
