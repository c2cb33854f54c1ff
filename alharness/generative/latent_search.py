"""Eq. 1: latents whose images the classifier is most uncertain about.

Maximises ``score(G(z))`` over z by Adam, all latents of a cycle in one batch (Sec. 4.2). The cost
does not depend on the pool. Adam scales every coordinate by itself and the objective is a sum over
the batch, so that latents do not see each other: the batch is a matter of speed.

Differs from the paper: the best iterate is kept (the last one with ``keep_best=False``), and a
Gaussian prior on z may be added. The step size is not given in the paper: .02 by measurement, .1
leaves the manifold of images and loses to random selection (decisions 1.6, 11).

On CUDA one step is captured as a graph, once: a ``LatentSearch`` that is called again copies its new
starting points into the graph's memory and replays it, and ``ClassifierSearch`` copies the weights of
each cycle's classifier there as well. So the number of host reads and captures of a selection does not
depend on the steps: two reads, and a capture in the run's first selection only.

Shape letters: B latents, L latent dimensions, ``...`` the shape of one image.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from alharness.lazily import torch
from alharness.learners.learner import Learner, take_state
from alharness.timing import WorkCounters

#: Latents per batch: bounds the memory of the backward pass, does not change the result.
CHUNK = 256

Decode = Callable[["torch.Tensor"], "torch.Tensor"]
Score = Callable[..., "torch.Tensor"]


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
    """Latents near ``z0`` whose images score high: a ``LatentSearch`` that is used once.

    Raises:
        ValueError: a score of a starting point is not finite.
    """
    once = LatentSearch(
        decode,
        score,
        steps=steps,
        lr=lr,
        betas=betas,
        prior_weight=prior_weight,
        keep_best=keep_best,
        cuda_graph=cuda_graph,
        chunk=chunk,
    )
    return once(z0, work=work)


class LatentSearch:
    """A search to be repeated from other starting points; on CUDA it keeps its captured step.

    Args:
        decode: latents ``[B, L]`` to images ``[B, ...]``, differentiable, each row by itself.
        score: images, and whatever is given beside the latents, to scores ``[B]``, differentiable in
            the images, larger is better, each row by itself.
        steps: Adam steps; 0 only decodes the starting points.
        lr: Adam's step size.
        betas: Adam's decay rates.
        prior_weight: weight of ``|z|^2 / 2``, the negative log density of z ~ N(0, I).
        keep_best: keep each latent's best iterate instead of the last.
        cuda_graph: on CUDA, replay one captured step instead of launching its kernels again.
        chunk: latents that are searched at a time.
    """

    def __init__(
        self,
        decode: Decode,
        score: Score,
        *,
        steps: int = 100,
        lr: float = 0.02,
        betas: tuple[float, float] = (0.9, 0.999),
        prior_weight: float = 0.0,
        keep_best: bool = True,
        cuda_graph: bool = True,
        chunk: int = CHUNK,
    ) -> None:
        self.decode, self.score, self.steps = decode, score, steps
        self.lr, self.betas, self.prior_weight, self.keep_best = lr, betas, prior_weight, keep_best
        self.cuda_graph, self.chunk = cuda_graph, chunk
        #: One per shape and type of what is given: a graph's memory has one shape.
        self._climbers: dict[tuple[object, ...], _Climber] = {}

    def __call__(
        self, z0: torch.Tensor, *given: torch.Tensor, work: WorkCounters | None = None
    ) -> SearchResult:
        """Latents near ``z0`` whose images score high.

        Args:
            z0: starting points ``[B, L]`` on the device of the computation; not changed.
            given: further arguments of ``score``, ``[B, ...]`` each.
            work: counts every decoded image.

        Raises:
            ValueError: a score of a starting point is not finite.
        """
        chunks = zip(
            *(torch.split(part.detach(), self.chunk) for part in (z0, *given)), strict=True
        )
        parts = [self._climb(start, others) for start, *others in chunks]
        if work is not None:
            work.add("images_generated", len(z0) * (self.steps + 1))
        found = SearchResult(
            z=torch.cat([part.z for part in parts]),
            images=torch.cat([part.images for part in parts]),
            score_before=torch.cat([part.score_before for part in parts]),
            score_after=torch.cat([part.score_after for part in parts]),
            best_step=torch.cat([part.best_step for part in parts]),
        )
        # The selection's one look at the device's numbers: everything above is only put on its way.
        if not bool(found.score_before.isfinite().all()):
            raise ValueError("a starting point of the latent search has a score that is not finite")
        return found

    def _climb(self, z0: torch.Tensor, given: list[torch.Tensor]) -> SearchResult:
        captured = self.cuda_graph and z0.is_cuda
        shapes = tuple((part.shape, part.dtype) for part in (z0, *given))
        climber = self._climbers.get(shapes)
        if climber is None:
            climber = _Climber(self, z0, given)
            if captured:
                self._climbers[shapes] = climber
        else:
            climber.restart(z0, given)
        if captured:
            climber.replay(self.steps)
        else:
            for _ in range(self.steps):
                climber.step()
        return climber.result()


class ClassifierSearch:
    """Searches by the classifier of each cycle, all on one captured step.

    A graph repeats operations on memory, so it needs a classifier that stays where it is: a copy, into
    which the weights of the cycle's own are copied. What a classifier keeps elsewhere than in ``state()``
    (a temperature, a centre) would stay that of the copied one. So both are asked about the starting
    points first, and where they disagree the cycle's own is captured afresh.

    Args:
        searcher: makes the search that maximises a classifier's score; called in each cycle on a CPU, where
            nothing is captured, and whenever a classifier is captured on CUDA.
    """

    def __init__(self, searcher: Callable[[Learner], LatentSearch]) -> None:
        self._searcher = searcher
        self._held: Learner | None = None
        self._search: LatentSearch | None = None

    def __call__(
        self, learner: Learner, z0: torch.Tensor, work: WorkCounters | None = None
    ) -> SearchResult:
        """Latents near ``z0`` whose images score high with ``learner``, which is not changed."""
        if not z0.is_cuda:
            return self._searcher(learner)(z0, work=work)
        held, kept = self._held, self._search
        if held is None or kept is None or not _stands_for(held, learner, kept, z0):
            self._held = copy.deepcopy(learner)
            self._search = kept = self._searcher(self._held)
        return kept(z0, work=work)


def _stands_for(held: Learner, learner: Learner, kept: LatentSearch, z0: torch.Tensor) -> bool:
    """Whether the copy, with ``learner``'s state, sees the images of ``z0`` as it does, to the bit."""
    if not take_state(held, learner):
        return False
    with torch.no_grad():
        images = kept.decode(z0[: kept.chunk])
        return torch.equal(held.logits(images), learner.logits(images))


class _Climber:
    """Adam (Kingma and Ba 2015) on one batch of latents, with the best point seen so far.

    Whatever changes from step to step is a tensor that is updated in place, the step count too: a
    captured CUDA graph repeats operations on memory and knows no Python numbers.
    """

    def __init__(self, search: LatentSearch, z0: torch.Tensor, given: list[torch.Tensor]) -> None:
        # The search keeps its climbers; the other way round as well, their graphs would outlive it.
        self.search = cast(LatentSearch, weakref.proxy(search))
        self.z = z0.clone()
        self.given = [values.clone() for values in given] if z0.is_cuda else given
        self.first_moment = torch.zeros_like(z0)
        self.second_moment = torch.zeros_like(z0)
        self.beta = torch.tensor(search.betas, dtype=torch.float64, device=z0.device)
        self.beta_to_the_t = torch.ones_like(self.beta)
        self.t = torch.zeros(len(z0), dtype=torch.int64, device=z0.device)
        self.best: SearchResult | None = None
        self.best_value = torch.full((len(z0),), -torch.inf, device=z0.device)
        self.captured: Callable[[], None] | None = None

    def restart(self, z0: torch.Tensor, given: list[torch.Tensor]) -> None:
        """Begin again elsewhere, in the same memory."""
        self.z.copy_(z0)
        for held, values in zip(self.given, given, strict=True):
            held.copy_(values)
        self.first_moment.zero_()
        self.second_moment.zero_()
        self.beta_to_the_t.fill_(1.0)
        self.t.zero_()  # the first look takes whatever it sees

    def step(self) -> None:
        """Look at the present point, then climb: one forward and one backward pass."""
        z = self.z.detach().requires_grad_()  # shares memory with self.z
        with torch.enable_grad():
            value = self._look(z)
        # The sum, not the mean: each latent has the gradient it would have alone.
        (gradient,) = torch.autograd.grad(value.sum(), z)
        # Adam written out: a restart only fills these tensors, and a graph keeps their memory.
        betas = self.search.betas
        self.first_moment.lerp_(gradient, 1 - betas[0])
        self.second_moment.lerp_(gradient.square(), 1 - betas[1])
        self.beta_to_the_t.mul_(self.beta)
        unbias = (1 - self.beta_to_the_t).to(gradient.dtype)
        scale = (self.second_moment / unbias[1]).sqrt_().add_(1e-8)
        self.z.add_(self.first_moment / unbias[0] / scale, alpha=self.search.lr)
        self.t.add_(1)

    def replay(self, steps: int) -> None:
        """``steps`` steps of which all but the first few are one captured CUDA graph.

        A step on ten latents is a few hundred tiny kernels: launching them costs the host more
        than running them costs the device.
        """
        if self.captured is None:
            # A foreign score or generator may do what no graph can hold.
            from alharness.learners.capture import CapturedStep, weakly  # which needs torch

            self.captured = CapturedStep(weakly(self.step), or_eagerly="latent search")
        for _ in range(steps):
            self.captured()

    def result(self) -> SearchResult:
        """The best point, the one reached by the last step included; in memory of its own."""
        with torch.no_grad():
            self._look(self.z)
        best = self.best
        assert best is not None
        if self.captured is None:
            return best
        return SearchResult(
            best.z.clone(),
            best.images.clone(),
            best.score_before.clone(),
            best.score_after.clone(),
            best.best_step.clone(),
        )

    def _look(self, z: torch.Tensor) -> torch.Tensor:
        """The objective at ``z``, ``[B]``; remembers the points that are better than before."""
        images = self.search.decode(z)
        scores = self.search.score(images, *self.given)
        value = scores - 0.5 * self.search.prior_weight * z.square().sum(dim=1)
        new_z, new_images, new_scores = z.detach(), images.detach(), scores.detach()
        if self.best is None:
            self.best = SearchResult(
                torch.empty_like(new_z),
                torch.empty_like(new_images),
                torch.empty_like(new_scores),
                torch.empty_like(new_scores),
                torch.empty_like(self.t),
            )
        first = self.t == 0
        better = first | (value.detach() > self.best_value)
        # Still through the same selects, so that both ways are one graph.
        if not self.search.keep_best:
            better = torch.ones_like(better)
        best = self.best
        best.z.copy_(torch.where(better[:, None], new_z, best.z))
        rows = better.reshape(-1, *[1] * (new_images.ndim - 1))
        best.images.copy_(torch.where(rows, new_images, best.images))
        best.score_before.copy_(torch.where(first, new_scores, best.score_before))
        best.score_after.copy_(torch.where(better, new_scores, best.score_after))
        best.best_step.copy_(torch.where(better, self.t, best.best_step))
        self.best_value.copy_(torch.where(better, value.detach(), self.best_value))
        return value
