"""A model of anybody's as a function from images to rows: ``package.module:name`` or ``./file.py:name``.

The name may be a ``torch.nn.Module``, a function of images, or something that is called without arguments
(a function, a class) and gives one of these.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from alharness.errors import UserError, blamed
from alharness.lazily import nn, torch
from alharness.lazily import numpy as np
from alharness.plugins import MODELS, describe, load

#: What a name should be, for messages.
EXPECTED = "a torch.nn.Module, a function of images, or a function without arguments that gives one"


def load_embedder(name: str, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The model behind a name: float32 images ``[B, C, H, W]`` in [0, 1] to float32 rows ``[B, D]``.

    A module is put into evaluation mode; nothing is trained and no gradient kept. Scaling and resizing
    are the model's business.

    Args:
        name: ``package.module:name`` or ``./file.py:name``.
        device: where images arrive; a module is moved there.

    Raises:
        UserError: there is no such thing, or it is no model.
        PluginError: it raises, or what it gives for images is no row for each.
    """
    model = load("model", MODELS, name)
    with blamed(f"model '{name}'", "a model when it is called without arguments"):
        if not isinstance(model, nn.Module) and _needs_nothing(model):
            model = model()
    if not callable(model):
        raise UserError(f"'{name}' is {describe(model)}; expected {EXPECTED}.")
    if isinstance(model, nn.Module):
        # Batch statistics and dropout would make a row hang on its neighbours, or on chance.
        model = model.to(device).eval().requires_grad_(False)

    def embed(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), blamed(f"model '{name}'", "a row of numbers for each image"):
            return _as_rows(model(images), len(images))

    return embed


def _needs_nothing(model: Any) -> bool:
    """Whether it is made to be called without arguments."""
    if not callable(model):
        return False
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):  # built in: nothing is known of it
        return False
    return all(
        one.default is not one.empty or one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        for one in parameters
    )


def _as_rows(found: Any, n: int) -> torch.Tensor:
    if isinstance(found, np.ndarray):
        found = torch.from_numpy(found)
    if not isinstance(found, torch.Tensor):
        raise TypeError(f"a {type(found).__name__}")
    if found.ndim < 2 or len(found) != n or found.numel() == 0:
        raise ValueError(f"shape {tuple(found.shape)} for {n} images")
    rows = found.detach().flatten(1).float()
    if not bool(rows.isfinite().all()):
        raise ValueError("values that are not finite")
    return rows
