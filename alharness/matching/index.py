"""What an index is: the pool's points, ready to be searched from near to far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alharness.timing import WorkCounters

#: One neighbour: pool index, distance, and rank among all pool items, labelled ones too, from 1.
Neighbour = tuple[int, float, int]


class Index(ABC):
    """The pool's points, ready to be searched.

    Attributes:
        n: number of points N.
        n_dims: their dimension K.
        name: what it is called in records.
    """

    name: str
    n: int
    n_dims: int

    @abstractmethod
    def neighbours(
        self, queries: torch.Tensor, taken: torch.Tensor, work: WorkCounters | None = None
    ) -> Iterator[Iterator[Neighbour]]:
        """For each query point its neighbours that are not taken, from near to far, lazily.

        Args:
            queries: float32 ``[Q, K]``.
            taken: pool indices that may not be chosen, int64 ``[T]``.
            work: counts ``distances`` and ``feature_rows_read``.
        """

    def _check(self, queries: torch.Tensor) -> None:
        if queries.ndim != 2 or queries.shape[1] != self.n_dims:
            raise ValueError(
                f"queries must have shape [Q, {self.n_dims}], got {tuple(queries.shape)}"
            )


class GrowingIndex(Index):
    """An index that answers "the k nearest": k doubles until what is asked for is among them."""

    @abstractmethod
    def nearest(
        self, query: NDArray[np.float32], k: int, work: WorkCounters | None
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Distances and indices of the k nearest points of one query ``[1, K]``, from near to far."""

    def neighbours(
        self, queries: torch.Tensor, taken: torch.Tensor, work: WorkCounters | None = None
    ) -> Iterator[Iterator[Neighbour]]:
        self._check(queries)
        is_taken = set(taken.tolist())
        for query in queries.cpu().numpy():
            yield self._walk(query[None], is_taken, work)

    def _walk(
        self, query: NDArray[np.float32], taken: set[int], work: WorkCounters | None
    ) -> Iterator[Neighbour]:
        seen, k = 0, 1
        while seen < self.n:
            distances, indices = self.nearest(query, k, work)
            for rank in range(seen, k):
                if (at := int(indices[rank])) not in taken:
                    yield at, float(distances[rank]), rank + 1
            seen, k = k, min(2 * k, self.n)
