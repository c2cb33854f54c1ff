"""Families of paired tests: exact, corrected for how many there are, with what each could have shown.

Everything is two-sided. ``docs/protocol.md`` ("What decides a verdict") states the policy.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from alharness.comparison.intervals import difference_interval
from alharness.comparison.levels import ALPHA, MIN_INTERVAL, MIN_PAIRS, settled
from alharness.comparison.power import minimum_detectable, pairs_to_decide, test_replication
from alharness.comparison.signed_ranks import signed_ranks, smallest_p


@dataclass(frozen=True)
class PairedTest:
    """One strategy against another on the same seeds.

    Attributes:
        n: pairs.
        above, below: pairs in which the first is larger, and smaller.
        direction: 1 where the ranks of the differences say that the first is larger, -1 that it is smaller.
        mean: mean difference; positive where the first is larger.
        low, high: its 95 % interval (Student's t); NaN below six pairs.
        deviation: standard deviation of the differences over pairs.
        p: exact Wilcoxon p; None below two pairs.
        p_holm: the same, adjusted for the family of tests.
        detectable: minimum detectable difference at the family's strictest level.
        needed: pairs that would decide a difference of the observed size; None when out of reach.
        smallest: smallest adjusted p that so many pairs could have given.
        replication: probability that a second laboratory with as many seeds comes to the same verdict.
    """

    n: int
    above: int
    below: int
    direction: int
    mean: float
    low: float
    high: float
    deviation: float
    p: float | None
    p_holm: float | None
    detectable: float
    needed: int | None
    smallest: float
    replication: float

    @property
    def significant(self) -> bool:
        """Never below six pairs (R11), nor where the mean lies on the other side than the ranks."""
        return self._passes and bool(np.sign(self.mean) == self.direction)

    @property
    def contradictory(self) -> bool:
        """Whether the ranks pass the level and the mean, turned by a few pairs, says otherwise."""
        return self._passes and not self.significant

    @property
    def _passes(self) -> bool:
        return self.n >= MIN_PAIRS and self.p_holm is not None and self.p_holm <= ALPHA

    @property
    def more_pairs(self) -> int | None:
        """How many more pairs would decide it; 0 when it is decided, None when nobody can tell."""
        if self.significant:
            return 0
        # A deviation estimated from four numbers or fewer says next to nothing.
        # Nor does a t-test's count say when mean and ranks will agree.
        if self.needed is None or self.n < MIN_INTERVAL or self.contradictory:
            return None
        # An unlucky sample may already have as many pairs as such a difference needs on average.
        return max(self.needed - self.n, 1)


def paired_tests(
    differences: Mapping[str, ArrayLike],
    *,
    same: Mapping[str, Hashable] | None = None,
    looks: int = 1,
) -> dict[str, PairedTest]:
    """Tests of a family of paired differences, with Holm's correction over the family.

    Args:
        differences: name -> one difference per pair, ``[n]``. Names with fewer than two pairs, or with a
            difference that is not a number, are described but not tested, and do not count.
        same: name -> what it did; names that did the same are one comparison and count once.
        looks: how often results were looked at while seeds were added. Each look spends an equal part of
            the level (every p is multiplied by their number), which holds however they were chosen.
    """
    data = {name: settled(values) for name, values in differences.items()}
    ranks = {name: signed_ranks(values) for name, values in data.items()}
    tested = [n for n, values in data.items() if len(values) >= 2 and not np.isnan(ranks[n].p)]
    raw = {name: ranks[name].p for name in tested}
    done = {name: (same or {}).get(name, name) for name in tested}
    # One p for each thing that was done: its copies have the same differences.
    once = {what: raw[name] for name, what in done.items()}
    by_deed = dict(zip(once, holm([min(1.0, looks * p) for p in once.values()]), strict=True))
    adjusted = {name: by_deed[what] for name, what in done.items()}
    n_tests = looks * max(len(once), 1)
    found = {}
    for name, values in data.items():
        n = len(values)
        finite = n > 0 and bool(np.isfinite(values).all())
        # Settled like the differences: what is equal in all pairs has no spread to compute a power from.
        mean = float(settled(values.mean())) if n else float("nan")
        deviation = float(settled(values.std(ddof=1))) if n > 1 and finite else float("nan")
        low, high = difference_interval(values)
        p_holm = adjusted.get(name)
        decided = 0
        if n >= MIN_PAIRS and p_holm is not None and p_holm <= ALPHA:
            decided = ranks[name].direction if np.sign(mean) == ranks[name].direction else 0
        # Holm's step for this name: what its own p had to be multiplied by.
        factor = p_holm / raw[name] if p_holm is not None and raw[name] > 0 else float(n_tests)
        found[name] = PairedTest(
            n=n,
            above=ranks[name].above,
            below=ranks[name].below,
            direction=ranks[name].direction,
            mean=mean,
            low=low,
            high=high,
            deviation=deviation,
            p=raw.get(name),
            p_holm=p_holm,
            detectable=minimum_detectable(deviation, n, alpha=ALPHA / n_tests),
            needed=pairs_to_decide(mean, deviation, alpha=ALPHA / n_tests),
            smallest=min(1.0, smallest_p(n) * n_tests),
            replication=test_replication(mean, deviation, n, ALPHA / max(factor, 1.0), decided),
        )
    return found


def n_corrected(tests: Iterable[PairedTest]) -> int:
    """How many tests of a family the correction runs over.

    Strategies that asked the same have equal differences, and count once.
    """
    return len({(t.n, t.mean, t.deviation, t.p) for t in tests if t.p is not None})


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p for a family of tests (Holm 1979), in the order given."""
    m = len(p_values)
    adjusted = [1.0] * m
    running = 0.0
    for step, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (m - step) * p_values[index]))
        adjusted[index] = running
    return adjusted
