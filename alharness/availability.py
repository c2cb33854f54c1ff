"""Which pool items can still be asked about: an immutable value that grows with every query.

Not the same as what is not labelled: an item that was asked about and that nobody could label is
taken, too. What costs O(pool) is computed when it is first asked for, and once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from alharness.lazily import torch


def _none() -> torch.Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, eq=False)
class Availability:
    """The pool as far as it can be asked about. All tensors live on the CPU.

    Attributes:
        n: items in the pool.
        asked: pool indices that were asked about, int64 ``[T]``, distinct, in order of asking.
        candidates: where the choice is narrowed: all that can be asked about, int64, ascending;
            None: everything that was not asked about.
    """

    n: int
    asked: torch.Tensor = field(default_factory=_none)
    candidates: torch.Tensor | None = None

    def taking(self, indices: torch.Tensor) -> Availability:
        """The same after a query for ``indices``; this value stays as it is. O(asked)."""
        left = self.candidates
        if left is not None:
            left = left[~torch.isin(left, indices)]
        return Availability(self.n, torch.cat([self.asked, indices]), left)

    def among(self, candidates: torch.Tensor) -> Availability:
        """Only ``candidates`` (int64, ascending) are left; everything else counts as taken. O(1)."""
        return Availability(self.n, self.asked, candidates)

    def __len__(self) -> int:
        """How many items can be asked about. O(1)."""
        return self.n - len(self.asked) if self.candidates is None else len(self.candidates)

    @cached_property
    def is_taken(self) -> torch.Tensor:
        """Whether an item cannot be asked about, bool ``[N]``. O(pool)."""
        if self.candidates is None:
            mask = torch.zeros(self.n, dtype=torch.bool)
            mask[self.asked] = True
        else:
            mask = torch.ones(self.n, dtype=torch.bool)
            mask[self.candidates] = False
        return mask

    @cached_property
    def taken(self) -> torch.Tensor:
        """What an index has to pass over, int64: O(asked), or O(pool) where the choice is narrowed."""
        return self.asked if self.candidates is None else self.is_taken.nonzero().squeeze(1)

    @cached_property
    def indices(self) -> torch.Tensor:
        """Pool indices that can be asked about, int64, ascending. O(pool)."""
        if self.candidates is not None:
            return self.candidates
        return (~self.is_taken).nonzero().squeeze(1)
