"""Bad originals and bad luck: a clear error or a clean rebuild, never a wrong cache."""

from __future__ import annotations

import errno
import gzip
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations
from alharness.tasks.celeba import CELEBA_DATASET, read_attributes
from alharness.tasks.cifar10 import CIFAR10_DATASET
from alharness.tasks.lsun import LSUN_DATASET
from alharness.tasks.mnist import MNIST_DATASET
from alharness.tasks.originals import conversion
from alharness.tasks.originals.cache import META, VERSION, CacheMissingError, ImageCache, page
from alharness.tasks.originals.conversion import Conversion, obtain_cache, writing
from alharness.tasks.originals.dataset import check_targets
from alharness.tasks.originals.lmdb_folders import LmdbSegment, lmdb_anchors, lmdb_environment
from alharness.tasks.svhn import SVHN_DATASET

Write = Callable[..., Path]


def no_cache(locations: DataLocations, name: str) -> None:
    with pytest.raises(CacheMissingError):
        ImageCache.open(locations.cache_root / "datasets" / name)


# ---------------------------------------------------------------- missing and incomplete originals


@pytest.mark.parametrize("name", ["mnist-two", "cifar10-ten", "svhn", "celeba-bangs", "lsun"])
def test_missing_data_say_what_where_how_and_how_large(name: str, locations: DataLocations) -> None:
    with pytest.raises(UserError) as caught:
        resolve_task(name).load(locations)
    message = str(caught.value)
    assert "\n" not in message
    assert str(locations.data_root) in message
    assert "alharness data prepare" in message
    assert "MB" in message or "GB" in message


def test_an_incomplete_data_set_is_refused_with_both_counts(
    tmp_path: Path, locations: DataLocations, celeba_folder: Path, mini_lsun: Write
) -> None:
    with pytest.raises(UserError, match=r"train 162,770.*found train 96"):
        CELEBA_DATASET.prepare(locations, source=celeba_folder)
    mini_lsun(tmp_path / "scenes")
    with pytest.raises(UserError, match=r"bedroom_train_lmdb.*3,033,042 images; found 34"):
        LSUN_DATASET.prepare(locations, source=tmp_path / "scenes")
    no_cache(locations, "celeba")
    no_cache(locations, "lsun")


def test_a_half_unpacked_celeba_is_refused(
    tmp_path: Path, locations: DataLocations, celeba_folder: Path
) -> None:
    copy = shutil.copytree(celeba_folder, tmp_path / "celeba")
    for number in range(100, 121):
        (copy / "img_align_celeba" / f"{number:06d}.jpg").unlink()
    # Even --partial means "a smaller data set", not "holes in this one".
    with pytest.raises(UserError, match=r"120 images; 21 are missing, the first is 000100.jpg"):
        CELEBA_DATASET.prepare(locations, source=copy, partial=True)
    no_cache(locations, "celeba")


# ------------------------------------------------------------------------ damaged and foreign files


@pytest.mark.parametrize("cut", [1, 10, -5])
def test_a_truncated_mnist_archive(cut: int, locations: DataLocations, mini_mnist: Write) -> None:
    folder = mini_mnist(locations.data_root)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.*truncated"):
        MNIST_DATASET.prepare(locations)
    no_cache(locations, "mnist")


def test_an_archive_that_unpacks_without_end_is_read_no_further_than_mnist(
    locations: DataLocations, mini_mnist: Write
) -> None:
    path = mini_mnist(locations.data_root) / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(200 << 20), 1))
    with pytest.raises(UserError, match=r"found \w+ of 47,040,017 bytes\): truncated, changed"):
        MNIST_DATASET.prepare(locations)


def test_another_content_meets_no_reader(
    locations: DataLocations, mini_mnist: Write, mini_cifar10: Write, mini_svhn: Write
) -> None:
    """What looks alike (Fashion-MNIST lies under the same names) is told where it belongs."""
    labels = mini_mnist(locations.data_root) / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes())[:-1] + b"\x03"))
    (locations.data_root / "cifar10").mkdir()
    mini_cifar10(locations.data_root / "cifar10")
    with tarfile.open(locations.data_root / "cifar10" / "cifar-10-python.tar.gz") as archive:
        archive.extractall(locations.data_root, filter="data")
    batch = locations.data_root / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(pickle.dumps({"data": Evil(locations.data_root / "ran"), "labels": []}))
    path = mini_svhn(locations.data_root) / "extra_32x32.mat"
    path.write_bytes(path.read_bytes()[:-1000])
    for dataset, name in (
        (MNIST_DATASET, "t10k-labels-idx1-ubyte"),
        (CIFAR10_DATASET, "data_batch_3"),
        (SVHN_DATASET, "extra_32x32.mat"),
    ):
        with pytest.raises(UserError, match=rf"{name} in .* is not the official file") as told:
            dataset.prepare(locations)
        assert "torchvision:NAME" in str(told.value)
        with pytest.raises(UserError, match="Leave --partial out"):
            dataset.prepare(locations, partial=True)
        no_cache(locations, dataset.name)
    assert not (locations.data_root / "ran").exists()


class Evil:
    """What a batch must never be: something that runs when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_truncated_cifar10_archive(locations: DataLocations, mini_cifar10: Write) -> None:
    path = mini_cifar10(locations.data_root)
    path.write_bytes(path.read_bytes()[:-200_000])
    with pytest.raises(UserError, match=r"cifar-10-python.tar.gz (cannot be read|lacks)|lacks"):
        CIFAR10_DATASET.prepare(locations)
    no_cache(locations, "cifar10")


def test_a_truncated_celeba_archive(
    tmp_path: Path, locations: DataLocations, celeba_folder: Path, kaggle: Write
) -> None:
    path = kaggle(celeba_folder, tmp_path / "archive.zip")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(UserError, match=r"archive.zip cannot be opened as a zip"):
        CELEBA_DATASET.prepare(locations, source=path, partial=True)


def test_an_unreadable_image_is_named(
    tmp_path: Path, locations: DataLocations, celeba_folder: Path
) -> None:
    copy = shutil.copytree(celeba_folder, tmp_path / "celeba")
    broken = copy / "img_align_celeba" / "000042.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(UserError, match=r"000042.jpg"):
        CELEBA_DATASET.prepare(locations, source=copy, partial=True)
    no_cache(locations, "celeba")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Bangs ", "", "expected 40 attributes, found 39"),
        (" 1", " 2", "is not 40 values of 1 or -1"),
        ("120\n", "121\n", "announces 121 images and has 120 rows"),
    ],
)
def test_a_wrong_attribute_file(old: str, new: str, complaint: str, celeba_folder: Path) -> None:
    content = (celeba_folder / "list_attr_celeba.txt").read_text().replace(old, new, 1)
    with pytest.raises(UserError, match=complaint):
        read_attributes(content.encode(), "list_attr_celeba.txt")


def test_labels_out_of_range_and_classes_without_an_image() -> None:
    with pytest.raises(UserError, match=r"must lie in 0 .. 1; found 2"):
        check_targets(np.array([0, 1, 2]), ("a", "b"), "here")
    with pytest.raises(UserError, match="found -1"):
        check_targets(np.array([0, 1, -1]), ("a", "b"), "here")
    with pytest.raises(UserError, match="Class 'b' has no image"):
        check_targets(np.array([0, 0]), ("a", "b"), "here")


def test_lsun_without_a_scene_or_with_a_cut_file(
    tmp_path: Path, locations: DataLocations, mini_lsun: Write
) -> None:
    mini_lsun(locations.data_root)
    database = locations.data_root / "tower_train_lmdb" / "data.mdb"
    whole = database.read_bytes()
    # Pages that are not there would end the process: LMDB reads its file through memory.
    for found in (b"not a database", whole[: len(whole) // 2], whole[:-1]):
        database.write_bytes(found)
        with pytest.raises(UserError, match=r"tower_train_lmdb cannot be read as an LMDB"):
            LSUN_DATASET.prepare(locations, partial=True)
    shutil.rmtree(locations.data_root / "tower_train_lmdb")
    with pytest.raises(UserError, match="missing: tower"):
        LSUN_DATASET.prepare(locations, partial=True)


def test_damage_within_an_lmdb_file_is_one_line(tmp_path: Path, mini_lsun: Write) -> None:
    folder = mini_lsun(tmp_path) / "tower_train_lmdb"
    (whole, anchors), database = lmdb_anchors(folder), folder / "data.mdb"
    assert whole == 34
    segment = LmdbSegment(folder, anchors, 0, whole)
    assert len(segment.read(0, 34)) == 34
    with pytest.raises(UserError, match="expected 5 images from number 30 on, found 4"):
        segment.read(30, 35)
    content = bytearray(database.read_bytes())
    page_size = lmdb_environment(folder).stat()["psize"]
    pages = range(2 * page_size, len(content), page_size)
    leaves = [at for at in pages if content[at + 10] & 2]  # flags: P_LEAF
    assert leaves
    for at in leaves:
        content[at + 10] ^= 2
    copy = tmp_path / "copy_train_lmdb"
    copy.mkdir()
    (copy / "data.mdb").write_bytes(content)
    with pytest.raises(UserError, match="copy_train_lmdb cannot be read as an LMDB") as told:
        lmdb_anchors(copy)
    assert "\n" not in str(told.value)


# ---------------------------------------------------------------------------------- users' folders


def test_bad_folders(tmp_path: Path, locations: DataLocations, class_folders: Write) -> None:
    def refuse(path: Path, complaint: str) -> None:
        with pytest.raises(UserError, match=complaint):
            resolve_task(f"folder:{path}").load(locations)

    refuse(tmp_path / "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "No images")
    one = class_folders(tmp_path / "one", {"only": 4})
    refuse(one, "one class only")
    hollow = class_folders(tmp_path / "hollow", {"a": 4, "b": 4})
    (hollow / "c").mkdir()
    refuse(hollow, "Class folder .*c has no image")
    uneven = class_folders(tmp_path / "uneven", {"a": 4, "b": 4}, splits=("train", "test"))
    shutil.rmtree(uneven / "test" / "b")
    refuse(uneven, "must have the same classes")
    half = class_folders(tmp_path / "half", {"a": 4, "b": 4}, splits=("train",))
    refuse(half, "train or a test folder but not both")
    mixed = class_folders(tmp_path / "mixed", {"a": 4, "b": 4})
    Image.new("L", (12, 12)).save(mixed / "a" / "gray.png")
    refuse(mixed, r"L \(a/gray.png\).*task.mode=rgb")
    broken = class_folders(tmp_path / "broken", {"a": 9, "b": 9})
    (broken / "b" / "001.png").write_bytes(b"no picture")
    refuse(broken, r"b/001.png \(cannot be read")
    few = class_folders(tmp_path / "few", {"a": 1, "b": 9})
    refuse(few, "too few to split off a test share")
    astray = class_folders(tmp_path / "astray", {"a": 9, "b": 9})
    Image.new("RGB", (12, 12)).save(astray / "astray.png")
    refuse(astray, "does not lie in a class folder|No images|one class")


def test_an_import_must_be_complete_and_of_the_right_size(
    tmp_path: Path, locations: DataLocations, class_folders: Write
) -> None:
    def refuse(path: Path, complaint: str, *, partial: bool) -> None:
        with pytest.raises(UserError, match=complaint):
            CIFAR10_DATASET.prepare(locations, source=path, as_images=True, partial=partial)

    classes = {"automobile": 3, "horse": 3}
    both = ("train", "test")
    few = class_folders(tmp_path / "few", classes, splits=both, size=(32, 32))
    refuse(few, "must have 5,000 train images; found 3", partial=False)
    small = class_folders(tmp_path / "small", classes, splits=both, size=(30, 32))
    refuse(small, r"expected 32x32 pixels, found 30x32", partial=True)
    gray = class_folders(tmp_path / "gray", classes, splits=both, size=(32, 32), mode="L")
    refuse(gray, "expected mode RGB, found L", partial=True)
    odd = class_folders(tmp_path / "odd", {"zebra": 3}, splits=both, size=(32, 32))
    refuse(odd, "no class 'zebra'", partial=True)
    no_cache(locations, "cifar10")


# ------------------------------------------------------------------------- conversion and bad luck

PICTURES = np.random.default_rng(1).integers(0, 256, (40, 1, 8, 8)).astype(np.uint8)


def plan(read: Callable[[int, int], np.ndarray] | None = None) -> Conversion:
    return Conversion(
        shape=(40, 1, 8, 8),
        read=read or (lambda start, stop: PICTURES[start:stop]),
        labels=np.arange(40) % 2,
        label_names=("a", "b"),
        splits={"pool": 30, "test": 10},
        origin={"made": "here"},
    )


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "CHUNK_BYTES", 64 * 4)  # four images per chunk


@pytest.mark.usefixtures("small_chunks")
def test_a_stopped_conversion_continues_after_its_last_whole_chunk(tmp_path: Path) -> None:
    path = tmp_path / "cache"

    def stops(start: int, stop: int) -> np.ndarray:
        if start >= 20:
            raise KeyboardInterrupt
        return PICTURES[start:stop]

    with pytest.raises(KeyboardInterrupt):
        obtain_cache(path, lambda: plan(stops))
    assert not path.exists()
    read: list[int] = []

    def counts(start: int, stop: int) -> np.ndarray:
        read.append(start)
        return PICTURES[start:stop]

    cache = obtain_cache(path, lambda: plan(counts))
    assert read == [20, 24, 28, 32, 36]
    np.testing.assert_array_equal(cache.images, PICTURES)
    assert cache.split("test") == slice(30, 40)
    cache.verify()
    assert cache.digest == obtain_cache(tmp_path / "other", plan).digest


@pytest.mark.usefixtures("small_chunks")
def test_what_another_plan_left_behind_is_not_continued(tmp_path: Path) -> None:
    path = tmp_path / "cache"

    def stops(start: int, stop: int) -> np.ndarray:
        if start >= 20:
            raise KeyboardInterrupt
        return np.zeros((stop - start, 1, 8, 8), np.uint8)

    other = replace(plan(stops), origin={"made": "elsewhere"})
    with pytest.raises(KeyboardInterrupt):
        obtain_cache(path, lambda: other)
    np.testing.assert_array_equal(obtain_cache(path, plan).images, PICTURES)


@pytest.mark.usefixtures("small_chunks")
def test_a_journal_cut_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "cache"

    def stops(start: int, stop: int) -> np.ndarray:
        if start >= 20:
            raise KeyboardInterrupt
        return PICTURES[start:stop]

    with pytest.raises(KeyboardInterrupt):
        obtain_cache(path, lambda: plan(stops))
    journal = tmp_path / "cache.partial" / conversion.JOURNAL
    journal.write_text(journal.read_text()[:-30])
    cache = obtain_cache(path, plan)
    np.testing.assert_array_equal(cache.images, PICTURES)
    cache.verify()


def test_a_cache_of_another_version_is_built_anew(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    obtain_cache(path, plan)
    meta = json.loads((path / META).read_text())
    (path / META).write_text(page({**meta["facts"], "version": VERSION + 1}))
    with pytest.raises(CacheMissingError):
        ImageCache.open(path)
    assert obtain_cache(path, plan).meta["version"] == VERSION


def test_a_damaged_cache_is_named_and_never_used(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = obtain_cache(path, plan)
    content = bytearray((path / "images.npy").read_bytes())
    content[-5] ^= 1
    (path / "images.npy").write_bytes(bytes(content))
    with pytest.raises(UserError, match="images 0 to 39 differ from their digest"):
        ImageCache.open(path)
    (path / "images.npy").write_bytes(bytes(content[:-100]))
    with pytest.raises(UserError, match="is damaged"):
        ImageCache.open(path)
    (path / META).write_text("{")

    def gone() -> Conversion:
        raise UserError("The originals are gone.")

    with pytest.raises(UserError, match=r"meta.json.*The originals are gone") as caught:
        obtain_cache(path, gone)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(obtain_cache(path, plan).images, PICTURES)
    del cache


def test_a_rebuild_keeps_the_old_cache_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    obtain_cache(path, plan)

    def fails(start: int, stop: int) -> np.ndarray:
        raise UserError("bad originals")

    with pytest.raises(UserError, match="bad originals"):
        obtain_cache(path, lambda: plan(fails), accept=lambda cache: False)
    ImageCache.open(path).verify()


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "no space left"), (errno.EACCES, "not allowed"), (errno.EROFS, "not allowed")],
)
def test_errors_of_the_file_system_say_what_to_do(number: int, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught, writing(Path("cache")):
        raise OSError(number, os.strerror(number))
    assert "ALHARNESS_CACHE" in str(caught.value)


def test_a_place_that_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="ALHARNESS_CACHE"):
        obtain_cache(tmp_path / "file" / "cache", plan)


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        # -B: where files may not grow, Python would keep compiled modules that were cut.
        [sys.executable, "-B", "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_disk_that_is_full_leaves_no_cache(tmp_path: Path) -> None:
    # A limit on the size of files is the kernel's own refusal, as a full disk is.
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from alharness.errors import UserError
from alharness.tasks.originals.conversion import Conversion, obtain_cache
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
zeros = np.zeros((100, 1, 64, 64), np.uint8)
plan = Conversion(zeros.shape, lambda a, b: zeros[a:b], np.zeros(100, np.int64), ("a",), {"pool": 100}, {})
try:
    obtain_cache(Path(sys.argv[1]), lambda: plan)
except UserError as error:
    print(error)
"""
    result = run_python(code, str(tmp_path / "cache"))
    assert "no space left" in result.stdout, result.stderr
    with pytest.raises(CacheMissingError):
        ImageCache.open(tmp_path / "cache")


def test_two_processes_prepare_one_cache(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
import numpy as np
from alharness.tasks.originals.conversion import Conversion, obtain_cache
root = Path(sys.argv[1])
def plan():
    with open(root / "plans", "a") as file:
        file.write("x")
    time.sleep(1.0)
    zeros = np.zeros((50, 1, 8, 8), np.uint8)
    return Conversion(zeros.shape, lambda a, b: zeros[a:b], np.zeros(50, np.int64), ("a",), {"pool": 50}, {})
print(obtain_cache(root / "cache", plan).digest)
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate(timeout=120)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(digests) == 1
    assert (tmp_path / "plans").read_text() == "x"


def test_killed_in_the_middle_and_started_again(tmp_path: Path) -> None:
    """kill -9 on a conversion in worker processes: they end too, and the rest is done later."""
    code = """
import sys
from pathlib import Path
import numpy as np
from alharness.tasks.originals import conversion
from alharness.tasks.drawn_faces import FacesReader
if __name__ == "__main__":
    conversion.CHUNK_BYTES = 12288 * 50
    conversion.PARALLEL_FROM = 0
    def show(stage, done, total, notes=None):
        print(stage, done, flush=True)
    plan = conversion.Conversion(
        (600, 3, 64, 64), FacesReader(600), np.arange(600) % 2, ("a", "b"), {"pool": 600}, {},
        parallel=True,
    )
    cache = conversion.obtain_cache(Path(sys.argv[1]) / "faces", lambda: plan, show)
    print("digest", cache.digest, flush=True)
"""
    script = tmp_path / "convert.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("convert") and int(line.split()[-1]) >= 100:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cache = tmp_path / "faces"
    assert not cache.exists()
    journal = tmp_path / "faces.partial" / conversion.JOURNAL
    n_done = len(journal.read_text().splitlines()) - 1
    assert n_done >= 2
    deadline = time.monotonic() + 20
    while _group_lives(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group_lives(process.pid), "workers outlived their killed parent"
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    first = int(result.stdout.splitlines()[0].split()[-1])
    assert first >= 50 * n_done
    ImageCache.open(cache).verify()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
