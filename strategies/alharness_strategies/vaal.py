"""VAAL: ask about what a critic of latent codes can tell apart from the labelled items.

S. Sinha, S. Ebrahimi, T. Darrell, "Variational Adversarial Active Learning", ICCV 2019: a variational
auto-encoder learns to make the codes of labelled and unlabelled items alike (Eqs. 1 to 3) while a
discriminator learns to tell them apart (Eq. 4); asked about are the items that it is surest are
unlabelled (Algorithm 2). The classifier plays no part.

Differs from the paper: the networks are small and as deep as the images can be halved, without batch
normalisation (the labelled batch may be tiny); so many optimiser steps in each cycle instead of 100 epochs,
and no second step on labelled items only; reconstruction and divergence are both sums per item, as Eq. 1
has them, where the authors' code averages one and sums the other; classifier and auto-encoder are not
trained in turns, because the harness trains the classifier.

Shape letters: B items of a batch, L dimensions of a code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from pydantic import Field

from alharness import acquisition
from alharness.lazily import functional, nn, torch
from alharness.learners.training import adam, descend, replayed
from alharness.strategy import CycleView, Parameters, PoolQuery, Strategy

#: Where ``alharness list`` shows it.
FAMILY = "Diversity, with an auto-encoder and a discriminator that are trained along"


class VaalParameters(Parameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    latent_dim: int = Field(32, ge=1, description="dimensions of a code (the authors' code)")
    beta: float = Field(1.0, ge=0, description="weight of the divergence from the prior (Eq. 1)")
    adversary: float = Field(1.0, ge=0, description="weight of the adversarial loss (Eq. 3)")
    lr: float = Field(5e-4, gt=0, description="Adam's step size (the authors' code)")
    batch_size: int = Field(64, ge=1, description="items of each kind per optimiser step")
    train_steps: int = Field(300, ge=1, description="optimiser steps in each cycle")
    critic_width: int = Field(128, ge=1, description="units of the discriminator (512 there)")
    width: int = Field(16, ge=1, description="channels of the first convolution")


class Vaal(Strategy):
    """Ask about items whose latent codes a discriminator can tell from those of labelled items."""

    Parameters: ClassVar[type[Parameters]] = VaalParameters
    parameters: VaalParameters
    source = "Sinha et al. 2019"

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        return {
            "pool_items_scored": n_unlabelled,
            "pool_items_featurised": 2 * self.parameters.train_steps * self.parameters.batch_size,
        }

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        # Anew in each cycle: the networks follow what is labelled now.
        with view.stopwatch.phase("train"):
            vae, discriminator, losses = self.train(view)
        with view.stopwatch.phase("score"):
            scores = view.scan(lambda items: -discriminator(vae.encode(items)[0]))
        with view.stopwatch.phase("top_k"):
            chosen = acquisition.top_k(scores, query_size)
        return PoolQuery(view.unlabelled[chosen], diagnostics=losses._asdict())

    def train(self, view: CycleView) -> tuple[Vae, nn.Module, Losses]:
        """Both networks after their steps, and the losses of the last one."""
        given, device = self.parameters, view.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(view.rng("weights").integers(2**31)))
            vae = Vae(view.pool.item_shape, given.latent_dim, given.width)
            discriminator = critic(given.latent_dim, given.critic_width)
        vae, discriminator = vae.to(device), discriminator.to(device)
        # Drawn on the CPU, then moved: the same weights on every device.
        of_vae = adam(vae.parameters(), given.lr, device, fused=True)
        of_critic = adam(discriminator.parameters(), given.lr, device, fused=True)
        rng = view.torch_rng("batches")
        known, unknown = view.labelled.indices.cpu(), view.unlabelled
        losses = torch.zeros(3, device=device)

        def drawn(indices: torch.Tensor) -> torch.Tensor:
            # With replacement: step k hangs on the seed and k alone, not on an epoch's end.
            size = min(given.batch_size, len(indices))
            wanted = indices[torch.randint(len(indices), (size,), generator=rng)]
            view.work.add("pool_items_featurised", size)
            return view.pool.gather(wanted)

        def noise(n: int) -> torch.Tensor:
            return torch.randn(n, given.latent_dim, generator=rng).to(device)

        def step(labelled: torch.Tensor, unlabelled: torch.Tensor, noise_BL: torch.Tensor) -> None:
            items, n = torch.cat([labelled, unlabelled]), len(labelled)  # one pass for both
            mu_BL, elbo_B = vae.loss(items, noise_BL, given.beta)
            transduced = elbo_B[:n].mean() + elbo_B[n:].mean()
            deceived_B = deceit(discriminator(mu_BL))
            deceived = deceived_B[:n].mean() + deceived_B[n:].mean()
            descend(of_vae, transduced + given.adversary * deceived)
            # The auto-encoder moved just now; these codes are of before, which saves a third pass.
            told = telling(discriminator(mu_BL.detach()), n)
            descend(of_critic, told)
            losses.copy_(torch.stack([transduced, deceived, told]).detach())

        take = replayed(step, device, "the training of vaal's networks")
        for _ in range(given.train_steps):
            labelled, unlabelled = drawn(known), drawn(unknown)
            take(labelled, unlabelled, noise(len(labelled) + len(unlabelled)))
        for network in (vae, discriminator):
            network.eval().requires_grad_(False)
        return vae, discriminator, Losses(*losses.tolist())  # one read, after the last step


class Losses(NamedTuple):
    """Losses of the last step: Eq. 1 over both batches, Eq. 2, Eq. 4."""

    vae: float
    deceit: float
    telling: float


def deceit(logits_B: torch.Tensor) -> torch.Tensor:
    """Eq. 2, per item ``[B]``: the auto-encoder wants logits that call all items labelled."""
    return functional.softplus(-logits_B)  # cross-entropy with target 1


def telling(logits_B: torch.Tensor, n_labelled: int) -> torch.Tensor:
    """Eq. 4: the discriminator wants logits that tell the first items from the others."""
    labelled, unlabelled = logits_B[:n_labelled], logits_B[n_labelled:]
    return functional.softplus(-labelled).mean() + functional.softplus(unlabelled).mean()


def elbo(
    items: torch.Tensor,
    seen: torch.Tensor,
    mu_BL: torch.Tensor,
    log_var_BL: torch.Tensor,
    beta: float,
) -> torch.Tensor:
    """Eq. 1, negated, per item ``[B]``: squared error of what is seen again, divergence from N(0, I)."""
    error = (seen - items).square().flatten(1).sum(dim=1)
    divergence = 0.5 * (mu_BL.square() + log_var_BL.exp() - 1 - log_var_BL).sum(dim=1)
    return error + beta * divergence


class Vae(nn.Module):
    """A variational auto-encoder: of images by strided convolutions, of rows by one hidden layer."""

    def __init__(self, item_shape: tuple[int, ...], latent_dim: int, width: int) -> None:
        super().__init__()
        self.item_shape = item_shape
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        channels, inner = (item_shape[0], item_shape) if len(item_shape) == 3 else (1, item_shape)
        for depth in range(halvings(item_shape)):
            out = width << depth
            down += [nn.Conv2d(channels, out, 4, stride=2, padding=1), nn.ReLU()]
            back = nn.ConvTranspose2d(out, channels, 4, stride=2, padding=1)
            up = [back, nn.ReLU(), *up] if depth else [back]
            channels = out
            inner = (out, inner[1] // 2, inner[2] // 2)
        n = math.prod(inner)
        # Rows, and images of odd sides, which no stride of two gives back at their size.
        if not down:
            hidden = 4 * width
            down = [nn.Flatten(), nn.Linear(n, hidden), nn.ReLU()]
            up, inner, n = [nn.ReLU(), nn.Linear(hidden, n)], (hidden,), hidden
        self.down = nn.Sequential(*down, nn.Flatten())
        self.heads = nn.Linear(n, 2 * latent_dim)
        unfold = [nn.Unflatten(1, inner), nn.ReLU()] if len(inner) == 3 else []
        self.up = nn.Sequential(nn.Linear(latent_dim, n), *unfold, *up)

    def encode(self, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the variance of each item's code, ``[B, L]`` each."""
        mu_BL, log_var_BL = self.heads(self.down(items)).chunk(2, dim=1)
        return mu_BL, log_var_BL.clamp(-20, 20)  # exp of it stays a number

    def loss(
        self, items: torch.Tensor, noise_BL: torch.Tensor, beta: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Means of the codes ``[B, L]``, and Eq. 1 per item with codes drawn by the noise."""
        mu_BL, log_var_BL = self.encode(items)
        code_BL = mu_BL + (0.5 * log_var_BL).exp() * noise_BL
        seen = self.up(code_BL).reshape(len(items), *self.item_shape)
        return mu_BL, elbo(items, seen, mu_BL, log_var_BL, beta)


def halvings(item_shape: tuple[int, ...]) -> int:
    """How often an image can be halved exactly and stay at least two pixels wide; at most four times."""
    if len(item_shape) != 3:
        return 0
    n, (height, columns) = 0, item_shape[1:]
    while n < 4 and height % 2 == 0 and columns % 2 == 0 and min(height, columns) >= 4:
        n, height, columns = n + 1, height // 2, columns // 2
    return n


def critic(latent_dim: int, width: int) -> nn.Sequential:
    """Codes to logits ``[B]`` of being labelled: two hidden layers, as in the authors' code."""
    return nn.Sequential(
        nn.Linear(latent_dim, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 1),
        nn.Flatten(0),
    )
