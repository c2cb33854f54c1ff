"""CIFAR-10 from ``cifar-10-python.tar.gz``: automobile against horse, and all ten (Sec. 4.1, Table 1).

The pool is the 50,000 training images, the test set the 10,000 test images (the paper's
"validation" set).
"""

from __future__ import annotations

import hashlib
import io
import lzma
import pickle
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.learners.settings import LearnerSettings
from alharness.progress import Progress
from alharness.tasks.base import Profile, TaskDefaults
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.class_folders import plan_import
from alharness.tasks.originals.conversion import Plan
from alharness.tasks.originals.dataset import Dataset, check_targets, fetching
from alharness.tasks.originals.images import Fit
from alharness.tasks.originals.tree import in_words, read_limited, refuse_large
from alharness.tasks.selection import CachedTask, Selection

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
COUNTS = {"train": 50_000, "test": 10_000}
CLASS_COUNTS = {"train": (5_000,) * 10, "test": (1_000,) * 10}
SHAPE = (3, 32, 32)


class Cifar10(Dataset):
    """The official archive or its unpacked folder."""

    name = "cifar10"
    title = "CIFAR-10"
    size = "170 MB"
    files = f"{ARCHIVE} or {FOLDER}/"
    counts = COUNTS

    def find(self, root: Path) -> Path | None:
        candidates = (root / ARCHIVE, root / FOLDER, root / "cifar10" / ARCHIVE)
        for path in candidates:
            if path.is_file() or (path / "data_batch_1").is_file():
                return path
        if root.is_file() and root.name.endswith(
            (".tar.gz", ".tgz", ".tar", ".tar.bz2", ".tar.xz")
        ):
            return root
        return root if (root / "data_batch_1").is_file() else None

    def parts(self, originals: Path) -> Sequence[Path]:
        if originals.is_file():
            return [originals]
        return [originals / name for name in MD5 if (originals / name).is_file()]

    def fetch(self, root: Path) -> None:
        from torchvision.datasets import CIFAR10

        with fetching(self, root):
            CIFAR10(str(root), download=True)

    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Plan:
        files = _files(originals)
        parts, labels, origin = [], [], {}
        foreign = []
        for number, (name, official) in enumerate(MD5.items()):
            progress("read CIFAR-10", number, len(MD5))
            found = hashlib.md5(files[name]).hexdigest()
            if found != official:
                foreign.append(name)
                if not partial:
                    raise UserError(
                        f"{name} in {originals} is not the official file (expected MD5 {official}, "
                        f"found {found}): truncated or changed. Fetch it again."
                    )
            images, targets = read_batch(files[name], f"{name} in {originals}")
            parts.append(images)
            labels.append(targets)
            origin[name] = found
        images = np.concatenate(parts)
        targets = np.concatenate(labels)
        check_targets(targets, CLASSES, f"CIFAR-10 in {originals}")
        splits = {"train": sum(len(part) for part in parts[:-1]), "test": len(parts[-1])}
        self.check_counts(splits, originals, partial)
        return Plan(
            shape=(len(images), *SHAPE),
            read=lambda start, stop: images[start:stop],
            labels=targets,
            label_names=CLASSES,
            splits=splits,
            origin=origin,
            **self.told("CIFAR-10, official Python batches", "Python batches", foreign, splits),
        )

    def plan_import(self, path: Path, *, partial: bool, progress: Progress) -> Plan:
        fit = Fit(channels=3, size=SHAPE[1:])
        return plan_import(self.title, path, CLASSES, CLASS_COUNTS, fit, partial=partial)


CIFAR10_DATASET = Cifar10()


def _files(originals: Path) -> dict[str, bytes]:
    """Contents of the batch files, from the archive or the folder."""
    contents: dict[str, bytes] = {}
    try:
        if originals.is_dir():
            contents = {
                name: read_limited(originals / name) for name in MD5 if (originals / name).is_file()
            }
        else:
            with tarfile.open(originals) as archive:
                for member in archive:
                    name = Path(member.name).name
                    if name in MD5 and member.isfile():
                        refuse_large(member.size)
                        if name in contents:
                            raise ValueError(f"it holds two files {name}")
                        file = archive.extractfile(member)
                        assert file is not None
                        contents[name] = file.read()
                # To its end, where the sum stands that tells of damage in what was unpacked.
                while archive.fileobj is not None and archive.fileobj.read(1 << 20):
                    pass
    except (OSError, EOFError, tarfile.TarError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"{originals} cannot be read ({in_words(error)}): truncated or changed. Fetch it again."
        ) from error
    missing = [name for name in MD5 if name not in contents]
    if missing:
        raise UserError(
            f"CIFAR-10 in {originals} lacks {', '.join(missing)}: unpacked by half or truncated. "
            "Fetch or unpack it again."
        )
    return contents


class _Array:
    """What a pickle says of an array, before anything is believed."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def values(self) -> NDArray[np.uint8]:
        """The bytes in their shape.

        Raises:
            ValueError: these are no bytes, or not as many.
        """
        _, shape, kind, in_columns, raw = self.state
        if not isinstance(kind, _Array) or kind.arguments[0] not in ("u1", "|u1") or in_columns:
            raise ValueError("its data are no plain array of bytes")
        # Python 2 had one type for bytes and text.
        content = raw.encode("latin1") if isinstance(raw, str) else raw
        return np.frombuffer(content, np.uint8).reshape(shape)


def _encoded(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


class _PlainUnpickler(pickle._Unpickler):
    """Reads what CIFAR-10's batches are made of and nothing else: no code of theirs is ever run.

    The format is a pickle, so there is no way round one; only the names that describe a numpy array
    (and the one that builds bytes) are known to this one, and stand for descriptions: numpy itself
    would believe a damaged state. It is the one written in Python: the other makes room for as many
    objects as a damaged file numbers, tens of gigabytes.
    """

    KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,  # numpy 2 has moved it
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Array,
        ("_codecs", "encode"): _encoded,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self.KNOWN[module, name]


def read_batch(content: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 ``[N, 3, 32, 32]`` and labels of one batch file.

    Raises:
        UserError: not such a file.
    """
    try:
        batch = _PlainUnpickler(io.BytesIO(content), encoding="latin1").load()
        images = batch["data"].values().reshape(-1, *SHAPE)
        labels = np.asarray(batch["labels"], dtype=np.int64)
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images but {len(labels)} labels")
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise UserError(
            f"{where} is not a CIFAR-10 batch ({in_words(error)}): damaged or foreign. Fetch it again."
        ) from error
    return images, labels


class _Cifar10Task(CachedTask):
    """What the two tasks share."""

    source = "CIFAR-10, 170 MB: 'alharness data prepare cifar10'"
    dataset = CIFAR10_DATASET
    classes: ClassVar[tuple[str, ...]]

    def selection(self, cache: ImageCache) -> Selection:
        labels = tuple(CLASSES.index(name) for name in self.classes)
        return Selection(
            pool=["train"],
            test="test",
            class_names=self.classes,
            classes=None if self.classes == CLASSES else labels,
        )


class Cifar10Two(_Cifar10Task):
    """CIFAR-10, automobile against horse: pool of 10,000, linear model (Table 1, second row)."""

    classes = ("automobile", "horse")
    problem = (3, 32, 32), 2

    def defaults(self, profile: Profile) -> TaskDefaults:
        budget = 1000 if profile == "paper" else 500
        return TaskDefaults(
            budget=budget, query_size=10, initial_size=50, learner=LearnerSettings(kind="linear")
        )


class Cifar10Ten(_Cifar10Task):
    """CIFAR-10, ten classes: pool of 50,000, All-CNN (Table 1, fourth row)."""

    classes = CLASSES
    problem = (3, 32, 32), 10

    def defaults(self, profile: Profile) -> TaskDefaults:
        if profile == "paper":
            learner = LearnerSettings(
                kind="all-cnn", width=96, batch_size=128, epochs=100, min_steps=2000
            )
            return TaskDefaults(budget=30_000, query_size=1000, initial_size=1000, learner=learner)
        learner = LearnerSettings(
            kind="strided-cnn", width=16, batch_size=50, epochs=5, min_steps=200
        )
        return TaskDefaults(budget=1500, query_size=250, initial_size=500, learner=learner)
