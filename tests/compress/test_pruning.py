from __future__ import annotations

import pytest

from spikeproof.catalogue import KINDS
from spikeproof.compress import Magnitude, Pattern, Pruning, RandomStatic, masks_of
from spikeproof.compress._pruning import check_sparsity
from spikeproof.compress._scores import Search
from spikeproof.errors import Refusal
from tests.compress.descent import descend, network


def test_a_method_begins_holds_and_ends():
    model = network()
    method = RandomStatic(0.7)
    masks = method.begin(model, 4)
    assert masks_of(model).digest() == masks.digest()
    descend(model, method.hold(5, 1), 5)
    assert method.end(model).digest() == masks.digest()


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(sparsity):
    with pytest.raises(Refusal, match="from 0 to below 1"):
        check_sparsity(sparsity)
    with pytest.raises(Refusal, match="from 0 to below 1"):
        Magnitude(sparsity)


def test_nothing_of_a_kind_is_left_out():
    public = {c for base in (Pruning, Search) for c in base.__subclasses__()} - {Search}
    assert set(KINDS[Pruning]) == public
    assert set(KINDS[Pattern]) == set(Pattern.__subclasses__())
