"""What a caller says in Python as what a spec holds: classes by the names they are found under again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

from alharness import plugins
from alharness.errors import UserError, home_of
from alharness.files import merge

_KINDS = {
    plugins.STRATEGIES: "strategy",
    plugins.TASKS: "data set",
    plugins.LEARNERS: "classifier",
}


def name_of(group: str, plugin: type | FunctionType) -> str:
    """The name that leads to a class or function again, in another process and next year.

    An installed plug-in's own name; ``package.module:Class`` of a package; of a lone file its path,
    ``./mine.py:Mine`` below the working directory, as a command would have it. What is found there is
    what runs: the file as it stands now, not what was changed in memory.

    Args:
        group: ``plugins.STRATEGIES``, ``TASKS`` or ``LEARNERS``.
        plugin: the class, or a function that builds a network.

    Raises:
        UserError: it stands in a notebook, in the script that runs, or inside a function.
    """
    module, attribute = plugin.__module__, plugins.attribute_of(plugin)
    for name in plugins.names(group):
        point = plugins.find(group, name)
        if point is not None and point.value == f"{module}:{attribute}":
            return name
    source = home_of(plugin)
    if module == "__main__" or source is None or attribute is None:
        own = plugin.__qualname__
        raise UserError(
            f"The {_KINDS[group]} {own} is defined in a notebook, in the running script or inside "
            "a function, where no other process finds it. Write it into a file of its own (in a "
            f"notebook: %%writefile mine.py) and give the class from there, or './mine.py:{own}'."
        )
    file = Path(source).resolve()
    if "." in module or plugins.INSTALLED & set(file.parts):
        return f"{module}:{attribute}"
    below = file.is_relative_to(Path.cwd().resolve())
    shown = f"./{file.relative_to(Path.cwd().resolve())}" if below else str(file)
    return f"{shown}:{attribute}"


def choice_of(group: str, given: Any) -> dict[str, Any]:
    """A plug-in as a section of a spec: ``{"name": ..., parameters}``.

    Args:
        group: what kind of plug-in.
        given: a name, a class, or a mapping with ``name`` (either of the two) and parameters.

    Raises:
        UserError: anything else, or a class without a file of its own.
    """
    kind = _KINDS[group]
    section = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = section.get("name")
    if isinstance(name, type | FunctionType):
        name = name_of(group, name)
    if not isinstance(name, str):
        raise UserError(
            f"The {kind} is a name, a class, or {{'name': ..., PARAMETER: VALUE}}; found {given!r}."
        )
    return {**_plain(section), "name": name}


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as nested plain values.

    Args:
        given: values of a spec, sections as mappings (``learner={"min_steps": 100}``) or by dotted
            names (``{"learner.min_steps": 100}``); a class may stand for ``learner.kind``.
    """
    layers: list[dict[str, Any]] = []
    for key, value in given.items():
        *sections, last = key.split(".")
        nested: dict[str, Any] = {last: _plain(value)}
        for section in reversed(sections):
            nested = {section: nested}
        layers.append(nested)
    return merge(*layers) if layers else {}


def _plain(value: Any) -> Any:
    """As TOML would hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    numpy = sys.modules.get("numpy")  # where nobody imported it, nobody has a number of its
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    if isinstance(value, type | FunctionType):
        return name_of(plugins.LEARNERS, value)
    return value
