"""ProbCover: cover as much of the pool as possible with balls around the labelled items.

O. Yehuda, A. Dekel, G. Hacohen, D. Weinshall, "Active Learning Through a Covering Lens", NeurIPS 2022: with
few labels, ask about the item whose ball of radius delta holds most items that no labelled item's ball
holds, again and again. Delta is the largest radius at which 95 % of the balls hold items of one cluster
only, with as many clusters as classes (Sec. 3.3).

With the features of a network that was trained without labels (``strategy.features=npz:FILE``) it is the
published method: rows scaled to length 1, as the authors' code loads them, not reduced.

Differs from the paper: without a file, features are the task's auto-encoder's, or the rows themselves,
reduced by PCA as ASAL's are and not scaled; delta is found from a sample of balls; among equals, and where
no item is left uncovered, the items with most neighbours come first.

Shape letters: N items of the pool, K features, E pairs of items within delta of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array, triu
from sklearn.cluster import KMeans

from alharness import numerics, seeds
from alharness.artefacts import Artefact, Maker, write_tensors
from alharness.artefacts.keys import identity
from alharness.errors import UserError
from alharness.lazily import torch
from alharness.progress import Progress, silent
from alharness.strategy import (
    CycleView,
    FeatureParameters,
    FeatureStrategy,
    Parameters,
    PoolQuery,
    Preparation,
)

#: Where ``alharness list`` shows it.
FAMILY = "Diversity and coverage"

FILE = "cover.safetensors"
#: Rows whose distances to the whole pool are held at once.
ROWS = 512
#: Distances held at once, at most: a gigabyte of float32, whatever the pool's size.
HELD = 1 << 28
#: Balls that say how large delta may be.
BALLS = 1000
#: Pairs within delta that are kept: a gigabyte.
MAX_PAIRS = 250_000_000


class ProbCoverParameters(FeatureParameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    delta: float | None = Field(None, gt=0, description="radius of a ball; by default from purity")
    purity: float = Field(
        0.95, gt=0, lt=1, description="share of balls that hold one cluster only (Sec. 3.3)"
    )
    pca_dims: int = Field(50, ge=1, description="dimensions of the features after PCA")


@dataclass(frozen=True)
class Cover:
    """Which items lie within delta of each other.

    Attributes:
        starts: where the neighbours of each item begin, int64 ``[N + 1]``.
        neighbours: pool indices, int32 ``[E]``; an item is among its own.
        delta: the radius.
    """

    starts: torch.Tensor
    neighbours: torch.Tensor
    delta: float

    def of(self, index: int) -> torch.Tensor:
        """Items within delta of one, int64."""
        return self.neighbours[self.starts[index] : self.starts[index + 1]].long()


@dataclass(frozen=True)
class CoverMaker(Maker[Cover]):
    """The neighbourhoods of a pool's points, float32 ``[N, K]``."""

    kind = "cover"

    points: torch.Tensor
    pool: str
    extractor: str
    n_classes: int
    parameters: ProbCoverParameters

    def identity(self) -> dict[str, Any]:
        return {
            "pool": self.pool,
            "extractor": self.extractor,
            "n_classes": self.n_classes,
            # The extractor says which features these are.
            **{k: v for k, v in identity(self.parameters).items() if k != "features"},
        }

    def build(self, folder: Path, progress: Progress) -> dict[str, Any]:
        cover = cover_of(self.points, self.n_classes, self.parameters, progress)
        write_tensors(folder / FILE, {"starts": cover.starts, "neighbours": cover.neighbours})
        return {"delta": cover.delta, "pairs": len(cover.neighbours), "rows": len(self.points)}

    def load(self, artefact: Artefact) -> Cover:
        stored = artefact.tensors(FILE)
        return Cover(stored["starts"], stored["neighbours"], float(artefact.details["delta"]))


class ProbCover(FeatureStrategy):
    """Ask about the items whose neighbourhoods cover most of what no labelled item covers."""

    Parameters: ClassVar[type[Parameters]] = ProbCoverParameters
    parameters: ProbCoverParameters
    optimises = False
    source = "Yehuda et al. 2022"
    # An auto-encoder and clusters are trained on the pool in its order.
    follows_order = True
    own_features = ""
    unit = True  # as the authors' code loads its rows
    cover: Cover | None = None

    def prepare(self, preparation: Preparation) -> None:
        super().prepare(preparation)
        # Where the classifier makes the space anew in each cycle, the balls are found in each cycle.
        self.cover = None
        if self.space.points is not None:
            self.cover = preparation.supply.obtain(
                CoverMaker(
                    self.space.points,
                    preparation.pool.fingerprint,
                    self.space.key,
                    preparation.n_classes,
                    self.parameters,
                )
            )

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        if self.parameters.features == "classifier":
            return {"pool_items_scored": 0}
        return {"pool_items_scored": 0, "bytes_read": 0}

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        with view.stopwatch.phase("cover"):
            cover = self.cover
            if cover is None:
                points_NK = self.space.of(view, torch.arange(view.pool.n))
                cover = cover_of(points_NK, view.n_classes, self.parameters, silent)
            chosen, n_covered = choose(cover, view.labelled.indices, view.unlabelled, query_size)
        share = n_covered / view.pool.n
        return PoolQuery(chosen, diagnostics={"covered": share, "delta": cover.delta})


def cover_of(
    points_NK: torch.Tensor, n_classes: int, parameters: ProbCoverParameters, progress: Progress
) -> Cover:
    """Which points lie within delta of each other, with the delta that was set or that purity gives."""
    delta = parameters.delta or radius(points_NK, n_classes, parameters.purity)
    return within(points_NK, delta, progress)


def choose(
    cover: Cover, labelled: torch.Tensor, candidates: torch.Tensor, k: int
) -> tuple[torch.Tensor, int]:
    """Greedy choice of the candidate that covers most uncovered items, ties by smaller index.

    Returns:
        pool indices in order of choice, int64 ``[k]``, and how many items are covered then.
    """
    n = len(cover.starts) - 1
    covered = torch.zeros(n, dtype=torch.bool)
    for index in labelled.tolist():
        covered[cover.of(index)] = True
    size_N = cover.starts.diff()
    rows_E = torch.repeat_interleave(torch.arange(n), size_N)
    gain_N = rows_E[~covered[cover.neighbours.long()]].bincount(minlength=n)
    # Among equals, and where nothing is left to cover, the item with most neighbours comes first.
    gain_N = gain_N * (n + 1) + size_N
    blocked = torch.ones(n, dtype=torch.bool)
    blocked[candidates] = False
    gain_N[blocked] = -1
    chosen: list[int] = []
    for _ in range(k):
        best = int(gain_N.argmax())
        chosen.append(best)
        ball = cover.of(best)
        for index in ball[~covered[ball]].tolist():  # within delta of each other: both ways
            gain_N[cover.of(index)] -= n + 1
        covered[ball] = True
        gain_N[best] = -1
    return torch.tensor(chosen, dtype=torch.int64), int(covered.sum())


def radius(points_NK: torch.Tensor, n_clusters: int, purity: float) -> float:
    """The largest delta at which a share ``purity`` of the balls hold one cluster only.

    A ball is pure as long as it is smaller than the distance to the nearest item of another cluster: delta
    is a quantile of that distance over a sample of the items.
    """
    n = len(points_NK)
    solver = KMeans(min(n_clusters, n), random_state=0, n_init=1)
    rows = seeds.rng(0, "prob-cover").permutation(n)
    some = torch.from_numpy(rows[: 20 * BALLS].copy())
    solver.fit(_distinct(points_NK[some.to(points_NK.device)].cpu().numpy(), n_clusters))
    cluster_N = torch.from_numpy(solver.predict(points_NK.cpu().numpy())).to(points_NK.device)
    nearest = []
    for part in torch.from_numpy(rows[:BALLS].copy()).split(ROWS):
        part = part.to(points_NK.device)
        distances = torch.cdist(points_NK[part], points_NK)
        distances[cluster_N[part][:, None] == cluster_N[None]] = torch.inf
        nearest.append(distances.amin(dim=1))
    room = torch.cat(nearest).double().cpu().numpy()
    if not np.isfinite(room).all():  # one cluster: every ball is pure
        return float(torch.cdist(points_NK[:1], points_NK).max()) or 1.0
    return float(np.quantile(room, 1 - purity)) or 1e-6


def _distinct(points: np.ndarray, n_clusters: int) -> np.ndarray:
    """The points; where fewer of them differ than clusters are wanted, with a little noise."""
    if len(np.unique(points, axis=0)) >= n_clusters:
        return points
    noise: np.ndarray = seeds.rng(0, "prob-cover", "noise").normal(0, 1e-6, points.shape)
    noisy: np.ndarray = points + noise.astype(points.dtype)
    return noisy


@numerics.exact()  # the bounds are on float32 products, whatever a container or library sets
def within(points_NK: torch.Tensor, delta: float, progress: Progress) -> Cover:
    """All pairs of items within delta of each other.

    A matrix product gives squared distances fast, up to what float32 rounds; pairs so near to delta that
    this could decide are measured again by differences, which give the same from either end. Only pairs
    ``i <= j`` are looked at: half of the product.

    Raises:
        UserError: more of them than can be kept.
    """
    n, k = points_NK.shape
    squared_N = points_NK.square().sum(dim=1)
    ones_N = torch.ones_like(squared_N)
    # |a - b|^2 = (-2 a, |a|^2, 1) . (b, 1, |b|^2): no pass over the distances to add up the lengths.
    left = torch.cat([-2 * points_NK, squared_N[:, None], ones_N[:, None]], dim=1)
    right = torch.cat([points_NK, ones_N[:, None], squared_N[:, None]], dim=1).T.contiguous()
    # k + 2 terms of at most 4 |x|^2 together, and the lengths' own rounding: twice the sum of both.
    error = (k + 4) * 4 * float(squared_N.max()) * torch.finfo(points_NK.dtype).eps
    counts, columns, total = [], [], 0
    rows = max(1, min(ROWS, HELD // n))
    for start in range(0, n, rows):
        squared_BN = left[start : start + rows] @ right[:, start:]
        near = squared_BN <= delta * delta + error
        near[:, : len(near)].triu_()
        row, column = near.nonzero(as_tuple=True)
        close = (squared_BN[row, column] > delta * delta - error).nonzero().squeeze(1)
        is_within = torch.ones_like(row, dtype=torch.bool)
        is_within[close] = _distances(points_NK, start + row[close], start + column[close]) <= delta
        row, column = row[is_within], column[is_within]
        total += len(row)
        if 2 * total - n > MAX_PAIRS:
            raise UserError(
                f"prob-cover: more than {MAX_PAIRS:,} pairs of items lie within delta = {delta:.4g} of "
                "each other. Set a smaller strategy.delta, or a larger strategy.purity."
            )
        counts.append(row.bincount(minlength=len(near)).cpu())
        columns.append((start + column).int().cpu())
        progress("neighbours within delta", min(start + rows, n), n)
    starts = np.concatenate([[0], torch.cat(counts).cumsum(dim=0).numpy()])
    upper = csr_array(
        (np.ones(total, dtype=bool), torch.cat(columns).numpy(), starts), shape=(n, n)
    )
    both = csr_array(upper + triu(upper, 1).T)
    both.sort_indices()
    return Cover(
        torch.from_numpy(both.indptr.astype(np.int64)),
        torch.from_numpy(both.indices.astype(np.int32, copy=False)),
        delta,
    )


def _distances(points_NK: torch.Tensor, one_P: torch.Tensor, other_P: torch.Tensor) -> torch.Tensor:
    """Distances of pairs of items by differences, ``[P]``."""
    found: torch.Tensor = torch.cdist(
        points_NK[one_P, None],
        points_NK[other_P, None],
        compute_mode="donot_use_mm_for_euclid_dist",
    ).flatten()
    return found
