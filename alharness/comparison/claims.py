"""The claims of the paper's Section 5 held against runs: holds, fails, undecided or not measured.

What is claimed lies in ``claims.toml``; this module knows kinds of claims only, and ``evidence`` how
a difference is decided. A verdict needs six paired seeds; below that everything that was run is undecided.
A single point estimate decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from alharness import seeds
from alharness.comparison import metrics
from alharness.comparison.comparison import BASELINE, Comparison
from alharness.comparison.evidence import (
    Difference,
    Evidence,
    Gain,
    Judged,
    above,
    at_least,
    equal,
    not_above,
    replication,
)
from alharness.comparison.intervals import band, difference_interval, interval
from alharness.comparison.levels import ALPHA, MIN_PAIRS
from alharness.comparison.power import pairs_to_decide
from alharness.comparison.series import Series, paired, unit_of
from alharness.comparison.signed_ranks import signed_ranks
from alharness.comparison.verdicts import Claim, Verdict, Word, read_blocks
from alharness.records import Run
from alharness.records.runs import Array

#: The claims of the paper's Section 5, which ship with the package.
FILE = Path(__file__).with_name("claims.toml")

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

    @property
    def opponents(self) -> tuple[str, ...]:
        """Strategies that each of its own is held against."""
        return (*self.others, *([self.other] if self.other else []))

    def differences(self, present: Mapping[str, Series]) -> Iterator[Difference]:
        """The differences that it is decided by, where it is about differences."""
        if self.kind not in ("above", "equal", "not_above", "beats_all", "wins"):
            return
        for name in self.strategies:
            for other in self.opponents:
                if name in present and other in present:
                    yield self.difference(present[name], present[other])

    def difference(self, first: Series, second: Series) -> Difference:
        return Difference(self.metric, first.label, second.label, self.start, self.to)


def claims() -> tuple[PaperClaim, ...]:
    """All claims of the file."""
    return tuple(read_blocks(FILE, {"claim": PaperClaim, "gain": Gain})["claim"])


def registered() -> tuple[Gain, ...]:
    """What there is to gain, as the file of claims has it."""
    return tuple(read_blocks(FILE, {"claim": PaperClaim, "gain": Gain})["gain"])


def check_paper(
    found: Sequence[Comparison], *, gains: Sequence[Gain] = (), looks: int = 1
) -> list[Verdict]:
    """Every claim beside the runs on its task.

    Where a task was split (``--split-by``), a claim says nothing of which setting it is about: it is judged
    on each, and the verdict names it. Settings of which the same is found share a verdict.

    Args:
        found: comparisons.
        gains: what there is to gain, registered in the sweep; before those of the file of claims.
        looks: how often results were looked at while seeds were added.
    """
    all_claims = claims()
    evidence = {}
    for comparison in found:
        present = _by_name(comparison)
        # The family of further differences is all that any claim asks for of this comparison.
        asked = [
            difference
            for claim in all_claims
            if comparison.task in (claim.task, *claim.tasks)
            for difference in claim.differences(present)
        ]
        evidence[id(comparison)] = Evidence(
            comparison, asked, gains=(*gains, *registered()), looks=looks
        )
    return [verdict for claim in all_claims for verdict in _check_each(claim, found, evidence)]


def _check_each(
    claim: PaperClaim, found: Sequence[Comparison], evidence: Mapping[int, Evidence]
) -> list[Verdict]:
    own = [comparison for comparison in found if comparison.task in (claim.task, *claim.tasks)]
    settings = list(dict.fromkeys(told for c in own if (told := _setting(c))))
    if not settings:
        return [check(claim, {c.task: evidence[id(c)] for c in own})]
    verdicts: dict[Verdict, list[str]] = {}
    for setting in settings:
        # A task that was not split stands beside each setting of the others.
        by_task = {c.task: evidence[id(c)] for c in own if _setting(c) in ("", setting)}
        verdicts.setdefault(check(claim, by_task), []).append(setting)
    return [replace(verdict, subject="; ".join(which)) for verdict, which in verdicts.items()]


def _setting(comparison: Comparison) -> str:
    """What tells a comparison from others of its task."""
    return ", ".join(f"{key} {value}" for key, value in comparison.split.items())


@dataclass(frozen=True)
class _Finding:
    """What one strategy's runs say of a claim.

    Attributes:
        word, text: the verdict and its evidence.
        repeats: probability that as many other seeds lead to the same verdict; NaN where unknown.
    """

    word: Word
    text: str
    repeats: float = float("nan")


def check(claim: PaperClaim, by_task: Mapping[str, Evidence]) -> Verdict:
    """One claim."""
    if claim.kind == "wins":
        found = _wins(claim, by_task)
        return Verdict(claim, found.word, found.text)
    evidence = by_task.get(claim.task)
    if evidence is None:
        return Verdict(claim, "not measured", f"no finished runs on {claim.task}")
    comparison = evidence.comparison
    present = _by_name(comparison)
    missing = [name for name in (*claim.strategies, *claim.opponents) if name not in present]
    if missing:
        # Run, but under settings that the paper does not have: another reason than not at all.
        several = [n for n in missing if any(s.strategy == n for s in comparison.series)]
        why = f"{', '.join(several)} was run with several settings, none of them the paper's"
        none = f"no finished run of {', '.join(missing)}"
        return Verdict(claim, "not measured", why if several == missing else none)
    findings: list[_Finding] = []
    told: list[str] = []
    for name in claim.strategies:
        found = _KINDS[claim.kind](claim, present[name], present, evidence)
        findings.append(found)
        unit = unit_of(present[name])
        parts = [f"{name}: {found.text}{_reach(claim, present[name])}"]
        if not np.isnan(found.repeats):
            parts.append(
                f"as many other seeds would say so again with probability {found.repeats:.2f}"
            )
        told.append("; ".join([*parts, *([unit] if unit else [])]))
    profiles = sorted({run.spec.profile for run in comparison.runs})
    word = _together([found.word for found in findings])
    # A verdict on several strategies is repeated where the weakest of them is, at best.
    # All have to repeat theirs, and they share seeds: the weakest is the best bound there is.
    repeats = min((f.repeats for f in findings if f.word == word), default=float("nan"))
    evidence_told = f"{'; '.join(told)} [{', '.join(profiles)} profile]"
    return Verdict(claim, word, evidence_told, replication=None if np.isnan(repeats) else repeats)


def _reach(claim: PaperClaim, series: Series) -> str:
    """Where the runs end inside the range that is claimed: how far they were seen."""
    end = max(float(run.x("queries")[-1]) for run in series.runs)
    # A claim without an end is about whatever was run.
    if not claim.start < end < claim.to < np.inf:
        return ""
    return f", seen up to {end:.0f} of {claim.to:.0f} annotations"


def _by_name(comparison: Comparison) -> dict[str, Series]:
    """Strategies by the paper's name.

    Of several that differ in settings, the paper's is the one whose oracle labels everything and whose
    networks are the profile's own. Where that leaves none or several, the name stands for nothing.
    """
    named = {series.name: series for series in comparison.series}
    # One strategy under several settings has names with brackets; the paper has one setting.
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


def _reaches(
    claim: PaperClaim, series: Series, present: Mapping[str, Series], evidence: Evidence
) -> _Finding:
    values = _values_at(series, claim.at, claim.metric)
    if not len(values):
        return _Finding("undecided", f"never evaluated at {claim.at:.0f} annotations")

    def decide(values: Array) -> Word:
        low, high = interval(values)
        if len(values) < MIN_PAIRS:
            return "undecided"
        if low >= claim.level:
            return "holds"
        return "fails" if high < claim.level else "undecided"

    low, high = interval(values)
    spread = "" if np.isnan(low) else f" [{low:.4f}, {high:.4f}]"
    text = f"{values.mean():.4f}{spread} at {claim.at:.0f} ({len(values)} seeds)"
    word = decide(values)
    return _Finding(word, text, replication(values, word, decide))


def _needs(
    claim: PaperClaim, series: Series, present: Mapping[str, Series], evidence: Evidence
) -> _Finding:
    """Where the mean curve first reaches a level, with the positions at which it may really do so.

    The interval runs from the first position whose own interval reaches up to the level to the first one
    whose interval lies above it.
    """
    grid, rows = series.curves("queries", claim.metric)
    low_at, high_at = (1 - TOLERANCE) * claim.at, (1 + TOLERANCE) * claim.at

    def between(rows: Array) -> tuple[float, float]:
        # Position by position: near the crossing, neighbours move together, so that no band is needed.
        low, high = band(rows)
        first = metrics.first_reached(grid, high, claim.level)
        return first, metrics.first_reached(grid, low, claim.level)

    def decide(rows: Array) -> Word:
        if len(rows) < MIN_PAIRS:
            return "undecided"
        first, last = between(rows)
        if first >= low_at and last <= high_at:
            return "holds"
        return "fails" if first > high_at or last < low_at else "undecided"

    reached = metrics.first_reached(grid, rows.mean(axis=0), claim.level)
    first, last = between(rows)
    if np.isinf(reached):
        text = f"the mean never reaches {claim.level} up to {grid[-1]:.0f}"
    else:
        text = f"the mean first reaches {claim.level} at {reached:.0f}"
        if len(rows) >= MIN_PAIRS:
            end = "never" if np.isinf(last) else f"{last:.0f}"
            text += f" [{first:.0f} to {end}]"
        text += f" annotations ({len(series.runs)} seeds)"
    word = decide(rows)
    return _Finding(word, text, _resampled(rows, word, decide))


def _resampled(rows: Array, word: Word, decide: Callable[[Array], Word]) -> float:
    """Share of bootstrap samples of the seeds that lead to the same verdict; for whole curves, ``[R, K]``."""
    if len(rows) < MIN_PAIRS:
        return float("nan")
    rng = seeds.rng(0, "replication of curves", len(rows))
    draws = rng.integers(0, len(rows), (50, len(rows)))
    return float(np.mean([decide(rows[drawn]) == word for drawn in draws]))


def _difference(judged: Judged, other: str) -> str:
    gaps = judged.gaps
    if not len(gaps):
        return f"no pair with {other}"
    low, high = difference_interval(gaps)
    spread = "" if np.isnan(low) else f" [{low:+.4f}, {high:+.4f}]"
    many = f", p {judged.p:.3f} among {judged.family}" if len(gaps) >= MIN_PAIRS else ""
    return f"{gaps.mean():+.4f}{spread} against {other} ({len(gaps)} pairs{many})"


_Decide = Callable[[Array, float, float | None], Word]


def _by_difference(
    decide: _Decide,
    claim: PaperClaim,
    series: Series,
    present: Mapping[str, Series],
    evidence: Evidence,
) -> _Finding:
    """A claim on the difference of two strategies."""
    judged = evidence.of(claim.difference(series, present[claim.other]))
    margin, why = evidence.margin(claim.metric, claim.start, claim.to)
    gaps = judged.gaps
    word = decide(gaps, judged.factor, margin)
    text = _difference(judged, claim.other)
    if word == "undecided" and len(gaps) >= MIN_PAIRS:
        text += _disagreement(gaps) or _would_decide(
            word, gaps, within=margin if decide is equal else None, level=ALPHA / judged.factor
        )
        if why and decide is not above:
            text += f", {why}"
    if word == "holds" and decide is equal and margin is not None:
        text += _as_near(claim, series, present, evidence, margin)
    return _Finding(
        word, text, replication(gaps, word, lambda other: decide(other, judged.factor, margin))
    )


def _would_decide(
    word: Word, gaps: Array, *, within: float | None = None, level: float = ALPHA
) -> str:
    """Of an undecided claim: how many seeds would decide it, if what was seen is all there is.

    Args:
        within: the claim is that the difference lies within this of 0; None: that it is not 0. Then the
            room between the mean and that border takes the place of the mean.
        level: that the test has to pass.
    """
    if word != "undecided" or len(gaps) < 2:
        return ""
    room = gaps.mean() if within is None else within - abs(gaps.mean())
    needed = pairs_to_decide(float(room), float(gaps.std(ddof=1)), alpha=level)
    if needed is None and within is None:
        return ", no reachable number of seeds would decide a difference of this size"
    if needed is None or needed <= len(gaps):
        return ", at the border: more seeds may decide it either way"
    return f", about {needed} seeds would decide"


def _disagreement(gaps: Array) -> str:
    """Where the ranks pass the level on the side that the mean does not lie on; else empty."""
    ranks = signed_ranks(gaps)
    if len(gaps) < MIN_PAIRS or not ranks.contradicts(gaps.mean()):
        return ""
    side, n = ("above", ranks.above) if ranks.direction > 0 else ("below", ranks.below)
    return f", but {n} of {ranks.n} pairs are {side}: mean and ranks disagree"


def _as_near(
    claim: PaperClaim,
    series: Series,
    present: Mapping[str, Series],
    evidence: Evidence,
    margin: float,
) -> str:
    """Where random sampling, too, is equal to the other one: then equality is no merit."""
    random = present.get(BASELINE)
    if random is None or BASELINE in (series.name, claim.other):
        return ""
    gaps = (
        Evidence(
            evidence.comparison, [difference := claim.difference(random, present[claim.other])]
        )
        .of(difference)
        .gaps
    )
    # Uncorrected: a caution has to come up rather too often than too seldom.
    if equal(gaps, 1.0, margin) != "holds":
        return ""
    return f"; but so is {BASELINE} ({gaps.mean():+.4f}), which makes it no merit"


def _beats_all(
    claim: PaperClaim, series: Series, present: Mapping[str, Series], evidence: Evidence
) -> _Finding:
    """Above every one of the others: each has to be decided, so that no further correction is needed."""
    found = [
        _by_difference(above, claim.model_copy(update={"other": other}), series, present, evidence)
        for other in claim.others
    ]
    return _Finding(_together([f.word for f in found]), ", ".join(f.text for f in found))


def _drops(
    claim: PaperClaim, series: Series, present: Mapping[str, Series], evidence: Evidence
) -> _Finding:
    before, after = (_values_at(series, at, claim.metric) for at in (claim.start, claim.to))
    if not len(before) or len(before) != len(after):
        where = f"from {claim.start:.0f} to {claim.to:.0f}"
        return _Finding("undecided", f"not evaluated {where} annotations")
    gaps = before - after
    low, high = difference_interval(gaps)
    text = (
        f"{before.mean():.4f} at {claim.start:.0f}, {after.mean():.4f} at {claim.to:.0f} "
        f"(a drop of {gaps.mean():+.4f} [{low:+.4f}, {high:+.4f}], {len(after)} seeds)"
    )
    # A strategy against itself: one test of its own. A rise of the whole interval is no drop.
    margin, _ = evidence.margin(claim.metric, 0.0, float("inf"))
    decide = partial(above, factor=float(evidence.looks), margin=margin or 0.0)
    word = decide(gaps)
    return _Finding(word, text + _disagreement(gaps), replication(gaps, word, decide))


def _entropy(
    claim: PaperClaim, series: Series, present: Mapping[str, Series], evidence: Evidence
) -> _Finding:
    """Mean entropy of the queries over another's, pair by pair, in logarithms."""
    other = present[claim.other]
    ratios = []
    for pair in paired(series, other):
        ours, theirs = (
            metrics.mean_entropy(replace(item, runs=(item.by_pair[pair],)))
            for item in (series, other)
        )
        if ours > 0 and theirs > 0:
            # Ratios are skewed, their logarithms are not: twice and half as much weigh the same.
            ratios.append(np.log(ours / theirs))
    logs = np.array(ratios)
    # More than claimed holds: what is claimed is that the synthetic samples lead to uncertain ones.
    wanted = float(np.log(1 + (1 - TOLERANCE) * (claim.level - 1)))

    def decide(logs: Array) -> Word:
        low, high = difference_interval(logs)
        if np.isnan(low):
            return "undecided"
        return "holds" if low >= wanted else "fails" if high < wanted else "undecided"

    if not len(logs):
        return _Finding("undecided", f"no pair with {claim.other} whose queries have an entropy")
    low, high = (100 * (np.exp(end) - 1) for end in difference_interval(logs))
    spread = "" if np.isnan(low) else f" [{low:+.0f}, {high:+.0f}]"
    word = decide(logs)
    text = f"{100 * (np.exp(logs.mean()) - 1):+.0f}{spread} % ({len(logs)} pairs)"
    return _Finding(word, text, replication(logs, word, decide))


def _wins(claim: PaperClaim, by_task: Mapping[str, Evidence]) -> _Finding:
    """On at least so many tasks: won, lost and undecided ones are counted apart.

    It holds where so many are won and the count passes its own test (partial conjunction over the tasks),
    fails where those that may still be won are too few, and is undecided between.
    """
    words: dict[str, Word] = {}
    p_values = [1.0] * len(claim.tasks)
    for place, task in enumerate(claim.tasks):
        evidence = by_task.get(task)
        present = {} if evidence is None else _by_name(evidence.comparison)
        if evidence is None or not {claim.strategies[0], claim.other} <= present.keys():
            continue
        judged = evidence.of(claim.difference(present[claim.strategies[0]], present[claim.other]))
        margin, _ = evidence.margin(claim.metric, claim.start, claim.to)
        words[task] = above(judged.gaps, judged.factor, margin)
        if len(judged.gaps) >= MIN_PAIRS and signed_ranks(judged.gaps).direction > 0:
            p_values[place] = judged.p / 2  # one-sided: the side is claimed
    if not words:
        return _Finding("not measured", f"none of the {len(claim.tasks)} tasks was run")
    counts = {word: list(words.values()).count(word) for word in ("holds", "fails")}
    # Tasks that were not run may still be won: they hold nothing and exclude nothing.
    open_ = len(claim.tasks) - sum(counts.values())
    wanted = int(claim.level)
    p = at_least(wanted, p_values)
    word: Word = "undecided"
    if counts["holds"] >= wanted and p <= ALPHA:
        word = "holds"
    elif counts["holds"] + open_ < wanted:
        word = "fails"
    not_run = len(claim.tasks) - len(words)
    return _Finding(
        word,
        f"{claim.strategies[0]} is above on {counts['holds']}, not above on {counts['fails']}, undecided "
        f"on {open_} of {len(claim.tasks)} tasks ({not_run} of them not run); at least {wanted}: p {p:.3f}",
    )


_Check = Callable[[PaperClaim, Series, Mapping[str, Series], Evidence], _Finding]

_KINDS: dict[str, _Check] = {
    "reaches": _reaches,
    "needs": _needs,
    "above": partial(_by_difference, above),
    "equal": partial(_by_difference, equal),
    "not_above": partial(_by_difference, not_above),
    "beats_all": _beats_all,
    "drops": _drops,
    "entropy": _entropy,
}
