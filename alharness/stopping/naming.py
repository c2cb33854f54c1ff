"""Names of stopping rules -> rules with their parameters: ``kappa``, ``budget:200``, ``kappa:window=5``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from alharness.errors import UserError, blamed
from alharness.files import parse_toml
from alharness.plugins import STOPPING, describe, load, names, split
from alharness.records.facts import Choice
from alharness.stopping.rule import NEEDS, StoppingRule


@dataclass(frozen=True)
class NamedRule:
    """A rule with its parameters, by the name that its user typed.

    Attributes:
        name: without parameters.
        rule: the object.
    """

    name: str
    rule: StoppingRule

    @property
    def choice(self) -> Choice:
        """As a spec holds it: the name, and every parameter beside it."""
        return Choice(name=self.name, **self.rule.parameters.model_dump(mode="json"))

    @property
    def label(self) -> str:
        """The name with those parameters that are not at their defaults."""
        model = type(self.rule.parameters)
        shown = [
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in self.rule.parameters.model_dump(mode="json").items()
            if model.model_fields[key].is_required() or value != model.model_fields[key].default
        ]
        return f"{self.name}({', '.join(shown)})" if shown else self.name


def rule_class(name: str) -> type[StoppingRule]:
    """The class behind a rule's name, whatever follows its colon.

    Raises:
        UserError: no such name, or what it names is not a ``StoppingRule``.
    """
    key = split(STOPPING, name)[0]
    found = load("stopping rule", STOPPING, key)
    if not (isinstance(found, type) and issubclass(found, StoppingRule)):
        raise UserError(
            f"'{name}' is {describe(found)}, not a stopping rule. Derive a class from "
            "alharness.stopping.StoppingRule and name that class."
        )
    if getattr(found, "__abstractmethods__", None):
        raise UserError(
            f"The stopping rule '{name}' does not define decide. Write it and try again."
        )
    if "name" in found.Parameters.model_fields:
        raise UserError(
            f"'{name}' has a parameter called 'name', which in a spec is the rule's own. Give it another."
        )
    unknown = sorted(set(found.needs) - set(NEEDS))
    if unknown:
        raise UserError(
            f"The stopping rule '{name}' needs '{unknown[0]}'; expected one of {', '.join(NEEDS)}."
        )
    return found


def choice_of(given: Any) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a rule as a user gives it: a text, or a table with ``name``.

    ``NAME``, ``NAME:VALUE`` (of the first parameter) or ``NAME:KEY=VALUE,KEY=VALUE``.

    Raises:
        UserError: anything else.
    """
    if isinstance(given, Mapping) and isinstance(given.get("name"), str):
        parameters = {key: value for key, value in given.items() if key != "name"}
        return given["name"], parameters
    if not isinstance(given, str) or not given:
        raise UserError(
            f"'stop' takes a rule's name, as in --stop kappa or --stop budget:200; found {given!r}. "
            "'alharness list stopping' shows names."
        )
    key, argument = split(STOPPING, given)
    if argument is None:
        return key, {}
    fields = list(rule_class(key).Parameters.model_fields)
    parameters = {}
    for place, part in enumerate(argument.split(",")):
        word, equals, value = part.partition("=")
        # The first parameter needs no name where it stands first: budget:200.
        if not equals and place == 0 and fields:
            word, value = fields[0], word
        if not word.strip() or not value.strip():
            raise UserError(
                f"The stopping rule '{given}' is not understood at '{part}': expected NAME=VALUE"
                + (
                    f", for instance {key}:{fields[0]}=VALUE."
                    if fields
                    else "; it has no parameters."
                )
            )
        parameters[word.strip()] = _value(value.strip())
    return key, parameters


def _value(text: str) -> Any:
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text


def named(given: Any) -> NamedRule:
    """The rule behind what a user gives, with its parameters checked.

    Args:
        given: as of ``choice_of``; or a ``Choice`` of a spec.

    Raises:
        UserError: no such rule, an unknown parameter, or a value that it cannot have.
    """
    if isinstance(given, Choice):
        given = {"name": given.name, **given.parameters}
    name, parameters = choice_of(given)
    cls = rule_class(name)
    try:
        cls.Parameters(**parameters)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        known = ", ".join(cls.Parameters.model_fields) or "none"
        raise UserError(
            f"The parameter '{place}' of the stopping rule '{name}' is not valid: "
            f"{first['msg'].lower()}. It has: {known}; see 'alharness show {name}'."
        ) from error
    with blamed(f"stopping rule '{name}'", "an instance from its constructor"):
        made = cls(**parameters)
        if not hasattr(made, "parameters"):
            raise TypeError(
                "its own __init__ never calls super().__init__(**parameters); declare what may be set in "
                "a class Parameters, and it needs no __init__"
            )
    return NamedRule(name, made)


def all_rules() -> list[NamedRule]:
    """Every installed rule that can do without a parameter of the user's, by name."""
    classes = {name: rule_class(name) for name in names(STOPPING)}
    return [
        named(name)
        for name, cls in classes.items()
        if not any(field.is_required() for field in cls.Parameters.model_fields.values())
    ]
