"""Wilcoxon's signed-rank test: exact for any number of pairs, with ties, two-sided."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from alharness import seeds
from alharness.comparison.levels import ALPHA, settled, tied
from alharness.records.runs import Array


@dataclass(frozen=True)
class SignedRanks:
    """Wilcoxon's signed-rank test (Wilcoxon 1945).

    Attributes:
        n: pairs.
        above, below: how many of them differ upwards and downwards.
        direction: 1 where the ranks of the pairs above outweigh those below, -1 the other way, 0 when they
            are even. The p value is about this, not about the mean, which one pair can turn.
        p: exact, two-sided, in (0, 1]; 1 when no pair differs.
    """

    n: int
    above: int
    below: int
    direction: int
    p: float

    def contradicts(self, mean: float) -> bool:
        """Whether the ranks pass the level and the mean does not lie on their side."""
        return self.p <= ALPHA and bool(np.sign(settled(mean)) != self.direction)


def signed_ranks(differences: ArrayLike) -> SignedRanks:
    """The exact test, also with ties.

    Differences that are only rounding are zeros and dropped; tied sizes share their mean rank. The null
    distribution is the sum of the observed ranks under every assignment of signs.

    Args:
        differences: one number per pair, ``[n]``; infinite ones have the largest ranks.

    Returns:
        the test; its ``p`` is NaN where a difference is not a number.
    """
    values = settled(differences)
    n_pairs = len(values)
    if np.isnan(values).any():
        return SignedRanks(n_pairs, int((values > 0).sum()), int((values < 0).sum()), 0, np.nan)
    values = values[values != 0]
    if len(values) == 0:
        return SignedRanks(n_pairs, 0, 0, 0, 1.0)
    # Mean ranks of ties are halves: doubled, all are whole numbers and sums of them are exact.
    doubled = np.rint(2 * stats.rankdata(tied(np.abs(values)))).astype(np.int64)
    total = int(doubled.sum())
    positive = int(doubled[values > 0].sum())
    return SignedRanks(
        n_pairs,
        int((values > 0).sum()),
        int((values < 0).sum()),
        int(np.sign(2 * positive - total)),
        # No p is 0: half of all pairs' 2^-n assignments are as extreme as the observed one at least.
        max(min(1.0, 2 * _rank_sum_tail(doubled, min(positive, total - positive))), 5e-324),
    )


def wilcoxon_p(differences: ArrayLike) -> float:
    """The p of ``signed_ranks``."""
    return signed_ranks(differences).p


def smallest_p(n_pairs: int) -> float:
    """The smallest p that the exact Wilcoxon test can give with so many pairs."""
    return min(1.0, 2.0 ** (1 - n_pairs))


#: Steps of counting sign assignments one by one that are still quick: some 270 pairs without ties.
COUNTED = 20_000_000


def _rank_sum_tail(ranks: NDArray[np.int64], most: int) -> float:
    """Probability that a random half of the signs leaves positive ranks whose sum is at most ``most``.

    Args:
        ranks: whole numbers above 0, ``[n]``.
    """
    if len(ranks) * int(ranks.sum()) > COUNTED:
        return _Spectrum.of(ranks).tail(most)
    return float(_rank_sum_shares(ranks)[: most + 1].sum())


def _rank_sum_shares(ranks: NDArray[np.int64]) -> Array:
    """Probability of every sum of positive ranks, counted: O(n^3)."""
    total = int(ranks.sum())
    ways = np.zeros(total + 1)  # share of sign assignments whose positive ranks add up to the index
    ways[0] = 1.0
    for rank in ranks:
        shifted = np.zeros_like(ways)
        shifted[rank:] = ways[: total + 1 - rank]
        ways = (ways + shifted) / 2
    return ways


def largest_decisive_sum(n: int, alpha: float) -> int:
    """The largest sum of the rarer sign's ranks whose two-sided p passes; -1 where none does.

    Args:
        n: pairs, all of which differ by unlike sizes.
        alpha: level.
    """
    ranks = np.arange(1, n + 1)
    half = n * (n + 1) // 4
    if n * int(ranks.sum()) <= COUNTED:
        p = 2 * np.cumsum(_rank_sum_shares(ranks)[: half + 1])
        return int(np.searchsorted(p, alpha, side="right")) - 1
    # A tail grows with its sum: halving asks for some 20 of them, where there are n^2 / 4.
    spectrum = _Spectrum.of(ranks)
    return bisect_right(range(half + 1), alpha, key=lambda most: 2 * spectrum.tail(most)) - 1


@dataclass(frozen=True)
class _Spectrum:
    """A rank sum's distribution for thousands of pairs, right to some 1e-15, where counting takes O(n^3).

    The sum of positive ranks minus its mean has the characteristic function ``prod_j cos(r_j t / 2)``, and
    its distribution is the Fourier sum over as many points as the sum has values. That product is below
    1e-18 at all but some dozens of points, and every factor is at most 1: points drop out for good as soon
    as part of the product is that small, which leaves O(n) cosines instead of O(n^3).

    Attributes:
        step: what all ranks are multiples of; sums below are in units of it.
        total: the sum of all ranks.
        size: points of the Fourier sum.
        k, angle, product: the points that are left, half of t there, and the characteristic function.
    """

    step: int
    total: int
    size: int
    k: NDArray[np.int64]
    angle: Array
    product: Array

    @classmethod
    def of(cls, ranks: NDArray[np.int64]) -> _Spectrum:
        """Work out the characteristic function of some ranks, whole numbers above 0."""
        values, counts = np.unique(ranks, return_counts=True)
        step = int(np.gcd.reduce(values))  # without ties all doubled ranks are even
        return replace(cls._of(tuple(values // step), tuple(counts)), step=step)

    @classmethod
    @lru_cache(
        maxsize=4
    )  # without ties all tests of a family, and the limit of each, have the same ranks
    def _of(cls, of: tuple[int, ...], times: tuple[int, ...]) -> _Spectrum:
        """The same for unlike ranks in units of their step, and how often each occurs."""
        values, counts = np.array(of), np.array(times)
        total = int((values * counts).sum())
        deviation = float(np.sqrt((counts * values.astype(np.float64) ** 2).sum())) / 2
        # Values further than nine deviations from the mean have 1e-19 of the probability together.
        size = int(min(total + 1, 2 * np.ceil(9 * deviation) + 3))
        k = np.arange(size // 2 + 1)
        angle = np.pi * k / size
        product = np.ones(len(k))
        # In any order the product is the same; a mixed one shrinks it soonest, as near ranks move together.
        order = seeds.rng(0, "rank sum").permutation(len(values))
        for start in range(0, len(order), 4):
            for place in order[start : start + 4]:
                product *= np.cos(angle * values[place]) ** int(counts[place])
            alive = np.abs(product) > 1e-18
            product, angle, k = product[alive], angle[alive], k[alive]
        return cls(1, total, size, k, angle, product)

    def tail(self, most: int) -> float:
        """Probability of a sum of positive ranks of at most ``most``."""
        k, angle, size = self.k, self.angle, self.size
        most = most // self.step
        first = int(np.ceil(self.total / 2 - size / 2))
        n_terms = most - first + 1
        if n_terms <= 0:
            return 0.0
        # sum over x = first .. most of exp(-i t (x - mean)), whose imaginary parts cancel.
        with np.errstate(invalid="ignore", divide="ignore"):
            terms = np.where(angle == 0, n_terms, np.sin(n_terms * angle) / np.sin(angle))
        terms *= np.cos(2 * angle * (first - self.total / 2 + (n_terms - 1) / 2))
        twice = np.where(
            (k == 0) | (2 * k == size), 1.0, 2.0
        )  # points k and size - k have equal terms
        return max(0.0, float((twice * self.product * terms).sum() / size))
