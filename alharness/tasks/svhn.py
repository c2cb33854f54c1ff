"""SVHN (cropped digits) from its three ``.mat`` files: ten digits, pool of 604,388 (Sec. 4.1, Table 1).

The pool is ``train`` and ``extra`` together, in this order; the test set is ``test``.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.learners.settings import LearnerSettings
from alharness.progress import Progress
from alharness.tasks.base import Profile, TaskDefaults
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.conversion import Plan
from alharness.tasks.originals.dataset import Dataset, check_targets, fetching, md5
from alharness.tasks.originals.matlab import NewerMatlabError, read_arrays
from alharness.tasks.originals.tree import in_words
from alharness.tasks.selection import CachedTask, Selection

#: MD5 of the official files, as torchvision checks them.
MD5 = {
    "train": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "extra": "a93ce644f1a588dc4d68dda5feec44a7",
    "test": "eb5a983be6a315427106f1b164d9cef3",
}
COUNTS = {"train": 73_257, "extra": 531_131, "test": 26_032}
#: A little more than the largest official array: what claims more is not unpacked.
MAX_BYTES = 600_000 * 32 * 32 * 3
DIGITS = tuple(str(digit) for digit in range(10))


class SvhnDataset(Dataset):
    """The three files of the cropped format."""

    name = "svhn"
    title = "SVHN"
    size = "1.6 GB"
    files = "{train,extra,test}_32x32.mat"
    counts = COUNTS

    def find(self, root: Path) -> Path | None:
        for folder in (root / "svhn", root / "SVHN", root):
            if all(_file(folder, split).is_file() for split in MD5):
                return folder
        return None

    def parts(self, originals: Path) -> Sequence[Path]:
        return [_file(originals, split) for split in MD5]

    def fetch(self, root: Path) -> None:
        from torchvision.datasets import SVHN

        with fetching(self, root):
            for split in MD5:
                SVHN(str(root / "svhn"), split=split, download=True)

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Plan:
        images: dict[str, NDArray[np.uint8]] = {}
        labels, origin = [], {}
        foreign: list[str] = []
        for number, (split, official) in enumerate(MD5.items()):
            progress("read SVHN", number, len(MD5))
            path = _file(originals, split)
            origin[path.name] = md5(path)
            if origin[path.name] != official:
                foreign.append(path.name)
                if not partial:
                    raise UserError(
                        f"{path} is not the official file (expected MD5 {official}, found "
                        f"{origin[path.name]}): truncated or changed. Fetch it again."
                    )
            images[split], targets = read_mat(path)
            labels.append(targets)
        targets = np.concatenate(labels)
        check_targets(targets, DIGITS, f"SVHN in {originals}")
        splits = {split: len(part) for split, part in images.items()}
        self.check_counts(splits, originals, partial)
        stops = np.cumsum(list(splits.values()))

        def read(start: int, stop: int) -> NDArray[np.uint8]:
            parts = []
            for part, end in zip(images.values(), stops, strict=True):
                begin = end - len(part)
                low, high = max(start, begin), min(stop, end)
                if low < high:
                    parts.append(part[low - begin : high - begin])
            return np.concatenate(parts)

        return Plan(
            shape=(len(targets), 3, 32, 32),
            read=read,
            labels=targets,
            label_names=DIGITS,
            splits=splits,
            origin=origin,
            **self.told("SVHN, cropped digits, official .mat files", ".mat files", foreign, splits),
        )


SVHN_DATASET = SvhnDataset()


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}_32x32.mat"


def read_mat(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 ``[N, 3, 32, 32]`` (a view) and labels 0 .. 9 of one file.

    The file holds ``X`` as ``[32, 32, 3, N]`` with the first axis fastest, so that each image lies
    in one piece, and ``y`` with 10 for the digit 0.

    Raises:
        UserError: damaged or foreign.
    """
    try:
        arrays = read_arrays(path, MAX_BYTES)
        if not {"X", "y"} <= set(arrays):
            raise ValueError(f"it holds {', '.join(arrays) or 'nothing'}, not X and y")
        images, labels = arrays["X"], arrays["y"].reshape(-1).astype(np.int64)
        if images.shape != (32, 32, 3, len(labels)) or images.dtype != np.uint8:
            raise ValueError(f"X is {images.dtype} {images.shape} for {len(labels)} labels")
    except NewerMatlabError as error:
        raise UserError(
            f"{path} is a file of MATLAB 7.3; SVHN's own are of MATLAB 5. Save it with -v7, or fetch "
            "the original."
        ) from error
    except (OSError, ValueError, zlib.error) as error:
        raise UserError(
            f"{path} cannot be read as an SVHN file ({in_words(error)}): truncated or changed. Fetch "
            "it again."
        ) from error
    return images.transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels)


class Svhn(CachedTask):
    """SVHN, ten digits of house numbers: pool of 604,388, All-CNN (Table 1, sixth row)."""

    source = "SVHN, 1.6 GB: 'alharness data prepare svhn'"
    dataset = SVHN_DATASET
    problem = (3, 32, 32), 10

    def defaults(self, profile: Profile) -> TaskDefaults:
        if profile == "paper":
            learner = LearnerSettings(
                kind="all-cnn", width=96, batch_size=128, epochs=50, min_steps=2000
            )
            return TaskDefaults(budget=50_000, query_size=1000, initial_size=1000, learner=learner)
        learner = LearnerSettings(
            kind="strided-cnn", width=16, batch_size=50, epochs=5, min_steps=200
        )
        return TaskDefaults(budget=1500, query_size=250, initial_size=500, learner=learner)

    def selection(self, cache: ImageCache) -> Selection:
        return Selection(pool=["train", "extra"], test="test", class_names=DIGITS)
