"""CelebA's tables: those originals that are read without a digest of theirs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from alharness.tasks.celeba import read_attributes, read_partition
from readers.base import Reader, reader


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
