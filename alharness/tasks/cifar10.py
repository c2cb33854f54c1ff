"""CIFAR-10 from ``cifar-10-python.tar.gz``: automobile against horse, and all ten (Sec. 4.1, Table 1).

The pool is the 50,000 training images, the test set the 10,000 test images (the paper's
"validation" set).
"""

from __future__ import annotations

import pickle
import tarfile
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.progress import Progress
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.class_folders import plan_import
from alharness.tasks.originals.conversion import Conversion
from alharness.tasks.originals.dataset import Dataset, fetching, unpacking
from alharness.tasks.originals.images import Fit
from alharness.tasks.originals.tree import read_limited, refuse_large
from alharness.tasks.selection import CachedTask, CachePart
from alharness.tasks.settings import row

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where ``alharness list`` shows it.
FAMILY = "Downloads (fetched with --download or by 'alharness data prepare NAME')"

ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
#: MD5 of the official batches inside the archive, as torchvision checks them.
MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CLASS_COUNTS = {"train": (5_000,) * 10, "test": (1_000,) * 10}
SHAPE = (3, 32, 32)


class Cifar10(Dataset):
    """The official archive or its unpacked folder."""

    name = "cifar10"
    title = "CIFAR-10"
    size = "170 MB"
    files = f"{ARCHIVE} or {FOLDER}/"
    digests = MD5

    def find(self, root: Path) -> Path | None:
        candidates = (root / ARCHIVE, root / FOLDER, root / "cifar10" / ARCHIVE)
        for path in candidates:
            if path.is_file() or (path / "data_batch_1").is_file():
                return path
        # An archive under another name, as --source may give it.
        if root.is_file() and root.name.endswith(
            (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")
        ):
            return root
        return root if (root / "data_batch_1").is_file() else None

    def parts(self, originals: Path) -> Sequence[Path]:
        if originals.is_file():
            return [originals]
        return [originals / name for name in self.digests if (originals / name).is_file()]

    def fetch(self, root: Path) -> None:
        from torchvision.datasets import CIFAR10

        with fetching(self, root):
            CIFAR10(str(root), download=True)

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Conversion:
        files = _files(originals, set(self.digests))
        parts: list[NDArray[np.uint8]] = []
        labels: list[int] = []
        for number, name in enumerate(self.digests):
            progress("read CIFAR-10", number, len(self.digests))
            if name not in files:
                raise UserError(
                    f"CIFAR-10 in {originals} lacks {name}: unpacked by half or truncated. Fetch or "
                    "unpack it again."
                )
            batch = _batch(self.official(name, files[name], originals))
            parts.append(batch["data"].reshape(-1, *SHAPE))
            labels += batch["labels"]
        images = np.concatenate(parts)
        n_test = len(parts[-1])
        return Conversion(
            shape=(len(images), *SHAPE),
            read=lambda start, stop: images[start:stop],
            labels=np.array(labels, dtype=np.int64),
            label_names=CLASSES,
            splits={"train": len(images) - n_test, "test": n_test},
            origin=self.digests,
            notes={"source": "CIFAR-10, official Python batches"},
        )

    def plan_import(self, path: Path, *, partial: bool, progress: Progress) -> Conversion:
        fit = Fit(channels=3, size=SHAPE[1:])
        return plan_import(self.title, path, CLASSES, CLASS_COUNTS, fit, partial=partial)


CIFAR10_DATASET = Cifar10()


def _files(originals: Path, names: Collection[str]) -> dict[str, bytes]:
    """Contents of the batch files that are there, from the archive or the folder."""
    contents: dict[str, bytes] = {}
    with unpacking(originals):
        if originals.is_dir():
            there = (originals / name for name in names)
            return {path.name: read_limited(path) for path in there if path.is_file()}
        with tarfile.open(originals) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name in names and (file := archive.extractfile(member)) is not None:
                    refuse_large(member.size)
                    contents[name] = file.read()
    return contents


def _batch(content: bytes) -> dict[str, Any]:
    """``data``, uint8 ``[N, 3072]``, and ``labels``, as torchvision reads them.

    Args:
        content: the makers' own, proved by its digest: reading a pickle runs whatever it holds.
    """
    with warnings.catch_warnings():
        # numpy 1 of 2009 wrote what numpy 2 calls deprecated.
        warnings.simplefilter("ignore")
        batch: dict[str, Any] = pickle.loads(content, encoding="latin1")
    return batch


class _Cifar10Task(CachedTask):
    """What the two tasks share."""

    source = "CIFAR-10, 170 MB: 'alharness data prepare cifar10'"
    dataset = CIFAR10_DATASET
    classes: ClassVar[tuple[str, ...]]

    def selection(self, cache: ImageCache) -> CachePart:
        labels = tuple(CLASSES.index(name) for name in self.classes)
        return CachePart(
            pool=["train"],
            test="test",
            class_names=self.classes,
            classes=None if self.classes == CLASSES else labels,
        )


class Cifar10Two(_Cifar10Task):
    """CIFAR-10, automobile against horse: pool of 10,000, linear model (Table 1, second row)."""

    classes = ("automobile", "horse")
    problem = (3, 32, 32), 2
    paper = row(1000, 10, 50, kind="linear")
    quick = row(500, 10, 50, kind="linear")


class Cifar10Ten(_Cifar10Task):
    """CIFAR-10, ten classes: pool of 50,000, All-CNN (Table 1, fourth row)."""

    classes = CLASSES
    problem = (3, 32, 32), 10
    paper = row(
        30_000, 1000, 1000, kind="all-cnn", width=96, batch_size=128, epochs=100, min_steps=2000
    )
    quick = row(
        1500, 250, 500, kind="strided-cnn", width=16, batch_size=50, epochs=5, min_steps=200
    )
