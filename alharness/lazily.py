"""Modules, and names of a package, that are imported when they are first used.

Importing torch takes seconds, and whoever asks what a data set is, what a strategy's parameters are, or
mistypes a name needs none of it. So files that describe and also compute take torch from here::

    from alharness.lazily import torch

which reads, and is type-checked, like the module itself. Plug-ins of others import as they like.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any


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


def homes_in(file: str) -> dict[str, str]:
    """name -> the module that defines it, as a package's own ``if TYPE_CHECKING:`` block imports them.

    Type checkers need these imports to stand there; a table beside them would say everything twice.

    Args:
        file: the package's ``__file__``.
    """
    blocks = (node for node in ast.parse(Path(file).read_bytes()).body if isinstance(node, ast.If))
    imports = (node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom))
    return {alias.name: node.module or "" for node in imports for alias in node.names}


class _Late(ModuleType):
    """A module by name, imported when an attribute of it is first used."""

    def __getattr__(self, name: str) -> Any:
        # Not kept: what somebody changes in the module, a test for instance, is seen here, too.
        return getattr(
            sys.modules.get(self.__name__) or importlib.import_module(self.__name__), name
        )


if TYPE_CHECKING:
    import numpy as numpy
    import psutil as psutil
    import torch as torch
    from PIL import Image as Image
    from PIL import ImageOps as ImageOps
    from torch import nn as nn
    from torch.nn import functional as functional
else:
    numpy, psutil, torch = map(_Late, ("numpy", "psutil", "torch"))
    nn, functional = _Late("torch.nn"), _Late("torch.nn.functional")
    Image, ImageOps = _Late("PIL.Image"), _Late("PIL.ImageOps")
