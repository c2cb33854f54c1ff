"""What paired tests say, in words that claim no more than they show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from alharness.comparison.comparison import Comparison
from alharness.comparison.headline import saved
from alharness.comparison.levels import ALPHA, MIN_PAIRS
from alharness.comparison.metrics import ResultRow
from alharness.comparison.paired_tests import PairedTest
from alharness.comparison.series import Series
from alharness.comparison.tables import number, p_value
from alharness.records.metrics import AXES


def sentences(rows: Sequence[ResultRow], reference: str, name: str) -> list[str]:
    """What the tests say, one sentence per strategy, largest difference first."""
    tested = [(row.label, row.against) for row in rows if row.against is not None]
    # What is largest is read first; what is not finite has no size and comes last.
    tested.sort(key=lambda item: -abs(item[1].mean) if math.isfinite(item[1].mean) else 0.0)
    return [sentence(label, reference, test, name) for label, test in tested]


def sentence(label: str, reference: str, test: PairedTest, name: str = "test accuracy") -> str:
    """A paired test in words that claim no more than it shows."""
    if test.n == 0:
        return f"{label} shares no seed with {reference}: nothing can be said."
    if test.p is None and test.n > 1:
        return f"{label} against {reference}: a difference is not a number, and nothing is tested."
    if test.mean == 0 and not test.deviation > 0:
        pairs = "pair" if test.n == 1 else "pairs"
        return f"{label} and {reference} are equal on {test.n} {pairs}."
    if test.contradictory:
        return _contradiction(label, reference, test)
    if test.mean == 0:
        return f"{label} and {reference} have equal means over {test.n} pairs that differ: not decided."
    ahead = "above" if test.mean > 0 else "below"
    size = f"{abs(test.mean):.4f}"
    if test.significant:
        return (
            f"{label} is {ahead} {reference} by {size} of mean {name} over the budget "
            f"({test.n} pairs, Holm p {p_value(test.p_holm)}{_again(test)}): significant."
        )
    text = (
        f"{label} is {ahead} {reference} by {size} on {test.n} {'pair' if test.n == 1 else 'pairs'}"
    )
    if test.n < MIN_PAIRS:
        return f"{text}: too few pairs to decide anything (at least {MIN_PAIRS} are needed)."
    # Not a matter of the data: no outcome of so many pairs could have passed.
    if test.smallest > ALPHA:
        return (
            f"{text}: with so many comparisons {test.n} pairs could not reach the level "
            f"(smallest possible p {p_value(test.smallest)}); {_more(test)}"
        )
    return (
        f"{text}: not decided (Holm p {p_value(test.p_holm)}). A true difference of "
        f"{number(test.detectable)} would have been found in four of five such experiments; {_more(test)}"
    )


def _again(test: PairedTest) -> str:
    """How far the verdict is one of these seeds."""
    if math.isnan(test.replication):
        return ""
    return f"; as many other seeds would say so again with probability {test.replication:.2f}"


def _contradiction(label: str, reference: str, test: PairedTest) -> str:
    """The ranks of the pairs pass the level on one side, and the mean lies on the other."""
    mean = (
        f"The mean of {label} is {'above' if test.mean > 0 else 'below'} {reference}'s by "
        f"{abs(test.mean):.4f}"
        if test.mean
        else f"The means of {label} and {reference} are equal"
    )
    side, n = ("above", test.above) if test.direction > 0 else ("below", test.below)
    return (
        f"{mean}, but {n} of {test.n} pairs are {side}, and so are their ranks (Holm p "
        f"{p_value(test.p_holm)}): a few pairs turn the mean, and nothing is significant. Look at the pairs."
    )


def _more(test: PairedTest) -> str:
    if test.more_pairs is None:
        return "no reachable number of seeds would decide a difference of this size."
    seeds = "one more seed" if test.more_pairs == 1 else f"about {test.more_pairs} more seeds"
    return f"{seeds} would decide one of the observed size."


def fewer_labels(
    comparison: Comparison, reference: Series | None, axis: str, metric: str
) -> list[str]:
    """How many labels do what the reference does with all of its own; no bound is needed."""
    level, end, fewer = saved(comparison, reference, axis, metric)
    if reference is None or not fewer:
        return []
    told = ", ".join(f"{label} {n:.0f}" for label, n in fewer.items())
    return [
        f"For the {comparison.words(metric)} that {reference.label} has at {end:.0f} {AXES[axis][1]} "
        f"({level:.4f}), others need (median over seeds; no test): {told}."
    ]
