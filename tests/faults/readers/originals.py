"""The official archives of data sets."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from functools import partial
from pathlib import Path

import numpy as np

from alharness.tasks.base import DataLocations
from alharness.tasks.celeba import read_attributes, read_partition
from alharness.tasks.cifar10 import CIFAR10_DATASET, read_batch
from alharness.tasks.mnist import read_idx
from alharness.tasks.svhn import read_mat
from readers.base import RNG, Reader, from_file, reader


def _idx() -> bytes:
    values = RNG.integers(0, 256, (5, 28, 28)).astype(np.uint8)
    return bytes([0, 0, 8, 3]) + struct.pack(">3I", *values.shape) + values.tobytes()


@reader
def idx_file(folder: Path) -> Reader:
    return from_file(folder / "digits", lambda path: read_idx(path, None), _idx())


@reader
def packed_idx_file(folder: Path) -> Reader:
    return from_file(folder / "digits.gz", lambda path: read_idx(path, None), gzip.compress(_idx()))


@reader
def mat_file(folder: Path) -> Reader:
    from scipy.io import savemat

    buffer = io.BytesIO()
    images = RNG.integers(0, 256, (32, 32, 3, 4)).astype(np.uint8)
    savemat(buffer, {"X": images, "y": np.array([[1], [10], [2], [3]], np.uint8)})
    return from_file(folder / "test_32x32.mat", read_mat, buffer.getvalue())


def _batch() -> bytes:
    return pickle.dumps({"labels": [0, 1], "data": np.zeros((2, 3072), np.uint8)}, protocol=2)


@reader
def cifar_batch(folder: Path) -> Reader:
    return _batch(), partial(read_batch, where="batch")


@reader
def cifar_archive(folder: Path) -> Reader:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(_batch())
            archive.addfile(info, io.BytesIO(_batch()))

    def read(path: Path) -> object:
        locations = DataLocations(folder, folder / "cache", rebuild=True)
        return CIFAR10_DATASET.prepare(locations, source=path, partial=True)

    return from_file(folder / "cifar-10-python.tar.gz", read, buffer.getvalue())


@reader
def celeba_attributes(folder: Path) -> Reader:
    names = [f"A{number}" for number in range(40)]
    rows = [f"{number:06d}.jpg " + " ".join(["1", "-1"] * 20) for number in range(1, 4)]
    whole = "\n".join(["3", " ".join(names), *rows]).encode()
    return whole, partial(read_attributes, where="table")


@reader
def celeba_partition(folder: Path) -> Reader:
    whole = b"000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"
    return whole, partial(read_partition, where="table")
