"""A comparison worked out: sentences, warnings, tables and charts, ready to be shown.

Says first how much of the sweep it rests on. Sentences follow the rules of fair comparison: no ranking
without baseline and bound, no "significant" below six pairs, no times across machines.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alharness.comparison import figures, generators, losses, metrics, statistics, tables
from alharness.comparison.comparison import Comparison
from alharness.comparison.metrics import Row
from alharness.comparison.runs import describe
from alharness.comparison.statistics import ALPHA, MIN_PAIRS, PairedTest
from alharness.comparison.tables import Table, number, p_value
from alharness.comparison.verdicts import Verdict
from alharness.pictures.charts import Chart
from alharness.records import RunFolder
from alharness.records.metrics import AXES, METRICS, axis_field, find_metric
from alharness.records.runs import Pair

#: Fewest data sets for a critical-difference diagram.
MIN_TASKS = 3


@dataclass(frozen=True)
class Section:
    """One comparison, worked out."""

    comparison: Comparison
    anchor: str
    facts: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    rows: tuple[Row, ...]

    @property
    def by_name(self) -> dict[str, Table | Chart]:
        items: list[Table | Chart] = [*self.tables, *self.charts]
        return {item.name: item for item in items}


@dataclass(frozen=True)
class Report:
    """A whole report, not yet written.

    Attributes:
        heading, note: of the sweep.
        status: one sentence on how complete it is.
        complete: whether every run that belongs to it is finished.
        sections: one per comparison.
        across: tables and charts over all data sets.
        claims: the paper's claims beside what was measured; empty unless asked for.
        provenance: hardware, versions, fingerprints.
        axis, metric: what was compared, along what.
    """

    heading: str
    note: str
    status: str
    complete: bool
    sections: tuple[Section, ...]
    across: tuple[Table | Chart, ...]
    claims: tuple[Verdict, ...]
    provenance: tuple[Table, ...]
    axis: str
    metric: str


def build(
    found: Sequence[Comparison],
    *,
    heading: str,
    note: str = "",
    axis: str = "queries",
    metric: str = "accuracy",
    against: str | None = None,
    claims: Sequence[Verdict] = (),
    inspections: Mapping[str, Mapping[str, float]] | None = None,
    more: Callable[[Comparison], Sequence[Table | Chart]] = lambda comparison: (),
) -> Report:
    """Work everything out.

    Args:
        found: comparisons.
        heading, note: of the sweep.
        axis: x-axis of curves, areas and positions.
        metric: test figure that strategies are compared by.
        against: strategy that the others are tested against; the random baseline by default.
        claims: the paper's claims, checked.
        inspections: figures of inspected generators, by the generator's key.
        more: tables and charts that rest on more than records, for the comparison's section.
    """
    find_metric(metric)
    axis_field(axis)
    sections = tuple(
        _section(comparison, f"c{i}", axis, metric, against, inspections or {}, more)
        for i, comparison in enumerate(found)
    )
    complete, status = _status(found)
    return Report(
        heading, note, status, complete, sections, _across(found, axis, metric), tuple(claims),
        tables.provenance(found), axis, metric,
    )  # fmt: skip


def _status(found: Sequence[Comparison]) -> tuple[bool, str]:
    """How complete the runs are, in a sentence."""
    n_finished = sum(len(c.runs) + len(c.bounds) for c in found)
    states: dict[str, int] = defaultdict(int)
    for comparison in found:
        for item in comparison.left_out:
            states[item.state] += 1
    repeated = states.pop("repeated", 0)
    total = n_finished + sum(states.values())
    more = f" {repeated} repeated runs count once." if repeated else ""
    if not states:
        return True, f"Complete: all {total} runs are finished.{more}"
    parts = [
        f"{states[name]} {name}"
        for name in ("failed", "unreadable", "unfinished", "not started")
        if states[name]
    ]
    return False, (
        f"Incomplete: {n_finished} of {total} runs are finished; {', '.join(parts)}. "
        f"Everything below rests on finished runs only.{more}"
    )


def _section(
    comparison: Comparison,
    anchor: str,
    axis: str,
    metric: str,
    against: str | None,
    inspections: Mapping[str, Mapping[str, float]],
    more: Callable[[Comparison], Sequence[Table | Chart]],
) -> Section:
    rows: list[Row] = []
    shown: list[Table] = []
    charts: list[Chart | None] = []
    sentences: list[str] = []
    warnings = list(comparison.notes)
    if why := comparison.why_no_ranking():
        warnings.insert(0, why)
    if comparison.left_out:
        shown.append(
            Table(
                "left_out",
                "Runs that take no part",
                ("run", "state", "reason"),
                tuple((item.run, item.state, item.reason) for item in comparison.left_out),
            )
        )
    if comparison.series:
        rows = metrics.table(comparison, axis=axis, metric=metric, against=against)
        base = comparison.find(against) if against is not None else comparison.baseline
        reference = base.label if base is not None else ""
        warnings += _seed_warnings(comparison) + _annotator_warnings(comparison)
        sentences = _sentences(rows, reference, metric)
        shown += [
            tables.results(comparison, rows, axis, metric),
            *tables.reached(comparison, rows, axis, reference),
            *tables.tests(rows, reference, metric),
        ]
        charts.append(figures.learning_curves(comparison, axis=axis, metric=metric))
        warnings += _undefined_warnings(comparison, metric) + _range_warnings(comparison, axis)
        if metrics.is_imbalanced(comparison):
            to_read = [
                name
                for name in ("balanced_accuracy", "average_precision")
                if comparison.defines(name)
            ]
            told = " and ".join(name.replace("_", " ") for name in to_read)
            warnings.append(f"The classes of the test set are uneven: read {told}, not accuracy.")
            charts += [
                figures.learning_curves(comparison, axis=axis, metric=other)
                for other in to_read
                if other != metric
            ]
        if base is not None:
            charts.append(figures.gain_curves(comparison, base, axis=axis, metric=metric))
            charts.append(figures.differences(rows, reference))
        charts += [figures.entropy_curves(comparison, axis=axis), figures.class_balance(comparison)]
        lost = losses.losses(comparison)
        if lost is not None:
            shown.append(losses.table(comparison, lost))
            charts.append(losses.chart(comparison, lost))
        found = metrics.penalties(comparison, axis=axis, metric=metric)
        if found is not None:
            charts.append(figures.penalty_matrix(found))
        shown += tables.preparations(comparison)
        shown += generators.table(comparison, inspections)
        charts.append(generators.gain_by_quality(comparison, inspections, axis=axis, metric=metric))
        different = comparison.hardware_differences()
        if different:
            told = "; ".join(f"{key}: {', '.join(values)}" for key, values in different.items())
            warnings.append(
                f"Times are not shown, because the runs come from different machines or settings ({told})."
            )
        else:
            charts += [
                figures.accuracy_against_time(comparison, metric=metric),
                figures.selection_times(comparison),
            ]
            shown += [tables.times(comparison, rows), *tables.break_even(comparison)]
        for item in more(comparison):
            (shown.append(item) if isinstance(item, Table) else charts.append(item))
    return Section(
        comparison, anchor, tuple(_facts(comparison)), tuple(sentences), tuple(warnings),
        tuple(shown), tuple(chart for chart in charts if chart is not None), tuple(rows),
    )  # fmt: skip


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """What the comparison is about, in a few lines."""
    runs = [*comparison.runs, *comparison.bounds]
    if not runs:
        return []
    task, spec = runs[0].facts.task, runs[0].spec
    seeds = sorted({run.pair for run in comparison.runs})
    facts = [
        ("pool / test", f"{_told(task.n_pool)} / {_told(task.n_test)} items"),
        (
            "annotations",
            f"{spec.initial_size} at the start, {spec.query_size} per cycle, {spec.budget} in all",
        ),
        ("classifier", str(spec.learner.get("kind", "?"))),
        ("profile", ", ".join(sorted({r.spec.profile for r in runs}))),
        ("seeds", _seeds_told(seeds)),
        ("data fingerprint", _told(task.fingerprint)),
    ]
    unproven = [r for r in runs if not RunFolder(r.folder).is_proven(r.records)]
    if unproven:
        facts.append(
            (
                "without checksums",
                f"{len(unproven)} of {len(runs)} runs, made before there were any",
            )
        )
    facts += [(str(key), str(value)) for key, value in task.notes.items()]
    return facts


def _told(fact: object) -> str:
    return "?" if fact is None else str(fact)


def _seeds_told(pairs: Sequence[Pair]) -> str:
    """``3 (0, 1, 2)``; where data seeds are others, both, and how many pairs they make."""
    if not pairs:
        return "none"
    seeds, data_seeds = (sorted({pair[k] for pair in pairs}) for k in (0, 1))
    told = f"{len(seeds)} ({', '.join(map(str, seeds))})"
    if all(seed == data_seed for seed, data_seed in pairs):
        return told
    listed = ", ".join(map(str, data_seeds))
    return f"{told}, data seeds {len(data_seeds)} ({listed}), {len(pairs)} pairs"


def _undefined_warnings(comparison: Comparison, metric: str) -> list[str]:
    """Figures that do not exist here, and classes that no figure speaks of."""
    warnings = []
    if not comparison.defines(metric):
        warnings.append(
            f"The {METRICS[metric].description} is not defined here: nothing is ranked, tested or drawn "
            "by it. Choose another one with --metric."
        )
    task = comparison.runs[0].facts.task
    counts, names = task.test_counts, task.class_names
    absent = [
        f"'{names[i]}'" if i < len(names) else f"class {i}" for i, n in enumerate(counts) if n == 0
    ]
    if absent:
        warnings.append(
            f"The test set has no item of {', '.join(absent)}: no test figure speaks of it."
        )
    return warnings


def _range_warnings(comparison: Comparison, axis: str) -> list[str]:
    """Where areas are taken over less than some run's curve, by how much, and which run is why."""
    found = comparison.covered(axis)
    if found.has_area and not found.shortened:
        return []
    words = AXES[axis][1]
    why = []
    if found.low > found.least:
        why.append(
            f"{describe(found.begins)} begins at {found.low:.12g}, another at {found.least:.12g}"
        )
    if found.high < found.most:
        more = f" as do {found.n_ends - 1} more," if found.n_ends > 1 else ""
        why.append(
            f"{describe(found.ends)} ends at {found.high:.12g},{more} the longest at {found.most:.12g}"
        )
    told = "; ".join(why) or f"every curve is one classifier, at {found.low:.12g}"
    if found.has_area:
        return [
            f"Areas are taken over {found.low:.12g} to {found.high:.12g} {words} only, the range that all "
            f"runs cover: {told}."
        ]
    return [
        f"There is no range of {words} that all runs cover ({told}), hence no area under the curve: nothing "
        "is ranked or tested. Choose another axis with --x, or compare without the runs that end there."
    ]


def _annotator_warnings(comparison: Comparison) -> list[str]:
    """Labels of synthetic images are worth what their annotator is."""
    best = max(
        record.test.accuracy
        for run in [*comparison.runs, *comparison.bounds]
        for record in run.records
    )
    found = {
        float(entry.details["test_accuracy"])
        for run in comparison.runs
        for entry in run.preparation
        if entry.name == "annotator" and "test_accuracy" in entry.details
    }
    return [
        f"A network that is right in {accuracy:.1%} of the test images labels synthetic ones here; "
        f"classifiers of this comparison reach {best:.1%}. What is asked of it measures the annotator."
        for accuracy in sorted(found)
        if accuracy < best
    ]


def _seed_warnings(comparison: Comparison) -> list[str]:
    counts = {series.label: len(series.runs) for series in comparison.series}
    warnings = []
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{label} {n}" for label, n in counts.items())
        warnings.append(
            f"Strategies have different numbers of finished runs ({told}); tests use shared seeds."
        )
    fewest = min(counts.values())
    few = [label for label, n in counts.items() if n < MIN_PAIRS]
    if few:
        which = "" if len(few) == len(counts) else f" of {', '.join(few)}"
        about = "" if not which else " about them"
        warnings.append(
            f"Fewer than {MIN_PAIRS} seeds{which}: nothing{about} can be called significant here, "
            "whatever it looks like."
        )
    elif fewest < 10:
        warnings.append("Claims should rest on ten seeds or more.")
    most = max(comparison.series, key=lambda series: len(series.runs))
    starts = {run.records[0].labelled_digest for run in most.runs}
    if len(starts) < len(most.runs):
        sets = "one initial set" if len(starts) == 1 else f"{len(starts)} initial sets"
        warnings.append(
            f"The {len(most.runs)} runs of a strategy begin from {sets} only: intervals and tests take them "
            "as independent, and say nothing of other initial sets. Leave data_seed open, so that it "
            "follows the seed."
        )
    return warnings


def _sentences(rows: Sequence[Row], reference: str, metric: str) -> list[str]:
    """What the tests say, one sentence per strategy, largest difference first."""
    tested = [(row.label, row.against) for row in rows if row.against is not None]
    tested.sort(key=lambda item: -abs(item[1].mean) if math.isfinite(item[1].mean) else 0.0)
    return [sentence(label, reference, test, metric) for label, test in tested]


def sentence(label: str, reference: str, test: PairedTest, metric: str = "accuracy") -> str:
    """A paired test in words that claim no more than it shows."""
    name = METRICS[metric].description
    if test.n == 0:
        return f"{label} shares no seed with {reference}: nothing can be said."
    if test.mean == 0 and not test.deviation > 0:
        return (
            f"{label} and {reference} are equal on {test.n} {'pair' if test.n == 1 else 'pairs'}."
        )
    if test.contradictory:
        return _contradiction(label, reference, test)
    if test.mean == 0:
        return f"{label} and {reference} have equal means over {test.n} pairs that differ: not decided."
    ahead = "above" if test.mean > 0 else "below"
    size = f"{abs(test.mean):.4f}"
    if test.significant:
        return (
            f"{label} is {ahead} {reference} by {size} of mean {name} over the budget "
            f"({test.n} pairs, Holm p {p_value(test.p_holm)}): significant."
        )
    text = (
        f"{label} is {ahead} {reference} by {size} on {test.n} {'pair' if test.n == 1 else 'pairs'}"
    )
    if test.n < MIN_PAIRS:
        return f"{text}: too few pairs to decide anything (at least {MIN_PAIRS} are needed)."
    if test.smallest > ALPHA:
        return (
            f"{text}: with so many comparisons {test.n} pairs could not reach the level "
            f"(smallest possible p {p_value(test.smallest)}); {_more(test)}"
        )
    return (
        f"{text}: not decided (Holm p {p_value(test.p_holm)}). A true difference of "
        f"{number(test.detectable)} would have been found in four of five such experiments; {_more(test)}"
    )


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


def _across(found: Sequence[Comparison], axis: str, metric: str) -> tuple[Table | Chart, ...]:
    """Friedman's test over data sets, from three on."""
    titles, scores = metrics.scores_over_tasks(found, axis=axis, metric=metric)
    if len(titles) < MIN_TASKS or len(scores) < 2:
        return ()
    test = statistics.rank_test(scores)
    cells = tuple(
        (label, *(number(abs(scores[label][i])) for i in range(len(titles))))
        for label in test.names
    )
    table = Table("across", "Mean area under the curve", ("strategy", *titles), cells)
    return figures.critical_difference(test), table
