"""Figures of a learning curve and of pairs of curves: plain functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alharness.comparison.comparison import Comparison, Series, paired, shared_grid
from alharness.comparison.runs import LOSSES, Array, Run
from alharness.comparison.statistics import ALPHA, MIN_PAIRS, PairedTest, paired_tests

#: Shares of the fully supervised bound that "labels to reach" is asked for.
TARGETS = (0.95, 0.98, 0.99)

#: A class with a smaller share than this of an even split makes a task imbalanced.
IMBALANCE = 0.6


def area(x: Array, y: Array) -> float:
    """Mean height of a curve: area under it by trapezoids over the length of x (AUBC).

    Args:
        x: ascending positions ``[K]``.
        y: values there ``[K]``.
    """
    if len(x) < 2 or x[-1] == x[0]:
        return float(y[-1])
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def first_reached(x: Array, y: Array, target: float) -> float:
    """First position at which the curve is at or above ``target``; infinite when it never is.

    Positions are those that were evaluated: nothing is interpolated between two classifiers.
    """
    reached = np.flatnonzero(y >= target)
    return float(x[reached[0]]) if len(reached) else float("inf")


def median_reached(series: Series, axis: str, metric: str, target: float) -> float:
    """Median over seeds of ``first_reached``; infinite when half of the seeds or more never do."""
    each = sorted(first_reached(run.x(axis), run.y(metric), target) for run in series.runs)
    middle = len(each) // 2
    if len(each) % 2:
        return each[middle]
    return (each[middle - 1] + each[middle]) / 2


@dataclass(frozen=True)
class Row:
    """One strategy in the table of results.

    Attributes:
        label: the strategy.
        n: its finished runs.
        rank: place by area under the curve over the shared seeds; None when there is no ranking.
        aubc, aubc_low, aubc_high: mean area under the curve and its bootstrap interval.
        final, final_low, final_high: mean test figure of the last cycle.
        reached: share of the bound -> median position at which it was reached.
        efficiency: share of the bound -> the baseline's position over this one's.
        against: test of the area against the baseline's; None for the baseline.
        figures: further mean test figures of the last cycle.
        select_s, preparation_s: mean seconds per selection, and to build what it needs beforehand.
        entropy: mean entropy of what was asked (nats).
        synthetic: mean share of synthetic items among the labels of the last cycle.
    """

    label: str
    n: int
    rank: int | None
    aubc: float
    aubc_low: float
    aubc_high: float
    final: float
    final_low: float
    final_high: float
    reached: Mapping[float, float]
    efficiency: Mapping[float, float]
    against: PairedTest | None
    figures: Mapping[str, float]
    select_s: float
    preparation_s: float
    entropy: float
    synthetic: float

    @staticmethod
    def columns() -> list[str]:
        """Names of ``values``."""
        shares = [f"{100 * target:.0f}" for target in TARGETS]
        return [
            *("strategy", "runs", "rank", "aubc", "aubc_low", "aubc_high"),
            *("final", "final_low", "final_high"),
            *(f"reached_{share}" for share in shares),
            *(f"efficiency_{share}" for share in shares),
            *("pairs", "difference", "difference_low", "difference_high", "p", "p_holm"),
            *("detectable", "more_pairs", "accuracy", "balanced_accuracy", "macro_f1"),
            *("average_precision", "select_s", "preparation_s", "entropy", "synthetic_share"),
        ]

    def values(self) -> dict[str, str | float]:
        """Everything as plain values; empty where there is none."""
        test = self.against
        given: dict[str, str | float | None] = {
            **self.figures,
            "strategy": self.label,
            "runs": self.n,
            "rank": self.rank,
            "aubc": self.aubc,
            "aubc_low": self.aubc_low,
            "aubc_high": self.aubc_high,
            "final": self.final,
            "final_low": self.final_low,
            "final_high": self.final_high,
            **{f"reached_{100 * share:.0f}": value for share, value in self.reached.items()},
            **{f"efficiency_{100 * share:.0f}": value for share, value in self.efficiency.items()},
            "select_s": self.select_s,
            "preparation_s": self.preparation_s,
            "entropy": self.entropy,
            "synthetic_share": self.synthetic,
        }
        if test is not None:
            given |= {
                "pairs": test.n,
                "difference": test.mean,
                "difference_low": test.low,
                "difference_high": test.high,
                "p": test.p,
                "p_holm": test.p_holm,
                "detectable": test.detectable,
                "more_pairs": test.more_pairs,
            }
        filled = {name: given.get(name) for name in self.columns()}
        # None and NaN alike: a number that does not exist is an empty cell.
        return {name: "" if v is None or v != v else v for name, v in filled.items()}


def table(
    comparison: Comparison,
    *,
    axis: str = "queries",
    metric: str = "accuracy",
    against: str | None = None,
) -> list[Row]:
    """The table of results: ranked best first where a ranking is allowed, else in order of names.

    Args:
        comparison: finished runs of one task.
        axis: x-axis for areas and positions.
        metric: test figure.
        against: label of the strategy that others are tested against; the random baseline by default.
    """
    from alharness.comparison.statistics import interval

    reference = comparison.find(against) if against is not None else comparison.baseline
    areas = run_areas(comparison, axis, metric)
    tests = paired_tests(
        {
            series.label: differences(series, reference, areas)
            for series in comparison.series
            if reference is not None and series is not reference
        }
    )
    ranks = ranking(comparison, areas, metric)
    bound = comparison.bound(metric)
    targets = TARGETS if bound is not None and metric not in LOSSES else ()
    rows = []
    for series in comparison.series:
        own = np.array([areas[id(run)] for run in series.runs])
        last = np.array([run.y(metric)[-1] for run in series.runs])
        reached = {t: median_reached(series, axis, metric, t * (bound or 0.0)) for t in targets}
        rows.append(
            Row(
                series.label,
                len(series.runs),
                ranks.get(series.label),
                float(own.mean()),
                *interval(own),
                float(last.mean()),
                *interval(last),
                reached,
                {
                    t: _ratio(
                        median_reached(reference, axis, metric, t * (bound or 0.0)), reached[t]
                    )
                    for t in targets
                    if reference is not None
                },
                tests.get(series.label),
                {
                    name: float(np.mean([run.y(name)[-1] for run in series.runs]))
                    for name in ("accuracy", "balanced_accuracy", "macro_f1", "average_precision")
                },
                select_seconds(series),
                float(np.mean([run.preparation_s for run in series.runs])),
                mean_entropy(series),
                float(
                    np.mean(
                        [r.records[-1].n_synthetic / r.records[-1].n_labelled for r in series.runs]
                    )
                ),
            )
        )
    return sorted(rows, key=lambda row: (row.rank if row.rank is not None else 0, row.label))


def _ratio(reference: float, own: float) -> float:
    """How many times fewer labels; NaN when the strategy itself never got there."""
    return reference / own if np.isfinite(own) else float("nan")


def run_areas(comparison: Comparison, axis: str, metric: str) -> dict[int, float]:
    """Area under the curve of every run over the range that all runs cover, by ``id(run)``."""
    runs = comparison.runs
    if not runs:
        return {}
    grid = shared_grid(runs, axis)
    if len(grid) == 0:  # no shared range: each by itself
        return {id(run): area(run.x(axis), run.y(metric)) for run in runs}
    return {id(run): area(grid, np.interp(grid, run.x(axis), run.y(metric))) for run in runs}


def differences(first: Series, second: Series, areas: Mapping[int, float]) -> Array:
    """Difference of areas per pair, ``[n]``."""
    return np.array(
        [
            areas[id(first.by_pair[pair])] - areas[id(second.by_pair[pair])]
            for pair in paired(first, second)
        ]
    )


def ranking(comparison: Comparison, areas: Mapping[int, float], metric: str) -> dict[str, int]:
    """Places by mean area over the seeds that all strategies share; empty when it is not allowed."""
    pairs = comparison.common_pairs()
    if not comparison.can_rank or not pairs:
        return {}
    sign = 1 if metric in LOSSES else -1
    means = {
        series.label: sign * float(np.mean([areas[id(series.by_pair[pair])] for pair in pairs]))
        for series in comparison.series
    }
    return {label: place for place, label in enumerate(sorted(means, key=means.__getitem__), 1)}


def select_seconds(series: Series) -> float:
    """Mean seconds per selection; the first of each run is left out where there are others (warm-up)."""
    each = []
    for run in series.runs:
        taken = [r.time.select_s for r in run.records if r.time.select_s is not None]
        each += taken[1:] or taken
    return float(np.mean(each)) if each else float("nan")


def phase_seconds(series: Series) -> dict[str, float]:
    """Mean seconds per selection of every named phase."""
    totals: dict[str, float] = {}
    n = 0
    for run in series.runs:
        asked = [record for record in run.records if record.time.select_s is not None]
        for record in asked[1:] or asked:
            n += 1
            for name, seconds in record.time.phases.items():
                totals[name] = totals.get(name, 0.0) + seconds
    return {name: seconds / n for name, seconds in totals.items()}


def work_per_query(series: Series) -> dict[str, float]:
    """Mean of every work counter per selection: exact, and the same on every machine."""
    totals: dict[str, float] = {}
    n = 0
    for run in series.runs:
        for record in run.records:
            if record.query is not None:
                n += 1
                for name, count in record.work.items():
                    totals[name] = totals.get(name, 0.0) + count
    return {name: count / n for name, count in totals.items()}


def total_seconds(run: Run, *, preparation_s: float) -> Array:
    """Seconds that a person waits until the classifier of each cycle exists, ``[K]``.

    Building what the strategy needs, all selections before, all trainings so far; without evaluation
    and annotation. Preparation counts in full even where this run found it ready made.
    """
    fits = np.cumsum([record.time.fit_s for record in run.records])
    selections = np.cumsum([0.0, *(record.time.select_s or 0.0 for record in run.records[:-1])])
    total: Array = preparation_s + fits + selections
    return total


def break_even(first: Series, second: Series) -> float:
    """Cycles after which ``first``, dear to prepare, has cost less than ``second`` (Fig. 6b).

    0 when it is cheaper from the start, infinite when it never is.
    """
    extra = float(
        np.mean([run.preparation_s for run in first.runs])
        - np.mean([run.preparation_s for run in second.runs])
    )
    saved = select_seconds(second) - select_seconds(first)
    if extra <= 0:
        return 0.0 if saved >= 0 else float("nan")
    return float(np.ceil(extra / saved)) if saved > 0 else float("inf")


def mean_entropy(series: Series) -> float:
    """Mean entropy (nats) of all queries of all runs, each item counting once."""
    total, n = 0.0, 0
    for run in series.runs:
        for record in run.records:
            if record.query is not None:
                total += record.query.entropy_mean * record.query.size
                n += record.query.size
    return total / n if n else float("nan")


def class_shares(series: Series) -> Array:
    """Share of every class among the labels that were asked for, ``[C]``; empty when none were."""
    counts = [
        record.annotation.class_histogram
        for run in series.runs
        for record in run.records
        if record.annotation is not None
    ]
    if not counts:
        return np.empty(0)
    summed = np.sum(np.array(counts, dtype=np.float64), axis=0)
    shares: Array = summed / max(summed.sum(), 1.0)
    return shares


def majority_accuracy(comparison: Comparison) -> float | None:
    """Accuracy of always naming the largest class of the test set, where the records tell it."""
    for run in [*comparison.bounds, *comparison.runs]:
        counts = run.environment.get("task", {}).get("test_counts")
        if counts:
            return float(max(counts) / sum(counts))
    return None


def is_imbalanced(comparison: Comparison) -> bool:
    """Whether accuracy alone would hide something (R7)."""
    for run in [*comparison.bounds, *comparison.runs]:
        counts = run.environment.get("task", {}).get("test_counts")
        if counts:
            return bool(min(counts) < IMBALANCE * sum(counts) / len(counts))
    return False


@dataclass(frozen=True)
class Penalties:
    """Pairwise penalty matrix (Ash et al. 2020).

    Attributes:
        labels: strategies.
        matrix: ``[S, S]``: share of the evaluated positions at which the row beats the column.
        n_pairs: fewest pairs of seeds behind an entry.
    """

    labels: tuple[str, ...]
    matrix: NDArray[np.float64]
    n_pairs: int

    @property
    def losses(self) -> Array:
        """Mean of every column: how often a strategy is beaten, less is better."""
        k = len(self.labels)
        beaten: Array = self.matrix.sum(axis=0) / max(k - 1, 1)
        return beaten


def penalties(
    comparison: Comparison, *, axis: str = "queries", metric: str = "accuracy", alpha: float = ALPHA
) -> Penalties | None:
    """How often each strategy beats each other one along the curves, by paired t-tests.

    A row gains 1/K against a column at each of the K shared positions after the start where the paired
    t statistic over seeds passes the two-sided critical value. None below six pairs, or when two
    strategies share no position.
    """
    members = comparison.series
    k = len(members)
    matrix = np.zeros((k, k))
    fewest = 10**9
    sign = -1.0 if metric in LOSSES else 1.0
    for i, first in enumerate(members):
        for j in range(i + 1, k):
            second = members[j]
            pairs = paired(first, second)
            fewest = min(fewest, len(pairs))
            if len(pairs) < MIN_PAIRS:
                return None
            ones = [first.by_pair[pair] for pair in pairs]
            others = [second.by_pair[pair] for pair in pairs]
            grid = shared_grid([*ones, *others], axis)[1:]
            if len(grid) == 0:
                return None
            gaps = sign * np.array(
                [
                    np.interp(grid, a.x(axis), a.y(metric))
                    - np.interp(grid, b.x(axis), b.y(metric))
                    for a, b in zip(ones, others, strict=True)
                ]
            )
            wins = beats(gaps, alpha)
            matrix[i, j] = float(np.mean(wins > 0))
            matrix[j, i] = float(np.mean(wins < 0))
    return Penalties(tuple(item.label for item in members), matrix, fewest) if k > 1 else None


def beats(gaps: Array, alpha: float = ALPHA) -> NDArray[np.int64]:
    """Sign of the mean difference per position where a paired t-test shows one, else 0.

    Args:
        gaps: differences ``[n pairs, K]``.
    """
    n = len(gaps)
    mean = gaps.mean(axis=0)
    error = gaps.std(axis=0, ddof=1) / np.sqrt(n)
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    signs: NDArray[np.int64] = np.where(np.abs(mean) > critical * error, np.sign(mean), 0).astype(
        int
    )
    return signs


def scores_over_tasks(
    found: Sequence[Comparison], *, axis: str = "queries", metric: str = "accuracy"
) -> tuple[list[str], dict[str, list[float]]]:
    """Mean areas of the strategies that every comparison holds: what Friedman's test works on.

    Returns:
        titles of the comparisons that allow a ranking, and strategy -> one score for each of them,
        larger is better.
    """
    usable = [comparison for comparison in found if comparison.can_rank]
    if not usable:
        return [], {}
    shared = set.intersection(*({s.label for s in c.series} for c in usable))
    sign = -1.0 if metric in LOSSES else 1.0
    scores: dict[str, list[float]] = {label: [] for label in sorted(shared)}
    for comparison in usable:
        areas = run_areas(comparison, axis, metric)
        members = [comparison.find(label) for label in scores]
        pairs = comparison.common_pairs(members)
        for series in members:
            runs = [series.by_pair[pair] for pair in pairs] or list(series.runs)
            scores[series.label].append(sign * float(np.mean([areas[id(run)] for run in runs])))
    return [comparison.title for comparison in usable], scores
