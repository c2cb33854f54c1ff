"""Which runs may stand beside each other, which are pairs, and what was left out.

A comparison holds finished runs of one task under one protocol. Runs of equal (seed, data seed) that
began with the same labelled set are pairs; everything that is left out is named with its reason.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from alharness.comparison.grouping import bound_runs, relabelled, series_of
from alharness.comparison.protocol import (
    in_order,
    require_known,
    require_one_protocol,
    split_value,
    told_value,
)
from alharness.comparison.remarks import (
    artefact_notes,
    data_notes,
    pause_notes,
    preparation_notes,
    session_notes,
    shared_card_notes,
    start_notes,
    stop_notes,
    time_notes,
)
from alharness.comparison.runs import describe
from alharness.comparison.series import Covered, LeftOut, Series, area, covered, shared_grid
from alharness.errors import UserError, unknown_name
from alharness.files import no_collections
from alharness.records import Run, RunFolder
from alharness.records.metrics import find_metric, in_words
from alharness.records.runs import Pair

#: The strategy that every other one is measured against, unless the user says otherwise (R8).
BASELINE = "random"
#: The state, in a comparison, of finished runs that had no test set.
UNMEASURED = "unmeasured"

#: The strategy that labels the whole pool: a comparison without its bound tells how to add it.
BOUND = "full"


@dataclass(frozen=True)
class Comparison:
    """Finished runs of one task under one protocol.

    Attributes:
        task: the task's name.
        split: values of the fields that separate this comparison from its neighbours.
        series: the strategies, sorted by label, without the bound.
        bounds: runs of the fully supervised bound.
        left_out: runs that belong here and take no part.
        notes: what a reader has to know before trusting a number.
        upper: curves that chose by the test set's labels: shown, never ranked, tested or paired.
    """

    task: str
    split: Mapping[str, str]
    series: tuple[Series, ...]
    bounds: tuple[Run, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    upper: tuple[Series, ...] = ()

    @property
    def title(self) -> str:
        parts = [f"{key} {value}" for key, value in self.split.items()]
        return ", ".join([self.task, *parts])

    @property
    def runs(self) -> list[Run]:
        return [run for series in self.series for run in series.runs]

    @property
    def baseline(self) -> Series | None:
        """The random baseline under its default parameters; None when it was not run."""
        return next((series for series in self.series if series.name == BASELINE), None)

    def find(self, label: str) -> Series:
        """The series of a label or name."""
        for series in self.series:
            if label in (series.label, series.name):
                return series
        raise unknown_name("strategy in the comparison", label, [s.label for s in self.series])

    def reference(self, against: str | None) -> Series | None:
        """What the others are tested against: the strategy of a label or name, else the random baseline."""
        return self.baseline if against is None or not self.series else self.find(against)

    def bound(self, metric: str) -> float | None:
        """Mean test figure of the fully supervised runs; None without any, or where it is not defined."""
        values = [run.y(metric)[0] for run in self.bounds]
        return float(np.mean(values)) if values and np.isfinite(values).all() else None

    def defines(self, metric: str) -> bool:
        """Whether every run has a test figure in every cycle."""
        if metric not in self._defined:
            runs = [*self.runs, *self.bounds]
            self._defined[metric] = all(np.isfinite(run.y(metric)).all() for run in runs)
        return self._defined[metric]

    def require_defined(self, metric: str) -> None:
        """Refuse a test figure that is missing somewhere.

        Raises:
            UserError: no such figure, or some run does not have it in every cycle.
        """
        find_metric(metric)
        if not self.defines(metric):
            raise UserError(f"'{metric}' is not defined for {self.title}. Choose another --metric.")

    def words(self, metric: str) -> str:
        """A test figure in words; of the average precision, what it is of."""
        return in_words(metric, self.precision_of)

    @property
    def precision_of(self) -> str:
        """What the average precision is of: one thing for all runs, since their protocols agree."""
        return next((run.precision_of for run in [*self.runs, *self.bounds]), "")

    def covered(self, axis: str) -> Covered:
        """What areas are taken over; there must be a run."""
        if axis not in self._covered:
            self._covered[axis] = covered(self.runs, axis)
        return self._covered[axis]

    def areas(self, axis: str, metric: str) -> dict[int, float]:
        """Area under the curve of every run over the range that all runs cover, by ``id(run)``.

        NaN where they share no range: heights at one position, or over a range for each, are no areas.
        """
        # By identity: equal runs of two strategies are two runs, and a run of thousands of numbers no key.
        if (axis, metric) not in self._areas and self.runs:
            runs, found = self.runs, [float("nan")] * len(self.runs)
            if self.covered(axis).has_area:
                grid = shared_grid(runs, axis)
                found = [area(grid, np.interp(grid, run.x(axis), run.y(metric))) for run in runs]
            self._areas[axis, metric] = dict(zip(map(id, runs), found, strict=True))
        return self._areas.get((axis, metric), {})

    # Every table, chart and warning asks again, and each answer goes through all runs.
    @cached_property
    def _defined(self) -> dict[str, bool]:
        return {}

    @cached_property
    def _covered(self) -> dict[str, Covered]:
        return {}

    @cached_property
    def _areas(self) -> dict[tuple[str, str], dict[int, float]]:
        return {}

    def has_areas(self, axis: str, metric: str) -> bool:
        """Whether curves can be held against each other: a figure that is defined, over some range."""
        return bool(self.series) and self.defines(metric) and self.covered(axis).has_area

    @property
    def can_rank(self) -> bool:
        """No ranking without the random baseline and the bound (R8)."""
        return self.baseline is not None and bool(self.bounds) and len(self.series) > 1

    def why_no_ranking(self) -> str:
        """What is missing for a ranking; empty when nothing is."""
        missing = []
        # Several settings of it have names with brackets: it was run, and is not the baseline.
        variants = [series.label for series in self.series if series.strategy == BASELINE]
        if self.baseline is None and not variants:
            missing.append(f"the random baseline (strategy '{BASELINE}')")
        if not self.bounds:
            missing.append(
                f"the fully supervised bound (strategy '{BOUND}', which labels the whole pool)"
            )
        if not missing and self.baseline is not None and len(self.series) < 2:
            missing.append("a second strategy")
        verb = "is" if len(missing) == 1 else "are"
        told = [f"{' and '.join(missing)} {verb} missing here"] if missing else []
        if self.baseline is None and variants:
            told.append(
                f"the random baseline ran as {', '.join(variants)}, and none of them is plain '{BASELINE}': "
                "compare runs of one setting only (name their folders, or --split-by the field in brackets), "
                "or test against one with --against"
            )
        if not self.bounds and (command := self.how_to_add(BOUND)):
            told.append(f"this adds the bound: {command}")
        return f"No ranking: {'; '.join(told)}." if told else ""

    def how_to_add(self, strategy: str) -> str:
        """The command that makes a run of a strategy under this protocol; empty where no run tells it.

        Records that came in an archive lie nowhere: no command can take their settings.
        """
        # Of a strategy without parameters: those of another would be laid under this one's.
        base = self.baseline.runs if self.baseline is not None else ()
        plain = [*base, *(run for run in self.runs if not run.parameters)] or self.runs
        first = next((run for run in plain if RunFolder(run.folder).spec.exists()), None)
        if first is None:
            return ""
        folder = RunFolder(first.folder)
        above = first.folder.parents
        root = above[2] if len(above) > 2 else Path("runs")
        where = [] if root == Path("runs") else ["--runs-dir", str(root)]
        words = ["alharness", "run", "--config", str(folder.spec), "--strategy", strategy, *where]
        return shlex.join(words)

    def common_pairs(self, series: Iterable[Series] | None = None) -> list[Pair]:
        """Pairs of seeds that all (given) strategies finished."""
        chosen = list(self.series if series is None else series)
        if not chosen:
            return []
        # A ranking over different seeds would rank the seeds.
        shared = set.intersection(*(set(item.by_pair) for item in chosen))
        return sorted(shared)

    def hardware_differences(self) -> dict[str, list[str]]:
        """Fields of the hardware that differ between runs or sessions: then times do not compare (R12)."""
        return self._hardware_differences

    @cached_property
    def _hardware_differences(self) -> dict[str, list[str]]:
        values: dict[str, set[str]] = defaultdict(set)
        for session in (session for run in self.runs for session in run.sessions):
            for key, value in {"runs_on_card": 1, **session.hardware}.items():
                values[key].add(str(value))
        return {key: sorted(found) for key, found in values.items() if len(found) > 1}


@no_collections()
def comparisons(
    runs: Sequence[Run],
    *,
    split_by: Sequence[str] = (),
    expected: Sequence[Run] = (),
    labels: Mapping[str, str] | None = None,
) -> list[Comparison]:
    """Sort runs into comparisons, one per task and per value of the ``split_by`` fields.

    Args:
        runs: what was read.
        split_by: fields of the protocol that are meant to differ (an axis of a sweep), so that each
            value makes a comparison of its own.
        labels: strategy, with or without its parameters -> what it is called instead.
        expected: runs that should exist, without records; those not among ``runs`` are named missing.

    Raises:
        UserError: runs of one comparison differ in their protocol; the field is named (R13).
    """
    # By the place: a folder that is reached over a link is the same run.
    present = {run.folder.resolve() for run in runs} if expected else set()
    everything = [*runs, *(run for run in expected if run.folder.resolve() not in present)]
    readable = [run for run in everything if run.damage is None]
    require_known(split_by, readable)
    by_task: dict[str, list[Run]] = defaultdict(list)
    for run in readable:
        by_task[run.task].append(run)
    found: list[Comparison] = []
    for task, members in sorted(by_task.items(), key=lambda item: in_order(item[0])):
        # Split before the protocol is looked at: the fields of a split are meant to differ.
        groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
        for run in members:
            groups[tuple(split_value(run, name) for name in split_by)].append(run)
        for values, group in sorted(groups.items(), key=lambda item: [*map(in_order, item[0])]):
            split = {
                name: told_value(value, [key[place] for key in groups])
                for place, (name, value) in enumerate(zip(split_by, values, strict=True))
                if len(groups) > 1
            }
            found.append(_comparison(task, split, group, labels or {}))
    _require_used(labels or {}, found)
    return _with_unreadable(found, [run for run in everything if run.damage is not None])


def _with_unreadable(found: Sequence[Comparison], damaged: Sequence[Run]) -> list[Comparison]:
    """Name runs that cannot be read beside those that lie in the same task's folder."""
    if not damaged:
        return list(found)
    # The earlier comparison wins: reversed, it is written last.
    beside = {
        item.folder.resolve().parent.parent: comparison
        for comparison in reversed(found)
        for item in [*comparison.runs, *comparison.bounds]
    }
    added: dict[int, list[LeftOut]] = defaultdict(list)
    for run in damaged:
        folder = run.folder.resolve().parent.parent
        task = run.task if run.has_spec else folder.name
        # A run without a readable spec has its folder only to tell its task by.
        home = next((c for c in found if run.has_spec and c.task == task), beside.get(folder))
        if home is None:
            home = beside[folder] = Comparison(task, {}, (), (), (), ())
            found = [*found, home]
        added[id(home)].append(LeftOut(describe(run), run.state(), str(run.damage)))
    return [
        replace(comparison, left_out=(*comparison.left_out, *added[id(comparison)]))
        for comparison in found
    ]


def _comparison(
    task: str, split: Mapping[str, str], runs: Sequence[Run], labels: Mapping[str, str]
) -> Comparison:
    finished = [run for run in runs if run.finished and run.was_measured]
    left_out = [
        LeftOut(describe(run), UNMEASURED if run.finished else run.state(), _why_left_out(run))
        for run in runs
        if not (run.finished and run.was_measured)
    ]
    # First of all: other settings would pass for strategies of their own below.
    require_one_protocol(finished)
    # The bound is no contender: it labels everything at once and has no curve.
    bounds, copies = bound_runs([run for run in finished if run.is_bound and not run.is_judged])
    upper, more = series_of([run for run in finished if run.is_judged])
    rest = [run for run in finished if not (run.is_bound or run.is_judged)]
    notes: list[str] = []
    series, dropped = series_of(rest)
    series = relabelled(series, labels)
    left_out += [*dropped, *copies, *more]
    if upper:
        notes.append(
            f"{', '.join(item.label for item in upper)} chose by the labels of the test set: an upper curve "
            "and no strategy; it is neither ranked nor tested."
        )
    notes += [*data_notes(series), *start_notes(series), *artefact_notes(series)]
    notes += stop_notes(series)
    notes += [*preparation_notes(series), *pause_notes(series), *time_notes(series)]
    notes += shared_card_notes(series)
    notes += session_notes([*(run for item in series for run in item.runs), *bounds])
    if any(run.facts.task.synthetic for run in finished):
        notes.append("The data of this task are drawn or generated, not photographs.")
    return Comparison(
        task, dict(split), tuple(series), bounds, tuple(left_out), tuple(notes), tuple(upper)
    )


def _why_left_out(run: Run) -> str:
    if run.failure is not None:
        return run.failure
    if run.finished:
        return "no test set: nothing was measured, so there is nothing to compare"
    if run.records:
        budget = "?" if run.spec.budget is None else run.spec.budget
        asked = run.records.column("n_asked")[-1]
        return f"{asked} of {budget} annotations; run the sweep again to continue"
    return "no record yet"


def _require_used(labels: Mapping[str, str], found: Sequence[Comparison]) -> None:
    known = {name for c in found for s in c.series for name in (s.name, s.strategy)}
    for name in labels:
        if name not in known:
            raise unknown_name("strategy in the comparison", name, known)
