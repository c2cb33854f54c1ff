"""A user's data: tables, arrays, images in folders and archives."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
from PIL import Image

from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations
from readers.base import RNG, Reader, from_file, reader


def _loaded(name: str, folder: Path, **parameters: object) -> Callable[[Path], object]:
    def load(path: Path) -> object:
        task = resolve_task(f"{name}:{path}", **parameters)
        task.defaults("quick")
        return task.load(DataLocations(folder, folder / "cache"))

    return load


def _frame() -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "a": np.arange(12) / 7,
            "b": ["x", "y z", "ü"] * 4,
            "c": [True, False] * 6,
            "target": ["n", "m"] * 6,
        }
    )


@reader
def csv_table(folder: Path) -> Reader:
    whole = _frame().to_csv(index=False).encode()
    return from_file(folder / "t.csv", _loaded("table", folder), whole)


@reader
def tsv_table(folder: Path) -> Reader:
    whole = _frame().to_csv(index=False, sep="\t").encode()
    return from_file(folder / "t.tsv", _loaded("table", folder), whole)


@reader
def parquet_table(folder: Path) -> Reader:
    buffer = io.BytesIO()
    _frame().to_parquet(buffer)
    return from_file(folder / "t.parquet", _loaded("table", folder), buffer.getvalue())


@reader
def npz_arrays(folder: Path) -> Reader:
    buffer = io.BytesIO()
    x = RNG.integers(0, 256, (12, 4, 4)).astype(np.uint8)
    np.savez(buffer, x=x, y=np.arange(12) % 2, class_names=np.array(["a", "b"]))
    return from_file(folder / "t.npz", _loaded("npz", folder), buffer.getvalue())


@reader
def packed_npz_rows(folder: Path) -> Reader:
    buffer = io.BytesIO()
    x, y = RNG.normal(size=(8, 3)), np.array(["a", "b"] * 4)
    np.savez_compressed(buffer, x_pool=x, y_pool=y, x_test=x, y_test=y)
    return from_file(folder / "t.npz", _loaded("npz", folder), buffer.getvalue())


def picture(kind: str, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    channels = {"RGB": (9, 9, 3), "L": (9, 9), "I;16": (9, 9)}[mode]
    pixels = RNG.integers(0, 256, channels).astype(np.uint16 if mode == "I;16" else np.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def image_folder(folder: Path, suffix: str, content: bytes) -> Reader:
    """One image of a folder; the others are whole, of the same kind."""
    root = folder / "images"
    for split in ("train", "test"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            (root / split / name / f"0.{suffix}").write_bytes(content)
    load = _loaded("folder", folder)
    return from_file(root / "train" / "a" / f"0.{suffix}", lambda path: load(root), content)


for _kind, _suffix, _mode in (
    ("PNG", "png", "RGB"),
    ("PNG", "png", "I;16"),
    ("JPEG", "jpg", "RGB"),
    ("GIF", "gif", "L"),
    ("TIFF", "tiff", "RGB"),
    ("BMP", "bmp", "RGB"),
    ("WEBP", "webp", "RGB"),
    ("PPM", "ppm", "RGB"),
):

    def _images(
        folder: Path, kind: str = _kind, suffix: str = _suffix, mode: str = _mode
    ) -> Reader:
        return image_folder(folder, suffix, picture(kind, mode))

    _images.__name__ = f"{_suffix}_images_{_mode.lower().replace(';', '')}"
    reader(_images)


@reader
def zipped_folder(folder: Path) -> Reader:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for split in ("train", "test"):
            for name in ("a", "b"):
                archive.writestr(f"{split}/{name}/0.png", picture("PNG"))
    return from_file(folder / "images.zip", _loaded("folder", folder), buffer.getvalue())
