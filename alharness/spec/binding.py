"""What a user said -> a run whose names have become objects, each of them once.

``bind`` takes nested settings (a TOML file, then options, then ``--set key=value``; later ones win), finds
the plug-ins, asks them for their defaults and parameters, and returns a ``Bound``: the spec, in which
nothing is left open, with its task, its strategy and its classifier. ``resolve`` gives the spec alone;
``rebind`` finds the objects of a spec that comes from another process.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from alharness import plugins, registry
from alharness.artefacts.keys import before, identity
from alharness.errors import UserError, blamed, fields_at, of_the_start, unknown_name, validating
from alharness.files import merge, parse_toml
from alharness.learners.settings import LearnerSettings
from alharness.records.facts import DRAWN, RANDOM_START, Choice
from alharness.spec.devices import called, require_device_name, resolve_device
from alharness.spec.model import (
    POSITIVE,
    SECTIONS,
    SETTINGS,
    TOP_LEVEL,
    RunSpec,
)
from alharness.tasks.settings import as_typed

if TYPE_CHECKING:
    from alharness.learners.kinds import Kind
    from alharness.registry import StrategyPlugin
    from alharness.stopping import NamedRule
    from alharness.strategy import Strategy
    from alharness.tasks.base import TaskPlugin

#: Makes the strategy of a name by calling what it is given; an engine looks at what that call leaves behind.
Watch = Callable[[str, "Callable[[], Strategy]"], "Strategy"]


#: What to do where a strategy cannot choose the initial set.
STARTS = (
    "Name one that looks at the items alone (one that takes 'features': not those of the classifier), or "
    "use --initial random or stratified."
)


def unwatched(name: str, make: Callable[[], Strategy]) -> Strategy:
    """Just make it."""
    return make()


@dataclass(frozen=True)
class Bound:
    """A run whose names have become objects.

    Attributes:
        spec: what is hashed and logged.
        task: the data set, not yet loaded.
        strategy: not yet prepared.
        kind: what ``learner.kind`` names.
        stopping: the rules that may end it before its budget.
        starter: the strategy that chooses the initial set; None where it is drawn.
    """

    spec: RunSpec
    task: TaskPlugin
    strategy: Strategy
    kind: Kind
    stopping: tuple[NamedRule, ...] = ()
    starter: Strategy | None = None

    def identity(self) -> dict[str, str]:
        """What the foreign plug-ins and the data behind the spec's names are now.

        Empty for the harness's own, which its version tells. The same command after an edit of
        ``./mine.py`` is another run.
        """
        start: dict[str, str] = {}
        if self.starter is not None:
            with of_the_start():
                start = _identity(self.spec.initial.name, self.starter)
        own = _identity(self.spec.strategy.name, self.strategy)
        found: dict[str, str] = {}
        for group, name in self.spec.named:
            found |= plugins.identity_of(group, name)
        return {
            **found,
            # Apart from the strategy's: both may say the same thing of two different files.
            **{f"initial {name}": value for name, value in start.items()},
            **self.kind.sources(self.spec.learner),
            **self.task.identity(),
            **own,
        }


def _identity(name: str, strategy: Strategy) -> dict[str, str]:
    """What a strategy says of itself beside its name and parameters."""
    with blamed(f"strategy '{name}'", "a mapping of texts from identity"):
        return dict(strategy.identity())


def resolve(overrides: Mapping[str, Any]) -> RunSpec:
    """The full spec behind what a user said.

    Args:
        overrides: nested values of a spec; ``task`` and ``strategy`` are needed, as a name or as a
            section with ``name`` and parameters. ``data_seed`` follows ``seed`` and ``device`` is
            ``auto``, unless given.

    Raises:
        UserError: unknown names or keys, values of the wrong kind, sizes that do not fit.
    """
    return bind(overrides).spec


def bind(overrides: Mapping[str, Any], watch: Watch = unwatched) -> Bound:
    """The run behind what a user said, with the objects that its names stand for.

    Args:
        overrides: as of ``resolve``.
        watch: makes the strategy.

    Raises:
        UserError: as ``resolve``; or what was chosen does not go together.
    """
    given = _at_home(overrides)
    for name in ("protocol", "plugins"):
        given.pop(name, None)  # they follow from what is installed here
    _require_known(given)
    chosen = _choice("task", given.pop("task", None))
    asked = _choice("strategy", given.pop("strategy", None))
    begun = _choice("initial", _with_name(given.pop("initial", {}), RANDOM_START.name))
    profile = given.get("profile", "quick")
    if profile not in ("quick", "paper"):
        raise unknown_name("profile", str(profile), ["quick", "paper"])
    registry.require_names(chosen.name, asked.name)
    _require_sections(given)
    rules = _rules(given.pop("stop", ()))
    # A whole spec, as ``to_toml`` writes it, says by a recipe's absence that it is from before there was one.
    is_recorded = "protocol" in overrides
    start = _named_start(begun, is_recorded=is_recorded)
    task_class = registry.task_class(chosen.name)
    task = registry.make_task(task_class, chosen.name, **_own(chosen, task_class))
    named = _named_strategy("strategy", asked, is_recorded=is_recorded)
    seed = given.get("seed", 0)
    # Later ones win: the data set's defaults below what the user said, names as they were found on top.
    values = merge(
        {"seed": seed, "data_seed": seed, "device": "auto", "profile": profile},
        task.defaults(profile).model_dump(),
        {section: {} for section in ("pool", "oracle", "generator", "autoencoder")},
        given,
        {
            "task": {
                "name": chosen.name,
                **task.parameters.model_dump(mode="json"),
                # Only where it was said: the keys of all other runs stay what they are.
                **{
                    k: str(as_typed(v))
                    for k, v in chosen.parameters.items()
                    if k == POSITIVE and v is not None
                },
            },
            "strategy": {"name": asked.name},
            "initial": {"name": begun.name},
            "plugins": {},
            "stop": [rule.choice for rule in rules],
        },
    )
    if values["initial_size"] == 0:
        values["initial_size"] = _first_query(begun.name, values["query_size"])
    device = str(values["device"])
    require_device_name(device)
    _choose_solver(values["learner"], given.get("learner", {}), is_recorded=is_recorded)
    with validating(RunSpec):
        spec = RunSpec.model_validate({**values, "device": "cpu" if device == "auto" else device})
    # Only now what needs torch, a device and a strategy's constructor: a slip was told in no time.
    spec = spec.model_copy(update={"device": resolve_device(device)})
    strategy = named.make(watch)
    recorded = Choice(name=asked.name, **identity(strategy.parameters))
    spec = spec.model_copy(update={"strategy": recorded})
    starter = None if start is None else _starter(start, watch)
    if starter is not None:
        spec = spec.model_copy(
            update={"initial": Choice(name=begun.name, **identity(starter.parameters))}
        )
    kind = _kind_of(spec.learner)
    _require_fitting(spec, task, strategy, kind)
    bound = Bound(spec, task, strategy, kind, rules, starter)
    return replace(bound, spec=spec.model_copy(update={"plugins": bound.identity()}))


def rebind(spec: RunSpec, watch: Watch = unwatched) -> Bound:
    """The objects of a spec that was put together before, perhaps in another process.

    Raises:
        UserError: a plug-in or a folder of data is another one now.
    """
    task = spec.task
    start = _named_start(spec.initial, is_recorded=True)
    bound = Bound(
        spec,
        registry.resolve_task(task.name, **_own(task, registry.task_class(task.name))),
        _named_strategy("strategy", spec.strategy, is_recorded=True).make(watch),
        _kind_of(spec.learner),
        _rules(spec.stop),
        None if start is None else _starter(start, watch),
    )
    now = bound.identity()
    for name in {**spec.plugins, **now}:
        if now.get(name) != spec.plugins.get(name):
            raise UserError(
                f"'{name}' is not what it was when this run was put together: expected "
                f"{spec.plugins.get(name, 'nothing foreign')}, found {now.get(name, 'nothing')}. Give the "
                "command again: what is changed is another run."
            )
    return bound


def _rules(given: Any) -> tuple[NamedRule, ...]:
    """Stopping rules as a user names them: one, or several of which the first that stops ends the run.

    Raises:
        UserError: no such rule, a wrong parameter, or one rule twice.
    """
    if isinstance(given, list | tuple) and not given:
        return ()  # which most runs have: no rule is imported
    from alharness.stopping import named

    several = [given] if isinstance(given, str | Mapping) else given
    if not isinstance(several, list | tuple):
        several = [several]
    rules = tuple(named(each) for each in several)
    for place, rule in enumerate(rules):
        if rule.choice in [other.choice for other in rules[:place]]:
            raise UserError(f"The stopping rule '{rule.label}' is given twice. Give it once.")
    return rules


def sections_with(key: str) -> list[str]:
    """Sections that have a setting of this name."""
    return [name for name in SETTINGS if key in fields_at(RunSpec, [name])]


def as_called(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values under the names that a spec has for them: ``dataset`` is ``task``, ``gpu`` is ``cuda``.

    Commands and functions call the task by what it is made from, and so does who writes a file.

    Raises:
        UserError: a data set is named in both ways.
    """
    given = dict(values)
    if "dataset" in given:
        own = given.pop("task", {})
        # ``dataset = "table:x.csv"`` beside ``task.target = "y"``: a name, and parameters of what it names.
        if not isinstance(own, Mapping) or "name" in own:
            raise UserError("'dataset' and 'task' are one setting. Give it once.")
        named = {
            key: _with(value, own) if key == "dataset" else value for key, value in given.items()
        }
        # In its place: the order of a sweep's axes is the order of its runs.
        given = {"task" if key == "dataset" else key: value for key, value in named.items()}
    if isinstance(given.get("device"), str):
        given["device"] = called(given["device"])
    return given


def _with(name: Any, parameters: Mapping[str, Any]) -> Any:
    """A data set, or each of several, with parameters."""
    if not parameters:
        return name
    if isinstance(name, list):
        return [_with(each, parameters) for each in name]
    return {**({"name": name} if isinstance(name, str) else name), **parameters}


def _at_home(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The values with those of a unique short name (``min_steps=20``) in their section.

    Raises:
        UserError: a setting is given by its short name and by its whole one.
    """
    given = as_called(overrides)
    for key in overrides:
        homes = [] if key in TOP_LEVEL or key in SECTIONS else sections_with(key)
        # Several homes, or a section that is none, are told by who checks the keys.
        if len(homes) != 1 or not isinstance(given.get(homes[0], {}), Mapping):
            continue
        (home,) = homes
        if key in given.get(home, {}):
            raise UserError(f"'{key}' and '{home}.{key}' are one setting. Give it once.")
        given = merge(given, {home: {key: given.pop(key)}})
    return given


def _own(chosen: Choice, task_class: type[TaskPlugin]) -> dict[str, Any]:
    """A task's parameters without the setting that every task has."""
    shared = POSITIVE not in task_class.Parameters.model_fields
    return {k: v for k, v in chosen.parameters.items() if not (shared and k == POSITIVE)}


@dataclass(frozen=True)
class _Named:
    """A strategy that was found, with sound parameters, not yet made."""

    name: str
    plugin: StrategyPlugin
    parameters: Mapping[str, Any]

    def make(self, watch: Watch) -> Strategy:
        make = partial(registry.make_strategy, self.plugin, self.name, **self.parameters)
        return watch(self.name, make)


def _named_strategy(section: str, chosen: Choice, *, is_recorded: bool) -> _Named:
    """A strategy by its name.

    Args:
        section: where it stands, for messages.
        is_recorded: whether its parameters are those of a run's spec: a recipe that is missing is then the
            one from before there was a choice.

    Raises:
        UserError: no such strategy, or parameters that it does not have.
    """
    plugin = registry.find_strategy(chosen.name)
    parameters = {**(before(plugin.parameters) if is_recorded else {}), **chosen.parameters}
    with validating(plugin.parameters, section):
        plugin.parameters(**parameters)
    return _Named(chosen.name, plugin, parameters)


def _named_start(chosen: Choice, *, is_recorded: bool) -> _Named | None:
    """The strategy that chooses the initial set; None where it is drawn.

    Raises:
        UserError: no such strategy, or parameters that it, or a drawn start, does not have.
    """
    if chosen.name not in DRAWN:
        return _named_strategy("initial", chosen, is_recorded=is_recorded)
    for name in chosen.parameters:
        raise UserError(
            f"Unknown setting 'initial.{name}': a start that is drawn ({chosen.name}) has none. Leave it "
            "out, or name a strategy with --initial."
        )
    return None


def _starter(named: _Named, watch: Watch) -> Strategy:
    """The strategy that chooses the initial set, made.

    Raises:
        UserError: as far as is known before it is asked: it needs a classifier, which there is none of, or
            asks about something else than items of the pool.
    """
    with of_the_start():
        made = named.make(watch)
    reason = no_start(made)
    if reason is not None:
        raise UserError(f"'{named.name}' cannot choose the initial set: {reason}. {STARTS}")
    return made


def no_start(strategy: Strategy) -> str | None:
    """Why a strategy cannot choose the first labels, as far as its class says; None where it may."""
    from alharness.strategy import CommitteeStrategy, NarrowingStrategy, ScoreStrategy

    if isinstance(strategy, NarrowingStrategy):  # subset:M:NAME and its like
        return no_start(strategy.inner)
    if isinstance(strategy, ScoreStrategy | CommitteeStrategy) or strategy.learner_needs:
        return "it asks the classifier, and before the first labels there is none"
    if strategy.looks_at_test_labels:
        return "it is a bound that looks at the test set's labels"
    if strategy.labels_everything:
        return "it labels the whole pool"
    if strategy.asks_synthetic:
        return "it asks about items that are not in the pool"
    return None


def _first_query(start: str, query_size: int) -> int:
    """How large an initial set of 0 is: a strategy without labels is asked for as many as in every cycle.

    Raises:
        UserError: no strategy is there to be asked.
    """
    if start in DRAWN:
        raise UserError(
            f"An initial set of 0 labels leaves the first query to a strategy, and this start is drawn "
            f"({start}). Name a strategy that needs no classifier with --initial, or give --initial-size."
        )
    return query_size


def _require_known(given: Mapping[str, Any]) -> None:
    """Refuse keys that no spec has, and values where a section belongs."""
    for section in SETTINGS:
        if not isinstance(given.get(section, {}), Mapping):
            raise UserError(f"'{section}' is a section: expected {section}.NAME=VALUE.")
    for key in given:
        if key not in TOP_LEVEL and key not in SECTIONS:
            if homes := sections_with(key):
                meant = " or ".join(f"{name}.{key}" for name in homes)
                raise UserError(f"'{key}' is a setting of several parts. Name one: {meant}.")
            raise unknown_name("setting", key, [*TOP_LEVEL, *(f"{name}.*" for name in SECTIONS)])


def _choose_solver(learner: dict[str, Any], said: Mapping[str, Any], *, is_recorded: bool) -> None:
    """A classifier that is not linear has no solver, and its key none: the value that keys leave out.

    Args:
        learner: all settings of the classifier; changed.
        said: those that the user gave.
        is_recorded: whether the user gave a whole spec.

    Raises:
        UserError: Newton's method for a classifier that is ours and not linear.
    """
    if learner["kind"] == "linear" or learner["freeze"]:
        if is_recorded and "solver" not in said:
            learner.update(before(LearnerSettings))
    elif "solver" not in said:
        learner.update(before(LearnerSettings))
    elif said["solver"] == "newton" and ":" not in str(learner["kind"]):
        raise UserError(
            f"learner.solver is for the linear model; the classifier '{learner['kind']}' is none. Use "
            "learner.kind=linear, or leave learner.solver out."
        )


def _require_sections(given: Mapping[str, Any]) -> None:
    """Refuse settings that no section has, before a plug-in is imported for its defaults."""
    for section in SETTINGS:
        model: Any = RunSpec.model_fields[section].annotation
        with validating(model, section):
            model.model_validate(dict(given.get(section, {})))


def _kind_of(settings: LearnerSettings) -> Kind:
    """As ``kinds.kind_of``, which most kinds need torch for: imported when everything else is sound."""
    from alharness.learners.kinds import kind_of

    return kind_of(settings)


def _require_fitting(spec: RunSpec, task: TaskPlugin, strategy: Strategy, kind: Kind) -> None:
    """What cannot go together is said here, before data are loaded, as far as it is known by then.

    Raises:
        UserError: the strategy cannot work with the classifier, or cannot serve the data set.
    """
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


def _with_name(value: Any, name: str) -> Any:
    """A section with the name that it has where none is given."""
    return {"name": name, **value} if isinstance(value, Mapping) else value


def _choice(section: str, value: Any) -> Choice:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        option = "--dataset" if section == "task" else f"--{section}"
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
