"""Runs as their folders tell them: records as arrays, states, and what a strategy is called.

Reads files only; no plug-in is needed, except to know which of a strategy's parameters are at their
defaults.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alharness.errors import UserError, unknown_name
from alharness.files import write_json
from alharness.records import CycleRecord, LedgerEntry, RunFolder, run_folders

Array = NDArray[np.float64]
#: (seed, data seed): runs of different strategies with the same pair are compared one to one.
Pair = tuple[int, int]

#: name of an x-axis -> (field of the record, words for the figure)
AXES = {
    "queries": ("n_asked", "annotations"),
    "labels": ("n_labelled", "labelled samples"),
    "cost": ("cost", "cost of annotation"),
}

#: name of a test figure -> words for the figure
METRICS = {
    "accuracy": "test accuracy",
    "balanced_accuracy": "balanced test accuracy",
    "macro_f1": "macro F1 on the test set",
    "average_precision": "average precision on the test set",
    "log_loss": "test log loss (nats)",
}
#: Test figures of which less is better.
LOSSES = frozenset({"log_loss"})

#: Written beside the records when a run ended in an error; removed when it is tried again.
FAILURE = "failure.json"


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it.

    Attributes:
        folder: where it lies.
        spec: ``spec.toml`` as plain values.
        environment: ``env.json``; empty when the run never got so far.
        records: all complete cycles.
        failure: why its last attempt ended in an error; None when it did not.
    """

    folder: Path
    spec: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[CycleRecord, ...] = ()
    failure: str | None = None

    @property
    def task(self) -> str:
        return str(_named(self.spec.get("task", "?"))["name"])

    @property
    def strategy(self) -> str:
        """The strategy's name without its parameters."""
        return str(_named(self.spec.get("strategy", "?"))["name"])

    @property
    def parameters(self) -> dict[str, Any]:
        """The strategy's parameters."""
        chosen = _named(self.spec.get("strategy", "?"))
        return {key: value for key, value in chosen.items() if key != "name"}

    @property
    def pair(self) -> Pair:
        seed = int(self.spec.get("seed", 0))
        data_seed = self.spec.get("data_seed")
        return seed, seed if data_seed is None else int(data_seed)

    @property
    def finished(self) -> bool:
        return bool(self.records) and self.records[-1].final

    @property
    def is_bound(self) -> bool:
        """Whether the whole pool was labelled from the start: the fully supervised bound."""
        n_pool = self.environment.get("task", {}).get("n_pool")
        return bool(self.records) and n_pool is not None and self.records[0].n_labelled >= n_pool

    @property
    def protocol(self) -> dict[str, str]:
        """What has to agree between runs that are compared (R13)."""
        fields = self.environment.get("protocol", {})
        return {str(key): str(value) for key, value in fields.items()}

    def x(self, axis: str) -> Array:
        """Position of every cycle on an x-axis, ``[K]``."""
        name = axis_field(axis)
        return np.array([getattr(record, name) for record in self.records], dtype=np.float64)

    def y(self, metric: str) -> Array:
        """A test figure of every cycle, ``[K]``."""
        if metric not in METRICS:
            raise unknown_name("metric", metric, METRICS)
        return np.array([getattr(record.test, metric) for record in self.records], dtype=np.float64)

    @property
    def preparation(self) -> list[LedgerEntry]:
        """The ledger of one-off costs, each thing once."""
        return self.records[0].time.prepared if self.records else []

    @property
    def preparation_s(self) -> float:
        """What its preparation costs to build, whether or not this run found it ready made."""
        return float(sum(entry.seconds for entry in self.preparation))

    def state(self) -> str:
        """``finished``, ``failed``, ``unfinished`` or ``not started``."""
        if self.finished:
            return "finished"
        if self.failure is not None:
            return "failed"
        return "unfinished" if self.records else "not started"


def axis_field(axis: str) -> str:
    """The record's field behind the name of an x-axis."""
    if axis not in AXES:
        raise unknown_name("x-axis", axis, AXES)
    return AXES[axis][0]


def _named(choice: Any) -> Mapping[str, Any]:
    return choice if isinstance(choice, Mapping) else {"name": choice}


def read_run(path: Path) -> Run:
    """Read one run folder; a folder without records is a run that has not started.

    Raises:
        UserError: a file is damaged.
    """
    folder = RunFolder(path)
    spec: dict[str, Any] = {}
    if folder.spec.exists():
        try:
            spec = tomllib.loads(folder.spec.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(
                f"'{folder.spec}' is damaged ({error}). Restore it, or remove the run folder."
            ) from error
    return Run(path, spec, folder.environment(), tuple(folder.records()), read_failure(path))


def read_runs(runs_dir: Path) -> list[Run]:
    """All runs below a directory, which may also be one run folder or a part of the tree.

    Raises:
        UserError: no such directory, or no run in it.
    """
    if not runs_dir.is_dir():
        raise UserError(
            f"There is no directory '{runs_dir}' (looked in {Path.cwd()}). Name a directory of runs, "
            "or make runs with 'alharness run' or 'alharness sweep'."
        )
    if RunFolder(runs_dir).spec.exists():
        return [read_run(runs_dir)]
    found = run_folders(runs_dir)
    paths = [item.path for item in found] or [
        path.parent for path in sorted(runs_dir.rglob("spec.toml"))
    ]
    if not paths:
        raise UserError(
            f"There are no runs in '{runs_dir}'. Make some with 'alharness run' or 'alharness sweep'."
        )
    return [read_run(path) for path in paths]


def read_failure(path: Path) -> str | None:
    """Why the last attempt at a run ended in an error."""
    file = path / FAILURE
    if not file.exists():
        return None
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["reason"])
    except (ValueError, KeyError, TypeError):
        return f"unknown: '{file}' is damaged"


def write_failure(path: Path, reason: str | None, details: str = "") -> None:
    """Leave the reason of a failed attempt beside the records; None takes an old one away."""
    if reason is None:
        (path / FAILURE).unlink(missing_ok=True)
        return
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / FAILURE, {"reason": reason, "traceback": details.splitlines()})


def describe(run: Run) -> str:
    """A run in words."""
    seed, data_seed = run.pair
    seeds = f"seed {seed}" if seed == data_seed else f"seed {seed}, data seed {data_seed}"
    return f"{run.task} / {display_label(run.strategy, run.parameters)} / {seeds}"


def display_label(strategy: str, parameters: Mapping[str, Any]) -> str:
    """A strategy's name with those of its parameters that are not at their defaults."""
    defaults = _default_parameters(strategy)
    shown = [
        f"{key}={_short(value)}"
        for key, value in sorted(parameters.items())
        if defaults is None or key not in defaults or defaults[key] != value
    ]
    return f"{strategy}({', '.join(shown)})" if shown else strategy


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


_DEFAULTS: dict[str, dict[str, Any] | None] = {}


def _default_parameters(strategy: str) -> dict[str, Any] | None:
    """Defaults of a strategy's parameters; None when the plug-in is not installed here."""
    if strategy not in _DEFAULTS:
        from alharness.registry import find_strategy

        try:
            fields = find_strategy(strategy).parameters.model_fields
        except UserError:
            _DEFAULTS[strategy] = None
        else:
            _DEFAULTS[strategy] = {
                name: info.get_default(call_default_factory=True)
                for name, info in fields.items()
                if not info.is_required()
            }
    return _DEFAULTS[strategy]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` -> ``{"a.b": 1}``."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
