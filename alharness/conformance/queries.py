"""Comparing queries."""

from __future__ import annotations

import hashlib

from alharness.queries import Query


def digest(query: Query) -> str:
    """SHA-256 of all that a query asks about and shows."""
    assert isinstance(query, Query), f"select returned {type(query).__name__}, not a Query"
    sha = hashlib.sha256(query.kind.encode())
    for values in query.content():
        sha.update(values.contiguous().numpy().tobytes())
    return sha.hexdigest()


def same(first: Query, second: Query, message: str) -> None:
    assert digest(first) == digest(second), message
