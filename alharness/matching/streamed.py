"""The pass of ``ExactIndex`` on CUDA: rows in bfloat16, read once by one kernel, and one host read.

Shape letters: N rows, K feature dimensions, Q queries, G groups of S neighbouring rows, T taken rows, C
candidates per query that the host is told.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from alharness import numerics
from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.matching.index import Neighbour
from alharness.matching.search import Search
from alharness.timing import WorkCounters

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Relative error of a product of a stored row and a query. A row is rounded to 8 bits, 2^-8 of it at most;
#: of a query two such numbers are kept, so 2^-16 of it is lost: ``|q.f - q'.f'| <= STORED |q| |f|``.
STORED = 2.0**-8 * (1 + 2.0**-7)
#: Queries and dimensions that the kernel multiplies at a time: tensor cores take 16 rows at least, and 50
#: dimensions, ASAL's own, are one block. Queries are filled up to whole blocks with zeros.
BLOCK = (16, 64)

_LIBRARY = torch.library.Library("alharness", "DEF")
_LIBRARY.define(
    "group_minima(Tensor rows, Tensor norms, Tensor is_gone, Tensor high, Tensor low, int n_queries)"
    " -> Tensor"
)


def _on_cuda(*given: Any) -> torch.Tensor:
    from alharness.matching import kernels  # which needs Triton

    launch: Callable[..., torch.Tensor] = kernels.group_minima
    return launch(*given, BLOCK)


def _of_shapes(rows: torch.Tensor, norms: torch.Tensor, *others: Any) -> torch.Tensor:
    return norms.new_empty(others[-1], len(rows))


_LIBRARY.impl("group_minima", _on_cuda, "CUDA")
_LIBRARY.impl("group_minima", _of_shapes, "Meta")


class StreamedRows:
    """The pool's rows as the kernel reads them: 2 K + 5 bytes each, norms and marks included.

    A group's rows lie dimension by dimension, so that threads beside each other read bytes beside each other.

    Args:
        rows_NK: float32, N a multiple of ``size``.
        norms_N: their squared norms; infinite ones are no rows.
        size: rows per group, S.
        step: rows that are converted at a time, a multiple of ``size``.
    """

    def __init__(self, rows_NK: torch.Tensor, norms_N: torch.Tensor, size: int, step: int) -> None:
        self.n_groups = len(rows_NK) // size
        shape = (self.n_groups, rows_NK.shape[1], size)
        self.rows_GKS = torch.empty(shape, dtype=torch.bfloat16, device=rows_NK.device)
        for block, kept in zip(rows_NK.split(step), self.rows_GKS.split(step // size), strict=True):
            kept.copy_(block.unflatten(0, (-1, size)).transpose(1, 2))
        self.norms_N = norms_N.contiguous()
        self.is_no_row_N = self.norms_N.isinf()

    def minima(self, queries_QK: torch.Tensor, is_gone_N: torch.Tensor) -> torch.Tensor:
        """Smallest ``|f|^2 - 2 q.f`` of each group's rows that are not gone, float32 ``[Q, G]``.

        Of a group without such rows it is infinite.
        """
        (n_queries, n_dims), (of_queries, of_dims) = queries_QK.shape, BLOCK
        filled = (0, -n_dims % of_dims, 0, -n_queries % of_queries)
        wanted = torch.nn.functional.pad(-2 * queries_QK, filled).contiguous()
        high = wanted.bfloat16()
        low = (wanted - high).bfloat16()
        found: torch.Tensor = torch.ops.alharness.group_minima(
            self.rows_GKS, self.norms_N, is_gone_N, high, low, n_queries
        )
        return found


def streamed(
    rows_NK: torch.Tensor, norms_N: torch.Tensor, size: int, step: int
) -> StreamedRows | None:
    """Rows for the kernel, which is compiled and tried on the first of them; None where it cannot be had.

    Then passes are matrix products, slower but with the same result. A warning says why, but for a torch
    without Triton: that stands in the run's record (``hardware``).
    """
    try:
        found = StreamedRows(rows_NK, norms_N, size, step)
        _try(rows_NK[:size], norms_N[:size], size)
    except ModuleNotFoundError:
        return None
    except Exception as error:  # a compiler that is not there, memory, whatever Triton raises
        warnings.warn(
            f"matching by matrix products, slower but the same: its kernel does not work here "
            f"({type(error).__name__}: {error})",
            stacklevel=4,
        )
        return None
    return found


def _try(rows_SK: torch.Tensor, norms_S: torch.Tensor, size: int) -> None:
    """One group and its first row as the query, within what ``StreamedSearch`` takes for granted."""
    is_gone = norms_S.isinf()
    minimum = StreamedRows(rows_SK, norms_S, size, size).minima(rows_SK[:1], is_gone)
    rows = rows_SK[~is_gone].double()
    products = rows @ rows[0]
    expected = (rows.square().sum(dim=1) - 2 * products).min()
    largest = rows.square().sum(dim=1).max()
    error = (2 * STORED + 3 * _rounding(rows.shape[1])) * largest
    if not bool((minimum[0, 0] - expected).abs() <= error):
        raise ArithmeticError(f"{float(minimum[0, 0]):.6g} found, {float(expected):.6g} expected")


def _rounding(n_dims: int) -> float:
    """Relative error of the kernel's sums: 2 K products and a norm.

    Tensor cores cut what they add where float32 rounds, some a bit or two earlier: four units for each term.
    """
    return 8 * (n_dims + 4) * numerics.UNIT_ROUNDOFF


class StreamedSearch(Search):
    """Opens the groups of smallest minima, measured and sorted where they are: the host reads once.

    Who wants more neighbours than are certain by them has four times as many opened, from the start.

    Args:
        source: for the pass.
        rows: float32 ``[c, K]`` by pool index, to measure them again.
        queries_QK, taken, work: as for ``Index.neighbours``.
    """

    #: Groups opened per query at first.
    FIRST = 16
    #: Candidates that the host is told for each group: some of an opened group's rows are near.
    TOLD = 8
    #: Rows measured at a time.
    ROWS = 1 << 17

    stored = STORED

    def __init__(
        self,
        source: StreamedRows,
        rows: Callable[[torch.Tensor], torch.Tensor],
        queries_QK: torch.Tensor,
        taken: torch.Tensor,
        work: WorkCounters | None,
    ) -> None:
        super().__init__(rows, queries_QK, taken)
        self.work = work
        self.rounding = _rounding(self.n_dims)
        self.is_gone = source.is_no_row_N.clone()
        self.is_gone[self.at_taken] = True
        self.minima = source.minima(queries_QK, self.is_gone)
        self.size = len(self.is_gone) // source.n_groups
        # All that the device is asked is under way before the host waits.
        aside = [self.queries.norm(dim=1, keepdim=True), self.distances_to_taken()]
        everyone = slice(len(queries_QK))
        self.first, (norms, self.to_taken) = self._opened(everyone, self.FIRST, *aside)
        self.norms = norms[:, 0]
        if work is not None:
            work.add("distances", self.to_taken.size)

    def walk(self, q: int) -> Iterator[Neighbour]:
        """Free neighbours of query ``q`` from near to far, ties by smaller index."""
        n_open, n_given = self.FIRST, 0
        squares, indices, closed_from = self.first[q]
        while True:
            n_certain = int(self.certain(q, squares, closed_from).sum())  # a prefix: squares rise
            # What is certain is the beginning of the one order of all rows, so it only grows.
            found = zip(
                indices[n_given:n_certain].tolist(),
                squares[n_given:n_certain].tolist(),
                strict=True,
            )
            for at, square in found:
                n_given += 1
                yield at, math.sqrt(square), n_given + self.taken_before(q, at, square)
            if n_open >= self.minima.shape[1]:
                return
            n_open *= 4
            ((squares, indices, closed_from),), _ = self._opened(slice(q, q + 1), n_open)

    def _opened(
        self, of: slice, n_groups: int, *aside: torch.Tensor
    ) -> tuple[
        list[tuple[NDArray[np.float64], NDArray[np.int64], float]], list[NDArray[np.float64]]
    ]:
        """For the queries ``of`` the nearest free rows of the groups with the ``n_groups`` smallest minima.

        Args:
            aside: float64, a row for each of them, that the host reads together with them.

        Returns:
            for each query squared distances, indices and the minimum that no closed group is below, sorted by
            distance, then index; and ``aside`` on the host.
        """
        minima = self.minima[of]
        n_groups = min(n_groups, minima.shape[1])
        n_told = n_groups * (self.size if n_groups == minima.shape[1] else self.TOLD)
        least, groups = minima.topk(n_groups, dim=1, largest=False)
        # By index, as a stable sort leaves rows that are as near as each other.
        starts = groups.sort(dim=1).values[:, :, None] * self.size
        rows = (starts + torch.arange(self.size, device=starts.device)).flatten(1)
        owners = torch.arange(len(self.minima), device=rows.device)[of]
        parts = zip(
            rows.flatten().split(self.ROWS),
            owners[:, None].expand_as(rows).flatten().split(self.ROWS),
            strict=True,
        )
        squares = torch.cat([self.squares(row, owner) for row, owner in parts]).view(rows.shape)
        squares.masked_fill_(self.is_gone[rows], torch.inf)
        squares, order = squares.sort(dim=1, stable=True)
        squares, rows = squares[:, :n_told], rows.gather(1, order[:, :n_told])
        told = [least[:, -1:].double(), squares, rows.double(), *aside]  # indices are below 2^53
        read = torch.cat(told, dim=1).cpu().numpy()
        if self.work is not None:
            self.work.add("distances", len(owners) * n_groups * self.size)
        ends = np.cumsum([values.shape[1] for values in told])[:-1]
        bounds, near, indices, *others = np.split(read, ends, axis=1)
        if n_groups == minima.shape[1]:
            bounds = np.full_like(bounds, np.inf)
        opened = []
        for bound, square, index in zip(bounds[:, 0].tolist(), near, indices, strict=True):
            n_free = int(np.isfinite(square).sum())
            opened.append((square[:n_free], index[:n_free].astype(np.int64), bound))
        return opened, others
