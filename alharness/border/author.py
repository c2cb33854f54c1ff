"""Whose plug-in it is, for messages: every fault of foreign code becomes one line that names it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NoReturn

from alharness.errors import PluginError, blamed, home_of, is_library, shown


@dataclass(frozen=True)
class Author:
    """A plug-in as messages name it.

    Attributes:
        plugin: the object, or its class.
        name: as its user typed it.
        kind: what it is: a strategy, a classifier, a data set.
    """

    plugin: object
    name: str
    kind: str = "strategy"

    @property
    def cls(self) -> type:
        """The plug-in's class."""
        return self.plugin if isinstance(self.plugin, type) else type(self.plugin)

    @property
    def home(self) -> str | None:
        """The plug-in's own file, even where its methods are inherited or a library's functions."""
        if (file := home_of(self.cls)) is not None:
            return file
        # A notebook's cells: each is a file of its own to Python, and the module has none.
        for cls in self.cls.__mro__:
            for value in vars(cls).values():
                if (code := getattr(value, "__code__", None)) is not None:
                    return str(code.co_filename)
        return None

    def blamed(self, expected: str) -> AbstractContextManager[None]:
        """Whatever is raised inside the block becomes one line that names the plug-in."""
        return blamed(f"{self.kind} '{self.name}'", expected, self.home)

    def refuse(
        self, expected: str, found: str, *, call: str = "select", cycle: int | None = None
    ) -> NoReturn:
        """Say what was expected of a call and what it did instead.

        Raises:
            PluginError: always.
        """
        code = getattr(getattr(self.cls, call, None), "__code__", None)
        where = ""
        if code is not None and not is_library(code.co_filename):
            where = f" ({call} in {shown(code.co_filename)}, line {code.co_firstlineno})"
        when = f" in cycle {cycle}" if cycle is not None else ""
        raise PluginError(
            f"The {self.kind} '{self.name}' broke the contract{when}: expected {expected}, found {found}"
            f"{where}. 'alharness check {self.name}' shows what is wrong.",
            expected,
            found + where,
        )
