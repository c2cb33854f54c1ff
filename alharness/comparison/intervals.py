"""Intervals of means over a few seeds, over pairs, and over generators with seeds on each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from alharness.comparison.levels import ALPHA, MIN_INTERVAL, MIN_PAIRS, settled
from alharness.records.runs import Array


def interval(values: ArrayLike) -> tuple[float, float]:
    """Student's t interval of a mean, 95 %.

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
    reach = _quantile(n - 1) * deviation / np.sqrt(n)
    return mean - reach, mean + reach


@cache
def _quantile(degrees: int) -> float:
    """Of Student's t, two-sided: asked for thousands of times with one answer."""
    return float(stats.t.ppf((1 + (1 - ALPHA)) / 2, degrees))


def band(rows: ArrayLike) -> tuple[Array, Array]:
    """``interval`` of every column of ``[n, K]``: lower and upper ends, ``[K]`` each."""
    data = np.asarray(rows, dtype=np.float64)
    n = len(data)
    if n < MIN_INTERVAL:
        return np.full(data.shape[1], np.nan), np.full(data.shape[1], np.nan)
    mean: Array = data.mean(axis=0)
    reach = _quantile(n - 1) * settled(data.std(axis=0, ddof=1)) / np.sqrt(n)
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


def nested_interval(values: ArrayLike) -> Nested:
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
        _quantile(n - 1) ** 2 * square for n, square in ((n_outer, of_outer), (n_inner, of_inner))
    ]
    reach = np.sqrt(sum(widths) / data.size)
    between = np.sqrt(max(0.0, (of_outer - rest) / n_inner))
    return Nested(
        float(mean), float(mean - reach), float(mean + reach), n_outer, n_inner, float(between)
    )
