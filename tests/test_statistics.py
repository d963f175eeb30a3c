from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from spikeproof.errors import Refusal
from spikeproof.statistics import (
    clopper_pearson,
    contributions,
    cumulative,
    holm,
    jaccard,
    mcnemar,
    only_by,
    robust_accuracy,
    steps_curve,
    success_over_all,
    success_over_correct,
    wilson,
)

CLEAN = (True, True, True, True, False)
A = (True, True, False, False, False)
B = (False, True, True, False, False)
NONE = (False,) * 5
rows = st.lists(st.tuples(*[st.booleans()] * 4), min_size=1, max_size=30)


def test_intervals_are_those_of_the_literature():
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3
    for hits, total, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(hits, total) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_intervals_hold_their_share_and_mirror(total, data):
    hits = data.draw(st.integers(0, total))
    low, high = wilson(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    other = wilson(total - hits, total)
    assert other == pytest.approx((1 - high, 1 - low))
    assert wilson(hits, total, 0.99)[1] >= high


def test_no_share_has_no_interval():
    for hits, total in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(Refusal, match="is no share"):
            wilson(hits, total)


@pytest.mark.parametrize("total", range(11))
def test_mcnemar_counts_every_fall_of_the_coins(total):
    falls = [sum(coins) for coins in itertools.product((0, 1), repeat=total)]
    for first in range(total + 1):
        extreme = sum(abs(2 * heads - total) >= abs(2 * first - total) for heads in falls)
        assert mcnemar(first, total - first) == pytest.approx(min(1, extreme / 2**total))


def test_mcnemar_of_thousands_is_exact():
    assert mcnemar(0, 60) == 2.0**-59
    assert mcnemar(5000, 5000) == 1.0
    assert 0 < mcnemar(4800, 5200) < 1e-4


def test_holm_is_bonferroni_at_the_smallest_and_never_falls():
    assert holm([0.02]) == (0.02,)
    assert holm([0.5, 0.001, 0.04]) == pytest.approx((0.5, 0.003, 0.08))
    assert holm([0.9, 0.8]) == (1.0, 1.0)
    assert holm([]) == ()


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_only_raises(values):
    adjusted = holm(values)
    assert all(p <= q <= 1 for p, q in zip(values, adjusted, strict=True))
    ranked = sorted(range(len(values)), key=values.__getitem__)
    assert all(adjusted[i] <= adjusted[j] for i, j in itertools.pairwise(ranked))


def test_counts_by_hand():
    assert robust_accuracy(CLEAN) == 0.8
    assert robust_accuracy(CLEAN, A) == 0.4
    assert cumulative(CLEAN, [A, B, NONE]) == (0.4, 0.2, 0.2)
    assert contributions([A, B, NONE]) == ((2, 1, 0), (1, 2, 0), (0, 0, 0))
    assert only_by([A, B, NONE]) == (1, 1, 0)
    assert jaccard([A, B, NONE]) == ((1, 1 / 3, 0), (1 / 3, 1, 0), (0, 0, 1))


@given(rows)
def test_the_sets_add_up(found):
    clean, *broken = ([row[i] for row in found] for i in range(4))
    worst = cumulative(clean, broken)
    assert all(a >= b for a, b in itertools.pairwise(worst))
    assert worst[-1] == robust_accuracy(clean, *broken) <= robust_accuracy(clean, broken[0])
    union = sum(any(row[1:]) for row in found)
    assert sum(only_by(broken)) <= union <= sum(c[i] for i, c in enumerate(contributions(broken)))


def test_success_rates_are_converted():
    # 90 % clean and 45 % robust: half of what was right is broken, 55 % is wrong
    assert success_over_correct(0.9, 0.45) == 0.5
    assert success_over_all(0.45) == 0.55
    assert success_over_correct(0.0, 0.0) == 0.0


def test_the_curve_falls_at_every_success_and_ends_at_the_robust_accuracy():
    at = (3, 1, 0, 0, 0)
    assert steps_curve(CLEAN, A, at) == ((0, 0.8), (1, 0.6), (3, 0.4))
    assert steps_curve(CLEAN, A, at)[-1][1] == robust_accuracy(CLEAN, A)
    assert steps_curve(CLEAN, NONE, at) == ((0, 0.8),)
    wrong = (False, False, False, False, True)
    assert steps_curve(CLEAN, wrong, (0, 0, 0, 0, 1)) == ((0, 0.8),)  # it was wrong already


def test_the_cost_of_a_claim_in_points():
    # half-widths at n = 1000 and RA .23, as the protocol quotes them
    low, high = wilson(230, 1000)
    assert math.isclose(100 * (high - low) / 2, 2.6, abs_tol=0.05)


def test_the_exact_lower_bound_is_that_of_the_beta_distribution():
    for total in (1, 2, 10, 100, 1000, 100_000):
        for hits in {1, total // 2, int(0.9 * total), total - 1, total} - {0}:
            for alpha in (1e-6, 0.001, 0.05, 0.5):
                exact = beta.ppf(alpha, hits, total - hits + 1)
                assert exact * (1 - 1e-7) <= clopper_pearson(hits, total, alpha) <= exact
    assert clopper_pearson(0, 10, 0.05) == 0.0


@pytest.mark.parametrize("share", [0.02, 0.5, 0.77, 0.995])
@pytest.mark.parametrize("total", [1, 7, 60])
def test_the_exact_lower_bound_is_too_high_in_at_most_alpha_of_cases(share, total):
    for alpha in (0.001, 0.05, 0.3):
        wrong = (hits for hits in range(total + 1) if clopper_pearson(hits, total, alpha) > share)
        assert sum(binom.pmf(hits, total, share) for hits in wrong) <= alpha


@pytest.mark.parametrize("case", [(3, 2, 0.1), (0, 0, 0.1), (1, 2, 0.0), (1, 2, 1.0)])
def test_what_is_no_share_or_no_error_is_refused(case):
    with pytest.raises(Refusal):
        clopper_pearson(*case)
