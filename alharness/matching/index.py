"""What an index is: the pool's points, ready to be searched from near to far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.timing import WorkCounters

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    """An index that answers "the k nearest": k doubles until what is asked for is surely among them.

    A library orders equal distances as it likes, and otherwise for each k, and rounds in its own
    way. So what comes back is measured again in float64, and a neighbour is given out once nothing that
    did not come back can be as near: distances, ties and ranks are those of the exact index.
    """

    #: The first k: one neighbour alone would not show whether there is another as near.
    FIRST = 2

    @abstractmethod
    def nearest(
        self, query: NDArray[np.float32], k: int, work: WorkCounters | None
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Distances, as precise as their type, and indices of the k nearest points of one query ``[1, K]``.

        From near to far, equals in any order.
        """

    @abstractmethod
    def rows(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Points by pool index, ``[c, K]`` on the CPU."""

    def neighbours(
        self, queries: torch.Tensor, taken: torch.Tensor, work: WorkCounters | None = None
    ) -> Iterator[Iterator[Neighbour]]:
        self._check(queries)
        is_taken = set(taken.tolist())
        for query in queries.cpu():
            yield self._walk(query[None], is_taken, work)

    def _walk(
        self, query: torch.Tensor, taken: set[int], work: WorkCounters | None
    ) -> Iterator[Neighbour]:
        n_given, k = 0, min(self.FIRST, self.n)
        while True:
            found, indices = self.nearest(query.numpy(), k, work)
            squares = squared_distances(self.rows(indices), query.double()).numpy()
            if work is not None:
                work.add("distances", k)
            order = np.lexsort((indices, squares))
            squares, indices = squares[order], indices[order]
            n_certain = k if k == self.n else int((squares < self._floor(found)).sum())
            # What is certain is the beginning of the one order of all points, so it only grows.
            distances = np.sqrt(squares[n_given:n_certain]).tolist()
            for at, distance in zip(indices[n_given:n_certain].tolist(), distances, strict=True):
                n_given += 1
                if at not in taken:
                    yield at, distance, n_given
            if k == self.n:
                return
            # Doubling: a library starts over each time, so that all attempts cost at most twice the last.
            k = min(2 * k, self.n)

    def _floor(self, found: NDArray[Any]) -> float:
        """Square of a distance below which no point lies that did not come back.

        None is nearer than the last that did, as the library computes it: a sum of K squares of
        differences, each step of which may err by a unit of its type.
        """
        rounding = 2 * (self.n_dims + 4) * float(np.finfo(found.dtype).eps)
        return float(found[-1]) ** 2 * (1 - rounding)


def squared_distances(rows: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Of each row ``[c, K]`` from its query, float64 ``[c, K]`` or ``[1, K]`` for all; float64 ``[c]``.

    One sum for all who compare: equal rows have equal bits.
    """
    gap = rows.double() - queries
    return torch.einsum("ck,ck->c", gap, gap)
