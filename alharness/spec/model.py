"""Specifications of runs: frozen models; the resolved spec is what is hashed and logged.

Defaults live in the models and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import Field, model_validator

from alharness import plugins
from alharness.artefacts.keys import before, identity
from alharness.errors import UserError
from alharness.frozen import Frozen
from alharness.generative.settings import AutoencoderSettings, GeneratorSettings
from alharness.learners.settings import LearnerSettings
from alharness.oracle.settings import OracleSettings
from alharness.records.facts import DRAWN, RANDOM_START, Choice
from alharness.spec.devices import device_kind
from alharness.tasks.settings import PoolSettings, Profile

#: Raised when a change of the harness makes old and new runs incomparable.
PROTOCOL = 1

#: Options of a run that stand at the top level of a spec.
TOP_LEVEL = (
    "profile",
    "seed",
    "data_seed",
    "budget",
    "query_size",
    "initial_size",
    "device",
    "stop",
)

#: A setting of every task that its plug-in does not see: the class whose average precision is told.
POSITIVE = "positive"

#: Sections that name a plug-in, with its parameters beside the name.
CHOICES = ("task", "strategy", "initial")

#: Sections with settings of the harness's own.
SETTINGS = ("learner", "pool", "oracle", "generator", "autoencoder")

#: Sections of a spec; ``--set SECTION.NAME=VALUE`` reaches into them.
SECTIONS = (*CHOICES, *SETTINGS)


class RunSpec(Frozen):
    """One run, with nothing left open: equal specs give equal records."""

    protocol: int = PROTOCOL
    task: Choice
    strategy: Choice
    profile: Profile = Field(description="quick: minutes on a CPU; paper: Table 1 in full")
    seed: int = Field(ge=0, description="classifier, batches and the strategy's randomness")
    data_seed: int = Field(ge=0, description="the initial set")
    budget: int = Field(gt=0, description="annotations in all, the initial set included")
    query_size: int = Field(gt=0, description="annotations per cycle")
    initial_size: int = Field(gt=0, description="annotations before cycle 0")
    device: str = Field(
        pattern=r"^(cpu|cuda(:\d+)?)$",
        description="where it runs: cpu, cuda or cuda:N; auto: cuda where there is one",
    )
    initial: Choice = Field(
        RANDOM_START,
        description="how the initial set is found: random, stratified, or a strategy without a classifier",
        json_schema_extra={"added": "0.3"},
    )
    learner: LearnerSettings
    pool: PoolSettings
    oracle: OracleSettings
    generator: GeneratorSettings
    autoencoder: AutoencoderSettings
    plugins: dict[str, str] = Field(
        {},
        description="what tells foreign plug-ins and data apart that share a name: set by alharness",
        json_schema_extra={"added": "0.2"},
    )

    stop: tuple[Choice, ...] = Field(
        (),
        description="stopping rules: the first that stops ends the run before its budget",
        json_schema_extra={"added": "0.3"},
    )

    @model_validator(mode="before")
    @classmethod
    def _recipes_from_before(cls, values: Any) -> Any:
        """What is recorded without a recipe was computed by the one that there was then."""
        if isinstance(values, Mapping) and isinstance(values.get("learner"), Mapping):
            return {**values, "learner": {**before(LearnerSettings), **values["learner"]}}
        return values

    @model_validator(mode="after")
    def _sizes_fit(self) -> RunSpec:
        if self.budget < self.initial_size:
            raise UserError(
                f"The budget ({self.budget}) counts the initial set and must be at least as large: "
                f"initial size {self.initial_size}. Raise --budget or lower --initial-size."
            )
        return self

    @property
    def n_cycles(self) -> int:
        """Queries until the budget is spent; the last one is smaller where sizes do not divide."""
        return -(-(self.budget - self.initial_size) // self.query_size)

    @property
    def positive(self) -> str | None:
        """The class that the average precision is of (``task.positive``); None leaves it to the pool."""
        value = self.task.parameters.get(POSITIVE)
        return None if value is None else str(value)

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """Group and name of every plug-in that takes part: of those, foreign ones tell runs apart."""
        start = self.initial.name
        return (
            (plugins.STRATEGIES, self.strategy.name),
            *(((plugins.STRATEGIES, start),) if start not in DRAWN else ()),
            (plugins.TASKS, self.task.name),
            (plugins.LEARNERS, self.learner.kind),
            *((plugins.STOPPING, rule.name) for rule in self.stop),
        )

    @property
    def run_key(self) -> str:
        """Hash of the whole spec: names the run's folder."""
        named = {**identity(self), "device": device_kind(self.device)}
        text = json.dumps(named, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def folder(self, runs_dir: Path) -> Path:
        """``runs/<task>/<strategy>/<run_key>``."""
        return self.home(runs_dir) / self.run_key

    def home(self, runs_dir: Path) -> Path:
        """``runs/<task>/<strategy>``: where the runs of all settings lie."""
        return runs_dir / _safe(self.task.name) / _safe(self.strategy.name)

    def to_toml(self) -> str:
        """The spec as TOML; ``alharness run --config`` takes it back."""
        return tomli_w.dumps(self.as_written())

    def as_written(self) -> dict[str, Any]:
        """What ``to_toml`` says, as plain values."""
        values: dict[str, Any] = _without_none(self.model_dump(mode="json"))
        if not self.stop:  # as specs were written before there was one
            del values["stop"]
        return values


def _without_none(value: Any) -> Any:
    """TOML has no null: a field that is None is left out, and reading it back gives the default None."""
    if isinstance(value, dict):  # as ``model_dump`` has every mapping
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value


def _safe(name: str) -> str:
    """A name as a folder: what is not a letter, digit, dot, dash or underscore becomes a dash.

    The run key below it hashes the true name, so two names that look alike do not collide.
    """
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip("-.") or "unnamed"


def protocol_fields(spec: RunSpec, task_fingerprint: str) -> dict[str, str]:
    """What has to agree between runs that are compared (R13): all but strategy, seeds and generator.

    A strategy that brings its own classifier is marked by its own name, not here. Hardware is kept
    beside it (``env.json``) and guards timings only.
    """
    fields: dict[str, Any] = {
        "protocol": spec.protocol,
        "task": identity(spec.task),
        "task_fingerprint": task_fingerprint,
        "budget": spec.budget,
        "query_size": spec.query_size,
        "initial_size": spec.initial_size,
        "learner": identity(spec.learner),
        "device": device_kind(spec.device),
    }
    if spec.oracle.noise:  # runs from before there was any are not named anew
        fields["noise"] = spec.oracle.noise
    if spec.stop:
        fields["stop"] = [rule.as_written() for rule in spec.stop]
    if spec.initial != RANDOM_START:  # nor those that all began at random
        fields["initial"] = identity(spec.initial)
    return {key: json.dumps(value, sort_keys=True) for key, value in fields.items()}
