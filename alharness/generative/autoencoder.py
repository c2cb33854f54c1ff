"""The task's auto-encoder: deterministic, squared error (Sec. 3.2), best state by held-out error.

Sizes and training are ours, mirrored from the generator's networks (decisions 1.5): the paper gives the
loss and the use of the code only. Trained on pool images without labels; a small share of the pool
is held out of the training to choose the best state.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from alharness import numerics, seeds
from alharness.artefacts import Artefact, Supply, write_tensors
from alharness.errors import UserError
from alharness.generative.checkpoint import (
    CHECKPOINT,
    below,
    optimiser_tensors,
    restore_optimiser,
    restored_from,
    write_checkpoint,
)
from alharness.generative.generator import CURVE_FILE, SAMPLES, load_weights
from alharness.generative.networks import build_decoder, build_encoder
from alharness.generative.settings import AutoencoderRecipe
from alharness.learners.training import descend
from alharness.pictures.grids import save_grid
from alharness.pool import Pool
from alharness.progress import Progress

KIND = "autoencoder"
WEIGHTS = "autoencoder.safetensors"

#: Raw images that are read together: one transfer for some steps.
CHUNK_BYTES = 1 << 26
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
        codes: torch.Tensor = self.encoder(images * 2.0 - 1.0 if self.recipe.signed else images)
        return codes

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Codes ``[B, code_dim]`` to images ``[B, C, H, W]`` in [0, 1]."""
        pixels: torch.Tensor = self.decoder(codes)
        return (pixels + 1.0) / 2.0 if self.recipe.signed else pixels


def obtain_autoencoder(
    pool: Pool, recipe: AutoencoderRecipe, supply: Supply, *, task: str
) -> Autoencoder:
    """The auto-encoder of a recipe: loaded, or trained on the pool's images.

    Raises:
        UserError: the recipe does not fit the images, or the stored artefact is damaged.
    """

    def build(folder: Path, report: Progress) -> Mapping[str, Any]:
        return _build(folder, report, pool, recipe, task)

    def details(autoencoder: Autoencoder, artefact: Artefact) -> Mapping[str, Any]:
        return {
            "recipe": recipe.recipe,
            "steps": recipe.steps,
            "samples": str(artefact.path / SAMPLES),
            **autoencoder.quality,
        }

    return supply.obtain(
        KIND,
        autoencoder_identity(recipe, pool.item_shape, pool.fingerprint),
        build,
        lambda artefact: load_autoencoder(artefact, pool.device),
        details=details,
    )


def autoencoder_identity(
    recipe: AutoencoderRecipe, item_shape: tuple[int, ...], fingerprint: str
) -> dict[str, Any]:
    """What determines the weights: data, networks, settings, seed. Not the device."""
    return {
        "task_fingerprint": fingerprint,
        "item_shape": list(item_shape),
        "recipe": recipe.model_dump(mode="json"),
    }


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


@dataclass
class AutoencoderTraining:
    """One training; ``networks`` moves on, ``best`` is the state with the least held-out error.

    Attributes:
        training, held_out: pool indices of the two parts.
        step: optimiser steps done.
        curve: rows of step, training error, held-out error.
    """

    pool: Pool
    recipe: AutoencoderRecipe
    networks: nn.ModuleDict
    best: nn.ModuleDict
    optimiser: torch.optim.Optimizer
    training: torch.Tensor
    held_out: torch.Tensor
    step: int = 0
    best_error: float = math.inf
    curve: list[list[float]] = field(default_factory=list)

    @classmethod
    def start(cls, pool: Pool, recipe: AutoencoderRecipe) -> AutoencoderTraining:
        """Fresh networks, drawn on the CPU, on the pool's device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.derive(recipe.seed, "autoencoder", "weights"))
            networks = _networks(recipe, pool.item_shape).to(pool.device)
        order = torch.randperm(
            pool.n, generator=seeds.torch_rng(recipe.seed, "autoencoder", "split")
        )
        n_held_out = max(1, min(HELD_OUT_MAX, int(pool.n * recipe.held_out)))
        optimiser = torch.optim.Adam(networks.parameters(), lr=recipe.lr, fused=True)
        return cls(
            pool,
            recipe,
            networks,
            copy.deepcopy(networks),
            optimiser,
            order[n_held_out:],
            order[:n_held_out],
        )

    def run_chunk(self, n_steps: int) -> dict[str, float]:
        """Some steps and a look at the held-out images; returns both errors per pixel."""
        recipe, device = self.recipe, self.pool.device
        n_steps = min(n_steps, recipe.steps - self.step)
        total = torch.zeros((), device=device)
        batches = self._batches(n_steps)

        def loss_of(step: int) -> torch.Tensor:
            raw, rng = next(batches)
            images = self._pixels(self.pool.to_float(raw))
            shown = images
            if recipe.denoise_sigma:
                noise = torch.randn(images.shape, generator=rng).to(device)
                shown = images + recipe.denoise_sigma * noise
            with self._autocast():
                rebuilt = self.networks["decoder"](self.networks["encoder"](shown)).float()
            return functional.mse_loss(rebuilt, images)

        for _, loss in descend(self.optimiser, loss_of, n_steps):
            total += loss
        self.step += n_steps
        error = self.held_out_error()
        if error < self.best_error:
            self.best_error = error
            self.best.load_state_dict(self.networks.state_dict())
        figures = {"error": float(total) / n_steps, "held_out_error": error}
        if not all(map(math.isfinite, figures.values())):
            raise UserError(
                f"The auto-encoder's training diverged before step {self.step} (step size "
                f"{recipe.lr}). Lower autoencoder.lr."
            )
        self.curve.append([float(self.step), *figures.values()])
        return figures

    def _batches(self, n_steps: int) -> Iterator[tuple[torch.Tensor, torch.Generator]]:
        """Raw items of the next steps, some steps read together, and what else they draw from."""
        recipe = self.recipe
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
                pixels = self._pixels(images)
                rebuilt = self.networks["decoder"](self.networks["encoder"](pixels))
                total += (rebuilt - pixels).double().square().sum()
        return float(total) / (len(self.held_out) * self.pool.values_per_item)

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        return images * 2.0 - 1.0 if self.recipe.signed else images

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.precision == "bf16" and self.pool.device.type == "cuda":
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()

    def save(self, path: Path) -> None:
        """Write all that a continuation needs into one file, beside and renamed."""
        tensors = {f"networks/{k}": v for k, v in self.networks.state_dict().items()}
        tensors |= {f"best/{k}": v for k, v in self.best.state_dict().items()}
        tensors |= optimiser_tensors("optimiser", self.optimiser)
        notes = {
            "recipe": self.recipe.model_dump(mode="json"),
            "step": self.step,
            "best_error": self.best_error,
            "curve": self.curve,
        }
        write_checkpoint(path, tensors, notes)

    def restore(self, path: Path) -> None:
        """Continue from ``save``.

        Raises:
            UserError: the checkpoint is damaged or belongs to another recipe.
        """
        with restored_from(path) as (tensors, notes):
            if notes.get("recipe") != self.recipe.model_dump(mode="json"):
                raise UserError(f"The checkpoint '{path}' belongs to another recipe. Remove it.")
            self.networks.load_state_dict(below(tensors, "networks"))
            self.best.load_state_dict(below(tensors, "best"))
            restore_optimiser(self.optimiser, below(tensors, "optimiser"))
            self.step, self.curve = int(notes["step"]), notes["curve"]
            self.best_error = float(notes["best_error"])


def train_autoencoder(
    pool: Pool,
    recipe: AutoencoderRecipe,
    folder: Path,
    progress: Progress,
    *,
    checkpoint_s: float = 60.0,
) -> AutoencoderTraining:
    """Train to the recipe's last step, continuing from a checkpoint that lies in ``folder``."""
    training = AutoencoderTraining.start(pool, recipe)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        training.restore(checkpoint)
    chunk = max(1, recipe.steps // LOOKS)
    written = time.monotonic()
    with numerics.training(recipe.precision):
        while training.step < recipe.steps:
            figures = training.run_chunk(chunk)
            progress("train auto-encoder", training.step, recipe.steps, figures)
            if time.monotonic() - written > checkpoint_s:
                training.save(checkpoint)
                written = time.monotonic()
    return training


@numerics.exact()
def _build(
    folder: Path, progress: Progress, pool: Pool, recipe: AutoencoderRecipe, task: str
) -> dict[str, Any]:
    """Train, measure, draw; what stays in ``folder`` is the artefact."""
    training = train_autoencoder(pool, recipe, folder, progress)
    best = Autoencoder(training.best["encoder"], training.best["decoder"], recipe, pool.device)
    write_tensors(folder / WEIGHTS, training.best.state_dict())
    shown = pool.gather(training.held_out[:32])
    with torch.no_grad():
        rebuilt = best.decode(best.encode(shown))
    rows = zip(shown.split(8), rebuilt.split(8), strict=True)  # images above what became of them
    save_grid(folder / SAMPLES, torch.cat([part for row in rows for part in row]))
    curve = {"columns": ["step", "error", "held_out_error"], "rows": training.curve}
    (folder / CURVE_FILE).write_text(json.dumps(curve) + "\n", encoding="utf-8")
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return {
        "task": task,
        "device": pool.device.type,
        "precision": recipe.precision if pool.device.type == "cuda" else "float32",
        "n_images": pool.n,
        "quality": _quality(training),
    }


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
    return {
        "mse": round(mse, 6),
        "mse_of_mean": round(of_mean, 6),
        "explained": round(explained, 6),
    }
