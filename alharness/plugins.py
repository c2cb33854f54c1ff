"""Names -> objects, through entry points; nothing is imported before it is chosen.

A name is one of

* an entry point of the group ``alharness.strategies``, ``alharness.tasks`` or ``alharness.learners``
  (ours like anyone's),
* ``package.module:Class``, for a class that is importable but not installed as a plug-in,
* ``./file.py:Class``, for a class in a file,
* any of these with ``:ARGUMENT`` behind it, for plug-ins that take one (``folder:PATH``,
  ``augmented:mnist-two:1000000``, ``subset:500:max-entropy``, ``./mine.py:Task:ARGUMENT``).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from alharness.errors import UserError, blamed, unknown_name

STRATEGIES = "alharness.strategies"
TASKS = "alharness.tasks"
LEARNERS = "alharness.learners"

#: Distributions whose plug-ins belong to the harness: what they compute follows from its version.
OWN = frozenset({"alharness"})
#: Files that a user may name as a data set, and the task that reads them.
FILES = {".npz": "npz", **dict.fromkeys((".csv", ".tsv", ".parquet", ".pq"), "table")}
#: Folders of installed distributions; a module elsewhere may change without a new version.
INSTALLED = frozenset({"site-packages", "dist-packages"})


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


def _points(group: str) -> tuple[EntryPoint, ...]:
    """All entry points of a group. Reading them takes 15 ms among 150 distributions, so it is done again
    only when a folder of the import path changed."""
    return _scanned(group, tuple((folder, _changed(folder)) for folder in sys.path))


@lru_cache(maxsize=16)
def _scanned(group: str, path: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _changed(folder: str) -> int:
    try:
        return Path(folder or ".").stat().st_mtime_ns
    except OSError:
        return 0


def names(group: str) -> list[str]:
    """All installed names of a group, sorted. Imports no plug-in."""
    return sorted({point.name for point in _points(group)})


def listings(group: str) -> list[Listing]:
    """All installed plug-ins of a group with their summaries. Imports no plug-in."""
    return [
        Listing(point.name, _summary(point), distribution_of(point))
        for point in sorted(_unique(_points(group)), key=lambda point: point.name)
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
    """What a plug-in says of itself, found by reading the source.

    The first line of the docstring of a class or function; the first text that a call gets whose result
    has the name (``Name = preset(Base, "summary")``).
    """
    path = _source_path(point.module)
    if path is None:
        return ""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == point.attr:
            text = ast.get_docstring(node) or ""
            return text.split("\n\n")[0].replace("\n", " ").strip()
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            given = [part.value for part in node.value.args if isinstance(part, ast.Constant)]
            if point.attr in names:
                return next((text for text in given if isinstance(text, str)), "")
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


def find(group: str, name: str) -> EntryPoint | None:
    """The entry point of an installed name; None when there is none."""
    points = _unique(point for point in _points(group) if point.name == name)
    return points[0] if points else None


def load(kind: str, group: str, name: str) -> Any:
    """The object behind a name of any form, not yet checked for its type.

    Args:
        kind: what it should be, in a user's words.
        group: where it would be installed.
        name: without an argument.

    Raises:
        UserError: there is no such thing, or it cannot be loaded.
    """
    with blamed(f"{kind} '{name}'", "a module that can be imported"):
        return _load(kind, group, name)


def _load(kind: str, group: str, name: str) -> Any:
    point = find(group, name)
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
        raise _misnamed(kind, group, name)
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


def _misnamed(kind: str, group: str, name: str) -> UserError:
    """What to say of a name that is none: a file without its class, a folder, or a slip."""
    path = Path(name)
    if path.suffix == ".py" and path.is_file():
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:
            return UserError(f"'{name}' is a file; name the class in it, as in {name}:Class.")
        found = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        which = " or ".join(f"{name}:{one}" for one in found) or f"{name}:Class"
        return UserError(f"'{name}' is a file; name the {kind} in it: {which}.")
    if group == TASKS and path.is_dir() and any(path.rglob("*.parquet")):
        return UserError(
            f"'{name}' is a folder. For images in parquet files: --dataset parquet:{name}"
        )
    if group == TASKS and path.is_dir():
        return UserError(
            f"'{name}' is a folder. For images in one folder per class: --dataset folder:{name}"
        )
    if group == TASKS and path.suffix.lower() in FILES:
        task = FILES[path.suffix.lower()]
        return UserError(f"'{name}' is a file of data. Name what reads it: --dataset {task}:{name}")
    return unknown_name(kind, name, names(group))


def _import_file(kind: str, path: Path) -> ModuleType:
    """Import a file under a name derived from its path and content: once per process and version."""
    content = _read_source(kind, path)
    _reach(path)
    sources = _sources(None, content)
    told = str(path.resolve()).encode() + b"\0" + _digest_of(sources).encode()
    module_name = f"alharness_file_{path.stem}_{hashlib.sha256(told).hexdigest()[:8]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    for name in sources:  # local modules may have been imported as they were before an edit
        sys.modules.pop(name, None)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _reach(path: Path) -> None:
    """Let a file import what lies beside it, as a script may; behind everything that is installed."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)


def _read_source(kind: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(
            f"The {kind} file '{path}' does not exist (looked in {Path.cwd()}). "
            "Expected ./file.py:Class."
        ) from None
    except OSError as error:
        raise UserError(
            f"The {kind} file '{path}' cannot be read: {error.strerror}. Give a file that can be."
        ) from error


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


# What a foreign plug-in is: part of the keys of runs that it takes part in -------------------


def identity_of(group: str, name: str) -> dict[str, str]:
    """What tells this version of a plug-in apart from another one; belongs into a run's key.

    Plug-ins that stand in the argument (``subset:500:./mine.py:Mine``) are told as well. Nothing is
    imported. What a plug-in imports by a computed name, or reads from a data file, is not seen.

    Args:
        group: ``STRATEGIES``, ``TASKS`` or ``LEARNERS``.
        name: a name of any form.

    Returns:
        by plug-in: the distribution with its version, and for source outside of the installed
        distributions a digest of it and of the modules there that it imports. Empty for the
        harness's own, whose results follow from its version.

    Raises:
        UserError: a file that cannot be read.
    """
    found: dict[str, str] = {}
    tokens = name.split(":")
    at = 0
    while at < len(tokens):
        token, at = tokens[at], at + 1
        point = find(group, token)
        if point is not None:
            if point.dist is None or point.dist.name not in OWN:
                found[token] = " ".join([distribution_of(point), *_loose_source(point.module)])
        elif token.endswith(".py"):
            content = _read_source("plug-in", Path(token))
            _reach(Path(token))
            found[token] = _source_digest(None, content)
            at += 1  # the class
        elif at < len(tokens) and token.partition(".")[0] not in _own_packages():
            known = _module_identity(token)
            if known:
                found[token] = known
                at += 1
        # Everything else is an argument: a number, a path, the name of an attribute.
    return found


def _own_packages() -> frozenset[str]:
    """Packages whose modules are ours: this one, and those that our distribution's plug-ins lie in."""
    points = [point for group in (STRATEGIES, TASKS, LEARNERS) for point in _points(group)]
    ours = {
        point.module.partition(".")[0]
        for point in points
        if point.dist is not None and point.dist.name in OWN
    }
    return frozenset({__name__.partition(".")[0], *ours})


def _module_identity(module: str) -> str:
    """Distribution and version of a module, or its source's digest; empty when there is none."""
    if not all(part.isidentifier() for part in module.split(".")):
        return ""
    if _source_path(module) is None:
        return ""
    names = packages_distributions().get(module.partition(".")[0], [])
    known = [f"{distribution} {version(distribution)}" for distribution in sorted(set(names))]
    return " ".join([*known, *_loose_source(module)])


def _loose_source(module: str) -> list[str]:
    """The source's digest, for a module that may change without a new version."""
    path = _source_path(module)
    if path is None or not _is_loose(module, path):
        return []
    return [_source_digest(module, path.read_bytes())]


def _is_loose(module: str, path: Path) -> bool:
    """Neither of Python's own library, nor of the harness, nor of an installed distribution."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in _own_packages() or path.suffix != ".py":
        return False
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
    inside = any(path.is_relative_to(folder) for folder in folders)
    return not inside and not INSTALLED & set(path.parts)


def _source_digest(module: str | None, content: bytes) -> str:
    """SHA-256 (16 hex digits) of a source and of all loose modules that it imports, however deep.

    Args:
        module: the source's dotted name; None for a file, which has no package around it.
        content: the source.
    """
    return _digest_of(_sources(module, content))


def _sources(module: str | None, content: bytes) -> dict[str, bytes]:
    """A source and all loose modules that it imports, however deep, by dotted name ("" for a file)."""
    sources = {module or "": content}
    waiting = [(module, content)]
    while waiting:
        for name in _imported(*waiting.pop()):
            path = _source_path(name)
            if name not in sources and path is not None and _is_loose(name, path):
                sources[name] = path.read_bytes()
                waiting.append((name, sources[name]))
    return sources


def _digest_of(sources: Mapping[str, bytes]) -> str:
    sha = hashlib.sha256()
    for name in sorted(sources):
        sha.update(f"{name}\0{len(sources[name])}\0".encode())
        sha.update(sources[name])
    return sha.hexdigest()[:16]


def _imported(module: str | None, content: bytes) -> Iterator[str]:
    """Dotted names that a source imports, anywhere in it, with the packages around each."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return  # loading it will say so
    for node in ast.walk(tree):
        wanted: list[str] = []
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            wanted = [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []
        for name in wanted:
            parts = name.split(".")
            yield from (".".join(parts[: n + 1]) for n in range(len(parts)))


def _absolute(module: str | None, node: ast.ImportFrom) -> str:
    """The module that ``from X import`` means; empty where a relative one leads nowhere."""
    if node.level == 0:
        return node.module or ""
    if module is None:
        return ""
    path = _source_path(module)
    is_package = path is not None and path.name == "__init__.py"
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def describe(found: Any) -> str:
    """What was found, in a user's words: ``the class Newest``, ``a int``."""
    return f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
