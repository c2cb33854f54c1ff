"""Test figures at chosen numbers of labels: the table of a paper, with its tests.

Strategies x (data set, number of labels): mean and standard deviation over seeds, who is best, and who
differs significantly from the reference. Each column is a family of tests (``docs/protocol.md``): with all
cells in one, ten seeds could not decide anything in a table of eleven strategies and four columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alharness.comparison.comparison import Comparison
from alharness.comparison.levels import tied
from alharness.comparison.paired_tests import PairedTest, n_corrected, paired_tests
from alharness.comparison.report import Report, Section
from alharness.comparison.series import Series, asked_of, paired
from alharness.errors import UserError
from alharness.records import Run
from alharness.records.metrics import AXES, METRICS


@dataclass(frozen=True)
class Point:
    """One strategy at one number of labels.

    Attributes:
        strategy: its label.
        at: the number of labels (or annotations, or cost) that was asked for.
        runs: seeds that have a classifier there; 0 where none has.
        mean, deviation: of the test figure over them; NaN where there is none, or one seed.
        best: whether no other strategy has a better mean there.
        test: against the reference on shared seeds; None for the reference, and where there is none.
    """

    strategy: str
    at: float
    runs: int
    mean: float
    deviation: float
    best: bool
    test: PairedTest | None

    @property
    def mark(self) -> str:
        """``+`` significantly above the reference, ``-`` below, by the corrected test; else empty."""
        if self.test is None or not self.test.significant:
            return ""
        return "+" if self.test.direction > 0 else "-"


@dataclass(frozen=True)
class Points:
    """One data set's part of the table.

    Attributes:
        title: of the comparison.
        metric: test figure.
        words: the same in words.
        axis: name of the x-axis.
        at: the positions that were asked for and that some strategy has.
        rows: label -> one point for each of ``at``; the reference first.
        reference: label of what the others are tested against; empty without one.
        n_tests: most tests that Holm's correction runs over in a column.
        bound: figure of the fully supervised classifier; None when it was not run.
        headline: the first line of the comparison.
        remarks: what has to be read with it.
    """

    title: str
    metric: str
    words: str
    axis: str
    at: tuple[float, ...]
    rows: dict[str, tuple[Point, ...]]
    reference: str
    n_tests: int
    bound: float | None
    headline: str
    remarks: tuple[str, ...]


def points(report: Report, positions: Sequence[float]) -> list[Points]:
    """The table at chosen positions, one part per comparison that reaches one of them.

    A run's figure at a position is that of its last classifier trained with no more; nothing is interpolated,
    and where that is not exactly the position, a remark says so.

    Args:
        report: the comparisons, worked out.
        positions: numbers of labels, in the order of the columns.

    Raises:
        UserError: a position that is no number above 0, or that no run reaches, or a test figure that is
            not defined.
    """
    axis = report.axis
    wanted = list(dict.fromkeys(positions))
    odd = [at for at in wanted if not (math.isfinite(at) and at > 0)]
    if odd or not wanted:
        raise UserError(
            f"Expected numbers of labels above 0, such as 100,200,500; found {odd[0] if odd else 'none'}."
        )
    sections = [section for section in report.sections if section.comparison.series]
    parts = [_points(section, wanted, axis, report.looks) for section in sections]
    # A data set that does not reach a position leaves its column out; one that none reaches is refused.
    reached = {at for part in parts for at in part.at}
    if missed := [at for at in wanted if at not in reached]:
        ranges = "; ".join(_range(s.comparison, axis) for s in sections) or "no run is finished"
        raise UserError(
            f"No run has a classifier at {missed[0]:.12g} {AXES[axis][1]}: {ranges}. Choose other positions."
        )
    return [part for part in parts if part.at]


def _range(comparison: Comparison, axis: str) -> str:
    low = min(run.x(axis)[0] for run in comparison.runs)
    high = max(run.x(axis)[-1] for run in comparison.runs)
    return f"{comparison.title} goes from {low:.12g} to {high:.12g}"


def _points(section: Section, wanted: Sequence[float], axis: str, looks: int) -> Points:
    comparison, metric, reference = section.comparison, section.metric, section.reference
    comparison.require_defined(metric)
    values = {
        (series.label, at): {
            pair: value
            for pair, run in series.by_pair.items()
            if (value := _value(run, axis, metric, at)) is not None
        }
        for series in comparison.series
        for at in wanted
    }
    at_all = tuple(at for at in wanted if any(values[s.label, at] for s in comparison.series))
    tests = {at: _tests(comparison, values, at, reference, looks) for at in at_all}
    order = sorted(comparison.series, key=lambda series: series is not reference)  # stable
    best = {at: _best(comparison.series, values, at, METRICS[metric].better) for at in at_all}
    rows = {
        series.label: tuple(
            _point(series.label, at, values[series.label, at], series.label in best[at],
                   tests[at].get(series.label))
            for at in at_all
        )
        for series in order
    }  # fmt: skip
    return Points(
        comparison.title,
        metric,
        comparison.words(metric),
        axis,
        at_all,
        rows,
        reference.label if reference is not None else "",
        max((n_corrected(column.values()) for column in tests.values()), default=0),
        comparison.bound(metric),
        section.headline,
        tuple(_remarks(comparison, axis, at_all, values)),
    )


def _value(run: Run, axis: str, metric: str, at: float) -> float | None:
    """The figure of the last classifier trained with no more than ``at``; None outside of the run."""
    x = run.x(axis)
    most = at * (1 + 1e-12)  # a cost is a sum of fractions
    if most < x[0] or x[-1] * (1 + 1e-12) < at:
        return None
    return float(run.y(metric)[np.flatnonzero(x <= most)[-1]])


def _tests(
    comparison: Comparison,
    values: dict[tuple[str, float], dict[tuple[int, int], float]],
    at: float,
    reference: Series | None,
    looks: int,
) -> dict[str, PairedTest]:
    """Paired tests of a column against the reference: each column is a family."""
    if reference is None:
        return {}
    differences, same = {}, {}
    for series in comparison.series:
        own, other = values[series.label, at], values[reference.label, at]
        pairs = [pair for pair in paired(series, reference) if pair in own and pair in other]
        if series is reference or not pairs:
            continue
        differences[series.label] = [own[pair] - other[pair] for pair in pairs]
        same[series.label] = asked_of(series)  # copies of a strategy are one comparison
    return paired_tests(differences, same=same, looks=looks)


def _best(
    members: Sequence[Series],
    values: dict[tuple[str, float], dict[tuple[int, int], float]],
    at: float,
    better: str,
) -> set[str]:
    """Who has the best mean; none where there is nobody to be better than, or means rest on other seeds."""
    there = {s.label: values[s.label, at] for s in members if values[s.label, at]}
    if len(there) < 2 or len({frozenset(each) for each in there.values()}) > 1:
        return set()
    means = tied([float(np.mean(list(each.values()))) for each in there.values()])
    top = means.min() if better == "less" else means.max()
    return {label for label, mean in zip(there, means, strict=True) if mean == top}


def _point(
    label: str,
    at: float,
    values: dict[tuple[int, int], float],
    best: bool,
    test: PairedTest | None,
) -> Point:
    each = np.array(list(values.values()))
    return Point(
        label,
        at,
        len(each),
        float(each.mean()) if len(each) else float("nan"),
        float(each.std(ddof=1)) if len(each) > 1 else float("nan"),
        best,
        test,
    )


def _remarks(
    comparison: Comparison,
    axis: str,
    positions: Sequence[float],
    values: dict[tuple[str, float], dict[tuple[int, int], float]],
) -> list[str]:
    told = [why] if (why := comparison.why_no_ranking()) else []
    told += comparison.notes
    for at in positions:
        used = sorted(
            {
                float(run.x(axis)[run.x(axis) <= at * (1 + 1e-12)][-1])
                for series in comparison.series
                for pair, run in series.by_pair.items()
                if pair in values[series.label, at]
            }
        )
        if any(abs(x - at) > 1e-9 * at for x in used):
            told.append(
                f"Not every run has a classifier of exactly {at:.12g} {AXES[axis][1]}: the last one with no "
                f"more counts ({', '.join(f'{x:.12g}' for x in used[:4])}{', ...' if used[4:] else ''})."
            )
        seeds = {label: len(values[label, at]) for label in (s.label for s in comparison.series)}
        if len({frozenset(values[label, at]) for label in seeds}) > 1:
            told.append(
                f"At {at:.12g} strategies rest on different seeds "
                f"({', '.join(f'{label} {n}' for label, n in seeds.items())}): none is marked as best."
            )
    return told
