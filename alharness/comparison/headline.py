"""The first line of a comparison: what a reader wants to know, in one sentence.

"margin needs 80 annotations where random needs 200 (test accuracy 0.9837); not decided, about 12 more seeds
would decide". The count is a median over seeds and no test; what is decided is the paired test of the area,
with the correction of the table (``docs/protocol.md``, "What decides a verdict").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from alharness.comparison import metrics
from alharness.comparison.comparison import Comparison
from alharness.comparison.levels import ALPHA, MIN_PAIRS
from alharness.comparison.metrics import ResultRow
from alharness.comparison.paired_tests import PairedTest
from alharness.comparison.series import Series
from alharness.records.metrics import AXES, METRICS


def saved(
    comparison: Comparison, reference: Series | None, axis: str, metric: str
) -> tuple[float, float, dict[str, float]]:
    """Who reaches with fewer labels what the reference has at its end; no bound is needed.

    Returns:
        the level, where the reference has it, and strategy -> the median position over seeds at which it is
        there; only those that need fewer, fewest first.
    """
    nothing: tuple[float, float, dict[str, float]] = (float("nan"), float("nan"), {})
    if reference is None or METRICS[metric].better == "less":
        return nothing
    if not comparison.has_areas(axis, metric):
        return nothing
    grid, values = reference.curves(axis, metric)
    level, end = float(values[:, -1].mean()), float(grid[-1])
    needs = {
        series.label: metrics.median_reached(series, axis, metric, level)
        for series in comparison.series
        if series is not reference
    }
    # Where there is nothing to reach (the first labels do), nobody saves any.
    fewer = {label: n for label, n in needs.items() if grid[0] < n < end}
    return level, end, dict(sorted(fewer.items(), key=lambda item: item[1]))


def headline(
    comparison: Comparison,
    rows: Sequence[ResultRow],
    reference: Series | None,
    axis: str,
    metric: str,
) -> str:
    """The sentence; empty where there is nothing to compare.

    Args:
        rows: the table of results.
        reference: what the others are tested against; None where it was not run.
        axis, metric: as for the table.
    """
    tests = {row.label: row.against for row in rows if row.against is not None}
    if reference is None or not tests or not comparison.has_areas(axis, metric):
        return ""
    level, end, fewer = saved(comparison, reference, axis, metric)
    sign = -1.0 if METRICS[metric].better == "less" else 1.0

    def ahead(label: str) -> float:
        mean = tests[label].mean
        return sign * mean if math.isfinite(mean) else -math.inf

    words = comparison.words(metric)
    if fewer:
        # Of several that need as few, the one that is ahead over the whole range.
        first = min(
            (label for label in fewer if label in tests), key=lambda x: (fewer[x], -ahead(x))
        )
        n = len(comparison.find(first).runs)
        seeds = "one seed" if n == 1 else f"medians over {n} seeds"
        return (
            f"{first} needs {fewer[first]:.12g} {AXES[axis][1]} where {reference.label} needs {end:.12g} "
            f"({words} {level:.4f}; {seeds}); {decided(tests[first], reference.label)}."
        )
    best = max(tests, key=ahead)
    if not ahead(best) > 0:
        return f"No strategy is ahead of {reference.label} in {words} over the whole range."
    return (
        f"No strategy needs fewer {AXES[axis][1]} than {reference.label} for what that has at its end; over "
        f"the whole range {best} is ahead by {abs(tests[best].mean):.4f} of {words}: "
        f"{decided(tests[best], reference.label)}."
    )


def decided(test: PairedTest, reference: str) -> str:
    """What the paired test of the area says, and else how many more seeds would."""
    if test.significant:
        side = "above" if test.direction > 0 else "below"
        return f"its curve is significantly {side} that of {reference}"
    if test.n < MIN_PAIRS:
        pairs = "1 pair of seeds decides" if test.n == 1 else f"{test.n} pairs of seeds decide"
        return f"{pairs} nothing, {MIN_PAIRS} are the fewest that can"
    if test.contradictory:
        return "mean and ranks of the pairs disagree, and nothing is decided"
    more = test.more_pairs
    if more is None:
        return (
            "not decided, and no reachable number of seeds would decide a difference of this size"
        )
    seeds = "one more seed" if more == 1 else f"about {more} more seeds"
    few = " (so few pairs cannot pass so many comparisons)" if test.smallest > ALPHA else ""
    return f"not decided{few}; {seeds} would decide a difference of this size"
