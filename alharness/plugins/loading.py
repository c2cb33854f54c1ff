"""Names -> objects; nothing is imported before it is chosen."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from alharness.errors import UserError, blamed, unknown_name
from alharness.plugins.names import (
    LEARNERS,
    MODELS,
    STOPPING,
    STRATEGIES,
    TASKS,
    distribution_of,
    find,
    names,
    split,
)
from alharness.plugins.source import digest_of, make_importable, read_source, sources_of

#: What a name may mean that is none: a sentence, or None where nothing is known about it.
Hint = Callable[[str], str | None]


#: How modules are called that were imported from a file.
_FROM_FILE = "alharness_file_"

#: Group -> what its plug-ins are called, and where 'alharness list' shows them.
CALLED = {
    STRATEGIES: ("strategy", "strategies"),
    TASKS: ("data set", "datasets"),
    LEARNERS: ("classifier", "learners"),
    STOPPING: ("stopping rule", "stopping"),
}


def _no_hint(name: str) -> None:
    """Nothing is known of names that are none."""


def require_name(kind: str, group: str, name: str, hint: Hint = _no_hint) -> None:
    """Refuse a name that is neither installed nor has the form of a module's or a file's. Imports nothing.

    Args:
        kind, group, name, hint: as of ``load``.

    Raises:
        UserError: with what may have been meant.
    """
    if find(group, name) is None and not all(name.rpartition(":")):
        raise _misnamed(kind, group, name, hint)


def load(kind: str, group: str, name: str, hint: Hint = _no_hint) -> Any:
    """The object behind a name of any form, not yet checked for its type.

    Args:
        kind: what it should be, in a user's words.
        group: where it would be installed.
        name: without an argument.
        hint: asked when there is no such name, before similar names are told.

    Raises:
        UserError: there is no such thing, or it cannot be loaded.
    """
    with blamed(f"{kind} '{name}'", "a module that can be imported"):
        return _load(kind, group, name, hint)


def _load(kind: str, group: str, name: str, hint: Hint) -> Any:
    point = find(group, name)
    if point is not None:
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"The {kind} '{name}' of {distribution_of(point)} cannot be loaded from "
                f"'{point.value}': {error}. Reinstall or mend that distribution."
            ) from error
    require_name(kind, group, name, hint)
    module_name, _, attribute = name.rpartition(":")
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
            raise _misnamed(kind, group, name, hint) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        # Those of the file itself: what it imports (Strategy, PoolQuery, ...) is nobody's choice.
        is_one = callable if group == MODELS else lambda value: isinstance(value, type)
        found = {key: value for key, value in vars(module).items() if is_one(value)}
        own = [
            key
            for key, value in found.items()
            if getattr(value, "__module__", None) == module.__name__
        ]
        what = kind if group == MODELS else f"{kind} class"
        raise unknown_name(f"{what} in {module_name}", attribute, own or list(found)) from None


def _misnamed(kind: str, group: str, name: str, hint: Hint) -> UserError:
    """What to say of a name that is none: a file without its class, what the hint knows, or a slip."""
    path = Path(name)
    if path.suffix == ".py" and path.is_file():
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:
            return UserError(f"'{name}' is a file; name the class in it, as in {name}:Class.")
        found = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
        which = " or ".join(f"{name}:{one}" for one in found) or f"{name}:Class"
        return UserError(f"'{name}' is a file; name the {kind} in it: {which}.")
    known = hint(name)
    if known is not None:
        return UserError(known)
    for other, (called, _) in CALLED.items():
        # Names that changed places: no spelling of the other kind is what was meant.
        if other != group and group in CALLED and find(other, split(other, name)[0]) is not None:
            order = "'alharness run' takes the strategy first: alharness run margin digits-two"
            return UserError(
                f"'{name}' is a {called}; expected a {kind} ('alharness list {CALLED[group][1]}')."
                # Only these two stand side by side without a word between them.
                + (f" {order}" if {other, group} == {STRATEGIES, TASKS} else "")
            )
    return unknown_name(kind, name, names(group))


def forget_files() -> None:
    """Let the next run of this process import its plug-ins' files anew, as a process of its own would.

    What a class of such a file kept for itself (a cache in a class attribute) would be there in the next run.
    """
    for name in [name for name in sys.modules if name.startswith(_FROM_FILE)]:
        del sys.modules[name]


def _import_file(kind: str, path: Path) -> ModuleType:
    """Import a file under a name derived from its path and content: once per run and version."""
    content = read_source(kind, path)
    make_importable(path)
    sources = sources_of(None, content)
    told = str(path.resolve()).encode() + b"\0" + digest_of(sources).encode()
    module_name = f"{_FROM_FILE}{path.stem}_{hashlib.sha256(told).hexdigest()[:8]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    loader = _AsRead(module_name, str(path))
    loader.content = content
    spec = importlib.util.spec_from_file_location(module_name, path, loader=loader)
    assert spec is not None
    for name in sources:  # local modules may have been imported as they were before an edit
        sys.modules.pop(name, None)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    # A compiled module is taken for that of its source by size and whole seconds: an edit of the same second
    # and length would run as it was before, under the digest of what it is now.
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    finally:
        sys.dont_write_bytecode = writes
    return module


class _AsRead(SourceFileLoader):
    """Compiles what the digest was taken of, whatever compiled module lies beside it."""

    content = b""

    def get_code(self, fullname: str) -> CodeType | None:
        code: CodeType = self.source_to_code(self.content, self.path)
        return code


def describe(found: Any) -> str:
    """What was found, in a user's words: ``the class Newest``, ``a int``."""
    return f"the class {found.__name__}" if isinstance(found, type) else f"a {type(found).__name__}"
