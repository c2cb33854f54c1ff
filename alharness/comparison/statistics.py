"""Statistics for few paired runs: exact tests, corrections, intervals, and what the data cannot tell.

Plain functions of numbers. Everything is two-sided; randomness comes from named seeds, so the same
records give the same report. ``docs/protocol.md`` ("What decides a verdict") states the policy that
these functions serve.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from alharness import seeds

Array = NDArray[np.float64]

#: Level of all tests and intervals.
ALPHA = 0.05

#: Fewest pairs for the word "significant": a two-sided Wilcoxon test of 5 pairs cannot go below .0625 (R11).
MIN_PAIRS = 6

#: Fewest values for an interval of a mean. Student's t would be right from two on, and say nothing.
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
    return found  # NaN stays NaN: it is no difference of any size


def tied(values: ArrayLike) -> Array:
    """The same numbers, ``[n]``; those that only rounding tells apart are equal to the last bit."""
    data = np.asarray(values, dtype=np.float64)
    order = np.argsort(data, kind="stable")
    ordered = data[order]
    # Each takes the first of its neighbours without a gap, whichever digit they straddle.
    with np.errstate(invalid="ignore"):  # inf - inf: equal, and their difference is no number
        apart = (np.diff(ordered) > _rounding(data)) & (ordered[1:] != ordered[:-1])
    begins = np.concatenate([[True], apart])[: len(data)]
    found = np.empty_like(data)
    found[order] = ordered[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    return found


def _rounding(data: Array) -> float:
    """Log losses may be far above 1; then their rounding is, too."""
    finite = np.abs(data[np.isfinite(data)])  # one infinite loss must not make all others rounding
    return ROUNDING * max(1.0, float(finite.max(initial=0.0)))


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


def _largest_decisive_sum(n: int, alpha: float) -> int:
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
        values = values // step
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
        return cls(step, total, size, k, angle, product)

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


def interval(values: ArrayLike, *, level: float = 1 - ALPHA) -> tuple[float, float]:
    """Student's t interval of a mean.

    Right for normal values at any number of them; for heavy tails (t with 3 degrees of freedom) it covers
    the mean in .96 of cases, for exponential ones in .88 at five values and .90 at ten: skewed differences
    need more seeds than any interval of so few can make up for.

    Args:
        values: one number per seed, ``[n]``.

    Returns:
        lower and upper end; NaN with fewer than five values, or where one is not finite.
    """
    data = np.asarray(values, dtype=np.float64)
    n = len(data)
    if n < MIN_INTERVAL or not np.isfinite(data).all():
        return float("nan"), float("nan")
    mean = float(data.mean())
    # Settled: equal values have no spread but for the last bit of their mean.
    deviation = float(settled(data.std(ddof=1)))
    reach = _quantile(level, n - 1) * deviation / np.sqrt(n)
    return mean - reach, mean + reach


@cache
def _quantile(level: float, degrees: int) -> float:
    """Of Student's t, two-sided: asked for thousands of times with one answer."""
    return float(stats.t.ppf((1 + level) / 2, degrees))


def band(rows: ArrayLike) -> tuple[Array, Array]:
    """``interval`` of every column of ``[n, K]``: lower and upper ends, ``[K]`` each."""
    data = np.asarray(rows, dtype=np.float64)
    n = len(data)
    if n < MIN_INTERVAL:
        return np.full(data.shape[1], np.nan), np.full(data.shape[1], np.nan)
    mean: Array = data.mean(axis=0)
    reach = _quantile(1 - ALPHA, n - 1) * settled(data.std(axis=0, ddof=1)) / np.sqrt(n)
    return mean - reach, mean + reach


def difference_interval(differences: ArrayLike) -> tuple[float, float]:
    """The interval of a mean difference over pairs; NaN below six, where no test can decide anything.

    Five pairs cannot give a p below .0625, so that an interval of them which leaves out 0 would say more
    than the test beside it.
    """
    data = np.asarray(differences, dtype=np.float64)
    return interval(data) if len(data) >= MIN_PAIRS else (float("nan"), float("nan"))


@dataclass(frozen=True)
class Nested:
    """A mean over two levels: generators, and runs on each of them.

    Attributes:
        mean: over all.
        low, high: its 95 % interval, for other generators and other seeds.
        n_outer, n_inner: generators, and seeds that each of them has.
        outer_deviation: standard deviation between generators, 0 where their means differ no more than
            seeds alone explain.
    """

    mean: float
    low: float
    high: float
    n_outer: int
    n_inner: int
    outer_deviation: float


def nested_interval(values: ArrayLike, *, level: float = 1 - ALPHA) -> Nested:
    """Mean and interval where both the generator and the seed are random (two-way, crossed).

    ``v_gs = mean + generator_g + seed_s + rest``. The variance of the mean is estimated by
    ``(MS_generator + MS_seed) / (G S)``, which is never too small in expectation.

    Args:
        values: ``[G, S]``: each generator with the same seeds; at least two of each.
    """
    data = np.asarray(values, dtype=np.float64)
    n_outer, n_inner = data.shape
    if n_outer < 2 or n_inner < 2 or not np.isfinite(data).all():
        raise ValueError(f"expected two finite rows and columns or more, found {data.shape}")
    mean = data.mean()
    rows, columns = data.mean(axis=1, keepdims=True), data.mean(axis=0, keepdims=True)
    of_outer = n_inner * float(((rows - mean) ** 2).sum()) / (n_outer - 1)
    of_inner = n_outer * float(((columns - mean) ** 2).sum()) / (n_inner - 1)
    rest = float(((data - rows - columns + mean) ** 2).sum()) / ((n_outer - 1) * (n_inner - 1))
    # Each part of the variance with the quantile of its own few degrees of freedom: Satterthwaite's one
    # number for both covers .93 where four generators differ by much.
    widths = [
        float(stats.t.ppf((1 + level) / 2, n - 1)) ** 2 * square
        for n, square in ((n_outer, of_outer), (n_inner, of_inner))
    ]
    reach = np.sqrt(sum(widths) / data.size)
    between = np.sqrt(max(0.0, (of_outer - rest) / n_inner))
    return Nested(
        float(mean), float(mean - reach), float(mean + reach), n_outer, n_inner, float(between)
    )


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
        return float("nan")  # equal pairs tell nothing of what other seeds would show
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
        low, high: its 95 % interval (Student's t); NaN below six pairs.
        deviation: standard deviation of the differences over pairs.
        p: exact Wilcoxon p; None below two pairs.
        p_holm: the same, adjusted for the family of tests.
        detectable: minimum detectable difference at the family's strictest level.
        needed: pairs that would decide a difference of the observed size; None when out of reach.
        smallest: smallest adjusted p that so many pairs could have given.
        replication: probability that a second laboratory with as many seeds comes to the same verdict.
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
    replication: float

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


def paired_tests(
    differences: Mapping[str, ArrayLike],
    *,
    same: Mapping[str, Hashable] | None = None,
    looks: int = 1,
) -> dict[str, PairedTest]:
    """Tests of a family of paired differences, with Holm's correction over the family.

    Args:
        differences: name -> one difference per pair, ``[n]``. Names with fewer than two pairs, or with a
            difference that is not a number, are described but not tested, and do not count.
        same: name -> what it did; names that did the same are one comparison and count once.
        looks: how often results were looked at while seeds were added. Each look spends an equal part of
            the level (every p is multiplied by their number), which holds however they were chosen.
    """
    data = {name: settled(values) for name, values in differences.items()}
    ranks = {name: signed_ranks(values) for name, values in data.items()}
    tested = [n for n, values in data.items() if len(values) >= 2 and not np.isnan(ranks[n].p)]
    raw = {name: ranks[name].p for name in tested}
    done = {name: (same or {}).get(name, name) for name in tested}
    # One p for each thing that was done: its copies have the same differences.
    once = {what: raw[name] for name, what in done.items()}
    by_deed = dict(zip(once, holm([min(1.0, looks * p) for p in once.values()]), strict=True))
    adjusted = {name: by_deed[what] for name, what in done.items()}
    n_tests = looks * max(len(once), 1)
    found = {}
    for name, values in data.items():
        n = len(values)
        finite = n > 0 and bool(np.isfinite(values).all())
        # Settled like the differences: what is equal in all pairs has no spread to compute a power from.
        mean = float(settled(values.mean())) if n else float("nan")
        deviation = float(settled(values.std(ddof=1))) if n > 1 and finite else float("nan")
        low, high = difference_interval(values)
        p_holm = adjusted.get(name)
        decided = 0
        if n >= MIN_PAIRS and p_holm is not None and p_holm <= ALPHA:
            decided = ranks[name].direction if np.sign(mean) == ranks[name].direction else 0
        # Holm's step for this name: what its own p had to be multiplied by.
        factor = p_holm / raw[name] if p_holm is not None and raw[name] > 0 else float(n_tests)
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
            p_holm=p_holm,
            detectable=minimum_detectable(deviation, n, alpha=ALPHA / n_tests),
            needed=pairs_to_decide(mean, deviation, alpha=ALPHA / n_tests),
            smallest=min(1.0, smallest_p(n) * n_tests),
            replication=test_replication(mean, deviation, n, ALPHA / max(factor, 1.0), decided),
        )
    return found


#: Second laboratories that are simulated for a probability of replication.
N_LABORATORIES = 1000


def new_laboratories(mean: float, deviation: float, n: int) -> Array:
    """Differences that other laboratories with as many seeds may see, ``[N_LABORATORIES, n]``.

    What is not known of the true mean and deviation is drawn, too (the predictive distribution of a normal
    sample under the usual reference prior): an effect that was just decided is just as likely smaller. Right
    on average over studies whose true effects lie far apart; among studies of one effect at the border of
    what can be seen, half agree whatever each of them says.
    """
    rng = seeds.rng(0, "replication", n)
    spread = deviation * np.sqrt((n - 1) / rng.chisquare(n - 1, N_LABORATORIES))
    centre = mean + spread / np.sqrt(n) * rng.standard_normal(N_LABORATORIES)
    drawn: Array = centre[:, None] + spread[:, None] * rng.standard_normal((N_LABORATORIES, n))
    return drawn


def test_replication(mean: float, deviation: float, n: int, alpha: float, decided: int) -> float:
    """Probability that the signed ranks of as many other seeds give the same verdict.

    Args:
        mean, deviation: of the differences that were seen.
        n: how many.
        alpha: level that the test had to pass.
        decided: 1 or -1 for significantly above or below, 0 for not decided.

    Returns:
        NaN below six pairs, and where all pairs are equal.
    """
    if n < MIN_PAIRS or not np.isfinite(mean) or not deviation > 0:
        return float("nan")
    drawn = new_laboratories(mean, deviation, n)
    ranks = np.abs(drawn).argsort(axis=1).argsort(axis=1) + 1  # drawn numbers have no ties
    positive = np.where(drawn > 0, ranks, 0).sum(axis=1)
    total = n * (n + 1) // 2
    limit = _largest_decisive_sum(n, alpha)
    verdicts = np.where(positive <= limit, -1, np.where(total - positive <= limit, 1, 0))
    return float(np.mean(verdicts == decided))


test_replication.__test__ = False  # type: ignore[attr-defined] # no test, whatever its name


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
    p = friedman_p(ranks)
    critical = nemenyi_q(k, alpha) * np.sqrt(k * (k + 1) / (6 * n_sets))
    order = np.argsort(mean_ranks, kind="stable")
    ordered = mean_ranks[order]
    groups: list[tuple[int, int]] = []
    # Where Friedman's test finds no difference at all, its post-hoc test must find none: on few data sets
    # Nemenyi's large-sample value alone would.
    apart = critical if p <= alpha else np.inf
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
