"""The obvious greedy k-centre, frozen: float64, all distances of every centre, one pass per pick."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def k_centre(
    features_ND: NDArray[np.float32], centres_KD: NDArray[np.float32], k: int
) -> list[int]:
    """Row numbers in the order of choice; ties by the smaller index."""
    rows = features_ND.astype(np.float64)
    squared = np.full(len(rows), np.inf)
    for centre in centres_KD.astype(np.float64):
        squared = np.minimum(squared, np.square(rows - centre).sum(axis=1))
    chosen: list[int] = []
    for _ in range(k):
        row = int(squared.argmax())
        chosen.append(row)
        squared = np.minimum(squared, np.square(rows - rows[row]).sum(axis=1))
        squared[chosen] = -1.0
    return chosen
