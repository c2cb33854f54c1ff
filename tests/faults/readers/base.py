"""How a reader of text or bytes is told of: a good input, and what reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

RNG = np.random.default_rng(0)
RUN = {"task": "digits-two", "strategy": "random", "device": "cpu"}
SMALL = {**RUN, "budget": 20, "query_size": 10, "initial_size": 10}

#: A good input, and what reads it.
Reader = tuple[bytes, Callable[[bytes], object]]
READERS: dict[str, Callable[[Path], Reader]] = {}


def reader(make: Callable[[Path], Reader]) -> Callable[[Path], Reader]:
    READERS[make.__name__] = make
    return make


def from_file(path: Path, read: Callable[[Path], object], whole: bytes) -> Reader:
    """Of a file with that content."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def go(content: bytes) -> object:
        path.write_bytes(content)
        return read(path)

    return whole, go


def from_text(read: Callable[[str], object], whole: str) -> Reader:
    """Of an argument of the command line, which a shell never hands on with a NUL in it."""
    return whole.encode(), lambda content: read(os.fsdecode(content.replace(b"\0", b"")))
