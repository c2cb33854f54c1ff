"""Finished, stopped and failed runs as their folders tell them: the one reader of a run's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.files import explained
from alharness.records.facts import NO_SPEC, RunFacts, Session, SpecFacts
from alharness.records.folder import RunFolder
from alharness.records.ledger import LedgerEntry
from alharness.records.metrics import MACRO, OF_CLASS, axis_field, find_metric
from alharness.records.records import CycleRecord

Array = NDArray[np.float64]
#: (seed, data seed): runs of different strategies with the same pair are compared one to one.
Pair = tuple[int, int]
#: What was labelled and learned, cycle by cycle: digests of both, accuracy and log loss.
Course = tuple[tuple[str, str, float, float], ...]

#: A folder that holds one of these is a run's.
RUN_MARKS = ("spec.toml", "cycles.jsonl")

#: What lies beside the tasks' folders and holds no runs. Version 0.2 kept copies of records below
#: ``mlflow``: with a task's folder gone they passed for its runs.
NOT_RUNS = ("mlflow", "artefacts")

#: Folders from the root of all runs down to a run's.
DEPTH = 3


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it.

    Attributes:
        folder: where it lies.
        spec: its settings, ``spec.toml``; ``NO_SPEC`` where there is none.
        facts: what it was made on, ``env.json``; all defaults when the run never got so far.
        records: all complete cycles.
        failure: why its last attempt ended in an error; None when it did not.
        damage: why it cannot be read; then spec, facts and records say nothing.
    """

    folder: Path
    spec: SpecFacts = NO_SPEC
    facts: RunFacts = field(default_factory=RunFacts)
    records: tuple[CycleRecord, ...] = ()
    failure: str | None = None
    damage: str | None = None

    @property
    def has_spec(self) -> bool:
        """Whether it is known what the run was to do."""
        return self.spec is not NO_SPEC

    @property
    def task(self) -> str:
        return self.spec.task.name

    @property
    def strategy(self) -> str:
        """The strategy's name without its parameters."""
        return self.spec.strategy.name

    @property
    def parameters(self) -> dict[str, Any]:
        """The strategy's parameters."""
        return self.spec.strategy.parameters

    @property
    def pair(self) -> Pair:
        seed, data_seed = self.spec.seed, self.spec.data_seed
        return seed, seed if data_seed is None else data_seed

    @property
    def course(self) -> Course:
        """Equal for runs of which one copies the other."""
        return tuple(
            (r.labelled_digest, r.learner_digest, r.test.accuracy, r.test.log_loss)
            for r in self.records
        )

    @property
    def sessions(self) -> list[Session]:
        """What made its records, in their order."""
        return self.facts.sessions_of(len(self.records))

    @property
    def was_measured(self) -> bool:
        """Whether there was a test set: labels may be collected without one."""
        return not self.records or self.records[-1].test.were_measured

    @property
    def finished(self) -> bool:
        return bool(self.records) and self.records[-1].final

    @property
    def is_bound(self) -> bool:
        """Whether the whole pool was labelled from the start: the fully supervised bound."""
        n_pool = self.facts.task.n_pool
        return bool(self.records) and n_pool is not None and self.records[0].n_labelled >= n_pool

    @property
    def is_judged(self) -> bool:
        """Whether it chose by the test set's labels: an upper curve, which nothing is ranked against."""
        return self.facts.strategy.looks_at_test_labels

    @property
    def protocol(self) -> dict[str, str]:
        """What has to agree between runs that are compared (R13)."""
        compared = self.facts.compared
        of = self.precision_of
        return {**compared, "average_precision": of} if compared and of else compared

    @property
    def precision_of(self) -> str:
        """What its average precision is of, ``macro`` or ``class NAME``; empty where nobody can tell.

        Before 0.3.0 nothing was recorded: it was class 1 of two classes, else the mean over classes.
        """
        if not self.records:
            return ""
        told = self.records[0].test.average_precision_of
        if told is not None:
            return told
        task = self.facts.task
        n_classes = len(task.test_counts) or len(task.class_names)
        if n_classes != 2:
            return MACRO if n_classes else ""
        return f"{OF_CLASS}{task.class_names[1] if len(task.class_names) == 2 else 1}"

    def x(self, axis: str) -> Array:
        """Position of every cycle on an x-axis, ``[K]``."""
        name = axis_field(axis)
        return np.array([getattr(record, name) for record in self.records], dtype=np.float64)

    def y(self, metric: str) -> Array:
        """A test figure of every cycle, ``[K]``; NaN where it is not defined."""
        find_metric(metric)
        counts = self.facts.task.test_counts
        # Without a definition, the average precision of two classes is that of class 1. Where the test
        # set has none of it, records of 0.1.0 hold 0 instead of None: nothing was there to be found.
        old = self.records and self.records[0].test.average_precision_of is None
        if metric == "average_precision" and old and len(counts) == 2 and counts[1] == 0:
            return np.full(len(self.records), np.nan)
        # None becomes NaN.
        return np.array([getattr(r.test, metric) for r in self.records], dtype=np.float64)

    @property
    def preparation(self) -> list[LedgerEntry]:
        """The ledger of one-off costs, each thing once."""
        return self.records[0].time.prepared if self.records else []

    @property
    def preparation_s(self) -> float:
        """What its preparation costs to build, whether or not this run found it ready made."""
        return float(sum(entry.seconds for entry in self.preparation))

    def state(self) -> str:
        """``finished``, ``failed``, ``unfinished``, ``not started`` or ``unreadable``."""
        if self.damage is not None:
            return "unreadable"
        if self.finished:
            return "finished"
        if self.failure is not None:
            return "failed"
        return "unfinished" if self.records else "not started"


def read_run(path: Path) -> Run:
    """Read one run folder; a folder without records is a run that has not started.

    Raises:
        UserError: a file is damaged, or cannot be read.
    """
    folder = RunFolder(path)
    with explained(path, "read"):
        spec, facts = folder.spec_facts(), folder.facts()
        return Run(path, spec or NO_SPEC, facts, tuple(folder.records()), folder.failure())


def read_or_mark(path: Path, spec: SpecFacts = NO_SPEC) -> Run:
    """A run, or one that says why it cannot be read.

    Args:
        path: its folder.
        spec: what it was to run, where that is known otherwise.
    """
    try:
        return read_run(path)
    except UserError as error:
        return Run(path, spec, damage=str(error))


def read_runs(runs_dir: Path) -> list[Run]:
    """All runs below a directory, which may also be one run folder or a part of the tree.

    A run that cannot be read stands among them with its ``damage`` and stops no other one; so does a folder
    that may not be looked into.

    Raises:
        UserError: no such directory, no run in it, or none that can be read.
    """
    if not runs_dir.is_dir():
        raise UserError(
            f"There is no directory '{runs_dir}' (looked in {Path.cwd()}). Name a directory of runs, "
            "or make runs with 'alharness run' or 'alharness sweep'."
        )
    folders = run_folders(runs_dir)
    if not folders:
        raise UserError(
            f"There are no runs in '{runs_dir}'. Make some with 'alharness run' or 'alharness sweep'."
        )
    runs = [read_or_mark(folder.path) for folder in folders]
    if all(run.damage is not None for run in runs):
        others = f" None of the {len(runs)} runs in '{runs_dir}' can be read." if runs[1:] else ""
        raise UserError(f"{runs[0].damage}{others}")
    return runs


def run_folders(runs_dir: Path) -> list[RunFolder]:
    """All run folders below a directory, sorted by path, and folders that may not be looked into.

    Runs lie at ``<task>/<strategy>/<run_key>``. Only where there is none at this depth the directory is
    taken for a part of such a tree, or for one that holds several.
    """
    found = list(_walk(runs_dir, 0, DEPTH))
    at_home = [path for path, depth, is_run in found if is_run and depth in (0, DEPTH)]
    if at_home:
        paths = [*at_home, *(path for path, _, is_run in found if not is_run)]
    else:
        paths = [path for path, *_ in _walk(runs_dir, 0, None)]
    return [RunFolder(path) for path in sorted(paths)]


def _walk(folder: Path, depth: int, deepest: int | None) -> Iterator[tuple[Path, int, bool]]:
    """(folder, its depth, whether it is a run's) for run folders, and for those that cannot be read."""
    try:
        with os.scandir(folder) as entries:
            inside = list(entries)
    except OSError:
        yield folder, depth, False
        return
    if any(entry.name in RUN_MARKS for entry in inside):
        yield folder, depth, True
    elif depth != deepest:
        for entry in inside:
            # Links are followed as far as a tree of runs is deep: below, they may lead round in a circle.
            if entry.name not in NOT_RUNS and entry.is_dir(follow_symlinks=depth < DEPTH):
                yield from _walk(Path(entry), depth + 1, deepest)
