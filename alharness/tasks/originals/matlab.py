"""Arrays out of MATLAB 5 files, as SVHN ships them.

A reader of our own, because scipy's believes what a damaged file says and may take the interpreter
down with it. Format: "MAT-File Format", The MathWorks: a head of 128 bytes, then elements of a type, a
length and content; matrices hold flags, dimensions, a name and values, and may be packed by zlib.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEAD = 128
MATRIX, PACKED = 14, 15
COMPLEX = 0x0800
#: Types of values by their number in the format.
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


class NewerMatlabError(ValueError):
    """A file of MATLAB 7.3, which is HDF5."""


def read_arrays(path: Path, max_bytes: int) -> dict[str, NDArray[Any]]:
    """All numeric arrays of a file by name, first axis fastest.

    Args:
        path: the file.
        max_bytes: no array may be larger; its size is known before it is unpacked.

    Raises:
        NewerMatlabError: not of this version.
        ValueError: not such a file, damaged, or too large; in words.
        zlib.error: a damaged packed array.
    """
    if path.stat().st_size < HEAD:
        raise ValueError("it is too short")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if order is None:
            raise ValueError("it does not start as one")
        version = struct.unpack(f"{order}H", content[124:126])[0]
        if version == 0x0200:
            raise NewerMatlabError
        arrays = {}
        at = HEAD
        while at + 8 <= len(content):
            kind, n = struct.unpack(f"{order}II", content[at : at + 8])
            if at + 8 + n > len(content):
                raise ValueError("it ends too early")
            if kind == PACKED:
                body = _unpacked(content, at + 8, n, max_bytes, order)
            elif kind == MATRIX:
                body = content[at + 8 : at + 8 + n]
            else:
                raise ValueError(f"an element of type {kind}")
            name, array = _matrix(body, order)
            arrays[name] = array
            at += 8 + n
    return arrays


def _unpacked(content: mmap.mmap, start: int, n: int, max_bytes: int, order: str) -> bytes:
    """The matrix in a packed element: its own head tells its size, and it must keep to it."""
    stream = zlib.decompressobj()
    packed = content[start : start + n]
    head = stream.decompress(packed, 8)
    if len(head) < 8:
        raise ValueError("a packed array ends too early")
    kind, size = struct.unpack(f"{order}II", head)
    if kind != MATRIX or size > max_bytes:
        raise ValueError(f"a packed element of type {kind} and {size:,} bytes")
    body = stream.decompress(stream.unconsumed_tail, size) if size else b""
    # The sum at the end of the stream is checked when the end is met.
    rest = stream.decompress(stream.unconsumed_tail, 1) if not stream.eof else b""
    if len(body) != size or rest or not stream.eof:
        raise ValueError("a packed array is not as large as it says")
    return body


def _matrix(body: bytes, order: str) -> tuple[str, NDArray[Any]]:
    elements = _elements(body, order)
    try:
        _, flags = next(elements)
        _, dimensions = next(elements)
        _, name = next(elements)
        kind, values = next(elements)
    except StopIteration:
        raise ValueError("an array without values") from None
    if len(flags) != 8 or struct.unpack(f"{order}I", flags[:4])[0] & COMPLEX:
        raise ValueError("an array that is not of plain numbers")
    shape = np.frombuffer(dimensions, f"{order}i4").tolist()
    if kind not in TYPES or not shape or min(shape) < 0:
        raise ValueError(f"an array of type {kind} and shape {shape}")
    array = np.frombuffer(values, order + TYPES[kind])
    return bytes(name).decode("ascii", "replace"), array.reshape(shape, order="F")


def _elements(body: bytes, order: str) -> Iterator[tuple[int, memoryview]]:
    view = memoryview(body)
    at = 0
    while at + 8 <= len(view):
        kind, n = struct.unpack(f"{order}II", view[at : at + 8])
        if kind >> 16:  # four bytes at most stand in the head itself
            kind, n, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
            if n > 4:
                raise ValueError("a short element that is none")
        else:
            start, step = at + 8, 8 + -(-n // 8) * 8
        if start + n > len(view):
            raise ValueError("an element ends too early")
        yield kind, view[start : start + n]
        at += step
