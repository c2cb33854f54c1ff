"""What tables, figures and remarks say just inside and just outside of their borders."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from alharness.comparison import figures, remarks, stopping, tables
from alharness.comparison.comparison import comparisons
from alharness.comparison.paired_tests import paired_tests
from alharness.comparison.protocol import told_value
from alharness.records import read_runs


@pytest.mark.parametrize(
    ("spent", "told"),
    [
        (float("nan"), "–"), (0.0, "0 ms"), (0.0123, "12.3 ms"), (0.9996, "1e+03 ms"), (1.0, "1 s"),
        (599.9, "600 s"), (600.0, "10 min"), (5430.0, "90.5 min"),
    ],
)  # fmt: skip
def test_seconds_have_a_fitting_unit(spent: float, told: str) -> None:
    assert tables.seconds(spent) == told


@pytest.mark.parametrize(
    ("p", "told"), [(None, "–"), (0.0009, "< 0.001"), (0.001, "0.001"), (0.5, "0.500")]
)
def test_a_p_value_is_never_nought(p: float | None, told: str) -> None:
    assert tables.p_value(p) == told


def test_a_curve_far_below_leaves_the_figure_and_others_stay() -> None:
    """Twice the spread below the middle strategy is the border."""

    class Axes:
        limits: tuple[float, ...] = ()

        def set_ylim(self, *ends: float) -> None:
            self.limits = ends

    def cut(*lows: float) -> tuple[float, ...]:
        axes, x = Axes(), np.arange(2.0)
        curves = {str(i): (x, np.array([[0.0, low], [0.0, 1.0]])) for i, low in enumerate(lows)}
        figures._cut_outliers(axes, curves)  # type: ignore[arg-type]
        return axes.limits

    assert cut(0.5, 0.5, -0.5) == ()  # .5 - 2 x (1 - .5)
    assert cut(0.5, 0.5, -0.51) == pytest.approx((0.5 - 0.025, 1.0 + 0.025))
    assert cut(0.75, 0.5, 0.5, -0.51) == pytest.approx((0.5 - 0.025, 1.0 + 0.025))


def test_curves_of_equal_means_are_named_together_the_highest_end_first() -> None:
    x = np.arange(2.0)
    high, low = np.array([[0.5, 0.9], [0.5, 0.7]]), np.array([[0.5, 0.6]])
    same, other = np.array([[0.5, 0.8]]), np.array([[0.51, 0.8]])
    found = figures._alike(
        {
            "low": (x, low),
            "high": (x, high),
            "same": (x, same),
            "other": (x, other),
            "late": (x + 1, same),
        }
    )
    assert found == [["high", "same"], ["other"], ["late"], ["low"]]


def test_a_stop_is_held_against_the_best_within_the_tolerance() -> None:
    """Positions and losses by hand, whichever way is better; .005 within the best counts as the best."""
    x = np.array([10.0, 20.0, 30.0, 40.0])
    for better, sign in (("accuracy", 1.0), ("log_loss", -1.0)):
        values = 0.5 + sign * np.array([-0.2, 0.095, 0.1, 0.08])
        run = SimpleNamespace(
            records=[None] * 4, x=lambda axis: x, y=lambda metric, values=values: values
        )
        found = stopping._stop(run, None, "queries", better)  # type: ignore[arg-type]
        assert (found.fired, found.spent, found.best_spent) == (False, 40.0, 20.0)
        assert (found.figure, found.lost) == (pytest.approx(values[-1]), pytest.approx(0.02))


@pytest.mark.parametrize(("n", "told"), [(5, ("–", "–")), (6, ("0.031", "0.031"))])
def test_a_p_value_is_told_from_six_pairs_on(n: int, told: tuple[str, str]) -> None:
    test = paired_tests({"margin": [0.01 + 0.001 * i for i in range(n)]})["margin"]
    row = SimpleNamespace(label="margin", against=test)
    (table,) = tables.tests([row], "random", "accuracy")  # type: ignore[list-item]
    assert table.rows[0][4:6] == told
    assert table.rows[0][6] == ("too few pairs" if n == 5 else "significantly above")


@pytest.mark.parametrize("loads", [(0.5, 8.0, 2.0), (8.0, 0.5, 0.5), (3.0, 3.0, 3.0)])
def test_unlike_times_name_the_least_and_the_most_load(
    make_run: Any, loads: tuple[float, ...]
) -> None:
    """Two runs that counted the same; the second took twice as long."""
    for seed, select_s in enumerate((0.2, 0.4)):
        path = make_run("margin", seed, select_s=select_s) / "cycles.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record, load in zip(records, loads, strict=True):
            record["time"]["load"] = load
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    (found,) = comparisons(read_runs(make_run.root))
    (told,) = (note for note in found.notes if "Times are not comparable" in note)
    assert "2.0 times as long" in told
    assert f"load was {min(loads):.1f} to {max(loads):.1f}" in told


@pytest.mark.parametrize(
    ("begun", "late"),
    [
        # Seed -> minute it began; each takes a minute. More than a quarter of an hour is a pause.
        ({0: 0, 1: 1, 2: 17}, ""),
        ({0: 0, 1: 1, 2: 18}, "2"),
        ({2: 0, 1: 1, 0: 18}, "0"),
        ({5: 0, 3: 40, 4: 41, 1: 80, 2: 81}, "1, 2"),  # of several pauses, the last one
        ({0: 40, 1: 0, 2: 1}, "0"),
    ],
)
def test_seeds_that_were_begun_after_a_pause_are_named(begun: dict[int, int], late: str) -> None:
    minute = 60_000

    def run(seed: int, at: int) -> SimpleNamespace:
        ended = SimpleNamespace(column={"ts_ms": [(at + 1) * minute]}.__getitem__)
        session = SimpleNamespace(started_ms=at * minute)
        facts = SimpleNamespace(sessions=[session])
        return SimpleNamespace(pair=(seed, seed), records=ended, facts=facts)

    runs: Any = [run(seed, at) for seed, at in begun.items()]
    found = remarks.look_notes(runs, 1)
    assert found == [] if not late else found[0].startswith(f"Seeds {late} were begun after")
    assert remarks.look_notes(runs, 2) == []


@pytest.mark.parametrize(
    ("value", "others", "told"),
    [
        ('{"a": 1, "b": 2}', ['{"a": 1, "b": 3}'], "b=2"),
        ('{"a": 1, "b": {"c": 2}}', ['{"a": 2, "b": {"c": 3}}'], "a=1, b.c=2"),
        ('{"a": 1}', ['{"b": 1}'], "a=1, b=-"),
        ('{"a": 1}', [], '{"a": 1}'),
        ("50", ["60"], "50"),
        ("none", ['{"a": 1}'], "none"),
        ('{"a": 1}', ["none"], '{"a": 1}'),
    ],
)
def test_of_a_setting_with_parts_those_are_told_that_differ(
    value: str, others: list[str], told: str
) -> None:
    assert told_value(value, [value, *others]) == told


@pytest.mark.parametrize(
    ("counts", "told", "is_defined"),
    [
        ([50, 50], None, True), ([100, 0], None, False), ([0, 100], None, True), ([100, 0, 50], None, True),
        ([100, 0], "class one", True), ([100], None, True),
    ],
)  # fmt: skip
def test_old_records_have_no_average_precision_where_the_second_of_two_classes_is_absent(
    make_run: Any, counts: list[int], told: str | None, is_defined: bool
) -> None:
    folder = make_run("random", 0, precision_of=told, task_facts={"test_counts": counts})
    (run,) = read_runs(make_run.root)
    assert run.folder == folder
    assert bool(np.isfinite(run.y("average_precision")).all()) is is_defined
    assert run.y("accuracy").tolist() == [0.7, 0.8, 0.9]
