"""A spec's task, opened: its data loaded, its pool on the device, and what a stage needs of both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from alharness import registry
from alharness.artefacts import Supply, default_store_root
from alharness.border.author import Author
from alharness.border.state import changed, global_marks, put_back
from alharness.engine.stage import Networks, Problem, Stage, set_stage
from alharness.errors import UserError
from alharness.oracle import Oracle, open_oracle
from alharness.pool import Forecast, Pool
from alharness.progress import Progress, silent
from alharness.records import RunFolder
from alharness.spec import RunSpec
from alharness.strategy import Strategy
from alharness.tasks.base import DataLocations, TaskData, load_data


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


@dataclass(frozen=True)
class OpenTask:
    """A task with its data loaded and its pool opened on the device.

    Attributes:
        forecast: what was said of memory before the pool was opened; afterwards less is free.
    """

    data: TaskData
    pool: Pool
    test: Pool
    forecast: Forecast


def open_task(spec: RunSpec, places: Places, progress: Progress = silent) -> OpenTask:
    """Load the data of a spec and open pool and test set on its device."""
    plugin = registry.resolve_task(spec.task.name, **spec.task.parameters)
    data = load_data(plugin, places.locations, progress)
    device = torch.device(spec.device)
    chosen = data.forecast(device, spec.pool)
    pool = data.open_pool(device, spec.pool, chosen=chosen)
    return OpenTask(data, pool, data.open_test(device), chosen)


def present_fingerprint(spec: RunSpec, places: Places) -> str | None:
    """Digest of the task's data as they are here now; None when they are not here."""
    plugin = registry.resolve_task(spec.task.name, **spec.task.parameters)
    try:
        return plugin.fingerprint(replace(places.locations, download=False))
    except UserError:
        return None


def oracle_of(spec: RunSpec, task: OpenTask, supply: Supply, folder: RunFolder) -> Oracle:
    """The spec's oracle over the task's hidden targets."""
    return open_oracle(
        task.data,
        task.pool,
        task.test,
        supply,
        settings=spec.oracle,
        seed=spec.seed,
        data_seed=spec.data_seed,
        folder=folder.path,
    )


def problem_of(spec: RunSpec, task: OpenTask) -> Problem:
    """What the spec's strategy is set before."""
    return Problem(
        spec.task.name, task.pool, task.test, task.data.n_classes, spec.learner, spec.seed
    )


def networks_of(spec: RunSpec, task: OpenTask) -> Networks:
    """The spec's generator and auto-encoder, on the task's own pool."""
    return Networks(spec.task.name, spec.profile, spec.generator, spec.autoencoder, task.pool)


def strategy_of(spec: RunSpec) -> Strategy:
    """The spec's strategy, made anew: seeds and settings that belong to everybody stay what they were.

    Raises:
        PluginError: its constructor changes one.
    """
    before = global_marks()
    strategy = registry.resolve_strategy(spec.strategy.name, **spec.strategy.parameters)
    touched = changed(before, global_marks())
    if touched:
        put_back(before)
        Author(strategy, spec.strategy.name).refuse(
            "a constructor that leaves all as it is", f"changed {touched[0]}", call="__init__"
        )
    return strategy


def stage_of(
    spec: RunSpec, task: OpenTask, strategy: Strategy, supply: Supply, select_timeout: float = 0.0
) -> Stage:
    """The spec's strategy before its problem, prepared."""
    return set_stage(
        strategy,
        problem_of(spec, task),
        networks_of(spec, task),
        supply,
        name=spec.strategy.name,
        select_timeout=select_timeout,
    )
