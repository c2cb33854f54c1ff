"""Stopping rules judged afterwards, on recorded runs: labels spent, and what was lost. Nothing is trained.

A rule is asked about each run cycle by cycle, on the cycles before alone, as ``run --stop`` would have asked
it. It is held against the best stop in hindsight: the first cycle that comes within ``NEAR`` of the best
test figure that the run ever has. No rule can know it: it looks at the test set, and at what comes later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alharness.comparison.comparison import Comparison
from alharness.comparison.tables import TextTable, number
from alharness.records import METRICS, Run
from alharness.records.metrics import AXES, find_metric
from alharness.stopping import NamedRule, ends_at, lacking

#: Two test figures that are this close are equal in hindsight: a best cycle by a hair is chance.
NEAR = 0.005

#: What stands where the budget, and no rule, ends a run.
WHOLE = "(none: whole budget)"


@dataclass(frozen=True)
class Stop:
    """Where a rule ends one run.

    Attributes:
        fired: whether it does, before the run's own end.
        spent: position of its last cycle on the axis: annotations, labels or cost.
        best_spent: position of the best stop in hindsight.
        figure: test figure of its last cycle.
        lost: how much worse that is than the best of the whole run; not negative.
    """

    fired: bool
    spent: float
    best_spent: float
    figure: float
    lost: float


@dataclass(frozen=True)
class Judged:
    """One rule on the runs of one strategy.

    Attributes:
        strategy, rule: their labels.
        stops: one per run that has what the rule needs.
    """

    strategy: str
    rule: str
    stops: tuple[Stop, ...]

    def as_dict(self) -> dict[str, str | int | float]:
        """Means over runs, for programs."""
        spent, best, figure, lost = (
            np.array([getattr(stop, name) for stop in self.stops])
            for name in ("spent", "best_spent", "figure", "lost")
        )
        return {
            "strategy": self.strategy,
            "rule": self.rule,
            "runs": len(self.stops),
            "fired": sum(stop.fired for stop in self.stops),
            "spent": float(spent.mean()),
            "hindsight": float(best.mean()),
            "figure": float(figure.mean()),
            "lost": float(lost.mean()),
            "most_lost": float(lost.max()),
        }


@dataclass(frozen=True)
class Verdicts:
    """All rules on all strategies of a comparison.

    Attributes:
        judged: in the order of strategies, then of rules.
        notes: what could not be judged, and why.
    """

    judged: tuple[Judged, ...] = ()
    notes: tuple[str, ...] = ()


def judge(
    comparison: Comparison, rules: Sequence[NamedRule], *, axis: str, metric: str
) -> Verdicts:
    """Judge rules on the finished runs of a comparison.

    Args:
        rules: none: nothing is judged.
        axis, metric: what is spent, and by which test figure a loss is told.
    """
    if not rules or not comparison.series:
        return Verdicts()
    find_metric(metric)
    judged, notes = [], []
    for series in comparison.series:
        runs = [run for run in series.runs if np.isfinite(run.y(metric)).all()]
        if len(runs) < len(series.runs):
            n = len(series.runs) - len(runs)
            notes.append(
                f"Stopping rules on {series.label}: {comparison.words(metric)} is not defined in {n} of "
                f"{len(series.runs)} runs, which are not judged."
            )
        if not runs:
            continue
        # The whole budget first: what rules are held against.
        judged.append(
            Judged(series.label, WHOLE, tuple(_stop(run, None, axis, metric) for run in runs))
        )
        for rule in rules:
            # Records of before 0.3 lack what most rules look at.
            kept = [run for run in runs if lacking(rule, run.records) is None]
            if kept:
                stops = tuple(_stop(run, rule, axis, metric) for run in kept)
                judged.append(Judged(series.label, rule.label, stops))
    notes += _not_judged(rules, comparison.runs)
    shortened = [run for run in comparison.runs if run.records.column("stopped")[-1] is not None]
    if shortened:
        notes.append(
            f"{len(shortened)} of {len(comparison.runs)} runs were themselves ended by a stopping rule: the "
            "best in hindsight of those is the best before that. Judge rules on runs that spent the budget."
        )
    return Verdicts(tuple(judged), tuple(notes))


def _not_judged(rules: Sequence[NamedRule], runs: Sequence[Run]) -> list[str]:
    """Which rules miss what they need, in how many runs, and how to have it."""
    together: dict[tuple[str, str, int], list[str]] = {}
    for rule in rules:
        missing = [lack for run in runs if (lack := lacking(rule, run.records)) is not None]
        if missing:
            cure = (
                f"only 'alharness run --stop {rule.name}:...' makes it, for it takes training"
                if "cross_validation" in rule.rule.needs
                else "records have them from version 0.3 on; run again to have them"
            )
            together.setdefault((missing[0], cure, len(missing)), []).append(rule.label)
    return [
        f"Not judged on {n} of {len(runs)} runs: {', '.join(labels)}. These runs have no {lack} ({cure})."
        for (lack, cure, n), labels in together.items()
    ]


def _stop(run: Run, rule: NamedRule | None, axis: str, metric: str) -> Stop:
    at = None if rule is None else ends_at(rule, run.records)
    last = len(run.records) - 1
    end = last if at is None else at
    spent, values = run.x(axis), run.y(metric)
    goodness = values if METRICS[metric].better == "more" else -values
    best = float(goodness.max())
    # The first that is near enough, by the arithmetic of printed digits: .905 is within .005 of .91.
    hindsight = int(np.argmax(goodness >= best - NEAR - 1e-12))
    return Stop(
        fired=at is not None and at < last,
        spent=float(spent[end]),
        best_spent=float(spent[hindsight]),
        figure=float(values[end]),
        lost=best - float(goodness[end]),
    )


def table(verdicts: Verdicts, comparison: Comparison, axis: str, metric: str) -> list[TextTable]:
    """The table of rules; none where nothing was judged."""
    if not verdicts.judged:
        return []
    words, what = AXES[axis][1], comparison.words(metric)
    header = ("strategy", "rule", "stopped early", words, f"{words} in hindsight",
              f"{what} at the stop", "lost (mean)", "lost (most)")  # fmt: skip
    cells = []
    for item in verdicts.judged:
        row = item.as_dict()
        cells.append(
            (
                item.strategy,
                item.rule,
                f"{row['fired']} of {row['runs']}",
                f"{row['spent']:.0f}",
                f"{row['hindsight']:.0f}",
                number(float(row["figure"])),
                number(float(row["lost"])),
                number(float(row["most_lost"])),
            )
        )
    caption = (
        f"Stopping rules on recorded runs: {words} spent (means over runs), and {what} lost against the best "
        f"of the whole run; in hindsight the first cycle within {NEAR:g} of the best would have done"
    )
    return [TextTable("stopping", caption, header, tuple(cells))]
