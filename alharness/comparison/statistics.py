"""Statistics for few paired runs: exact tests, corrections, intervals, and what the data cannot tell.

Plain functions of numbers. Everything is two-sided; randomness comes from named seeds, so the same
records give the same report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from alharness import seeds

Array = NDArray[np.float64]

#: Level of all tests and intervals.
ALPHA = 0.05

#: Fewest pairs for the word "significant": a two-sided Wilcoxon test of 5 pairs cannot go below .0625 (R11).
MIN_PAIRS = 6

#: Fewest values for a bootstrap interval: with three it covers the mean in 75 of 100 cases, not 95.
MIN_INTERVAL = 5

#: Probability of seeing a difference that is there, for the minimum detectable difference.
POWER = 0.8

#: Pairs that the Wilcoxon test needs for one of the t-test on normal differences (Pitman efficiency 3/pi).
WILCOXON_EFFICIENCY = 3 / np.pi

#: Test figures and areas under their curves that are no further apart are equal. They are of order 1, so that
#: sums of them are wrong by some 1e-15; one item of a million in one cycle of ten thousand is 1e-10.
ROUNDING = 1e-12


def settled(values: ArrayLike) -> Array:
    """The same numbers, ``[...]``, with 0 for what is nothing but rounding."""
    data = np.asarray(values, dtype=np.float64)
    found: Array = np.where(np.abs(data) <= _rounding(data), 0.0, data)
    return found


def tied(values: ArrayLike) -> Array:
    """The same numbers, ``[n]``; those that only rounding tells apart are equal to the last bit."""
    data = np.asarray(values, dtype=np.float64)
    order = np.argsort(data, kind="stable")
    ordered = data[order]
    # Each takes the first of its neighbours without a gap, whichever digit they straddle.
    begins = np.concatenate([[True], ~(np.diff(ordered) <= _rounding(data))])[: len(data)]
    found = np.empty_like(data)
    found[order] = ordered[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    return found


def _rounding(data: Array) -> float:
    """Log losses may be far above 1; then their rounding is, too."""
    return ROUNDING * max(1.0, float(np.abs(data).max(initial=0.0)))


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
    distribution is the sum of the observed ranks under every assignment of signs, counted exactly: O(n *
    sum of ranks).

    Args:
        differences: one number per pair, ``[n]``.
    """
    values = settled(differences)
    n_pairs = len(values)
    values = values[values != 0]
    if len(values) == 0:
        return SignedRanks(n_pairs, 0, 0, 0, 1.0)
    doubled = np.rint(2 * stats.rankdata(tied(np.abs(values)))).astype(np.int64)
    total = int(doubled.sum())
    ways = np.zeros(total + 1)  # share of sign assignments whose positive ranks add up to the index
    ways[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(ways)
        shifted[rank:] = ways[: total + 1 - rank]
        ways = (ways + shifted) / 2
    positive = int(doubled[values > 0].sum())
    extreme = min(positive, total - positive)
    return SignedRanks(
        n_pairs,
        int((values > 0).sum()),
        int((values < 0).sum()),
        int(np.sign(2 * positive - total)),
        float(min(1.0, 2 * ways[: extreme + 1].sum())),
    )


def wilcoxon_p(differences: ArrayLike) -> float:
    """The p of ``signed_ranks``."""
    return signed_ranks(differences).p


def smallest_p(n_pairs: int) -> float:
    """The smallest p that the exact Wilcoxon test can give with so many pairs."""
    return min(1.0, 2.0 ** (1 - n_pairs))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p for a family of tests (Holm 1979), in the order given."""
    m = len(p_values)
    adjusted = [1.0] * m
    running = 0.0
    for step, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (m - step) * p_values[index]))
        adjusted[index] = running
    return adjusted


def interval(
    values: ArrayLike, *, level: float = 1 - ALPHA, n_resamples: int = 10_000
) -> tuple[float, float]:
    """Bootstrap interval of a mean over seeds: percentile, widened for few values (Hesterberg 2015).

    The plain percentile interval is too narrow by the factor sqrt((n-1)/n) and by normal instead of
    t quantiles, which matters at 5 to 10 seeds; the percentiles read off are moved out accordingly.

    Returns:
        lower and upper end; NaN with fewer than five values, or where one is not defined.
    """
    data = np.asarray(values, dtype=np.float64)
    n = len(data)
    if n < MIN_INTERVAL or not np.isfinite(data).all():
        return float("nan"), float("nan")
    rng = seeds.rng(0, "bootstrap", n)
    means = data[rng.integers(0, n, size=(n_resamples, n))].mean(axis=1)
    t = stats.t.ppf((1 - level) / 2, n - 1)
    tail = float(stats.norm.cdf(np.sqrt(n / (n - 1)) * t))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def power_of_t(difference: float, deviation: float, n: int, alpha: float = ALPHA) -> float:
    """Power of the two-sided paired t-test for a true mean difference."""
    if n < 2:
        return 0.0
    if deviation == 0:
        return 1.0 if difference != 0 else 0.0
    shift = abs(difference) / deviation * np.sqrt(n)
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    # The other tail is below 1e-3 wherever the power is of interest.
    return float(stats.nct.sf(critical, n - 1, shift))


def minimum_detectable(
    deviation: float, n: int, *, alpha: float = ALPHA, power: float = POWER
) -> float:
    """Smallest true mean difference that ``n`` pairs would show with the given power.

    Computed for the t-test with the pairs discounted by the Wilcoxon test's efficiency.
    NaN with fewer than two pairs, infinite where the test cannot reach ``alpha`` at all.
    """
    effective = int(np.floor(n * WILCOXON_EFFICIENCY))
    if n < 2 or effective < 2 or not np.isfinite(deviation):
        return float("nan")
    if smallest_p(n) > alpha:
        return float("inf")
    if deviation == 0:
        return 0.0
    # In units of the deviation the answer lies far inside this bracket for every n >= 2.
    size = optimize.brentq(
        lambda d: power_of_t(d, 1.0, effective, alpha) - power, 1e-3, 1e3, xtol=1e-4
    )
    return float(size * deviation)


def pairs_to_decide(
    mean: float,
    deviation: float,
    *,
    alpha: float = ALPHA,
    power: float = POWER,
    most: int = 1_000,
) -> int | None:
    """Pairs that would show a true difference as large as the observed one; None above ``most``."""
    if mean == 0 or not np.isfinite(mean) or not np.isfinite(deviation):
        return None
    least = next(n for n in range(MIN_PAIRS, 64) if smallest_p(n) <= alpha)

    def enough(n: int) -> bool:
        return power_of_t(mean, deviation, int(n * WILCOXON_EFFICIENCY), alpha) >= power

    if enough(least):
        return least
    if not enough(most):
        return None
    low, high = least, most  # enough(high) and not enough(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True)
class PairedTest:
    """One strategy against another on the same seeds.

    Attributes:
        n: pairs.
        above, below: pairs in which the first is larger, and smaller.
        direction: 1 where the ranks of the differences say that the first is larger, -1 that it is smaller.
        mean: mean difference; positive where the first is larger.
        low, high: its bootstrap interval.
        deviation: standard deviation of the differences over pairs.
        p: exact Wilcoxon p; None below two pairs.
        p_holm: the same, adjusted for the family of tests.
        detectable: minimum detectable difference at the family's strictest level.
        needed: pairs that would decide a difference of the observed size; None when out of reach.
        smallest: smallest adjusted p that so many pairs could have given.
    """

    n: int
    above: int
    below: int
    direction: int
    mean: float
    low: float
    high: float
    deviation: float
    p: float | None
    p_holm: float | None
    detectable: float
    needed: int | None
    smallest: float

    @property
    def significant(self) -> bool:
        """Never below six pairs (R11), nor where the mean lies on the other side than the ranks."""
        return self._passes and bool(np.sign(self.mean) == self.direction)

    @property
    def contradictory(self) -> bool:
        """Whether the ranks pass the level and the mean, turned by a few pairs, says otherwise."""
        return self._passes and not self.significant

    @property
    def _passes(self) -> bool:
        return self.n >= MIN_PAIRS and self.p_holm is not None and self.p_holm <= ALPHA

    @property
    def more_pairs(self) -> int | None:
        """How many more pairs would decide it; 0 when it is decided, None when nobody can tell."""
        if self.significant:
            return 0
        # A deviation estimated from four numbers or fewer says next to nothing.
        # Nor does a t-test's count say when mean and ranks will agree.
        if self.needed is None or self.n < MIN_INTERVAL or self.contradictory:
            return None
        # An unlucky sample may already have as many pairs as such a difference needs on average.
        return max(self.needed - self.n, 1)


def paired_tests(differences: Mapping[str, ArrayLike]) -> dict[str, PairedTest]:
    """Tests of a family of paired differences, with Holm's correction over the family.

    Args:
        differences: name -> one difference per pair, ``[n]``. Names with fewer than two pairs are
            described but not tested, and do not count for the correction.
    """
    data = {name: settled(values) for name, values in differences.items()}
    ranks = {name: signed_ranks(values) for name, values in data.items()}
    tested = [name for name, values in data.items() if len(values) >= 2]
    raw = {name: ranks[name].p for name in tested}
    adjusted = dict(zip(tested, holm(list(raw.values())), strict=True))
    strictest = ALPHA / max(len(tested), 1)
    found = {}
    for name, values in data.items():
        n = len(values)
        # Settled like the differences: what is equal in all pairs has no spread to compute a power from.
        mean = float(settled(values.mean())) if n else float("nan")
        deviation = float(settled(values.std(ddof=1))) if n > 1 else float("nan")
        low, high = interval(values)
        found[name] = PairedTest(
            n=n,
            above=ranks[name].above,
            below=ranks[name].below,
            direction=ranks[name].direction,
            mean=mean,
            low=low,
            high=high,
            deviation=deviation,
            p=raw.get(name),
            p_holm=adjusted.get(name),
            detectable=minimum_detectable(deviation, n, alpha=strictest),
            needed=pairs_to_decide(mean, deviation, alpha=strictest),
            smallest=min(1.0, smallest_p(n) * max(len(tested), 1)),
        )
    return found


@dataclass(frozen=True)
class RankTest:
    """Friedman's test with Nemenyi's critical difference (Demsar 2006).

    Attributes:
        names: strategies, best mean rank first.
        ranks: their mean ranks over data sets.
        n_sets: data sets.
        p: of Friedman's test in Iman and Davenport's form.
        critical: difference of mean ranks that Nemenyi's test asks for.
        groups: largest sets of neighbours (as ranges of ``names``) that it cannot tell apart.
    """

    names: tuple[str, ...]
    ranks: tuple[float, ...]
    n_sets: int
    p: float
    critical: float
    groups: tuple[tuple[int, int], ...]


def rank_test(scores: Mapping[str, ArrayLike], *, alpha: float = ALPHA) -> RankTest:
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
    # Friedman's chi-square with ties; zero when all rows are tied throughout.
    spread = float(((ranks - (k + 1) / 2) ** 2).sum())
    chi2 = (
        n_sets**2 * (k - 1) * float(((mean_ranks - (k + 1) / 2) ** 2).sum()) / spread
        if spread
        else 0.0
    )
    limit = n_sets * (k - 1)
    if chi2 >= limit:  # the same order in every data set: F is infinite
        p = 0.0
    else:
        f = (n_sets - 1) * chi2 / (limit - chi2)
        p = float(stats.f.sf(f, k - 1, (k - 1) * (n_sets - 1)))
    critical = nemenyi_q(k, alpha) * np.sqrt(k * (k + 1) / (6 * n_sets))
    order = np.argsort(mean_ranks, kind="stable")
    ordered = mean_ranks[order]
    groups: list[tuple[int, int]] = []
    for first in range(k):
        last = max(i for i in range(first, k) if ordered[i] - ordered[first] <= critical)
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


def nemenyi_q(k: int, alpha: float = ALPHA) -> float:
    """Critical value of Nemenyi's test for ``k`` strategies: studentised range / sqrt(2)."""
    return float(stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2))
