"""MNIST from its four official archives: 5 against 7 and all ten digits (paper, Sec. 4.1, Table 1).

The pool is the first 50,000 training images, as in the split of the code that the paper's
generators come from (decisions T2); the last 10,000 (its validation set) are left alone, the test set
is the official one.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.learners.settings import LearnerSettings
from alharness.progress import Progress
from alharness.tasks.base import Profile, TaskDefaults
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.conversion import Plan
from alharness.tasks.originals.dataset import Dataset, check_targets, fetching
from alharness.tasks.originals.tree import in_words
from alharness.tasks.selection import CachedTask, Selection

#: MD5 of what the official archives unpack to (the list that torchvision checks): however they were
#: packed since, and whatever the files are called now.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
#: Five times the largest official file: what unpacks to more is not MNIST.
MAX_BYTES = 256 << 20
COUNTS = {"train": 60_000, "test": 10_000}
#: Pool of the paper: the first 50,000 of the 60,000 training images (decisions T2).
POOL_IMAGES = 50_000


class Mnist(Dataset):
    """The four idx files, packed or not."""

    name = "mnist"
    title = "MNIST"
    size = "12 MB"
    files = "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]"
    counts = COUNTS

    def find(self, root: Path) -> Path | None:
        for folder in (root / "MNIST" / "raw", root / "raw", root / "mnist", root / "MNIST", root):
            if all(_locate(folder, stem) is not None for stem in MD5):
                return folder
        return None

    def parts(self, originals: Path) -> Sequence[Path]:
        return [path for stem in MD5 if (path := _locate(originals, stem)) is not None]

    def fetch(self, root: Path) -> None:
        from torchvision.datasets import MNIST

        with fetching(self, root):
            MNIST(str(root), download=True)

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Plan:
        contents, origin = {}, {}
        foreign = []
        for stem, official in MD5.items():
            path = _locate(originals, stem)
            if path is None:
                raise UserError(f"MNIST: expected {stem}[.gz] in {originals}; it is not there.")
            contents[stem], origin[stem] = read_idx(path, None if partial else official)
            if origin[stem] != official:
                foreign.append(path.name)
        images = np.concatenate(
            [contents["train-images-idx3-ubyte"], contents["t10k-images-idx3-ubyte"]]
        )[:, None]
        splits = {}
        for split, prefix in (("train", "train"), ("test", "t10k")):
            n_images = len(contents[f"{prefix}-images-idx3-ubyte"])
            n_labels = len(contents[f"{prefix}-labels-idx1-ubyte"])
            if n_images != n_labels:
                raise UserError(
                    f"MNIST in {originals}: {n_images:,} {split} images but {n_labels:,} labels. "
                    "The files do not belong together: fetch them again."
                )
            splits[split] = n_images
        labels = np.concatenate(
            [contents["train-labels-idx1-ubyte"], contents["t10k-labels-idx1-ubyte"]]
        ).astype(np.int64)
        names = tuple(str(digit) for digit in range(10))
        check_targets(labels, names, f"MNIST in {originals}")
        self.check_counts(splits, originals, partial)
        return Plan(
            shape=(len(images), 1, *images.shape[2:]),
            read=lambda start, stop: images[start:stop],
            labels=labels,
            label_names=names,
            splits=splits,
            origin=origin,
            **self.told("MNIST, official idx files", "idx files", foreign, splits),
        )


MNIST_DATASET = Mnist()


def _locate(folder: Path, stem: str) -> Path | None:
    """The archive or the unpacked file, under the names that are about (``train-images.idx3-ubyte``)."""
    dotted = ".idx".join(stem.rsplit("-idx", 1))
    for name in (stem, dotted):
        # Kaggle's archive unpacks each file into a folder of its own name.
        for path in (folder / f"{name}.gz", folder / name, folder / name / name):
            if path.is_file():
                return path
    return None


def read_idx(path: Path, official: str | None) -> tuple[NDArray[np.uint8], str]:
    """The array in an idx file of bytes, packed or not, and the MD5 of its unpacked content.

    Format: two zero bytes, type 8 (unsigned byte), number of axes, the axes as big-endian 32-bit
    integers, then the values.

    Args:
        path: the file.
        official: MD5 of the official content; None accepts any.

    Raises:
        UserError: truncated, not an idx file, or not the official content.
    """
    try:
        content = _unpacked(path)
        found = hashlib.md5(content).hexdigest()
        if official is not None and found != official:
            raise UserError(
                f"{path} is not the official file (expected MD5 {official} of the unpacked content, "
                f"found {found}, {len(content):,} bytes): truncated or changed. Fetch it again."
            )
        n_axes = content[3]
        if content[:3] != b"\x00\x00\x08" or not 1 <= n_axes <= 3:
            raise ValueError("not an idx file of bytes")
        shape = np.frombuffer(content, ">u4", n_axes, 4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes)
        return values.reshape(shape.astype(np.int64)), found
    except (OSError, ValueError, IndexError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read as an idx file ({in_words(error)}): truncated or changed. Fetch it again."
        ) from error


def _unpacked(path: Path) -> bytes:
    """The content, unpacked if it is packed (whatever its name says), and never more than MNIST's.

    Raises:
        ValueError: too large, or the packed stream ends too early.
        zlib.error: damaged.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES:,} bytes")
    raw = path.read_bytes()
    if raw[:2] != b"\x1f\x8b":
        return raw
    content = b""
    while raw[:2] == b"\x1f\x8b":  # some programs pack in several pieces
        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        content += stream.decompress(raw, MAX_BYTES - len(content) + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes")
        if not stream.eof:
            raise ValueError("the packed stream ends too early")
        raw = stream.unused_data
    return content


class _MnistTask(CachedTask):
    """What the two tasks share."""

    source = "MNIST, 12 MB: 'alharness data prepare mnist'"
    dataset = MNIST_DATASET
    classes: ClassVar[tuple[int, ...] | None] = None

    def selection(self, cache: ImageCache) -> Selection:
        names = cache.label_names if self.classes is None else tuple(map(str, self.classes))
        return Selection(
            pool=["train"],
            test="test",
            class_names=names,
            pool_limit=POOL_IMAGES,
            classes=self.classes,
        )


class MnistTwo(_MnistTask):
    """MNIST, 5 against 7: pool of 9,681, linear model (Table 1, first row)."""

    classes = (5, 7)
    problem = (1, 28, 28), 2

    def defaults(self, profile: Profile) -> TaskDefaults:
        # Cheap enough for a CPU as it stands: both profiles are the paper's.
        return TaskDefaults(
            budget=500,
            query_size=10,
            initial_size=50,
            learner=LearnerSettings(kind="linear", c=1.0),
        )


class MnistTen(_MnistTask):
    """MNIST, ten digits: pool of 50,000, small CNN (Table 1, third row)."""

    problem = (1, 28, 28), 10

    def defaults(self, profile: Profile) -> TaskDefaults:
        if profile == "paper":
            learner = LearnerSettings(
                kind="mnist-cnn", width=512, batch_size=50, epochs=20, min_steps=1000
            )
            return TaskDefaults(budget=10_000, query_size=50, initial_size=100, learner=learner)
        learner = LearnerSettings(
            kind="mnist-cnn", width=128, batch_size=50, epochs=10, min_steps=300
        )
        return TaskDefaults(budget=400, query_size=50, initial_size=100, learner=learner)
