"""What a stopped training needs to go on: states of networks and optimisers as named tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from alharness.artefacts import read_notes, read_tensors, write_tensors
from alharness.errors import UserError

#: The one file of a stopped training, beside what will be the artefact.
CHECKPOINT = "checkpoint.safetensors"


#: The note that holds the digest of everything else; files from before there were any have none.
DIGEST = "digest"


def write_checkpoint(
    path: Path, tensors: Mapping[str, torch.Tensor], notes: Mapping[str, Any]
) -> None:
    """Write tensors and plain values into one file, beside and renamed, with a digest of all of it."""
    told = {key: json.dumps(value) for key, value in notes.items()}
    write_tensors(path, tensors, {**told, DIGEST: _digest(tensors, told)})


@contextmanager
def restored_from(path: Path) -> Iterator[tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    """Tensors and values that ``write_checkpoint`` wrote, to be put back inside the ``with`` block.

    Raises:
        UserError: the file is not what was written, or does not fit where it is put.
    """
    try:
        tensors, told = read_tensors(path), read_notes(path)
        # safetensors checks its header, not its tensors: a turned bit of a weight would go on unseen.
        digest = told.pop(DIGEST, None)
        if digest is not None and digest != _digest(tensors, told):
            raise ValueError("it does not agree with its digest")
        yield tensors, {key: json.loads(value) for key, value in told.items()}
    except UserError:
        raise
    except Exception as error:  # a file from before there were digests fails in many ways
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The checkpoint '{path}' is damaged ({first}). Remove it: the training starts over."
        ) from error


def _digest(tensors: Mapping[str, torch.Tensor], notes: Mapping[str, str]) -> str:
    sha = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        sha.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        sha.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def optimiser_tensors(name: str, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Moments and step counts as ``NAME/PARAMETER/FIELD``."""
    return {
        f"{name}/{index}/{key}": value
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
    }


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put back what ``optimiser_tensors`` gave, by ``PARAMETER/FIELD``.

    A file holds every tensor row by row; a moment takes the memory format of its weight again (on CUDA
    convolutions are channels last), because a fused step wants all of a parameter's tensors alike.
    """
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, field = key.partition("/")
        state.setdefault(int(index), {})[field] = value
    # Step sizes and betas come from the recipe, which the checkpoint was compared with.
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    for group in optimiser.param_groups:
        for weight in group["params"]:
            held = optimiser.state[weight]
            for field, value in held.items():
                if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                    held[field] = torch.empty_like(weight, requires_grad=False).copy_(value)


def below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with ``PREFIX/``, by the rest of their names."""
    start = prefix + "/"
    return {
        key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)
    }
