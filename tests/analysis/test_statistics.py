"""The statistics against scipy, published tables and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alharness.comparison import statistics as st


@pytest.mark.parametrize("n", [2, 5, 6, 9, 14])
def test_wilcoxon_equals_scipys_exact_test_without_ties(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        values = rng.normal(0.3, 1, n)
        assert st.wilcoxon_p(values) == pytest.approx(
            stats.wilcoxon(values, method="exact").pvalue, abs=1e-12
        )


def test_wilcoxon_with_ties_equals_all_sign_assignments_counted() -> None:
    values = np.array([1.0, 1.0, -2.0, 2.0, 3.0, 0.0, -1.0])
    ranks = stats.rankdata(np.abs(values[values != 0]))
    observed = abs(ranks @ np.sign(values[values != 0]))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    expected = np.mean(np.abs(ranks @ signs) >= observed - 1e-9)
    assert st.wilcoxon_p(values) == pytest.approx(expected)


def test_wilcoxon_shares_the_rank_of_differences_equal_but_for_rounding() -> None:
    assert st.wilcoxon_p([0.3, 0.1 + 0.2, -0.3, 0.5]) == st.wilcoxon_p([3, 3, -3, 5])


def test_a_difference_that_is_only_rounding_is_none() -> None:
    """Equal areas, summed in another order, differ in their last bit: no pair, and no sign."""
    assert st.wilcoxon_p([0.01, 0.02, 0.03, 0.04, 0.05, 1e-17]) == 0.0625
    assert st.wilcoxon_p([0.01, 0.02, 0.03, 0.04, 0.05, 0.0]) == 0.0625
    assert (
        st.wilcoxon_p([0.01, 0.02, 0.03, 0.04, 0.05, 1e-9]) == 0.03125
    )  # one test item in a million
    same = st.paired_tests({"x": [1e-17, -2e-16, 1e-17, 3e-17, 1e-16, 2e-17]})["x"]
    assert (same.mean, same.deviation, same.p) == (0.0, 0.0, 1.0)
    assert (same.above, same.below, same.direction) == (0, 0, 0)
    constant = st.paired_tests({"x": [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3, 0.3]})["x"]
    assert (constant.deviation, constant.needed) == (0.0, st.MIN_PAIRS)
    assert len(set(st.tied([0.1 + 0.2, 0.3, 0.4]))) == 2
    # 400 nats in the last bit are further apart than ROUNDING.
    assert st.tied([400.0, np.nextafter(400.0, 500)]).tolist() == [400.0, 400.0]


def test_the_direction_is_that_of_the_ranks_the_p_value_is_about() -> None:
    """Eleven pairs below and one far above: the mean is above, and only the ranks have a p value."""
    gaps = [-0.001, -0.002, -0.003, -0.0011, -0.0021, -0.0031]
    gaps += [-0.0012, -0.0022, -0.0032, -0.0013, -0.0023, 0.06]
    test = st.paired_tests({"x": gaps})["x"]
    assert test.mean > 0
    assert test.p_holm == pytest.approx(0.034, abs=5e-4)
    assert (test.above, test.below, test.direction) == (1, 11, -1)
    assert test.contradictory
    assert not test.significant
    assert test.more_pairs is None  # a t-test's count says nothing of it
    without = st.paired_tests({"x": gaps[:-1]})["x"]
    assert without.significant
    assert (without.direction, without.contradictory) == (-1, False)


def test_strategies_that_only_rounding_tells_apart_share_their_rank() -> None:
    one = [0.3, 0.5, 0.7]
    found = st.rank_test({"a": one, "b": [0.1 + 0.2, 0.5, 0.7], "c": [0.1, 0.2, 0.3]})
    assert found.ranks == (1.5, 1.5, 3.0)


def test_five_pairs_cannot_reach_the_level_and_six_can() -> None:
    assert st.wilcoxon_p([1, 2, 3, 4, 5]) == 0.0625 == st.smallest_p(5)
    assert st.wilcoxon_p([1, 2, 3, 4, 5, 6]) == 0.03125 == st.smallest_p(6)
    assert st.wilcoxon_p([0, 0, 0]) == 1.0


def test_critical_values_of_the_published_wilcoxon_table() -> None:
    # Two-sided .05: the rank sum of the rarer sign may be at most 8 for n = 10 and 25 for n = 15.
    for n, critical in ((10, 8), (15, 25)):
        p = {}
        for total in (critical, critical + 1):
            values = np.arange(1.0, n + 1)
            left = total
            for rank in range(n, 0, -1):
                if rank <= left:
                    values[rank - 1] *= -1
                    left -= rank
            p[total] = st.wilcoxon_p(values)
        assert p[critical] <= 0.05 < p[critical + 1]


def test_holm_on_a_worked_example() -> None:
    assert st.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.holm([]) == []
    assert st.holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for n, least in ((5, 0.885), (10, 0.91)):
        hits = 0
        for _ in range(400):
            low, high = st.interval(rng.normal(0, 1, n), n_resamples=1000)
            hits += low <= 0 <= high
        assert least <= hits / 400 <= 0.98
    assert np.isnan(st.interval([1.0, 2.0, 3.0, 4.0])).all()
    assert st.interval([2.0] * 5) == (2.0, 2.0)


def test_the_minimum_detectable_difference_is_detected_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    size = st.minimum_detectable(1.0, 12)
    found = np.mean([st.wilcoxon_p(rng.normal(size, 1, 12)) <= 0.05 for _ in range(1000)])
    assert 0.74 <= found <= 0.86
    assert st.minimum_detectable(1.0, 5) == float("inf")
    assert st.minimum_detectable(0.5, 12) == pytest.approx(size / 2)
    assert st.minimum_detectable(0.0, 12) == 0.0


def test_the_power_equals_an_independent_calculation() -> None:
    # Cohen's table for the t-test: d = .8, n = 15 pairs, two-sided .05: power .82.
    assert st.power_of_t(0.8, 1.0, 15) == pytest.approx(0.82, abs=0.01)


def test_pairs_to_decide_shrinks_with_the_difference() -> None:
    few, many = st.pairs_to_decide(2.0, 1.0), st.pairs_to_decide(0.3, 1.0)
    assert few is not None
    assert many is not None
    assert st.MIN_PAIRS <= few < many
    assert st.minimum_detectable(1.0, many) <= 0.3 <= st.minimum_detectable(1.0, many - 2)
    assert st.pairs_to_decide(1e-6, 1.0) is None
    assert st.pairs_to_decide(0.0, 1.0) is None


def test_nothing_is_significant_below_six_pairs() -> None:
    family = st.paired_tests({"clear": [1.0, 1.1, 0.9, 1.05, 0.95]})
    assert not family["clear"].significant
    assert not st.paired_tests({"one": [0.5]})["one"].significant
    assert st.paired_tests({"clear": [1.0, 1.1, 0.9, 1.05, 0.95, 1.2]})["clear"].significant


def test_more_pairs_are_counted_against_the_familys_level() -> None:
    clear = [1.0, 1.1, 0.9, 1.05, 0.95, 1.2]
    family = st.paired_tests(dict.fromkeys("abcd", clear))
    assert family["a"].p_holm == pytest.approx(4 * 0.03125)
    assert not family["a"].significant
    assert family["a"].smallest == pytest.approx(0.125)
    assert family["a"].needed == 8  # the fewest pairs whose smallest p is below .05 / 4
    assert family["a"].more_pairs == 2


def test_false_alarms_over_1000_simulated_comparisons_stay_at_the_level() -> None:
    """Five equal strategies against the baseline, ten seeds, correlated through the seed."""
    rng = np.random.default_rng(2)
    family_alarms = single_alarms = 0
    for _ in range(1000):
        seed_effect = rng.normal(0, 0.01, 10)
        baseline = seed_effect + rng.normal(0, 0.003, 10)
        differences = {str(i): seed_effect + rng.normal(0, 0.003, 10) - baseline for i in range(5)}
        p_values = [st.wilcoxon_p(values) for values in differences.values()]
        single_alarms += p_values[0] <= st.ALPHA
        family_alarms += min(st.holm(p_values)) <= st.ALPHA
    # Binomial(1000, .05) stays below 66 in 99 of 100 cases; an exact discrete test lies below .05.
    assert 25 <= single_alarms <= 66
    assert 10 <= family_alarms <= 66


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(200):
        gaps = {str(i): rng.normal(0.006 if i == 0 else 0.0, 0.003, 10) for i in range(5)}
        found += st.holm([st.wilcoxon_p(values) for values in gaps.values()])[0] <= st.ALPHA
    assert found > 180


def test_friedman_equals_scipy_and_iman_davenport() -> None:
    rng = np.random.default_rng(4)
    table = rng.normal(0, 1, (8, 4)) + np.arange(4) * 0.7
    result = st.rank_test({str(i): table[:, i] for i in range(4)})
    chi2 = stats.friedmanchisquare(*table.T).statistic
    f = 7 * chi2 / (8 * 3 - chi2)
    assert result.p == pytest.approx(stats.f.sf(f, 3, 21))
    assert result.names[0] == "3"
    assert sum(result.ranks) == pytest.approx(4 * 5 / 2)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_nemenyi_critical_values_of_demsars_table_5(k: int, q: float) -> None:
    assert st.nemenyi_q(k) == pytest.approx(q, abs=0.001)


def test_demsars_example_has_his_critical_difference() -> None:
    # Demsar 2006, Sec. 3.2.2: 4 classifiers on 14 data sets have CD = 1.25 at .05.
    rng = np.random.default_rng(5)
    result = st.rank_test({str(i): rng.normal(0, 1, 14) for i in range(4)})
    assert result.critical == pytest.approx(1.25, abs=0.01)


def test_groups_hold_what_cannot_be_told_apart() -> None:
    n = 30
    same = st.rank_test({"a": [1.0] * n, "b": [1.0] * n})
    assert same.groups == ((0, 1),)
    assert same.p == pytest.approx(1.0)
    order = st.rank_test({"a": [3.0] * n, "b": [2.0] * n, "c": [1.0] * n})
    assert order.names == ("a", "b", "c")
    assert order.groups == ()
    assert order.p == 0.0
