"""Sample matching (Sec. 3.2, Eq. 2): the nearest pool items of synthetic ones, without replacement.

An index holds the points S of the pool once and gives, for a query point, its neighbours from near
to far. ``match`` walks along them: queries choose one after the other, each its nearest point that
is neither labelled nor chosen by an earlier query (decisions 1.7; the paper does not say how collisions
are resolved).

``ExactIndex`` is the default: one read of the features, on any device, exact. ``KDTreeIndex`` is the
paper's structure; in 50 dimensions it is no faster (decisions 9). ``FaissIndex`` is an extra.

Shape letters: N pool items, K feature dimensions, Q queries, G groups of neighbouring rows,
P parts of a block of rows, B rows of a part, c candidates of one query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from alharness.errors import unknown_name
from alharness.lazily import torch
from alharness.matching.exact import ExactIndex
from alharness.matching.index import Index
from alharness.matching.trees import FaissIndex, KDTreeIndex
from alharness.timing import WorkCounters


@dataclass(frozen=True)
class Matches:
    """The pool items that were chosen.

    Attributes:
        indices: int64 ``[Q]`` on the CPU, distinct, none of them taken before.
        distances: to the query points, float64 ``[Q]``.
        depth: rank of each among all pool items seen from its query point, from 1, int64 ``[Q]``:
            how far labelled and already chosen items pushed the choice away.
    """

    indices: torch.Tensor
    distances: torch.Tensor
    depth: torch.Tensor


def match(
    index: Index,
    queries: torch.Tensor,
    *,
    taken: torch.Tensor,
    work: WorkCounters | None = None,
) -> Matches:
    """Each query's nearest point that is neither taken nor chosen by an earlier query (Eq. 2).

    Args:
        index: the pool's points.
        queries: float32 ``[Q, K]``, in the order in which they choose.
        taken: pool indices that are labelled already, int64 ``[T]``: their number, not the pool's,
            sets the cost of leaving them out.
        work: counts what the index does.

    Raises:
        ValueError: fewer free points than queries, or a query that is not finite.
    """
    _enough(index, taken, queries)
    chosen: dict[int, tuple[float, int]] = {}
    for neighbours in index.neighbours(queries, taken, work):
        # Greedy in the order of the queries (decisions 1.7).
        at, distance, rank = next(found for found in neighbours if found[0] not in chosen)
        chosen[at] = distance, rank
    return _matches(chosen)


def match_best(
    index: Index,
    queries: torch.Tensor,
    *,
    taken: torch.Tensor,
    score: Callable[[torch.Tensor], torch.Tensor],
    among: int,
    work: WorkCounters | None = None,
) -> Matches:
    """Each query's best-scored point among its ``among`` nearest ones: matching with a second look.

    Where earlier queries chose all of them, the nearest free one beyond.

    Args:
        index, queries, taken, work: as for ``match``.
        score: pool indices int64 ``[c]`` to scores ``[c]``, larger is better.
        among: neighbours per query that are looked at.
    """
    _enough(index, taken, queries)
    streams = list(index.neighbours(queries, taken, work))
    near = [list(islice(stream, among)) for stream in streams]
    candidates = sorted({at for found in near for at, _, _ in found})
    scores = score(torch.tensor(candidates, dtype=torch.int64)).tolist()
    scored = dict(zip(candidates, scores, strict=True))
    chosen: dict[int, tuple[float, int]] = {}
    for found, stream in zip(near, streams, strict=True):
        free = [neighbour for neighbour in found if neighbour[0] not in chosen]
        if free:  # max keeps the first of equals: the nearer one
            at, distance, rank = max(free, key=lambda neighbour: scored[neighbour[0]])
        else:
            at, distance, rank = next(beyond for beyond in stream if beyond[0] not in chosen)
        chosen[at] = distance, rank
    return _matches(chosen)


def _enough(index: Index, taken: torch.Tensor, queries: torch.Tensor) -> None:
    n_free = index.n - len(taken)
    if n_free < len(queries):
        raise ValueError(f"{len(queries)} matches asked of {n_free} free pool items")
    if not bool(queries.isfinite().all()):
        raise ValueError("a query point is not finite")


def _matches(chosen: dict[int, tuple[float, int]]) -> Matches:
    """Chosen items in order of choice, with distance and rank."""
    return Matches(
        torch.tensor(list(chosen), dtype=torch.int64),
        torch.tensor([distance for distance, _ in chosen.values()], dtype=torch.float64),
        torch.tensor([rank for _, rank in chosen.values()], dtype=torch.int64),
    )


#: Indices by the name that ``--set strategy.index=`` takes.
INDICES: dict[str, Callable[[torch.Tensor], Index]] = {
    "exact": ExactIndex,
    "kdtree": KDTreeIndex,
    "faiss": FaissIndex,
}


def build_index(kind: str, features: torch.Tensor) -> Index:
    """The named index over the pool's features ``[N, K]``."""
    if kind not in INDICES:
        raise unknown_name("index", kind, INDICES)
    return INDICES[kind](features)
