"""What generators and auto-encoders have in common as artefacts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from alharness import numerics
from alharness.artefacts import Artefact, Maker
from alharness.errors import UserError
from alharness.generative.checkpoint import CHECKPOINT
from alharness.generative.settings import AutoencoderRecipe, GeneratorRecipe, recipe_values
from alharness.generative.training import R, Training
from alharness.pool import Pool
from alharness.progress import Progress

SAMPLES = "samples.png"

T = TypeVar("T")


@dataclass(frozen=True)
class NetworksMaker(Maker[T], Generic[T, R]):
    """Networks that a recipe trains on a pool's images.

    Attributes:
        pool: the images; on its device the networks are used.
        recipe: all numbers of the training.
        task: the task's name, for whoever looks at the artefact.
    """

    pool: Pool
    recipe: R
    task: str

    def identity(self) -> dict[str, Any]:
        return networks_identity(self.recipe, self.pool.item_shape, self.pool.fingerprint)

    @abstractmethod
    def train(self, folder: Path, progress: Progress) -> tuple[Training[R], dict[str, float]]:
        """Train, draw, and write the weights; the training, and the figures of what was trained."""

    @numerics.exact()
    def build(self, folder: Path, progress: Progress) -> dict[str, Any]:
        training, quality = self.train(folder, progress)
        training.write_curve(folder)
        (folder / CHECKPOINT).unlink(missing_ok=True)
        return {
            "task": self.task,
            "device": self.pool.device.type,
            "precision": self.recipe.precision if self.pool.device.type == "cuda" else "float32",
            "n_images": self.pool.n,
            "quality": quality,
            "warnings": training.warnings,
        }

    def details(self, loaded: T, artefact: Artefact) -> Mapping[str, Any]:
        warnings = artefact.details.get("warnings")  # auto-encoders of 0.2.0 have none
        return {
            "recipe": self.recipe.recipe,
            "steps": self.recipe.steps,
            "samples": str(artefact.path / SAMPLES),
            **({"warnings": warnings} if warnings else {}),
            **artefact.details["quality"],
        }


def networks_identity(
    recipe: GeneratorRecipe | AutoencoderRecipe, item_shape: tuple[int, ...], fingerprint: str
) -> dict[str, Any]:
    """What determines the weights: data, networks, settings, seed. Not the device."""
    return {
        "task_fingerprint": fingerprint,
        "item_shape": list(item_shape),
        "recipe": recipe_values(recipe),
    }


def load_weights(module: nn.Module, artefact: Artefact, name: str) -> None:
    """Load a module's state from one of an artefact's files.

    Raises:
        UserError: the tensors are not those of the module.
    """
    try:
        module.load_state_dict(artefact.tensors(name))
    except RuntimeError as error:
        raise UserError(
            f"'{artefact.path / name}' does not hold the weights of its recipe: "
            f"{str(error).splitlines()[0]}"
        ) from error
