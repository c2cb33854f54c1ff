"""Reading image files in worker processes: from a folder or straight out of a zip archive.

Light on purpose (numpy and Pillow only): every conversion worker imports this module afresh.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alharness.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
#: Bad images named in one error; the rest is counted.
NAMED = 5

#: Archives opened by this process, by path: a zip's directory is read once, not per image.
_archives: dict[Path, zipfile.ZipFile] = {}


@dataclass(frozen=True)
class FileTree:
    """A folder or a zip archive, seen alike: names are relative, with forward slashes."""

    path: Path

    @property
    def is_archive(self) -> bool:
        return self.path.is_file()

    def names(self) -> list[str]:
        """All files, sorted, without hidden ones and what macOS adds to archives.

        Raises:
            UserError: a truncated archive, or nothing there.
        """
        if self.is_archive:
            found = [info.filename for info in self._archive().infolist() if not info.is_dir()]
        elif self.path.is_dir():
            files = (path for path in self.path.rglob("*") if path.is_file())
            found = [path.relative_to(self.path).as_posix() for path in files]
        else:
            raise UserError(f"Expected a folder or a zip archive at {self.path}; nothing is there.")
        return sorted(name for name in found if not _hidden(name))

    def read(self, name: str) -> bytes:
        """The content of one file (an archive checks its CRC)."""
        if self.is_archive:
            return self._archive().read(name)
        return (self.path / name).read_bytes()

    def listing_digest(self, names: Sequence[str]) -> str:
        """SHA-256 (16 hex digits) of names, sizes and times: changes when the files do."""
        sha = hashlib.sha256()
        if self.is_archive:
            by_name = {info.filename: info for info in self._archive().infolist()}
            for name in names:
                sha.update(f"{name} {by_name[name].file_size} {by_name[name].CRC}\n".encode())
        else:
            for name in names:
                status = (self.path / name).stat()
                sha.update(f"{name} {status.st_size} {status.st_mtime_ns}\n".encode())
        return sha.hexdigest()[:16]

    def _archive(self) -> zipfile.ZipFile:
        if self.path not in _archives:
            try:
                _archives[self.path] = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise UserError(
                    f"{self.path} cannot be opened as a zip archive ({error}): truncated, or "
                    "something else. Fetch it again."
                ) from error
        return _archives[self.path]


def _hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or any(part.startswith(".") for part in parts)


def is_image(name: str) -> bool:
    """Whether the suffix is an image's."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


@dataclass(frozen=True)
class Fit:
    """How an image becomes an item.

    Attributes:
        channels: 1 (gray) or 3 (RGB).
        size: (H, W) of the item.
        crop: side of the centre square that is cut out first; 0: the largest one; None: no crop,
            and images must already have the item's size.
        convert: change the mode of images that have another one; otherwise they are refused.
    """

    channels: int
    size: tuple[int, int]
    crop: int | None = None
    convert: bool = False

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """The item, uint8 ``[C, H, W]``.

        Raises:
            ValueError: wrong mode or size, in words.
        """
        mode = "L" if self.channels == 1 else "RGB"
        if image.mode != mode:
            if not self.convert:
                raise ValueError(f"expected mode {mode}, found {image.mode}")
            image = image.convert(mode)
        height, width = self.size
        if self.crop is None:
            if (image.height, image.width) != self.size:
                raise ValueError(
                    f"expected {height}x{width} pixels, found {image.height}x{image.width}"
                )
        else:
            side = self.crop or min(image.width, image.height)
            if side > min(image.width, image.height):
                raise ValueError(f"{image.height}x{image.width} pixels are too few to cut {side}")
            left, top = (image.width - side) // 2, (image.height - side) // 2
            # Pillow's bilinear filter averages when it shrinks: no aliasing.
            image = image.resize(
                (width, height), Image.Resampling.BILINEAR, (left, top, left + side, top + side)
            )
        pixels = np.asarray(image, dtype=np.uint8)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)


@dataclass(frozen=True)
class ImageFiles:
    """A conversion's reader of encoded images (``conversion.Reader``).

    Attributes:
        tree: where the images lie.
        names: their names, by position.
        fit: how they become items.
    """

    tree: FileTree
    names: tuple[str, ...]
    fit: Fit

    def __call__(self, start: int, stop: int) -> NDArray[np.uint8]:
        names = self.names[start:stop]
        return decode_all(names, self.tree.read, self.fit, str(self.tree.path))


def decode_all(
    names: Sequence[str], read: Callable[[str], bytes], fit: Fit, where: str
) -> NDArray[np.uint8]:
    """Encoded images as items, uint8 ``[B, C, H, W]``.

    Raises:
        UserError: images that cannot be read or do not fit, by name.
    """
    items = np.empty((len(names), fit.channels, *fit.size), dtype=np.uint8)
    bad: list[str] = []
    for position, name in enumerate(names):
        try:
            with Image.open(io.BytesIO(read(name))) as image:
                items[position] = fit(image)
        except Exception as error:  # decoders raise a dozen types for damaged files
            bad.append(f"{name} ({str(error) or type(error).__name__})")
    if bad:
        more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
        raise UserError(
            f"Unusable images in {where}: {'; '.join(bad[:NAMED])}{more}. "
            "Replace them from the original, then run the same command again."
        )
    return items


#: Every so many keys of an LMDB folder one is kept, to start reading near any position.
ANCHOR_STRIDE = 512
_environments: dict[Path, Any] = {}


def lmdb_environment(path: Path) -> Any:
    """An LMDB folder, opened for reading once per process (the folder may be read-only).

    Raises:
        UserError: the package lmdb is missing, or this is no LMDB folder.
    """
    if path not in _environments:
        try:
            import lmdb
        except ImportError as error:
            raise UserError(
                "LSUN's files need the package lmdb. Install it with: pip install 'alharness[lmdb]'."
            ) from error
        try:
            _environments[path] = lmdb.open(
                str(path), readonly=True, lock=False, readahead=False, meminit=False
            )
        except lmdb.Error as error:
            raise UserError(
                f"{path} cannot be opened as an LMDB folder ({error}): truncated, or unpacked by "
                "half. Fetch and unpack it again."
            ) from error
    return _environments[path]


def lmdb_anchors(path: Path) -> tuple[int, tuple[bytes, ...]]:
    """Number of entries, and every ``ANCHOR_STRIDE``-th key; one pass over the keys alone."""
    anchors: list[bytes] = []
    n = 0
    with lmdb_environment(path).begin(buffers=False) as transaction:
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
        """Encoded images ``start .. stop-1`` of this segment by key, in order."""
        position = self.first + start
        contents: dict[str, bytes] = {}
        with lmdb_environment(self.path).begin() as transaction:
            cursor = transaction.cursor()
            cursor.set_key(self.anchors[position // ANCHOR_STRIDE])
            entries = cursor.iternext(keys=True, values=True)
            for _ in range(position % ANCHOR_STRIDE):
                next(entries)
            for _ in range(stop - start):
                key, value = next(entries)
                contents[key.decode("ascii", "replace")] = value
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
