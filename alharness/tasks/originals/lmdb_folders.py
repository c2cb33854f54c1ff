"""Images in LMDB folders, as LSUN ships them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.tasks.originals.images import Fit, decode_all
from alharness.tasks.originals.tree import MAX_FILE_BYTES, in_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Every so many keys of an LMDB folder one is kept, to start reading near any position.
ANCHOR_STRIDE = 512


@cache
def lmdb_environment(path: Path) -> Any:
    """An LMDB folder, opened for reading (it may be read-only): once, LMDB bears no second time in a process.

    Raises:
        UserError: the package lmdb is missing, this is no LMDB folder, or its file is shorter than it says.
    """
    lmdb = _lmdb()
    with _told(path):
        opened = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False)
        # The file is read through memory: a page that is not there ends the process (SIGBUS).
        needed = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
        there = (path / "data.mdb").stat().st_size
        if there < needed:
            opened.close()
            raise lmdb.Error(f"data.mdb holds {there:,} of {needed:,} bytes")
    return opened


def _lmdb() -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise UserError(
            "LSUN's files need the package lmdb. Install it with: pip install 'alharness[lmdb]'."
        ) from error
    return lmdb


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What LMDB finds wrong is one line.

    Raises:
        UserError: instead of LMDB's errors.
    """
    try:
        yield
    except _lmdb().Error as error:
        raise UserError(
            f"{path} cannot be read as an LMDB folder ({in_words(error)}): truncated, or unpacked by half. "
            "Fetch and unpack it again."
        ) from error


def lmdb_anchors(path: Path) -> tuple[int, tuple[bytes, ...]]:
    """Number of entries, and every ``ANCHOR_STRIDE``-th key; one pass over the keys alone.

    Raises:
        UserError: LMDB cannot read it.
    """
    anchors: list[bytes] = []
    n = 0
    with _told(path), lmdb_environment(path).begin(buffers=False) as transaction:
        for key in transaction.cursor().iternext(keys=True, values=False):
            if n % ANCHOR_STRIDE == 0:
                anchors.append(key)
            n += 1
    return n, tuple(anchors)


@dataclass(frozen=True)
class LmdbSegment:
    """Consecutive entries of one LMDB folder.

    Attributes:
        path: the folder.
        anchors: as ``lmdb_anchors`` gives them.
        first: position of the first entry, in the order of the keys.
        count: number of entries.
    """

    path: Path
    anchors: tuple[bytes, ...]
    first: int
    count: int

    def read(self, start: int, stop: int) -> dict[str, bytes]:
        """Encoded images ``start .. stop-1`` of this segment by key, in order.

        Raises:
            UserError: LMDB cannot read them, or they are no longer there.
        """
        position = self.first + start
        contents: dict[str, bytes] = {}
        with _told(self.path), lmdb_environment(self.path).begin(buffers=True) as transaction:
            cursor = transaction.cursor()
            # LMDB finds keys, not positions: from the nearest known key on, entries are passed by.
            cursor.set_key(self.anchors[position // ANCHOR_STRIDE])
            first = position % ANCHOR_STRIDE
            entries = cursor.iternext(keys=True, values=True)
            for key, value in islice(entries, first, first + stop - start):
                contents[bytes(key).decode("ascii", "backslashreplace")] = _limited(value)
        if len(contents) != stop - start:
            raise UserError(
                f"{self.path}: expected {stop - start} images from number {position} on, found "
                f"{len(contents)}. The folder has changed since it was counted; start again."
            )
        return contents


@dataclass(frozen=True)
class LmdbImages:
    """A conversion's reader of images in LMDB folders (``conversion.Reader``)."""

    segments: tuple[LmdbSegment, ...]
    fit: Fit

    def __call__(self, start: int, stop: int) -> NDArray[np.uint8]:
        parts = []
        at = 0
        for segment in self.segments:
            low, high = max(start - at, 0), min(stop - at, segment.count)
            if low < high:
                contents = segment.read(low, high)
                names = list(contents)
                parts.append(decode_all(names, contents.__getitem__, self.fit, str(segment.path)))
            at += segment.count
        return np.concatenate(parts)


def _limited(value: Any) -> bytes:
    """A copy of an entry of reasonable size; a larger one as nothing, which no decoder accepts."""
    return bytes(value) if len(value) <= MAX_FILE_BYTES else b""
