"""MNIST from its four official archives: 5 against 7 and all ten digits (paper, Sec. 4.1, Table 1).

The pool is the first 50,000 training images, as in the split of the code that the paper's
generators come from (decisions T2); the last 10,000 (its validation set) are left alone, the test set
is the official one.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.progress import Progress
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.conversion import Conversion
from alharness.tasks.originals.dataset import Dataset, fetching, unpacking
from alharness.tasks.selection import CachedTask, CachePart
from alharness.tasks.settings import row

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where ``alharness list`` shows it.
FAMILY = "Downloads (fetched with --download or by 'alharness data prepare NAME')"

#: MD5 of what the official archives unpack to (the list that torchvision checks): however they were
#: packed since, and whatever the files are called now.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
#: Bytes of the largest official file, unpacked: of what unpacks to more the rest is not looked at.
LARGEST = 16 + 60_000 * 28 * 28
#: Length of an idx file's head: four bytes, and four for each axis.
HEADS = {"images-idx3": 16, "labels-idx1": 8}
#: Pool of the paper: the first 50,000 of the 60,000 training images (decisions T2).
POOL_IMAGES = 50_000


class Mnist(Dataset):
    """The four idx files, packed or not."""

    name = "mnist"
    title = "MNIST"
    size = "12 MB"
    files = "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]"
    digests = MD5

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

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Conversion:
        contents: dict[str, NDArray[np.uint8]] = {}
        for number, stem in enumerate(self.digests):
            progress("read MNIST", number, len(self.digests))
            path = _locate(originals, stem)
            if path is None:
                raise UserError(f"MNIST: expected {stem}[.gz] in {originals}; it is not there.")
            content = self.official(stem, _unpacked(path), path)
            # torchvision's reader wants unpacked files of one name; what its digest proves needs none.
            head = next(n for kind, n in HEADS.items() if kind in stem)
            contents[stem] = np.frombuffer(content, np.uint8, offset=head)
        parts = [
            [contents[f"{split}-{kind}-ubyte"] for split in ("train", "t10k")] for kind in HEADS
        ]
        images, labels = (np.concatenate(part) for part in parts)
        images = images.reshape(-1, 1, 28, 28)
        return Conversion(
            shape=(len(images), 1, 28, 28),
            read=lambda start, stop: images[start:stop],
            labels=labels.astype(np.int64),
            label_names=tuple(str(digit) for digit in range(10)),
            splits=dict(zip(("train", "test"), map(len, parts[1]), strict=True)),
            origin=self.digests,
            notes={"source": "MNIST, official idx files"},
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


def _unpacked(path: Path) -> bytes:
    """The content, unpacked if it is packed (whatever its name says), and little more than MNIST's.

    Raises:
        UserError: it cannot be read.
    """
    with unpacking(path), path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        # One byte more than the largest: what is longer then differs from every digest.
        return (gzip.GzipFile(fileobj=file) if is_packed else file).read(LARGEST + 1)


class _MnistTask(CachedTask):
    """What the two tasks share."""

    source = "MNIST, 12 MB: 'alharness data prepare mnist'"
    dataset = MNIST_DATASET
    classes: ClassVar[tuple[int, ...] | None] = None

    def selection(self, cache: ImageCache) -> CachePart:
        names = cache.label_names if self.classes is None else tuple(map(str, self.classes))
        return CachePart(
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
    # Cheap enough for a CPU as it stands: both profiles are the paper's.
    paper = quick = row(500, 10, 50, kind="linear", c=1.0)


class MnistTen(_MnistTask):
    """MNIST, ten digits: pool of 50,000, small CNN (Table 1, third row)."""

    problem = (1, 28, 28), 10
    paper = row(
        10_000, 50, 100, kind="mnist-cnn", width=512, batch_size=50, epochs=20, min_steps=1000
    )
    quick = row(400, 50, 100, kind="mnist-cnn", width=128, batch_size=50, epochs=10, min_steps=300)
