"""Columns of texts by their different words, and how columns are named in settings."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from alharness.lazily import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import Series


class Column:
    """Texts of a column by their different words: a million rows are looked at once, words often."""

    def __init__(self, name: str, texts: Any) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.name = name
        if isinstance(texts, pa.ChunkedArray):  # one piece: putting dictionaries together is slow
            texts = texts.combine_chunks()
        if isinstance(texts, pa.ChunkedArray):  # older pyarrow
            texts = pa.concat_arrays(texts.chunks)
        packed = pc.dictionary_encode(texts)
        # What is not there (parquet's null) is blank: nothing stands there in either.
        self.which = packed.indices.fill_null(len(packed.dictionary)).to_numpy(zero_copy_only=False)
        self.words = pa.concat_arrays(
            [packed.dictionary.cast(pa.large_string()), pa.array([""], pa.large_string())]
        )
        self.bare = pc.utf8_trim_whitespace(self.words)
        # Words and their counts tell all that is asked of a column; rows are visited to be named.
        self.counts = np.bincount(self.which, minlength=len(self.words))
        self.there = self.counts > 0

    def like(self, pattern: str) -> NDArray[np.bool_]:
        """Which words are written like this, bool ``[W]``; words that do not occur are."""
        import pyarrow.compute as pc

        found = pc.match_substring_regex(self.bare, rf"\A(?:{pattern})\z")
        like: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False).astype(bool) | ~self.there
        return like

    def among(self, words: frozenset[str] | Sequence[str]) -> NDArray[np.bool_]:
        """Which words are some of these, in any case, bool ``[W]``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted = pa.array(sorted({word.lower() for word in words}), pa.large_string())
        found = pc.is_in(pc.utf8_lower(self.bare), value_set=wanted)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=bool)

    @cached_property
    def blank(self) -> NDArray[np.bool_]:
        return self.among(frozenset({""}))

    def rows(self, words: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The rows of some words, bool ``[N]``."""
        found: NDArray[np.bool_] = words[self.which]
        return found

    def n_rows(self, words: NDArray[np.bool_]) -> int:
        return int(self.counts[words].sum())

    def first(self, words: NDArray[np.bool_]) -> str:
        """The first row of some words, in words: ``row 8 says '?'``."""
        at = int(self.rows(words).argmax())
        return f"row {at + 1} says {self.words[int(self.which[at])].as_py()!r:.60}"

    def said(self, words: NDArray[np.bool_]) -> list[str]:
        """The words themselves, in order."""
        return sorted({self.bare[int(at)].as_py() for at in np.flatnonzero(words & self.there)})

    def some(self, n: int) -> list[str]:
        """Up to ``n`` of the different texts that are not blank, as they stand in the file."""
        there = np.flatnonzero(self.there & ~self.blank)
        return [self.words[int(at)].as_py() for at in there[:n]]

    def texts(self, gaps: NDArray[np.bool_]) -> Series[Any]:
        """The texts as they stand in the file; None for a gap."""
        import pandas

        words = np.array([*self.words.to_pylist()], dtype=object)
        words[gaps] = None
        return pandas.Series(words[self.which], name=self.name, dtype=object)

    def numbers(
        self, gaps: NDArray[np.bool_], read: Callable[[str], float] | None = None
    ) -> Series[Any]:
        """The texts as numbers, NaN for a gap; read as pandas reads a file, to the last bit."""
        import pandas

        there = ~gaps & self.there
        words = np.array(self.bare.to_pylist(), dtype=object)
        values: Any
        if read is None:
            values = pandas.to_numeric(pandas.Series(words[there], dtype=object)).to_numpy()
        else:
            values = np.array([read(word) for word in words[there]], dtype=np.float64)
        # Whole numbers stay whole where nothing is missing: NaN is a float.
        if values.dtype.kind in "iu" and not (gaps & self.there).any():
            table = np.zeros(len(words), dtype=values.dtype)
        else:
            table = np.full(len(words), np.nan)
        table[there] = values
        return pandas.Series(table[self.which], name=self.name)


def typed_name(name: str) -> str:
    """A column's name as it is typed in a setting: in quotation marks where commas would part it."""
    return '"' + name.replace('"', '""') + '"' if "," in name or '"' in name else name


def names_in(listed: str) -> list[str]:
    """Names of columns (or other words) out of a setting, with commas between."""
    (fields,) = csv.reader([listed], skipinitialspace=True) if listed.strip() else ([],)
    return [name.strip() for name in fields if name.strip()]
