"""Comparing queries."""

from __future__ import annotations

import hashlib

import torch

from alharness.queries import ImageQuery, LineQuery, PoolQuery, Query


def content(query: Query) -> list[torch.Tensor]:
    """What a query asks about; images last."""
    if isinstance(query, PoolQuery):
        return [query.indices]
    if isinstance(query, ImageQuery):
        return [query.items.detach().cpu()]
    assert isinstance(query, LineQuery), f"select returned {type(query).__name__}, not a Query"
    return [query.points.detach().cpu(), query.images.detach().cpu()]


def touched(query: Query) -> torch.Tensor:
    """Pool items that a query asks about, or draws lines through."""
    if isinstance(query, PoolQuery):
        return query.indices
    if isinstance(query, LineQuery):
        return query.pool_indices
    return torch.empty(0, dtype=torch.int64)


def digest(query: Query) -> str:
    sha = hashlib.sha256(type(query).__name__.encode())
    for values in content(query):
        sha.update(values.contiguous().numpy().tobytes())
    return sha.hexdigest()


def same(first: Query, second: Query, message: str) -> None:
    assert digest(first) == digest(second), message
