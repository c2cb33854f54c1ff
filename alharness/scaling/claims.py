"""Claims about time and work held against timing studies: holds, fails, undecided, not measured.

What is claimed lies in ``claims.toml`` beside it; this module knows kinds of measurement only. A
verdict compares a 95 % interval with what the claim accepts; an interval across the border decides
nothing. Counters are exact: their intervals are points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from alharness.comparison.verdicts import Claim, Estimate, Verdict, Word, read_blocks
from alharness.errors import UserError, unknown_name
from alharness.scaling.estimates import (
    Line,
    lines,
    ratio,
    time_slope,
    transition,
    work_slope,
)
from alharness.scaling.study import ScalingSpec, Study
from alharness.timing import WORK

#: Repeats of a timed selection below which its interval means nothing.
MIN_REPEATS = 3

#: A file of claims, as a user may begin one.
EXAMPLE = """\
[[study]]
name = "mine"
task = "digits-ten"
strategies = ["max-entropy", "./mine.py:Gini"]
sizes = [1000, 3000, 10000]
repeats = 3

[[claim]]
id = "gini-looks-once"
where = "ours"
text = "Gini scores every unlabelled item once"
kind = "share_of_pool"
name = "./mine.py:Gini"
counter = "pool_items_scored"
accept = [0.9, 1.0]
must = true
"""

#: The claims that ship with the package (``benchmarks/claims.toml`` of a checkout points here).
FILE = Path(__file__).with_name("claims.toml")


class ScalingClaim(Claim):
    """One claim on time or work."""

    kind: str = Field(description="what is measured: one of the kinds below")
    name: str = Field(description="strategy or index that is measured")
    accept: tuple[float, float] = Field(
        description="[lowest, highest] value that supports the claim, ends included; inf leaves one open"
    )
    study: str = Field("", description="the study that decides it; any by default")
    measured: Literal["select", "match"] = Field(
        "select", description="a selection by a strategy, or a match by an index"
    )
    other: str = Field("", description="strategy or index that a ratio or a transition is against")
    counter: str = Field("", description="work counter of work_exponent and share_of_pool")
    counters: tuple[str, ...] = Field((), description="work counters that work_total adds up")
    phase: str | None = Field(None, description="phase that time_exponent is about; all by default")
    n: int = Field(0, description="pool items (or rows) at which a ratio or a transition is taken")
    query_size: int = Field(10, description="items per selection")
    to_query_size: int = Field(0, description="the smaller query of query_size_ratio")
    smallest: int = Field(0, description="sizes below it stay out of a fitted exponent")


class NamedStudy(ScalingSpec):
    """A study that the file asks for."""

    name: str = Field(description="its folder below --out, and what a claim's 'study' names")


@dataclass(frozen=True)
class ClaimsFile:
    """All claims, and the studies that decide them."""

    claims: tuple[ScalingClaim, ...]
    studies: tuple[NamedStudy, ...]

    @classmethod
    def read(cls, path: Path) -> ClaimsFile:
        """The claims in a TOML file.

        Raises:
            UserError: no such file, or one that does not say what a claim needs.
        """
        found = read_blocks(path, {"claim": ScalingClaim, "study": NamedStudy})
        claims: list[ScalingClaim] = found["claim"]
        for claim in claims:
            if claim.kind not in MEASUREMENTS:
                error = unknown_name("kind of claim", claim.kind, MEASUREMENTS)
                raise UserError(f"'{path}': [[claim]] '{claim.id}': {error}")
            needed = NEEDED.get(claim.kind)
            if needed is not None and not getattr(claim, needed):
                raise UserError(
                    f"'{path}': [[claim]] '{claim.id}': {claim.kind} needs '{needed}', the work that it is "
                    "about. 'alharness claims --explain' shows an example."
                )
            low, high = claim.accept
            # Not low > high: NaN would pass.
            if not low <= high:
                raise UserError(
                    f"'{path}': [[claim]] '{claim.id}': accept is [lowest, highest]; found "
                    f"[{low:g}, {high:g}], which nothing can be."
                )
        return cls(tuple(claims), tuple(found["study"]))


class _NotMeasuredError(Exception):
    """The studies at hand do not contain what a claim needs."""


class _Evidence:
    """The lines of one study, by what they measure."""

    def __init__(self, study: Study) -> None:
        self._lines = {(line.kind, line.name, line.query_size): line for line in lines(study)}
        self.study = study

    def line(
        self, claim: ScalingClaim, name: str | None = None, query_size: int | None = None
    ) -> Line:
        wanted = name or claim.name
        size = query_size or claim.query_size
        found = self._lines.get((claim.measured, wanted, size))
        if found is None:
            raise _NotMeasuredError(f"no {claim.measured} of {size} items by {wanted}")
        return found

    def at(self, line: Line, n: int) -> Line:
        if n not in line.repeats:
            raise _NotMeasuredError(f"{line.name} was not measured at n = {n:,}")
        return _repeated(line, n)


def _repeated(line: Line, *sizes: int) -> Line:
    """A time that was taken once or twice has no interval and decides nothing."""
    if any(len(line.repeats[n]) < MIN_REPEATS for n in sizes):
        raise _NotMeasuredError(f"fewer than {MIN_REPEATS} repeats of {line.name}")
    return line


def _time_exponent(claim: ScalingClaim, evidence: _Evidence) -> Estimate:
    """b of seconds = a * n^b, fitted over the study's sizes."""
    line = evidence.line(claim)
    _repeated(line, *(n for n in line.sizes if n >= claim.smallest))
    return _known(time_slope(line, claim.phase, claim.smallest), "fewer than three sizes")


def _work_exponent(claim: ScalingClaim, evidence: _Evidence) -> Estimate:
    """b of counter = a * n^b, fitted over the study's sizes."""
    line = evidence.line(claim)
    return _known(work_slope(line, claim.counter), f"fewer than three sizes with {claim.counter}")


def _share_of_pool(claim: ScalingClaim, evidence: _Evidence) -> Estimate:
    """Counter per pool item: from the least to the most over the study's sizes."""
    line = evidence.line(claim)
    # The extremes are the interval: the claim is on every size, so the worst decides.
    shares = [line.work(n).get(claim.counter, 0.0) / n for n in line.sizes]
    return Estimate(float(np.median(shares)), min(shares), max(shares), len(shares))


def _work_total(claim: ScalingClaim, evidence: _Evidence) -> Estimate:
    """Sum of counters at the study's largest size."""
    line = evidence.line(claim)
    n = line.sizes[-1]
    total = sum(line.work(n).get(name, 0.0) for name in claim.counters)
    return Estimate(total, total, total, len(line.repeats[n]))


def _time_ratio(claim: ScalingClaim, evidence: _Evidence) -> Estimate:
    """Seconds of 'name' over seconds of 'other', both with n items."""
    first = evidence.at(evidence.line(claim), claim.n)
    second = evidence.at(evidence.line(claim, claim.other), claim.n)
    return ratio(first, second, claim.n)


def _query_size_ratio(claim: ScalingClaim, evidence: _Evidence) -> Estimate:
    """Seconds of a query of query_size items over one of to_query_size."""
    many = evidence.at(evidence.line(claim), claim.n)
    few = evidence.at(evidence.line(claim, query_size=claim.to_query_size), claim.n)
    return ratio(many, few, claim.n)


def _transition(claim: ScalingClaim, evidence: _Evidence) -> Estimate:
    """Cycles after which the preparation of 'name' has paid for itself against 'other'."""
    if evidence.study.spec.networks == "untrained":
        raise _NotMeasuredError("generator and encoder were not trained: their cost is not known")
    prepared = evidence.at(evidence.line(claim), claim.n)
    scan = evidence.at(evidence.line(claim, claim.other), claim.n)
    return transition(prepared, scan, claim.n)


def _feature_bytes(claim: ScalingClaim, evidence: _Evidence) -> Estimate:
    """Bytes of prepared features per pool item."""
    found = [
        measurement.feature_bytes / measurement.n
        for measurement in evidence.study.measurements
        if measurement.name == claim.name and measurement.feature_bytes is not None
    ]
    if not found:
        raise _NotMeasuredError(f"{claim.name} was not prepared")
    return Estimate(float(np.median(found)), min(found), max(found), len(found))


#: What a claim's ``kind`` may be.
MEASUREMENTS: Mapping[str, Callable[[ScalingClaim, _Evidence], Estimate]] = {
    "time_exponent": _time_exponent,
    "work_exponent": _work_exponent,
    "share_of_pool": _share_of_pool,
    "work_total": _work_total,
    "time_ratio": _time_ratio,
    "query_size_ratio": _query_size_ratio,
    "transition": _transition,
    "feature_bytes": _feature_bytes,
}


#: What names the work, in the kinds that are about work: a count of nothing would be zero everywhere.
NEEDED: Mapping[str, str] = {
    "work_exponent": "counter",
    "share_of_pool": "counter",
    "work_total": "counters",
}


def _require_counters(claim: ScalingClaim, studies: Mapping[str, Study]) -> None:
    """A counter that nobody counts is zero everywhere, and a claim on it holds or is never measured.

    Raises:
        UserError: no counter of the harness, and none of a study at hand.
    """
    counted = [m.work for study in studies.values() for m in study.measurements]
    known = {*WORK, *(name for work in counted for name in work)}
    for name in (*claim.counters, *([claim.counter] if claim.counter else [])):
        if counted and name not in known:
            raise unknown_name(f"work counter of the claim '{claim.id}'", name, known)


def _known(estimate: Estimate | None, otherwise: str) -> Estimate:
    if estimate is None:
        raise _NotMeasuredError(otherwise)
    return estimate


#: Slack for the arithmetic of exact counts.
ROUNDING = 1e-9


def judge(estimate: Estimate, accept: tuple[float, float]) -> Word:
    """The interval against what the claim accepts."""
    low, high = accept[0] - ROUNDING, accept[1] + ROUNDING
    # Neither inside nor outside, as an interval that lies across an end.
    if math.isnan(estimate.value):
        return "undecided"
    if estimate.low >= low and estimate.high <= high:
        return "holds"
    if estimate.high < low or estimate.low > high:
        return "fails"
    return "undecided"


def check(claim: ScalingClaim, studies: Mapping[str, Study]) -> Verdict:
    """One claim against the first study that can decide it.

    Raises:
        UserError: it is about a counter that there is not.
    """
    _require_counters(claim, studies)
    reasons = []
    # The first study that can decide does: a file may name several machines' studies.
    for name, study in studies.items():
        if claim.study and Path(name).name != claim.study:
            continue
        try:
            estimate = MEASUREMENTS[claim.kind](claim, _Evidence(study))
        except _NotMeasuredError as reason:
            reasons.append(f"{Path(name).name}: {reason}")
            continue
        where = f"{study.spec.task}, study {Path(name).name}"
        return Verdict(claim, judge(estimate, claim.accept), f"{estimate} ({where})", estimate)
    # Every study's own reason: one of them may only lack a size.
    why = "; ".join(reasons) or f"no study {claim.study or 'at all'}".rstrip()
    return Verdict(claim, "not measured", why)


def check_all(claims: Sequence[ScalingClaim], studies: Mapping[str, Study]) -> list[Verdict]:
    """Every claim, in the order of the file."""
    return [check(claim, studies) for claim in claims]


def hardware(studies: Mapping[str, Study]) -> list[str]:
    """The machines behind the studies, each once."""
    return list(dict.fromkeys(study.hardware for study in studies.values()))
