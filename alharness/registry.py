"""Names of strategies, tasks and classifiers -> plug-ins, checked for what they are.

How a name is written and found is said in ``alharness.plugins``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError, blamed, unknown_name, validating
from alharness.plugins import (
    LEARNERS,
    STOPPING,
    STRATEGIES,
    TASKS,
    InstalledPlugin,
    describe,
    distribution_of,
    find,
    identity_of,
    listings,
    load,
    names,
    provider,
    require_name,
    split,
)
from alharness.tasks import hints

if TYPE_CHECKING:
    from alharness.strategy import Parameters, Strategy
    from alharness.tasks.base import TaskPlugin

__all__ = [
    "LEARNERS",
    "STOPPING",
    "STRATEGIES",
    "TASKS",
    "InstalledPlugin",
    "StrategyPlugin",
    "distribution_of",
    "find_strategy",
    "group_of",
    "identity_of",
    "listings",
    "names",
    "provider",
    "resolve_strategy",
    "resolve_task",
    "split",
    "strategy_class",
]


@dataclass(frozen=True)
class StrategyPlugin:
    """What a strategy's name stands for.

    Attributes:
        cls: the class.
        arguments: keyword arguments of its constructor that come from the name.
        inner: the strategy that it wraps and whose parameters it takes beside its own, for
            ``subset:500:NAME``.
    """

    cls: type[Strategy]
    arguments: Mapping[str, Any]
    inner: StrategyPlugin | None = None

    @property
    def parameters(self) -> type[Parameters]:
        """The model of its parameters: with those of the strategy that it wraps."""
        if self.inner is None:
            return self.cls.Parameters
        from alharness.strategy import joined

        return joined(self.cls.Parameters, self.inner.parameters)

    @property
    def defaults(self) -> dict[str, Any]:
        """Defaults of its parameters, by name; those that must be given are not there."""
        return {
            name: info.get_default(call_default_factory=True, validated_data={})
            for name, info in self.parameters.model_fields.items()
            if not info.is_required()
        }

    @property
    def unused(self) -> tuple[str, ...]:
        """Beginnings of settings that cannot change what it asks, as the contract of a strategy has it.

        ``prepare`` alone is given the generator and the auto-encoder, and an annotator answers for synthetic
        items only. One with a ``prepare`` of its own may use either.
        """
        from alharness.strategy import FeatureStrategy, NarrowingStrategy, Strategy

        if self.inner is not None and self.cls.prepare is NarrowingStrategy.prepare:
            return self.inner.unused
        found: tuple[str, ...] = ()
        if self.cls.prepare is Strategy.prepare:
            found = ("generator.", "autoencoder.")
        elif self.cls.prepare is FeatureStrategy.prepare:  # its space may be the auto-encoder's
            found = ("generator.",)
        return found if self.cls.asks_synthetic else (*found, *ANNOTATOR)

    def keywords(self, **parameters: Any) -> dict[str, Any]:
        """All keyword arguments of the constructor."""
        if self.inner is None:
            return {**self.arguments, **parameters}
        known = set(self.cls.Parameters.model_fields)
        own = {name: value for name, value in parameters.items() if name in known}
        # A name that only the wrapper knows is not the other one's; what nobody knows it refuses.
        known -= set(self.inner.parameters.model_fields)
        others = {name: value for name, value in parameters.items() if name not in known}
        return {**self.arguments, **own, "inner": self.inner.make(**others)}

    def make(self, **parameters: Any) -> Strategy:
        """The strategy, with its parameters checked."""
        return self.cls(**self.keywords(**parameters))


#: Settings of what labels synthetic items; in a sweep, where no person answers.
ANNOTATOR = ("oracle.mode", "oracle.threshold", "oracle.annotator", "oracle.epochs")

#: What is wrong with a plug-in whose instances have no ``parameters``.
NO_PARAMETERS = (
    "its own __init__ never calls super().__init__(**parameters); declare what may be set in a class "
    "Parameters, and it needs no __init__"
)


def strategy_class(name: str) -> type[Strategy]:
    """The class behind a strategy's name, whatever follows its colon.

    Raises:
        UserError: no such name, or what it names is not a ``Strategy``.
    """
    from alharness.strategy import Strategy

    found = load("strategy", STRATEGIES, split(STRATEGIES, name)[0])
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UserError(
            f"'{name}' is {describe(found)}, not a strategy. Derive a class from "
            "alharness.strategy.Strategy and name that class."
        )
    if getattr(found, "__abstractmethods__", None):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise UserError(f"The strategy '{name}' does not define {missing}. Write it and try again.")
    require_free_names("strategy", name, found)
    return found


#: What stands beside a plug-in's parameters in a spec, or before them in its constructor.
RESERVED = {"strategy": {"name"}, "task": {"name", "argument"}}


def require_free_names(section: str, name: str, cls: type[Strategy] | type[TaskPlugin]) -> None:
    """Refuse parameters that nobody could ever set.

    Raises:
        UserError: one has the name of something else, as ``strategy.name``.
    """
    taken = sorted(RESERVED[section] & set(getattr(cls.Parameters, "model_fields", ())))
    if taken:
        raise UserError(
            f"'{name}' has a parameter called '{taken[0]}', which in '{section}.{taken[0]}' means something "
            "else: it could never be set. Give it another name."
        )


def find_strategy(name: str) -> StrategyPlugin:
    """The plug-in behind a strategy's name, with what its argument says.

    Raises:
        UserError: no such strategy, or an argument that it does not take.
    """
    found = strategy_class(name)
    key, argument = split(STRATEGIES, name)
    if not found.takes and argument is None:
        return StrategyPlugin(found, {})
    if not found.takes:
        raise UserError(f"The strategy '{key}' takes nothing after a colon; found '{name}'.")
    with blamed(f"strategy '{name}'", "what parse returns"):
        arguments, inner = found.parse(argument or "")
    return StrategyPlugin(found, arguments, None if inner is None else find_strategy(inner))


def resolve_strategy(name: str, **parameters: Any) -> Strategy:
    """A strategy by name, with its parameters checked."""
    plugin = find_strategy(name)
    plugin.parameters(**parameters)  # a wrong setting is no fault of the plug-in
    return make_strategy(plugin, name, **parameters)


def make_strategy(plugin: StrategyPlugin, name: str, **parameters: Any) -> Strategy:
    """The strategy behind a name that was found, from parameters that are sound."""
    with blamed(f"strategy '{name}'", "an instance from its constructor"):
        made = plugin.make(**parameters)
        if not hasattr(made, "parameters"):
            raise TypeError(NO_PARAMETERS)
    return made


def group_of(name: str) -> str:
    """Whether a name of any form means a strategy, a task, a classifier or a stopping rule.

    An installed name says so by its group, strategies first; what a module or a file holds, by its type.

    Raises:
        UserError: there is no such thing.
    """
    for group in (STRATEGIES, TASKS, LEARNERS, STOPPING):
        if find(group, split(group, name)[0]) is not None:
            return group
    # No installed name: what is left is a file or a module, of which the object itself tells its kind.
    key = split(STRATEGIES, name)[0]
    if ":" not in key and Path(key).suffix == ".py":
        load("plug-in", STRATEGIES, key)  # says which classes the file has
    if ":" not in key:
        groups = (STRATEGIES, TASKS, LEARNERS, STOPPING)
        everything = [known for group in groups for known in names(group)]
        raise unknown_name("strategy, data set, classifier or stopping rule", name, everything)
    from alharness.strategy import Strategy
    from alharness.tasks.base import TaskPlugin

    found = load("plug-in", STRATEGIES, key)
    if isinstance(found, type) and issubclass(found, Strategy):
        return STRATEGIES
    if isinstance(found, type) and issubclass(found, TaskPlugin):
        return TASKS
    from alharness.stopping import StoppingRule

    if isinstance(found, type) and issubclass(found, StoppingRule):
        return STOPPING
    from alharness.learners.kinds import form_of

    if form_of(key, found) is not None:
        return LEARNERS
    raise UserError(
        f"'{name}' is {describe(found)}: neither a strategy nor a data set, classifier or stopping rule. "
        "Derive a class from alharness.strategy.Strategy, alharness.tasks.base.TaskPlugin, "
        "alharness.learners.learner.Learner or alharness.stopping.StoppingRule, or name a network or a "
        "scikit-learn classifier."
    )


def require_names(task: str | None, strategy: str | None) -> None:
    """Refuse names that nothing can have, before anything is imported for the other one.

    Args:
        task, strategy: names of any form; None where none was given.

    Raises:
        UserError: with what may have been meant.
    """
    if task is not None:
        require_name("data set", TASKS, split(TASKS, task)[0], hints.meant_by)
    if strategy is not None:
        require_name("strategy", STRATEGIES, split(STRATEGIES, strategy)[0])


def task_class(name: str) -> type[TaskPlugin]:
    """The class behind a data set's name, whatever follows its colon.

    Raises:
        UserError: no such name, or what it names is not a ``TaskPlugin``.
    """
    from alharness.tasks.base import TaskPlugin

    found = load("data set", TASKS, split(TASKS, name)[0], hints.meant_by)
    if not (isinstance(found, type) and issubclass(found, TaskPlugin)):
        raise UserError(
            f"'{name}' is {describe(found)}, not a data set. Derive a class from "
            "alharness.tasks.base.TaskPlugin and name that class."
        )
    require_free_names("task", name, found)
    return found


def resolve_task(name: str, **parameters: Any) -> TaskPlugin:
    """A task by name, with its parameters checked."""
    return make_task(task_class(name), name, **parameters)


def make_task(found: type[TaskPlugin], name: str, **parameters: Any) -> TaskPlugin:
    """The task behind a name whose class was found."""
    key, argument = split(TASKS, name)
    if found.takes_argument and not argument:
        raise UserError(
            f"Data set '{key}' needs an argument, as in '{key}:...'. See 'alharness show {key}'."
        )
    with validating(found.Parameters, "task"):
        plugin = found(key, argument, **parameters)
    if not hasattr(plugin, "parameters"):
        raise UserError(f"The data set '{name}' cannot be made: {NO_PARAMETERS}.")
    source = plugin.made_from()
    if source is not None:
        plugin.source_task = resolve_task(source)
    return plugin
