"""Pools with rare classes: ``long-tail:RHO:NAME`` thins the classes of another task's pool exponentially.

The usual way to make a long tail of a balanced data set (K. Cao et al., "Learning Imbalanced Datasets with
Label-Distribution-Aware Margin Loss", NeurIPS 2019): of class k of K, in the order of the classes, a share
RHO^(-k / (K - 1)) stays: all of the first, 1 / RHO of the last, at least one item of each. The test set is
the source's as it is, so that every class counts there as before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from alharness import seeds
from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.tasks.base import TaskData, TaskParameters
from alharness.tasks.derived import DerivedTask, renamed

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where ``alharness list`` shows it.
FAMILY = "Made of another data set"

#: Raised when the same settings would keep other items.
VERSION = 1


class LongTailParameters(TaskParameters):
    """``--set task.NAME=VALUE`` for ``long-tail:RHO:NAME``."""

    seed: int = Field(0, ge=0, description="seed of which items stay, apart from the run's seeds")


class LongTail(DerivedTask):
    """A pool with rare classes: long-tail:RHO:NAME keeps all of NAME's first class and 1/RHO of its last."""

    Parameters = LongTailParameters
    source = "thinned from another data set; nothing is stored"
    takes_argument = True
    parameters: LongTailParameters

    def __init__(self, name: str, argument: str | None = None, **parameters: object) -> None:
        super().__init__(name, argument, **parameters)
        rho, _, inner = (argument or "").partition(":")
        try:
            self.rho = float(rho)
        except ValueError:
            self.rho = float("nan")
        if not inner or not 1 < self.rho < float("inf"):
            raise UserError(
                "Expected long-tail:RHO:NAME with RHO above 1, for instance long-tail:50:digits-ten; found "
                f"'long-tail:{argument}'."
            )
        self.inner_name = inner

    def derive(self, source: TaskData) -> TaskData:
        items = source.pool_images
        if not isinstance(items, np.ndarray):
            raise UserError(
                f"long-tail:{self.rho:g}:{self.inner_name} needs items that are stored; those of "
                f"'{self.inner_name}' are computed. Thin first: the other way round."
            )
        targets = source.pool_targets
        if (targets < 0).any():
            raise UserError(
                f"long-tail:{self.rho:g}:{self.inner_name} thins classes, and {int((targets < 0).sum()):,} "
                "items of the pool have none."
            )
        kept = thinned(targets, source.n_classes, self.rho, self.parameters.seed)
        facts = (VERSION, self.rho, self.parameters.seed)
        counts = np.bincount(targets[kept], minlength=source.n_classes)
        return replace(
            renamed(source, f"long-tail {facts}"),
            pool_images=items[kept],
            pool_targets=targets[kept],
            n_shared=None,
            notes={
                **source.notes,
                "long tail": f"{len(kept):,} of {len(targets):,} items of the pool, {counts.max():,} of the "
                f"largest class and {counts.min():,} of the smallest; the test set as it is",
            },
        )


def thinned(targets: NDArray[np.int64], n_classes: int, rho: float, seed: int) -> NDArray[np.int64]:
    """Positions that stay, ascending; those of a larger ratio are among those of a smaller one.

    Args:
        targets: classes, int64 ``[N]``.
        rho: the ratio of what stays of the first class to what stays of the last.
        seed: which items of a class stay.
    """
    parts = []
    for k in range(n_classes):
        of_class = np.flatnonzero(targets == k)
        n = max(1, round(len(of_class) * rho ** (-k / max(1, n_classes - 1))))
        # Beginnings of one permutation: what a larger ratio keeps, a smaller one keeps, too.
        parts.append(seeds.rng(seed, "long-tail", k).permutation(of_class)[:n])
    return np.sort(np.concatenate(parts))
