"""The claims of the paper's Section 5 held against runs: holds, fails, undecided or not measured.

What is claimed lies in ``claims.toml``; this module only knows kinds of claims. A verdict needs six
paired seeds; below that everything that was run is undecided. A single point estimate decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from alharness.comparison import metrics
from alharness.comparison.comparison import BASELINE, Comparison
from alharness.comparison.series import Series, paired, shared_grid
from alharness.comparison.statistics import (
    ALPHA,
    MIN_PAIRS,
    interval,
    pairs_to_decide,
    signed_ranks,
)
from alharness.comparison.verdicts import Claim, Verdict, Word, read_blocks
from alharness.records import Run
from alharness.records.runs import Array

#: The claims of the paper's Section 5, which ship with the package.
FILE = Path(__file__).with_name("claims.toml")

#: Differences of accuracy below this are "equal": about what one reads off the paper's figures (decisions 8).
MARGIN = 0.005

#: A claimed number of labels holds within this share, a gain of entropy down to this share less.
TOLERANCE = 0.25


class PaperClaim(Claim):
    """One claim on accuracy or entropy."""

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
    metric: str = "accuracy"


def claims() -> tuple[PaperClaim, ...]:
    """All claims of the file."""
    return tuple(read_blocks(FILE, {"claim": PaperClaim})["claim"])


def check_paper(found: Sequence[Comparison]) -> list[Verdict]:
    """Every claim beside the runs on its task.

    Where a task was split (``--split-by``), a claim says nothing of which setting it is about: it is judged
    on each, and the verdict names it. Settings of which the same is found share a verdict.
    """
    return [verdict for claim in claims() for verdict in _check_each(claim, found)]


def _check_each(claim: PaperClaim, found: Sequence[Comparison]) -> list[Verdict]:
    own = [comparison for comparison in found if comparison.task in (claim.task, *claim.tasks)]
    settings = list(dict.fromkeys(told for c in own if (told := _setting(c))))
    if not settings:
        return [check(claim, {comparison.task: comparison for comparison in own})]
    verdicts: dict[Verdict, list[str]] = {}
    for setting in settings:
        # A task that was not split stands beside each setting of the others.
        by_task = {c.task: c for c in own if _setting(c) in ("", setting)}
        verdicts.setdefault(check(claim, by_task), []).append(setting)
    return [replace(verdict, subject="; ".join(which)) for verdict, which in verdicts.items()]


def _setting(comparison: Comparison) -> str:
    """What tells a comparison from others of its task."""
    return ", ".join(f"{key} {value}" for key, value in comparison.split.items())


def check(claim: PaperClaim, by_task: Mapping[str, Comparison]) -> Verdict:
    """One claim."""
    if claim.kind == "wins":
        return Verdict(claim, *_wins(claim, by_task))
    comparison = by_task.get(claim.task)
    if comparison is None:
        return Verdict(claim, "not measured", f"no finished runs on {claim.task}")
    needed = [*claim.strategies, *claim.others, *([claim.other] if claim.other else [])]
    present = _by_name(comparison)
    missing = [name for name in needed if name not in present]
    if missing:
        several = [n for n in missing if any(s.strategy == n for s in comparison.series)]
        why = f"{', '.join(several)} was run with several settings, none of them the paper's"
        none = f"no finished run of {', '.join(missing)}"
        return Verdict(claim, "not measured", why if several == missing else none)
    words: list[Word] = []
    told: list[str] = []
    for name in claim.strategies:
        word, text = _KINDS[claim.kind](claim, present[name], present)
        words.append(word)
        told.append(f"{name}: {text}")
        told[-1] += _reach(claim, present[name])
    profiles = sorted({run.spec.profile for run in comparison.runs})
    return Verdict(claim, _together(words), f"{'; '.join(told)} [{', '.join(profiles)} profile]")


def _reach(claim: PaperClaim, series: Series) -> str:
    """Where the runs end inside the range that is claimed: how far they were seen."""
    end = max(float(run.x("queries")[-1]) for run in series.runs)
    if not claim.start < end < claim.to < np.inf:
        return ""
    return f", seen up to {end:.0f} of {claim.to:.0f} annotations"


def _by_name(comparison: Comparison) -> dict[str, Series]:
    """Strategies by the paper's name.

    Of several that differ in settings, the paper's is the one whose oracle labels everything and whose
    networks are the profile's own. Where that leaves none or several, the name stands for nothing.
    """
    named = {series.name: series for series in comparison.series}
    variants: dict[str, list[Series]] = {}
    for series in comparison.series:
        if series.name.startswith(f"{series.strategy} [") and _is_plain(series.runs[0]):
            variants.setdefault(series.strategy, []).append(series)
    for strategy, found in variants.items():
        if len(found) == 1:
            named.setdefault(strategy, found[0])
    return named


def _is_plain(run: Run) -> bool:
    """Whether the oracle labels everything, and the recipes of networks are left to the profile."""
    if run.spec.oracle.get("mode") != "hard":
        return False
    return all(
        value is None or (key, value) in (("recipe", "auto"), ("seed", 0))
        for recipe in (run.spec.generator, run.spec.autoencoder)
        for key, value in recipe.items()
    )


def _together(words: Sequence[Word]) -> Word:
    """A claim on several strategies holds when it holds for all."""
    if "fails" in words:
        return "fails"
    return "undecided" if "undecided" in words else "holds"


def _values_at(series: Series, at: float, metric: str) -> Array:
    """A test figure of every run at a number of annotations, read off linearly; empty out of range."""
    runs = [run for run in series.runs if run.x("queries")[0] <= at <= run.x("queries")[-1]]
    return np.array([np.interp(at, run.x("queries"), run.y(metric)) for run in runs])


def _reaches(claim: PaperClaim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    values = _values_at(series, claim.at, claim.metric)
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
        return "holds"
    return "fails" if high < level else "undecided"


def _needs(claim: PaperClaim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    grid, rows = series.curves("queries", claim.metric)
    reached = metrics.first_reached(grid, rows.mean(axis=0), claim.level)
    if np.isinf(reached):
        return _few(series, "fails"), f"the mean never reaches {claim.level} up to {grid[-1]:.0f}"
    holds = abs(reached - claim.at) <= TOLERANCE * claim.at
    return _few(series, "holds" if holds else "fails"), (
        f"the mean first reaches {claim.level} at {reached:.0f} annotations ({len(series.runs)} seeds)"
    )


def _few(series: Series, word: Word) -> Word:
    return word if len(series.runs) >= MIN_PAIRS else "undecided"


def _gaps(claim: PaperClaim, first: Series, second: Series) -> Array:
    """Paired differences of the mean figure over the claim's range of annotations, ``[n]``."""
    gaps = []
    for pair in paired(first, second):
        a, b = first.by_pair[pair], second.by_pair[pair]
        grid = shared_grid([a, b], "queries")
        grid = grid[(grid >= claim.start) & (grid <= claim.to)]
        if len(grid):
            areas = [
                metrics.area(grid, np.interp(grid, run.x("queries"), run.y(claim.metric)))
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


def _above(claim: PaperClaim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    gaps = _gaps(claim, series, present[claim.other])
    word = _is_above(gaps)
    return word, _difference(gaps, claim.other) + _what_hinders(word, gaps)


def _what_hinders(word: Word, gaps: Array) -> str:
    """Of an undecided claim that one is above the other: why it is not decided."""
    return _disagreement(gaps) or _would_decide(word, gaps)


def _would_decide(word: Word, gaps: Array, *, within: float | None = None) -> str:
    """Of an undecided claim: how many seeds would decide it, if what was seen is all there is.

    Args:
        within: the claim is that the difference lies within this of 0; None: that it is not 0. Then the
            room between the mean and that border takes the place of the mean.
    """
    if word != "undecided" or len(gaps) < 2:
        return ""
    room = gaps.mean() if within is None else within - abs(gaps.mean())
    needed = pairs_to_decide(float(room), float(gaps.std(ddof=1)))
    if needed is None and within is None:
        return ", no reachable number of seeds would decide a difference of this size"
    if needed is None or needed <= len(gaps):
        return ", at the border: more seeds may decide it either way"
    return f", about {needed} seeds would decide"


def _is_above(gaps: Array) -> Word:
    if len(gaps) < MIN_PAIRS:
        return "undecided"
    ranks = signed_ranks(gaps)
    if ranks.contradicts(gaps.mean()):
        return "undecided"
    if ranks.p <= ALPHA:
        return "holds" if ranks.direction > 0 else "fails"
    # Not a lack of seeds: the gain, if any, is too small to be what the paper's figures show.
    return "fails" if interval(gaps)[1] < MARGIN / 5 else "undecided"


def _disagreement(gaps: Array) -> str:
    """Where the ranks pass the level on the side that the mean does not lie on; else empty."""
    ranks = signed_ranks(gaps)
    if len(gaps) < MIN_PAIRS or not ranks.contradicts(gaps.mean()):
        return ""
    side, n = ("above", ranks.above) if ranks.direction > 0 else ("below", ranks.below)
    return f", but {n} of {ranks.n} pairs are {side}: mean and ranks disagree"


def _equal(claim: PaperClaim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    gaps = _gaps(claim, series, present[claim.other])
    text = _difference(gaps, claim.other)
    if len(gaps) < MIN_PAIRS:
        return "undecided", text
    low, high = interval(gaps)
    if low >= -MARGIN and high <= MARGIN:
        return "holds", text + _as_near(claim, series, present)
    word: Word = "fails" if low > MARGIN or high < -MARGIN else "undecided"
    return word, text + _would_decide(word, gaps, within=MARGIN)


def _as_near(claim: PaperClaim, series: Series, present: Mapping[str, Series]) -> str:
    """Where random sampling, too, is equal to the other one: then equality is no merit."""
    random = present.get(BASELINE)
    if random is None or BASELINE in (series.name, claim.other):
        return ""
    gaps = _gaps(claim, random, present[claim.other])
    if len(gaps) < MIN_PAIRS or max(map(abs, interval(gaps))) > MARGIN:
        return ""
    return f"; but so is {BASELINE} ({gaps.mean():+.4f}), which makes it no merit"


def _not_above(
    claim: PaperClaim, series: Series, present: Mapping[str, Series]
) -> tuple[Word, str]:
    gaps = _gaps(claim, series, present[claim.other])
    text = _difference(gaps, claim.other)
    if len(gaps) < MIN_PAIRS:
        return "undecided", text
    low, high = interval(gaps)
    if high <= MARGIN:
        return "holds", text
    word: Word = "fails" if low > MARGIN else "undecided"
    return word, text + _would_decide(word, gaps - MARGIN)


def _beats_all(
    claim: PaperClaim, series: Series, present: Mapping[str, Series]
) -> tuple[Word, str]:
    words, told = [], []
    for other in claim.others:
        gaps = _gaps(claim, series, present[other])
        words.append(_is_above(gaps))
        told.append(_difference(gaps, other) + _what_hinders(words[-1], gaps))
    return _together(words), ", ".join(told)


def _drops(claim: PaperClaim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    before, after = (_values_at(series, at, claim.metric) for at in (claim.start, claim.to))
    if not len(before) or len(before) != len(after):
        return "undecided", f"not evaluated from {claim.start:.0f} to {claim.to:.0f} annotations"
    text = (
        f"{before.mean():.4f} at {claim.start:.0f}, {after.mean():.4f} at {claim.to:.0f} "
        f"({len(after)} seeds)"
    )
    return _is_above(before - after), text + _disagreement(before - after)


def _entropy(claim: PaperClaim, series: Series, present: Mapping[str, Series]) -> tuple[Word, str]:
    ratio = metrics.mean_entropy(series) / metrics.mean_entropy(present[claim.other])
    # More than claimed holds: what is claimed is that the synthetic samples lead to uncertain ones.
    holds = ratio - 1 >= (1 - TOLERANCE) * (claim.level - 1)
    return _few(series, "holds" if holds else "fails"), (
        f"{100 * (ratio - 1):+.0f} % ({len(series.runs)} seeds)"
    )


def _wins(claim: PaperClaim, by_task: Mapping[str, Comparison]) -> tuple[Word, str]:
    """How many of the tasks the strategy wins; decided only when all tasks were run."""
    won, run = [], []
    for task in claim.tasks:
        present = _by_name(by_task[task]) if task in by_task else {}
        if claim.strategies[0] in present and claim.other in present:
            run.append(task)
            gaps = _gaps(claim, present[claim.strategies[0]], present[claim.other])
            if _is_above(gaps) == "holds":
                won.append(task)
    if not run:
        return "not measured", f"none of the {len(claim.tasks)} tasks was run"
    text = f"{claim.strategies[0]} is ahead on {len(won)} of {len(run)} tasks run"
    if len(run) < len(claim.tasks):
        return "undecided", text
    return ("holds" if len(won) == claim.level else "fails"), text


_Check = Callable[[PaperClaim, Series, Mapping[str, Series]], tuple[Word, str]]

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
