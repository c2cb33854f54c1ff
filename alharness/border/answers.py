"""What every answer of a strategy must be: one list of rules for a run, a timing study and every check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from alharness.availability import Availability
from alharness.border.author import Author
from alharness.pool import Pool
from alharness.queries import ImageQuery, LineQuery, PoolQuery, Query, listed

#: The rules by name, as ``alharness check`` shows them; ``faults`` goes through them in this order.
RULES = {
    "query-type": "the answer is a query of known type, with the shapes and value ranges of its type",
    "never-test-items": "only items of the pool, or images that are not in the test set",
    "distinct": "no item twice in one query",
    "exact-count": "exactly as many items as asked for",
    "figures": "diagnostics are finite numbers, arrays are numbers with a row per item of the query",
    "unlabelled-only": "only items without a label",
}


class Fault(NamedTuple):
    """A rule that an answer breaks: what it must be, and what it is instead."""

    rule: str
    expected: str
    found: str


def faults(query: Any, pool: Pool, available: Availability, query_size: int) -> Iterator[Fault]:
    """All rules that an answer breaks; later ones only where the earlier ones let them be asked.

    Args:
        query: whatever ``select`` returned.
        available: what could be asked about.
    """
    if not isinstance(query, PoolQuery | ImageQuery | LineQuery):
        yield Fault(
            "query-type",
            "a PoolQuery, an ImageQuery or a LineQuery",
            f"a {type(query).__name__}",
        )
        return
    for rule, (expected, found) in query.faults(pool.n, pool.item_shape):
        yield Fault(rule, expected, found)
        if rule == "query-type":  # nothing more can be read of it
            return
    if len(query) != query_size:
        yield Fault("exact-count", f"{query_size} items", f"{len(query)}")
    if (fault := query.figures_fault()) is not None:
        yield Fault("figures", *fault)
    again = query.touched[torch.isin(query.touched, available.taken)]
    if len(again):
        asked = f"items already asked about: {listed(again)}"
        yield Fault("unlabelled-only", "unlabelled items only", asked)


def owned(query: Any, author: Author, when: str = "") -> Any:
    """A copy of the answer: a strategy that holds its arrays could change them after a check.

    Raises:
        PluginError: a value of it cannot be read.
    """
    if not isinstance(query, PoolQuery | ImageQuery | LineQuery):
        return query
    with author.blamed(f"a query that can be read{when}"):
        return Query.owned(query)


def check_query(
    query: Any, pool: Pool, available: Availability, query_size: int, author: Author, cycle: int
) -> Query:
    """The harness's own check of every answer, so that no strategy is trusted with its own score.

    Args:
        query: whatever ``select`` returned.
        available: what could be asked about: the caller's own value, not one that a strategy held.

    Returns:
        the query, with values that the strategy does not hold.

    Raises:
        PluginError: the query is not of a known kind or size, carries figures that are none, or asks
            about items that it must not.
    """
    query = owned(query, author, f" in cycle {cycle}")
    fault = next(faults(query, pool, available, query_size), None)
    if fault is not None:
        author.refuse(fault.expected, fault.found, cycle=cycle)
    assert isinstance(query, Query)  # the first rule
    return query
