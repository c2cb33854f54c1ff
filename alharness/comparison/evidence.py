"""What a report decides on, with one policy of proof for its tables and its claims.

``docs/protocol.md`` ("What decides a verdict") states the policy. In short: exact paired tests, Holm's
correction over each family, margins as a share of what there is to gain, nothing below six pairs. A family
is either the table (every strategy against the baseline, over the whole range) or all further differences
that claims ask for of the same comparison and figure. A claim on a difference that stands in the table
takes the table's test, so that one difference never has two verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from alharness.comparison import metrics
from alharness.comparison.comparison import Comparison
from alharness.comparison.intervals import difference_interval
from alharness.comparison.levels import ALPHA, MIN_PAIRS
from alharness.comparison.paired_tests import paired_tests
from alharness.comparison.power import new_laboratories
from alharness.comparison.series import Series, area, asked_of, paired, shared_grid
from alharness.comparison.signed_ranks import signed_ranks
from alharness.comparison.verdicts import Word
from alharness.errors import UserError
from alharness.frozen import Frozen
from alharness.records.runs import Array

#: Differences below this share of what there is to gain are "equal".
SHARE = 0.25


class Gain(Frozen):
    """What there is to gain on a task, registered before the runs that are judged (``[[gain]]``)."""

    model_config = ConfigDict(populate_by_name=True)

    task: str = Field(description="the task that it was measured on")
    value: float = Field(description="mean paired difference of the area under the curve")
    low: float = Field(description="lower end of its 95 % interval")
    high: float = Field(description="upper end of its 95 % interval")
    seeds: tuple[int, ...] = Field(description="seeds that it rests on; none of them may be judged")
    of: str = Field("", description="whose gain: the best known strategy, over the baseline")
    metric: str = Field("accuracy", description="figure of the test set")
    budget: int | None = Field(None, description="annotations in all; any where left out")
    start: float = Field(0.0, alias="from", description="first annotation of the range")
    to: float = Field(float("inf"), description="last annotation of the range")

    def fits(self, comparison: Comparison, metric: str, start: float, to: float) -> bool:
        """Whether it is about a range of a comparison."""
        budgets = {run.spec.budget for run in comparison.runs}
        return (self.task, self.metric, self.start, self.to) == (
            comparison.task,
            metric,
            start,
            to,
        ) and (self.budget is None or budgets == {self.budget})


def registered_in(blocks: Sequence[Mapping[str, object]]) -> tuple[Gain, ...]:
    """``[[gain]]`` blocks of a sweep's file.

    Raises:
        UserError: a block that lacks something, or says what is not known.
    """
    found = []
    for number, block in enumerate(blocks, 1):
        try:
            found.append(Gain.model_validate(block))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UserError(
                f"[[gain]] number {number}: {place}: {first['msg'].lower()}. It takes "
                f"{', '.join(f.alias or name for name, f in Gain.model_fields.items())}."
            ) from error
    return tuple(found)


@dataclass(frozen=True)
class Difference:
    """One strategy against another, over a range of annotations.

    Attributes:
        metric: test figure.
        first, second: labels.
        start, to: the range; 0 and infinity for all of it.
    """

    metric: str
    first: str
    second: str
    start: float = 0.0
    to: float = float("inf")

    @property
    def whole(self) -> bool:
        return self.start == 0 and np.isinf(self.to)

    @property
    def mirrored(self) -> Difference:
        """The same, told from the other side."""
        return replace(self, first=self.second, second=self.first)


@dataclass(frozen=True)
class Judged:
    """A difference with its share of the level.

    Attributes:
        gaps: one per pair, ``[n]``.
        factor: what Holm's correction multiplied its p with.
        family: how many tests its family has.
    """

    gaps: Array
    factor: float
    family: int

    @property
    def p(self) -> float:
        """Adjusted p; NaN without two pairs."""
        if len(self.gaps) < 2:
            return float("nan")
        return min(1.0, self.factor * signed_ranks(self.gaps).p)


class Evidence:
    """All differences of one comparison that are decided on, each with its family's correction."""

    def __init__(
        self,
        comparison: Comparison,
        asked: Iterable[Difference] = (),
        *,
        gains: Sequence[Gain] = (),
        looks: int = 1,
    ) -> None:
        self.comparison, self.gains, self.looks = comparison, gains, looks
        self._judged: dict[Difference, Judged] = {}
        self._by_label = {series.label: series for series in comparison.series}
        base = comparison.baseline
        # What stands in the table is decided there; what is left makes a family of its own.
        further: dict[str, list[Difference]] = {}
        for difference in dict.fromkeys(asked):
            if base is not None and difference.whole:
                self._add_table(base, difference.metric)
            # A claim that A is above B and one that B is above A are about one difference.
            if difference not in self._judged and difference.mirrored not in self._judged:
                own = further.setdefault(difference.metric, [])
                if difference.mirrored not in own:
                    own.append(difference)
        for family in further.values():
            self._add_family({d: self._gaps(d) for d in family}, {})

    def of(self, difference: Difference) -> Judged:
        """A difference that was asked for, in either direction."""
        if difference in self._judged:
            return self._judged[difference]
        other = self._judged[difference.mirrored]
        return Judged(-other.gaps, other.factor, other.family)

    def margin(self, metric: str, start: float, to: float) -> tuple[float | None, str]:
        """What a difference may be and still count for nothing, and else why that is not known."""
        found = [g for g in self.gains if g.fits(self.comparison, metric, start, to)]
        if not found:
            return None, "what there is to gain is not registered"
        gain = found[0]
        # A margin from the data that it decides on would move with them.
        judged = {run.pair[0] for run in self.comparison.runs}
        if judged & set(gain.seeds):
            return None, "what there is to gain was registered from seeds that are judged"
        if gain.low <= 0:
            return (
                None,
                f"there is nothing to gain here ({gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}])",
            )
        return SHARE * gain.value, ""

    def _add_table(self, base: Series, metric: str) -> None:
        """The family of the table of tests."""
        if any(d.whole and d.metric == metric for d in self._judged):
            return
        if not self.comparison.has_areas("queries", metric):
            return
        areas = self.comparison.areas("queries", metric)
        others = [series for series in self.comparison.series if series is not base]
        self._add_family(
            {
                Difference(metric, series.label, base.label): metrics.differences(
                    series, base, areas
                )
                for series in others
            },
            {series.label: asked_of(series) for series in others},
        )

    def _add_family(self, gaps: Mapping[Difference, Array], same: Mapping[str, Hashable]) -> None:
        names = {str(i): difference for i, difference in enumerate(gaps)}
        tests = paired_tests(
            {name: gaps[difference] for name, difference in names.items()},
            same={name: same.get(d.first, name) for name, d in names.items()},
            looks=self.looks,
        )
        tested = sum(test.p is not None for test in tests.values())
        for name, difference in names.items():
            test = tests[name]
            # Holm's factor for this place in the order: simulated laboratories are judged by the same.
            factor = 1.0
            if test.p is not None and test.p_holm is not None and test.p > 0:
                factor = test.p_holm / test.p
            self._judged[difference] = Judged(gaps[difference], max(factor, 1.0), tested)

    def _gaps(self, difference: Difference) -> Array:
        """Paired differences of the mean figure over a range, ``[n]``."""
        first, second = (self._by_label[n] for n in (difference.first, difference.second))
        gaps = []
        for pair in paired(first, second):
            a, b = first.by_pair[pair], second.by_pair[pair]
            grid = shared_grid([a, b], "queries")
            grid = grid[(grid >= difference.start) & (grid <= difference.to)]
            if len(grid):
                areas = [
                    area(grid, np.interp(grid, run.x("queries"), run.y(difference.metric)))
                    for run in (a, b)
                ]
                gaps.append(areas[0] - areas[1])
        return np.array(gaps)


def above(gaps: Array, factor: float, margin: float | None) -> Word:
    """Whether differences are above 0: by the exact test, at their family's level.

    It fails where they are significantly below, or where the interval ends below the margin: then the gain,
    if any, is too small to count.
    """
    if len(gaps) < MIN_PAIRS or not np.isfinite(gaps).all():
        return "undecided"
    ranks = signed_ranks(gaps)
    if factor * ranks.p <= ALPHA:
        # One pair can turn the mean, and a p value of the ranks says nothing of it then.
        if np.sign(gaps.mean()) != ranks.direction:
            return "undecided"
        return "holds" if ranks.direction > 0 else "fails"
    return "fails" if margin is not None and difference_interval(gaps)[1] < margin else "undecided"


#: What "does not exceed" is: the same decision, told the other way round, so that both never hold.
OPPOSITE: Mapping[Word, Word] = {"holds": "fails", "fails": "holds", "undecided": "undecided"}


def not_above(gaps: Array, factor: float, margin: float | None) -> Word:
    """Whether differences are not above 0 by anything that counts."""
    return OPPOSITE[above(gaps, factor, margin)]


def equal(gaps: Array, factor: float, margin: float | None) -> Word:
    """Whether the whole interval lies within the margin (two one-sided tests at 2.5 % each)."""
    if len(gaps) < MIN_PAIRS or margin is None or not np.isfinite(gaps).all():
        return "undecided"
    low, high = difference_interval(gaps)
    if low >= -margin and high <= margin:
        return "holds"
    return "fails" if low > margin or high < -margin else "undecided"


#: Second laboratories that a verdict is repeated in; each of them makes an exact test.
N_REPEATS = 200


def replication(values: Array, word: Word, decide: Callable[[Array], Word]) -> float:
    """Probability that as many other seeds lead to the same verdict; NaN where that cannot be told."""
    if len(values) < MIN_PAIRS or not np.isfinite(values).all() or not values.std() > 0:
        return float("nan")
    drawn = new_laboratories(float(values.mean()), float(values.std(ddof=1)), len(values))
    return float(np.mean([decide(other) == word for other in drawn[:N_REPEATS]]))


def at_least(wanted: int, p_values: Sequence[float]) -> float:
    """P value of "at least so many of these hypotheses are true effects" (Benjamini and Heller 2008).

    Partial conjunction by Bonferroni: ``(N - u + 1) p_(u)``.

    Args:
        wanted: how many, u.
        p_values: one-sided, one for each hypothesis, N; 1 for what was not measured.
    """
    n = len(p_values)
    return min(1.0, (n - wanted + 1) * sorted(p_values)[wanted - 1])
