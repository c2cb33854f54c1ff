"""Eq. 1: latents whose images the classifier is most uncertain about.

Maximises ``score(G(z))`` over z by Adam, all latents of a cycle in one batch (Sec. 4.2). The cost
does not depend on the pool. Adam scales every coordinate by itself and the objective is a sum over
the batch, so that latents do not see each other: the batch is a matter of speed.

Differs from the paper: the best iterate is kept (the last one with ``keep_best=False``), and a
Gaussian prior on z may be added. The step size is not given in the paper: .02 by measurement, .1
leaves the manifold of images and loses to random selection (decisions 1.6, 11).

Shape letters: B latents, L latent dimensions, ``...`` the shape of one image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from alharness.generative.capture import CapturedStep
from alharness.timing import WorkCounters

#: Latents per batch: bounds the memory of the backward pass, does not change the result.
CHUNK = 256

Decode = Callable[[torch.Tensor], torch.Tensor]
Score = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class SearchResult:
    """What the search found.

    Attributes:
        z: the latents, ``[B, L]``.
        images: their images ``G(z)``, ``[B, ...]``.
        score_before: score at the starting point, ``[B]``.
        score_after: score of ``images``, ``[B]``.
        best_step: the iterate they come from, int64 ``[B]``; 0 is the starting point.
    """

    z: torch.Tensor
    images: torch.Tensor
    score_before: torch.Tensor
    score_after: torch.Tensor
    best_step: torch.Tensor


def search(
    decode: Decode,
    score: Score,
    z0: torch.Tensor,
    *,
    steps: int = 100,  # Sec. 4.2
    lr: float = 0.02,
    betas: tuple[float, float] = (0.9, 0.999),
    prior_weight: float = 0.0,
    keep_best: bool = True,
    work: WorkCounters | None = None,
    cuda_graph: bool = True,
    chunk: int = CHUNK,
) -> SearchResult:
    """Latents near ``z0`` whose images score high.

    Args:
        decode: latents ``[B, L]`` to images ``[B, ...]``, differentiable, each row by itself.
        score: images to scores ``[B]``, differentiable, larger is better, each row by itself.
        z0: starting points ``[B, L]`` on the device of the computation; not changed.
        steps: Adam steps; 0 only decodes ``z0``.
        lr: Adam's step size.
        betas: Adam's decay rates.
        prior_weight: weight of ``|z|^2 / 2``, the negative log density of z ~ N(0, I).
        keep_best: keep each latent's best iterate instead of the last.
        work: counts every decoded image.
        cuda_graph: on CUDA, replay one captured step instead of launching its kernels again.
        chunk: latents that are searched at a time.

    Raises:
        ValueError: a score of a starting point is not finite.
    """
    parts = []
    for start in torch.split(z0.detach(), chunk):
        climber = _Climber(decode, score, start, lr, betas, prior_weight, keep_best)
        if cuda_graph and z0.is_cuda:
            climber.replay(steps)
        else:
            for _ in range(steps):
                climber.step()
        parts.append(climber.result())
    if work is not None:
        work.add("images_generated", len(z0) * (steps + 1))
    found = SearchResult(
        z=torch.cat([part.z for part in parts]),
        images=torch.cat([part.images for part in parts]),
        score_before=torch.cat([part.score_before for part in parts]),
        score_after=torch.cat([part.score_after for part in parts]),
        best_step=torch.cat([part.best_step for part in parts]),
    )
    if not bool(found.score_before.isfinite().all()):
        raise ValueError("a starting point of the latent search has a score that is not finite")
    return found


class _Climber:
    """Adam (Kingma and Ba 2015) on one batch of latents, with the best point seen so far.

    Whatever changes from step to step is a tensor that is updated in place, the step count too: a
    captured CUDA graph repeats operations on memory and knows no Python numbers.
    """

    def __init__(
        self,
        decode: Decode,
        score: Score,
        z0: torch.Tensor,
        lr: float,
        betas: tuple[float, float],
        prior_weight: float,
        keep_best: bool,
    ) -> None:
        self.decode, self.score = decode, score
        self.lr, self.betas, self.prior_weight, self.keep_best = lr, betas, prior_weight, keep_best
        self.z = z0.clone()
        self.first_moment = torch.zeros_like(z0)
        self.second_moment = torch.zeros_like(z0)
        self.beta = torch.tensor(betas, dtype=torch.float64, device=z0.device)
        self.beta_to_the_t = torch.ones_like(self.beta)
        self.t = torch.zeros(len(z0), dtype=torch.int64, device=z0.device)
        self.best: SearchResult | None = None
        self.best_value = torch.full((len(z0),), -torch.inf, device=z0.device)

    def step(self) -> None:
        """Look at the present point, then climb: one forward and one backward pass."""
        z = self.z.detach().requires_grad_()  # shares memory with self.z
        with torch.enable_grad():
            value = self._look(z)
        # The sum, not the mean: each latent has the gradient it would have alone.
        (gradient,) = torch.autograd.grad(value.sum(), z)
        self.first_moment.lerp_(gradient, 1 - self.betas[0])
        self.second_moment.lerp_(gradient.square(), 1 - self.betas[1])
        self.beta_to_the_t.mul_(self.beta)
        unbias = (1 - self.beta_to_the_t).to(gradient.dtype)
        scale = (self.second_moment / unbias[1]).sqrt_().add_(1e-8)
        self.z.add_(self.first_moment / unbias[0] / scale, alpha=self.lr)
        self.t.add_(1)

    def replay(self, steps: int) -> None:
        """``steps`` steps of which all but the first few are one captured CUDA graph.

        A step on ten latents is a few hundred tiny kernels: launching them costs the host more
        than running them costs the device.
        """
        no_draws = torch.Generator(self.z.device)  # the search is deterministic
        advance: Callable[[], None] = CapturedStep(self.step, no_draws)
        for _ in range(steps):
            try:
                advance()
            except RuntimeError as error:  # the score or the generator does what no graph can hold
                if advance == self.step:
                    raise
                warnings.warn(
                    f"latent search without a CUDA graph, slower but the same: {error}",
                    stacklevel=3,
                )
                advance = self.step
                advance()

    def result(self) -> SearchResult:
        """The best point, the one reached by the last step included."""
        with torch.no_grad():
            self._look(self.z)
        assert self.best is not None
        return self.best

    def _look(self, z: torch.Tensor) -> torch.Tensor:
        """The objective at ``z``, ``[B]``; remembers the points that are better than before."""
        images = self.decode(z)
        scores = self.score(images)
        value = scores - 0.5 * self.prior_weight * z.square().sum(dim=1)
        new_z, new_images, new_scores = z.detach(), images.detach(), scores.detach()
        if self.best is None:
            self.best = SearchResult(
                new_z.clone(),
                new_images.clone(),
                new_scores.clone(),
                new_scores.clone(),
                self.t.clone(),
            )
            self.best_value.copy_(value.detach())
            return value
        better = value.detach() > self.best_value
        if not self.keep_best:
            better = torch.ones_like(better)
        best = self.best
        best.z.copy_(torch.where(better[:, None], new_z, best.z))
        rows = better.reshape(-1, *[1] * (new_images.ndim - 1))
        best.images.copy_(torch.where(rows, new_images, best.images))
        best.score_after.copy_(torch.where(better, new_scores, best.score_after))
        best.best_step.copy_(torch.where(better, self.t, best.best_step))
        self.best_value.copy_(torch.where(better, value.detach(), self.best_value))
        return value
