"""What every pass over a pool needs behind it: whether a neighbour is certain, and its rank.

Shape letters: K feature dimensions, Q queries, T taken rows, c candidates of one query.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.matching.index import Neighbour, squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Search:
    """Queries that a pass has computed ``|f|^2 - 2 q.f`` for, with an error, group by group.

    Attributes:
        queries: float64 ``[Q, K]``, on the rows' device.
        norms: of the queries, float64 ``[Q]``.
        taken: indices that may not be chosen, rising, int64 ``[T]``.
        to_taken: squared distances to them by matrix products, float64 ``[Q, T]``.
        rounding: relative error of the pass's sums.
        stored: relative error of the products' factors, as they are stored.
    """

    norms: NDArray[np.float64]
    to_taken: NDArray[np.float64]
    rounding: float
    stored = 0.0

    def __init__(
        self,
        rows: Callable[[torch.Tensor], torch.Tensor],
        queries_QK: torch.Tensor,
        taken: torch.Tensor,
    ) -> None:
        self._rows = rows
        self.queries = queries_QK.double()
        self.n_dims = queries_QK.shape[1]
        self.taken = taken.numpy()
        self.at_taken = taken.to(queries_QK.device)

    def walk(self, q: int) -> Iterator[Neighbour]:
        """Free neighbours of query ``q`` from near to far, ties by smaller index."""
        raise NotImplementedError

    def distances_to_taken(self) -> torch.Tensor:
        """For ``to_taken``, on the rows' device."""
        return torch.cdist(self.queries, self._rows(self.at_taken).double()).square()

    def squares(self, rows: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
        """Squared distances of rows from the queries that they were opened for, float64 ``[c]``."""
        return squared_distances(self._rows(rows), self.queries.index_select(0, owners))

    def certain(
        self, q: int, squares: NDArray[np.float64], closed_from: float
    ) -> NDArray[np.bool_]:
        """Whether no row of a closed group can be as near.

        A row f as near as a candidate has ``|f| <= |q| + distance``, which bounds the error of its
        computed ``|f|^2 - 2 q.f``; no closed group's minimum is below ``closed_from``.
        """
        norm = self.norms[q]
        reach = norm + np.sqrt(squares)
        error = self.rounding * (reach * reach + 2 * norm * reach)
        error += self.stored * 2 * norm * reach
        found: NDArray[np.bool_] = squares - norm * norm + error < closed_from
        return found

    def taken_before(self, q: int, at: int, square: float) -> int:
        """Taken rows that are nearer to query ``q`` than its neighbour, or as near with a smaller index.

        Matrix products count them; what their rounding leaves open is measured as neighbours are.
        """
        squares = self.to_taken[q]
        n_units = 2 * (self.n_dims + 4)
        error = n_units * np.finfo(np.float64).eps * (2 * self.norms[q] + math.sqrt(square)) ** 2
        open_rows = (np.abs(squares - square) <= error).nonzero()[0]
        n_before = int((squares < square - error).sum())
        if len(open_rows) == 0:
            return n_before
        rows = self.at_taken[torch.from_numpy(open_rows).to(self.at_taken.device)]
        again = self.squares(rows, torch.full_like(rows, q)).cpu().numpy()
        is_before = (again < square) | ((again == square) & (self.taken[open_rows] < at))
        return n_before + int(is_before.sum())
