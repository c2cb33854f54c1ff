"""Fingerprints are names: of runs that may be compared, of artefacts that may be shared.

The values were recorded at commit 3acf572; whatever is rebuilt, they stay.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations
from alharness.tasks.cifar10 import CIFAR10_DATASET
from alharness.tasks.mnist import MNIST_DATASET
from alharness.tasks.originals.dataset import Dataset

Declare = Callable[[Dataset, Mapping[str, bytes]], None]


def fingerprints(name: str, locations: DataLocations, **parameters: object) -> tuple[str, str]:
    data = resolve_task(name, **parameters).load(locations)
    return data.fingerprint, data.pool_fingerprint


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("digits-two", {}, ("c369f3a5da3a22fc", "7d89000a635e25c7")),
        ("digits-ten", {}, ("cb2acfb475ed5b38", "fbfd2bb7ef4f467b")),
        ("augmented:digits-two:5000", {}, ("2500b27fc6bb2ba3", "a6b653a06c2f0ce8")),
        ("faces-bangs", {"n_pool": 150, "n_test": 100}, ("db48d9d7dfa2d6fd", "4146ef8f50e086aa")),
    ],
)
def test_what_needs_no_originals(
    name: str, parameters: dict[str, int], expected: tuple[str, str], locations: DataLocations
) -> None:
    assert fingerprints(name, locations, **parameters) == expected


def _pictures(n: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (n, *shape)).astype(np.uint8)


def test_idx_files(locations: DataLocations, declare: Declare) -> None:
    folder = locations.data_root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    contents = {}
    for prefix, n in (("train", 60), ("t10k", 20)):
        files = {"images-idx3": _pictures(n, (28, 28)), "labels-idx1": np.arange(n) % 10}
        for name, values in files.items():
            head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            content = head + values.astype(np.uint8).tobytes()
            (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
            contents[f"{prefix}-{name}-ubyte"] = content
    declare(MNIST_DATASET, contents)
    assert fingerprints("mnist-two", locations) == ("3c2597cdfa668cc8", "bb410e50921250a2")
    assert fingerprints("mnist-ten", locations) == ("1586d6aaeb74a2e0", "9081c77b69600926")


def test_class_folders(locations: DataLocations) -> None:
    for split in ("train", "test"):
        for label, name in enumerate(("automobile", "horse")):
            folder = locations.data_root / "images" / split / name
            folder.mkdir(parents=True)
            for number, pixels in enumerate(_pictures(4 + label, (32, 32, 3))):
                Image.fromarray(pixels).save(folder / f"{number}.png")
    images = locations.data_root / "images"
    CIFAR10_DATASET.prepare(locations, source=images, as_images=True, partial=True)
    assert fingerprints("cifar10-two", locations) == ("14f33afb3f797239", "afb6ff57cc206175")
    assert fingerprints(f"folder:{images}", locations) == ("a2dd9d9c4b1f3f05", "aef3a4a2275cb8b0")


def test_a_genuine_cifar10_archive(
    locations: DataLocations, python2_pickle: Callable[[object], bytes], declare: Declare
) -> None:
    folder = locations.data_root / "cifar-10-batches-py"
    folder.mkdir()
    contents = {}
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        batch = {"labels": [label % 10 for label in range(20)], "data": _pictures(20, (3072,))}
        contents[name] = python2_pickle(batch)
        (folder / name).write_bytes(contents[name])
    declare(CIFAR10_DATASET, contents)
    assert fingerprints("cifar10-two", locations) == ("9c5c11588d8130d8", "7c42be7e6eb16984")
    assert fingerprints("cifar10-ten", locations) == ("39a683e80dbf0496", "3eb6a8d2e47de181")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mnist-two", ("a185412929f77978", "8a6d8f9263d7939b")),
        ("mnist-ten", ("34c5fa3c2beb0217", "9e097356552dc410")),
    ],
)
def test_real_mnist(name: str, expected: tuple[str, str], real_data: Path, tmp_path: Path) -> None:
    assert fingerprints(name, DataLocations(real_data, tmp_path)) == expected
