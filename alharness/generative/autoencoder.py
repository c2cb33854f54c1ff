"""The task's auto-encoder: deterministic, squared error (Sec. 3.2), best state by held-out error.

Sizes and training are ours, mirrored from the generator's networks (decisions 1.5): the paper gives the
loss and the use of the code only. Trained on pool images without labels; a small share of the pool
is held out of the training to choose the best state.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.nn import functional
from torch.optim import Optimizer

from alharness import numerics, seeds
from alharness.artefacts import Artefact, Supply, write_tensors
from alharness.errors import UserError
from alharness.generative.making import SAMPLES, NetworksMaker, load_weights
from alharness.generative.networks import build_decoder, build_encoder, into_range, out_of_range
from alharness.generative.settings import AutoencoderRecipe
from alharness.generative.training import CHUNK_BYTES, Training, train
from alharness.learners.training import descend_through
from alharness.pictures.grids import save_grid
from alharness.pool import Pool
from alharness.progress import Progress

KIND = "autoencoder"
WEIGHTS = "autoencoder.safetensors"

#: Looks at the held-out images during a training; the best state of these is kept.
LOOKS = 20
#: Held-out images that are looked at, at most.
HELD_OUT_MAX = 2_000


class Autoencoder:
    """A trained encoder and decoder, in evaluation mode, not to be trained further.

    Attributes:
        code_dim: dimensions of a code.
        quality: ``mse``: squared error per pixel on held-out pool images; ``mse_of_mean``: the same
            for the mean image; ``explained``: one minus their ratio.
        artefact_key: its name in the store.
        device: where it computes.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        recipe: AutoencoderRecipe,
        device: torch.device,
        *,
        quality: Mapping[str, float] | None = None,
        artefact_key: str = "",
    ) -> None:
        self.encoder = encoder.to(device).eval().requires_grad_(False)
        self.decoder = decoder.to(device).eval().requires_grad_(False)
        self.recipe = recipe
        self.device = device
        self.quality: Mapping[str, float] = quality or {}
        self.artefact_key = artefact_key

    @property
    def code_dim(self) -> int:
        return self.recipe.code_dim

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images ``[B, C, H, W]`` in [0, 1] to codes ``[B, code_dim]``: F_auto (Sec. 3.2)."""
        codes: torch.Tensor = self.encoder(into_range(images, self.recipe))
        return codes

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes ``[B, code_dim]`` to images ``[B, C, H, W]`` in [0, 1]."""
        return out_of_range(self.decoder(codes), self.recipe)


def obtain_autoencoder(
    pool: Pool, recipe: AutoencoderRecipe, supply: Supply, *, task: str
) -> Autoencoder:
    """The auto-encoder of a recipe: loaded, or trained on the pool's images.

    Raises:
        UserError: the recipe does not fit the images, or the stored artefact is damaged.
    """

    return supply.obtain(AutoencoderMaker(pool, recipe, task))


@dataclass(frozen=True)
class AutoencoderMaker(NetworksMaker[Autoencoder, AutoencoderRecipe]):
    """An encoder with its decoder."""

    kind = KIND

    def train(
        self, folder: Path, progress: Progress
    ) -> tuple[Training[AutoencoderRecipe], dict[str, float]]:
        training = train(AutoencoderTraining(self.pool, self.recipe), folder, progress)
        encoder, decoder = training.best["encoder"], training.best["decoder"]
        best = Autoencoder(encoder, decoder, self.recipe, self.pool.device)
        write_tensors(folder / WEIGHTS, training.best.state_dict())
        shown = self.pool.gather(training.held_out[:32])
        with torch.no_grad():
            rebuilt = best.decode(best.encode(shown))
        # Each row of images stands above the row of what became of them.
        rows = zip(shown.split(8), rebuilt.split(8), strict=True)
        save_grid(folder / SAMPLES, torch.cat([part for row in rows for part in row]))
        return training, _quality(training)

    def load(self, artefact: Artefact) -> Autoencoder:
        return load_autoencoder(artefact, self.pool.device)


def load_autoencoder(artefact: Artefact, device: torch.device) -> Autoencoder:
    """The auto-encoder in a verified artefact.

    Raises:
        UserError: the artefact is of another kind, or its weights do not fit its recipe.
    """
    if artefact.kind != KIND:
        raise UserError(f"'{artefact.key}' is a {artefact.kind}, not an auto-encoder.")
    recipe = AutoencoderRecipe(**artefact.identity["recipe"])
    item_shape = tuple(int(side) for side in artefact.identity["item_shape"])
    with torch.random.fork_rng(devices=[]):  # the initial weights are thrown away
        both = _networks(recipe, item_shape)
    load_weights(both, artefact, WEIGHTS)
    return Autoencoder(
        both["encoder"],
        both["decoder"],
        recipe,
        device,
        quality=cast(Mapping[str, float], artefact.details["quality"]),
        artefact_key=artefact.key,
    )


def _networks(recipe: AutoencoderRecipe, item_shape: tuple[int, ...]) -> nn.ModuleDict:
    return nn.ModuleDict(
        {"encoder": build_encoder(recipe, item_shape), "decoder": build_decoder(recipe, item_shape)}
    )


class AutoencoderTraining(Training[AutoencoderRecipe]):
    """One training; ``networks`` moves on, ``best`` is the state with the least held-out error.

    Attributes:
        training, held_out: pool indices of the two parts.
    """

    name = "auto-encoder"
    section = "autoencoder"
    columns = ("error", "held_out_error")

    def __init__(self, pool: Pool, recipe: AutoencoderRecipe) -> None:
        super().__init__(pool, recipe)
        with torch.random.fork_rng(devices=[]):  # drawn on the CPU, whatever the device
            torch.manual_seed(seeds.derive(recipe.seed, "autoencoder", "weights"))
            self.networks = _networks(recipe, pool.item_shape).to(pool.device)
        self.best = copy.deepcopy(self.networks)
        # The same on both: on CUDA a graph of the step finds the optimiser's state there.
        self.optimiser = torch.optim.Adam(
            self.networks.parameters(),
            lr=recipe.lr,
            fused=True,
            capturable=pool.device.type == "cuda",
        )
        rng = seeds.torch_rng(recipe.seed, "autoencoder", "split")
        n_held_out = max(1, min(HELD_OUT_MAX, int(pool.n * recipe.held_out)))
        self.held_out, self.training = torch.randperm(pool.n, generator=rng).tensor_split(
            [n_held_out]
        )

    @property
    def best_error(self) -> float:
        """Least held-out error so far."""
        return min((row[2] for row in self.curve), default=math.inf)

    def parts(self) -> dict[str, nn.Module | Optimizer]:
        return {"networks": self.networks, "best": self.best, "optimiser": self.optimiser}

    def chunk_steps(self) -> int:
        return max(1, self.recipe.steps // LOOKS)

    def descend(self, n_steps: int) -> list[float]:
        """Steps and a look at the held-out images; both errors per pixel."""
        recipe, device = self.recipe, self.device
        total = torch.zeros((), device=device)
        batches = self._batches(n_steps)

        def drawn(step: int) -> tuple[torch.Tensor, ...]:
            raw, rng = next(batches)
            if not recipe.denoise_sigma:
                return (raw,)
            return raw, torch.randn(raw.shape, generator=rng).to(device)

        def loss_of(raw: torch.Tensor, *noise: torch.Tensor) -> torch.Tensor:
            images = into_range(self.pool.to_float(raw), recipe)
            shown = images
            if noise:
                shown = images + recipe.denoise_sigma * noise[0]
            with self.autocast():
                rebuilt = self.networks["decoder"](self.networks["encoder"](shown)).float()
            return functional.mse_loss(rebuilt, images)

        for _, loss in descend_through(self.optimiser, drawn, loss_of, n_steps):
            total += loss
        error = self.held_out_error()
        # The curve gets this row only afterwards: ``best_error`` is that of the looks before.
        if error < self.best_error:
            self.best.load_state_dict(self.networks.state_dict())
        return [float(total) / n_steps, error]

    def _batches(self, n_steps: int) -> Iterator[tuple[torch.Tensor, torch.Generator]]:
        """Raw items of the next steps, some steps read together, and what else they draw from."""
        recipe = self.recipe
        # A pool on a disk is read once for many steps; what a step sees does not depend on it.
        at_once = max(1, CHUNK_BYTES // (recipe.batch_size * self.pool.item_bytes))
        for first in range(self.step, self.step + n_steps, at_once):
            steps = range(first, min(first + at_once, self.step + n_steps))
            rngs = [seeds.torch_rng(recipe.seed, "autoencoder", "step", step) for step in steps]
            picked = [
                torch.randint(len(self.training), (recipe.batch_size,), generator=rng)
                for rng in rngs
            ]
            raw = self.pool.read(self.training[torch.cat(picked)])
            yield from zip(raw.split(recipe.batch_size), rngs, strict=True)

    def held_out_error(self) -> float:
        """Mean squared error per pixel of the current networks on the held-out images."""
        total = torch.zeros((), device=self.pool.device, dtype=torch.float64)
        with torch.no_grad(), numerics.exact():  # as the codes of a run will be computed
            for _, images in self.pool.blocks(self.held_out, 256):
                pixels = into_range(images, self.recipe)
                rebuilt = self.networks["decoder"](self.networks["encoder"](pixels))
                total += (rebuilt - pixels).double().square().sum()
        return float(total) / (len(self.held_out) * self.pool.values_per_item)


def _quality(training: AutoencoderTraining) -> dict[str, float]:
    """Held-out error in [0, 1] pixels, beside that of the mean image."""
    scale = 0.25 if training.recipe.signed else 1.0  # [-1, 1] is twice as wide
    pool = training.pool
    sums = torch.zeros(pool.item_shape, device=pool.device)
    squares = torch.zeros((), device=pool.device, dtype=torch.float64)
    for _, images in pool.blocks(training.held_out, 256):
        sums += images.sum(dim=0)
        squares += images.double().square().sum()
    n = len(training.held_out)
    mean = sums / n
    of_mean = float(squares / n - mean.double().square().sum()) / pool.values_per_item
    mse = training.best_error * scale
    explained = 1.0 - mse / of_mean if of_mean > 0 else 0.0
    figures = {"mse": mse, "mse_of_mean": of_mean, "explained": explained}
    return {name: round(value, 6) for name, value in figures.items()}
