"""What a stopped training needs to go on: states of networks and optimisers as named tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch

#: The one file of a stopped training, beside what will be the artefact.
CHECKPOINT = "checkpoint.safetensors"


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
