"""What the trainings of a generator and of an auto-encoder share: chunks, a curve, divergence, stop and
continue.

Everything random in a step follows from the recipe's seed and the step's number: no state of a random
number generator is carried, and a continued training equals an uninterrupted one, on the CPU bit for bit.
"""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from alharness import numerics
from alharness.errors import UserError
from alharness.generative.checkpoint import (
    CHECKPOINT,
    below,
    optimiser_tensors,
    restore_optimiser,
    restored_from,
    write_checkpoint,
)
from alharness.generative.settings import AutoencoderRecipe, GeneratorRecipe, recipe_values
from alharness.pool import Pool
from alharness.progress import Progress

CURVE_FILE = "curve.json"
#: Raw images of one transfer, in bytes: bounds what is held, not what is drawn.
CHUNK_BYTES = 1 << 26

R = TypeVar("R", GeneratorRecipe, AutoencoderRecipe)


class Training(ABC, Generic[R]):
    """Networks, optimisers and progress of one training.

    Attributes:
        name: what is trained, in messages.
        section: its settings, and the purpose of its random numbers.
        columns: what a chunk measures; behind ``step`` the columns of the curve.
        step: steps done.
        curve: one row per chunk.
        warnings: what looked wrong, in words, for the artefact's details.
    """

    name: ClassVar[str]
    section: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    def __init__(self, pool: Pool, recipe: R) -> None:
        self.pool = pool
        self.recipe: R = recipe
        self.step = 0
        self.curve: list[list[float]] = []
        self.warnings: list[str] = []

    @property
    def device(self) -> torch.device:
        return self.pool.device

    @abstractmethod
    def parts(self) -> Mapping[str, nn.Module | Optimizer]:
        """All that a continuation needs, by its name in the checkpoint."""

    @abstractmethod
    def chunk_steps(self) -> int:
        """Steps between two looks at the figures."""

    @abstractmethod
    def descend(self, n_steps: int) -> list[float]:
        """The next steps; their figures, in the order of ``columns``."""

    def watch(self, row: list[float]) -> None:
        """Add to ``warnings`` when finite figures look wrong; does nothing by default."""

    def run_chunk(self) -> dict[str, float]:
        """Some steps; returns their figures.

        Raises:
            UserError: a figure is not finite: the training has diverged.
        """
        n_steps = min(self.chunk_steps(), self.recipe.steps - self.step)
        row: list[float] = self.descend(n_steps)
        self.step += n_steps
        if not all(map(math.isfinite, row)):
            raise UserError(
                f"The {self.name}'s training diverged before step {self.step} of {self.recipe.steps} "
                f"(recipe '{self.recipe.recipe}', step size {self.recipe.lr}): a loss is not finite. "
                f"Lower {self.section}.lr, or try another {self.section}.seed."
            )
        self.watch(row)
        self.curve.append([float(self.step), *row])
        return dict(zip(self.columns, row, strict=True))

    def autocast(self) -> AbstractContextManager[Any]:
        """Forward passes in bfloat16, where the recipe wants it and there is CUDA."""
        if self.recipe.precision == "bf16" and self.device.type == "cuda":
            # A cached cast would outlive the step that a graph captures.
            return torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False)
        return nullcontext()

    def save(self, path: Path) -> None:
        """Write all that a continuation needs into one file, beside and renamed."""
        tensors: dict[str, torch.Tensor] = {}
        for name, part in self.parts().items():
            if isinstance(part, Optimizer):
                tensors |= optimiser_tensors(name, part)
            else:
                tensors |= {f"{name}/{key}": value for key, value in part.state_dict().items()}
        notes = {
            "step": self.step,
            "recipe": recipe_values(self.recipe),
            "curve": self.curve,
            "warnings": self.warnings,
        }
        write_checkpoint(path, tensors, notes)

    def restore(self, path: Path) -> None:
        """Continue from ``save``.

        Raises:
            UserError: the checkpoint is damaged or belongs to another recipe.
        """
        with restored_from(path) as (tensors, notes):
            if notes.get("recipe") != recipe_values(self.recipe):
                raise UserError(f"The checkpoint '{path}' belongs to another recipe. Remove it.")
            for name, part in self.parts().items():
                if isinstance(part, Optimizer):
                    restore_optimiser(part, below(tensors, name))
                else:
                    part.load_state_dict(below(tensors, name))
            self.step, self.curve = int(notes["step"]), notes["curve"]
            self.warnings = notes.get("warnings", [])  # an auto-encoder of 0.2.0 wrote none

    def write_curve(self, folder: Path) -> None:
        """The curve as a file of the artefact."""
        curve = {"columns": ["step", *self.columns], "rows": self.curve}
        (folder / CURVE_FILE).write_text(json.dumps(curve) + "\n", encoding="utf-8")


T = TypeVar("T", bound=Training[Any])


def train(
    training: T,
    folder: Path,
    progress: Progress,
    *,
    checkpoint_s: float = 60.0,
    at_checkpoint: Callable[[], object] = lambda: None,
) -> T:
    """Train to the recipe's last step, continuing from a checkpoint that lies in ``folder``.

    Args:
        training: fresh.
        checkpoint_s: seconds between checkpoints; who takes the artefact over removes the last one.
        at_checkpoint: called after each (a picture of what has been learned).

    Raises:
        UserError: the training diverged, or the checkpoint is damaged.
    """
    recipe, checkpoint = training.recipe, folder / CHECKPOINT
    if checkpoint.exists():
        training.restore(checkpoint)
    with numerics.training(recipe.precision):
        written = time.monotonic()
        while training.step < recipe.steps:
            before, start = training.step, time.monotonic()
            figures = training.run_chunk()
            figures["s_per_step"] = (time.monotonic() - start) / (training.step - before)
            if training.warnings:
                figures["diverging"] = 1.0
            progress(f"train {training.name}", training.step, recipe.steps, figures)
            if time.monotonic() - written > checkpoint_s:
                training.save(checkpoint)
                at_checkpoint()
                written = time.monotonic()
    return training
