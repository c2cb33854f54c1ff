"""Encoded images in parquet files, as Hugging Face ships them, by position.

Light on purpose (pyarrow is imported where it is used): every conversion worker imports this afresh.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.tasks.originals.images import Fit, decode_all
from alharness.tasks.originals.tree import file_facts, in_words, refuse_large

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A group of rows is read whole; what claims to be larger is not read into memory.
MAX_GROUP_BYTES = 2 << 30


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What pyarrow raises for a file, as a line that names it.

    Raises:
        UserError: in place of it.
    """
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as a parquet file ({in_words(error)}): truncated, or a pointer of Git "
            "LFS. Fetch it again ('git lfs pull' in a clone)."
        ) from error


def opened_parquet(path: Path) -> Any:
    """A parquet file, opened once per process and content.

    Raises:
        UserError: it cannot be read.
    """
    with reading(path):
        return _opened(path, file_facts(path.stat()))


@lru_cache(maxsize=16)
def _opened(path: Path, facts: tuple[int, ...]) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path)


def group_starts(path: Path) -> list[int]:
    """First row of each group of rows, and the number of rows at the end."""
    facts = opened_parquet(path).metadata
    counts = [facts.row_group(number).num_rows for number in range(facts.num_row_groups)]
    return [0, *np.cumsum(counts, dtype=np.int64).tolist()]


# Images are read in their order: a group, and the one that follows it.
@lru_cache(maxsize=2)
def _group(path: Path, facts: tuple[int, ...], number: int, column: str) -> Any:
    """One column of one group of rows, the bytes of images alone.

    Raises:
        UserError: it cannot be read, or is too large.
    """
    import pyarrow
    import pyarrow.compute

    file = opened_parquet(path)
    told = file.metadata.row_group(number)
    chunks = [told.column(place) for place in range(told.num_columns)]
    size = sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if chunk.path_in_schema.split(".")[0] == column
    )
    if size > MAX_GROUP_BYTES:
        raise UserError(
            f"{path}: a group of rows holds {size:,} bytes of images; at most {MAX_GROUP_BYTES:,} are "
            "read. Write the file again with fewer rows in a group (row_group_size)."
        )
    with reading(path):
        values = file.read_row_group(number, columns=[column]).column(column)
        # Beside the bytes stands the path that the file had at its author's.
        if pyarrow.types.is_struct(values.type):
            return pyarrow.compute.struct_field(values, "bytes")
        return values


@dataclass(frozen=True)
class ParquetRows:
    """Encoded images by name: rows of parquet files.

    Attributes:
        paths: the files.
        starts: of each file, what ``group_starts`` gave.
        column: of the images: a struct with ``bytes``, or bytes.
        root: names are relative to it.
    """

    paths: tuple[Path, ...]
    starts: tuple[tuple[int, ...], ...]
    column: str
    root: Path

    def name(self, file: int, row: int) -> str:
        """What an image is called in messages."""
        return f"{self.paths[file].relative_to(self.root)} row {row}"

    def content(self, file: int, row: int) -> bytes:
        """An encoded image.

        Raises:
            ValueError: there is none in this row, or one too large.
            UserError: the file cannot be read.
        """
        starts = self.starts[file]
        group = int(np.searchsorted(starts, row, side="right")) - 1
        path = self.paths[file]
        with reading(path):
            facts = file_facts(path.stat())
        value = _group(path, facts, group, self.column)[row - starts[group]]
        if not value.is_valid:
            raise ValueError("no bytes of an image; the image itself must stand in the file")
        refuse_large(value.as_buffer().size)
        return bytes(value.as_py())


@dataclass(frozen=True)
class ParquetImages:
    """A conversion's reader of images in parquet files (``conversion.Reader``).

    Attributes:
        rows: where images lie.
        places: file and row of each image, int64 ``[N, 2]``.
        fit: how they become items.
    """

    rows: ParquetRows
    places: NDArray[np.int64]
    fit: Fit

    def __call__(self, start: int, stop: int) -> NDArray[np.uint8]:
        named = {
            self.rows.name(file, row): (file, row) for file, row in self.places[start:stop].tolist()
        }
        return decode_all(
            list(named), lambda name: self.rows.content(*named[name]), self.fit, str(self.rows.root)
        )
