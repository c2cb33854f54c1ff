"""The claims of the paper's Section 5 held against runs: agrees, disagrees, undecided or not run.

What is claimed lies in ``claims.toml``; this module only knows kinds of claims. A verdict needs six
paired seeds; below that everything that was run is undecided. A single point estimate decides nothing.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from alharness.comparison import metrics
from alharness.comparison.comparison import Comparison, Series, paired, shared_grid
from alharness.comparison.runs import Array
from alharness.comparison.statistics import ALPHA, MIN_PAIRS, interval, wilcoxon_p

Word = Literal["agrees", "disagrees", "undecided", "not run"]

#: Differences of accuracy below this are "equal": about what one reads off the paper's figures (decisions 8).
MARGIN = 0.005

#: A claimed number of labels agrees within this share, a gain of entropy down to this share less.
TOLERANCE = 0.25


class Claim(BaseModel):
    """One claim, as the file tells it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: str
    text: str
    kind: Literal[
        "reaches", "needs", "above", "equal", "not_above", "beats_all", "drops", "entropy", "wins"
    ]
    strategies: tuple[str, ...]
    task: str = ""
    tasks: tuple[str, ...] = ()
    other: str = ""
    others: tuple[str, ...] = ()
    level: float = 0.0
    at: float = 0.0
    start: float = Field(0.0, alias="from")
    to: float = float("inf")


@dataclass(frozen=True)
class Verdict:
    """A claim beside what was measured."""

    where: str
    claim: str
    verdict: Word
    measured: str

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return asdict(self)


def claims() -> tuple[Claim, ...]:
    """All claims of the file."""
    text = files("alharness.comparison").joinpath("claims.toml").read_text(encoding="utf-8")
    return tuple(Claim.model_validate(item) for item in tomllib.loads(text)["claim"])


def check_paper(found: Sequence[Comparison]) -> list[Verdict]:
    """Every claim beside the first comparison of its task; differences are of accuracy."""
    by_task: dict[str, Comparison] = {}
    for comparison in found:
        by_task.setdefault(comparison.task, comparison)
    return [check(claim, by_task) for claim in claims()]


def check(claim: Claim, by_task: Mapping[str, Comparison]) -> Verdict:
    """One claim."""
    if claim.kind == "wins":
        return _verdict(claim, *_wins(claim, by_task))
    comparison = by_task.get(claim.task)
    if comparison is None:
        return _verdict(claim, "not run", f"no finished runs on {claim.task}")
    needed = [*claim.strategies, *claim.others, *([claim.other] if claim.other else [])]
    present = _by_name(comparison)
    missing = [name for name in needed if name not in present]
    if missing:
        return _verdict(claim, "not run", f"no finished run of {', '.join(missing)}")
    words: list[Word] = []
    told: list[str] = []
    for name in claim.strategies:
        word, text = _KINDS[claim.kind](claim, present[name], present)
        words.append(word)
        told.append(f"{name}: {text}")
    profiles = sorted({str(run.spec.get("profile", "?")) for run in comparison.runs})
    return _verdict(claim, _together(words), f"{'; '.join(told)} [{', '.join(profiles)} profile]")


def _by_name(comparison: Comparison) -> dict[str, Series]:
    """Strategies by the paper's name; of several oracles the one that labels everything is the paper's."""
    named = {series.label: series for series in comparison.series}
    for series in comparison.series:
        oracle = series.runs[0].spec.get("oracle", {})
        if series.label.startswith(f"{series.strategy} [") and oracle.get("mode") == "hard":
            named.setdefault(series.strategy, series)
    return named


def _verdict(claim: Claim, word: Word, measured: str) -> Verdict:
    return Verdict(claim.where, claim.text, word, measured)


def _together(words: Sequence[Word]) -> Word:
    """A claim on several strategies holds when it holds for all."""
    if "disagrees" in words:
        return "disagrees"
    return "undecided" if "undecided" in words else "agrees"


def _values_at(series: Series, at: float) -> Array:
    """Accuracy of every run at a number of annotations, read off linearly; empty when out of range."""
    runs = [run for run in series.runs if run.x("queries")[0] <= at <= run.x("queries")[-1]]
    return np.array([np.interp(at, run.x("queries"), run.y("accuracy")) for run in runs])


def _reaches(claim: Claim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    values = _values_at(series, claim.at)
    if not len(values):
        return "undecided", f"never evaluated at {claim.at:.0f} annotations"
    low, high = interval(values)
    text = f"{values.mean():.4f} at {claim.at:.0f} ({len(values)} seeds)"
    return _against(claim.level, low, high, len(values)), text


def _against(level: float, low: float, high: float, n: int) -> Word:
    """Whether an interval lies above a level."""
    if n < MIN_PAIRS:
        return "undecided"
    if low >= level:
        return "agrees"
    return "disagrees" if high < level else "undecided"


def _needs(claim: Claim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    grid, rows = series.curves("queries", "accuracy")
    reached = metrics.first_reached(grid, rows.mean(axis=0), claim.level)
    if np.isinf(reached):
        return _few(
            series, "disagrees"
        ), f"the mean never reaches {claim.level} up to {grid[-1]:.0f}"
    agrees = abs(reached - claim.at) <= TOLERANCE * claim.at
    return _few(series, "agrees" if agrees else "disagrees"), (
        f"the mean first reaches {claim.level} at {reached:.0f} annotations ({len(series.runs)} seeds)"
    )


def _few(series: Series, word: Word) -> Word:
    return word if len(series.runs) >= MIN_PAIRS else "undecided"


def _gaps(claim: Claim, first: Series, second: Series) -> Array:
    """Paired differences of mean accuracy over the claim's range of annotations, ``[n]``."""
    gaps = []
    for pair in paired(first, second):
        a, b = first.by_pair[pair], second.by_pair[pair]
        grid = shared_grid([a, b], "queries")
        grid = grid[(grid >= claim.start) & (grid <= claim.to)]
        if len(grid):
            areas = [
                metrics.area(grid, np.interp(grid, run.x("queries"), run.y("accuracy")))
                for run in (a, b)
            ]
            gaps.append(areas[0] - areas[1])
    return np.array(gaps)


def _difference(gaps: Array, other: str) -> str:
    if not len(gaps):
        return f"no pair with {other}"
    low, high = interval(gaps)
    spread = "" if np.isnan(low) else f" [{low:+.4f}, {high:+.4f}]"
    return f"{gaps.mean():+.4f}{spread} against {other} ({len(gaps)} pairs)"


def _above(claim: Claim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    gaps = _gaps(claim, series, present[claim.other])
    return _is_above(gaps), _difference(gaps, claim.other)


def _is_above(gaps: Array) -> Word:
    if len(gaps) < MIN_PAIRS:
        return "undecided"
    significant = wilcoxon_p(gaps) <= ALPHA
    if significant:
        return "agrees" if gaps.mean() > 0 else "disagrees"
    # Not a lack of seeds: the gain, if any, is too small to be what the paper's figures show.
    return "disagrees" if interval(gaps)[1] < MARGIN / 5 else "undecided"


def _equal(claim: Claim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    gaps = _gaps(claim, series, present[claim.other])
    text = _difference(gaps, claim.other)
    if len(gaps) < MIN_PAIRS:
        return "undecided", text
    low, high = interval(gaps)
    if low >= -MARGIN and high <= MARGIN:
        return "agrees", text
    return ("disagrees" if low > MARGIN or high < -MARGIN else "undecided"), text


def _not_above(claim: Claim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    gaps = _gaps(claim, series, present[claim.other])
    text = _difference(gaps, claim.other)
    if len(gaps) < MIN_PAIRS:
        return "undecided", text
    low, high = interval(gaps)
    if high <= MARGIN:
        return "agrees", text
    return ("disagrees" if low > MARGIN else "undecided"), text


def _beats_all(claim: Claim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    words, told = [], []
    for other in claim.others:
        gaps = _gaps(claim, series, present[other])
        words.append(_is_above(gaps))
        told.append(_difference(gaps, other))
    return _together(words), ", ".join(told)


def _drops(claim: Claim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    before, after = _values_at(series, claim.start), _values_at(series, claim.to)
    if not len(before) or len(before) != len(after):
        return "undecided", f"not evaluated from {claim.start:.0f} to {claim.to:.0f} annotations"
    text = (
        f"{before.mean():.4f} at {claim.start:.0f}, {after.mean():.4f} at {claim.to:.0f} "
        f"({len(after)} seeds)"
    )
    return _is_above(before - after), text


def _entropy(claim: Claim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    ratio = metrics.mean_entropy(series) / metrics.mean_entropy(present[claim.other])
    # More than claimed agrees: what is claimed is that the synthetic samples lead to uncertain ones.
    agrees = ratio - 1 >= (1 - TOLERANCE) * (claim.level - 1)
    return _few(series, "agrees" if agrees else "disagrees"), (
        f"{100 * (ratio - 1):+.0f} % ({len(series.runs)} seeds)"
    )


def _wins(claim: Claim, by_task: Mapping[str, Comparison]) -> tuple[Word, str]:
    """How many of the tasks the strategy wins; decided only when all tasks were run."""
    won, run = [], []
    for task in claim.tasks:
        present = _by_name(by_task[task]) if task in by_task else {}
        if claim.strategies[0] in present and claim.other in present:
            run.append(task)
            gaps = _gaps(claim, present[claim.strategies[0]], present[claim.other])
            if _is_above(gaps) == "agrees":
                won.append(task)
    if not run:
        return "not run", f"none of the {len(claim.tasks)} tasks was run"
    text = f"{claim.strategies[0]} is ahead on {len(won)} of {len(run)} tasks run"
    if len(run) < len(claim.tasks):
        return "undecided", text
    return ("agrees" if len(won) == claim.level else "disagrees"), text


_Check = Callable[[Claim, Series, Mapping[str, Series]], tuple[Word, str]]

_KINDS: dict[str, _Check] = {
    "reaches": _reaches,
    "needs": _needs,
    "above": _above,
    "equal": _equal,
    "not_above": _not_above,
    "beats_all": _beats_all,
    "drops": _drops,
    "entropy": _entropy,
}
