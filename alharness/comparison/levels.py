"""What all tests of a comparison agree on: the level, the fewest pairs, and which numbers are equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from alharness.records.runs import Array

#: Level of all tests and intervals.
ALPHA = 0.05

#: Fewest pairs for the word "significant": a two-sided Wilcoxon test of 5 pairs cannot go below .0625 (R11).
MIN_PAIRS = 6

#: Fewest values for an interval of a mean. Student's t would be right from two on, and say nothing.
MIN_INTERVAL = 5

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
