"""Figures of a learning curve and of pairs of curves: plain functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alharness.comparison.comparison import Comparison
from alharness.comparison.intervals import interval
from alharness.comparison.levels import ALPHA, MIN_PAIRS, settled, tied
from alharness.comparison.paired_tests import PairedTest, paired_tests
from alharness.comparison.series import SHARED, Covered, Series, asked_of, gaps, paired
from alharness.records import Run
from alharness.records.metrics import METRICS, is_uneven
from alharness.records.runs import Array

#: Shares of the fully supervised bound that "labels to reach" is asked for.
TARGETS = (0.95, 0.98, 0.99)


def first_reached(x: Array, y: Array, target: float) -> float:
    """First position at which the curve is at or above ``target``; infinite when it never is.

    Positions are those that were evaluated: nothing is interpolated between two classifiers.
    """
    reached = np.flatnonzero(y >= target)
    return float(x[reached[0]]) if len(reached) else float("inf")


def median_reached(series: Series, axis: str, metric: str, target: float) -> float:
    """Median over seeds of ``first_reached``; infinite when half of the seeds or more never do."""
    each = sorted(first_reached(run.x(axis), run.y(metric), target) for run in series.runs)
    # By hand: numpy's median of two infinities, or of a number and one, is NaN.
    middle = len(each) // 2
    if len(each) % 2:
        return each[middle]
    return (each[middle - 1] + each[middle]) / 2


@dataclass(frozen=True)
class Contender:
    """One strategy within its comparison: what its figures of merit are computed from.

    Attributes:
        series: the strategy's runs.
        axis, metric: what is compared, along what.
        areas: area under the curve of each of its runs, ``[R]``; NaN where there is none.
        covered: what they are taken over.
        reference: what the others are tested against; None when there is no such strategy.
        reached: strategy -> median position at which each share of the bound (``TARGETS``) is reached; NaN
            where that means nothing.
        rank: place by area over the shared seeds; NaN when there is no ranking.
        against: test of the area against the reference's; None for the reference itself.
    """

    series: Series
    axis: str
    metric: str
    areas: Array
    covered: Covered
    reference: Series | None
    reached: Mapping[str, Mapping[float, float]]
    rank: float
    against: PairedTest | None

    def last(self, metric: str) -> Array:
        """A test figure of the last cycle of every run, ``[R]``."""
        return np.array([run.y(metric)[-1] for run in self.series.runs])

    def efficiency(self, share: float) -> float:
        """The reference's position over this one's: how many times fewer labels."""
        if self.reference is None:
            return float("nan")
        own = self.reached[self.series.label][share]
        # A strategy that never gets there has no such number.
        reference = self.reached[self.reference.label][share]
        return reference / own if np.isfinite(own) else float("nan")

    def test(self, name: str) -> float:
        """A figure of the paired test; NaN when there is none."""
        value = None if self.against is None else getattr(self.against, name)
        return float("nan") if value is None else value


@dataclass(frozen=True)
class Merit:
    """A figure of merit of one strategy.

    Attributes:
        description: what it is.
        function: its value; NaN where it is not defined, infinite where something never happens.
        better: whether more or less of it is better, as for the metric that is compared, or neither.
    """

    description: str
    function: Callable[[Contender], float]
    better: Literal["more", "less", "as the metric", "neither"] = "neither"


def _share(target: float) -> str:
    return f"{100 * target:.0f}"


#: The table of figures of merit, in the order of the CSV's columns.
MERITS: Mapping[str, Merit] = {
    "runs": Merit("finished runs", lambda s: len(s.series.runs)),
    "rank": Merit("place by area over the seeds that all share", lambda s: s.rank, "less"),
    "aubc": Merit("mean area under the curve", lambda s: float(s.areas.mean()), "as the metric"),
    "aubc_low": Merit("lower end of its interval", lambda s: interval(s.areas)[0]),
    "aubc_high": Merit("upper end of its interval", lambda s: interval(s.areas)[1]),
    "aubc_from": Merit("where the range of the area begins", lambda s: s.covered.low),
    "aubc_to": Merit("where the range of the area ends", lambda s: s.covered.high),
    "final": Merit(
        "mean figure of the last cycle", lambda s: float(s.last(s.metric).mean()), "as the metric"
    ),
    "final_low": Merit("lower end of its interval", lambda s: interval(s.last(s.metric))[0]),
    "final_high": Merit("upper end of its interval", lambda s: interval(s.last(s.metric))[1]),
    **{
        f"reached_{_share(t)}": Merit(
            f"median position at which {_share(t)} % of the bound is reached",
            lambda s, t=t: s.reached[s.series.label][t],  # type: ignore[misc]
            "less",
        )
        for t in TARGETS
    },
    **{
        f"efficiency_{_share(t)}": Merit(
            f"the reference's position over this one's at {_share(t)} % of the bound",
            partial(Contender.efficiency, share=t),
            "more",
        )
        for t in TARGETS
    },
    "pairs": Merit("pairs of seeds shared with the reference", lambda s: s.test("n")),
    "pairs_above": Merit("those with a larger area than the reference", lambda s: s.test("above")),
    "pairs_below": Merit("those with a smaller one", lambda s: s.test("below")),
    "difference": Merit(
        "mean paired difference of the area", lambda s: s.test("mean"), "as the metric"
    ),
    "difference_low": Merit("lower end of its interval", lambda s: s.test("low")),
    "difference_high": Merit("upper end of its interval", lambda s: s.test("high")),
    "p": Merit("exact Wilcoxon test", lambda s: s.test("p")),
    "p_holm": Merit("the same, by Holm's correction", lambda s: s.test("p_holm")),
    "replication": Merit(
        "probability that as many other seeds lead to the same verdict",
        lambda s: s.test("replication"),
    ),
    "detectable": Merit("smallest difference that would be found", lambda s: s.test("detectable")),
    "more_pairs": Merit("pairs of seeds still needed to decide", lambda s: s.test("more_pairs")),
    **{
        name: Merit(
            f"{METRICS[name].description} of the last cycle",
            lambda s, name=name: float(s.last(name).mean()),  # type: ignore[misc]
            METRICS[name].better,
        )
        for name in METRICS
    },
    "select_s": Merit("seconds per selection", lambda s: select_seconds(s.series), "less"),
    "preparation_s": Merit(
        "seconds to build what it needs beforehand",
        lambda s: float(np.mean([run.preparation_s for run in s.series.runs])),
        "less",
    ),
    "entropy": Merit("mean entropy of what was asked (nats)", lambda s: mean_entropy(s.series)),
    "synthetic_share": Merit(
        "share of synthetic items among the labels of the last cycle",
        lambda s: float(
            np.mean([(r.records.array("n_synthetic") / r.x("labels"))[-1] for r in s.series.runs])
        ),
    ),
}


@dataclass(frozen=True)
class ResultRow:
    """One strategy in the table of results.

    Attributes:
        label: the strategy.
        merits: all of ``MERITS``; NaN where one is not defined.
        against: test of the area against the reference's; None for the reference itself.
    """

    label: str
    merits: Mapping[str, float]
    against: PairedTest | None

    def __getitem__(self, name: str) -> float:
        return self.merits[name]

    @property
    def rank(self) -> int | None:
        """Its place; None when there is no ranking."""
        return None if np.isnan(self["rank"]) else int(self["rank"])

    def values(self) -> dict[str, str | float]:
        """Everything as plain values; empty where there is none."""
        return {
            "strategy": self.label,
            **{name: "" if np.isnan(value) else value for name, value in self.merits.items()},
        }


def table(
    comparison: Comparison,
    *,
    axis: str = "queries",
    metric: str = "accuracy",
    against: str | None = None,
    looks: int = 1,
) -> list[ResultRow]:
    """The table of results: ranked best first where a ranking is allowed, else in order of names.

    Args:
        comparison: finished runs of one task.
        axis: x-axis for areas and positions.
        metric: test figure.
        against: label of the strategy that others are tested against; the random baseline by default.
        looks: how often results were looked at while seeds were added; see ``paired_tests``.
    """
    if not comparison.series:
        return []
    reference = comparison.reference(against)
    areas = comparison.areas(axis, metric)
    # Without a range that all share there is no area, hence no test and no place.
    comparable = comparison.has_areas(axis, metric)
    others = [s for s in comparison.series if s is not reference and comparable]
    tests = paired_tests(
        {s.label: differences(s, reference, areas) for s in others if reference is not None},
        same={s.label: asked_of(s) for s in others},
        looks=looks,
    )
    ranks = ranking(comparison, areas, metric) if comparable else {}
    reached = {s.label: _reached(comparison, s, axis, metric) for s in comparison.series}
    rows = []
    for series in comparison.series:
        contender = Contender(
            series,
            axis,
            metric,
            np.array([areas[id(run)] for run in series.runs]),
            comparison.covered(axis),
            reference,
            reached,
            ranks.get(series.label, float("nan")),
            tests.get(series.label),
        )
        merits = {name: merit.function(contender) for name, merit in MERITS.items()}
        rows.append(ResultRow(series.label, merits, contender.against))
    # Without places by name: no order is suggested that was not found.
    return sorted(rows, key=lambda row: (row.rank or 0, row.label))


def _reached(comparison: Comparison, series: Series, axis: str, metric: str) -> dict[float, float]:
    """Share of the bound -> median position at which it is reached; NaN where that means nothing."""
    bound = comparison.bound(metric)
    if bound is None or METRICS[metric].better == "less":
        return dict.fromkeys(TARGETS, float("nan"))
    return {share: median_reached(series, axis, metric, share * bound) for share in TARGETS}


def differences(first: Series, second: Series, areas: Mapping[int, float]) -> Array:
    """Difference of areas per pair, ``[n]``."""
    return np.array(
        [
            areas[id(first.by_pair[pair])] - areas[id(second.by_pair[pair])]
            for pair in paired(first, second)
        ]
    )


def ranking(comparison: Comparison, areas: Mapping[int, float], metric: str) -> dict[str, int]:
    """Places by mean area over the seeds that all strategies share; empty when it is not allowed.

    Strategies that only rounding tells apart share the best of their places: 1, 2, 2, 4.
    """
    pairs = comparison.common_pairs()
    if not comparison.can_rank or not pairs or not comparison.defines(metric):
        return {}
    sign = 1 if METRICS[metric].better == "less" else -1
    means = [
        sign * float(np.mean([areas[id(series.by_pair[pair])] for pair in pairs]))
        for series in comparison.series
    ]
    # Means that differ in their last bit by the order of summing are equal.
    places = stats.rankdata(tied(means), method="min")
    return {
        series.label: int(place) for series, place in zip(comparison.series, places, strict=True)
    }


def select_seconds(series: Series) -> float:
    """Mean seconds per selection; the first of each session is left out where there are others."""
    each: list[float] = []
    for run in series.runs:
        seconds = run.records.column("time.select_s")
        # The first selection of a session pays for libraries and captures.
        each += [seconds[place] or 0.0 for place in run.records.timed]
    return float(np.mean(each)) if each else float("nan")


def phase_seconds(series: Series) -> dict[str, float]:
    """Mean seconds per selection of every named phase."""
    return _means(series, "time.phases", lambda run: run.records.timed)


def work_per_query(series: Series) -> dict[str, float]:
    """Mean of every work counter per selection: exact, and the same on every machine."""
    return _means(
        series,
        "work",
        lambda run: [p for p, n in enumerate(run.records.column("query.size")) if n is not None],
    )


def _means(series: Series, field: str, cycles: Callable[[Run], Sequence[int]]) -> dict[str, float]:
    """Mean over some cycles of each run of what a field holds by name; what a cycle lacks is 0 in it."""
    totals: dict[str, float] = {}
    n = 0
    for run in series.runs:
        places = cycles(run)
        n += len(places)
        for name, column in run.records.by_name(field).items():
            values = [column[place] for place in places if column[place] is not None]
            # A name that no cycle has is none.
            if values:
                totals[name] = sum(values, totals.get(name, 0.0))
    return {name: total / n for name, total in totals.items()}


def total_seconds(run: Run, *, preparation_s: float) -> Array:
    """Seconds that a person waits until the classifier of each cycle exists, ``[K]``.

    Building what the strategy needs, all selections before, all trainings so far; without evaluation
    and annotation. Preparation counts in full even where this run found it ready made.
    """
    # The classifier of cycle k waits for k + 1 fits, and for the k selections before it.
    fits = np.cumsum(run.records.column("time.fit_s"))
    selections = np.cumsum([0.0, *(s or 0.0 for s in run.records.column("time.select_s")[:-1])])
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
        entropies = run.records.column("query.entropy_mean")
        # The last query of a budget may be smaller than the others.
        for entropy, size in zip(entropies, run.records.column("query.size"), strict=True):
            if size is not None:
                total += entropy * size
                n += size
    return total / n if n else float("nan")


def class_shares(series: Series) -> Array:
    """Share of every class among the labels that were asked for, ``[C]``; empty when none were."""
    counts = [
        histogram
        for run in series.runs
        for histogram in run.records.column("annotation.class_histogram")
        if histogram is not None
    ]
    if not counts:
        return np.empty(0)
    summed = np.sum(np.array(counts, dtype=np.float64), axis=0)
    shares: Array = summed / max(summed.sum(), 1.0)
    return shares


def majority_accuracy(comparison: Comparison) -> float | None:
    """Accuracy of always naming the largest class of the test set, where the records tell it."""
    for run in [*comparison.bounds, *comparison.runs]:
        counts = run.facts.task.test_counts
        if counts:
            return float(max(counts) / sum(counts))
    return None


def is_imbalanced(comparison: Comparison) -> bool:
    """Whether accuracy alone would hide something (R7)."""
    tasks = [run.facts.task for run in (*comparison.bounds, *comparison.runs)]
    # An even test set behind a pool with rare classes (long-tail) hides them as well.
    if any(task.uneven for task in tasks):
        return True
    counts = next((task.test_counts for task in tasks if task.test_counts), [])
    return is_uneven(counts)


#: What strategies are compared by unless the user says otherwise, and where classes are of uneven size.
USUAL, USUAL_UNEVEN = "accuracy", "balanced_accuracy"


def metric_of(comparison: Comparison, chosen: str | None) -> str:
    """What a comparison is decided by: what the user chose, else accuracy where that tells something.

    At uneven classes accuracy stands at the larger class's share whatever a strategy does (R7), so that
    balanced accuracy takes its place.
    """
    if chosen is not None:
        return chosen
    uneven = is_imbalanced(comparison) and comparison.defines(USUAL_UNEVEN)
    return USUAL_UNEVEN if uneven else USUAL


def for_uneven_classes(comparison: Comparison) -> list[str]:
    """Figures to be read in place of accuracy; none where the classes are even."""
    return [name for name, m in METRICS.items() if m.uneven] if is_imbalanced(comparison) else []


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
    comparison: Comparison, *, axis: str = "queries", metric: str = "accuracy"
) -> Penalties | None:
    """How often each strategy beats each other one along the curves, by paired t-tests.

    A row gains 1/K against a column at each of the K shared positions after the start where the paired
    t statistic over seeds passes the two-sided critical value. None below six pairs, or when two
    strategies share no position, or where the metric is not defined.
    """
    members = comparison.series
    if not comparison.defines(metric):
        return None
    k = len(members)
    matrix = np.zeros((k, k))
    fewest = 10**9
    sign = -1.0 if METRICS[metric].better == "less" else 1.0
    for i, first in enumerate(members):
        for j in range(i + 1, k):
            # Each pair of strategies over the seeds and the range that these two share: a third one that
            # ended early takes nothing from them.
            grid, values = gaps(first, members[j], axis, metric)
            fewest = min(fewest, len(values))
            if len(values) < MIN_PAIRS or len(grid) < 2:
                return None
            # The start is equal for all by R1: counting it would add a tie to every pair.
            wins = beats(sign * values[:, 1:])
            matrix[i, j] = float(np.mean(wins > 0))
            matrix[j, i] = float(np.mean(wins < 0))
    return Penalties(tuple(item.label for item in members), matrix, fewest) if k > 1 else None


def beats(values: Array) -> NDArray[np.int64]:
    """Sign of the mean difference per position where a paired t-test shows one, else 0.

    Args:
        values: differences ``[n pairs, K]``.
    """
    n = len(values)
    values = settled(values)
    mean = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / np.sqrt(n)
    critical = stats.t.ppf(1 - ALPHA / 2, n - 1)
    # A deviation of 0 with a mean above it is beaten, too: error is 0 then.
    signs: NDArray[np.int64] = np.where(np.abs(mean) > critical * error, np.sign(mean), 0).astype(
        int
    )
    return signs


def pools(found: Sequence[Comparison]) -> list[list[Comparison]]:
    """Comparisons by the images that they ask about: several settings, or targets, of one pool are one.

    Runs name the pool's fingerprint since 0.3.0. Before, the data's (images and targets), and two tasks on
    the same images are known by a generator or auto-encoder that they share.
    """
    groups: list[tuple[set[str], list[Comparison]]] = []
    for comparison in found:
        names = {name for run in comparison.runs for name in _pool_names(run)} or {comparison.title}
        members = [comparison]
        # A comparison may join groups that had nothing in common so far.
        for group in [group for group in groups if group[0] & names]:
            groups.remove(group)
            names |= group[0]
            members = [*group[1], *members]
        groups.append((names, members))
    return [members for _, members in groups]


def _pool_names(run: Run) -> set[str]:
    facts = run.facts.task
    own = {name for name in (facts.fingerprint, facts.pool_fingerprint) if name}
    return own | {f"{e.name} {e.key}" for e in run.preparation if e.name in SHARED and e.key}


def scores_over_tasks(
    found: Sequence[Comparison], *, axis: str = "queries", metric: str | None = None
) -> tuple[list[str], dict[str, list[float]]]:
    """Mean areas of the strategies that every comparison holds: what Friedman's test works on.

    Each distinct pool is one data set: of several settings of it the mean counts. Without a ``metric``
    each comparison has the one that it is decided by (``metric_of``): ranks are taken within data sets.

    Returns:
        titles of the data sets that allow a ranking, and strategy -> one score for each of them,
        larger is better.
    """
    # Ranks of incomplete comparisons would be ranks of who was run.
    usable = [c for c in found if c.can_rank and c.has_areas(axis, metric_of(c, metric))]
    if not usable:
        return [], {}
    # Friedman's test is about blocks that are whole: every strategy on every data set.
    shared = set.intersection(*({s.label for s in c.series} for c in usable))
    sign = -1.0 if metric is not None and METRICS[metric].better == "less" else 1.0
    scores: dict[str, list[float]] = {label: [] for label in sorted(shared)}
    titles = []
    for group in pools(usable):
        each: dict[str, list[float]] = {label: [] for label in scores}
        for comparison in group:
            areas = comparison.areas(axis, metric_of(comparison, metric))
            members = [comparison.find(label) for label in scores]
            # One score for each: over the seeds that all have, where there are any.
            pairs = comparison.common_pairs(members)
            for series in members:
                runs = [series.by_pair[pair] for pair in pairs] or list(series.runs)
                each[series.label].append(sign * float(np.mean([areas[id(run)] for run in runs])))
        for label, values in each.items():
            scores[label].append(float(np.mean(values)))
        titles.append(" + ".join(comparison.title for comparison in group))
    return titles, scores
