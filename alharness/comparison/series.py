"""Runs of one strategy that belong together, pairs among them, and the range that curves share."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from alharness.records import Run
from alharness.records.runs import Array, Pair

#: Prepared things that are trained once and shared by all runs that ask for the same ones.
SHARED = ("generator", "autoencoder")


#: Behind the name of a curve that no strategy can have (``Comparison.upper``).
UPPER = "(bound: it looked at the test set's labels)"


@dataclass(frozen=True)
class Series:
    """One strategy of a comparison: its finished runs, at most one per pair of seeds.

    Attributes:
        label: what it is called in tables and figures.
        strategy: its name without parameters.
        runs: its runs, by seeds.
        name: its name with what tells it from others; the label, unless the user gave another one.
    """

    label: str
    strategy: str
    runs: tuple[Run, ...]
    name: str

    @cached_property
    def by_pair(self) -> dict[Pair, Run]:
        return {run.pair: run for run in self.runs}

    def curves(self, axis: str, metric: str) -> tuple[Array, Array]:
        """Positions ``[K]`` and values ``[R, K]`` of all runs on a shared grid."""
        grid = shared_grid(self.runs, axis)
        rows = [np.interp(grid, run.x(axis), run.y(metric)) for run in self.runs]
        return grid, np.array(rows)


def asked_of(series: Series) -> Hashable:
    """Equal for strategies that asked the same in every cycle of every run: they are one comparison."""
    return tuple((pair, series.by_pair[pair].course) for pair in sorted(series.by_pair))


def unit_of(series: Series) -> str:
    """What all runs of a strategy share, so that their seeds are no repeats of it; empty for nothing."""
    shared = []
    for name in SHARED:
        keys = [{e.key for e in run.preparation if e.name == name} for run in series.runs]
        together = set().union(*keys)
        if len(together) == 1 and all(keys) and len(keys) > 1:
            shared.append(name)
    if not shared:
        return ""
    return f"one {' and one '.join(shared)} for all {len(series.runs)} runs"


@dataclass(frozen=True)
class LeftOut:
    """A run that takes no part, and why."""

    run: str
    state: str
    reason: str


def paired(first: Series, second: Series) -> list[Pair]:
    """Pairs of seeds that both finished from the same labelled set."""
    return [
        pair
        for pair in sorted(set(first.by_pair) & set(second.by_pair))
        if first.by_pair[pair].start == second.by_pair[pair].start
    ]


def shared_grid(runs: Sequence[Run], axis: str) -> Array:
    """Every position that some run was evaluated at, within the range that all runs cover, ``[K]``.

    Runs of one schedule share their positions and nothing is interpolated; where an oracle rejects
    items, or a line is many labels, positions differ and curves are read off linearly between them.
    """
    positions = [run.x(axis) for run in runs]
    low = max(x[0] for x in positions)
    high = min(x[-1] for x in positions)
    grid = np.unique(np.concatenate(positions))
    shared: Array = grid[(grid >= low) & (grid <= high)]
    return shared


def area(x: Array, y: Array) -> float:
    """Mean height of a curve: area under it by trapezoids over the length of x (AUBC).

    Args:
        x: ascending positions ``[K]``.
        y: values there ``[K]``.
    """
    # One position has a height and no area; whoever needs an area asks has_area first.
    if len(x) < 2 or x[-1] == x[0]:
        return float(y[-1])
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def gaps(first: Series, second: Series, axis: str, metric: str) -> tuple[Array, Array]:
    """Positions ``[K]`` and differences of the curves ``[n, K]`` over pairs; both empty without a pair."""
    pairs = paired(first, second)
    ones, others = ([series.by_pair[pair] for pair in pairs] for series in (first, second))
    if not pairs:
        return np.empty(0), np.empty((0, 0))
    grid = shared_grid([*ones, *others], axis)
    return grid, np.array(
        [
            np.interp(grid, a.x(axis), a.y(metric)) - np.interp(grid, b.x(axis), b.y(metric))
            for a, b in zip(ones, others, strict=True)
        ]
    )


def gains_over(
    reference: Series | None, members: Sequence[Series], axis: str, metric: str
) -> dict[str, tuple[Array, Array]]:
    """``gaps`` to the reference, by label, of those others that have pairs with it."""
    if reference is None:
        return {}
    found = {s.label: gaps(s, reference, axis, metric) for s in members if s is not reference}
    return {label: (grid, values) for label, (grid, values) in found.items() if len(grid)}


@dataclass(frozen=True)
class Covered:
    """The range of an axis that all runs cover: what areas are taken over.

    Attributes:
        low, high: its ends; there is no area where they do not lie apart.
        least, most: where the first run begins, and where the longest ends.
        begins, ends: a run that begins at ``low``, and one that ends at ``high``.
        n_ends: runs that end there.
    """

    low: float
    high: float
    least: float
    most: float
    begins: Run
    ends: Run
    n_ends: int

    @property
    def has_area(self) -> bool:
        return self.high > self.low

    @property
    def shortened(self) -> bool:
        """Whether some run was evaluated outside of it."""
        return (self.low, self.high) != (self.least, self.most)


def covered(runs: Sequence[Run], axis: str) -> Covered:
    """The range of an axis that all runs cover; at least one run."""
    # A cost is a sum of fractions: its last bits are no position of their own.
    firsts = [float(f"{run.x(axis)[0]:.12g}") for run in runs]
    lasts = [float(f"{run.x(axis)[-1]:.12g}") for run in runs]
    low, high = max(firsts), min(lasts)
    begins, ends = runs[firsts.index(low)], runs[lasts.index(high)]
    return Covered(low, high, min(firsts), max(lasts), begins, ends, lasts.count(high))
