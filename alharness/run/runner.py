"""Executes one run into its folder: opens the task, drives the loop, keeps the records, resumes.

The order of writing makes a kill harmless at any moment: first ``queries.npz`` (written beside and
renamed), then the cycle's line (appended and flushed), then the observers (display, MLflow). A run
continues after its last complete line; rows of ``queries.npz`` beyond it are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from alharness import registry
from alharness.artefacts import ArtefactStore, default_store_root
from alharness.errors import UserError
from alharness.files import drop_torn_line, write_json, write_text
from alharness.labelled import Annotation
from alharness.learners.learner import learner_factory
from alharness.oracle import make_oracle
from alharness.pool import Pool
from alharness.progress import Progress, silent
from alharness.records import (
    INITIAL,
    CycleRecord,
    Ledger,
    QueryLog,
    RunFolder,
    append_record,
)
from alharness.run import environment
from alharness.run.loop import Cycle, History, Problem, Sizes, asked_indices, run, start
from alharness.run.pictures import draw_pictures
from alharness.spec import RunSpec, protocol_fields
from alharness.strategy import Preparation
from alharness.tasks.base import DataLocations, TaskData


@dataclass(frozen=True)
class Places:
    """Where things lie.

    Attributes:
        runs_dir: root of all run folders.
        locations: data sets and their caches.
        store: root of the artefact store; by default below ``runs_dir``.
    """

    runs_dir: Path
    locations: DataLocations
    store: Path | None = None

    @property
    def store_root(self) -> Path:
        return self.store or default_store_root(self.runs_dir)


class Observer(Protocol):
    """Told what happens while a run is executed. An observer that fails does not lose a record."""

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        """The task is open; ``done`` are the records that exist already."""

    def cycle(self, record: CycleRecord) -> None:
        """A cycle is complete and on the disk."""

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        """The budget is spent."""


@dataclass(frozen=True)
class OpenTask:
    """A task with its data loaded and its pool opened on the device."""

    data: TaskData
    pool: Pool
    test: Pool


def open_task(spec: RunSpec, places: Places, progress: Progress = silent) -> OpenTask:
    """Load the data of a spec and open pool and test set on its device."""
    plugin = registry.resolve_task(spec.task.name, **spec.task.parameters)
    data = plugin.load(places.locations, progress)
    device = torch.device(spec.device)
    return OpenTask(data, data.open_pool(device, spec.pool), data.open_test(device))


def execute(
    spec: RunSpec,
    places: Places,
    *,
    fresh: bool = False,
    observers: Sequence[Observer] = (),
    progress: Progress = silent,
    max_cycles: int | None = None,
) -> RunFolder:
    """Run a spec to its end, or continue it; a finished run is not run again.

    Args:
        spec: what to run.
        places: where runs, data and artefacts lie.
        fresh: throw away what exists of this run and start over.
        observers: told of every cycle after it is on the disk.
        progress: told of long work before cycle 0.
        max_cycles: stop after so many new cycles (for tests and previews); None runs to the end.

    Raises:
        UserError: data missing, settings that do not fit, another process writing the same run.
    """
    folder = RunFolder(spec.folder(places.runs_dir))
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The run folder '{folder.path}' cannot be made: {error.strerror}. "
            "Choose another place with --runs-dir."
        ) from error
    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process is writing this run ('{folder.path}'). Wait for it, or stop it."
        ) from None
    try:
        if fresh:
            for path in (folder.cycles, folder.queries, folder.env):
                path.unlink(missing_ok=True)
        if not fresh and folder.is_finished():
            records = folder.records()
            for observer in observers:
                observer.started(spec, folder, records)
                observer.finished(folder, records)
            return folder
        with torch.backends.cudnn.flags(deterministic=True, benchmark=False, allow_tf32=False):
            _execute(spec, places, folder, observers, progress, max_cycles)
    finally:
        lock.release()
    return folder


def _execute(
    spec: RunSpec,
    places: Places,
    folder: RunFolder,
    observers: Sequence[Observer],
    progress: Progress,
    max_cycles: int | None,
) -> None:
    drop_torn_line(folder.cycles)
    records = folder.records()
    task = open_task(spec, places, progress)
    device = torch.device(spec.device)
    ledger = Ledger(device)
    artefacts = ArtefactStore(places.store_root, pinned=_begun_with(records))
    strategy = registry.resolve_strategy(spec.strategy.name, **spec.strategy.parameters)
    oracle = make_oracle(
        task.data,
        task.pool,
        task.test,
        settings=spec.oracle,
        artefacts=artefacts,
        ledger=ledger,
        progress=progress,
        seed=spec.seed,
        folder=folder.path,
    )
    factory = learner_factory(spec.learner)
    problem = Problem(
        task.pool, task.test, task.data.test_targets, oracle, task.data.n_classes, factory
    )
    sizes = Sizes(spec.seed, spec.data_seed, spec.budget, spec.query_size, spec.initial_size)
    preparation = Preparation(
        task=spec.task.name,
        n_classes=task.data.n_classes,
        class_names=task.data.class_names,
        pool=task.pool,
        test=task.test,
        device=device,
        seed=spec.seed,
        profile=spec.profile,
        fingerprint=task.pool.fingerprint,
        learner_factory=factory,
        learner_settings=spec.learner,
        artefacts=artefacts,
        ledger=ledger,
        generator_settings=spec.generator.for_profile(
            spec.profile, task.pool.item_shape, spec.task.name
        ),
        autoencoder_settings=spec.autoencoder.for_profile(spec.profile, task.pool.item_shape),
        progress=progress,
    )

    if records:
        log = QueryLog.read(folder.queries).before(len(records))
        history = rebuild(records, log)
    else:
        log = QueryLog()
        history = start(problem, strategy, sizes)
        log.add(INITIAL, _rows(history.initial, history.asked))
    _write_environment(spec, folder, task.data, task.pool, resumed_at=len(records))
    for observer in observers:
        observer.started(spec, folder, records)

    _warm_up(device)
    done = len(records)
    for cycle in run(problem, strategy, sizes, preparation, history):
        if cycle.query is not None and cycle.annotation is not None:
            log.add(cycle.record.cycle, _cycle_rows(cycle))
        log.write(folder.queries)
        append_record(folder.cycles, cycle.record)
        records.append(cycle.record)
        for observer in observers:
            observer.cycle(cycle.record)
        if max_cycles is not None and len(records) - done >= max_cycles and not cycle.record.final:
            return
    draw_pictures(folder, log, task.pool, task.data, ledger)
    for observer in observers:
        observer.finished(folder, records)


def _begun_with(records: Sequence[CycleRecord]) -> dict[str, set[str]]:
    """Keys of the artefacts, by kind, that a stopped run rests on.

    Settings that are left open ("auto") follow the version's recipes, which the run key does not name.
    """
    found: dict[str, set[str]] = {}
    for entry in (records[0].time.preparation or []) if records else []:
        if "key" in entry["details"]:
            found.setdefault(entry["name"], set()).add(entry["details"]["key"])
    return found


def _warm_up(device: torch.device) -> None:
    """Pay for torch's first optimiser (a second of lazy imports) before any fit is timed."""
    parameter = torch.zeros(2, 2, device=device, requires_grad=True)
    optimiser = torch.optim.AdamW([parameter])
    (parameter @ parameter).sum().backward()
    optimiser.step()


def _rows(annotation: Annotation, asked: torch.Tensor) -> dict[str, NDArray[Any]]:
    rows: dict[str, NDArray[Any]] = {
        "asked": asked.numpy(),
        "indices": annotation.indices.numpy(),
        "targets": annotation.targets.numpy(),
    }
    if annotation.items is not None and annotation.item_targets is not None:
        rows["items"] = annotation.items.numpy()
        rows["item_targets"] = annotation.item_targets.numpy()
    for name, values in annotation.extras.items():
        rows[f"extra.{name}"] = values.numpy()
    return rows


def _cycle_rows(cycle: Cycle) -> dict[str, NDArray[Any]]:
    assert cycle.query is not None
    assert cycle.annotation is not None
    assert cycle.entropy is not None
    rows = _rows(cycle.annotation, asked_indices(cycle.query))
    rows["entropy"] = cycle.entropy
    for name, values in cycle.query.arrays.items():
        rows[f"array.{name}"] = np.asarray(values)
    return rows


def rebuild(records: Sequence[CycleRecord], log: QueryLog) -> History:
    """The state after the last complete cycle, from the files of a stopped run.

    Raises:
        UserError: ``queries.npz`` does not hold what the records say was labelled.
    """
    first = records[0]
    initial = _annotation(log, INITIAL, n_asked=first.n_asked, n_rejected=0, cost=first.cost)
    annotations = tuple(
        _annotation(
            log,
            record.cycle,
            n_asked=record.annotation.n_asked,
            n_rejected=record.annotation.n_rejected,
            cost=record.annotation.cost,
        )
        for record in records
        if record.annotation is not None
    )
    asked = [log.rows("asked", cycle) for cycle in range(INITIAL, len(records))]
    n_found = sum(len(a.targets) for a in (initial, *annotations[:-1])) + sum(
        len(a.item_targets) for a in annotations[:-1] if a.item_targets is not None
    )
    if n_found != records[-1].n_labelled:
        raise UserError(
            f"The run's queries.npz holds {n_found} labels where its records say "
            f"{records[-1].n_labelled}. Restore the file, or start over with --fresh."
        )
    together = np.concatenate([rows for rows in asked if rows is not None])
    return History(initial, torch.from_numpy(together), annotations)


def _annotation(
    log: QueryLog, cycle: int, *, n_asked: int, n_rejected: int, cost: float
) -> Annotation:
    def tensor(name: str) -> torch.Tensor | None:
        rows = log.rows(name, cycle)
        return torch.from_numpy(rows) if rows is not None else None

    empty = torch.empty(0, dtype=torch.int64)
    indices, targets = tensor("indices"), tensor("targets")
    extras = {
        name.removeprefix("extra."): values
        for name in log.names()
        if name.startswith("extra.") and (values := tensor(name)) is not None
    }
    return Annotation(
        indices=empty if indices is None else indices,
        targets=empty if targets is None else targets,
        items=tensor("items"),
        item_targets=tensor("item_targets"),
        n_asked=n_asked,
        n_rejected=n_rejected,
        cost=cost,
        extras=extras,
    )


def _write_environment(
    spec: RunSpec, folder: RunFolder, data: TaskData, pool: Pool, *, resumed_at: int
) -> None:
    """``spec.toml`` and ``env.json``; refuses to continue a run on other data."""
    protocol = protocol_fields(spec, data.fingerprint)
    before = folder.environment()
    known: Mapping[str, Any] = before.get("task", {})
    if resumed_at and known.get("fingerprint") not in (None, data.fingerprint):
        raise UserError(
            f"The run in '{folder.path}' was started on data with fingerprint "
            f"{known['fingerprint']}; '{spec.task.name}' now has {data.fingerprint}. Use the same "
            "data, or start over with --fresh."
        )
    session = {
        "started_ms": time.time_ns() // 1_000_000,
        "first_cycle": resumed_at,
        "versions": environment.versions(),
        "hardware": environment.hardware(torch.device(spec.device)),
        "git_commit": environment.git_commit(),
    }
    sessions = [*before.get("sessions", []), session]
    write_json(
        folder.env,
        {
            "protocol": protocol,
            "run_key": spec.run_key,
            "task": {
                "fingerprint": data.fingerprint,
                "class_names": list(data.class_names),
                "n_pool": pool.n,
                "n_test": len(data.test_targets),
                "test_counts": np.bincount(data.test_targets, minlength=data.n_classes).tolist(),
                "item_shape": list(pool.item_shape),
                "residency": pool.residency,
                "forecast": str(data.forecast(torch.device(spec.device), spec.pool)),
                "synthetic": data.synthetic,
                "notes": dict(data.notes),
            },
            "strategy": {
                "distribution": registry.provider(registry.STRATEGIES, spec.strategy.name)
            },
            "versions": sessions[0]["versions"],
            "hardware": sessions[0]["hardware"],
            "git_commit": sessions[0]["git_commit"],
            "sessions": sessions,
        },
    )
    write_text(folder.spec, spec.to_toml())
