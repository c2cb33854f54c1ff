"""A control for ASAL: the neighbours of random real images, matched as ASAL matches synthetic ones."""

import torch

from alharness.generative.latent_search import SearchResult
from alharness.matching import Index, Matches, match
from alharness.strategy import CycleView
from alharness_strategies.asal import AsalGray


class RealMatches(AsalGray):
    """Ask about the nearest unlabelled neighbours of random real images of the pool, by grey values."""

    source = "control of benchmarks/specs/experiments/dose.toml"

    def drawn(self, view: CycleView, n: int) -> torch.Tensor:
        """Pool indices of the real images that take the place of synthetic ones, ``[n]``."""
        return torch.randperm(len(view.pool), generator=view.torch_rng("real"))[:n]

    def synthesise(self, view: CycleView, n: int) -> SearchResult:
        at = self.drawn(view, n)
        images = view.pool.gather(at)
        score = self.score(view.learner)(images)
        return SearchResult(
            z=torch.zeros(n, self.generator.latent_dim, device=view.device),
            images=images,
            score_before=score,
            score_after=score,
            best_step=torch.zeros(n, dtype=torch.int64, device=view.device),
        )

    def retrieve(self, view: CycleView, index: Index, points: torch.Tensor) -> Matches:
        """An image is no neighbour of itself: else this would be random sampling."""
        own = self.drawn(view, len(points)).to(view.available.taken.device)
        taken = torch.cat([view.available.taken, own]).unique()
        return match(index, points, taken=taken, work=view.work)
