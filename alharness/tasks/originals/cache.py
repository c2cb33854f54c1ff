"""The image cache: a converted data set as one uint8 memory map, its labels and a page of facts.

A folder holds ``images.npy`` (uint8 ``[N, C, H, W]``), ``labels.npy``, ``contents.npy`` (a digest of
each image) and ``meta.json``, a page that ends with its own digest and holds those of all others.
Opening checks everything but the images against it, and the images by size, times and inode, which
stand in ``stamps.json``: milliseconds, whatever the size. Where those differ (a copied folder, a
restored backup) the images are read once. Folders are written by ``conversion.py`` beside their place
and renamed into it, so one that exists is whole.

Shape letters: N items, C channels, H rows, W columns, A attributes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from alharness.errors import UserError
from alharness.files import parse_json, write_json
from alharness.lazily import numpy as np
from alharness.progress import Progress, silent
from alharness.tasks.originals.tree import file_facts, in_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Raised whenever the files or the way of converting change: older caches are built anew.
VERSION = 2

IMAGES, LABELS, CONTENTS, META = "images.npy", "labels.npy", "contents.npy", "meta.json"
#: What may be lost: which files were looked at and found to be the right ones.
STAMPS = "stamps.json"
#: How many sets of originals a cache remembers as its own.
REMEMBERED = 8


class CacheMissingError(Exception):
    """There is no cache, or one that another version of alharness wrote: build it (anew)."""


class CacheDamagedError(UserError):
    """A cache whose files are not what was written.

    Attributes:
        file: the file that is damaged.
    """

    def __init__(self, path: Path, file: str, reason: str) -> None:
        super().__init__(
            f"The image cache {path} is damaged ({file}: {reason}). 'alharness data prepare' builds "
            "it anew where the originals are at hand."
        )
        self.file = path / file


@dataclass(frozen=True)
class ImageCache:
    """An opened cache.

    Attributes:
        path: its folder.
        images: uint8 ``[N, C, H, W]``, memory-mapped, read-only.
        labels: integers ``[N]`` (classes) or ``[N, A]`` (attributes, 0 or 1).
        contents: uint64 ``[N]``, a digest of each image: equal images have equal ones.
        meta: the page of facts.
    """

    path: Path
    images: NDArray[np.uint8]
    labels: NDArray[Any]
    contents: NDArray[np.uint64]
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path, progress: Progress = silent) -> ImageCache:
        """Open the cache in a folder, and check it as far as that is cheap.

        Args:
            path: the folder.
            progress: called when the images must be read, because their file is not as it was left.

        Raises:
            CacheMissingError: nothing there, or a cache of another version.
            CacheDamagedError: a cache that was damaged after it was written.
        """
        cache = cls.peek(path)
        if _stamps(path).get("images") != _image_facts(path):
            cache.verify(progress)
            cache._write_stamps(images=_image_facts(path))
        return cache

    @classmethod
    def peek(cls, path: Path) -> ImageCache:
        """As ``open``, without a look at the images: for a list of what there is."""
        meta = _read_page(path)
        labels = _array(path, LABELS, meta)
        contents = _array(path, CONTENTS, meta)
        try:
            # mmap_mode also refuses a file that is shorter than its header says.
            images = np.load(path / IMAGES, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # numpy raises many kinds for a damaged head
            raise CacheDamagedError(path, IMAGES, in_words(error)) from error
        shape = tuple(meta["shape"])
        if images.shape != shape or images.dtype != np.uint8:
            raise CacheDamagedError(
                path, IMAGES, f"expected uint8 {shape}, found {images.dtype} {images.shape}"
            )
        return cls(path, images, labels, contents, meta)

    @property
    def digest(self) -> str:
        """SHA-256 (16 hex digits) of images and labels, computed when the cache was written."""
        return cast(str, self.meta["digest"])

    @property
    def written_ns(self) -> int:
        """When the page of facts was written, in nanoseconds since 1970."""
        return (self.path / META).stat().st_mtime_ns

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes, or of the attributes."""
        return tuple(self.meta["label_names"])

    @property
    def standing(self) -> str:
        """``complete``, ``imported`` or ``partial``: see ``conversion.Conversion``."""
        return str(self.meta["standing"])

    @property
    def partial(self) -> bool:
        """True for a cache of fewer or other items than the official data set has (``--partial``)."""
        return self.standing == "partial"

    def split(self, name: str) -> slice:
        """The items of a split, as positions in the cache: splits lie one after the other."""
        start, stop = self.meta["splits"][name]
        return slice(start, stop)

    def verify(self, progress: Progress = silent) -> None:
        """Read everything again and compare digests.

        Raises:
            CacheDamagedError: the files are not what was written.
        """
        n, step = len(self.images), int(self.meta["chunk"])
        for number, expected in enumerate(self.meta["chunk_digests"]):
            start, stop = number * step, min((number + 1) * step, n)
            if chunk_digest(self.images[start:stop]) != expected:
                raise CacheDamagedError(
                    self.path, IMAGES, f"images {start} to {stop - 1} differ from their digest"
                )
            progress(f"verify {self.path.name}", stop, n)

    def knows(self, originals: str) -> bool:
        """Whether these originals (a stamp of their files) were found to be what it was made from."""
        return knows(self.path, originals)

    def remember(self, originals: str) -> None:
        """Keep a stamp of originals that were read and found to be what the cache was made from."""
        if not self.knows(originals):
            known = [*_stamps(self.path).get("originals", []), originals]
            self._write_stamps(originals=known[-REMEMBERED:])

    def _write_stamps(self, **news: Any) -> None:
        # A cache that may only be read works too: what cannot be kept is looked at again.
        with suppress(UserError):
            write_json(self.path / STAMPS, {**_stamps(self.path), **news})


def knows(path: Path, originals: str) -> bool:
    """Whether the cache in ``path``, damaged or not, was made from these originals (a stamp)."""
    return originals in _stamps(path).get("originals", [])


def page(facts: Mapping[str, Any]) -> str:
    """The facts as they are written, with their own digest."""
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return json.dumps({"facts": facts, "sha256": sha}, indent=1) + "\n"


def _read_page(path: Path) -> Mapping[str, Any]:
    try:
        text = (path / META).read_bytes().decode()
        # Older versions wrote the facts alone.
        found = parse_json(text)
        facts = found["facts"] if "sha256" in found else found
        if facts["version"] != VERSION and ("sha256" not in found or page(facts) == text):
            raise CacheMissingError(path)
        if page(facts) != text:
            raise CacheDamagedError(path, META, "it differs from its digest")
    except FileNotFoundError:
        raise CacheMissingError(path) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheDamagedError(path, META, in_words(error)) from error
    return cast(Mapping[str, Any], facts)


def _array(path: Path, name: str, facts: Mapping[str, Any]) -> NDArray[Any]:
    try:
        content = (path / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != facts["files"][name]:
            raise CacheDamagedError(path, name, "it differs from its digest")
        return cast("NDArray[Any]", np.load(io.BytesIO(content), allow_pickle=False))
    except (OSError, KeyError, ValueError) as error:
        raise CacheDamagedError(path, name, in_words(error)) from error


def _stamps(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        found = parse_json((path / STAMPS).read_bytes())
        if isinstance(found, dict) and isinstance(found.get("originals", []), list):
            return found
    return {}


def _image_facts(path: Path) -> list[int]:
    return list(file_facts((path / IMAGES).stat()))


def chunk_digest(images: NDArray[np.uint8]) -> str:
    """SHA-256 of one chunk of images."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()


def content_digests(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A digest of each image, uint64 ``[B]``: equal for equal images."""
    whole = b"".join(hashlib.blake2b(image.data, digest_size=8).digest() for image in images)
    return np.frombuffer(whole, np.uint64)


def whole_digest(chunk_digests: Sequence[str], labels: NDArray[Any]) -> str:
    """SHA-256 (16 hex digits) of a cache from its chunks' digests, so that chunks may be hashed apart."""
    sha = hashlib.sha256("".join(chunk_digests).encode())
    sha.update(f"{labels.dtype.str}{labels.shape}".encode())
    sha.update(np.ascontiguousarray(labels).data)
    return sha.hexdigest()[:16]
