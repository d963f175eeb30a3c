from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from spikeproof.attacks import Flips, Linf
from spikeproof.data import Dataset, Split, subset
from spikeproof.errors import Refusal
from spikeproof.evaluate._intake import check_answers, sealed, survey

THREAT = Linf(0.1)


class Raw:
    """Samples as somebody else's code brings them: unchecked."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def batch(self, index):
        return self.x[index], self.y[index]


class Saying(nn.Module):
    def __init__(self, say):
        super().__init__()
        self.say = say

    def forward(self, x):
        return self.say(x)


X, Y = torch.full((8, 1, 2, 2), 0.25), torch.arange(8) % 2


def test_a_manifest_says_which_samples_in_which_order(points):
    manifest = survey(points, 0, THREAT)
    assert manifest.indices == tuple(range(41))
    assert manifest.labels == tuple(points.y.tolist())
    assert manifest.shape == (1, 2, 2)
    assert manifest.training is None
    labels = np.asarray(points.y, "<i8").tobytes()
    assert manifest.label_sha256 == hashlib.sha256(labels).hexdigest()
    assert sealed(points, manifest)
    moved = points.x.clone()
    moved[40, 0, 0, 0] = 1 - moved[40, 0, 0, 0]
    assert not sealed(Raw(moved, points.y), manifest)
    assert not sealed(Raw(points.x, 1 - points.y), manifest)


@pytest.mark.parametrize("limit", [1, 7, 100, 358])
def test_a_limit_takes_every_class_in_proportion_and_the_first_of_each(handwriting, limit):
    test = handwriting.test
    manifest = survey(test, limit, THREAT)
    assert len(manifest.indices) == limit
    assert list(manifest.indices) == sorted(set(manifest.indices))
    labels = torch.tensor(manifest.labels)
    for label in range(10):
        whole, taken = (test.y == label).nonzero().flatten(), int((labels == label).sum())
        assert abs(taken - limit * len(whole) / len(test)) < 1
        mine = [i for i, y in zip(manifest.indices, manifest.labels, strict=True) if y == label]
        assert mine == whole[:taken].tolist()


def test_training_samples_among_the_evaluated_ones_are_counted(handwriting):
    assert survey(handwriting, 50, THREAT).training == 0
    leaky = Dataset(
        "leaky",
        replace(handwriting.train, x=handwriting.train.x.clone()),
        handwriting.validation,
        Split(
            torch.cat([handwriting.test.x[:10], handwriting.train.x[5:9]]),
            torch.cat([handwriting.test.y[:10], handwriting.train.y[5:9]]),
            handwriting.test.scale,
        ),
        handwriting.classes,
    )
    assert survey(leaky, 0, THREAT).training == 4


@pytest.mark.parametrize(
    ("x", "y", "limit", "said"),
    [
        (X, Y, 9, "9 samples were asked of 8"),
        (X[:0], Y[:0], 0, "0 samples were asked of 0"),
        (X.double(), Y, 0, "samples are torch.float64"),
        (X, Y.int(), 0, "labels torch.int32"),
        (X, Y[:, None], 0, r"of shape \(8, 1\)"),
        (X, Y - 1, 0, "a label is -1"),
        (X * 255, Y, 0, r"span 63.75..63.75; under .* within 0..1"),
        (X - 1, Y, 0, "span -0.75..-0.75"),
        (X * torch.nan, Y, 0, "span nan..nan"),
    ],
)
def test_samples_that_cannot_be_attacked_are_refused(x, y, limit, said):
    with pytest.raises(Refusal, match=said):
        survey(Raw(x, y), limit, THREAT)


def test_frames_that_no_sensor_delivers_are_refused():
    with pytest.raises(Refusal, match=r"0\.25"):
        survey(Raw(X[:, None], Y), 0, Flips(3))


@pytest.mark.parametrize(
    ("say", "said"),
    [
        (lambda x: x.flatten(1).softmax(1), "returns probabilities"),
        (lambda x: x.flatten(1) * torch.nan, "returns NaN or infinite logits"),
        (lambda x: x.flatten(1) / 0, "returns NaN or infinite logits"),
        (lambda x: x.mean((1, 2, 3)), r"returns the shape \(1,\)"),
        (lambda x: x[None].flatten(2), r"returns the shape \(1, 1, 4\)"),
        (lambda x: x[:3].flatten(1), r"returns the shape \(3, 4\) for 4 samples"),
        (lambda x: x.flatten(1).squeeze(), r"returns the shape \(4,\) for 1 samples"),
        (lambda x: x.flatten(1)[:, :1], "at least two classes"),
        (lambda x: x.flatten(1).argmax(1), "returns torch.int64 values"),
        (lambda x: [x], "returns a list"),
    ],
)
def test_a_model_that_cannot_be_judged_is_refused(say, said):
    with pytest.raises(Refusal, match=said):
        check_answers(Saying(say), X, (0, 1))


def test_labels_beyond_the_classes_are_refused():
    model = Saying(lambda x: 4 * x.flatten(1))
    assert check_answers(model, X, (0, 3)) == 4
    with pytest.raises(Refusal, match=r"a label is 4 .* 4 classes"):
        check_answers(model, X, (0, 4))


def test_logits_between_0_and_1_are_not_taken_for_probabilities():
    assert check_answers(Saying(lambda x: x.flatten(1) * 0.5), X, (0,)) == 4


def test_a_limit_is_that_of_the_data_room_where_classes_divide_evenly():
    split = Split(torch.rand(40, 1, 2, 2, generator=torch.Generator()), torch.arange(40) % 4, 1.0)
    ours = survey(split, 20, THREAT).tensor_sha256
    assert ours == survey(subset(split, 20), 0, THREAT).tensor_sha256
