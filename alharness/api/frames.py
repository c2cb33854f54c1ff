"""Records as a table: one row per cycle, for pandas."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.files import flatten

if TYPE_CHECKING:
    from pandas import DataFrame

    from alharness.records import CycleRecord, Run

LOG = logging.getLogger("alharness")

#: Of a record: what proves the files, and is no result.
_PROOFS = {"schema_version", "rows", "files"}


def load_runs(runs_dir: str | PathLike[str] = "runs") -> DataFrame:
    """All runs below a directory as a table with one row per cycle.

    Args:
        runs_dir: root of the runs, or any folder below it, down to one run's.

    Returns:
        a DataFrame, sorted by task, strategy, seeds and cycle. First come ``task``, ``strategy``,
        ``label`` (the strategy with those of its parameters that are not at their defaults), ``seed``,
        ``data_seed``, ``run_key``, ``state`` (``finished``, ``failed`` or ``unfinished``) and ``folder``.
        Then the record's own fields under dotted names: ``cycle``, ``n_labelled``, ``n_asked``,
        ``test.accuracy``, ``query.entropy_mean`` (nats), ``work.COUNTER``, ``time.select_s`` and
        ``time.phases.PHASE`` (seconds). ``time.preparation_s`` is what preparations cost to build,
        ``time.preparation_paid_s`` what this run paid for them; both stand in cycle 0 alone, so that
        sums are right. Then every setting under its dotted name, as in ``--set``:
        ``budget``, ``learner.kind``, ``strategy.PARAMETER``. What a run does not have is missing (NaN).
        The last cycle of a finished run asks nothing. Runs without a cycle have no row.
        ``attrs["unreadable"]`` tells damaged runs, which are left out and logged as warnings:
        folder -> reason.

    Raises:
        UserError: no such directory, no runs in it, or none that can be read.
    """
    from alharness.records import read_runs

    return frame_of(read_runs(Path(runs_dir).expanduser()))


def frame_of(runs: Iterable[Run]) -> DataFrame:
    """The table of ``load_runs`` for runs that are read already."""
    import pandas

    ordered = sorted(runs, key=lambda run: (run.task, run.strategy, run.pair, str(run.folder)))
    unreadable = {str(run.folder): run.damage for run in ordered if run.damage is not None}
    for reason in unreadable.values():
        LOG.warning("left out: %s", reason)
    rows = [row for run in ordered for row in _rows(run)]
    # Columns in the order of the groups, whichever run has them first.
    groups: tuple[dict[str, None], ...] = ({}, {}, {})
    for parts in rows:
        for group, part in zip(groups, parts, strict=True):
            group.update(dict.fromkeys(part))
    columns = list(dict.fromkeys(name for group in groups for name in group))
    frame = pandas.DataFrame(
        [{**who, **settings, **record} for who, record, settings in rows], columns=columns
    )
    frame.attrs["unreadable"] = unreadable
    return frame


def _rows(run: Run) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Per cycle: whose it is, what was recorded, under which settings."""
    from alharness.comparison.runs import display_label

    seed, data_seed = run.pair
    who = {
        "task": run.task,
        "strategy": run.strategy,
        "label": display_label(run.strategy, run.parameters) if run.has_spec else "?",
        "seed": seed,
        "data_seed": data_seed,
        "run_key": run.folder.name,
        "state": run.state(),
        "folder": str(run.folder),
    }
    settings = {
        key: value
        for key, value in run.spec.settings.items()
        if key not in ("task", "task.name", "strategy", "strategy.name", *who)
    }
    return [(who, _recorded(record), settings) for record in run.records]


def _recorded(record: CycleRecord) -> dict[str, Any]:
    values = record.model_dump(exclude=_PROOFS)
    for section in ("query", "annotation"):
        values[section] = values[section] or {}
    del values["time"]["preparation"]
    prepared = record.time.prepared
    values["time"]["preparation_s"] = sum(entry.seconds for entry in prepared)
    values["time"]["preparation_paid_s"] = sum(entry.load_s for entry in prepared)
    return flatten(values)
