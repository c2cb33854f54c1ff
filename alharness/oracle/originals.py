"""What a pool's items are to the owner of the data: names, cells and pictures, for who labels them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from alharness.lazily import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: What a task gives for the name of an item: a picture's file or its bytes, a row's cells, or nothing.
Original = Path | bytes | Mapping[str, str] | None


class Originals:
    """The pool's items by pool index.

    Args:
        names: of all items, ``[N]``; None where they are known by their number alone.
        original: what a task gives for a name.
    """

    def __init__(
        self,
        names: NDArray[np.str_] | None = None,
        original: Callable[[str], Original] = lambda name: None,
    ) -> None:
        self._names = names
        self._original = original

    @cached_property
    def unit(self) -> Literal["file", "row", "item"]:
        """What names are."""
        if self._names is None or len(self._names) == 0:
            return "item"
        found = self._original(str(self._names[0]))
        if found is None:
            return "item"
        return "row" if isinstance(found, Mapping) else "file"

    def name(self, index: int) -> str:
        """Name of an item's file within its folder, number of its row (from 1), or its pool index."""
        return str(index) if self._names is None else str(self._names[index])

    def cells(self, index: int) -> dict[str, str] | None:
        """The texts of an item's row by column; None for what has none."""
        found = self._original(self.name(index)) if self._names is not None else None
        return dict(found) if isinstance(found, Mapping) else None

    def picture(self, index: int) -> bytes | None:
        """The encoded image that an item was made from; None where there is no better than the pool's."""
        found = self._original(self.name(index)) if self._names is not None else None
        return (
            found.read_bytes()
            if isinstance(found, Path)
            else found
            if isinstance(found, bytes)
            else None
        )
