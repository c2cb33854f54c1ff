"""Installed names: entry points, read without importing what they name."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from pathlib import Path
from types import FunctionType

from alharness.errors import UserError

STRATEGIES = "alharness.strategies"
TASKS = "alharness.tasks"
LEARNERS = "alharness.learners"
STOPPING = "alharness.stopping"
#: Models that are named by module or file only (``data embed``): nothing is installed under it.
MODELS = "alharness.models"

#: Distributions whose plug-ins belong to the harness: what they compute follows from its version.
OWN = frozenset({"alharness"})


@dataclass(frozen=True)
class InstalledPlugin:
    """A plug-in as ``alharness list`` shows it, read without importing it.

    Attributes:
        name: what the user types.
        summary: first line of the class's docstring; empty when the source cannot be found.
        distribution: what installed it, with its version.
        family: what it is listed under (``FAMILY`` of its module), with what all of them need; may be empty.
    """

    name: str
    summary: str
    distribution: str
    family: str


def _points(group: str) -> tuple[EntryPoint, ...]:
    """All entry points of a group. Reading them takes 15 ms among 150 distributions, so it is done again
    only when a folder of the import path that holds distributions changed."""
    return _scanned(group, installed_in())


#: Folders of the import path that hold distributions, with the time at which each was last changed.
InstalledIn = tuple[tuple[str, int], ...]


def installed_in() -> InstalledIn:
    """Where distributions are; another value once one may have come or gone."""
    folders = ((folder, _changed(folder)) for folder in sys.path)
    return tuple(one for one in folders if _holds_distributions(*one))


# A user's own folder, where plug-ins lie and runs are written, changes all the time and holds none.
@lru_cache(maxsize=4096)
def _holds_distributions(folder: str, changed: int) -> bool:
    return next(iter(distributions(path=[folder])), None) is not None


@lru_cache(maxsize=16)
def _scanned(group: str, path: InstalledIn) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _changed(folder: str) -> int:
    try:
        return os.stat(folder or ".").st_mtime_ns  # noqa: PTH116 - for every look-up of a name
    except OSError:
        return 0


def names(group: str) -> list[str]:
    """All installed names of a group, sorted. Imports no plug-in."""
    return sorted({point.name for point in _points(group)})


def listings(group: str) -> list[InstalledPlugin]:
    """All installed plug-ins of a group with their summaries. Imports no plug-in."""
    return [
        InstalledPlugin(point.name, _summary(point), distribution_of(point), _family(point))
        for point in sorted(_unique(_points(group)), key=lambda point: point.name)
    ]


def distribution_of(point: EntryPoint) -> str:
    """The distribution behind an entry point, for instance ``alharness 0.1.0``."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "unknown"


def is_own(point: EntryPoint) -> bool:
    """Whether a plug-in belongs to the harness."""
    return point.dist is not None and _name_of(point.dist) in OWN


# Kept: metadata would read it from a file each time.
@lru_cache(maxsize=1024)
def _name_of(distribution: Distribution) -> str:
    return distribution.name


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


def _family(point: EntryPoint) -> str:
    """``FAMILY`` of a plug-in's module, found by reading the source; empty where it says none."""
    for node in _statements(point):
        if isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["FAMILY"]:
            told = node.value.value if isinstance(node.value, ast.Constant) else None
            return told if isinstance(told, str) else ""
    return ""


def _statements(point: EntryPoint) -> list[ast.stmt]:
    """What stands in a plug-in's module; nothing where its source cannot be read."""
    path = source_path(point.module)
    return [] if path is None else _parsed(path)


@lru_cache(maxsize=256)
def _parsed(path: Path) -> list[ast.stmt]:
    try:
        return ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, SyntaxError, UnicodeDecodeError):
        return []


def _summary(point: EntryPoint) -> str:
    """What a plug-in says of itself, found by reading the source.

    The first line of the docstring of a class or function; the first text that a call gets whose result
    has the name (``Name = preset(Base, "summary")``).
    """
    for node in _statements(point):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == point.attr:
            text = ast.get_docstring(node) or ""
            return text.split("\n\n")[0].replace("\n", " ").strip()
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            given = [part.value for part in node.value.args if isinstance(part, ast.Constant)]
            if point.attr in names:
                return next((text for text in given if isinstance(text, str)), "")
    return ""


def find(group: str, name: str) -> EntryPoint | None:
    """The entry point of an installed name; None when there is none."""
    points = _unique(point for point in _points(group) if point.name == name)
    return points[0] if points else None


def split(group: str, name: str) -> tuple[str, str | None]:
    """Name of the plug-in and what follows its colon: ``folder:pics`` -> ("folder", "pics").

    A name that is installed whole, a module's or a file's class has no argument unless a further
    colon follows.
    """
    if find(group, name) is not None:
        return name, None
    prefix, colon, rest = name.partition(":")
    if colon and find(group, prefix) is not None:
        return prefix, rest
    file, dot_py, after = name.partition(".py:")
    before, rest = (file + dot_py, after) if dot_py else (prefix + colon, rest)
    attribute, colon, argument = rest.partition(":")
    return (before + attribute, argument) if colon else (name, None)


def provider(group: str, name: str) -> str:
    """The distribution and version that a name comes from (``file`` or module for the other forms)."""
    point = find(group, split(group, name)[0])
    return distribution_of(point) if point is not None else name


def attribute_of(plugin: type | FunctionType) -> str | None:
    """The name by which a plug-in's module has it; None if no name there means it.

    Its own name may mean another one: a class that a call made from a base often has the base's name.
    """
    module = sys.modules.get(plugin.__module__)
    if module is None:  # loaded by hand
        return plugin.__qualname__ if plugin.__qualname__.isidentifier() else None
    return next((name for name, value in vars(module).items() if value is plugin), None)


def own_packages() -> frozenset[str]:
    """Packages whose modules are ours: this one, and those that our distribution's plug-ins lie in."""
    return _own_packages(installed_in())


# Kept: a source that is looked through asks for every module that it imports.
@lru_cache(maxsize=16)
def _own_packages(path: InstalledIn) -> frozenset[str]:
    groups = (STRATEGIES, TASKS, LEARNERS, STOPPING)
    points = [point for group in groups for point in _scanned(group, path)]
    ours = {point.module.partition(".")[0] for point in points if is_own(point)}
    return frozenset({__name__.partition(".")[0], *ours})


def source_path(module: str) -> Path | None:
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
