"""MNIST from its four official archives: 5 against 7 and all ten digits (paper, Sec. 4.1, Table 1).

The pool is the first 50,000 training images, as in the split of the code that the paper's
generators come from (decisions T2); the last 10,000 (its validation set) are left alone, the test set
is the official one.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.learners.learner import LearnerSettings
from alharness.progress import Progress, silent
from alharness.tasks.base import DataLocations, Profile, TaskData, TaskDefaults, TaskPlugin
from alharness.tasks.conversion import Plan
from alharness.tasks.dataset import Dataset, Selection, check_targets, fetching, select

#: MD5 of the official archives (the list that torchvision checks) and of what they unpack to.
MD5 = {
    "train-images-idx3-ubyte": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "6bbc9ace898e44ae57da46a324031adb",
    ),
    "train-labels-idx1-ubyte": (
        "d53e105ee54ea40749a09fcbcd1e9432",
        "a25bea736e30d166cdddb491f175f624",
    ),
    "t10k-images-idx3-ubyte": (
        "9fb629c4189551a2d022fa330f9573f3",
        "2646ac647ad5339dbf082846283269ea",
    ),
    "t10k-labels-idx1-ubyte": (
        "ec29112dd5afa0611ce80d1b7f02629c",
        "27ae3e4e09519cfbb04c329615203637",
    ),
}
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
        for folder in (root / "MNIST" / "raw", root / "raw", root):
            if all(_locate(folder, stem) is not None for stem in MD5):
                return folder
        return None

    def fetch(self, root: Path) -> None:
        from torchvision.datasets import MNIST

        with fetching(self, root):
            MNIST(str(root), download=True)

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Plan:
        contents, origin = {}, {}
        for stem, official in MD5.items():
            path = _locate(originals, stem)
            if path is None:
                raise UserError(f"MNIST: expected {stem}[.gz] in {originals}; it is not there.")
            contents[stem], origin[path.name] = read_idx(path, None if partial else official)
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
        return Plan(
            shape=(len(images), 1, *images.shape[2:]),
            read=lambda start, stop: images[start:stop],
            labels=labels,
            label_names=names,
            splits=splits,
            origin=origin,
            notes={"source": "MNIST, official idx files"},
            partial=self.check_counts(splits, originals, partial),
        )


MNIST_DATASET = Mnist()


def _locate(folder: Path, stem: str) -> Path | None:
    """The archive or the unpacked file."""
    for path in (folder / f"{stem}.gz", folder / stem):
        if path.is_file():
            return path
    return None


def read_idx(path: Path, official: tuple[str, str] | None) -> tuple[NDArray[np.uint8], str]:
    """The array in an idx file of bytes, packed or not, and the file's MD5.

    Format: two zero bytes, type 8 (unsigned byte), number of axes, the axes as big-endian 32-bit
    integers, then the values.

    Args:
        path: the file.
        official: MD5 of the packed and of the unpacked official file; None accepts any content.

    Raises:
        UserError: truncated, not an idx file, or not the official content.
    """
    raw = path.read_bytes()
    found = hashlib.md5(raw).hexdigest()
    packed = path.suffix == ".gz"
    if official is not None and found != official[0 if packed else 1]:
        raise UserError(
            f"{path} is not the official file (expected MD5 {official[0 if packed else 1]}, found "
            f"{found}, {len(raw):,} bytes): truncated or changed. Fetch it again."
        )
    try:
        content = gzip.decompress(raw) if packed else raw
        n_axes = content[3]
        if content[:3] != b"\x00\x00\x08" or not 1 <= n_axes <= 3:
            raise ValueError("not an idx file of bytes")
        shape = np.frombuffer(content, ">u4", n_axes, 4)
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes)
        return values.reshape(shape.astype(np.int64)), found
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise UserError(
            f"{path} cannot be read as an idx file ({error}): truncated or changed. Fetch it again."
        ) from error


class _MnistTask(TaskPlugin):
    """What the two tasks share."""

    source = "MNIST, 12 MB: 'alharness data prepare mnist'"
    dataset = MNIST_DATASET
    classes: ClassVar[tuple[int, ...] | None] = None

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        cache = self.dataset.prepare(locations, progress)
        names = cache.label_names if self.classes is None else tuple(map(str, self.classes))
        return select(
            cache,
            Selection(
                pool=["train"],
                test="test",
                class_names=names,
                pool_limit=POOL_IMAGES,
                classes=self.classes,
            ),
        )


class MnistTwo(_MnistTask):
    """MNIST, 5 against 7: pool of 9,681, linear model (Table 1, first row)."""

    classes = (5, 7)

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
