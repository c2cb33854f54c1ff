"""The numbers that figures rest on, as they were written down: a border or a default moves on purpose.

``numbers.txt`` holds constants of modules and classes, and defaults of settings, of facts and of functions.
What is new takes part once ``ALHARNESS_GOLDEN=write`` has written the file anew; what another value means
for figures that were published (a new recipe in the run key, a line in CHANGELOG.md) is for who changes it.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

FILE = Path(__file__).with_name("numbers.txt")
#: Rooms whose arithmetic ends in somebody's table.
ROOMS = (
    "alharness.engine", "alharness.matching", "alharness.comparison", "alharness.scaling", "alharness.tasks",
    "alharness.records", "alharness.oracle", "alharness_strategies",
)  # fmt: skip
#: What a machine or a library decides, and drawings.
ELSEWHERE = re.compile(
    r"(0x[0-9a-f]{6,}|Path\(|<function|<class|<module|re\.compile)|PydanticUndefined"
)


def modules() -> Iterator[Any]:
    for room in ROOMS:
        package = importlib.import_module(room)
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{room}."):
            if found.name.endswith(("kernels", "__main__")):  # need a card, or run
                continue
            try:
                yield importlib.import_module(found.name)
            except ImportError:  # of a library that is not installed
                continue


def told(value: Any) -> str | None:
    """A plain value in a line; None for what is no number, switch, name or table of them."""
    if value is None or isinstance(value, (type, str)) or callable(value):
        return None
    if isinstance(value, (set, frozenset)):  # whose order is chance
        value = sorted(value, key=repr)
    text = " ".join(repr(value).split())
    if re.search(r"frozenset\(|[{,] *'[^':]*'[,}]", text) and not isinstance(value, list):
        return None  # sets within
    return None if ELSEWHERE.search(text) or len(text) > 1500 else text


def numbers_of(module: Any) -> Iterator[tuple[str, Any]]:
    own = set(re.findall(r"^(\w+)(?:: [^=]+)? = ", inspect.getsource(module), re.MULTILINE))
    for name, value in vars(module).items():
        if name.isupper():
            if name not in own:  # another module's
                continue
            if isinstance(value, dict) and len(value) > 8:  # a table: a line for each of its rows
                yield from ((f"{name}[{key}]", each) for key, each in value.items())
            else:
                yield name, value
        elif getattr(value, "__module__", None) != module.__name__:
            continue
        elif inspect.isfunction(value):
            yield from defaults(name, value)
        elif inspect.isclass(value):
            yield from in_class(name, value)


def in_class(name: str, cls: Any) -> Iterator[tuple[str, Any]]:
    if issubclass(cls, BaseModel):
        for field, about in cls.model_fields.items():
            yield f"{name}.{field}", about.default
            yield f"{name}.{field} limits", about.metadata or None
    elif dataclasses.is_dataclass(cls):
        for each in dataclasses.fields(cls):
            if each.default is not dataclasses.MISSING:
                yield f"{name}.{each.name}", each.default
    for key, value in vars(cls).items():
        plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if inspect.isfunction(plain):
            yield from defaults(f"{name}.{key}", plain)
        elif isinstance(value, dict) and not key.startswith(("_", "model_")):
            yield from ((f"{name}.{key}[{row}]", each) for row, each in value.items())
        # BaseModel: what a paper, or a first run, is made with.
        elif key.isupper() or (
            isinstance(value, (bool, int, float, BaseModel)) and not key.startswith("_")
        ):
            yield f"{name}.{key}", value


def defaults(name: str, function: Any) -> Iterator[tuple[str, Any]]:
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not inspect.Parameter.empty:
            yield f"{name}({parameter.name})", parameter.default


def found() -> dict[str, str]:
    lines = {
        f"{module.__name__}.{name}": text
        for module in modules()
        for name, value in numbers_of(module)
        if (text := told(value)) is not None
    }
    return dict(sorted(lines.items()))


@pytest.fixture(scope="module")
def numbers() -> dict[str, str]:
    here = found()
    if os.environ.get("ALHARNESS_GOLDEN") == "write":
        FILE.write_text("".join(f"{name} = {value}\n" for name, value in here.items()))
    return here


@pytest.mark.parametrize("room", ROOMS)
def test_a_number_is_what_was_written_down(room: str, numbers: dict[str, str]) -> None:
    written = dict(line.split(" = ", 1) for line in FILE.read_text().splitlines())
    own = {name: value for name, value in written.items() if name.startswith(room)}
    assert len(own) > 20
    assert {name: numbers.get(name, value) for name, value in own.items()} == own
