"""Friedman's test with Nemenyi's critical difference: strategies over several data sets (Demsar 2006)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from alharness import seeds
from alharness.comparison.levels import ALPHA, tied
from alharness.records.runs import Array


@dataclass(frozen=True)
class RankTest:
    """Friedman's test with Nemenyi's critical difference (Demsar 2006).

    Attributes:
        names: strategies, best mean rank first.
        ranks: their mean ranks over data sets.
        n_sets: data sets.
        p: of Friedman's test by permutation: exact, or of 10^5 drawn ones; never 0.
        critical: difference of mean ranks that Nemenyi's test asks for.
        groups: largest sets of neighbours (as ranges of ``names``) that it cannot tell apart.
    """

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    n_sets: int
    p: float
    critical: float
    groups: tuple[tuple[int, int], ...]


def rank_test(scores: Mapping[str, ArrayLike]) -> RankTest:
    """Friedman's test across data sets, and which strategies it cannot tell apart.

    Args:
        scores: strategy -> one score per data set, larger is better, the same data sets for all;
            at least two strategies and two data sets.
    """
    names = list(scores)
    table = np.array([np.asarray(scores[name], dtype=np.float64) for name in names]).T
    n_sets, k = table.shape
    if n_sets < 2 or k < 2:
        raise ValueError(
            f"expected two data sets and two strategies or more, found {n_sets} and {k}"
        )
    ranks = np.array([stats.rankdata(-tied(row)) for row in table])
    mean_ranks = ranks.mean(axis=0)
    p = friedman_p(ranks)
    critical = nemenyi_q(k, ALPHA) * np.sqrt(k * (k + 1) / (6 * n_sets))
    order = np.argsort(mean_ranks, kind="stable")
    ordered = mean_ranks[order]
    groups: list[tuple[int, int]] = []
    # Where Friedman's test finds no difference at all, its post-hoc test must find none: on few data sets
    # Nemenyi's large-sample value alone would.
    apart = critical if p <= ALPHA else np.inf
    for first in range(k):
        last = max(i for i in range(first, k) if ordered[i] - ordered[first] <= apart)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return RankTest(
        tuple(names[i] for i in order),
        tuple(float(rank) for rank in ordered),
        n_sets,
        p,
        float(critical),
        tuple(groups),
    )


#: Arrangements of ranks that are counted one by one; above, as many are drawn.
N_ARRANGEMENTS = 100_000


def friedman_p(ranks: ArrayLike) -> float:
    """Probability that ranks as uneven as these come from data sets that order strategies at random.

    Every data set's ranks are equally likely in any order under the null hypothesis, and the statistic is
    the spread of the strategies' sums of ranks; Friedman's chi-square and Iman and Davenport's F order
    arrangements alike. Their large-sample distributions do not hold for a handful of data sets: with two
    strategies on three, F's level of .05 is passed in .27 of cases.

    Args:
        ranks: ``[N, k]``: ranks of k strategies on each of N data sets, ties shared.

    Returns:
        in (0, 1]: exact where that takes a moment, else ``(b + 1) / (m + 1)`` of drawn arrangements.
    """
    doubled = np.rint(2 * np.asarray(ranks, dtype=np.float64)).astype(np.int64)
    spread = int((doubled.sum(axis=0) ** 2).sum())  # their sum is fixed: squares alone order them
    # Which strategy has which rank is what chance decides: the null distribution knows sorted rows only.
    rows = sorted(map(tuple, np.sort(doubled, axis=1).tolist()))
    spreads, shares = _spreads_by_chance(tuple(rows))
    return min(1.0, float(shares[spreads >= spread].sum()))


@cache
def _spreads_by_chance(rows: tuple[tuple[int, ...], ...]) -> tuple[NDArray[np.int64], Array]:
    """Spreads of the sums of ranks by chance, and how likely each is: exact, or of drawn arrangements.

    Of drawn ones the observed arrangement is one more: no spread has a share of 0.
    """
    n_sets, k = len(rows), len(rows[0])
    if all(len(set(row)) == 1 for row in rows):
        return np.array([k * sum(row[0] for row in rows) ** 2]), np.ones(1)
    if factorial(k) <= 120:
        # Sums of ranks with how likely each is, row by row; sorted, for all orders of strategies are one.
        sums, shares = np.array(rows[:1]), np.ones(1)
        for row in rows[1:]:
            orders = np.array(list(permutations(row)))
            if len(sums) * len(orders) > 2 * N_ARRANGEMENTS:
                break
            reached = np.sort((sums[:, None, :] + orders[None, :, :]).reshape(-1, k), axis=1)
            sums, place = np.unique(reached, axis=0, return_inverse=True)
            each = np.repeat(shares / len(orders), len(orders))
            shares = np.bincount(place.ravel(), weights=each).astype(np.float64)
        else:
            return (sums**2).sum(axis=1), shares
    rng = seeds.rng(0, "friedman", n_sets, k)
    table = np.array(rows)
    drawn = [
        (rng.permuted(np.broadcast_to(table, (5_000, n_sets, k)), axis=2).sum(axis=1) ** 2).sum(
            axis=1
        )
        for _ in range(N_ARRANGEMENTS // 5_000)  # in parts, for memory
    ]
    most = (
        k * table.sum() ** 2
    )  # no spread is larger: the observed one counts among those as uneven
    spreads = np.concatenate([*drawn, [most]])
    return spreads, np.full(len(spreads), 1 / len(spreads))


def nemenyi_q(k: int, alpha: float = ALPHA) -> float:
    """Critical value of Nemenyi's test for ``k`` strategies: studentised range / sqrt(2)."""
    return float(stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2))
