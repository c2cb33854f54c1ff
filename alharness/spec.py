"""Specifications of runs: TOML <-> frozen models; the resolved spec is what is hashed and logged.

Defaults live in the models and nowhere else. ``resolve`` takes what a user said (a TOML file, then
options, then ``--set key=value``; later ones win), asks the plug-ins for their defaults and
parameters, and returns a spec in which nothing is left open.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alharness import plugins, registry
from alharness.artefacts.keys import identity
from alharness.errors import UserError, blamed, unknown_name
from alharness.files import merge, parse_toml
from alharness.generative import AutoencoderSettings, GeneratorSettings
from alharness.learners.kinds import find_kind, kind_of
from alharness.learners.settings import LearnerSettings
from alharness.oracle import OracleSettings
from alharness.records.facts import Choice
from alharness.strategy import Strategy
from alharness.tasks.base import PoolSettings, Profile, TaskPlugin

if TYPE_CHECKING:
    import torch

#: Raised when a change of the harness makes old and new runs incomparable.
PROTOCOL = 1

#: Options of a run that stand at the top level of a spec.
TOP_LEVEL = ("profile", "seed", "data_seed", "budget", "query_size", "initial_size", "device")

#: Sections of a spec; ``--set SECTION.NAME=VALUE`` reaches into them.
SECTIONS = ("task", "strategy", "learner", "pool", "oracle", "generator", "autoencoder")


class RunSpec(BaseModel):
    """One run, with nothing left open: equal specs give equal records."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    def run_key(self) -> str:
        """Hash of the whole spec: names the run's folder."""
        named = {**identity(self), "device": device_kind(self.device)}
        text = json.dumps(named, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def folder(self, runs_dir: Path) -> Path:
        """``runs/<task>/<strategy>/<run_key>``."""
        return runs_dir / _safe(self.task.name) / _safe(self.strategy.name) / self.run_key

    def to_toml(self) -> str:
        """The spec as TOML; ``alharness run --config`` takes it back."""
        return tomli_w.dumps(_without_none(self.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    """TOML has no null: a field that is None is left out, and reading it back gives the default None."""
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value


def _safe(name: str) -> str:
    """A name as a folder: what is not a letter, digit, dot, dash or underscore becomes a dash.

    The run key below it hashes the true name, so two names that look alike do not collide.
    """
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip("-.") or "unnamed"


def parse_set(text: str) -> dict[str, Any]:
    """``learner.steps=500`` -> ``{"learner": {"steps": 500}}``; the value is TOML, else a string."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UserError(
            f"--set takes KEY=VALUE, for instance learner.min_steps=500; found '{text}'."
        )
    try:
        parsed: Any = parse_toml(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for part in reversed(parts):
        parsed = {part: parsed}
    nested: dict[str, Any] = parsed
    return nested


def resolve(overrides: Mapping[str, Any]) -> RunSpec:
    """The full spec behind what a user said.

    Args:
        overrides: nested values of a spec; ``task`` and ``strategy`` are needed, as a name or as a
            section with ``name`` and parameters. ``data_seed`` follows ``seed`` and ``device`` is
            ``auto``, unless given.

    Raises:
        UserError: unknown names or keys, values of the wrong kind, sizes that do not fit.
    """
    given = dict(overrides)
    for name in ("protocol", "plugins"):
        given.pop(name, None)  # they follow from what is installed here
    for key in given:
        if key not in TOP_LEVEL and key not in SECTIONS:
            homes = [name for name in SECTIONS[2:] if key in _fields_of(name)]
            if homes:
                meant = " or ".join(f"{name}.{key}" for name in homes)
                raise UserError(f"Unknown setting '{key}'. Did you mean {meant}?")
            raise unknown_name("setting", key, [*TOP_LEVEL, *(f"{name}.*" for name in SECTIONS)])
    task_choice = _choice("task", given.pop("task", None))
    strategy_choice = _choice("strategy", given.pop("strategy", None))
    for section in SECTIONS[2:]:
        if not isinstance(given.get(section, {}), Mapping):
            raise UserError(f"'{section}' is a section: expected {section}.NAME=VALUE.")

    profile = given.get("profile", "quick")
    if profile not in ("quick", "paper"):
        raise unknown_name("profile", str(profile), ["quick", "paper"])
    try:
        task = registry.resolve_task(task_choice.name, **task_choice.parameters)
    except ValidationError as error:
        raise explain(error, "task", registry.task_class(task_choice.name).Parameters) from error
    try:
        strategy = registry.resolve_strategy(strategy_choice.name, **strategy_choice.parameters)
    except ValidationError as error:
        known = registry.find_strategy(strategy_choice.name).parameters
        raise explain(error, "strategy", known) from error

    defaults = task.defaults(profile).model_dump()
    seed = given.get("seed", 0)
    values = merge(
        {"seed": seed, "data_seed": seed, "device": "auto", "profile": profile},
        defaults,
        {section: {} for section in ("pool", "oracle", "generator", "autoencoder")},
        given,
        {
            "task": {"name": task_choice.name, **task.parameters.model_dump(mode="json")},
            "strategy": {
                "name": strategy_choice.name,
                **strategy.parameters.model_dump(mode="json"),
            },
        },
    )
    values["device"] = resolve_device(str(values["device"]))
    values["plugins"] = {}
    try:
        spec = RunSpec.model_validate(values)
    except ValidationError as error:
        raise explain(error) from error
    _require_fitting(spec, strategy, task)
    return spec.model_copy(update={"plugins": identity_of_plugins(spec)})


def _require_fitting(spec: RunSpec, strategy: Strategy, task: TaskPlugin) -> None:
    """What cannot go together is said here, before data are loaded, as far as it is known by then.

    Raises:
        UserError: the strategy cannot work with the classifier, or cannot serve the data set.
    """
    kind = kind_of(spec.learner)
    reason = kind.lacking(spec.learner, strategy.learner_needs, task.problem)
    if reason is not None:
        raise UserError(f"'{spec.strategy.name}' cannot work with this classifier: {reason}.")
    if task.problem is None or spec.learner.freeze:  # which moves the problem to rows of features
        return
    item_shape, n_classes = task.problem
    with blamed(f"strategy '{spec.strategy.name}'", "a reason or None from unsuitable"):
        reason = strategy.unsuitable(n_classes, item_shape)
    if isinstance(reason, str):  # anything else is told by the stage, in the author's name
        raise UserError(
            f"'{spec.strategy.name}' cannot serve the data set '{spec.task.name}': {reason}."
        )


def identity_of_plugins(spec: RunSpec) -> dict[str, str]:
    """What the foreign plug-ins and the data behind a spec's names are now.

    Empty for the harness's own, which its version tells. The same command after an edit of
    ``./mine.py`` is another run.
    """
    task = registry.resolve_task(spec.task.name, **spec.task.parameters)
    strategy = registry.resolve_strategy(spec.strategy.name, **spec.strategy.parameters)
    with blamed(f"strategy '{spec.strategy.name}'", "a mapping of texts from identity"):
        own = dict(strategy.identity())
    return {
        **plugins.identity_of(plugins.STRATEGIES, spec.strategy.name),
        **plugins.identity_of(plugins.TASKS, spec.task.name),
        **find_kind(spec.learner.kind).sources(spec.learner),
        **task.identity(),
        **own,
    }


def _choice(section: str, value: Any) -> Choice:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        option = "--dataset" if section == "task" else "--strategy"
        listed = "datasets" if section == "task" else "strategies"
        if value is not None and not (isinstance(value, Mapping) and "name" not in value):
            raise UserError(
                f"'{section}' takes a name: {option} NAME, or {section}.name; found {value!r}."
            )
        called = "data set" if section == "task" else section
        raise UserError(
            f"No {called} given. Use {option} NAME ('alharness list {listed}' shows names), or name it in "
            "the spec file."
        )
    return Choice(**value)


def resolve_device(device: str) -> str:
    """``auto`` -> ``cuda`` when there is one, else ``cpu``; ``cuda:1`` is the second of several.

    Raises:
        UserError: an unknown device, or one that is not here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise unknown_name("device", device, ["auto", "cpu", "cuda", "cuda:0"])
    if device == "cpu":
        return device
    if not torch.cuda.is_available():
        raise UserError("No CUDA device is available here. Use --device cpu, or --device auto.")
    number, n = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if number >= n:
        raise UserError(
            f"There is no device '{device}' here: the last of {n} is cuda:{n - 1} (CUDA_VISIBLE_DEVICES "
            "may hide others). Use --device cuda, which is the first."
        )
    return device


def device_kind(device: str) -> str:
    """``cpu`` or ``cuda``: which of several cards computes is no part of a run's identity."""
    return device.partition(":")[0]


@contextmanager
def current_device(device: str) -> Iterator[torch.device]:
    """A resolved device, torch's current one in the ``with`` block: its graphs are captured there."""
    import torch

    found = torch.device(device)
    with torch.cuda.device(found) if found.index is not None else nullcontext():
        yield found


def explain(
    error: ValidationError, section: str = "", model: type[BaseModel] | None = None
) -> UserError:
    """A pydantic error as one line: which setting, what was expected, what was found.

    Args:
        section: what the model is called before its settings' names; empty for a whole spec or file.
        model: what was validated, whose fields are named where a setting is unknown; a spec by default.
    """
    first = error.errors()[0]
    place = ".".join(part for part in [section, *map(str, first["loc"])] if part)
    if first["type"] == "extra_forbidden":
        home, _, own = place.rpartition(".")
        names = _fields_at(model or RunSpec, first["loc"][:-1])
        if not names:
            return UserError(f"Unknown setting '{place}': '{home}' has none. Leave '{own}' out.")
        return unknown_name(
            "setting", place, [f"{home}.{name}" if home else name for name in names]
        )
    found = first.get("input")
    text = f"The setting '{place}' is not valid: {first['msg'].lower()}; found {found!r}."
    return UserError(text + " See 'alharness show' for what it may be.")


def _fields_at(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """Field names of the model that a path of fields leads to."""
    for part in path:
        field = model.model_fields.get(str(part))
        if field is None or not _is_model(field.annotation):
            return []
        model = cast("type[BaseModel]", field.annotation)
    return list(model.model_fields)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _fields_of(section: str) -> list[str]:
    """Names of what may be set in a section."""
    return _fields_at(RunSpec, [section])


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
    return {key: json.dumps(value, sort_keys=True) for key, value in fields.items()}
