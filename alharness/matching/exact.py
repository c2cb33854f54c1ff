"""Exhaustive search, exact to the last bit, in one read of the features: the default index.

Shape letters: N pool items, K feature dimensions, Q queries, G groups of neighbouring rows,
P parts of a block of rows, B rows of a part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from alharness import numerics
from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.matching.index import Index, Neighbour
from alharness.matching.search import Search
from alharness.timing import WorkCounters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alharness.matching.streamed import StreamedRows


class ExactIndex(Index):
    """Exhaustive search, exact to the last bit, in one read of the features.

    The pass computes ``|f|^2 - 2 q.f`` in float32 as one matrix product (the squared norms are one
    more feature column, taken rows have norm infinity) and keeps only the minimum over each group
    of ``GROUP`` neighbouring rows. Groups are then opened from the smallest minimum on, their rows
    measured directly in float64, and a neighbour is given out once no closed group can hold a
    nearer one, the rounding of the pass included. So the result is that of a float64 search over
    everything, ties by smaller index.
    """

    name = "exact"
    #: Rows per group: a larger one leaves fewer minima to keep and more rows to measure again.
    GROUP = 64
    #: Rows per block of the pass, on a CPU for each thread: the products should stay in its cache.
    PART_CPU = 16384
    #: Share of a GPU's second-level cache that a block's products take: they are written and read again
    #: there, while rows stream through. On an H100 (50 MB) at 10 queries 437,000 rows of 50 features, 91
    #: MB: some 30 us of reading for three launches.
    CACHE_SHARE = 1 / 3
    #: That cache where torch does not tell, bytes.
    CACHE_BYTES = 6 << 20
    #: Rows that are copied at a time when the index is built.
    COPIED = 1 << 22
    #: Queries per pass; more would need more memory and not make the product faster.
    QUERIES = 128

    def __init__(self, features: torch.Tensor) -> None:
        """Copies ``features`` (float32 ``[N, K]``) with their squared norms: O(N), once."""
        if features.ndim != 2 or len(features) == 0:
            raise ValueError(f"features must have shape [N, K], got {tuple(features.shape)}")
        self.n, self.n_dims = features.shape
        self.device = features.device
        n_padded = math.ceil(self.n / self.GROUP) * self.GROUP
        n_columns = self.n_dims + 1 + (self.n_dims + 1) % 2  # even: rows stay aligned
        self._rows = torch.zeros(n_padded, n_columns, device=features.device)
        self._norms = self._rows[:, self.n_dims]
        for start in range(0, self.n, self.COPIED):
            block = features[start : start + self.COPIED]
            stop = start + len(block)
            self._rows[start:stop, : self.n_dims] = block
            self._norms[start:stop] = block.square().sum(dim=1)
        if not bool(self._norms.isfinite().all()):
            raise ValueError("a feature is not finite, or its square is not")
        self._norms[self.n :] = torch.inf
        self._streamed: StreamedRows | None = None
        if self.device.type == "cuda":
            from alharness.matching.streamed import streamed  # for CUDA alone

            rows = self._rows[:, : self.n_dims]
            self._streamed = streamed(rows, self._norms, self.GROUP, self.COPIED)

    def neighbours(
        self, queries: torch.Tensor, taken: torch.Tensor, work: WorkCounters | None = None
    ) -> Iterator[Iterator[Neighbour]]:
        self._check(queries)
        taken = taken.sort().values
        for part in torch.split(queries.to(self.device), self.QUERIES):
            if work is not None:
                work.add("distances", len(part) * self.n)
                work.add("feature_rows_read", self.n)
            search = self._search(part, taken, work)
            yield from (search.walk(q) for q in range(len(part)))

    def _search(
        self, queries_QK: torch.Tensor, taken: torch.Tensor, work: WorkCounters | None
    ) -> Search:
        """One pass over all rows, for queries on their device."""
        if self._streamed is None:
            return _GroupSearch(self, queries_QK, self._minima(queries_QK, taken), taken, work)
        from alharness.matching.streamed import StreamedSearch  # for CUDA alone

        return StreamedSearch(self._streamed, self.rows, queries_QK, taken, work)

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """Points by pool index, float32 ``[c, K]``."""
        return self._rows.index_select(0, indices)[:, : self.n_dims]

    @numerics.exact()  # the bound below is on float32 products, whatever a container or library sets
    def _minima(self, queries_QK: torch.Tensor, taken: torch.Tensor) -> torch.Tensor:
        """Smallest ``|f|^2 - 2 q.f`` of each group of free rows, float32 ``[Q, G]``."""
        Q = len(queries_QK)
        columns = torch.zeros(Q, self._rows.shape[1], device=self.device)
        columns[:, : self.n_dims] = -2 * queries_QK
        columns[:, self.n_dims] = 1
        n = len(self._rows)
        blocks = list(self._blocks(n, Q))
        minima_QG = torch.empty(Q, n // self.GROUP, device=self.device)
        product = torch.empty(
            Q * max(stop - start for start, stop, _ in blocks), device=self.device
        )
        at = taken.to(self.device)
        norms_of_taken = self._norms[at]
        # In place and put back: a copy of the norms would be one more pass over the pool.
        self._norms[at] = torch.inf
        try:
            for start, stop, n_parts in blocks:
                # A product as flat as this one is not shared out among the processor's cores; a
                # batch of them is.
                parts = self._rows[start:stop].view(n_parts, -1, self._rows.shape[1])
                product_PQB = product[: Q * (stop - start)].view(n_parts, Q, -1)
                torch.bmm(columns.expand(n_parts, -1, -1), parts.transpose(1, 2), out=product_PQB)
                minima_PQG = product_PQB.view(n_parts, Q, -1, self.GROUP).amin(dim=3)
                groups = minima_QG[:, start // self.GROUP : stop // self.GROUP]
                groups.view(Q, n_parts, -1).copy_(minima_PQG.transpose(0, 1))
        finally:
            self._norms[at] = norms_of_taken
        return minima_QG

    def _blocks(self, n: int, n_queries: int) -> Iterator[tuple[int, int, int]]:
        """Ranges of rows ``start, stop`` of the pass, and into how many equal parts to cut each."""
        if self.device.type == "cuda":
            about = torch.cuda.get_device_properties(self.device)
            cache = getattr(about, "L2_cache_size", self.CACHE_BYTES)
            groups = max(1, int(self.CACHE_SHARE * cache) // 4 // n_queries // self.GROUP)
            part, n_parts = groups * self.GROUP, 1
        else:
            part, n_parts = self.PART_CPU, torch.get_num_threads()
        start = 0
        while n - start >= part:
            n_whole = min(n_parts, (n - start) // part)
            yield start, start + n_whole * part, n_whole
            start += n_whole * part
        if start < n:
            yield start, n, 1


class _GroupSearch(Search):
    """Opens groups of an ``ExactIndex`` as far as the neighbours that are asked for need it."""

    #: Groups opened per query at first, roughly; four times as many each time.
    FIRST = 8
    #: Up to so many groups their minima are sorted; above, only minima over bundles of them are.
    SORTABLE = 4096
    BUNDLE = 64
    #: Rows measured at a time.
    ROWS = 1 << 17

    def __init__(
        self,
        index: ExactIndex,
        queries_QK: torch.Tensor,
        minima_QG: torch.Tensor,
        taken: torch.Tensor,
        work: WorkCounters | None,
    ) -> None:
        super().__init__(index.rows, queries_QK, taken)
        self.index, self.minima, self.work = index, minima_QG, work
        self.steps = self._steps(minima_QG)
        self.to_taken = self.distances_to_taken().cpu().numpy()
        if work is not None:
            work.add("distances", self.to_taken.size)
        self.norms = self.queries.norm(dim=1).cpu().numpy()
        self.rounding = 2 * (index.n_dims + 4) * numerics.UNIT_ROUNDOFF
        everyone = torch.arange(len(queries_QK), device=index.device)
        bounds = self._bounds(self.FIRST)
        self.first_bounds = bounds.cpu().numpy()
        self.first = self._open(everyone, torch.full_like(bounds, -torch.inf), bounds)

    def walk(self, q: int) -> Iterator[Neighbour]:
        squares, indices = self.first[q]
        closed_from = float(self.first_bounds[q])
        n_open, n_given = self.FIRST, 0
        query = torch.tensor([q], device=self.index.device)
        while True:
            n_certain = int(self.certain(q, squares, closed_from).sum())  # a prefix: squares rise
            certain = zip(indices[:n_certain].tolist(), squares[:n_certain].tolist(), strict=True)
            for at, square in certain:
                n_given += 1
                yield at, math.sqrt(square), n_given + self.taken_before(q, at, square)
            if closed_from == math.inf:
                return
            n_open *= 4
            below = self.steps.new_tensor([closed_from])
            bound = self._bounds(n_open)[q : q + 1]
            ((more_squares, more_indices),) = self._open(query, below, bound)
            squares = np.concatenate([squares[n_certain:], more_squares])
            indices = np.concatenate([indices[n_certain:], more_indices])
            order = np.lexsort((indices, squares))
            squares, indices = squares[order], indices[order]
            closed_from = float(bound)

    def _steps(self, minima_QG: torch.Tensor) -> torch.Tensor:
        """Rising values ``[Q, *]``: opening up to the n-th opens at least n groups, rarely many more."""
        n_groups = minima_QG.shape[1]
        if n_groups <= self.SORTABLE:
            return minima_QG.sort(dim=1).values
        whole = n_groups // self.BUNDLE * self.BUNDLE
        bundles = minima_QG[:, :whole].view(len(minima_QG), -1, self.BUNDLE).amin(dim=2)
        return torch.cat([bundles, minima_QG[:, whole:]], dim=1).sort(dim=1).values

    def _bounds(self, n_groups: int) -> torch.Tensor:
        """Minimum up to which groups are to be opened, per query ``[Q]``; infinity for all."""
        if n_groups >= self.steps.shape[1]:
            return torch.full_like(self.steps[:, 0], torch.inf)
        return self.steps[:, n_groups - 1]

    def _open(
        self, which_q: torch.Tensor, above: torch.Tensor, up_to: torch.Tensor
    ) -> list[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Squared distances and indices of the free rows in the groups with above < minimum <= up_to.

        One pair per query of ``which_q``, sorted by distance, then index.
        """
        minima = self.minima[which_q]
        chosen = (minima > above[:, None]) & (minima <= up_to[:, None]) & (minima < torch.inf)
        pair_q, pair_g = chosen.nonzero(as_tuple=True)
        size = self.index.GROUP
        rows = (pair_g[:, None] * size + torch.arange(size, device=minima.device)).flatten()
        owners = which_q[pair_q].repeat_interleave(size)
        squares = torch.cat(
            [
                self.squares(row, owner)
                for row, owner in zip(
                    torch.split(rows, self.ROWS), torch.split(owners, self.ROWS), strict=True
                )
            ]
        )
        if self.work is not None:
            self.work.add("distances", len(rows))
        all_indices, all_squares = rows.cpu().numpy(), squares.cpu().numpy()
        ends = torch.bincount(pair_q, minlength=len(which_q)).cumsum(0).cpu().numpy() * size
        opened = []
        for indices, values in zip(
            np.split(all_indices, ends[:-1]), np.split(all_squares, ends[:-1]), strict=True
        ):
            free = (indices < self.index.n) & ~_within(indices, self.taken)
            indices, values = indices[free], values[free]
            order = np.lexsort((indices, values))
            opened.append((values[order], indices[order]))
        return opened


def _within(values: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which values occur in an ascending array."""
    if len(ascending) == 0:
        return np.zeros(len(values), dtype=bool)
    at = np.searchsorted(ascending, values).clip(max=len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[at] == values
    return found
