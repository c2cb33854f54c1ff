"""Wrong labels on purpose: some pool items are annotated with another class than theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alharness import seeds
from alharness.lazily import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def with_noise(
    targets: NDArray[np.int64], n_classes: int, share: float, data_seed: int
) -> NDArray[np.int64]:
    """Targets of which a share is wrong: what an annotator who errs would say of each item.

    Exactly ``round(share * N)`` items get one of the other classes, each as probable as the next. Which
    ones follows from ``data_seed`` alone, like the initial set: at equal seeds they are the same ones for
    every strategy, and those of a larger share include those of a smaller one.

    Args:
        targets: true classes, int64 ``[N]``.
        n_classes: number of classes C.
        share: of wrong labels, in [0, 1).
        data_seed: the run's.
    """
    n = len(targets)
    rng = seeds.rng(data_seed, "noise")
    # One permutation for all shares: a larger share begins with the items of a smaller one.
    wrong = rng.permutation(n)[: round(share * n)]
    # Drawn for all items, so that an item's wrong class does not depend on the share.
    shift = rng.integers(1, n_classes, size=n)
    noisy = targets.copy()
    noisy[wrong] = (targets[wrong] + shift[wrong]) % n_classes
    return noisy
