"""Whose plug-in it is, for messages: every fault of foreign code becomes one line that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
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

    def code(self) -> type | FunctionType:
        """The plug-in's class, or the function that it is."""
        if isinstance(self.plugin, FunctionType):
            return self.plugin
        return self.plugin if isinstance(self.plugin, type) else type(self.plugin)

    @property
    def home(self) -> str | None:
        """The plug-in's own file, even where its methods are inherited or a library's functions."""
        if (file := home_of(self.code())) is not None:
            return file
        # A notebook's cells: each is a file of its own to Python, and the module has none.
        return next((str(code.co_filename) for code in self._codes()), None)

    def _codes(self) -> Iterator[CodeType]:
        """The code of its methods, its own first."""
        for cls in getattr(self.code(), "__mro__", (self,)):
            for value in vars(cls).values():
                code = getattr(getattr(value, "__func__", value), "__code__", None)
                if isinstance(code, CodeType):
                    yield code

    def depth_in(self, error: BaseException) -> tuple[int, int]:
        """How far in an error's calls the last one of this plug-in lies: by its methods, by its file."""
        codes, home = set(self._codes()), self.home
        depths = [0, 0]
        trace, depth = error.__traceback__, 0
        while trace is not None:
            depth += 1
            code = trace.tb_frame.f_code
            depths[0] = depth if code in codes else depths[0]
            depths[1] = depth if code.co_filename == home else depths[1]
            trace = trace.tb_next
        return depths[0], depths[1]

    @contextmanager
    def blamed(self, expected: str, *others: Author) -> Iterator[None]:
        """Whatever is raised inside the block becomes one line that names the plug-in.

        Args:
            expected: what it was to give.
            others: plug-ins that it calls; who raised is named.
        """
        try:
            yield
        except BaseException as error:
            depths = [author.depth_in(error) for author in (self, *others)]
            author = (self, *others)[depths.index(max(depths))]
            with blamed(f"{author.kind} '{author.name}'", expected, author.home):
                raise

    def refuse(
        self, expected: str, found: str, *, call: str = "select", cycle: int | None = None
    ) -> NoReturn:
        """Say what was expected of a call and what it did instead.

        Raises:
            PluginError: always.
        """
        code = getattr(getattr(self.code(), call, None), "__code__", None)
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
