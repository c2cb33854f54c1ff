"""``alharness.sweep``: many runs, here, in worker processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness import plugins
from alharness.api.cells import cell_line
from alharness.api.comparing import ComparisonResult, log_unreadable, result_of
from alharness.api.frames import frame_of
from alharness.api.naming import choice_of, settings_of
from alharness.api.running import AnyPath, places_of, tracking_uri
from alharness.errors import UserError, validating

if TYPE_CHECKING:
    from pandas import DataFrame

    from alharness.engine.places import Places
    from alharness.executors.base import Event, Executor
    from alharness.executors.driver import Outcome
    from alharness.executors.sweep_files import Sweep
    from alharness.executors.sweeps import Choices, Job, SweepState
    from alharness.records import Run
    from alharness.strategy import Strategy

LOG = logging.getLogger("alharness")


@dataclass(frozen=True)
class SweepResult:
    """A sweep that came to its end; a notebook shows the comparison of its runs.

    Attributes:
        sweep: what was asked for.
        jobs: its runs, resolved.
        failed: runs that failed, by name (task, strategy, seed) -> the reason in a line. The same
            call tries them again.
        notes: what was said on the way, a sentence each.
    """

    sweep: Sweep
    jobs: tuple[Job, ...]
    failed: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def runs(self) -> list[Run]:
        """What the folders of its runs tell."""
        from alharness.executors.sweeps import read_jobs

        return [run for _, run in read_jobs(self.jobs)]

    @property
    def cycles(self) -> DataFrame:
        """One row per cycle of every run, with the columns of ``alharness.load_runs``."""
        return frame_of(self.runs)

    def compare(
        self,
        *,
        axis: str = "queries",
        metric: str | None = None,
        against: str | None = None,
        split_by: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> ComparisonResult:
        """The comparison of its runs; arguments and errors as for ``alharness.compare``."""
        from alharness.executors.targets import found_of_sweep

        found = found_of_sweep(
            self.sweep, self.jobs, split_by=list(split_by), labels=dict(labels or {})
        )
        log_unreadable(found)
        return result_of(found, axis=axis, metric=metric, against=against)

    def __repr__(self) -> str:
        return f"<{self._told()}>"

    def _told(self) -> str:
        n_failed = f", {len(self.failed)} failed" if self.failed else ""
        return f"{self.sweep.heading}: {len(self.jobs)} runs{n_failed}"

    def _repr_html_(self) -> str:
        failed = "".join(
            f"<p>failed: {escape(name)}: {escape(reason)}</p>"
            for name, reason in self.failed.items()
        )
        try:
            shown = self.compare()._repr_html_()
        except UserError as error:  # of several protocols: a caller says how to split them
            shown = f"<p>{escape(str(error))}</p>"
        return f"<p>{escape(self._told())}</p>{failed}{shown}"


def sweep(
    strategies: str | type[Strategy] | Mapping[str, Any] | Iterable[Any] = (),
    datasets: str | Iterable[str] = (),
    *,
    seeds: int | str | Iterable[int] | None = None,
    spec: AnyPath | Mapping[str, Any] | None = None,
    jobs: int | None = None,
    threads: int | None = None,
    executor: Executor | None = None,
    runs_dir: AnyPath | None = None,
    data_root: AnyPath | None = None,
    fresh: bool = False,
    tracking: bool | str = True,
    experiment: str = "alharness",
    **settings: Any,
) -> SweepResult:
    """Run many: strategies x data sets x seeds, or what a sweep file says.

    What is finished is not run again, what was stopped goes on; Ctrl-C stops it and the same call
    continues. A run that fails stops no other one: it is logged as a warning and stands in ``failed``.

    Args:
        strategies: what ``alharness.run`` takes as strategy, one or several. With ``spec``: names of
            strategies, only these of it.
        datasets: names or classes of data sets, one or several; with ``spec``: instead of its own.
        seeds: numbers, or text as ``"0-9"``; 0 to 4 by default. With ``spec``: in blocks of several.
        spec: a sweep's TOML file, or the same as a mapping (``{"base": ..., "runs": [...]}``).
        jobs: runs at once; by default one per GPU, else one.
        threads: CPU threads of each; ``OMP_NUM_THREADS`` by default, else cores / jobs.
        executor: carries the runs out elsewhere, for instance
            ``alharness.executors.ray_cluster.RayExecutor``; then ``jobs`` and ``threads`` are its own.
        runs_dir, data_root, fresh, tracking, experiment: as for ``alharness.run``.
        settings: any setting of all runs, as for ``alharness.run``.

    Raises:
        UserError: something does not resolve; nothing has been started then.
    """
    from alharness.executors.local import LocalExecutor
    from alharness.executors.sweeps import expand, standing

    where = places_of(runs_dir, data_root)
    found, choices = asked(strategies, datasets, seeds, spec, settings)
    everything = expand(found, choices, where.runs_dir)
    notes: list[str] = []

    def warn(text: str) -> None:
        notes.append(text)
        LOG.warning("%s", text)

    state, line = standing(everything, fresh=fresh), cell_line()
    ended = len(everything) - len(state.left)

    def tell(event: Event) -> None:
        nonlocal ended
        ended += event.kind in ("finished", "failed")
        line("runs", ended, len(everything))
        if event.job is not None and event.kind == "failed":
            LOG.warning("failed: %s: %s", event.job.name, event.text)
        elif event.job is not None:
            LOG.info("%s: %s %s", event.kind, event.job.name, event.text)

    outcome = drive_tracked(
        found,
        state,
        where,
        executor or LocalExecutor.fitting(everything, jobs, threads),
        fresh=fresh,
        tracking=tracking,
        experiment=experiment,
        warn=warn,
        show=tell,
    )
    line.say(f"runs: {ended} of {len(everything)}", always=True)
    failed = {job.name: reason for job, reason in outcome.failed}
    return SweepResult(found, tuple(everything), failed, tuple(notes))


def drive_tracked(
    found: Sweep,
    state: SweepState,
    where: Places,
    executor: Executor,
    *,
    fresh: bool,
    tracking: bool | str,
    experiment: str,
    warn: Callable[[str], object],
    show: Callable[[Event], None],
) -> Outcome:
    """The runs behind ``alharness sweep`` and ``alharness.sweep``, with their view in MLflow.

    Args:
        found: the sweep.
        state: which of its runs are left.
        where, executor, fresh, show: as for ``drive``.
        tracking, experiment: as for ``sweep``.
        warn: told once of a store that fails, and of each run that cannot be copied.

    Raises:
        UserError: as ``sweep``.
    """
    from alharness.executors.driver import drive
    from alharness.tracking import Visits

    view = Visits(tracking_uri(tracking, where.runs_dir), experiment, warn, found.name)
    return drive(
        state.left, where, executor, fresh=fresh, before=state.finished, view=view, show=show
    )


def asked(
    strategies: Any,
    datasets: Any,
    seeds: int | str | Iterable[int] | None,
    spec: AnyPath | Mapping[str, Any] | None,
    settings: Mapping[str, Any],
) -> tuple[Sweep, Choices]:
    """A sweep, and what the arguments change about it: both as the command and the function take them.

    Raises:
        UserError: names without each other, parameters where names are expected, or no sweep's file.
    """
    from alharness.executors.sweep_files import Sweep, read_sweep
    from alharness.executors.sweeps import Choices, retitled

    chosen = [choice_of(plugins.STRATEGIES, item) for item in _several(strategies)]
    tasks = [choice_of(plugins.TASKS, item) for item in _several(datasets)]
    names = tuple(task["name"] for task in tasks)
    # Beside a name they would hold for one of several data sets.
    if any(len(task) > 1 for task in tasks):
        raise UserError(
            "A sweep takes data sets by name; their parameters are settings: task={'NAME': VALUE}."
        )
    numbers = _seeds(seeds)
    laid = settings_of(settings)
    if spec is None:
        if not chosen or not names:
            raise UserError(
                "Expected strategies and data sets, or a sweep's file. For instance: alharness sweep "
                "--strategies random,margin,full --datasets digits-two; in Python: "
                "alharness.sweep(['random', 'margin', 'full'], 'digits-two', seeds=range(5))"
            )
        title = f"{', '.join(dict.fromkeys(c['name'] for c in chosen))} on {', '.join(names)}"
        block = {"strategy": chosen, "seed": list(numbers or range(5))}  # R2: five by default
        return Sweep(name=title, title=title, runs=[block]), Choices((), names, (), laid)
    if any(len(choice) > 1 for choice in chosen):
        raise UserError("With a spec, strategies are names of its own; parameters stand in it.")
    choices = Choices(tuple(choice["name"] for choice in chosen), names, numbers, laid)
    if isinstance(spec, str | PathLike):
        return retitled(read_sweep(Path(spec).expanduser()), choices), choices
    with validating(Sweep):
        return retitled(Sweep.model_validate({"name": "sweep", **spec}), choices), choices


def _several(given: Any) -> list[Any]:
    """One or many, as a list."""
    if isinstance(given, str | type | Mapping):
        return [given]
    return list(given)


def _seeds(seeds: int | str | Iterable[int] | None) -> tuple[int, ...]:
    from alharness.executors.sweeps import parse_seeds

    if seeds is None:
        return ()
    if isinstance(seeds, int | str):
        return tuple(parse_seeds(seeds))
    return tuple(number for seed in seeds for number in parse_seeds(int(seed)))
