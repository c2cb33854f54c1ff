"""The image cache: a converted data set as one uint8 memory map, its labels and a page of facts.

A folder holds ``images.npy`` (uint8 ``[N, C, H, W]``), ``labels.npy`` and ``meta.json``. Opening
reads the page and maps the images: milliseconds, whatever the size. Folders are written by
``conversion.py`` beside their place and renamed into it, so one that exists is whole.

Shape letters: N items, C channels, H rows, W columns, A attributes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.progress import Progress, silent

#: Raised whenever the files or the way of converting change: older caches are built anew.
VERSION = 1

IMAGES, LABELS, META = "images.npy", "labels.npy", "meta.json"


class CacheMissingError(Exception):
    """There is no cache, or one that another version of alharness wrote: build it (anew)."""


@dataclass(frozen=True)
class ImageCache:
    """An opened cache.

    Attributes:
        path: its folder.
        images: uint8 ``[N, C, H, W]``, memory-mapped, read-only.
        labels: integers ``[N]`` (classes) or ``[N, A]`` (attributes, 0 or 1).
        meta: the page of facts.
    """

    path: Path
    images: NDArray[np.uint8]
    labels: NDArray[Any]
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> ImageCache:
        """Open the cache in a folder.

        Raises:
            CacheMissingError: nothing there, or a cache of another version.
            UserError: a cache that was damaged after it was written.
        """
        meta_file = path / META
        if not meta_file.is_file():
            raise CacheMissingError(path)
        try:
            meta = json.loads(meta_file.read_text())
            if meta["version"] != VERSION:
                raise CacheMissingError(path)
            # mmap_mode also refuses a file that is shorter than its header says.
            images = np.load(path / IMAGES, mmap_mode="r", allow_pickle=False)
            labels = np.load(path / LABELS, allow_pickle=False)
            shape = tuple(meta["shape"])
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise damaged(path, str(error)) from error
        if images.shape != shape or images.dtype != np.uint8 or len(labels) != len(images):
            raise damaged(
                path, f"expected images {shape}, found {images.shape} and {len(labels)} labels"
            )
        return cls(path, images, labels, meta)

    @property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) of images and labels, computed when the cache was written."""
        return cast(str, self.meta["digest"])

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes, or of the attributes."""
        return tuple(self.meta["label_names"])

    @property
    def partial(self) -> bool:
        """True for a cache of fewer items than the official data set has (``--partial``)."""
        return bool(self.meta["partial"])

    def split(self, name: str) -> slice:
        """The items of a split, as positions in the cache: splits lie one after the other."""
        start, stop = self.meta["splits"][name]
        return slice(start, stop)

    def verify(self, progress: Progress = silent) -> None:
        """Read everything again and compare digests.

        Raises:
            UserError: the files are not what was written.
        """
        n, step = len(self.images), int(self.meta["chunk"])
        for number, expected in enumerate(self.meta["chunk_digests"]):
            start, stop = number * step, min((number + 1) * step, n)
            if chunk_digest(self.images[start:stop]) != expected:
                raise damaged(self.path, f"images {start} to {stop - 1} differ from their digest")
            progress("verify the cache", stop, n)
        if whole_digest(self.meta["chunk_digests"], self.labels) != self.digest:
            raise damaged(self.path, "the labels differ from their digest")


def chunk_digest(images: NDArray[np.uint8]) -> str:
    """SHA-256 of one chunk of images."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def whole_digest(chunk_digests: Sequence[str], labels: NDArray[Any]) -> str:
    """SHA-256 (16 hex digits) of a cache from its chunks' digests, so that chunks may be hashed apart."""
    sha = hashlib.sha256("".join(chunk_digests).encode())
    sha.update(f"{labels.dtype.str}{labels.shape}".encode())
    sha.update(np.ascontiguousarray(labels).data)
    return sha.hexdigest()[:16]


def damaged(path: Path, reason: str) -> UserError:
    """The error for a cache whose files are not what was written."""
    return UserError(
        f"The image cache {path} is damaged ({reason}). Remove that folder and run "
        "'alharness data prepare' again; the originals are not touched."
    )
