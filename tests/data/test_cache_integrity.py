"""A cache proves itself: what is not as it was written, or not of these originals, is never used.

The campaign with its full numbers: ``pytest tests/data/test_cache_integrity.py -m slow``.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alharness.cli import call
from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations
from alharness.tasks.mnist import MNIST_DATASET
from alharness.tasks.originals import tree
from alharness.tasks.originals.cache import (
    CONTENTS,
    IMAGES,
    LABELS,
    META,
    STAMPS,
    CacheDamagedError,
    ImageCache,
)
from alharness.tasks.originals.conversion import Conversion, obtain_cache

Write = Callable[..., Path]
PIXELS = np.random.default_rng(2).integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)


def make_plan() -> Conversion:
    return Conversion(
        shape=(60, 1, 8, 8),
        read=lambda start, stop: PIXELS[start:stop],
        labels=np.arange(60) % 3,
        label_names=("a", "b", "ç"),
        splits={"pool": 40, "test": 20},
        origin={"made": "here"},
        notes={"source": "a test"},
        pixel_max=255,
    )


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# ------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("name", [LABELS, META, CONTENTS])
@pytest.mark.parametrize("times", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_no_flipped_bit_goes_unnoticed(name: str, times: int, tmp_path: Path) -> None:
    obtain_cache(tmp_path / "cache", make_plan)
    file = tmp_path / "cache" / name
    content = file.read_bytes()
    bits = np.random.default_rng(0).choice(8 * len(content), times, replace=False)
    unnoticed = []
    for bit in bits.tolist():
        file.write_bytes(flipped(content, bit))
        try:
            ImageCache.open(tmp_path / "cache")
            unnoticed.append(bit)
        except CacheDamagedError as error:
            assert error.file == file  # noqa: PT017
    assert unnoticed == []
    file.write_bytes(content)
    assert ImageCache.open(tmp_path / "cache").meta["pixel_max"] == 255


@pytest.mark.parametrize("times", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_changed_images_are_found_by_the_file_that_holds_them(times: int, tmp_path: Path) -> None:
    obtain_cache(tmp_path / "cache", make_plan)
    file = tmp_path / "cache" / IMAGES
    content = file.read_bytes()
    before = file.stat()
    for bit in np.random.default_rng(1).choice(8 * len(content), times, replace=False).tolist():
        file.write_bytes(flipped(content, bit))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # as some copies do
        with pytest.raises(CacheDamagedError, match=IMAGES):
            ImageCache.open(tmp_path / "cache")


def test_a_copied_cache_is_read_once_and_then_known(tmp_path: Path) -> None:
    obtain_cache(tmp_path / "cache", make_plan)
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    read: list[int] = []

    def progress(stage: str, done: int, total: int, notes: object = None) -> None:
        read.append(done)

    ImageCache.open(tmp_path / "copy", progress)
    assert read == [60]
    (tmp_path / "copy" / LABELS).touch()
    ImageCache.open(tmp_path / "copy", progress)
    assert read == [60]
    (tmp_path / "copy" / STAMPS).write_text('{"images": [1')
    ImageCache.open(tmp_path / "copy", progress)
    assert read == [60, 60]


def test_a_stop_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    obtain_cache(tmp_path / "cache", make_plan)
    (tmp_path / "cache").rename(tmp_path / "cache.discarded")

    def gone() -> Conversion:
        raise UserError("The originals are gone.")

    np.testing.assert_array_equal(obtain_cache(tmp_path / "cache", gone).images, PIXELS)


def test_a_damaged_cache_is_built_anew_or_refused_in_one_line(
    locations: DataLocations, mini_mnist: Write
) -> None:
    mini_mnist(locations.data_root)
    cache = MNIST_DATASET.prepare(locations)
    before = resolve_task("mnist-two").load(locations)
    labels = cache.path / LABELS
    content = labels.read_bytes()
    labels.write_bytes(flipped(content, 8 * 140))
    told: list[str] = []

    def progress(stage: str, done: int, total: int, notes: object = None) -> None:
        told.append(stage)

    after = resolve_task("mnist-two").load(locations, progress)
    assert after.fingerprint == before.fingerprint
    assert told[0] == f"{labels} is damaged: built anew"
    assert f"rebuilt: {labels} was damaged: built anew from the originals" in after.warnings
    assert "rebuilt" not in resolve_task("mnist-two").load(locations).notes
    labels.write_bytes(flipped(content, 8 * 140))
    shutil.rmtree(locations.data_root / "MNIST")
    with pytest.raises(UserError, match=r"labels.npy: it differs.*MNIST not found") as caught:
        resolve_task("mnist-two").load(locations)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------- which originals a cache is of


def swap(one: Path, other: Path) -> None:
    """Exchange two files of one size, and set all times back."""
    times = one.stat().st_atime_ns, one.stat().st_mtime_ns
    contents = one.read_bytes(), other.read_bytes()
    for path, content in ((one, contents[1]), (other, contents[0])):
        path.write_bytes(content)
        os.utime(path, ns=times)


def test_images_that_change_places_under_equal_sizes_and_times(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    root = class_folders(
        tmp_path / "mine", {"a": 5, "b": 5}, splits=("train", "test"), suffix="bmp"
    )
    for path in root.rglob("*.bmp"):
        os.utime(path, (1e9, 1e9))
    task = resolve_task(f"folder:{root}")
    before = task.load(locations)
    swap(root / "train" / "a" / "000.bmp", root / "train" / "b" / "000.bmp")
    assert task.fingerprint(locations) != before.fingerprint
    assert task.load(locations).pool_images[0, 0, 0, 0] == 180


def test_rebuild_is_honoured_for_folders(
    tmp_path: Path, class_folders: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = class_folders(tmp_path / "mine", {"a": 9, "b": 9})
    monkeypatch.setenv("ALHARNESS_CACHE", str(tmp_path / "cache"))
    command = ["data", "prepare", f"folder:{root}"]

    def written() -> int:
        (page,) = (tmp_path / "cache" / "datasets").glob(f"folder-*/{META}")
        return page.stat().st_ino

    assert call(command) == 0
    first = written()
    assert call(command) == 0
    assert written() == first
    assert call([*command, "--rebuild"]) == 0
    assert written() != first
    assert call(["data", "verify", f"folder:{root}"]) == 0


def test_a_folder_is_walked_once(
    tmp_path: Path, locations: DataLocations, class_folders: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = resolve_task(f"folder:{class_folders(tmp_path / 'mine', {'a': 9, 'b': 9})}")
    task.load(locations)
    walked: list[Path] = []
    genuine = tree._walk
    monkeypatch.setattr(tree, "_walk", lambda root: (walked.append(root), genuine(root))[1])
    task.load(locations)
    assert walked == [tmp_path / "mine"]


def test_two_folders_of_one_name_are_two_data_sets(
    tmp_path: Path,
    locations: DataLocations,
    class_folders: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = []
    for number, place in enumerate(("here", "there")):
        class_folders(tmp_path / place / "pics", {"a": 9 + number, "b": 9})
        monkeypatch.chdir(tmp_path / place)
        task = resolve_task("folder:pics")
        tasks.append((task.identity(), task.fingerprint(locations)))
        assert task.fingerprint(locations) == task.load(locations).fingerprint
    assert tasks[0][0] == {"pics": f"{tmp_path}/here/pics"}
    assert tasks[0][0] != tasks[1][0]
    assert tasks[0][1] != tasks[1][1]


def test_a_path_may_be_as_long_as_the_system_allows(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    root = class_folders(tmp_path / ("显微镜" * 28) / ("图" * 85), {"a": 9, "b": 9})  # 255 bytes
    assert len(resolve_task(f"folder:{root}").load(locations).test_targets) == 4


def test_other_files_under_official_names_are_never_called_official(
    tmp_path: Path,
    mini_mnist: Write,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fashion, genuine, cache = tmp_path / "fashion", tmp_path / "genuine", tmp_path / "cache"
    mini_mnist(fashion)
    mini_mnist(genuine)  # the last one written is the official one
    nowhere = DataLocations(tmp_path / "nowhere", cache)
    with pytest.raises(UserError, match=r"is not the official file.*torchvision:NAME"):
        MNIST_DATASET.prepare(nowhere, source=fashion)
    data = resolve_task("mnist-two").load(DataLocations(genuine, cache))
    assert data.notes["source"] == "MNIST, official idx files"
    # They go on being used when they are gone; --data-root is honoured although there is a cache.
    assert resolve_task("mnist-two").load(nowhere).fingerprint == data.fingerprint
    with pytest.raises(UserError, match=r"not the official file.*made of other files"):
        resolve_task("mnist-two").load(DataLocations(fashion, cache))
    monkeypatch.setenv("ALHARNESS_CACHE", str(cache))
    assert call(["data", "list"]) == 0
    assert "160 images ready" in capsys.readouterr().out
    assert call(["data", "prepare", "mnist", "--source", str(fashion)]) == 2


def test_the_official_content_in_another_form_is_official(
    tmp_path: Path, mini_mnist: Write
) -> None:
    root = tmp_path / "root"
    raw = mini_mnist(root)
    digests = set()
    for number in range(4):
        for path in list(raw.iterdir()):
            content = path.read_bytes()
            plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            if number == 1:  # packed otherwise, in two pieces
                path.write_bytes(gzip.compress(plain[:99], 1) + gzip.compress(plain[99:], 9))
            elif number == 2:
                path.unlink()
                (raw / path.stem.replace("-idx", ".idx")).write_bytes(plain)
            elif number == 3:  # as Kaggle's archive unpacks
                path.unlink()
                (raw / path.name).mkdir()
                (raw / path.name / path.name).write_bytes(plain)
        cache = MNIST_DATASET.prepare(DataLocations(root, tmp_path / f"cache{number}"))
        digests.add((cache.digest, cache.standing))
    assert len(digests) == 1


def test_knowing_that_nothing_has_changed_costs_no_reading(
    locations: DataLocations, mini_mnist: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini_mnist(locations.data_root)
    task = resolve_task("mnist-two")
    fingerprint = task.load(locations).fingerprint

    def reads(*arguments: object, **options: object) -> Conversion:
        raise AssertionError("the originals are read again")

    monkeypatch.setattr(type(MNIST_DATASET), "plan", reads)
    assert task.fingerprint(locations) == fingerprint
    (locations.data_root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").touch()
    with pytest.raises(AssertionError, match="read again"):
        task.fingerprint(locations)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALHARNESS_CACHE", "")
    monkeypatch.setenv("ALHARNESS_DATA", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert DataLocations.resolve() == DataLocations(
        tmp_path / ".cache" / "alharness" / "data", tmp_path / ".cache" / "alharness"
    )
    monkeypatch.delenv("HOME")

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(UserError, match="ALHARNESS_CACHE"):
        DataLocations.resolve()
    monkeypatch.setenv("ALHARNESS_CACHE", str(tmp_path))
    assert DataLocations.resolve().cache_root == tmp_path


def test_a_picture_of_another_size_is_no_aligned_face(
    tmp_path: Path, locations: DataLocations, celeba_folder: Path
) -> None:
    from alharness.tasks.celeba import CELEBA_DATASET

    copy = shutil.copytree(celeba_folder, tmp_path / "celeba")
    odd = copy / "img_align_celeba" / "000007.jpg"
    with Image.open(odd) as image:
        image.resize((250, 300)).save(odd)
    with pytest.raises(UserError, match=r"000007.jpg \(expected 218x178 pixels, found 300x250"):
        CELEBA_DATASET.prepare(locations, source=copy, partial=True)
