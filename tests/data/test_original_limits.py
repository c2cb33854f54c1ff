"""Originals as the world ships them: too large, packed oddly, doubled, or meant for something else."""

from __future__ import annotations

import io
import shutil
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
from alharness.tasks.cifar10 import CIFAR10_DATASET
from alharness.tasks.lsun import LSUN_DATASET
from alharness.tasks.originals import lmdb_folders, tree

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
        CIFAR10_DATASET.prepare(locations)
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
        CIFAR10_DATASET.prepare(locations)
    assert "\n" not in str(caught.value)


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


def _folder(path: Path) -> Callable[[bytes], object]:
    task = resolve_task(f"folder:{path}", mode="rgb")
    locations = DataLocations(path.parent, path.parent / "cache")

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return task.load(locations)

    return read


@pytest.mark.timeout(1800)  # for the campaign
@pytest.mark.parametrize("times", [40, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["attributes", "partition", "folder"])
def test_damage_is_a_line_or_harmless(
    kind: str,
    times: int,
    tmp_path: Path,
    celeba_folder: Path,
    class_folders: Write,
) -> None:
    (tmp_path / "whole").mkdir()
    if kind == "folder":
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
