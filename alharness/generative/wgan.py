"""Training of WGAN-GP and WGAN-CT on pool images, to be stopped and continued at any time.

Gulrajani et al. 2017 (WGAN-GP, reference 6 of the paper) and Wei et al. 2018 (WGAN-CT, reference
24), with the numbers of their code (decisions 7). The critic minimises

    mean D(fake) - mean D(real) + penalty * mean (|grad D(mixed)| - 1)^2 [+ consistency term]

and the generator minimises ``-mean D(fake)``, once per ``critic_steps`` critic steps.

Everything random in generator step k follows from (seed, k), so that a stopped training continues exactly
(``training.py``). Batches are drawn with replacement for that reason; the scripts walk through shuffled
epochs.

The inputs of some steps are drawn on the CPU and sent together; losses are summed on the device and
read once per such chunk. So there is no host-device synchronisation inside a step.

Shape letters: B images of a batch, L latent dimensions, S steps of a chunk, K critic steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from alharness import seeds
from alharness.errors import UserError
from alharness.generative.convolution import inputs_only
from alharness.generative.networks import build_critic, build_generator, into_range, use_rng
from alharness.generative.rounding import rounded
from alharness.generative.settings import GeneratorRecipe
from alharness.generative.training import CHUNK_BYTES, Training
from alharness.learners.capture import CapturedStep, weakly
from alharness.learners.training import adam, descend
from alharness.pool import Pool

#: Steps whose inputs are drawn and sent together, at most.
CHUNK_STEPS = 25

#: Latents that re-estimate the running statistics of batch normalisation (decisions 1.3).
BATCH_NORM_LATENTS = 10_000


@dataclass
class StepInputs:
    """All that is random in one generator step, on the device.

    Attributes:
        reals: raw pool items ``[K, B, C, H, W]``.
        critic_z: latents for the critic's fakes ``[K, B, L]``.
        mix: position between real and fake ``[K, B]``, uniform.
        generator_z: latents of the generator's own step ``[B * factor, L]``.
    """

    reals: torch.Tensor
    critic_z: torch.Tensor
    mix: torch.Tensor
    generator_z: torch.Tensor


class GeneratorTraining(Training[GeneratorRecipe]):
    """One WGAN-GP or WGAN-CT training: fresh networks, drawn on the CPU, on the pool's device.

    Args:
        capture: replay the steps as CUDA graphs; by default wherever there is CUDA.

    Raises:
        UserError: the recipe does not fit the pool's items.
    """

    name = section = "generator"
    columns = ("wasserstein", "penalty", "consistency", "generator_loss")
    _is_rounded = False

    def __init__(self, pool: Pool, recipe: GeneratorRecipe, *, capture: bool | None = None) -> None:
        super().__init__(pool, recipe)
        if len(pool.item_shape) != 3:
            raise UserError(
                f"A generator needs images [C, H, W]; this pool's items have shape {pool.item_shape}."
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.derive(recipe.seed, "generator", "weights"))
            self.generator = build_generator(recipe, pool.item_shape)
            self.critic = build_critic(recipe, pool.item_shape)
        on_cuda = pool.device.type == "cuda"
        if on_cuda and recipe.precision == "bf16-all":
            self._is_rounded = True
        layout = torch.channels_last if on_cuda else torch.contiguous_format
        for network in (self.generator, self.critic):
            network.to(pool.device, memory_format=layout)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.generator).requires_grad_(False) if recipe.ema else None
        betas = (recipe.beta1, recipe.beta2)
        over = partial(adam, lr=recipe.lr, device=pool.device, betas=betas, fused=True)
        self.generator_optimiser = over(self.generator.parameters())
        self.critic_optimiser = over(self.critic.parameters())
        # Sums of a chunk's figures stay on the device: reading one would wait for its step.
        self._totals = torch.zeros(len(self.columns), device=self.device)
        self._rng = torch.Generator(self.device)
        use_rng(self.critic, self._rng)
        self._critic_step = weakly(self.critic_step)
        self._generator_step = weakly(self.generator_step)
        if on_cuda if capture is None else capture:
            self._critic_step = CapturedStep(self._critic_step, self._rng)
            self._generator_step = CapturedStep(self._generator_step, self._rng)

    def parts(self) -> dict[str, nn.Module | Optimizer]:
        found: dict[str, nn.Module | Optimizer] = {
            "generator": self.generator,
            "critic": self.critic,
            "generator_optimiser": self.generator_optimiser,
            "critic_optimiser": self.critic_optimiser,
        }
        return found if self.average is None else {**found, "average": self.average}

    def chunk_steps(self) -> int:
        """Steps whose inputs are drawn and sent together; has no influence on the result."""
        recipe = self.recipe
        step_bytes = recipe.critic_steps * recipe.batch_size * self.pool.item_bytes
        return max(1, min(CHUNK_STEPS, CHUNK_BYTES // step_bytes))

    def draw(self, n_steps: int) -> list[StepInputs]:
        """The inputs of the next steps: drawn on the CPU step by step, sent at once."""
        recipe = self.recipe
        k, b, dim = recipe.critic_steps, recipe.batch_size, recipe.latent_dim
        own = b * recipe.generator_batch_factor
        indices = torch.empty(n_steps, k * b, dtype=torch.int64)
        critic_z = torch.empty(n_steps, k, b, dim)
        mix = torch.empty(n_steps, k, b)
        generator_z = torch.empty(n_steps, own, dim)
        for s in range(n_steps):
            # The number of the step seeds its draws: where chunks begin and end changes nothing.
            rng = seeds.torch_rng(recipe.seed, "generator", "step", self.step + s)
            torch.randint(self.pool.n, (k * b,), generator=rng, out=indices[s])
            torch.randn(k, b, dim, generator=rng, out=critic_z[s])
            torch.rand(k, b, generator=rng, out=mix[s])
            torch.randn(own, dim, generator=rng, out=generator_z[s])
        reals = self.pool.read(indices.reshape(-1)).unflatten(0, (n_steps, k, b))
        sent = [_send(values, self.device) for values in (critic_z, mix, generator_z)]
        return [StepInputs(reals[s], *(values[s] for values in sent)) for s in range(n_steps)]

    # -- the two steps -------------------------------------------------------------------------

    def critic_step(self, raw: torch.Tensor, z: torch.Tensor, mix: torch.Tensor) -> None:
        """One step of the critic; adds its figures to the chunk's sums."""
        recipe = self.recipe
        images = self.pool.to_float(raw)
        if recipe.dequantise:
            noise = torch.rand(images.shape, generator=self._rng, device=images.device)
            images = images + noise / 256.0
        real = into_range(images, recipe)
        with torch.no_grad(), self.autocast():
            fake = self._computing(self.generator)(z).float()
        critic = self._computing(self.critic)
        with self.autocast():
            # Both batches in one pass: no layer of a critic mixes items, and one wide pass is faster.
            scores = critic(torch.cat([real, fake])).float()
        real_score, fake_score = scores.chunk(2)
        wasserstein = real_score.mean() - fake_score.mean()
        penalty = gradient_penalty(critic, real, fake, mix)
        loss = recipe.penalty * penalty - wasserstein
        consistency = torch.zeros_like(loss)
        if recipe.consistency:
            consistency = self._consistency(critic, real)
            loss = loss + consistency
        descend(self.critic_optimiser, loss)
        # Summed where it is: a host that reads a figure waits for the step.
        figures = torch.stack([wasserstein, penalty, consistency]).detach()
        self._totals[:3] += figures / recipe.critic_steps

    def _computing(self, network: nn.Module) -> Callable[..., Any]:
        """A network as the recipe's precision has it, until its weights move."""
        return rounded(network) if self._is_rounded else network

    def _consistency(self, critic: Callable[..., Any], real: torch.Tensor) -> torch.Tensor:
        """Two passes with independent dropout over the real images must agree (CT, decisions 7).

        ``mean_b max(0, lambda2 [(D' - D'')^2 + 0.1 mean_units (D_' - D_'')^2] - M')``, with D_ the
        input of the last layer; lambda2 multiplies before M' is subtracted, as in the code.
        """
        recipe = self.recipe
        with self.autocast():
            scores, features = critic(torch.cat([real, real]), with_features=True)
        first, second = features.float().chunk(2)
        score, other = scores.float().chunk(2)
        apart = (score - other).square() + 0.1 * (first - second).square().mean(dim=1)
        excess: torch.Tensor = recipe.consistency * apart - recipe.consistency_margin
        return excess.clamp(min=0.0).mean()

    def generator_step(self, z: torch.Tensor) -> None:
        """One step of the generator; adds its loss to the chunk's sums."""
        # The critic is only looked through here: gradients by its weights would be computed for nothing.
        self.critic.requires_grad_(False)
        with self.autocast():
            fake = self._computing(self.generator)(z)
            loss = -self._computing(self.critic)(fake).float().mean()
        descend(self.generator_optimiser, loss)
        self.critic.requires_grad_(True)
        self._totals[3] += loss.detach()
        if self.average is not None:
            _move_average(self.average, self.generator, self.recipe.ema)

    # -- chunks --------------------------------------------------------------------------------

    def descend(self, n_steps: int) -> list[float]:
        self._totals.zero_()
        for offset, inputs in enumerate(self.draw(n_steps)):
            step = self.step + offset
            # A captured step reads this generator's seed anew at each replay.
            self._rng.manual_seed(seeds.derive(self.recipe.seed, "generator", "masks", step))
            self._set_lr(step)
            for k in range(self.recipe.critic_steps):
                self._critic_step(inputs.reals[k], inputs.critic_z[k], inputs.mix[k])
            self._generator_step(inputs.generator_z)
        row: list[float] = (self._totals / n_steps).tolist()  # the chunk's one synchronisation
        return row

    def _set_lr(self, step: int) -> None:
        if not self.recipe.lr_decay:
            return
        lr = self.recipe.lr * (1.0 - step / self.recipe.steps)
        for optimiser in (self.generator_optimiser, self.critic_optimiser):
            for group in optimiser.param_groups:
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(lr)
                else:
                    group["lr"] = lr

    def watch(self, row: list[float]) -> None:
        """Warn once when the critic's distance leaves the range it had: it should shrink with time."""
        wasserstein = row[0]
        # Ten chunks first: at the beginning the distance rises by itself.
        past = sorted(abs(row[1]) for row in self.curve)
        if len(past) >= 10 and not self.warnings and abs(wasserstein) > 10.0 * past[-1]:
            self.warnings.append(
                f"the critic's distance jumped to {wasserstein:.3g} before step {self.step} "
                f"(largest until then {past[-1]:.3g}): the training may be diverging"
            )

    def finished_generator(self) -> nn.Module:
        """The generator to be used: averaged if asked for, in evaluation mode, statistics renewed."""
        generator = copy.deepcopy(self.generator if self.average is None else self.average)
        rng = seeds.torch_rng(self.recipe.seed, "generator", "batch norm")
        latents = torch.randn(BATCH_NORM_LATENTS, self.recipe.latent_dim, generator=rng)
        renew_batch_norm(generator, latents, self.recipe.batch_size, self.device)
        return generator.eval().requires_grad_(False)


def gradient_penalty(
    critic: Callable[..., Any], real: torch.Tensor, fake: torch.Tensor, mix_B: torch.Tensor
) -> torch.Tensor:
    """``mean_b (|grad_x D(x_b)|_2 - 1)^2`` at ``x = real + mix (fake - real)``, the norm in float32.

    Autocast stays off: it would leave the critic's second derivative to torch (``convolution``). A critic
    that rounds (``rounding``) does so here as well.
    """
    mixed = torch.lerp(real, fake, mix_B[:, None, None, None]).requires_grad_(True)
    with torch.autocast(mixed.device.type, enabled=False), inputs_only():
        (slope,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    # vector_norm has the subgradient 0 at 0, where a square root would give NaN.
    norm_B: torch.Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return (norm_B - 1.0).square().mean()


def renew_batch_norm(
    generator: nn.Module, latents: torch.Tensor, batch_size: int, device: torch.device
) -> None:
    """Running statistics as the plain average over ``latents``, instead of the training's tail."""
    norms = [m for m in generator.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    generator.train()
    with torch.no_grad():
        for part in latents.split(batch_size):
            # A shorter last batch would weigh as much in the average as a whole one.
            if len(part) == batch_size:
                generator(part.to(device))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


@torch.no_grad()
def _move_average(average: nn.Module, current: nn.Module, decay: float) -> None:
    """``average <- decay * average + (1 - decay) * current``; buffers are copied."""
    # One launch for all weights, where a loop has one for each.
    held: list[torch.Tensor] = list(average.parameters())
    torch._foreach_lerp_(held, [*current.parameters()], 1.0 - decay)
    for buffer, other in zip(average.buffers(), current.buffers(), strict=True):
        buffer.copy_(other)


def _send(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """To the device without making the host wait."""
    if device.type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values
