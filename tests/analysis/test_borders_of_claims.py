"""Each kind of claim on both sides of its border, on it, and with too few seeds: verdicts by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alharness.comparison import claims as kinds
from alharness.comparison import evidence
from alharness.comparison.claims import PaperClaim
from alharness.comparison.levels import MIN_PAIRS
from alharness.comparison.series import Series
from alharness.comparison.verdicts import Estimate
from alharness.records import read_runs
from alharness.scaling.claims import ROUNDING, judge

X = np.arange(50.0, 155.0, 5.0)


def claim(kind: str, **fields: Any) -> PaperClaim:
    about = {"id": "x", "where": "here", "text": "...", "strategies": ("ours",), "kind": kind}
    return PaperClaim.model_validate({**about, **fields})


def series(*curves: Any) -> Any:
    """A strategy whose seeds have these values at the positions X."""
    rows = np.array([np.broadcast_to(curve, X.shape) for curve in curves], dtype=np.float64)
    runs = [SimpleNamespace(x=lambda axis: X, y=lambda metric, row=row: row) for row in rows]
    return SimpleNamespace(runs=runs, curves=lambda axis, metric: (X, rows))


def word(found: PaperClaim, *curves: Any, beside: Any = None) -> str:
    return kinds._KINDS[found.kind](found, series(*curves), {}, beside).word


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.9] * 6, "holds"),  # exactly at the level
        ([0.8999] * 6, "fails"),
        ([0.9001] * 6, "holds"),
        ([0.9] * 5, "undecided"),  # fewer than six seeds decide nothing
        ([0.8] * 5, "undecided"),
        ([0.88, 0.92] * 3, "undecided"),  # the interval lies across
        ([0.95, 0.96] * 3, "holds"),
        ([0.85, 0.86] * 3, "fails"),
    ],
)
def test_a_level_is_reached_by_the_lower_end_and_missed_by_the_upper_one(
    values: list[float], expected: str
) -> None:
    assert word(claim("reaches", at=100, level=0.9), *values) == expected


def test_a_level_is_read_off_at_its_own_position_and_not_beyond_the_curve() -> None:
    rising = (X - 50) / 100
    assert word(claim("reaches", at=100, level=0.5), *[rising] * 6) == "holds"
    assert word(claim("reaches", at=99, level=0.5), *[rising] * 6) == "fails"
    assert word(claim("reaches", at=150, level=1.0), *[rising] * 6) == "holds"
    assert word(claim("reaches", at=151, level=0.0), *[rising] * 6) == "undecided"
    assert word(claim("reaches", at=49, level=0.0), *[rising] * 6) == "undecided"


def step(at: float) -> Any:
    """A curve that comes to .9 at a position."""
    return np.where(at <= X, 0.9, 0.5)


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ([75] * 6, "holds"),  # a quarter less and a quarter more are within
        ([125] * 6, "holds"),
        ([70] * 6, "fails"),
        ([130] * 6, "fails"),
        ([1000] * 6, "fails"),  # never
        ([100] * 5, "undecided"),
        ([70] * 5, "undecided"),
        ([120, 120, 120, 130, 130, 130], "undecided"),  # from 120 to 130
        ([70, 70, 70, 100, 100, 100], "undecided"),  # from 70 to 100
        ([60, 60, 60, 70, 70, 70], "fails"),
        ([80, 80, 80, 120, 120, 120], "holds"),
    ],
)
def test_a_number_of_labels_holds_within_a_quarter(first: list[float], expected: str) -> None:
    found = claim("needs", at=100, level=0.9)
    assert kinds.TOLERANCE == 0.25
    assert word(found, *map(step, first)) == expected


def test_the_text_of_a_number_of_labels_has_the_mean_and_its_ends() -> None:
    found = claim("needs", at=100, level=0.9)
    told = kinds._needs(found, series(*map(step, [80, 80, 80, 120, 120, 120])), {}, None)  # type: ignore[arg-type]
    assert told.text == "the mean first reaches 0.9 at 120 [80 to 120] annotations (6 seeds)"
    few = kinds._needs(found, series(*map(step, [80] * 5)), {}, None)  # type: ignore[arg-type]
    assert few.text == "the mean first reaches 0.9 at 80 annotations (5 seeds)"
    never = kinds._needs(found, series(*[step(1000)] * 6), {}, None)  # type: ignore[arg-type]
    assert never.text == "the mean never reaches 0.9 up to 150"


def fall(before: float, after: float) -> Any:
    return np.where(X < 100, before, after)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([0.7, 0.71] * 3, "holds"),
        ([0.8, 0.81] * 3, "fails"),  # a rise is no drop
        ([0.7, 0.78] * 3, "undecided"),
        ([0.7, 0.71, 0.7, 0.71, 0.7], "undecided"),
    ],
)
def test_a_drop_is_a_fall_from_one_position_to_the_other(after: list[float], expected: str) -> None:
    beside = SimpleNamespace(margin=lambda *where: (None, ""), looks=1)
    found = claim("drops", **{"from": 50, "to": 150})
    assert word(found, *(fall(0.75, each) for each in after), beside=beside) == expected
    there = claim("drops", **{"from": 50, "to": 200})
    assert word(there, *(fall(0.75, each) for each in after), beside=beside) == "undecided"


@pytest.mark.parametrize(
    ("ratio", "expected"), [(1.31, "holds"), (1.29, "fails"), (1.5, "holds"), (1.0, "fails")]
)
@pytest.mark.parametrize("n_seeds", [MIN_PAIRS - 1, MIN_PAIRS])
def test_entropy_holds_down_to_a_quarter_less_of_its_gain(
    make_run: Any, ratio: float, expected: str, n_seeds: int
) -> None:
    """Claimed are 40 % more: 30 % do."""
    for seed in range(n_seeds):
        make_run("ours", seed, (0.5, 0.6), entropy=0.1 * ratio, start=f"s {seed}")
        make_run("random", seed, (0.5, 0.6), entropy=0.1, start=f"s {seed}")
    runs = read_runs(make_run.root)
    ours, other = (
        Series(name, name, tuple(run for run in runs if run.strategy == name), name)
        for name in ("ours", "random")
    )
    found = claim("entropy", level=1.4, other="random")
    told = kinds._entropy(found, ours, {"random": other}, None)  # type: ignore[arg-type]
    assert told.word == (expected if n_seeds == MIN_PAIRS else "undecided")
    assert told.text.startswith(f"{100 * (ratio - 1):+.0f}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["holds", "holds"], "holds"), (["holds", "undecided"], "undecided"),
        (["undecided", "fails"], "fails"), (["holds", "fails"], "fails"),
    ],
)  # fmt: skip
def test_a_claim_on_several_holds_where_each_does(words: list[Any], expected: str) -> None:
    assert kinds._together(words) == expected


@pytest.mark.parametrize(
    ("gap", "margin", "expected"),
    [
        (0.25, 0.25, "holds"), (-0.25, 0.25, "holds"), (0.25, 0.2499, "fails"), (-0.25, 0.2499, "fails"),
        (0.0, 0.1, "holds"), (0.1, None, "undecided"),
    ],
)  # fmt: skip
def test_equality_holds_up_to_the_margin_itself(
    gap: float, margin: float | None, expected: str
) -> None:
    assert evidence.equal(np.full(6, gap), 1.0, margin) == expected
    assert evidence.equal(np.full(5, gap), 1.0, margin) == "undecided"


@pytest.mark.parametrize(
    ("gaps", "factor", "margin", "expected"),
    [
        ([0.1] * 6, 1.0, None, "holds"),  # p of six pairs is 2/64: within the level once
        ([0.1] * 6, 2.0, None, "undecided"),
        ([-0.1] * 6, 1.0, None, "fails"),
        ([0.1] * 5, 1.0, None, "undecided"),
        ([0.1, -0.1] * 3, 1.0, None, "undecided"),
        ([0.01, -0.01] * 3, 1.0, 0.1, "fails"),  # whatever gain there is does not count
        ([0.1, -0.1] * 3, 1.0, 0.1, "undecided"),
        ([0.1] * 5 + [float("nan")], 1.0, None, "undecided"),
        ([0.01] * 5 + [-1.0], 1.0, None, "undecided"),
    ],
)
def test_above_is_decided_by_ranks_and_what_is_too_small_to_count_by_the_interval(
    gaps: list[float], factor: float, margin: float | None, expected: str
) -> None:
    assert evidence.above(np.array(gaps), factor, margin) == expected
    opposite = {"holds": "fails", "fails": "holds"}.get(expected, expected)
    assert evidence.not_above(np.array(gaps), factor, margin) == opposite


@pytest.mark.parametrize(
    ("wanted", "p_values", "p"),
    [
        (1, [0.01, 0.5, 0.5], 0.03), (2, [0.01, 0.02, 0.5], 0.04), (3, [0.01, 0.02, 0.03], 0.03),
        (1, [0.5, 0.5, 0.5], 1.0),
    ],
)  # fmt: skip
def test_at_least_so_many_is_the_partial_conjunction(
    wanted: int, p_values: list[float], p: float
) -> None:
    assert evidence.at_least(wanted, p_values) == pytest.approx(p)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ((1.0, 2.0), "holds"),  # ends included
        ((0.9, 2.0), "undecided"), ((1.0, 2.1), "undecided"), ((2.1, 3.0), "fails"), ((0.1, 0.9), "fails"),
        ((0.5, 1.0), "undecided"), ((2.0, 2.5), "undecided"), ((0.5, 2.5), "undecided"),
        # Arithmetic of exact counts has a slack, whose own end still touches.
        ((0.5, 1.0 - ROUNDING), "undecided"), ((2.0 + ROUNDING, 3.0), "undecided"),
        ((1.0 - ROUNDING, 2.0 + ROUNDING), "holds"),
    ],
)  # fmt: skip
def test_a_claim_on_time_is_decided_by_both_ends_of_its_interval(
    ends: tuple[float, float], expected: str
) -> None:
    assert judge(Estimate(sum(ends) / 2, *ends, n=3), (1.0, 2.0)) == expected
    assert judge(Estimate(float("nan"), *ends, n=3), (1.0, 2.0)) == "undecided"
