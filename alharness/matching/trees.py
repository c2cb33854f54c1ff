"""Other indices: the paper's k-d-tree, and faiss as an extra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alharness import seeds
from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.matching.index import GrowingIndex
from alharness.timing import WorkCounters

if TYPE_CHECKING:
    from numpy.typing import NDArray


class KDTreeIndex(GrowingIndex):
    """scikit-learn's k-d-tree: the structure of the paper (Bentley 1975), on the CPU."""

    name = "kdtree"

    def __init__(self, features: torch.Tensor, *, leaf_size: int = 40) -> None:
        with seeds.kept():  # built inside a plug-in's prepare, which must not move them
            from sklearn.neighbors import KDTree

        self.n, self.n_dims = features.shape
        self._tree = KDTree(features.cpu().numpy(), leaf_size=leaf_size)

    def nearest(
        self, query: NDArray[np.float32], k: int, work: WorkCounters | None
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        before = self._tree.get_n_calls()
        distances, indices = self._tree.query(query, k=k)
        if work is not None:
            work.add("distances", self._tree.get_n_calls() - before)
            work.add("feature_rows_read", self._tree.get_n_calls() - before)
        return distances[0], indices[0]

    def rows(self, indices: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._tree.data)[indices])


class FaissIndex(GrowingIndex):
    """faiss's flat index (float32, exhaustive): an optional extra for pools in host memory."""

    name = "faiss"

    def __init__(self, features: torch.Tensor) -> None:
        try:
            import faiss
        except ImportError as error:
            raise UserError(
                "The 'faiss' index needs faiss, which is not installed. Install it with "
                "pip install 'alharness[faiss]', or use index=exact."
            ) from error
        self.n, self.n_dims = features.shape
        self._index = faiss.IndexFlatL2(self.n_dims)
        self._index.add(features.cpu().contiguous().numpy())

    def nearest(
        self, query: NDArray[np.float32], k: int, work: WorkCounters | None
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        squares, indices = self._index.search(query, k)
        if work is not None:
            work.add("distances", self.n)
            work.add("feature_rows_read", self.n)
        return np.sqrt(squares[0]), indices[0]

    def rows(self, indices: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(self._index.reconstruct_batch(indices))
