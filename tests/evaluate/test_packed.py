from __future__ import annotations

import numpy as np
import pytest
import torch

from spikeproof.attacks import Attack, Linf, Margin, Square
from spikeproof.compress import lower
from spikeproof.errors import Refusal
from spikeproof.evaluate import Conditions, Packed, Step, Suite, evaluate, named_suite
from spikeproof.ir import pack

THREAT = Linf(0.2)
HOW = Conditions(limit=16)
ASKING = Step("square", Attack(Square(200), Margin()))


@pytest.fixture(scope="module")
def path(net, handwriting, tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "net.spkp"
    pack(path, lower(net, handwriting.shape))
    return path


def test_a_file_answers_as_its_network_and_has_no_gradient(net, handwriting, path):
    x, _ = handwriting.test.batch(torch.arange(50))
    logits = Packed(path)(x.requires_grad_())
    torch.testing.assert_close(logits, net(x.detach()), atol=1e-4, rtol=0)
    assert not logits.requires_grad


def test_searches_that_only_ask_meet_the_file_and_the_others_say_why_not(net, handwriting, path):
    named = named_suite("smoke", THREAT, 10, handwriting.shape)
    record = evaluate(
        Packed(path), handwriting, THREAT, Suite("s", (*named.steps, ASKING)), conditions=HOW
    )
    assert [step.id for step in record.steps if not step.skipped] == ["S1-random", "square"]
    for step in record.steps:
        assert not any(step.crashed), step.message
        if step.skipped:
            assert step.skipped.count("; ") == 2, step.skipped
            assert not any(step.attacked)
    # The network is the same function, and so falls to the same queries.
    blind = Suite("s", (named.steps[0], ASKING))
    ours = evaluate(net, handwriting, THREAT, blind, conditions=HOW)
    assert record.robust == ours.robust
    assert 0 <= record.robust_accuracy < record.clean_accuracy


@pytest.mark.doubtful
def test_nothing_is_believed_of_a_file_that_no_gradient_reached(handwriting, path):
    record = evaluate(
        Packed(path), handwriting, THREAT, Suite("s", (ASKING,)), conditions=Conditions(limit=4)
    )
    assert record.finding.status == "unreliable"
    (reason,) = record.finding.reasons
    assert "does not reach its input" in reason


def test_another_networks_gradient_is_followed_against_the_file(net, handwriting, path):
    record = evaluate(
        Packed(path), handwriting, THREAT, "smoke", conditions=HOW, transfer={"net": net}
    )
    led = [step for step in record.steps if step.source and not step.skipped]
    assert any(any(step.success) for step in led)


def test_records_tell_files_apart(net, handwriting, path, tmp_path):
    again, other = tmp_path / "again.spkp", tmp_path / "other.spkp"
    again.write_bytes(path.read_bytes())
    pack(other, lower(net, handwriting.shape), "fp16")
    seals = [Packed(p).state_dict()["file"].tolist() for p in (path, again, other)]
    assert seals[0] == seals[1] != seals[2]
    other.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Refusal, match="export it again"):
        Packed(other)
    with pytest.raises(Refusal, match="form"):
        Packed(path)(torch.from_numpy(np.zeros((1, 2, 8, 8), np.float32)))
