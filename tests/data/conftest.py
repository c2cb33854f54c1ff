"""Miniatures of every data set in its genuine format, written file by file."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from alharness.tasks.base import DataLocations
from alharness.tasks.cifar10 import CIFAR10_DATASET
from alharness.tasks.faces import write_as_celeba
from alharness.tasks.mnist import MNIST_DATASET
from alharness.tasks.originals.dataset import Dataset
from alharness.tasks.svhn import SVHN_DATASET

sys.path.insert(0, str(Path(__file__).parent))  # own_tables, for the tests beside it

RNG = np.random.default_rng(0)


@pytest.fixture
def locations(tmp_path: Path) -> DataLocations:
    """An empty data root and an empty cache."""
    root = tmp_path / "originals"
    root.mkdir()
    return DataLocations(root, tmp_path / "cache")


def pictures(n: int, shape: tuple[int, ...]) -> np.ndarray:
    return RNG.integers(0, 256, size=(n, *shape)).astype(np.uint8)


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[[Dataset, Mapping[str, bytes]], None]:
    """Says that these contents are a data set's official ones, in this test."""

    def write(dataset: Dataset, contents: Mapping[str, bytes]) -> None:
        digests = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
        monkeypatch.setattr(dataset, "digests", digests)

    return write


Declare = Callable[[Dataset, Mapping[str, bytes]], None]


def _idx(values: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.astype(np.uint8).tobytes()


@pytest.fixture
def mini_mnist(declare: Declare) -> Callable[[Path], Path]:
    """Writes 120 training and 40 test digits as the four archives, and declares them official."""

    def write(root: Path, packed: bool = True) -> Path:
        folder = root / "MNIST" / "raw"
        folder.mkdir(parents=True)
        contents = {}
        for prefix, n in (("train", 120), ("t10k", 40)):
            contents[f"{prefix}-images-idx3-ubyte"] = _idx(pictures(n, (28, 28)))
            contents[f"{prefix}-labels-idx1-ubyte"] = _idx(np.arange(n) % 10)
        for name, content in contents.items():
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
        declare(MNIST_DATASET, contents)
        return folder

    return write


class _Python2Pickler(pickle._Pickler):  # type: ignore[misc,name-defined]
    """Writes strings as Python 2 did: CIFAR-10's batches were made with it."""

    def _string(self, raw: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)

    def save_str(self, text: str) -> None:
        self._string(text.encode("latin1"))

    def save_bytes(self, raw: bytes) -> None:
        self._string(raw)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, str: save_str, bytes: save_bytes}  # type: ignore[attr-defined]


def as_python2_pickle(value: object) -> bytes:
    """A protocol 2 pickle as Python 2 and numpy 1 would have written it."""
    buffer = io.BytesIO()
    _Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


@pytest.fixture
def python2_pickle() -> Callable[[object], bytes]:
    return as_python2_pickle


@pytest.fixture
def mini_cifar10(declare: Declare) -> Callable[[Path], Path]:
    """Writes five batches of 40 images and one of 60 into the archive, and declares them official."""

    def write(root: Path) -> Path:
        path = root / "cifar-10-python.tar.gz"
        contents = {}
        with tarfile.open(path, "w:gz") as archive:
            names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
            for name in names:
                n = 60 if name == "test_batch" else 40
                batch = {
                    "batch_label": name,
                    "labels": [int(label) for label in np.arange(n) % 10],
                    "data": pictures(n, (3072,)),
                    "filenames": [f"{number}.png" for number in range(n)],
                }
                content = contents[name] = as_python2_pickle(batch)
                info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        declare(CIFAR10_DATASET, contents)
        return path

    return write


@pytest.fixture
def mini_svhn(declare: Declare) -> Callable[[Path], Path]:
    """Writes the three .mat files with 60, 90 and 50 images, and declares them official."""

    def write(root: Path) -> Path:
        from scipy.io import savemat

        for split, n in (("train", 60), ("extra", 90), ("test", 50)):
            labels = (np.arange(n) % 10)[:, None].astype(np.uint8)
            labels[labels == 0] = 10  # as the makers write the digit 0
            savemat(root / f"{split}_32x32.mat", {"X": pictures(32, (32, 3, n)), "y": labels})
        files = root.glob("*_32x32.mat")
        names = sorted(files, key=lambda path: "train extra test".find(path.name.split("_")[0]))
        declare(SVHN_DATASET, {path.name: path.read_bytes() for path in names})
        return root

    return write


@pytest.fixture(scope="session")
def celeba_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 drawn faces in CelebA's own layout. Do not write into it: copy it."""
    folder = tmp_path_factory.mktemp("celeba")
    write_as_celeba(folder, 120)
    return folder


def as_kaggle(folder: Path, path: Path) -> Path:
    """The same as Kaggle ships it: one archive, CSV tables, a folder in a folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for image in sorted((folder / "img_align_celeba").iterdir()):
            archive.write(image, f"img_align_celeba/img_align_celeba/{image.name}")
        lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
        tables = {
            "list_attr_celeba.csv": [["image_id", *lines[1].split()]]
            + [line.split() for line in lines[2:]],
            "list_eval_partition.csv": [["image_id", "partition"]]
            + [
                line.split()
                for line in (folder / "list_eval_partition.txt").read_text().splitlines()
            ],
        }
        for name, rows in tables.items():
            buffer = io.StringIO()
            csv.writer(buffer).writerows(rows)
            archive.writestr(name, buffer.getvalue())
    return path


@pytest.fixture
def kaggle() -> Callable[[Path, Path], Path]:
    return as_kaggle


@pytest.fixture
def mini_lsun() -> Callable[[Path], Path]:
    """Writes ten LMDB folders of 34 WebP images each, of any size and some of them gray."""

    def write(root: Path) -> Path:
        lmdb = pytest.importorskip("lmdb")
        from alharness.tasks.lsun import SCENES

        root.mkdir(exist_ok=True)
        for number, scene in enumerate(SCENES):
            path = root / f"{scene}_train_lmdb"
            environment = lmdb.open(str(path), map_size=1 << 24)
            with environment.begin(write=True) as transaction:
                for item in range(34):
                    pixels = np.full((70 + item, 90, 3), 25 * number, np.uint8)
                    picture = Image.fromarray(pixels)
                    if item == 0:
                        picture = picture.convert("L")
                    buffer = io.BytesIO()
                    picture.save(buffer, format="PNG" if item == 0 else "WEBP")
                    transaction.put(f"{item:040x}".encode(), buffer.getvalue())
            environment.close()
        return root

    return write


@pytest.fixture
def class_folders() -> Callable[..., Path]:
    """Writes images into class folders."""

    def write(
        root: Path,
        classes: dict[str, int],
        *,
        splits: tuple[str, ...] = ("",),
        size: tuple[int, int] = (12, 12),
        mode: str = "RGB",
        suffix: str = "png",
    ) -> Path:
        for split in splits:
            for value, (name, n) in enumerate(classes.items()):
                folder = root / split / name
                folder.mkdir(parents=True, exist_ok=True)
                for number in range(n):
                    shade = (60 + 120 * value + number) % 256
                    colour = shade if mode == "L" else (shade, 40, 90)
                    picture = Image.new(mode, (size[1], size[0]), colour)
                    picture.save(folder / f"{number:03d}.{suffix}")
        return root

    return write
