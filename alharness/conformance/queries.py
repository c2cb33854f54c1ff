"""Comparing queries."""

from __future__ import annotations

import hashlib

import torch

from alharness.oracle import ImageQuery, LineQuery, PoolQuery, Query


def content(query: Query) -> list[torch.Tensor]:
    """What a query asks about; images last."""
    if isinstance(query, PoolQuery):
        return [query.indices]
    if isinstance(query, ImageQuery):
        return [query.items.detach().cpu()]
    assert isinstance(query, LineQuery), f"select returned {type(query).__name__}, not a Query"
    return [query.points.detach().cpu(), query.images.detach().cpu()]


def digest(query: Query) -> str:
    sha = hashlib.sha256(type(query).__name__.encode())
    for values in content(query):
        sha.update(values.contiguous().numpy().tobytes())
    return sha.hexdigest()


def same(first: Query, second: Query, message: str) -> None:
    assert digest(first) == digest(second), message
