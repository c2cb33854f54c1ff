"""Every data set from files in its genuine format: prepared, verified, opened as tasks."""

from __future__ import annotations

import itertools
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from alharness.errors import UserError
from alharness.progress import silent
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations, TaskData
from alharness.tasks.celeba import CELEBA_DATASET
from alharness.tasks.cifar10 import CIFAR10_DATASET
from alharness.tasks.lsun import COUNTS as LSUN_COUNTS
from alharness.tasks.lsun import LSUN_DATASET, N_IMAGES
from alharness.tasks.mnist import MNIST_DATASET
from alharness.tasks.svhn import SVHN_DATASET

Write = Callable[..., Path]


def load(name: str, locations: DataLocations) -> TaskData:
    data = resolve_task(name).load(locations)
    assert data.pool_targets.dtype == np.int64
    assert len(data.pool_targets) == data.pool_images.shape[0]
    assert set(np.unique(data.pool_targets)) == set(range(data.n_classes))
    return data


def test_mnist_from_four_archives(locations: DataLocations, mini_mnist: Write) -> None:
    folder = mini_mnist(locations.data_root)
    two, ten = load("mnist-two", locations), load("mnist-ten", locations)
    assert ten.pool_images.shape == (120, 1, 28, 28)
    assert two.pool_images.shape == (24, 1, 28, 28)
    assert two.class_names == ("5", "7")
    # 5 is class 0 and 7 is class 1, in the order of the data set.
    labels = np.arange(120) % 10
    np.testing.assert_array_equal(two.pool_targets, (labels[(labels == 5) | (labels == 7)] == 7))
    np.testing.assert_array_equal(two.pool_images[0], ten.pool_images[5])
    assert two.fingerprint != ten.fingerprint
    findings = MNIST_DATASET.verify(locations)
    assert "digests agree" in findings[0]
    assert str(folder) in findings[1]


def test_mnist_packed_and_unpacked_are_the_same(tmp_path: Path, mini_mnist: Write) -> None:
    import gzip

    packed = mini_mnist(tmp_path / "packed")
    unpacked = tmp_path / "unpacked" / "MNIST" / "raw"
    unpacked.mkdir(parents=True)
    for path in packed.iterdir():
        (unpacked / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    digests = {
        MNIST_DATASET.prepare(DataLocations(tmp_path / name, tmp_path / f"cache-{name}")).digest
        for name in ("packed", "unpacked")
    }
    assert len(digests) == 1


def test_cifar10_from_the_official_archive(locations: DataLocations, mini_cifar10: Write) -> None:
    mini_cifar10(locations.data_root)
    cache = CIFAR10_DATASET.prepare(locations)
    assert cache.meta["splits"] == {"train": [0, 200], "test": [200, 260]}
    ten, two = load("cifar10-ten", locations), load("cifar10-two", locations)
    assert ten.pool_images.shape == (200, 3, 32, 32)
    assert two.class_names == ("automobile", "horse")
    assert len(two.pool_targets) == 40
    assert "digests agree" in CIFAR10_DATASET.verify(locations)[0]


def test_cifar10_imported_from_class_folders(tmp_path: Path, class_folders: Write) -> None:
    source = class_folders(
        tmp_path / "images",
        {"automobile": 8, "horse": 9},
        splits=("train", "test"),
        size=(32, 32),
    )
    archive = Path(shutil.make_archive(str(tmp_path / "images"), "zip", tmp_path, "images"))
    digests = []
    for path in (source, archive):
        locations = DataLocations(tmp_path, tmp_path / f"cache-{path.suffix}")
        cache = CIFAR10_DATASET.prepare(locations, source=path, as_images=True, partial=True)
        digests.append(cache.digest)
        two = load("cifar10-two", locations)
        assert len(two.pool_targets) == 17
        # What is missing as a whole is missed by the task that needs it.
        with pytest.raises(UserError, match="Class 'airplane' has no image"):
            load("cifar10-ten", locations)
    assert digests[0] == digests[1]


def test_parts_of_svhn_are_read_across_their_ends(
    locations: DataLocations, mini_svhn: Write
) -> None:
    """Any stretch of all images is that stretch of the whole; parts end at 60, 150 and 200."""
    mini_svhn(locations.data_root)
    originals = SVHN_DATASET.find(locations.data_root)
    assert originals is not None
    plan = SVHN_DATASET.plan(originals, partial=False, progress=silent)
    whole = plan.read(0, 200)
    assert whole.shape == plan.shape == (200, 3, 32, 32)
    borders = [0, 1, 59, 60, 61, 100, 149, 150, 151, 199, 200]
    for start, stop in itertools.combinations(borders, 2):
        assert np.array_equal(plan.read(start, stop), whole[start:stop])


def test_svhn_from_mat_files(locations: DataLocations, mini_svhn: Write) -> None:
    mini_svhn(locations.data_root)
    data = load("svhn", locations)
    assert data.pool_images.shape == (150, 3, 32, 32)  # train, then extra
    np.testing.assert_array_equal(data.pool_targets[:60], np.arange(60) % 10)
    from scipy.io import loadmat

    extra = loadmat(locations.data_root / "extra_32x32.mat")["X"]
    np.testing.assert_array_equal(data.pool_images[60], extra[..., 0].transpose(2, 0, 1))
    assert "digests agree" in SVHN_DATASET.verify(locations)[0]


def test_celeba_in_the_layouts_of_the_makers_and_of_kaggle(
    tmp_path: Path, celeba_folder: Path, kaggle: Write
) -> None:
    zipped = tmp_path / "zipped"
    zipped.mkdir()
    for table in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        shutil.copy(celeba_folder / table, zipped / table)
    with zipfile.ZipFile(zipped / "img_align_celeba.zip", "w") as archive:
        for image in (celeba_folder / "img_align_celeba").iterdir():
            archive.write(image, f"img_align_celeba/{image.name}")
    nested = tmp_path / "nested"
    shutil.copytree(
        celeba_folder / "img_align_celeba", nested / "img_align_celeba" / "img_align_celeba"
    )
    for table in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        shutil.copy(celeba_folder / table, nested / table)
    one_archive = kaggle(celeba_folder, tmp_path / "archive.zip")
    digests = []
    for number, source in enumerate((celeba_folder, zipped, nested, one_archive)):
        locations = DataLocations(tmp_path, tmp_path / f"cache{number}")
        digests.append(CELEBA_DATASET.prepare(locations, source=source, partial=True).digest)
        assert "digests agree" in CELEBA_DATASET.verify(locations, source=source)[0]
    assert len(set(digests)) == 1


def test_celebas_four_tasks_share_images_and_differ_in_targets(
    locations: DataLocations, celeba_folder: Path
) -> None:
    CELEBA_DATASET.prepare(locations, source=celeba_folder, partial=True)
    bangs, blond = load("celeba-bangs", locations), load("celeba-blond-hair", locations)
    assert bangs.pool_images.shape == (96, 3, 64, 64)  # 80.3 % of 120
    assert bangs.pool_fingerprint == blond.pool_fingerprint
    assert bangs.fingerprint != blond.fingerprint
    # Against the table itself, read the plain way.
    lines = (celeba_folder / "list_attr_celeba.txt").read_text().splitlines()
    column = lines[1].split().index("Bangs")
    rows = [line.split()[1 + column] == "1" for line in lines[2:98]]
    np.testing.assert_array_equal(bangs.pool_targets, rows)
    assert resolve_task("celeba-bangs").defaults("paper").initial_size == 100


def test_lsun_from_lmdb_folders(locations: DataLocations, mini_lsun: Write) -> None:
    mini_lsun(locations.data_root)
    cache = LSUN_DATASET.prepare(locations, partial=True)
    assert cache.meta["splits"] == {"pool": [0, 330], "test": [330, 340]}
    data = load("lsun", locations)
    # Scene number s was painted with the value 25 s; WebP is nearly exact on plain pictures.
    means = data.pool_images.reshape(330, -1).mean(1)
    np.testing.assert_allclose(means, 25 * data.pool_targets, atol=2)
    assert N_IMAGES == 9_895_373
    assert LSUN_COUNTS["pool"] == 9_604_000  # Table 1
    assert "digests agree" in LSUN_DATASET.verify(locations)[0]


def test_opening_a_cache_costs_milliseconds_and_no_originals(
    locations: DataLocations, mini_mnist: Write
) -> None:
    mini_mnist(locations.data_root)
    MNIST_DATASET.prepare(locations)
    shutil.rmtree(locations.data_root)
    start = time.perf_counter()
    load("mnist-ten", locations)
    assert time.perf_counter() - start < 0.2


@pytest.mark.real
def test_real_mnist_has_the_papers_counts(real_data: Path, tmp_path: Path) -> None:
    locations = DataLocations(real_data, tmp_path)
    two, ten = load("mnist-two", locations), load("mnist-ten", locations)
    assert two.pool_images.shape[0] == 9_681  # decisions T3
    assert np.bincount(two.pool_targets).tolist() == [4_506, 5_175]
    assert np.bincount(two.test_targets).tolist() == [892, 1_028]
    assert ten.pool_images.shape[0] == 50_000
    assert len(ten.test_targets) == 10_000
    assert "partial" not in two.notes


@pytest.mark.real
def test_real_cifar10_from_jpeg_copies(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "cifar10-automobile-horse-jpg.zip"
    if not source.is_file():
        pytest.skip(f"needs {source.name} in ALHARNESS_DATA")
    locations = DataLocations(real_data, tmp_path)
    CIFAR10_DATASET.prepare(locations, source=source, as_images=True)
    two = load("cifar10-two", locations)
    assert np.bincount(two.pool_targets).tolist() == [5_000, 5_000]  # decisions T4
    assert np.bincount(two.test_targets).tolist() == [1_000, 1_000]
    items = two.open_pool(torch.device("cpu")).gather(torch.arange(100))
    assert 0.3 < float(items.mean()) < 0.6
