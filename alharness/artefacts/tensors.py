"""Tensors in files: safetensors, written beside and renamed. Nothing is ever unpickled."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alharness.errors import UserError
from alharness.files import beside

if TYPE_CHECKING:
    import torch


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, beside and renamed; ``notes`` go into the file's header."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with beside(path) as partial:
        try:
            save_file(held, partial, metadata=dict(notes or {}))
        except SafetensorError as error:
            # Its library tells what the system refused (a full disk) in words alone.
            if code := re.search(r"\(os error (\d+)\)", str(error)):
                raise OSError(int(code[1]), os.strerror(int(code[1]))) from error
            raise


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        UserError: not a safetensors file.
    """
    from safetensors.torch import load_file

    with _understood(path):
        tensors: dict[str, torch.Tensor] = load_file(path)
    return tensors


def read_notes(path: Path) -> dict[str, str]:
    """The notes in the header of a safetensors file.

    Raises:
        UserError: not a safetensors file.
    """
    from safetensors import safe_open

    with _understood(path), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        told = " ".join(str(error).split())
        raise UserError(f"'{path}' is not a whole safetensors file: {told}.") from error
