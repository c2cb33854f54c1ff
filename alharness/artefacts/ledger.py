"""The ledger: what was prepared once, what it cost, and whether this run had to pay for it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import Field

from alharness.frozen import Frozen
from alharness.timing import synchronise

if TYPE_CHECKING:
    import torch


class LedgerEntry(Frozen):
    """One preparation: what it cost when it was built, and whether this run had to pay for it.

    Attributes:
        name: what was prepared, for instance ``generator`` or ``pca``.
        seconds: what building it took, wherever and whenever it was built.
        cached: true when this run found it ready made; then ``load_s`` is what this run paid.
        load_s: seconds that this run spent on it.
        details: anything that explains the cost or the quality (steps, rows, Fréchet distance).
    """

    name: str
    seconds: float
    cached: bool
    load_s: float
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> str | None:
        """Key of the artefact that was prepared, where it is one."""
        key = self.details.get("key")
        return None if key is None else str(key)


def each_once(entries: Iterable[LedgerEntry]) -> list[LedgerEntry]:
    """The entries without those of an artefact that was asked for again: it was built once."""
    kept: dict[object, LedgerEntry] = {}
    for number, entry in enumerate(entries):
        kept.setdefault(number if entry.key is None else (entry.name, entry.key), entry)
    return list(kept.values())


class Ledger:
    """The one-off costs of a run, reported beside the per-cycle times and never hidden in them."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.entries: list[LedgerEntry] = []
        self.device = device

    def add(
        self,
        name: str,
        seconds: float,
        *,
        cached: bool = False,
        load_s: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Enter one preparation."""
        paid = seconds if load_s is None else load_s
        self.entries.append(
            LedgerEntry(
                name=name, seconds=seconds, cached=cached, load_s=paid, details=dict(details or {})
            )
        )

    @contextmanager
    def entry(self, name: str, **details: Any) -> Iterator[dict[str, Any]]:
        """Time the ``with`` block as one preparation; the block may add to the yielded details."""
        found: dict[str, Any] = dict(details)
        synchronise(self.device)
        start = time.perf_counter()
        yield found
        synchronise(self.device)
        self.add(name, time.perf_counter() - start, details=found)

    @property
    def seconds(self) -> float:
        """What all preparations cost to build."""
        return sum(entry.seconds for entry in each_once(self.entries))
