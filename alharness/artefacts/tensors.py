"""Tensors in files: safetensors, written beside and renamed. Nothing is ever unpickled."""

from __future__ import annotations

from collections.abc import Mapping
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
    from safetensors.torch import save_file

    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with beside(path) as partial:
        save_file(held, partial, metadata=dict(notes or {}))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        UserError: not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except SafetensorError as error:
        raise UserError(f"'{path}' is not a whole safetensors file: {error}.") from error
    return tensors


def read_notes(path: Path) -> dict[str, str]:
    """The notes in the header of a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})
