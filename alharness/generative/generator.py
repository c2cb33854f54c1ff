"""The task's image generator and its critic, obtained from the artefact store or trained into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from alharness import seeds
from alharness.artefacts import Artefact, Supply, write_tensors
from alharness.errors import UserError
from alharness.generative.making import SAMPLES, NetworksMaker, load_weights
from alharness.generative.networks import (
    Critic,
    build_critic,
    build_generator,
    into_range,
    out_of_range,
)
from alharness.generative.quality import label_free_quality
from alharness.generative.settings import GeneratorRecipe, recipe_of
from alharness.generative.training import Training, train
from alharness.generative.wgan import GeneratorTraining
from alharness.pictures.grids import save_grid
from alharness.pool import Pool
from alharness.progress import Progress

KIND = "generator"
WEIGHTS = "generator.safetensors"
CRITIC_WEIGHTS = "critic.safetensors"


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
        return out_of_range(self.network(z), self.recipe)

    def critic_features(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``[B, C, H, W]`` in [0, 1] to the input of the critic's last layer, ``[B, D]``."""
        return self.critic.features(into_range(images, self.recipe))

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

    return supply.obtain(GeneratorMaker(pool, recipe, task))


@dataclass(frozen=True)
class GeneratorMaker(NetworksMaker[Generator, GeneratorRecipe]):
    """A generator with its critic."""

    kind = KIND

    def train(
        self, folder: Path, progress: Progress
    ) -> tuple[Training[GeneratorRecipe], dict[str, float]]:
        recipe, pool = self.recipe, self.pool
        rng = seeds.torch_rng(recipe.seed, "generator", "grid")
        fixed_z = torch.randn(64, recipe.latent_dim, generator=rng)
        training = GeneratorTraining(pool, recipe)

        def draw() -> Generator:
            generator = _wrap(training, pool)
            with torch.no_grad():
                save_grid(folder / SAMPLES, generator.decode(fixed_z.to(pool.device)))
            return generator

        train(training, folder, progress, at_checkpoint=draw)
        generator = draw()
        write_tensors(folder / WEIGHTS, generator.network.state_dict())
        write_tensors(folder / CRITIC_WEIGHTS, generator.critic.state_dict())
        return training, label_free_quality(generator.sample, pool, progress)

    def load(self, artefact: Artefact) -> Generator:
        return load_generator(artefact, self.pool.device)


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


def _wrap(training: GeneratorTraining, pool: Pool) -> Generator:
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
