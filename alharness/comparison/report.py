"""A comparison worked out: sentences, warnings, tables and charts, ready to be shown.

Says first how much of the sweep it rests on. What is shown follows the rules of fair comparison: no ranking
without baseline and bound, no "significant" below six pairs, no times across machines.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alharness.comparison import (
    cautions,
    figures,
    generators,
    losses,
    metrics,
    remarks,
    stopping,
    tables,
)
from alharness.comparison.about import facts_of
from alharness.comparison.comparison import UNMEASURED, Comparison
from alharness.comparison.headline import headline
from alharness.comparison.metrics import ResultRow
from alharness.comparison.rank_test import rank_test
from alharness.comparison.sentences import fewer_labels, sentences
from alharness.comparison.series import Series
from alharness.comparison.tables import TextTable, number
from alharness.comparison.verdicts import Verdict
from alharness.files import no_collections
from alharness.pictures.charts import Chart
from alharness.records.metrics import axis_field, find_metric
from alharness.stopping import NamedRule

#: Fewest data sets for a critical-difference diagram.
MIN_TASKS = 3


@dataclass(frozen=True)
class Section:
    """One comparison, worked out.

    Attributes:
        comparison: what it is of.
        metric: test figure that it is decided by.
        reference: what the others are tested against; None where it was not run.
        headline: the first line for a reader; empty where nothing can be compared.
        anchor: of the page.
        facts, sentences, warnings, tables, charts: what is shown.
        rows: the table of results as numbers.
    """

    comparison: Comparison
    metric: str
    reference: Series | None
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
        looks: how often results were looked at while seeds were added.
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
    looks: int

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
        base = comparison.reference(against)
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
        tables.provenance(found), axis, looks,
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
    # After copies were taken out, before what could not be measured is.
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
    (_has_runs, lambda c: cautions.seed_warnings(c.comparison)),
    (_has_runs, lambda c: cautions.annotator_warnings(c.comparison)),
    (_has_runs, lambda c: remarks.unit_notes(c.comparison.series)),
    (_has_runs, lambda c: remarks.look_notes(c.comparison.runs, c.looks)),
    (_has_runs, lambda c: cautions.same_warnings(c.comparison)),
    (_has_runs, lambda c: cautions.undefined_warnings(c.comparison, c.metric)),
    (_has_runs, lambda c: cautions.no_room_warnings(c.comparison, c.metric)),
    (_has_runs, lambda c: cautions.range_warnings(c.comparison, c.axis)),
    (_has_runs, lambda c: cautions.imbalance_warnings(c.comparison, c.metric)),
    (_has_runs, lambda c: cautions.hardware_warnings(c.comparison)),
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
        chapter.reference,
        headline(chapter.comparison, chapter.rows, chapter.reference, chapter.axis, chapter.metric),
        anchor,
        tuple(facts_of(chapter.comparison)),
        (
            *sentences(chapter.rows, chapter.against, chapter.words),
            *fewer_labels(chapter.comparison, chapter.reference, chapter.axis, chapter.metric),
        ),
        tuple(warnings),
        tuple(item for item in items if isinstance(item, TextTable)),
        tuple(item for item in items if isinstance(item, Chart)),
        tuple(chapter.rows),
        chapter.stopping,
    )


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
