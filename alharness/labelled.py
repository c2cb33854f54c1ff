"""What has been annotated so far: an immutable value that grows by one annotation per cycle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from alharness.errors import UserError
from alharness.lazily import torch
from alharness.pool import Pool
from alharness.pool.residency import free_bytes, megabytes

#: Bytes of labelled items for which nobody asks how much memory is free: every cycle but the last ones.
CERTAINLY_FITS = 1 << 30


@dataclass(frozen=True)
class Annotation:
    """The oracle's answer to one query.

    Attributes:
        indices: pool items that got a label, int64 ``[P]`` (rejected ones are not among them).
        targets: their classes, int64 ``[P]``.
        items: synthetic items that got a label, float32 ``[S, ...]`` on the CPU, or None.
        item_targets: their classes, int64 ``[S]``.
        n_asked: annotations spent: what the budget counts. A rejected image was asked, too;
            a line of eleven images is one annotation.
        n_rejected: items that the annotator could not label.
        cost: what the annotator charges for the query, in units of one image.
        extras: further training signals by name (ADBA's boundary points), float32 ``[E, ...]``.
        wrong: which targets of pool items are wrong on purpose, bool ``[P]``: for the record, and for
            nobody who learns or selects. None where none are.
    """

    indices: torch.Tensor
    targets: torch.Tensor
    items: torch.Tensor | None = None
    item_targets: torch.Tensor | None = None
    n_asked: int = 0
    n_rejected: int = 0
    cost: float = 0.0
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)
    wrong: torch.Tensor | None = None


def _empty() -> torch.Tensor:
    return torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True)
class LabelledSet:
    """(X^k, Y^k) of the paper: pool items by index, synthetic items by value, in order of annotation.

    Attributes:
        indices: pool indices, int64 ``[P]``, on the CPU as everything here.
        targets: their classes, int64 ``[P]``.
        items: synthetic items, float32 ``[S, ...]``, or None while there are none.
        item_targets: their classes, int64 ``[S]``.
        n_asked: annotations spent so far, the initial set included.
        cost: what they cost so far.
        extras: further training signals by name, concatenated over cycles.
    """

    indices: torch.Tensor = field(default_factory=_empty)
    targets: torch.Tensor = field(default_factory=_empty)
    items: torch.Tensor | None = None
    item_targets: torch.Tensor = field(default_factory=_empty)
    n_asked: int = 0
    cost: float = 0.0
    extras: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.targets) + len(self.item_targets)

    @property
    def n_synthetic(self) -> int:
        """Synthetic items with a label."""
        return len(self.item_targets)

    def extended(self, annotation: Annotation) -> LabelledSet:
        """The set after one more annotation; this one stays as it is."""
        grown = replace(
            self,
            indices=torch.cat([self.indices, annotation.indices]),
            targets=torch.cat([self.targets, annotation.targets]),
            n_asked=self.n_asked + annotation.n_asked,
            cost=self.cost + annotation.cost,
        )
        if annotation.items is not None and annotation.item_targets is not None:
            items = annotation.items
            if self.items is not None:
                items = torch.cat([self.items, items])
            targets = torch.cat([self.item_targets, annotation.item_targets])
            grown = replace(grown, items=items, item_targets=targets)
        if annotation.extras:
            extras = dict(self.extras)
            for name, values in annotation.extras.items():
                extras[name] = torch.cat([extras[name], values]) if name in extras else values
            grown = replace(grown, extras=extras)
        return grown

    def part(self, chosen: torch.Tensor) -> LabelledSet:
        """Some of the labels, by their place in the order of ``training_data``.

        Args:
            chosen: bool ``[P + S]``. What was asked and paid, and further signals, stay those of the whole.
        """
        n = len(self.indices)
        of_pool, of_items = chosen[:n], chosen[n:]
        return replace(
            self,
            indices=self.indices[of_pool],
            targets=self.targets[of_pool],
            items=self.items[of_items] if self.items is not None and bool(of_items.any()) else None,
            item_targets=self.item_targets[of_items],
        )

    def training_data(
        self, pool: Pool, *, more_bytes: int = 0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All labelled items (float32 ``[P + S, ...]``) and targets (int64) on the pool's device.

        Args:
            more_bytes: what the training keeps beside them, bytes per number (8 for a float64 copy).

        Raises:
            UserError: there is not the memory for it.
        """
        self._check_room(pool, 4 + more_bytes)
        parts = []
        if len(self.indices):
            parts.append(pool.gather(self.indices))
        if self.items is not None:
            parts.append(self.items.to(pool.device))
        targets = torch.cat([self.targets, self.item_targets]).to(pool.device)
        return torch.cat(parts), targets

    def _check_room(self, pool: Pool, bytes_per_value: int) -> None:
        """A pool that is labelled whole may be too large as float32: said before, not in the middle."""
        needed = bytes_per_value * len(self) * pool.values_per_item
        if needed <= CERTAINLY_FITS:
            return
        free = free_bytes(pool.device)
        if free is not None and needed > free:
            raise UserError(
                f"Training on {len(self):,} items of shape {tuple(pool.item_shape)} needs "
                f"{megabytes(needed)} for them as floats and {megabytes(free)} are free on "
                f"'{pool.device}'. Lower the budget, or use a machine with more memory."
            )

    def digest(self) -> str:
        """SHA-256 (16 hex digits) of what is labelled, independent of the order of annotation."""
        sha = hashlib.sha256(self.indices.sort().values.numpy().tobytes())
        if self.items is not None:
            sha.update(self.items.numpy().tobytes())
        return sha.hexdigest()[:16]
