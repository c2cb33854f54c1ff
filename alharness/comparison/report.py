"""A comparison worked out: sentences, warnings, tables and charts, ready to be shown.

Says first how much of the sweep it rests on. Sentences follow the rules of fair comparison: no ranking
without baseline and bound, no "significant" below six pairs, no times across machines.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alharness.comparison import (
    figures,
    generators,
    losses,
    metrics,
    remarks,
    stopping,
    tables,
)
from alharness.comparison.comparison import UNMEASURED, Comparison
from alharness.comparison.headline import headline, saved
from alharness.comparison.levels import ALPHA, MIN_PAIRS
from alharness.comparison.metrics import ResultRow
from alharness.comparison.paired_tests import PairedTest
from alharness.comparison.rank_test import rank_test
from alharness.comparison.runs import describe
from alharness.comparison.series import Series, asked_of
from alharness.comparison.tables import TextTable, number, p_value
from alharness.comparison.verdicts import Verdict
from alharness.files import no_collections
from alharness.pictures.charts import Chart
from alharness.records import RunFolder, SpecFacts
from alharness.records.facts import DRAWN, RANDOM_START
from alharness.records.metrics import AXES, METRICS, as_column, axis_field, find_metric
from alharness.records.runs import Pair
from alharness.stopping import NamedRule

#: Fewest data sets for a critical-difference diagram.
MIN_TASKS = 3


@dataclass(frozen=True)
class Section:
    """One comparison, worked out.

    Attributes:
        comparison: what it is of.
        metric: test figure that it is decided by.
        headline: the first line for a reader; empty where nothing can be compared.
        anchor: of the page.
        facts, sentences, warnings, tables, charts: what is shown.
        rows: the table of results as numbers.
    """

    comparison: Comparison
    metric: str
    headline: str
    anchor: str
    facts: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[TextTable, ...]
    charts: tuple[Chart, ...]
    rows: tuple[ResultRow, ...]
    stopping: stopping.Verdicts

    @property
    def by_name(self) -> dict[str, TextTable | Chart]:
        items: list[TextTable | Chart] = [*self.tables, *self.charts]
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
        axis: along what it was compared.
    """

    heading: str
    note: str
    status: str
    complete: bool
    sections: tuple[Section, ...]
    across: tuple[TextTable | Chart, ...]
    claims: tuple[Verdict, ...]
    provenance: tuple[TextTable, ...]
    axis: str

    @property
    def metric(self) -> str | None:
        """The test figure that all sections are decided by; None where they differ, or there is none."""
        found = {section.metric for section in self.sections}
        return found.pop() if len(found) == 1 else None


def nothing_more(comparison: Comparison) -> tuple[TextTable | Chart, ...]:
    """A comparison rests on records alone."""
    return ()


@no_collections()
def build(
    found: Sequence[Comparison],
    *,
    heading: str,
    note: str = "",
    axis: str = "queries",
    metric: str | None = None,
    against: str | None = None,
    looks: int = 1,
    claims: Sequence[Verdict] = (),
    inspections: Mapping[str, Mapping[str, float]] | None = None,
    more: Callable[[Comparison], Sequence[TextTable | Chart]] = nothing_more,
    rules: Sequence[NamedRule] = (),
) -> Report:
    """Work everything out.

    Args:
        found: comparisons.
        heading, note: of the sweep.
        axis: x-axis of curves, areas and positions.
        metric: test figure that strategies are compared by; by default accuracy, and balanced accuracy
            where the classes of the test set are uneven.
        against: strategy that the others are tested against; the random baseline by default.
        looks: how often results were looked at while seeds were added; each look spends as much of the level.
        claims: the paper's claims, checked.
        inspections: figures of inspected generators, by the generator's key.
        more: tables and charts that rest on more than records, for the comparison's section.
        rules: stopping rules that are judged on the runs; none: there is no such table.
    """
    if metric is not None:
        find_metric(metric)
    axis_field(axis)
    sections = []
    for i, comparison in enumerate(found):
        runs = bool(comparison.series)
        base = comparison.find(against) if runs and against is not None else comparison.baseline
        own = metrics.metric_of(comparison, metric)
        rows = metrics.table(comparison, axis=axis, metric=own, against=against, looks=looks)
        found_of_rules = stopping.judge(comparison, rules, axis=axis, metric=own)
        chapter = _Chapter(
            comparison, axis, own, base, rows, inspections or {}, more, looks, found_of_rules
        )
        sections.append(_section(chapter, f"c{i}"))
    complete, status = _status(found)
    return Report(
        heading, note, status, complete, tuple(sections), _across(found, axis, metric), tuple(claims),
        tables.provenance(found), axis,
    )  # fmt: skip


def _status(found: Sequence[Comparison]) -> tuple[bool, str]:
    """How complete the runs are, in a sentence."""
    n_finished = sum(
        len(c.runs) + len(c.bounds) + sum(len(item.runs) for item in c.upper) for c in found
    )
    states: dict[str, int] = defaultdict(int)
    for comparison in found:
        for item in comparison.left_out:
            states[item.state] += 1
    # Copies are no missing runs: a sweep with them is complete.
    repeated = states.pop("repeated", 0)
    total = n_finished + sum(states.values())
    more = f" {repeated} repeated runs count once." if repeated else ""
    if unmeasured := states.pop(UNMEASURED, 0):  # nor are those that could not be measured
        total -= unmeasured
        more += f" {unmeasured} more without a test set take no part."
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


@dataclass(frozen=True)
class _Chapter:
    """What the makers of a section's tables, charts and warnings read.

    Attributes:
        comparison, axis, metric: what is compared, along what, by what.
        reference: what the others are tested against; None where it was not run.
        rows: the table of results; empty without a finished run.
        inspections: figures of inspected generators, by the generator's key.
        more, looks: see ``build``.
        stopping: what was found of stopping rules.
    """

    comparison: Comparison
    axis: str
    metric: str
    reference: Series | None
    rows: Sequence[ResultRow]
    inspections: Mapping[str, Mapping[str, float]]
    more: Callable[[Comparison], Sequence[TextTable | Chart]]
    looks: int
    stopping: stopping.Verdicts

    @property
    def words(self) -> str:
        return self.comparison.words(self.metric)

    @property
    def against(self) -> str:
        return self.reference.label if self.reference is not None else ""


_Made = TextTable | Chart | Sequence[TextTable | Chart] | None
_Condition = Callable[[_Chapter], object]


def _always(chapter: _Chapter) -> bool:
    return True


def _has_runs(chapter: _Chapter) -> bool:
    return bool(chapter.comparison.series)


def _has_reference(chapter: _Chapter) -> bool:
    return chapter.reference is not None


def _on_one_machine(chapter: _Chapter) -> bool:
    """Times of different machines do not compare (R12)."""
    return _has_runs(chapter) and not chapter.comparison.hardware_differences()


#: The table of contents of a section: when something is shown, and what makes it. A maker may find
#: nothing to show. The page's template says where each stands, by name.
CONTENTS: Sequence[tuple[_Condition, Callable[[_Chapter], _Made]]] = (
    (_always, lambda c: tables.left_out(c.comparison)),
    (_has_runs, lambda c: tables.results(c.comparison, c.rows, c.axis, c.metric)),
    (_has_runs, lambda c: tables.reached(c.comparison, c.rows, c.axis, c.against)),
    (_has_runs, lambda c: stopping.table(c.stopping, c.comparison, c.axis, c.metric)),
    (_has_runs, lambda c: tables.tests(c.rows, c.against, c.words, c.looks)),
    (_has_reference, lambda c: generators.over_generators(c.comparison, c.axis, c.metric)),
    (_has_runs, lambda c: [
        chart for name in dict.fromkeys([c.metric, *metrics.for_uneven_classes(c.comparison)])
        if (chart := figures.learning_curves(c.comparison, axis=c.axis, metric=name))
    ]),
    (_has_reference, lambda c: figures.gain_curves(
        c.comparison, c.reference, axis=c.axis, metric=c.metric)),
    (_has_reference, lambda c: figures.differences(c.rows, c.against)),
    (_has_runs, lambda c: figures.entropy_curves(c.comparison, axis=c.axis)),
    (_has_runs, lambda c: figures.class_balance(c.comparison)),
    (_has_runs, lambda c: losses.items(c.comparison)),
    (_has_runs, lambda c: figures.penalty_matrix(
        metrics.penalties(c.comparison, axis=c.axis, metric=c.metric))),
    (_has_runs, lambda c: tables.preparations(c.comparison)),
    (_has_runs, lambda c: generators.table(c.comparison, c.inspections)),
    (_has_runs, lambda c: generators.gain_by_quality(
        c.comparison, c.inspections, axis=c.axis, metric=c.metric)),
    (_on_one_machine, lambda c: figures.accuracy_against_time(c.comparison, metric=c.metric)),
    (_on_one_machine, lambda c: figures.selection_times(c.comparison)),
    (_on_one_machine, lambda c: tables.times(c.comparison, c.rows)),
    (_on_one_machine, lambda c: tables.break_even(c.comparison)),
    (_has_runs, lambda c: c.more(c.comparison)),
)  # fmt: skip

#: What a reader has to know first, in this order.
WARNINGS: Sequence[tuple[_Condition, Callable[[_Chapter], Sequence[str]]]] = (
    (_always, lambda c: [why] if (why := c.comparison.why_no_ranking()) else []),
    (_always, lambda c: c.comparison.notes),
    (_has_runs, lambda c: c.stopping.notes),
    (_has_runs, lambda c: _seed_warnings(c.comparison)),
    (_has_runs, lambda c: _annotator_warnings(c.comparison)),
    (_has_runs, lambda c: remarks.unit_notes(c.comparison.series)),
    (_has_runs, lambda c: remarks.look_notes(c.comparison.runs, c.looks)),
    (_has_runs, lambda c: _same_warnings(c.comparison)),
    (_has_runs, lambda c: _undefined_warnings(c.comparison, c.metric)),
    (_has_runs, lambda c: _no_room_warnings(c.comparison, c.metric)),
    (_has_runs, lambda c: _range_warnings(c.comparison, c.axis)),
    (_has_runs, lambda c: _imbalance_warnings(c.comparison, c.metric)),
    (_has_runs, lambda c: _hardware_warnings(c.comparison)),
)


def _section(chapter: _Chapter, anchor: str) -> Section:
    items: list[TextTable | Chart] = []
    # Tables and charts in one pass: the page asks for each by its name.
    for condition, make in CONTENTS:
        made = make(chapter) if condition(chapter) else None
        items += [made] if isinstance(made, TextTable | Chart) else made or ()
    warnings = [
        text for condition, tell in WARNINGS if condition(chapter) for text in tell(chapter)
    ]
    return Section(
        chapter.comparison,
        chapter.metric,
        headline(chapter.comparison, chapter.rows, chapter.reference, chapter.axis, chapter.metric),
        anchor,
        tuple(_facts(chapter.comparison)),
        (*_sentences(chapter.rows, chapter.against, chapter.words), *_saved(chapter)),
        tuple(warnings),
        tuple(item for item in items if isinstance(item, TextTable)),
        tuple(item for item in items if isinstance(item, Chart)),
        tuple(chapter.rows),
        chapter.stopping,
    )


def _how_begun(spec: SpecFacts) -> str:
    """How the initial set was found, where it was not drawn uniformly."""
    if spec.initial.name == RANDOM_START.name:
        return ""
    return f" ({'chosen by ' if spec.initial.name not in DRAWN else ''}{spec.initial.name})"


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
            f"{spec.initial_size} at the start{_how_begun(spec)}, {spec.query_size} per cycle, "
            f"{spec.budget} in all",
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
        runs = [*comparison.runs, *comparison.bounds]
        without = [run for run in runs if not np.isfinite(run.y(metric)).all()]
        # Records that were written before a figure was added lack it: then some runs have it and some not.
        which = f" in {len(without)} of {len(runs)} runs ({describe(without[0])})"
        warnings.append(
            f"The {comparison.words(metric)} is not defined here"
            f"{which if len(without) < len(runs) else ''}: nothing is ranked, tested or drawn by it. "
            "Choose another one with --metric."
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


def _imbalance_warnings(comparison: Comparison, metric: str) -> list[str]:
    """Which figures to read where accuracy hides something (R7)."""
    names = [
        as_column(name, comparison.precision_of)
        for name in metrics.for_uneven_classes(comparison)
        if comparison.defines(name) and name != metric
    ]
    told = " and ".join(names)
    if not told:
        return []
    if metric == metrics.USUAL:
        return [f"The classes of the test set are uneven: read {told}, not accuracy."]
    return [
        f"The classes of the test set are uneven: this is about {comparison.words(metric)}, not accuracy. "
        f"Read {told} beside it (--metric takes another figure)."
    ]


def _hardware_warnings(comparison: Comparison) -> list[str]:
    different = comparison.hardware_differences()
    if not different:
        return []
    told = "; ".join(f"{key}: {', '.join(values)}" for key, values in different.items())
    return [
        f"Times are not shown, because the runs come from different machines or settings ({told})."
    ]


def _same_warnings(comparison: Comparison) -> list[str]:
    """Strategies that are one: whatever they are called, they are one comparison."""
    groups: dict[object, list[str]] = defaultdict(list)
    for series in comparison.series:
        groups[asked_of(series)].append(series.label)
    return [
        f"{' and '.join(labels)} asked the same in every cycle: they are one comparison, and count once in "
        "the correction."
        for labels in groups.values()
        if len(labels) > 1
    ]


def _no_room_warnings(comparison: Comparison, metric: str) -> list[str]:
    """Where nothing can be told apart: at chance level throughout, or at the bound from the start."""
    if METRICS[metric].better == "less" or not comparison.defines(metric):
        return []
    first = float(np.mean([run.y(metric)[0] for run in comparison.runs]))
    # Means over seeds: one lucky run has not learned for its strategy.
    best = max(float(np.mean([run.y(metric)[-1] for run in s.runs])) for s in comparison.series)
    name, found = comparison.words(metric), []
    majority = metrics.majority_accuracy(comparison) if metric == "accuracy" else None
    if majority is not None and best <= majority:
        found.append(
            f"No strategy has learned anything that accuracy shows: the best ends at {best:.4f}, and always "
            f"naming the largest class gives {majority:.4f}."
        )
    bound = comparison.bound(metric)
    if bound is not None and first >= metrics.TARGETS[-1] * bound:
        found.append(
            f"The first labels alone reach {first / bound:.1%} of the bound ({name}): next to nothing is "
            "left to gain, and nothing can be told apart. Begin with fewer labels, or take a harder task."
        )
    return found


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
        accuracy
        for run in [*comparison.runs, *comparison.bounds]
        for accuracy in run.records.column("test.accuracy")
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
    # Digests, not data seeds: two seeds may draw one set from a tiny pool.
    starts = {run.start for run in most.runs}
    if len(starts) < len(most.runs):
        sets = "one initial set" if len(starts) == 1 else f"{len(starts)} initial sets"
        warnings.append(
            f"The {len(most.runs)} runs of a strategy begin from {sets} only: intervals and tests take them "
            "as independent, and say nothing of other initial sets. Leave data_seed open, so that it "
            "follows the seed."
        )
    return warnings


def _sentences(rows: Sequence[ResultRow], reference: str, name: str) -> list[str]:
    """What the tests say, one sentence per strategy, largest difference first."""
    tested = [(row.label, row.against) for row in rows if row.against is not None]
    # What is largest is read first; what is not finite has no size and comes last.
    tested.sort(key=lambda item: -abs(item[1].mean) if math.isfinite(item[1].mean) else 0.0)
    return [sentence(label, reference, test, name) for label, test in tested]


def _saved(chapter: _Chapter) -> list[str]:
    """How many labels do what the reference does with all of its own; no bound is needed."""
    level, end, fewer = saved(chapter.comparison, chapter.reference, chapter.axis, chapter.metric)
    if not fewer:
        return []
    told = ", ".join(f"{label} {n:.0f}" for label, n in fewer.items())
    return [
        f"For the {chapter.words} that {chapter.against} has at {end:.0f} {AXES[chapter.axis][1]} "
        f"({level:.4f}), others need (median over seeds; no test): {told}."
    ]


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


def _across(
    found: Sequence[Comparison], axis: str, metric: str | None
) -> tuple[TextTable | Chart, ...]:
    """Friedman's test over data sets (distinct pools), from three on."""
    titles, scores = metrics.scores_over_tasks(found, axis=axis, metric=metric)
    if len(titles) < MIN_TASKS or len(scores) < 2:
        return ()
    # Larger is better for every metric here: log losses were given a sign.
    test = rank_test(scores)
    cells = tuple(
        (label, *(number(abs(scores[label][i])) for i in range(len(titles))))
        for label in test.names
    )
    caption = "Mean area under the curve; settings and targets of one pool are one data set"
    table = TextTable("across", caption, ("strategy", *titles), cells)
    return figures.critical_difference(test), table
