"""Runs as their folders tell them: records as arrays, states, and what a strategy is called.

Reads files only; no plug-in is needed, except to know which of a strategy's parameters are at their
defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from alharness.errors import UserError, unknown_name
from alharness.files import explained, parse_json, parse_toml, refusal, write_json
from alharness.records import CycleRecord, LedgerEntry, RunFolder

Array = NDArray[np.float64]
#: (seed, data seed): runs of different strategies with the same pair are compared one to one.
Pair = tuple[int, int]
#: What was labelled and learned, cycle by cycle: digests of both, accuracy and log loss.
Course = tuple[tuple[str, str, float, float], ...]

#: name of an x-axis -> (field of the record, words for the figure)
AXES = {
    "queries": ("n_asked", "annotations"),
    "labels": ("n_labelled", "labelled samples"),
    "cost": ("cost", "cost of annotation"),
}


@dataclass(frozen=True)
class Metric:
    """A figure of one classifier on the test set.

    Attributes:
        description: words for tables and figures.
        function: record of a cycle -> its value; None where it is not defined.
        better: whether more or less of it is better.
        defined: whether a test set with so many items per class has such a figure.
    """

    description: str
    function: Callable[[CycleRecord], float | None]
    better: Literal["more", "less"] = "more"
    defined: Callable[[Sequence[int]], bool] = lambda counts: True


#: What strategies can be compared by.
METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("test accuracy", lambda record: record.test.accuracy),
    "balanced_accuracy": Metric(
        "balanced test accuracy", lambda record: record.test.balanced_accuracy
    ),
    "macro_f1": Metric("macro F1 on the test set", lambda record: record.test.macro_f1),
    "average_precision": Metric(
        "average precision on the test set",
        lambda record: record.test.average_precision,
        # Of class 1 where there are two; records of old hold 0 where the test set has none of it.
        defined=lambda counts: len(counts) != 2 or counts[1] > 0,
    ),
    "log_loss": Metric("test log loss (nats)", lambda record: record.test.log_loss, "less"),
}

#: Fields of the protocol that runs do not write where they are as they always were.
UNWRITTEN = {"noise": "0.0"}

#: A folder that holds one of these is a run's.
RUN_MARKS = ("spec.toml", "cycles.jsonl")

#: Written beside the records when a run ended in an error; removed when it is tried again.
FAILURE = "failure.json"


@dataclass(frozen=True)
class Session:
    """What one session of a run ran on.

    Attributes:
        hardware, versions: name -> value.
        commit: of the checkout that alharness ran from; empty where there was none.
        origin: the distribution that the strategy came from.
    """

    hardware: Mapping[str, Any]
    versions: Mapping[str, Any]
    commit: str
    origin: str

    @property
    def checkout(self) -> str:
        """The commit in short, and whether files of alharness were edited."""
        edited = " with changes" if self.commit.endswith("+changes") else ""
        return self.commit[:12] + edited


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it.

    Attributes:
        folder: where it lies.
        spec: ``spec.toml`` as plain values.
        environment: ``env.json``; empty when the run never got so far.
        records: all complete cycles.
        failure: why its last attempt ended in an error; None when it did not.
        damage: why it cannot be read; then spec, environment and records say nothing.
    """

    folder: Path
    spec: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[CycleRecord, ...] = ()
    failure: str | None = None
    damage: str | None = None

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
    def course(self) -> Course:
        """Equal for runs of which one copies the other."""
        return tuple(
            (r.labelled_digest, r.learner_digest, r.test.accuracy, r.test.log_loss)
            for r in self.records
        )

    @property
    def sessions(self) -> list[Session]:
        """What made its records, in their order: a run may be continued elsewhere (R12, R18).

        Sessions that ended before their first cycle made none of them.
        """
        told = self.environment
        kept = [
            session
            for session, (first, end) in zip(
                told.get("sessions", []), self._cycles_of_sessions(), strict=True
            )
            if first < end
        ]
        # What a session does not say is as the run says it; records of old have no sessions at all.
        origin = told.get("strategy", {}).get("distribution", "?")
        return [
            Session(
                session.get("hardware", told.get("hardware", {})),
                session.get("versions", told.get("versions", {})),
                str(session.get("git_commit", told.get("git_commit", ""))),
                str(session.get("distribution", origin)),
            )
            for session in kept or [{}]
        ]

    def _cycles_of_sessions(self) -> list[tuple[int, int]]:
        firsts = [int(s.get("first_cycle", 0)) for s in self.environment.get("sessions", [])]
        return list(zip(firsts, [*firsts[1:], len(self.records)], strict=True)) if firsts else []

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
        written = {str(key): str(value) for key, value in fields.items()}
        return {**UNWRITTEN, **written} if written else {}

    def x(self, axis: str) -> Array:
        """Position of every cycle on an x-axis, ``[K]``."""
        name = axis_field(axis)
        return np.array([getattr(record, name) for record in self.records], dtype=np.float64)

    def y(self, metric: str) -> Array:
        """A test figure of every cycle, ``[K]``; NaN where it is not defined."""
        found = find_metric(metric)
        counts = self.environment.get("task", {}).get("test_counts")
        if counts and not found.defined(counts):
            return np.full(len(self.records), np.nan)
        # None becomes NaN.
        return np.array([found.function(record) for record in self.records], dtype=np.float64)

    @property
    def preparation(self) -> list[LedgerEntry]:
        """The ledger of one-off costs, each thing once."""
        return self.records[0].time.prepared if self.records else []

    @property
    def preparation_s(self) -> float:
        """What its preparation costs to build, whether or not this run found it ready made."""
        return float(sum(entry.seconds for entry in self.preparation))

    def state(self) -> str:
        """``finished``, ``failed``, ``unfinished``, ``not started`` or ``unreadable``."""
        if self.damage is not None:
            return "unreadable"
        if self.finished:
            return "finished"
        if self.failure is not None:
            return "failed"
        return "unfinished" if self.records else "not started"


def find_metric(name: str) -> Metric:
    """The test figure of a name."""
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


def axis_field(axis: str) -> str:
    """The record's field behind the name of an x-axis."""
    if axis not in AXES:
        raise unknown_name("x-axis", axis, AXES)
    return AXES[axis][0]


def _named(choice: Any) -> Mapping[str, Any]:
    return choice if isinstance(choice, Mapping) else {"name": choice}


class _Choice(BaseModel):
    """What a spec says of its task or strategy."""

    model_config = ConfigDict(extra="allow")

    name: str


class _Spec(BaseModel):
    """What is read of a spec, in the form that it has to have."""

    task: _Choice | str
    strategy: _Choice | str
    seed: int = 0
    data_seed: int | None = None


class _Task(BaseModel):
    """What is read of a task's facts."""

    n_pool: int | None = None
    test_counts: list[int] | None = None
    class_names: list[Any] | None = None
    notes: dict[str, Any] = {}


class _Session(BaseModel):
    """What is read of a session."""

    first_cycle: int = 0
    hardware: dict[str, Any] = {}
    versions: dict[str, Any] = {}


class _Environment(BaseModel):
    """What is read of ``env.json``."""

    protocol: dict[str, Any] = {}
    hardware: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    task: _Task = _Task()
    strategy: dict[str, Any] = {}
    sessions: list[_Session] = []


def read_run(path: Path) -> Run:
    """Read one run folder; a folder without records is a run that has not started.

    Raises:
        UserError: a file is damaged, or cannot be read.
    """
    folder = RunFolder(path)
    file = folder.spec
    try:
        spec = parse_toml(file.read_text(encoding="utf-8")) if file.exists() else {}
        if file.exists() or folder.cycles.exists():
            _Spec.model_validate(spec)
        file = folder.env
        environment = folder.environment()
        _Environment.model_validate(environment)
        file = folder.cycles
        records = tuple(folder.records())
        file = path / FAILURE
        return Run(path, spec, environment, records, read_failure(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "_Choice")
        why = f"{place}: {first['msg'].lower()}" if place else str(first["msg"]).lower()
    except OSError as error:
        raise refusal(error, file, "read") from error
    except ValueError as error:  # not TOML, not JSON, not text
        why = str(error)
    raise UserError(f"'{file}' is damaged ({why}). Restore it, or remove the run folder.")


def read_runs(runs_dir: Path) -> list[Run]:
    """All runs below a directory, which may also be one run folder or a part of the tree.

    A run that cannot be read stands among them with its ``damage`` and stops no other one.

    Raises:
        UserError: no such directory, no run in it, or none that can be read.
    """
    if not runs_dir.is_dir():
        raise UserError(
            f"There is no directory '{runs_dir}' (looked in {Path.cwd()}). Name a directory of runs, "
            "or make runs with 'alharness run' or 'alharness sweep'."
        )
    with explained(runs_dir, "read"):
        paths = _marked(runs_dir, "") or _marked(runs_dir, "*/*/*/") or _marked(runs_dir, "**/")
    if not paths:
        raise UserError(
            f"There are no runs in '{runs_dir}'. Make some with 'alharness run' or 'alharness sweep'."
        )
    runs = [read_or_mark(path) for path in paths]
    if all(run.damage is not None for run in runs):
        others = f" None of the {len(runs)} runs in '{runs_dir}' can be read." if runs[1:] else ""
        raise UserError(f"{runs[0].damage}{others}")
    return runs


def _marked(runs_dir: Path, pattern: str) -> list[Path]:
    """Folders of runs where a pattern leads to."""
    return sorted({path.parent for mark in RUN_MARKS for path in runs_dir.glob(pattern + mark)})


def read_or_mark(path: Path, spec: Mapping[str, Any] | None = None) -> Run:
    """A run, or one that says why it cannot be read.

    Args:
        path: its folder.
        spec: what it was to run, where that is known otherwise.
    """
    try:
        return read_run(path)
    except UserError as error:
        return Run(path, spec or {}, damage=str(error))


def read_failure(path: Path) -> str | None:
    """Why the last attempt at a run ended in an error."""
    file = path / FAILURE
    if not file.exists():
        return None
    try:
        return str(parse_json(file.read_text(encoding="utf-8"))["reason"])
    except (OSError, ValueError, KeyError, TypeError):
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
    if not run.spec:
        return str(run.folder)
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
                name: info.get_default(call_default_factory=True, validated_data={})
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
