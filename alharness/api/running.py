"""``alharness.run``: one strategy on one data set, or the rest of a run that was stopped."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness import plugins
from alharness.api.cells import CellLine, cell_line
from alharness.api.frames import frame_of
from alharness.api.naming import choice_of, settings_of
from alharness.files import merge
from alharness.progress import Progress, silent

# Nothing here imports torch, pandas or matplotlib before it is called for: ``import alharness`` and
# ``help(alharness.run)`` take no second.
if TYPE_CHECKING:
    from pandas import DataFrame

    from alharness.engine.places import Places
    from alharness.engine.runner import Observer
    from alharness.pictures.charts import Chart
    from alharness.records import CycleRecord, Run, RunFolder
    from alharness.spec import Bound, RunSpec
    from alharness.strategy import Strategy
    from alharness.tasks.base import TaskPlugin

LOG = logging.getLogger("alharness")

#: A path as a caller may give it.
AnyPath = str | PathLike[str]


@dataclass(frozen=True)
class RunResult:
    """A run that is finished; a notebook shows its learning curve.

    Attributes:
        run: what its folder tells: spec, environment, records.
        notes: what was said on the way, a sentence each.
    """

    run: Run
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where its files lie; ``alharness run`` with the same settings finds it there, too."""
        return self.run.folder

    @property
    def records(self) -> tuple[CycleRecord, ...]:
        """One record per cycle."""
        return tuple(self.run.records)

    @property
    def cycles(self) -> DataFrame:
        """One row per cycle, with the columns of ``alharness.load_runs``."""
        return frame_of([self.run])

    @property
    def accuracy(self) -> float:
        """Test accuracy of the last classifier, in [0, 1]; NaN without a test set."""
        return self.records[-1].test.accuracy

    def figure(
        self,
        path: AnyPath | None = None,
        *,
        axis: str = "labels",
        metric: str = "accuracy",
    ) -> Chart:
        """Its learning curve, as a notebook shows it; also written where a path is given.

        Args:
            path: a .pdf, .svg, .png or .csv file.
            axis, metric: as for ``curve``.

        Raises:
            UserError: no such axis or metric, one that is not defined here, another ending.
        """
        from alharness.errors import UserError

        chart = self.curve(axis, metric)
        if chart is None:
            raise UserError(f"'{metric}' is not defined for this run. Choose another metric.")
        if path is not None:
            chart.save(Path(path).expanduser())
        return chart

    def curve(self, axis: str = "labels", metric: str = "accuracy") -> Chart | None:
        """Its learning curve, with ``svg``, ``png`` and ``csv``; None where the metric is not defined.

        Args:
            axis: ``queries``, ``labels`` or ``cost``.
            metric: as in ``alharness compare --metric``.

        Raises:
            UserError: no such axis or metric.
        """
        from alharness.comparison.comparison import Comparison
        from alharness.comparison.figures import learning_curves
        from alharness.comparison.series import Series

        series = Series(self._name, self.run.strategy, (self.run,), self._name)
        alone = Comparison(self.run.task, {}, (series,), (), (), ())
        return learning_curves(alone, axis=axis, metric=metric)

    def __repr__(self) -> str:
        return f"<{self._told()}; records in '{self.folder}'>"

    @property
    def _name(self) -> str:
        from alharness.comparison.runs import label_of

        return label_of(self.run)

    def _told(self) -> str:
        last, seed = self.records[-1], self.run.pair[0]
        return (
            f"{self._name} on {self.run.task}, seed {seed}: accuracy {last.test.as_text('accuracy')} with "
            f"{last.n_labelled} labels"
        )

    def _repr_png_(self) -> bytes | None:
        """The learning curve, for front ends without HTML; None without a test set."""
        chart = self.curve()
        return chart.png if chart is not None else None

    def _repr_html_(self) -> str:
        """The learning curve over a line of figures; what was said stands below."""
        chart = self.curve()
        drawn = chart.svg if chart is not None else ""
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        folder = escape(str(self.folder))
        return f"<p>{escape(self._told())}</p>{drawn}<p><code>{folder}</code></p>{notes}"


def run(
    strategy: str | type[Strategy] | Mapping[str, Any],
    dataset: str | type[TaskPlugin] | Mapping[str, Any],
    *,
    runs_dir: AnyPath | None = None,
    data_root: AnyPath | None = None,
    download: bool = False,
    fresh: bool = False,
    tracking: bool | str = True,
    experiment: str = "alharness",
    select_timeout: float = 0.0,
    on_cycle: Callable[[CycleRecord], object] | None = None,
    **settings: Any,
) -> RunResult:
    """Run one strategy on one data set, continue where it stopped, or return it finished.

    It is the run of ``alharness run`` with the same settings: the same folder, records and lock. Cycles
    are logged by the logger ``alharness`` at level INFO, what a user of the result should know at level
    WARNING. After an interruption the same call goes on.

    Args:
        strategy: a name of any form, a class that stands in a file of its own, or
            ``{"name": ..., PARAMETER: VALUE}``.
        dataset: the same for data.
        runs_dir: root of all runs; ``ALHARNESS_RUNS``, else ``runs``.
        data_root: where data sets are looked for; ``ALHARNESS_DATA`` by default.
        download: fetch the data set first when it is missing.
        fresh: throw away what exists of this run and start over.
        tracking: True shows the run in the MLflow store beside the runs, a URI in that one. False leaves
            MLflow alone, and ``alharness sync`` leaves the run out as well (``--all`` adds it).
        experiment: MLflow experiment.
        select_timeout: seconds after which a selection is ended as a fault; 0 lets it take its time.
        on_cycle: called with each record once it is on the disk.
        settings: any setting: ``seed=3``, ``budget=100``, ``learner={"min_steps": 100}``, or
            ``**{"learner.min_steps": 100}``. A classifier's class may stand for ``learner.kind``.
            The device is ``auto`` unless given.

    Returns:
        the finished run.

    Raises:
        UserError: unknown names or settings, data missing or changed, a class without a file, another
            process writing the same run, a plug-in that broke the contract.
    """
    from alharness.engine.runner import let_go
    from alharness.records import read_run

    bound = bound_of(strategy, dataset, settings)
    line = cell_line()
    teller = _Teller(on_cycle, line)
    folder, _ = execute_tracked(
        bound,
        places_of(runs_dir, data_root, download=download),
        observers=[teller],
        progress=line,
        warn=teller.warn,
        tracking=tracking,
        experiment=experiment,
        fresh=fresh,
        select_timeout=select_timeout,
    )
    del bound  # whose strategy may hold the pool
    let_go()
    return RunResult(read_run(folder.path), tuple(teller.notes))


def execute_tracked(
    bound: Bound,
    where: Places,
    *,
    observers: Sequence[Observer] = (),
    progress: Progress = silent,
    warn: Callable[[str], None],
    tracking: bool | str,
    experiment: str,
    fresh: bool,
    select_timeout: float,
) -> tuple[RunFolder, str | None]:
    """The run behind ``alharness run`` and ``alharness.run``, with its view in MLflow.

    Args:
        bound, where: as for ``execute``.
        observers: told of each cycle before MLflow is.
        progress, warn: as for ``execute``; ``warn`` is also told once of a store that fails.
        tracking, experiment, fresh, select_timeout: as for ``run``.

    Returns:
        the run's folder, and the store that shows it; None where there is none, or it failed.

    Raises:
        UserError: as ``run``.
    """
    from alharness.engine.runner import execute
    from alharness.tracking import RunView

    view = RunView(tracking_uri(tracking, where.runs_dir), experiment, warn)
    try:
        folder = execute(
            bound,
            where,
            fresh=fresh,
            observers=[*observers, view],
            progress=progress,
            warn=warn,
            select_timeout=select_timeout,
        )
    except BaseException:
        view.stopped()
        raise
    return folder, view.uri if view.alive else None


class _Teller:
    """The observer of a run from Python: a log, and the caller's own function."""

    def __init__(self, on_cycle: Callable[[CycleRecord], object] | None, line: CellLine) -> None:
        self._on_cycle, self._line = on_cycle, line
        self._cycles = 0
        self.notes: list[str] = []

    def warn(self, text: str) -> None:
        self.notes.append(text)
        LOG.warning("%s", text)

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        LOG.info("%s on %s, seed %d", spec.strategy.name, spec.task.name, spec.seed)
        self._cycles = spec.n_cycles + 1

    def cycle(self, record: CycleRecord) -> None:
        LOG.info(
            "cycle %d: %d labels, accuracy %s",
            record.cycle,
            record.n_labelled,
            record.test.as_text("accuracy"),
        )
        told = {"labels": record.n_labelled, "accuracy": record.test.accuracy}
        self._line("cycles", record.cycle + 1, self._cycles, told)
        if self._on_cycle is not None:
            self._on_cycle(record)

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        LOG.info("finished: %s", folder.path)
        self._line.say(f"finished: {folder.path}", always=True)


def bound_of(strategy: Any, dataset: Any, settings: Mapping[str, Any]) -> Bound:
    """The run behind a call.

    Raises:
        UserError: as ``run``.
    """
    from alharness.engine.watching import watched
    from alharness.spec import bind

    chosen = {
        "strategy": choice_of(plugins.STRATEGIES, strategy),
        "task": choice_of(plugins.TASKS, dataset),
    }
    if "initial" in settings:  # a strategy of any form, as the first argument is one
        settings = {k: v for k, v in settings.items() if k != "initial"} | {
            f"initial.{k}": v for k, v in choice_of(plugins.STRATEGIES, settings["initial"]).items()
        }
    plugins.forget_files()
    return bind(merge(settings_of(settings), chosen), watched)


def places_of(
    runs_dir: AnyPath | None, data_root: AnyPath | None, *, download: bool = False
) -> Places:
    """Where things lie, from arguments and environment."""
    from alharness.engine.places import Places
    from alharness.tasks.base import DataLocations

    runs = Path(runs_dir or os.environ.get("ALHARNESS_RUNS") or "runs").expanduser()
    data = None if data_root is None else Path(data_root).expanduser()
    return Places(runs, DataLocations.resolve(data, download=download))


def tracking_uri(tracking: bool | str, runs_dir: Path) -> str | None:
    """The store that ``tracking`` means: one that is named, else the one beside the runs; None for none.

    Raises:
        UserError: the URI cannot be a store's.
    """
    from alharness.tracking.stores import check_uri, default_uri

    if not tracking:
        return None
    named = tracking if isinstance(tracking, str) else os.environ.get("MLFLOW_TRACKING_URI")
    return check_uri(named or default_uri(runs_dir))
