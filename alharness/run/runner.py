"""Executes one run into its folder: opens the task, drives the loop, keeps the records, resumes.

The order of writing makes a kill harmless at any moment: first ``queries.npz`` (written beside and
renamed), then the cycle's line (appended and flushed), then the observers (display, MLflow). A run
continues after its last complete line; rows of ``queries.npz`` beyond it are dropped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock, Timeout

from alharness import registry
from alharness.artefacts import ArtefactStore, Supply
from alharness.errors import UserError
from alharness.files import write_json, write_text
from alharness.oracle import hidden, open_oracle
from alharness.progress import Progress, silent
from alharness.records import CycleRecord, Ledger, RunFolder
from alharness.run import environment
from alharness.run.loop import Sizes, run, start
from alharness.run.opening import OpenTask, Places, networks_of, open_task, problem_of
from alharness.run.pictures import draw_pictures
from alharness.run.recording import Keeper
from alharness.run.stage import set_stage
from alharness.spec import RunSpec, protocol_fields


class Observer(Protocol):
    """Told what happens while a run is executed. An observer that fails does not lose a record."""

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        """The task is open; ``done`` are the records that exist already."""

    def cycle(self, record: CycleRecord) -> None:
        """A cycle is complete and on the disk."""

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        """The budget is spent."""


def execute(
    spec: RunSpec,
    places: Places,
    *,
    fresh: bool = False,
    observers: Sequence[Observer] = (),
    progress: Progress = silent,
    max_cycles: int | None = None,
    select_timeout: float = 0.0,
) -> RunFolder:
    """Run a spec to its end, or continue it; a finished run is not run again.

    Args:
        spec: what to run.
        places: where runs, data and artefacts lie.
        fresh: throw away what exists of this run and start over.
        observers: told of every cycle after it is on the disk.
        progress: told of long work before cycle 0.
        max_cycles: stop after so many new cycles (for tests and previews); None runs to the end.
        select_timeout: seconds after which a selection is ended as a fault; 0 lets it take its time.

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
            _execute(spec, places, folder, observers, progress, max_cycles, select_timeout)
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
    select_timeout: float,
) -> None:
    keeper = Keeper(folder)
    done = len(keeper.records)
    task = open_task(spec, places, progress)
    store = ArtefactStore(places.store_root, pinned=_begun_with(keeper.records))
    supply = Supply(store, Ledger(task.pool.device), progress)
    strategy = registry.resolve_strategy(spec.strategy.name, **spec.strategy.parameters)
    oracle = open_oracle(
        task.data, task.pool, task.test, supply,
        settings=spec.oracle, seed=spec.seed, folder=folder.path,
    )  # fmt: skip
    task = replace(task, data=hidden(task.data, oracle))
    sizes = Sizes(spec.seed, spec.data_seed, spec.budget, spec.query_size, spec.initial_size)
    history = keeper.history(lambda: start(strategy, task.pool.n, oracle, sizes))
    _describe(spec, folder, task, resumed_at=done)
    for observer in observers:
        observer.started(spec, folder, keeper.records)
    problem, networks = problem_of(spec, task), networks_of(spec, task)
    stage = set_stage(
        strategy, problem, networks, supply,
        name=spec.strategy.name, select_timeout=select_timeout,
    )  # fmt: skip
    _warm_up(task.pool.device)
    for cycle in run(stage, oracle, task.data.test_targets, sizes, history):
        record = keeper.keep(cycle, supply.ledger)
        for observer in observers:
            observer.cycle(record)
        if not record.final and len(keeper.records) - done == max_cycles:
            return
    draw_pictures(folder, keeper.log, task.pool, task.data, supply.ledger)
    for observer in observers:
        observer.finished(folder, keeper.records)


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


def _describe(spec: RunSpec, folder: RunFolder, task: OpenTask, *, resumed_at: int) -> None:
    """``spec.toml`` and ``env.json``; refuses to continue a run on other data."""
    data, pool = task.data, task.pool
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
