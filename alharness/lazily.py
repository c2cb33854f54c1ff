"""Names of a package that are imported when they are first asked for.

A run's settings stand in packages whose other files need torch. Whoever wants the settings should not
wait seconds for it: ``alharness list``, a misspelt name and the help need none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def from_files(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` (PEP 562).

    Args:
        module: its ``__name__``.
        homes: name -> the module that defines it.
    """

    def find(name: str) -> Any:
        if name in homes:
            return getattr(importlib.import_module(homes[name]), name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find
