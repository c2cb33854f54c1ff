"""Names -> plug-ins, through entry points; nothing is imported before it is chosen.

A name is one of

* an entry point of the group ``alharness.strategies`` or ``alharness.tasks`` (ours like anyone's),
* ``package.module:Class``, for a class that is importable but not installed as a plug-in,
* ``./file.py:Class``, for a class in a file,
* ``NAME:ARGUMENT`` for plug-ins that take one (``folder:PATH``, ``augmented:mnist-two:1000000``,
  ``subset:500:max-entropy``).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError, unknown_name

if TYPE_CHECKING:
    from alharness.strategy import Parameters, Strategy
    from alharness.tasks.base import TaskPlugin

STRATEGIES = "alharness.strategies"
TASKS = "alharness.tasks"


@dataclass(frozen=True)
class Listing:
    """A plug-in as ``alharness list`` shows it, read without importing it.

    Attributes:
        name: what the user types.
        summary: first line of the class's docstring; empty when the source cannot be found.
        distribution: what installed it, with its version.
    """

    name: str
    summary: str
    distribution: str


def names(group: str) -> list[str]:
    """All installed names of a group, sorted. Imports no plug-in."""
    return sorted({point.name for point in entry_points(group=group)})


def listings(group: str) -> list[Listing]:
    """All installed plug-ins of a group with their summaries. Imports no plug-in."""
    return [
        Listing(point.name, _summary(point), distribution_of(point))
        for point in sorted(_unique(entry_points(group=group)), key=lambda point: point.name)
    ]


def distribution_of(point: EntryPoint) -> str:
    """The distribution behind an entry point, for instance ``alharness 0.1.0``."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown"


def _unique(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """One entry per name; the same distribution seen twice on the path counts once.

    Raises:
        UserError: two distributions that claim one name.
    """
    by_name: dict[str, EntryPoint] = {}
    for point in points:
        other = by_name.setdefault(point.name, point)
        if other.value != point.value:
            raise UserError(
                f"Two distributions claim the name '{point.name}': {distribution_of(other)} "
                f"({other.value}) and {distribution_of(point)} ({point.value}). Uninstall one, or "
                "name the class as package.module:Class."
            )
    return list(by_name.values())


def _summary(point: EntryPoint) -> str:
    """First docstring line of the class, found by reading the source."""
    path = _source_path(point.module)
    if path is None:
        return ""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == point.attr:
            text = ast.get_docstring(node) or ""
            return text.split("\n\n")[0].replace("\n", " ").strip()
    return ""


def _source_path(module: str) -> Path | None:
    """The file of a dotted module, found without importing its parents."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for location in spec.submodule_search_locations or []:
        path = Path(location).joinpath(*rest)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _find(group: str, name: str) -> EntryPoint | None:
    points = _unique(point for point in entry_points(group=group) if point.name == name)
    return points[0] if points else None


def _load(kind: str, group: str, name: str) -> Any:
    """The object behind a name of any form, not yet checked for its type."""
    point = _find(group, name)
    if point is not None:
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"The {kind} '{name}' of {distribution_of(point)} cannot be loaded from "
                f"'{point.value}': {error}. Reinstall or mend that distribution."
            ) from error
    module_name, colon, attribute = name.rpartition(":")
    if not colon or not module_name or not attribute:
        raise unknown_name(kind, name, names(group))
    if module_name.endswith(".py"):
        module = _import_file(kind, Path(module_name))
    elif "/" in module_name:
        raise UserError(
            f"'{name}' looks like a file but not like a Python file. Expected ./file.py:Class."
        )
    else:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is not None and not module_name.startswith(error.name):
                raise  # the module exists and fails on an import of its own
            raise unknown_name(kind, name, names(group)) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise unknown_name(f"{kind} class in {module_name}", attribute, classes) from None


def _import_file(kind: str, path: Path) -> ModuleType:
    """Import a file under a name derived from its path, once per process."""
    if not path.is_file():
        raise UserError(
            f"The {kind} file '{path}' does not exist (looked in {Path.cwd()}). "
            "Expected ./file.py:Class."
        )
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    module_name = f"alharness_file_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _split(group: str, name: str) -> tuple[str, str | None]:
    """Name of the plug-in and what follows its colon: ``folder:pics`` -> ("folder", "pics").

    A name that is installed whole, a module's or a file's class has no argument.
    """
    prefix, colon, rest = name.partition(":")
    if not colon or _find(group, name) is not None or _find(group, prefix) is None:
        return name, None
    return prefix, rest


@dataclass(frozen=True)
class StrategyPlugin:
    """What a strategy's name stands for.

    Attributes:
        cls: the class.
        arguments: keyword arguments of its constructor that come from the name.
        inner: the strategy that it wraps and whose parameters it takes, for ``subset:500:NAME``.
    """

    cls: type[Strategy]
    arguments: Mapping[str, Any]
    inner: StrategyPlugin | None = None

    @property
    def parameters(self) -> type[Parameters]:
        """The model of its parameters."""
        return self.inner.parameters if self.inner is not None else self.cls.Parameters

    def keywords(self, **parameters: Any) -> dict[str, Any]:
        """All keyword arguments of the constructor."""
        if self.inner is None:
            return {**self.arguments, **parameters}
        return {**self.arguments, "inner": self.inner.make(**parameters)}

    def make(self, **parameters: Any) -> Strategy:
        """The strategy, with its parameters checked."""
        return self.cls(**self.keywords(**parameters))


def strategy_class(name: str) -> type[Strategy]:
    """The class behind a strategy's name, whatever follows its colon.

    Raises:
        UserError: no such name, or what it names is not a ``Strategy``.
    """
    from alharness.strategy import Strategy

    found = _load("strategy", STRATEGIES, _split(STRATEGIES, name)[0])
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UserError(
            f"'{name}' is {_describe(found)}, not a strategy. Derive a class from "
            "alharness.strategy.Strategy and name that class."
        )
    if getattr(found, "__abstractmethods__", None):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise UserError(f"The strategy '{name}' does not define {missing}. Write it and try again.")
    return found


def find_strategy(name: str) -> StrategyPlugin:
    """The plug-in behind a strategy's name, with what its argument says.

    Raises:
        UserError: no such strategy, or an argument that it does not take.
    """
    found = strategy_class(name)
    key, argument = _split(STRATEGIES, name)
    if not found.takes and argument is None:
        return StrategyPlugin(found, {})
    if not found.takes:
        raise UserError(f"The strategy '{key}' takes nothing after a colon; found '{name}'.")
    arguments, inner = found.parse(argument or "")
    return StrategyPlugin(found, arguments, find_strategy(inner))


def resolve_strategy(name: str, **parameters: Any) -> Strategy:
    """A strategy by name, with its parameters checked."""
    return find_strategy(name).make(**parameters)


def provider(group: str, name: str) -> str:
    """The distribution and version that a name comes from (``file`` or module for the other forms)."""
    point = _find(group, _split(group, name)[0])
    return distribution_of(point) if point is not None else name


def resolve_task(name: str, **parameters: Any) -> TaskPlugin:
    """A task by name, with its parameters checked."""
    from alharness.tasks.base import TaskPlugin

    key, argument = _split(TASKS, name)
    found = _load("data set", TASKS, key)
    if not (isinstance(found, type) and issubclass(found, TaskPlugin)):
        raise UserError(
            f"'{name}' is {_describe(found)}, not a data set. Derive a class from "
            "alharness.tasks.base.TaskPlugin and name that class."
        )
    if found.takes_argument and not argument:
        raise UserError(
            f"Data set '{key}' needs an argument, as in '{key}:...'. See 'alharness show {key}'."
        )
    plugin = found(key, argument, **parameters)
    if hasattr(plugin, "resolve"):  # a task built on another one (augmented:NAME:N)
        plugin.resolve = resolve_task
    return plugin


def _describe(found: Any) -> str:
    return f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
