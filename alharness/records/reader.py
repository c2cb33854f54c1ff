"""Finished, stopped and failed runs of a directory: the one reader of runs' folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from alharness.errors import UserError
from alharness.files import explained, no_collections
from alharness.records.cycles import Cycles
from alharness.records.facts import NO_SPEC, SpecFacts
from alharness.records.folder import RunFolder
from alharness.records.parsed import ParsedRuns
from alharness.records.runs import Run

#: A folder that holds one of these is a run's.
RUN_MARKS = ("spec.toml", "cycles.jsonl")

#: What lies beside the tasks' folders and holds no runs. Version 0.2 kept copies of records below
#: ``mlflow``: with a task's folder gone they passed for its runs.
NOT_RUNS = ("mlflow", "artefacts")

#: Folders from the root of all runs down to a run's.
DEPTH = 3


def read_run(path: Path) -> Run:
    """Read one run folder; a folder without records is a run that has not started.

    Raises:
        UserError: a file is damaged, or cannot be read.
    """
    folder = RunFolder(path)
    with explained(path, "read"):
        spec, facts = folder.spec_facts(), folder.facts()
        return Run(path, spec or NO_SPEC, facts, Cycles(folder.records()), folder.failure())


def read_or_mark(
    path: Path, spec: SpecFacts = NO_SPEC, read: Callable[[Path], Run] = read_run
) -> Run:
    """A run, or one that says why it cannot be read.

    Args:
        path: its folder.
        spec: what it was to run, where that is known otherwise.
        read: reads a folder; ``ParsedRuns.of`` where many are read.
    """
    try:
        return read(path)
    except UserError as error:
        return Run(path, spec, damage=str(error))


@no_collections()
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
    with ParsedRuns(read_run) as parsed:
        runs = [read_or_mark(folder.path, read=parsed.of) for folder in folders]
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
