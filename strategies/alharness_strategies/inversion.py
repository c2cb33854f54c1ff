"""Latent codes of real images: which z does the generator turn into x?

An encoder is trained on pairs (G(z), z), which are free, and each code is then refined by gradient
steps on ``|G(z) - x|^2 + prior |z|^2``. Random starts without an encoder end in local minima
(decisions 4).

Shape letters: N items, B items of a block, L latent dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness import seeds
from alharness.artefacts import Artefact, Maker, Supply, write_tensors
from alharness.generative.latent_search import LatentSearch
from alharness.generative.settings import AutoencoderRecipe
from alharness.lazily import functional, nn, torch
from alharness.learners.training import adam, descend_through
from alharness.pool import Pool
from alharness.progress import Progress

if TYPE_CHECKING:
    from alharness.generative import Generator

FILE = "codes.safetensors"
BATCH_SIZE = 64
ENCODER_LR = 1e-3
REFINE_LR = 0.05
PRIOR_WEIGHT = 1e-3  # decisions 4
#: Images that are refined at once.
BLOCK = 512


@dataclass(frozen=True)
class Codes:
    """The task in latent space.

    Attributes:
        pool: codes of the pool items, float32 ``[N, L]`` on the CPU.
        test: codes of the test images.
        artefact_key: their name in the store.
    """

    pool: torch.Tensor
    test: torch.Tensor
    artefact_key: str


def obtain_codes(
    generator: Generator,
    pool: Pool,
    test: Pool,
    supply: Supply,
    *,
    encoder_steps: int,
    refine_steps: int,
) -> Codes:
    """Codes of pool and test images under a generator: loaded, or computed once.

    Enters ``codes`` in the ledger with the reconstruction error per pixel before and after the
    refinement, and that of the mean image to compare with.
    """

    return supply.obtain(CodesMaker(generator, pool, test, encoder_steps, refine_steps))


@dataclass(frozen=True)
class CodesMaker(Maker[Codes]):
    """Codes of pool and test images under a generator."""

    kind = "codes"

    generator: Generator
    pool: Pool
    test: Pool
    encoder_steps: int
    refine_steps: int

    def identity(self) -> dict[str, Any]:
        return {
            "generator": self.generator.artefact_key,
            "pool": self.pool.fingerprint,
            "test": self.test.fingerprint,
            "encoder_steps": self.encoder_steps,
            "refine_steps": self.refine_steps,
            "refine_lr": REFINE_LR,
            "prior_weight": PRIOR_WEIGHT,
        }

    def build(self, folder: Path, progress: Progress) -> dict[str, Any]:
        encoder = train_encoder(self.generator, self.encoder_steps, progress)
        found, details = {}, {}
        for name, items in (("pool", self.pool), ("test", self.test)):
            codes, errors = encode(self.generator, encoder, items, self.refine_steps, progress)
            found[name] = codes
            details.update({f"{name}_{key}": value for key, value in errors.items()})
        write_tensors(folder / FILE, found)
        return details

    def load(self, artefact: Artefact) -> Codes:
        tensors = artefact.tensors(FILE)
        return Codes(tensors["pool"], tensors["test"], artefact.key)


def train_encoder(generator: Generator, steps: int, progress: Progress) -> nn.Module:
    """A network that maps G(z) back to z: squared error in z and in the pixels of G(E(G(z)))."""
    from alharness.generative.networks import build_encoder  # networks, and so torch

    conv = generator.recipe.network != "fc" and min(generator.item_shape[1:]) >= 16
    recipe = AutoencoderRecipe(
        recipe="inversion",
        network="conv" if conv else "fc",
        width=generator.recipe.width,
        code_dim=generator.latent_dim,
        steps=steps,
    )
    rng = seeds.torch_rng(0, "inversion")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.derive(0, "inversion", "weights"))
        encoder = build_encoder(recipe, generator.item_shape)
    encoder = encoder.to(generator.device).train()
    optimiser = adam(encoder.parameters(), ENCODER_LR, generator.device)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)

    def drawn(step: int) -> tuple[torch.Tensor]:
        z = torch.randn(BATCH_SIZE, generator.latent_dim, generator=rng)
        return (z.to(generator.device),)

    def loss_of(z: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            images = generator.decode(z)
        guess = encoder(images)
        in_latents = functional.mse_loss(guess, z)
        # Far apart latents can give one image: pixels say what a code is for.
        in_pixels = (generator.decode(guess) - images).square().flatten(1).sum(dim=1).mean()
        return in_latents + in_pixels / generator.latent_dim

    for step, loss in descend_through(optimiser, drawn, loss_of, steps, falling):
        if step % 20 == 0 or step == steps - 1:
            progress("train encoder", step + 1, steps, {"loss": float(loss)})
    return encoder.eval().requires_grad_(False)


def encode(
    generator: Generator, encoder: nn.Module, items: Pool, steps: int, progress: Progress
) -> tuple[torch.Tensor, dict[str, float]]:
    """Codes of all items ``[N, L]`` on the CPU, and squared errors per pixel."""
    codes, before, after = [], 0.0, 0.0
    total = torch.zeros(items.item_shape, dtype=torch.float64)
    squares = 0.0
    refine = LatentSearch(
        generator.decode,
        _nearness,
        steps=steps,
        lr=REFINE_LR,
        # The search weighs |z|^2 / 2, the objective here |z|^2.
        prior_weight=2 * PRIOR_WEIGHT,
        chunk=BLOCK,
    )
    for indices, images in items.blocks(block_size=BLOCK):
        found = refine(encoder(images), images)
        codes.append(found.z.cpu())
        before -= float(found.score_before.sum())
        after -= float(found.score_after.sum())
        total += images.sum(dim=0).double().cpu()
        squares += float(images.double().square().sum())
        progress("encode images", int(indices[-1]) + 1, items.n)
    n_values = items.n * items.values_per_item
    # sum |x - m|^2 = sum |x|^2 - n |m|^2, so that one pass is enough.
    of_mean = squares - float((total / items.n).square().sum()) * items.n
    return torch.cat(codes), {
        "mse_encoder": before / n_values,
        "mse": after / n_values,
        "mse_of_mean": of_mean / n_values,
    }


def _nearness(decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Minus the squared error against ``images``, ``[B]``."""
    return -(decoded - images).square().flatten(1).sum(dim=1)
