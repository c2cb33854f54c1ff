"""Frozen plain implementations: yardsticks that must not be improved, or the gates lose their meaning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import entropy


def bare_forward(
    network: Callable[[torch.Tensor], torch.Tensor], raw: torch.Tensor, block: int
) -> None:
    """Every image through the network, block by block, and nothing else."""
    with torch.no_grad():
        for start in range(0, len(raw), block):
            network(raw[start : start + block].float().div_(255))


def numpy_entropy(
    items: NDArray[np.float32], weight: NDArray[np.float32], bias: NDArray[np.float32], k: int
) -> NDArray[np.int64]:
    """The k rows of largest entropy under a linear model, as NumPy libraries (modAL) compute it."""
    logits = items @ weight.T + bias
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    entropies = entropy(p.T)
    return np.argpartition(-entropies, k)[:k]


def read_once(values: torch.Tensor) -> float:
    """One read of all values at the memory's speed."""
    return float(values.sum())


def matrix_rate(size: int = 1024) -> Callable[[], torch.Tensor]:
    """A large float32 matrix product of ``2 size^3`` operations: the machine's matrix rate."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return lambda: a @ b


def blocked_search(
    features: torch.Tensor, queries: torch.Tensor, block: int = 65536
) -> torch.Tensor:
    """Nearest rows by a plain blocked product and minimum, without mask or exactness."""
    norms = features.square().sum(dim=1)
    best = torch.full((len(queries),), torch.inf)
    found = torch.zeros(len(queries), dtype=torch.int64)
    for start in range(0, len(features), block):
        rows = features[start : start + block]
        values = norms[start : start + block, None] - 2 * rows @ queries.T
        low, at = values.min(dim=0)
        nearer = low < best
        best = torch.where(nearer, low, best)
        found = torch.where(nearer, at + start, found)
    return found
