"""What so few pairs can tell: differences that would be found, pairs that would decide, and replication.

Randomness comes from named seeds, so the same records give the same report.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

from alharness import seeds
from alharness.comparison.levels import ALPHA, MIN_PAIRS
from alharness.comparison.signed_ranks import largest_decisive_sum, smallest_p
from alharness.records.runs import Array

#: Probability of seeing a difference that is there, for the minimum detectable difference.
POWER = 0.8
#: More pairs than this nobody runs.
MOST_PAIRS = 1_000

#: Pairs that the Wilcoxon test needs for one of the t-test on normal differences (Pitman efficiency 3/pi).
WILCOXON_EFFICIENCY = 3 / np.pi


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


def minimum_detectable(deviation: float, n: int, *, alpha: float = ALPHA) -> float:
    """Smallest true mean difference that ``n`` pairs would show with ``POWER``.

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
        lambda d: power_of_t(d, 1.0, effective, alpha) - POWER, 1e-3, 1e3, xtol=1e-4
    )
    return float(size * deviation)


def pairs_to_decide(mean: float, deviation: float, *, alpha: float = ALPHA) -> int | None:
    """Pairs that would show a true difference as large as the observed one; None above ``MOST_PAIRS``."""
    if mean == 0 or not np.isfinite(mean) or not np.isfinite(deviation):
        return None
    least = next(n for n in range(MIN_PAIRS, 64) if smallest_p(n) <= alpha)

    def enough(n: int) -> bool:
        return power_of_t(mean, deviation, int(n * WILCOXON_EFFICIENCY), alpha) >= POWER

    if enough(least):
        return least
    if not enough(MOST_PAIRS):
        return None
    low, high = least, MOST_PAIRS  # enough(high) and not enough(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


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
    # In order of size the place is the rank: drawn numbers have no ties.
    ascending = np.abs(drawn).argsort(axis=1)
    above = np.take_along_axis(drawn > 0, ascending, axis=1)
    positive = np.where(above, np.arange(1, n + 1), 0).sum(axis=1)
    total = n * (n + 1) // 2
    limit = largest_decisive_sum(n, alpha)
    verdicts = np.where(positive <= limit, -1, np.where(total - positive <= limit, 1, 0))
    return float(np.mean(verdicts == decided))


test_replication.__test__ = False  # type: ignore[attr-defined] # no test, whatever its name
