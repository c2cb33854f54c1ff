"""What a foreign plug-in is: a digest of its source and of all that it imports, for a run's key.

Nothing is imported to know it. What a plug-in imports by a computed name, or reads from a data file, is
not seen.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from alharness.errors import UserError
from alharness.plugins.names import (
    OWN,
    InstalledIn,
    distribution_of,
    find,
    installed_in,
    is_own,
    own_packages,
    source_path,
)

#: Folders of installed distributions; a module elsewhere may change without a new version.
INSTALLED = frozenset({"site-packages", "dist-packages"})
#: Where this interpreter's own library and its distributions lie.
LIBRARIES = frozenset(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib"))


#: Their versions stand in ``env.json`` alone: in a key, each upgrade would rename every foreign run.
RECORDED = frozenset({"torch", "numpy", "scikit-learn"})


def identity_of(group: str, name: str) -> dict[str, str]:
    """What tells this version of a plug-in apart from another one; belongs into a run's key.

    Plug-ins that stand in the argument (``subset:500:./mine.py:Mine``) are told as well. Nothing is
    imported. What a plug-in imports by a computed name, or reads from a data file, is not seen.

    Args:
        group: ``STRATEGIES``, ``TASKS``, ``LEARNERS`` or ``STOPPING``.
        name: a name of any form.

    Returns:
        by plug-in: the distribution with its version; for source outside of the installed distributions
        a digest of it and of the modules there that it imports; and the other distributions that these
        lead to, with their versions. Empty for the harness's own, whose results follow from its version.

    Raises:
        UserError: a file that cannot be read.
    """
    return {
        token: " ".join([*words, *(f"{library} {number}" for library, number in found.items())])
        for token, words, found in _foreign(group, name)
    }


def libraries_of(group: str, name: str) -> dict[str, str]:
    """The distributions that a foreign plug-in of this name imports, with their versions."""
    return {key: number for *_, found in _foreign(group, name) for key, number in found.items()}


def _foreign(group: str, name: str) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """(plug-in, what it is, the libraries that it imports) for those in a name that are not ours."""
    tokens = name.split(":")
    at = 0
    while at < len(tokens):
        token, at = tokens[at], at + 1
        point = find(group, token)
        if point is not None:
            if not is_own(point):
                words = [distribution_of(point), *_loose_source(point.module)]
                yield token, words, _libraries(point.module, _content(point.module))
        elif token.endswith(".py"):
            content = read_source("plug-in", Path(token))
            make_importable(Path(token))
            yield token, [_source_digest(None, content)], _libraries(None, content)
            at += 1  # the class
        elif at < len(tokens) and token.partition(".")[0] not in own_packages():
            words = _module_identity(token)
            if words:
                # A library's own class: what it rests on belongs to the library's version.
                loose = bool(_loose_source(token))
                yield token, words, _libraries(token, _content(token)) if loose else {}
                at += 1
        # Everything else is an argument: a number, a path, the name of an attribute.


def _module_identity(module: str) -> list[str]:
    """Distribution and version of a module, and its source's digest; empty when there is none."""
    if not all(part.isidentifier() for part in module.split(".")):
        return []
    if source_path(module) is None:
        return []
    return [*_versions(module.partition(".")[0]), *_loose_source(module)]


def _versions(package: str) -> list[str]:
    """``NAME VERSION`` of the distributions that a top-level package comes from."""
    found = sorted(set(_distributions(installed_in()).get(package, [])))
    return [f"{distribution} {version(distribution)}" for distribution in found]


@cache
def _distributions(folders: InstalledIn) -> Mapping[str, list[str]]:
    """Distributions by top-level package: all installed files are looked at, .2 s, once per state of them."""
    return packages_distributions()


def _content(module: str) -> bytes:
    path = source_path(module)
    return path.read_bytes() if path is not None and path.suffix == ".py" else b""


def _libraries(module: str | None, content: bytes) -> dict[str, str]:
    """Distributions, with versions, that a plug-in imports from its own modules, however deep."""
    own = None if module is None else module.partition(".")[0]
    met, waiting, outside = {module}, [(module, content)], set()
    while waiting:
        for name in _imported(*waiting.pop()):
            top, path = name.partition(".")[0], source_path(name)
            if name in met:
                continue
            met.add(name)
            if path is not None and (top == own or _is_loose(name, path)):
                waiting.append((name, _content(name)))
            # By top-level package: its modules belong to the same distribution.
            elif name == top and top not in sys.stdlib_module_names | own_packages():
                outside.add(top)
    found = {word for top in outside for word in _versions(top)}
    pairs = [tuple(word.split(" ", 1)) for word in sorted(found)]
    return {name: number for name, number in pairs if name not in RECORDED | OWN}


def _loose_source(module: str) -> list[str]:
    """The source's digest, for a module that may change without a new version."""
    path = source_path(module)
    if path is None or not _is_loose(module, path):
        return []
    return [_source_digest(module, path.read_bytes())]


def _is_loose(module: str, path: Path) -> bool:
    """Neither of Python's own library, nor of the harness, nor of an installed distribution."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in own_packages() or path.suffix != ".py":
        return False
    inside = any(path.is_relative_to(folder) for folder in LIBRARIES)
    return not inside and not INSTALLED & set(path.parts)


def _source_digest(module: str | None, content: bytes) -> str:
    """SHA-256 (16 hex digits) of a source and of all loose modules that it imports, however deep.

    Args:
        module: the source's dotted name; None for a file, which has no package around it.
        content: the source.
    """
    return digest_of(sources_of(module, content))


def sources_of(module: str | None, content: bytes) -> dict[str, bytes]:
    """A source and all loose modules that it imports, however deep, by dotted name ("" for a file)."""
    sources = {module or "": content}
    waiting = [(module, content)]
    while waiting:
        for name in _imported(*waiting.pop()):
            path = source_path(name)
            if name not in sources and path is not None and _is_loose(name, path):
                sources[name] = path.read_bytes()
                waiting.append((name, sources[name]))
    return sources


def digest_of(sources: Mapping[str, bytes]) -> str:
    sha = hashlib.sha256()
    for name in sorted(sources):
        sha.update(f"{name}\0{len(sources[name])}\0".encode())
        sha.update(sources[name])
    return sha.hexdigest()[:16]


# Kept: a run asks for its plug-ins' sources several times, to import them and to say what they are.
@lru_cache(maxsize=256)
def _imported(module: str | None, content: bytes) -> tuple[str, ...]:
    """Dotted names that a source imports, anywhere in it, with the packages around each."""
    return tuple(dict.fromkeys(_imports(module, content)))


def _imports(module: str | None, content: bytes) -> Iterator[str]:
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
    path = source_path(module)
    is_package = path is not None and path.name == "__init__.py"
    parts = module.split(".")
    parts = parts[: len(parts) - node.level + is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def read_source(kind: str, path: Path) -> bytes:
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


def make_importable(path: Path) -> None:
    """Let a file import what lies beside it, as a script may; behind everything that is installed."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
