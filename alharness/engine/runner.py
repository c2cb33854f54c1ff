"""Executes one run into its folder: opens the task, drives the loop, keeps the records, resumes.

The order of writing makes a kill harmless at any moment: first ``queries.npz`` (written beside and
renamed), then the cycle's line (appended and flushed), then the observers (display, the view's visits). A run
continues after its last complete line; rows of ``queries.npz`` beyond it are dropped.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from alharness import numerics, registry
from alharness.artefacts import ArtefactStore, Supply
from alharness.engine.describing import describe, describe_preparation, other_data
from alharness.engine.ending import Ending
from alharness.engine.evaluation import PrecisionOf, decide_precision, precision_of_before
from alharness.engine.folders import failure_kept, held, open_folder
from alharness.engine.initial import Choose, Chosen, choose_by, start, stratified_indices
from alharness.engine.judging import open_judging
from alharness.engine.loop import Sizes, run
from alharness.engine.opening import OpenTask, open_task
from alharness.engine.pictures import draw_pictures
from alharness.engine.places import Places
from alharness.engine.proof import proved_log
from alharness.engine.recording import Keeper
from alharness.engine.watching import watched
from alharness.errors import PendingError, UserError, is_own, of_the_start
from alharness.oracle import Oracle, hidden
from alharness.oracle.questions import Asking
from alharness.pool import Pool
from alharness.progress import Progress, silent
from alharness.records import CycleRecord, Ledger, RunFolder, doubts
from alharness.records.facts import RANDOM_START
from alharness.spec import Bound, RunSpec, current_device, rebind
from alharness.tasks.base import TaskPlugin, load_data


class Observer(Protocol):
    """Told what happens while a run is executed. An observer that fails does not lose a record."""

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        """The task is open; ``done`` are the records that exist already."""

    def cycle(self, record: CycleRecord) -> None:
        """A cycle is complete and on the disk."""

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        """The budget is spent, or a rule ended the run."""


@dataclass(frozen=True)
class Limits:
    """Where a session of a run ends: after so many new cycles; what one selection may take."""

    max_cycles: int | None = None
    select_timeout: float = 0.0


def execute(
    run: RunSpec | Bound,
    places: Places,
    *,
    fresh: bool = False,
    observers: Sequence[Observer] = (),
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda text: None,
    max_cycles: int | None = None,
    select_timeout: float = 0.0,
) -> RunFolder:
    """Take a run to its end, or continue it; a finished run is proved and not run again.

    Args:
        run: a spec, whose names are looked up here, or the run that it was bound to; its strategy may
            hold the pool, so that ``let_go`` is called when it is no longer needed.
        places: where runs, data and artefacts lie.
        fresh: throw away what exists of this run and start over.
        observers: told of every cycle after it is on the disk.
        progress: told of long work before cycle 0.
        warn: told, in a sentence, what a user of the result should know.
        max_cycles: stop after so many new cycles (for tests and previews); None runs to the end.
        select_timeout: seconds after which a selection is ended as a fault; 0 lets it take its time.

    Raises:
        PendingError: a person has not answered a query.
        UserError: data missing or changed, settings that do not fit, damaged files, another process
            writing the same run.
    """
    bound = run if isinstance(run, Bound) else rebind(run, watched)
    carried = steps(
        bound,
        places,
        fresh=fresh,
        observers=observers,
        progress=progress,
        warn=warn,
        max_cycles=max_cycles,
        select_timeout=select_timeout,
    )
    # Closed before anything is raised: the run's lock is free when the caller sees the error.
    with closing(carried):
        for waiting in carried:
            raise waiting
    folder = RunFolder(bound.spec.folder(places.runs_dir))
    if isinstance(run, RunSpec):
        del bound, carried  # whose strategy may hold the pool
        let_go()
    return folder


def steps(
    bound: Bound,
    places: Places,
    *,
    fresh: bool = False,
    observers: Sequence[Observer] = (),
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda text: None,
    max_cycles: int | None = None,
    select_timeout: float = 0.0,
    asking: Asking | None = None,
) -> Generator[PendingError]:
    """As ``execute``, but whoever iterates gets a turn each time that a person is to answer.

    What is yielded says what is waited for; asking for the next one goes on, and yields the same again where
    answers are still missing. The run's lock is held until the iterator ends or is closed; settings of
    the process (arithmetic, the default device) are set only while it computes.

    Args:
        bound: the run.
        places, fresh, observers, progress, warn, max_cycles, select_timeout: as for ``execute``.
        asking: how a person is asked.

    Raises:
        UserError: as ``execute``.
    """
    spec = bound.spec
    # First of all: the lock lies in the folder.
    folder = open_folder(spec, places.runs_dir, fresh=fresh)
    with held(folder):
        if fresh:
            folder.clear()
        audience = _Audience(observers, progress, warn)
        if folder.is_finished():
            _return_finished(bound, places, folder, audience)
            return
        limits = Limits(max_cycles, select_timeout)
        carried = _execute(bound, places, folder, audience, limits, asking)
        with closing(carried):
            while True:
                device = current_device(spec.device)
                with failure_kept(spec, folder), numerics.exact(), device:
                    waiting = next(carried, None)
                if waiting is None:
                    return
                yield waiting


#: The pool of this process's last run, until it was seen to that it is gone.
_LAST: list[weakref.ref[Pool]] = []


def let_go() -> None:
    """Free the last run's pool: for whoever calls ``execute`` with a bound run, when it is let go of.

    A network or a plug-in that holds itself in a circle holds the pool with it. Python looks for circles
    seldom, and this process's next run needs the memory.
    """
    while _LAST:
        if _LAST.pop()() is not None:
            gc.collect()


@dataclass(frozen=True)
class _Audience:
    """Everybody who is told of a run."""

    observers: Sequence[Observer]
    progress: Progress
    warn: Callable[[str], None]

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        facts = folder.facts()
        # Before the observers: the display begins its table of cycles, which no notice should cut in two.
        for doubt in doubts(facts.task.notes):
            self.warn(f"The data of '{spec.task.name}': {doubt}")
        for caveat in dict.fromkeys((facts.strategy.caveat, facts.start.caveat)):
            if caveat:
                self.warn(f"Known of {caveat}.")
        for observer in self.observers:
            observer.started(spec, folder, done)

    def cycle(self, record: CycleRecord) -> None:
        for observer in self.observers:
            observer.cycle(record)

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        for observer in self.observers:
            observer.finished(folder, records)


def _return_finished(bound: Bound, places: Places, folder: RunFolder, audience: _Audience) -> None:
    """A finished run, proved: its files, and the data that it was made on."""
    spec = bound.spec
    records = folder.records()
    proved_log(folder, records)
    made_on = folder.facts().task.fingerprint
    present = _present_fingerprints(bound.task, places)
    if not present:
        audience.warn(
            f"The data of '{spec.task.name}' are not here: the finished run stands unchecked."
        )
    elif made_on is not None and made_on not in present:
        raise other_data(spec, folder, made_on, present[0])
    audience.started(spec, folder, records)
    audience.finished(folder, records)
    audience.warn(
        "This run was finished before; nothing was run. --fresh (in Python fresh=True) starts it over."
    )


def _present_fingerprints(task: TaskPlugin, places: Places) -> tuple[str, ...]:
    """Digests of the task's data as they are here now, that of new runs first; none: they are not here.

    Of somebody's own task there are two: what its ``load`` claims stands in records before 0.3.
    """
    # A finished run is proved with what is here; nothing is fetched for it.
    locations = replace(places.locations, download=False)
    try:
        if is_own(task):
            return (task.fingerprint(locations),)
        data = load_data(task, locations, blanks=True, gaps=True)
    except UserError:
        return ()
    return data.fingerprint, data.claimed or data.fingerprint


def _execute(
    bound: Bound,
    places: Places,
    folder: RunFolder,
    audience: _Audience,
    limits: Limits,
    asking: Asking | None,
) -> Generator[PendingError]:
    """The cycles that are left; leaves a look at the pool that tells whether it outlives the run."""
    spec, strategy = bound.spec, bound.strategy
    # The records first: what is damaged there is told before data are read and networks trained.
    keeper = Keeper(folder, warm_start=spec.learner.warm_start)
    done = len(keeper.records)
    task = open_task(bound, places, audience.progress)
    _LAST[:] = [weakref.ref(task.pool)]
    store = ArtefactStore(places.store_root, pinned=_begun_with(keeper.records))
    supply = Supply(store, Ledger(task.pool.device), audience.progress)
    precision = _precision_of(task, keeper.records)
    oracle = task.oracle(supply, folder, asking=asking)
    task = replace(task, data=hidden(task.data, oracle))
    sizes = Sizes(spec.seed, spec.data_seed, spec.budget, spec.query_size, spec.initial_size)
    # Read once, of the class: whoever is shown figures of the test set is recorded as a bound.
    judging = None
    if type(strategy).looks_at_test_labels:
        judging = open_judging(task, oracle, precision)
    chosen: list[Chosen] = []  # filled where a strategy chooses the initial set of a new run
    choose = chooser(task, replace(supply, ledger=Ledger(task.pool.device)), oracle, limits, chosen)

    def describe_run() -> None:
        describe(
            spec,
            folder,
            task,
            caveat=str(strategy.caveat),
            start=chosen[0].facts if chosen else None,
            is_judged=judging is not None,
            resumed_at=done,
        )

    history, described = None, False
    while history is None:
        try:
            history = keeper.history(
                lambda: start(strategy, task.pool.n, oracle, sizes, choose), oracle
            )
        except PendingError as waiting:  # the initial set is a person's, too
            first, described = not described, True
            if first:  # what a person answers lies in a folder that says what it is
                describe_run()
            yield waiting
    if not described:
        describe_run()
    audience.started(spec, folder, keeper.records)
    with oracle.vault.sealed():
        stage = task.stage(supply, limits.select_timeout)
    describe_preparation(folder, stage.changes)
    if bound.strategy.optimises or bound.kind.optimises(spec.learner):
        _warm_up(task.pool.device)
    ending = _ending(bound, stage.problem.pool.n, keeper.records)
    targets = task.data.test_targets
    for cycle in run(stage, oracle, targets, sizes, history, precision, ending, judging):
        if isinstance(cycle, PendingError):
            yield cycle
            continue
        record = keeper.keep(cycle, supply.ledger)
        audience.cycle(record)
        if not record.final and len(keeper.records) - done == limits.max_cycles:
            return
    draw_pictures(folder, keeper.log, task.pool, task.data, supply.ledger)
    audience.finished(folder, keeper.records)


def _ending(bound: Bound, n: int, records: Sequence[CycleRecord]) -> Ending | None:
    """Stop set and rules of a run; None for one that was begun before there was a stop set."""
    if records and records[0].stop_set is None:
        return None  # it goes on with records as they were
    return Ending(n, bound.spec.seed, bound.stopping, records)


def chooser(
    task: OpenTask, supply: Supply, oracle: Oracle, limits: Limits, chosen: list[Chosen]
) -> Choose | None:
    """What finds the initial set of a new run; None where it is drawn uniformly.

    Args:
        supply: with a ledger of its own: what a start costs is no cost of the run's strategy.
        chosen: gets what a strategy chose.
    """
    spec, starter = task.bound.spec, task.bound.starter
    if starter is None and spec.initial.name == RANDOM_START.name:
        return None
    if starter is None:
        return lambda sizes: stratified_indices(
            oracle.truth.reveal().numpy(), task.data.n_classes, sizes
        )

    def choose(sizes: Sizes) -> torch.Tensor:
        if chosen:  # a person is still labelling it: it was chosen once
            return chosen[0].indices
        with of_the_start():
            found = choose_by(
                starter,
                spec.initial.name,
                task.problem,
                task.networks,
                supply,
                oracle,
                sizes,
                distribution=registry.provider(registry.STRATEGIES, spec.initial.name),
                select_timeout=limits.select_timeout,
            )
        chosen.append(found)
        return chosen[0].indices

    return choose


def _precision_of(task: OpenTask, records: Sequence[CycleRecord]) -> PrecisionOf:
    """What the average precision is of: as the run was begun, else as its task is now."""
    data = task.data
    if records:
        return precision_of_before(data.class_names, records[0].test.average_precision_of)
    known = data.pool_targets[data.pool_targets >= 0]
    counts = np.bincount(known, minlength=data.n_classes).tolist()
    return decide_precision(data.class_names, counts, task.bound.spec.positive)


def _begun_with(records: Sequence[CycleRecord]) -> dict[str, set[str]]:
    """Keys of the artefacts, by kind, that a stopped run rests on.

    Settings that are left open ("auto") follow the version's recipes, which the run key does not name.
    """
    found: dict[str, set[str]] = {}
    for entry in records[0].time.prepared if records else []:
        if entry.key is not None:
            found.setdefault(entry.name, set()).add(entry.key)
    return found


def _warm_up(device: torch.device) -> None:
    """Pay for torch's first optimiser (a second of lazy imports) before any fit is timed."""
    parameter = torch.zeros(2, 2, device=device, requires_grad=True)
    optimiser = torch.optim.AdamW([parameter])
    (parameter @ parameter).sum().backward()
    optimiser.step()
