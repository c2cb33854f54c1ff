"""Core-set: greedy k-centre on the classifier's features.

O. Sener, S. Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR
2018: with all labelled items as centres, ask again and again about the item that is farthest from its
nearest centre. Euclidean distance between inputs of the last layer, no normalisation (decisions 5), or in
another space (``strategy.features``).

Differs from the paper: the greedy solution only, as in the ASAL paper's O(kn) (Table 2); the robust
variant needs a mixed-integer solver.

The obvious greedy search reads all features once per pick. Here distances may be stale: they only
ever shrink, so a stale one is an upper bound. The few items with the largest bounds are kept up to
date in fast memory, and a pick among them is exact as long as it beats every bound outside; when it
no longer does, all bounds are brought up to date against all centres that were added meanwhile, in
one matrix product. Two floats per item beside the features; no n x n or n x labelled matrix.

Shape letters: N candidates, D features, K centres, A active candidates, B rows of a block.
"""

from __future__ import annotations

from collections.abc import Mapping

from alharness import numerics
from alharness.lazily import torch
from alharness.strategy import CycleView, FeatureStrategy, PoolQuery
from alharness.timing import WorkCounters

#: Where ``alharness list`` shows it.
FAMILY = "Diversity and coverage"

#: Candidates kept up to date: their float64 rows should stay in a core's second-level cache.
ACTIVE_VALUES = 1 << 17
#: Rows and centres of one block of the matrix product: the block of distances stays in the cache.
ROWS, CENTRES = 2048, 512
#: Rows on a GPU, which has no such cache: a launch takes as long as some ten thousand rows.
ROWS_CUDA = 1 << 17
#: Differences that are held at once when a tie is decided.
DIFFERENCES = 1 << 22


class CoreSet(FeatureStrategy):
    """Ask about the items farthest from everything labelled, in the classifier's features."""

    optimises = False
    source = "Sener & Savarese 2018; Mayer & Timofte 2020, Sec. 4.2"

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        return {"pool_items_scored": 0}

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        candidates = view.unlabelled
        with view.stopwatch.phase("features"):
            features_ND = self.space.of(view, candidates)
            centres_KD = self.space.of(view, view.labelled.indices)
            if view.labelled.items is not None:
                synthetic = view.labelled.items.to(view.device)
                centres_KD = torch.cat([centres_KD, self.space.of_items(view, synthetic)])
        with view.stopwatch.phase("k_centre"):
            chosen = k_centre(features_ND, centres_KD, query_size, work=view.work)
        return PoolQuery(candidates[chosen])


@numerics.exact()  # the bounds are on float32 products, whatever a container or library sets
def k_centre(
    features_ND: torch.Tensor,
    centres_KD: torch.Tensor,
    k: int,
    *,
    n_active: int | None = None,
    work: WorkCounters | None = None,
) -> torch.Tensor:
    """Greedy k-centre: ``k`` rows, each the farthest from the given centres and those chosen before.

    Exact, as if all distances were computed in float64; ties by the smaller index. Without any
    centre the first row is chosen first.

    Args:
        features_ND: candidates, float32.
        centres_KD: centres so far, float32, on the same device; may be empty.
        k: how many.
        n_active: candidates kept up to date; chosen from D by default. Never changes the result.
        work: counts ``distances`` and ``feature_rows_read``.

    Returns:
        row numbers in the order of choice, int64 ``[k]`` on the CPU.

    Raises:
        ValueError: fewer than ``k`` rows, or a feature that is not finite.
    """
    if k > len(features_ND):
        raise ValueError(f"asked for {k} of {len(features_ND)} rows")
    bounds = _Bounds(features_ND, centres_KD, work or WorkCounters())
    chosen: list[int] = []
    if k > 0 and len(centres_KD) == 0:
        chosen.append(0)
        bounds.add_centre(0)
    n_active = n_active or max(64, ACTIVE_VALUES // features_ND.shape[1])
    active: _Active | None = None
    while len(chosen) < k:
        row = None if active is None else active.farthest()
        if row is None:
            if active is not None and not bounds.pending:
                n_active *= 4  # more candidates than that are as far as the farthest
            bounds.refresh()
            active = _Active(bounds, n_active)
            continue
        assert active is not None
        if active.all_at_centres:  # only copies of centres are left: in order
            left = torch.ones(len(features_ND), dtype=torch.bool)
            left[chosen] = False
            chosen += left.nonzero().squeeze(1)[: k - len(chosen)].tolist()
            break
        chosen.append(row)
        bounds.add_centre(row)
        active.add_centre(row)
    return torch.tensor(chosen, dtype=torch.int64)


class _Bounds:
    """Squared distance of every candidate to its nearest centre, float32 and possibly stale.

    Attributes:
        squared_N: at most ``error`` below the true value; minus infinity for chosen rows.
        centres: all centres so far, those that ``squared_N`` does not know yet among them.
        pending: rows chosen since the last refresh.
    """

    def __init__(
        self, features_ND: torch.Tensor, centres_KD: torch.Tensor, work: WorkCounters
    ) -> None:
        self.features_ND = features_ND
        self.centres_KD = centres_KD
        self.work = work
        self.chosen: list[int] = []
        self.pending: list[int] = []
        self.norms_N = torch.cat([rows.square().sum(dim=1) for rows in features_ND.split(ROWS)])
        largest = float(self.norms_N.max())
        if len(centres_KD):
            largest = max(largest, float(centres_KD.square().sum(dim=1).max()))
        if not largest < float("inf"):
            raise ValueError("a feature is not finite")
        # |x|^2 + |c|^2 - 2 x.c in float32: each of D products and sums rounds by 2^-24 of at most
        # (|x| + |c|)^2 <= 4 max |x|^2.
        self.error = 4 * largest * (features_ND.shape[1] + 8) * 2.0**-24
        self.squared_N = torch.full_like(self.norms_N, torch.inf)
        if len(centres_KD):
            self._lower(centres_KD)

    def add_centre(self, row: int) -> None:
        """A chosen row becomes a centre."""
        self.chosen.append(row)
        self.pending.append(row)
        self.squared_N[row] = -torch.inf

    def refresh(self) -> None:
        """Bring all bounds up to date: one pass over the features."""
        if self.pending:
            self._lower(self.features_ND[self.pending])
            self.pending = []

    def _lower(self, centres_KD: torch.Tensor) -> None:
        step = ROWS_CUDA if self.features_ND.is_cuda else ROWS
        for some_KD in centres_KD.split(CENTRES):
            norms_K = some_KD.square().sum(dim=1)
            for start in range(0, len(self.features_ND), step):
                rows_BD = self.features_ND[start : start + step]
                # min_k |x|^2 + |c_k|^2 - 2 x.c_k; |x|^2 is the same for all k
                partial_B = torch.addmm(norms_K, rows_BD, some_KD.T, alpha=-2).amin(dim=1)
                squared_B = self.squared_N[start : start + step]
                torch.minimum(
                    squared_B, partial_B.add_(self.norms_N[start : start + step]), out=squared_B
                )
            self.work.add("distances", len(some_KD) * len(self.features_ND))
            self.work.add("feature_rows_read", len(self.features_ND))

    def all_centres(self) -> torch.Tensor:
        """Every centre, ``[K, D]``."""
        return torch.cat([self.centres_KD, self.features_ND[self.chosen]])


class _Active:
    """The candidates with the largest bounds, with exact distances in float64.

    Attributes:
        rows_A: their row numbers, ascending, so that the first of equals has the smallest.
        outside: no candidate outside is farther than this, squared.
        all_at_centres: the farthest candidate of all lies on a centre.
    """

    def __init__(self, bounds: _Bounds, n_active: int) -> None:
        self.bounds = bounds
        n_left = len(bounds.features_ND) - len(bounds.chosen)
        size = min(n_active, n_left)
        top = bounds.squared_N.topk(min(size + 1, n_left))
        self.outside = -float("inf") if size == n_left else float(top.values[-1]) + bounds.error
        self.rows_A = top.indices[:size].sort().values
        self.features_AD = bounds.features_ND[self.rows_A].double()
        self.norms_A = self.features_AD.square().sum(dim=1)
        # What float64 may get wrong in the same formula: closer calls are decided by differences.
        self.close = 4 * float(self.norms_A.max()) * 1e-14 + bounds.error * 2.0**-28
        self.squared_A = torch.full_like(self.norms_A, torch.inf)
        self.all_at_centres = False
        for some_KD in bounds.all_centres().split(CENTRES):
            centres = some_KD.double()
            partial_A = torch.addmm(
                centres.square().sum(dim=1), self.features_AD, centres.T, alpha=-2
            ).amin(dim=1)
            self.squared_A = torch.minimum(self.squared_A, partial_A + self.norms_A)
            bounds.work.add("distances", len(centres) * size)
        bounds.work.add("feature_rows_read", size)

    def farthest(self) -> int | None:
        """The row that is farthest of all; None when one outside might be."""
        # One read of the device per pick.
        best = float(self.squared_A.max())
        if not best - self.close > self.outside:
            return None
        near = (self.squared_A >= best - 2 * self.close).nonzero().squeeze(1)
        if len(near) > 1:
            exact = self._by_differences(near)
            near = near[exact.argmax()]
            # Duplicates of centres only are left: nothing outside is farther, and the search may end.
            self.all_at_centres = float(exact.max()) == 0.0
        return int(self.rows_A[near])

    def _by_differences(self, near: torch.Tensor) -> torch.Tensor:
        """Squared distances of some active rows to their nearest centres, without cancellation."""
        centres_KD = self.bounds.all_centres().double()
        step = max(1, DIFFERENCES // centres_KD.numel())
        return torch.cat(
            [
                (rows_BD[:, None] - centres_KD).square().sum(dim=2).amin(dim=1)
                for rows_BD in self.features_AD[near].split(step)
            ]
        )

    def add_centre(self, row: int) -> None:
        """Bring the active distances up to date against a row that was just chosen."""
        centre_D = self.bounds.features_ND[row].double()
        squared_A = torch.addmv(self.norms_A, self.features_AD, centre_D, alpha=-2)
        torch.minimum(self.squared_A, squared_A.add_(centre_D.square().sum()), out=self.squared_A)
        self.squared_A[torch.searchsorted(self.rows_A, row)] = -torch.inf
        self.bounds.work.add("distances", len(self.rows_A))
