"""The statistics against scipy, published tables and simulation."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from alharness.comparison.intervals import band, difference_interval, interval, nested_interval
from alharness.comparison.levels import ALPHA, MIN_PAIRS, settled, tied
from alharness.comparison.paired_tests import holm, paired_tests
from alharness.comparison.power import minimum_detectable, pairs_to_decide, power_of_t
from alharness.comparison.rank_test import friedman_p, nemenyi_q, rank_test
from alharness.comparison.signed_ranks import (
    _rank_sum_tail,
    _Spectrum,
    largest_decisive_sum,
    smallest_p,
    wilcoxon_p,
)


@pytest.mark.parametrize("n", [2, 5, 6, 9, 14])
def test_wilcoxon_equals_scipys_exact_test_without_ties(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        values = rng.normal(0.3, 1, n)
        assert wilcoxon_p(values) == pytest.approx(
            stats.wilcoxon(values, method="exact").pvalue, abs=1e-12
        )


def test_wilcoxon_with_ties_equals_all_sign_assignments_counted() -> None:
    values = np.array([1.0, 1.0, -2.0, 2.0, 3.0, 0.0, -1.0])
    ranks = stats.rankdata(np.abs(values[values != 0]))
    observed = abs(ranks @ np.sign(values[values != 0]))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    expected = np.mean(np.abs(ranks @ signs) >= observed - 1e-9)
    assert wilcoxon_p(values) == pytest.approx(expected)


def test_wilcoxon_shares_the_rank_of_differences_equal_but_for_rounding() -> None:
    assert wilcoxon_p([0.3, 0.1 + 0.2, -0.3, 0.5]) == wilcoxon_p([3, 3, -3, 5])


def test_a_difference_that_is_only_rounding_is_none() -> None:
    """Equal areas, summed in another order, differ in their last bit: no pair, and no sign."""
    assert wilcoxon_p([0.01, 0.02, 0.03, 0.04, 0.05, 1e-17]) == 0.0625
    assert wilcoxon_p([0.01, 0.02, 0.03, 0.04, 0.05, 0.0]) == 0.0625
    assert wilcoxon_p([0.01, 0.02, 0.03, 0.04, 0.05, 1e-9]) == 0.03125  # one test item in a million
    same = paired_tests({"x": [1e-17, -2e-16, 1e-17, 3e-17, 1e-16, 2e-17]})["x"]
    assert (same.mean, same.deviation, same.p) == (0.0, 0.0, 1.0)
    assert (same.above, same.below, same.direction) == (0, 0, 0)
    constant = paired_tests({"x": [0.1 + 0.2, 0.3, 0.3, 0.3, 0.3, 0.3]})["x"]
    assert (constant.deviation, constant.needed) == (0.0, MIN_PAIRS)
    assert len(set(tied([0.1 + 0.2, 0.3, 0.4]))) == 2
    # 400 nats in the last bit are further apart than ROUNDING.
    assert tied([400.0, np.nextafter(400.0, 500)]).tolist() == [400.0, 400.0]


def test_the_direction_is_that_of_the_ranks_the_p_value_is_about() -> None:
    """Eleven pairs below and one far above: the mean is above, and only the ranks have a p value."""
    gaps = [-0.001, -0.002, -0.003, -0.0011, -0.0021, -0.0031]
    gaps += [-0.0012, -0.0022, -0.0032, -0.0013, -0.0023, 0.06]
    test = paired_tests({"x": gaps})["x"]
    assert test.mean > 0
    assert test.p_holm == pytest.approx(0.034, abs=5e-4)
    assert (test.above, test.below, test.direction) == (1, 11, -1)
    assert test.contradictory
    assert not test.significant
    assert test.more_pairs is None  # a t-test's count says nothing of it
    without = paired_tests({"x": gaps[:-1]})["x"]
    assert without.significant
    assert (without.direction, without.contradictory) == (-1, False)


def test_strategies_that_only_rounding_tells_apart_share_their_rank() -> None:
    one = [0.3, 0.5, 0.7]
    found = rank_test({"a": one, "b": [0.1 + 0.2, 0.5, 0.7], "c": [0.1, 0.2, 0.3]})
    assert found.ranks == (1.5, 1.5, 3.0)


def test_five_pairs_cannot_reach_the_level_and_six_can() -> None:
    assert wilcoxon_p([1, 2, 3, 4, 5]) == 0.0625 == smallest_p(5)
    assert wilcoxon_p([1, 2, 3, 4, 5, 6]) == 0.03125 == smallest_p(6)
    assert wilcoxon_p([0, 0, 0]) == 1.0


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
            p[total] = wilcoxon_p(values)
        assert p[critical] <= 0.05 < p[critical + 1]


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("n", [5, 6, 7, 8, 10, 20])
def test_the_interval_of_normal_values_covers_their_mean_as_often_as_it_says(n: int) -> None:
    rng = np.random.default_rng(n)
    ends = [interval(values) for values in rng.normal(0.3, 1, (3000, n))]
    covered = np.mean([low <= 0.3 <= high for low, high in ends])
    assert 0.94 <= covered <= 0.96


@pytest.mark.parametrize(("n", "least"), [(5, 0.86), (10, 0.88), (20, 0.9)])
def test_the_interval_of_skewed_values_covers_as_its_docstring_says(n: int, least: float) -> None:
    """Exponential differences: no interval of so few values makes up for what the tail hides."""
    rng = np.random.default_rng(n)
    ends = [interval(values) for values in rng.exponential(1, (2000, n))]
    assert least <= np.mean([low <= 1 <= high for low, high in ends]) <= 0.94


def test_an_interval_is_students_and_needs_five_values() -> None:
    values = [0.91, 0.93, 0.9, 0.95, 0.92]
    expected = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert interval(values) == pytest.approx(expected)
    assert np.isnan(interval(values[:4])).all()
    assert np.isnan(interval([*values, np.inf])).all()
    assert interval([2.0] * 5) == (2.0, 2.0)
    rows = np.random.default_rng(0).normal(0.5, 0.1, (6, 4))
    assert np.transpose(band(rows)) == pytest.approx(
        np.array([interval(column) for column in rows.T])
    )


def test_five_pairs_have_no_interval_of_their_difference() -> None:
    """No test of five pairs can decide: an interval that leaves out 0 would say more."""
    clear = [1.0, 1.1, 0.9, 1.05, 0.95]
    assert np.isnan(difference_interval(clear)).all()
    assert np.isnan(paired_tests({"x": clear})["x"].low)
    low, high = difference_interval([*clear, 1.0])
    assert 0 < low < 1 < high


def test_the_minimum_detectable_difference_is_detected_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    size = minimum_detectable(1.0, 12)
    found = np.mean([wilcoxon_p(rng.normal(size, 1, 12)) <= 0.05 for _ in range(1000)])
    assert 0.74 <= found <= 0.86
    assert minimum_detectable(1.0, 5) == float("inf")
    assert minimum_detectable(0.5, 12) == pytest.approx(size / 2)
    assert np.isnan(minimum_detectable(0.0, 12))  # equal pairs do not show what would be found


def test_the_power_equals_an_independent_calculation() -> None:
    # Cohen's table for the t-test: d = .8, n = 15 pairs, two-sided .05: power .82.
    assert power_of_t(0.8, 1.0, 15) == pytest.approx(0.82, abs=0.01)


def test_pairs_to_decide_shrinks_with_the_difference() -> None:
    few, many = pairs_to_decide(2.0, 1.0), pairs_to_decide(0.3, 1.0)
    assert few is not None
    assert many is not None
    assert MIN_PAIRS <= few < many
    assert minimum_detectable(1.0, many) <= 0.3 <= minimum_detectable(1.0, many - 2)
    assert pairs_to_decide(1e-6, 1.0) is None
    assert pairs_to_decide(0.0, 1.0) is None


def test_nothing_is_significant_below_six_pairs() -> None:
    family = paired_tests({"clear": [1.0, 1.1, 0.9, 1.05, 0.95]})
    assert not family["clear"].significant
    assert not paired_tests({"one": [0.5]})["one"].significant
    assert paired_tests({"clear": [1.0, 1.1, 0.9, 1.05, 0.95, 1.2]})["clear"].significant


def test_more_pairs_are_counted_against_the_familys_level() -> None:
    clear = [1.0, 1.1, 0.9, 1.05, 0.95, 1.2]
    family = paired_tests(dict.fromkeys("abcd", clear))
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
        p_values = [wilcoxon_p(values) for values in differences.values()]
        single_alarms += p_values[0] <= ALPHA
        family_alarms += min(holm(p_values)) <= ALPHA
    # Binomial(1000, .05) stays below 66 in 99 of 100 cases; an exact discrete test lies below .05.
    assert 25 <= single_alarms <= 66
    assert 10 <= family_alarms <= 66


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(200):
        gaps = {str(i): rng.normal(0.006 if i == 0 else 0.0, 0.003, 10) for i in range(5)}
        found += holm([wilcoxon_p(values) for values in gaps.values()])[0] <= ALPHA
    assert found > 180


@pytest.mark.parametrize(("k", "n_sets"), [(2, 5), (3, 4), (4, 3)])
def test_friedmans_p_equals_all_arrangements_counted(k: int, n_sets: int) -> None:
    rng = np.random.default_rng(k)
    for table in (rng.normal(0, 1, (n_sets, k)), rng.integers(0, 3, (n_sets, k)).astype(float)):
        found = rank_test({str(i): table[:, i] for i in range(k)})
        ranks = np.array([stats.rankdata(-row) for row in table])
        arranged = np.array(
            [sum(np.array(rows)) for rows in product(*[list(permutations(row)) for row in ranks])]
        )
        spread = (arranged**2).sum(axis=1)
        expected = np.mean(spread >= (ranks.sum(axis=0) ** 2).sum() - 1e-9)
        assert found.p == pytest.approx(expected)


def test_friedmans_p_comes_near_scipys_on_many_data_sets() -> None:
    rng = np.random.default_rng(4)
    table = rng.normal(0, 1, (20, 4)) + np.arange(4) * 0.12
    result = rank_test({str(i): table[:, i] for i in range(4)})
    assert result.p == pytest.approx(stats.friedmanchisquare(*table.T).pvalue, rel=0.1)
    assert set(result.names) == set("0123")
    assert sum(result.ranks) == pytest.approx(4 * 5 / 2)


@pytest.mark.parametrize("k", [2, 3, 4, 5])
@pytest.mark.parametrize("n_sets", [3, 5, 10])
def test_equal_strategies_are_told_apart_in_one_of_twenty_studies_at_most(
    k: int, n_sets: int
) -> None:
    rng = np.random.default_rng(10 * k + n_sets)
    orders = [np.argsort(rng.random((n_sets, k)), axis=1) + 1 for _ in range(1500)]
    p_values = np.array([friedman_p(ranks) for ranks in orders])
    assert np.mean(p_values <= ALPHA) <= 0.055
    assert p_values.min() > 0


def test_a_unanimous_order_on_three_data_sets_is_what_chance_does_once_in_four() -> None:
    result = rank_test({"a": [3.0, 3.1, 3.2], "b": [1.0, 1.1, 1.2]})
    assert result.p == 0.25
    assert result.groups == ((0, 1),)  # the picture and the sentence say the same


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_nemenyi_critical_values_of_demsars_table_5(k: int, q: float) -> None:
    assert nemenyi_q(k) == pytest.approx(q, abs=0.001)


def test_demsars_example_has_his_critical_difference() -> None:
    # Demsar 2006, Sec. 3.2.2: 4 classifiers on 14 data sets have CD = 1.25 at .05.
    rng = np.random.default_rng(5)
    result = rank_test({str(i): rng.normal(0, 1, 14) for i in range(4)})
    assert result.critical == pytest.approx(1.25, abs=0.01)


def test_groups_hold_what_cannot_be_told_apart() -> None:
    n = 30
    same = rank_test({"a": [1.0] * n, "b": [1.0] * n})
    assert same.groups == ((0, 1),)
    assert same.p == pytest.approx(1.0)
    order = rank_test({"a": [3.0] * n, "b": [2.0] * n, "c": [1.0] * n})
    assert order.names == ("a", "b", "c")
    assert order.groups == ()
    assert order.p == pytest.approx(6.0**-29)  # never 0


def counted_one_by_one(values: np.ndarray) -> float:
    """Version 0.2's count of all sign assignments, O(n^3)."""
    values = values[values != 0]
    doubled = np.rint(2 * stats.rankdata(np.abs(values))).astype(np.int64)
    total = int(doubled.sum())
    ways = np.zeros(total + 1)
    ways[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(ways)
        shifted[rank:] = ways[: total + 1 - rank]
        ways = (ways + shifted) / 2
    positive = int(doubled[values > 0].sum())
    return float(min(1.0, 2 * ways[: min(positive, total - positive) + 1].sum()))


@pytest.mark.parametrize("n", [7, 30, 120])
@pytest.mark.parametrize("digits", [9, 1, 0])
def test_the_quick_sum_of_ranks_equals_counting_with_and_without_ties(
    n: int, digits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By the Fourier sum however few pairs there are.
    monkeypatch.setattr("alharness.comparison.signed_ranks.COUNTED", 0)
    rng = np.random.default_rng(n)
    for shift in (0.0, 0.2, 0.6):
        values = np.round(rng.normal(shift, 1, n), digits)
        assert wilcoxon_p(values) == pytest.approx(counted_one_by_one(values), abs=1e-12)


def test_three_thousand_pairs_are_tested_exactly() -> None:
    """Counting takes O(n^3), minutes; scipy's normal approximation is right to a few per mille there."""
    rng = np.random.default_rng(5)
    for values in (rng.normal(0.03, 1, 3000), np.round(rng.normal(0.03, 1, 3000), 1)):
        assert wilcoxon_p(values) == pytest.approx(stats.wilcoxon(values).pvalue, rel=0.01)
    assert 0 < wilcoxon_p(np.abs(values) + 1) < 1e-12


def test_what_is_no_number_is_not_tested_and_spoils_no_other() -> None:
    fine = [0.1, 0.2, 0.3, 0.15, 0.25, 0.35]
    family = paired_tests({"nan": [*fine[:5], np.nan], "fine": fine})
    assert (family["nan"].p, family["nan"].significant) == (None, False)
    assert family["fine"].p_holm == family["fine"].p == 2**-5  # the other one does not count
    assert settled([np.inf, 0.1, 0.2]).tolist() == [np.inf, 0.1, 0.2]
    assert wilcoxon_p([np.inf, 0.1, -0.2]) == stats.wilcoxon([9.0, 0.1, -0.2]).pvalue
    assert tied([np.inf, np.inf, 1.0]).tolist() == [np.inf, np.inf, 1.0]


def test_strategies_that_did_the_same_count_once() -> None:
    clear = [1.0, 1.1, 0.9, 1.05, 0.95, 1.2]
    family = {"margin": clear, "max-entropy": clear, "least-confidence": clear}
    once = paired_tests(family, same=dict.fromkeys(family, "asked the same"))
    assert {test.p_holm for test in once.values()} == {2**-5}
    assert all(test.significant for test in once.values())
    assert not any(test.significant for test in paired_tests(family).values())


def test_each_look_spends_its_part_of_the_level() -> None:
    clear = [1.0, 1.1, 0.9, 1.05, 0.95, 1.2]
    assert paired_tests({"x": clear}, looks=2)["x"].p_holm == 2 * 2**-5
    # Looking after 6 and, unless decided, after 10 seeds: without the rule more than one in twenty alarms.
    rng = np.random.default_rng(6)
    studies = rng.normal(0, 1, (800, 10))
    plain, spent = (
        np.mean([min(wilcoxon_p(s[:6]), wilcoxon_p(s)) * looks <= 0.05 for s in studies])
        for looks in (1, 2)
    )
    assert spent <= 0.05 < plain


def test_the_probability_of_replication_is_how_often_second_laboratories_agree() -> None:
    """Over effects from none to clear ones, what is told and what is seen agree."""
    rng = np.random.default_rng(7)
    told, seen = [], []
    for true_mean in rng.normal(0, 2, 120):
        first, second = (paired_tests({"x": rng.normal(true_mean, 1, 8)})["x"] for _ in range(2))
        told.append(first.replication)
        verdicts = [t.direction if t.significant else 0 for t in (first, second)]
        seen.append(verdicts[0] == verdicts[1])
    assert np.mean(told) == pytest.approx(np.mean(seen), abs=0.08)
    sure = np.array(told) > 0.9
    assert np.mean(np.array(seen)[sure]) > 0.85
    assert np.isnan(paired_tests({"x": [0.1] * 5})["x"].replication)


@pytest.mark.parametrize("n", [6, 9, 20, 40])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3, 1e-3, 2.0**-5])
def test_the_largest_decisive_rank_sum_is_that_of_asking_every_sum(n: int, alpha: float) -> None:
    ranks = np.arange(1, n + 1)
    passing = [
        most for most in range(n * (n + 1) // 4 + 1) if 2 * _rank_sum_tail(ranks, most) <= alpha
    ]
    assert largest_decisive_sum(n, alpha) == max(passing, default=-1)


def test_thousands_of_pairs_are_asked_for_their_largest_decisive_rank_sum_a_few_times(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    tail = _Spectrum.tail
    monkeypatch.setattr(
        _Spectrum, "tail", lambda self, most: asked.append(most) or tail(self, most)
    )
    found = largest_decisive_sum(600, 0.05)
    assert len(asked) <= 20
    ranks = np.arange(1, 601)
    assert 2 * _rank_sum_tail(ranks, found) <= 0.05 < 2 * _rank_sum_tail(ranks, found + 1)


@pytest.mark.parametrize("between", [0.0, 0.5, 2.0])
def test_the_interval_over_generators_covers_whatever_they_differ_by(between: float) -> None:
    rng = np.random.default_rng(8)
    covered, blind = 0, 0
    for _ in range(600):
        values = (
            rng.normal(0, between, (4, 1)) + rng.normal(0, 0.5, (1, 6)) + rng.normal(0, 1, (4, 6))
        )
        found = nested_interval(values)
        covered += found.low <= 0 <= found.high
        low, high = interval(values[0])  # six seeds of one generator
        blind += low <= 0 <= high
    assert covered / 600 >= 0.94
    assert between < 1 or blind / 600 < 0.6  # what ten seeds of one generator are worth then


@pytest.mark.parametrize(
    ("values", "between"),
    [
        # Two generators, three seeds: effects of rows and columns add up, and nothing is left.
        ([[1.0, 2.0, 4.0], [3.0, 4.0, 6.0]], 2**0.5),
        # One generator for all that seeds explain: a deviation of nothing, not of less.
        ([[0.0, 1.0], [1.0, 0.0]], 0.0),
        ([[0.1, 0.5, 0.3], [0.9, 0.6, 0.4], [0.2, 0.8, 0.7]], None),
    ],
)
def test_an_interval_over_generators_is_that_of_a_two_way_analysis_of_variance(
    values: list[list[float]], between: float | None
) -> None:
    """Sums of squares by loops over cells."""
    n_rows, n_columns = len(values), len(values[0])
    cells = [(g, s) for g in range(n_rows) for s in range(n_columns)]
    mean = sum(values[g][s] for g, s in cells) / len(cells)
    rows = [sum(values[g]) / n_columns for g in range(n_rows)]
    columns = [sum(values[g][s] for g in range(n_rows)) / n_rows for s in range(n_columns)]
    of_rows = n_columns * sum((row - mean) ** 2 for row in rows) / (n_rows - 1)
    of_columns = n_rows * sum((column - mean) ** 2 for column in columns) / (n_columns - 1)
    rest = sum((values[g][s] - rows[g] - columns[s] + mean) ** 2 for g, s in cells)
    rest /= (n_rows - 1) * (n_columns - 1)
    quantiles = [stats.t.ppf(0.975, n - 1) for n in (n_rows, n_columns)]
    reach = ((quantiles[0] ** 2 * of_rows + quantiles[1] ** 2 * of_columns) / len(cells)) ** 0.5
    found = nested_interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - reach, mean + reach))
    assert (found.n_outer, found.n_inner) == (n_rows, n_columns)
    expected = max(0.0, (of_rows - rest) / n_columns) ** 0.5
    assert found.outer_deviation == pytest.approx(expected)
    if between is not None:
        assert found.outer_deviation == pytest.approx(between)
