"""SVHN (cropped digits) from its three ``.mat`` files: ten digits, pool of 604,388 (Sec. 4.1, Table 1).

The pool is ``train`` and ``extra`` together, in this order; the test set is ``test``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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

#: MD5 of the official files, as torchvision checks them; splits lie in this order.
MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
DIGITS = tuple(str(digit) for digit in range(10))


class SvhnDataset(Dataset):
    """The three files of the cropped format."""

    name = "svhn"
    title = "SVHN"
    size = "1.6 GB"
    files = "{train,extra,test}_32x32.mat"
    digests = MD5

    def find(self, root: Path) -> Path | None:
        for folder in (root / "svhn", root / "SVHN", root):
            if all((folder / name).is_file() for name in self.digests):
                return folder
        return None

    def parts(self, originals: Path) -> Sequence[Path]:
        return [originals / name for name in self.digests]

    def fetch(self, root: Path) -> None:
        from torchvision.datasets import SVHN

        with fetching(self, root):
            for split in ("train", "extra", "test"):
                SVHN(str(root / "svhn"), split=split, download=True)

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Conversion:
        parts: dict[str, NDArray[np.uint8]] = {}
        labels = []
        for number, name in enumerate(self.digests):
            progress("read SVHN", number, len(self.digests))
            with unpacking(originals / name):
                content = (originals / name).read_bytes()
            images, targets = _arrays(self.official(name, content, originals))
            parts[name.partition("_")[0]] = images
            labels.append(targets)
        stops = np.cumsum([len(part) for part in parts.values()])

        def read(start: int, stop: int) -> NDArray[np.uint8]:
            chosen = []
            # Splits are not put together: that would take their 1.9 GB twice.
            for part, end in zip(parts.values(), stops, strict=True):
                begin = end - len(part)
                low, high = max(start, begin), min(stop, end)
                if low < high:
                    chosen.append(part[low - begin : high - begin])
            return np.concatenate(chosen)

        return Conversion(
            shape=(int(stops[-1]), 3, 32, 32),
            read=read,
            labels=np.concatenate(labels),
            label_names=DIGITS,
            splits={split: len(part) for split, part in parts.items()},
            origin=self.digests,
            notes={"source": "SVHN, cropped digits, official .mat files"},
        )


SVHN_DATASET = SvhnDataset()


def _arrays(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 ``[N, 3, 32, 32]`` (a view) and labels 0 .. 9 of one file.

    The file holds ``X`` as ``[32, 32, 3, N]`` with the first axis fastest, so that each image lies
    in one piece, and ``y`` with 10 for the digit 0.

    Args:
        content: the makers' own: scipy believes what a file says of itself.
    """
    from scipy.io import loadmat

    arrays = loadmat(io.BytesIO(content), variable_names=["X", "y"])
    labels = arrays["y"].reshape(-1).astype(np.int64)
    return arrays["X"].transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels)


class Svhn(CachedTask):
    """SVHN, ten digits of house numbers: pool of 604,388, All-CNN (Table 1, sixth row)."""

    source = "SVHN, 1.6 GB: 'alharness data prepare svhn'"
    dataset = SVHN_DATASET
    problem = (3, 32, 32), 10
    paper = row(
        50_000, 1000, 1000, kind="all-cnn", width=96, batch_size=128, epochs=50, min_steps=2000
    )
    quick = row(
        1500, 250, 500, kind="strided-cnn", width=16, batch_size=50, epochs=5, min_steps=200
    )

    def selection(self, cache: ImageCache) -> CachePart:
        return CachePart(pool=["train", "extra"], test="test", class_names=DIGITS)
