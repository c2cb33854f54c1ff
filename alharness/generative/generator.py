"""The task's image generator and its critic, obtained from the artefact store or trained into it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from alharness import numerics, seeds
from alharness.artefacts import Artefact, Supply, write_tensors
from alharness.errors import UserError
from alharness.generative.checkpoint import CHECKPOINT
from alharness.generative.networks import Critic, build_critic, build_generator
from alharness.generative.quality import label_free_quality
from alharness.generative.settings import GeneratorRecipe, recipe_of, recipe_values
from alharness.generative.wgan import CURVE, Training, train
from alharness.pictures.grids import save_grid
from alharness.pool import Pool
from alharness.progress import Progress

KIND = "generator"
WEIGHTS = "generator.safetensors"
CRITIC_WEIGHTS = "critic.safetensors"
SAMPLES = "samples.png"
CURVE_FILE = "curve.json"


class Generator:
    """A trained generator G with its critic, in evaluation mode, not to be trained further.

    Attributes:
        latent_dim: dimensions L of z ~ N(0, I).
        item_shape: ``(C, H, W)`` of the images.
        quality: figures measured after training; ``frechet_pixels`` is the first to look at.
        artefact_key: its name in the store, for records.
        device: where it computes.
        recipe: how it was trained.
    """

    def __init__(
        self,
        network: nn.Module,
        critic: Critic,
        recipe: GeneratorRecipe,
        item_shape: tuple[int, ...],
        device: torch.device,
        *,
        quality: Mapping[str, float] | None = None,
        artefact_key: str = "",
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.critic = critic.to(device).eval().requires_grad_(False)
        self.recipe = recipe
        self.item_shape = item_shape
        self.device = device
        self.quality: Mapping[str, float] = quality or {}
        self.artefact_key = artefact_key

    @property
    def latent_dim(self) -> int:
        return self.recipe.latent_dim

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Latents ``[B, L]`` to images ``[B, C, H, W]`` in [0, 1], differentiable.

        The image of one latent does not depend on the others.
        """
        pixels: torch.Tensor = self.network(z)
        return (pixels + 1.0) / 2.0 if self.recipe.signed else pixels

    def critic_features(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``[B, C, H, W]`` in [0, 1] to the input of the critic's last layer, ``[B, D]``."""
        return self.critic.features(images * 2.0 - 1.0 if self.recipe.signed else images)

    def sample(self, n: int, *, seed: int = 0) -> torch.Tensor:
        """``n`` images of latents drawn from the prior, without gradients."""
        z = torch.randn(n, self.latent_dim, generator=seeds.torch_rng(seed, "sample"))
        with torch.no_grad():
            return torch.cat([self.decode(part.to(self.device)) for part in z.split(256)])


def obtain_generator(
    pool: Pool, recipe: GeneratorRecipe, supply: Supply, *, task: str
) -> Generator:
    """The generator of a recipe: loaded, or trained on the pool's images (never on others).

    Raises:
        UserError: the recipe does not fit the images, the training diverged, or the stored artefact
            is damaged.
    """

    def build(folder: Path, report: Progress) -> Mapping[str, Any]:
        return _build(folder, report, pool, recipe, task)

    def details(generator: Generator, artefact: Artefact) -> Mapping[str, Any]:
        warnings = artefact.details["warnings"]
        return {
            "recipe": recipe.recipe,
            "steps": recipe.steps,
            "samples": str(artefact.path / SAMPLES),
            **({"warnings": warnings} if warnings else {}),
            **generator.quality,
        }

    return supply.obtain(
        KIND,
        generator_identity(recipe, pool.item_shape, pool.fingerprint),
        build,
        lambda artefact: load_generator(artefact, pool.device),
        details=details,
    )


def generator_identity(
    recipe: GeneratorRecipe, item_shape: tuple[int, ...], fingerprint: str
) -> dict[str, Any]:
    """What determines the weights: data, networks, settings, seed. Not the device."""
    return {
        "task_fingerprint": fingerprint,
        "item_shape": list(item_shape),
        "recipe": recipe_values(recipe),
    }


def load_generator(artefact: Artefact, device: torch.device) -> Generator:
    """The generator in a verified artefact.

    Raises:
        UserError: the artefact is of another kind, or its weights do not fit its recipe.
    """
    if artefact.kind != KIND:
        raise UserError(f"'{artefact.key}' is a {artefact.kind}, not a generator.")
    recipe = recipe_of(artefact.identity["recipe"])
    item_shape = tuple(int(side) for side in artefact.identity["item_shape"])
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away
        network = build_generator(recipe, item_shape)
        critic = build_critic(recipe, item_shape)
    load_weights(network, artefact, WEIGHTS)
    load_weights(critic, artefact, CRITIC_WEIGHTS)
    return Generator(
        network,
        critic,
        recipe,
        item_shape,
        device,
        quality=cast(Mapping[str, float], artefact.details["quality"]),
        artefact_key=artefact.key,
    )


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


@numerics.exact()
def _build(
    folder: Path, progress: Progress, pool: Pool, recipe: GeneratorRecipe, task: str
) -> dict[str, Any]:
    """Train, measure, draw; what stays in ``folder`` is the artefact."""
    fixed_z = torch.randn(
        64, recipe.latent_dim, generator=seeds.torch_rng(recipe.seed, "generator", "grid")
    )

    def draw(training: Training) -> None:
        generator = _wrap(training, pool)
        with torch.no_grad():
            save_grid(folder / SAMPLES, generator.decode(fixed_z.to(pool.device)))

    training = train(pool, recipe, folder, progress, at_checkpoint=draw)
    generator = _wrap(training, pool)
    draw(training)
    write_tensors(folder / WEIGHTS, generator.network.state_dict())
    write_tensors(folder / CRITIC_WEIGHTS, generator.critic.state_dict())
    curve = {"columns": CURVE, "rows": training.curve}
    (folder / CURVE_FILE).write_text(json.dumps(curve) + "\n", encoding="utf-8")
    quality = label_free_quality(generator.sample, pool, progress)
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return {
        "task": task,
        "device": pool.device.type,
        "precision": recipe.precision if pool.device.type == "cuda" else "float32",
        "n_images": pool.n,
        "quality": quality,
        "warnings": training.warnings,
    }


def _wrap(training: Training, pool: Pool) -> Generator:
    """What has been learned so far, as it would be used."""
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away
        critic = build_critic(training.recipe, pool.item_shape)
    critic.load_state_dict(training.critic.state_dict())
    return Generator(
        training.finished_generator(),
        critic,
        training.recipe,
        pool.item_shape,
        pool.device,
    )
