"""Originals as the world ships them: too large, packed oddly, doubled, or meant for something else."""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations
from alharness.tasks.celeba import CELEBA_DATASET, read_attributes, read_partition
from alharness.tasks.cifar10 import CIFAR10_DATASET, read_batch
from alharness.tasks.lsun import LSUN_DATASET
from alharness.tasks.mnist import read_idx
from alharness.tasks.originals import lmdb_folders, tree
from alharness.tasks.originals.matlab import read_arrays
from alharness.tasks.svhn import SVHN_DATASET, read_mat

Write = Callable[..., Path]


def with_images_in_the_wild(folder: Path, path: Path) -> Path:
    """CelebA in one archive, and beside the aligned images those of the same names that are not."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
        for file in sorted((folder / "img_align_celeba").iterdir()):
            buffer = io.BytesIO()
            with Image.open(file) as image:
                ImageOps.invert(image).save(buffer, "JPEG")
            archive.writestr(f"img_celeba/{file.name}", buffer.getvalue())
    return path


def test_the_aligned_images_are_taken_from_an_archive_that_holds_both(
    tmp_path: Path, celeba_folder: Path
) -> None:
    archive = with_images_in_the_wild(celeba_folder, tmp_path / "archive.zip")
    digests = {
        CELEBA_DATASET.prepare(
            DataLocations(tmp_path, tmp_path / f"cache{number}"), source=source, partial=True
        ).digest
        for number, source in enumerate((celeba_folder, archive))
    }
    assert len(digests) == 1


def test_two_images_or_tables_of_one_name_are_refused(
    tmp_path: Path, locations: DataLocations, celeba_folder: Path
) -> None:
    copy = shutil.copytree(celeba_folder, tmp_path / "celeba")
    inner = copy / "img_align_celeba"
    (inner / "old").mkdir()
    shutil.copy(inner / "000003.jpg", inner / "old" / "000003.jpg")
    with pytest.raises(UserError, match=r"000003.jpg lies there more than once .*old/000003.jpg"):
        CELEBA_DATASET.prepare(locations, source=copy, partial=True)
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for place in ("one", "other"):
            file.write(copy / "list_attr_celeba.txt", f"{place}/list_attr_celeba.txt")
    with pytest.raises(UserError, match="list_attr_celeba lies there more than once"):
        CELEBA_DATASET.prepare(locations, source=archive, partial=True)


def test_archives_are_not_read_without_end(
    tmp_path: Path,
    locations: DataLocations,
    mini_cifar10: Write,
    mini_lsun: Write,
    celeba_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mini_cifar10(locations.data_root)
    mini_lsun(tmp_path / "scenes")
    table = zipfile.ZipFile(tmp_path / "celeba.zip", "w", zipfile.ZIP_DEFLATED)
    with table:
        table.writestr("list_attr_celeba.txt", " " * 5_000_000)
        table.writestr("list_eval_partition.txt", "")
    monkeypatch.setattr(tree, "MAX_FILE_BYTES", 2_000)
    monkeypatch.setattr(lmdb_folders, "MAX_FILE_BYTES", 20)
    with pytest.raises(UserError, match=r"cifar-10-python.tar.gz.*at most 2,000 are read"):
        CIFAR10_DATASET.prepare(locations, partial=True)
    with pytest.raises(UserError, match=r"list_attr_celeba.txt.*5,000,000 bytes; at most 2,000"):
        CELEBA_DATASET.prepare(locations, source=tmp_path / "celeba.zip", partial=True)
    with pytest.raises(UserError, match=r"Unusable images in .*bedroom_train_lmdb"):
        LSUN_DATASET.prepare(locations, source=tmp_path / "scenes", partial=True)


@pytest.mark.parametrize("position", [0.01, 0.3, 0.6, 0.95])
def test_a_damaged_packed_archive_is_one_line(
    position: float, locations: DataLocations, mini_cifar10: Write
) -> None:
    path = mini_cifar10(locations.data_root)
    content = bytearray(path.read_bytes())
    at = int(position * len(content))
    content[at : at + 400] = bytes(400)
    path.write_bytes(bytes(content))
    with pytest.raises(UserError) as caught:
        CIFAR10_DATASET.prepare(locations, partial=True)
    assert "\n" not in str(caught.value)


def test_an_archive_with_two_batches_of_one_name(
    locations: DataLocations, mini_cifar10: Write
) -> None:
    path = mini_cifar10(locations.data_root)
    with tarfile.open(path) as archive:
        contents = [(m, archive.extractfile(m).read()) for m in archive]  # type: ignore[union-attr]
    with tarfile.open(path, "w:gz") as archive:
        for member, content in [*contents, contents[0]]:
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match="two files data_batch_1"):
        CIFAR10_DATASET.prepare(locations, partial=True)


@pytest.mark.parametrize(
    "name", ["evil.multiarray _reconstruct", "numpy.evil ndarray", "evil.numpy dtype", "os system"]
)
def test_a_batch_may_ask_for_exact_names_only(name: str) -> None:
    module, attribute = name.split()
    content = f"c{module}\n{attribute}\n.".encode()
    with pytest.raises(UserError, match=rf"it asks for {module}\.{attribute}"):
        read_batch(content, "data_batch_1")
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
    assert read_batch(pickle.dumps(batch, protocol=2), "here")[0].shape == (2, 3, 32, 32)


@pytest.mark.parametrize("packed", [True, False])
def test_matlab_files_are_read_as_scipy_reads_them(packed: bool, tmp_path: Path) -> None:
    from scipy.io import loadmat, savemat

    arrays = {
        "X": np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5)).astype(np.uint8),
        "y": np.arange(5)[:, None],
        "f": np.ones((2, 3)) / 7,
        "b": np.array([[3]], np.uint8),
    }
    savemat(tmp_path / "some.mat", arrays, do_compression=packed)
    found, expected = read_arrays(tmp_path / "some.mat", 1 << 20), loadmat(tmp_path / "some.mat")
    assert set(found) == set(arrays)
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_svhn_files_of_another_kind(tmp_path: Path, mini_svhn: Write) -> None:
    from scipy.io import savemat

    path = tmp_path / "extra_32x32.mat"
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    path.write_bytes(head + bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(2000))
    with pytest.raises(UserError, match=r"MATLAB 7.3; SVHN's own are of MATLAB 5") as caught:
        read_mat(path)
    assert "truncated" not in str(caught.value)
    # A packed file tells its size in its head: nothing of it is unpacked.
    savemat(path, {"X": np.zeros((32, 32, 3, 9), np.uint8), "y": np.ones(8)}, do_compression=True)
    with pytest.raises(UserError, match=r"X is uint8 \(32, 32, 3, 9\) for 8 labels"):
        read_mat(path)
    with pytest.raises(ValueError, match=r"a packed element of type 14 and 27,704 bytes"):
        read_arrays(path, 20_000)
    mini_svhn(tmp_path)
    assert read_mat(path)[0].shape == (90, 3, 32, 32)
    cache = SVHN_DATASET.prepare(DataLocations(tmp_path, tmp_path / "cache"), partial=True)
    assert "official" not in cache.meta["notes"]["source"]
    assert "not the official train_32x32.mat" in cache.meta["notes"]["partial"]


# ---------------------------------------------------------------------------- damage of every kind


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, flipped, overwritten or lengthened."""
    changed = bytearray(content)
    at = int(rng.integers(len(changed)))
    match int(rng.integers(5)):
        case 0:
            del changed[at:]
        case 1:
            changed[at] ^= 1 << int(rng.integers(8))
        case 2:
            changed[at : at + int(rng.integers(300))] = rng.bytes(int(rng.integers(300)))
        case 3:  # heads are where readers believe most
            changed[at % 200 % len(changed)] = int(rng.integers(256))
        case _:
            changed += rng.bytes(50)
    return bytes(changed)


def _packed_digits(path: Path) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        path.write_bytes(content)
        return read_idx(path, None)

    return read


def _matlab(path: Path) -> Callable[[bytes], object]:
    def read(content: bytes) -> object:
        path.write_bytes(content)
        return read_mat(path)

    return read


def _folder(path: Path) -> Callable[[bytes], object]:
    task = resolve_task(f"folder:{path}", mode="rgb")
    locations = DataLocations(path.parent, path.parent / "cache")

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return task.load(locations)

    return read


@pytest.mark.timeout(1800)  # for the campaign
@pytest.mark.parametrize("times", [40, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["idx", "mat", "batch", "attributes", "partition", "folder"])
def test_damage_is_a_line_or_harmless(
    kind: str,
    times: int,
    tmp_path: Path,
    celeba_folder: Path,
    mini_svhn: Write,
    mini_mnist: Write,
    class_folders: Write,
    python2_pickle: Callable[[object], bytes],
) -> None:
    (tmp_path / "whole").mkdir()
    if kind == "idx":
        whole = (mini_mnist(tmp_path / "whole") / "t10k-images-idx3-ubyte.gz").read_bytes()
        read = _packed_digits(tmp_path / "digits.gz")
    elif kind == "mat":
        whole = (mini_svhn(tmp_path / "whole") / "test_32x32.mat").read_bytes()
        read = _matlab(tmp_path / "digits.mat")
    elif kind == "batch":
        whole = python2_pickle({"labels": [0, 1], "data": np.zeros((2, 3072), np.uint8)})
        read = partial(read_batch, where="batch")
    elif kind == "folder":
        root = class_folders(tmp_path / "whole", {"a": 2, "b": 2}, splits=("train", "test"))
        whole = Path(shutil.make_archive(str(tmp_path / "mine"), "zip", root)).read_bytes()
        read = _folder(tmp_path / "damaged.zip")
    elif kind == "attributes":
        whole = (celeba_folder / "list_attr_celeba.txt").read_bytes()
        read = partial(read_attributes, where="table")
    else:
        whole = (celeba_folder / "list_eval_partition.txt").read_bytes()
        read = partial(read_partition, where="table")
    read(whole)
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(times):
        try:
            read(damaged(whole, rng))
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
    assert refused > times / 10
