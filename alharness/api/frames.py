"""Records as a table: one row per cycle, for pandas."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.files import no_collections
from alharness.lazily import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import DataFrame

    from alharness.records import Run

LOG = logging.getLogger("alharness")

#: Of a record: what proves the files, and is no result.
_PROOFS = {"schema_version", "rows", "files"}

#: Fields that records do not write where there is nothing to say.
_OF_SOME = {"test.average_precision_of", "annotation.n_wrong", "cross_validated", "stopped"}

#: Fields that the cycles of one run need not all have.
_OF_SOME_CYCLES = ("query.", "annotation.", "work.", "time.phases.", "stop_set.")


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


@no_collections()
def frame_of(runs: Iterable[Run]) -> DataFrame:
    """The table of ``load_runs`` for runs that are read already."""
    import pandas

    ordered = sorted(runs, key=lambda run: (run.task, run.strategy, run.pair, str(run.folder)))
    unreadable = {str(run.folder): run.damage for run in ordered if run.damage is not None}
    for reason in unreadable.values():
        LOG.warning("left out: %s", reason)
    told = [run for run in ordered if run.records]
    counts = [len(run.records) for run in told]
    starts = np.cumsum([0, *counts])
    # A run's settings stand once for all its rows, until the table has all its columns.
    whose, settings = _by_name(map(_whose, told)), _by_name(map(_settings, told))
    recorded: dict[str, list[_Part]] = {}
    for run, start in zip(told, starts, strict=False):
        for name, values in _recorded(run).items():
            recorded.setdefault(name, []).append((int(start), _packed(values)))
    places = np.repeat(np.arange(len(told)), counts)
    columns = {name: _repeated(values, places) for name, values in whose.items()}
    columns |= {name: _joined(parts, len(places)) for name, parts in recorded.items()}
    rest = {name: values for name, values in settings.items() if name not in columns}
    columns |= {name: _repeated(values, places) for name, values in rest.items()}
    frame = pandas.DataFrame(columns, index=range(len(places)))
    frame.attrs["unreadable"] = unreadable
    return frame


#: A run's part of a column: the row that it begins in, and its values.
_Part = tuple[int, "NDArray[Any] | list[Any]"]


def _whose(run: Run) -> dict[str, Any]:
    from alharness.comparison.runs import label_of

    seed, data_seed = run.pair
    return {
        "task": run.task,
        "strategy": run.strategy,
        "label": label_of(run) if run.has_spec else "?",
        "seed": seed,
        "data_seed": data_seed,
        "run_key": run.folder.name,
        "state": run.state(),
        "folder": str(run.folder),
    }


def _settings(run: Run) -> dict[str, Any]:
    hidden = ("task", "task.name", "strategy", "strategy.name")
    return {key: value for key, value in run.spec.settings.items() if key not in hidden}


def _by_name(runs: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """Values by run as columns ``[R]``, in the order in which runs have them; NaN where one has none."""
    rows = list(runs)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, math.nan) for row in rows] for name in names}


def _repeated(values: list[Any], places: NDArray[np.int64]) -> Any:
    """A column of every run's value in all of its rows, as pandas makes it of a list."""
    import pandas

    return pandas.Series(values).take(places).array


def _recorded(run: Run) -> dict[str, list[Any]]:
    """The columns of its records, and what its preparations cost in place of what they were."""
    columns = run.records.columns()
    rest = len(run.records) - 1
    built = sum(entry.seconds for entry in run.preparation)
    paid = sum(entry.load_s for entry in run.preparation)
    found: dict[str, list[Any]] = {}
    for name, values in columns.items():
        if name == "time.preparation":
            found["time.preparation_s"] = [built, *[0 * built] * rest]
            found["time.preparation_paid_s"] = [paid, *[0 * paid] * rest]
        elif name in _OF_SOME and all(value is None for value in values):
            continue
        elif name.startswith(_OF_SOME_CYCLES):
            found[name] = [math.nan if value is None else value for value in values]
        elif name not in _PROOFS:
            found[name] = values
    return found


def _packed(values: list[Any]) -> NDArray[Any] | list[Any]:
    """Numbers of one kind as an array, an eighth of their size as objects."""
    kinds = set(map(type, values))
    if len(kinds) == 1 and kinds <= {float, int, bool}:
        return np.array(values)
    return values


def _joined(parts: Sequence[_Part], n_rows: int) -> Any:
    """The parts of all runs as one column, as pandas makes it of a list; NaN where no run has a part."""
    import pandas

    arrays = [values for _, values in parts if isinstance(values, np.ndarray)]
    kinds = {array.dtype for array in arrays} if len(arrays) == len(parts) else {np.dtype(object)}
    n_given = sum(len(values) for _, values in parts)
    if n_given == n_rows and len(kinds) == 1 and np.dtype(object) not in kinds:
        return np.concatenate(arrays)
    # Whole numbers with gaps become floats, as pandas has it; yes and no with gaps stay objects.
    numbers = all(kind.kind in "if" for kind in kinds)
    column = np.full(n_rows, np.nan, dtype=np.float64 if numbers else object)
    for start, values in parts:
        # One by one: a list of lists of one length is no table.
        for place, value in enumerate(values if not numbers else (), start):
            column[place] = value
        if numbers:
            column[start : start + len(values)] = values
    return column if numbers else pandas.Series(column.tolist())
