"""Every column of a timing study's tables and figures against measurements made up by hand.

Of three repeats the interval of a median is their range, so that each end is known without a bootstrap:
with three values each, both extremes are drawn together in one of fifteen samples.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from alharness.comparison.comparison import comparisons
from alharness.comparison.verdicts import Estimate
from alharness.pictures.canvas import new_figure
from alharness.records import read_runs
from alharness.scaling import costs, estimates, figures
from alharness.scaling.costs import Cost
from alharness.scaling.study import READ, Measurement, ScalingSpec, Study

SIZES = (100, 1_000, 10_000)
#: Three repeats of each strategy, by pool size: a scan that grows, and one that prepares.
SECONDS: dict[str, dict[int, tuple[float, float, float]]] = {
    "max-entropy": {100: (3.0, 1.0, 2.0), 1_000: (20.0, 40.0, 10.0), 10_000: (400.0, 200.0, 100.0)},
    "asal": {100: (4.0, 5.0, 6.0), 1_000: (5.0, 4.0, 6.0), 10_000: (8.0, 2.0, 5.0)},
}
PREPARED = {100: 30.0, 1_000: 60.0, 10_000: 390.0}


def measured() -> Study:
    """Both strategies with ten items, and the scan with two, which takes half as long."""
    found = [
        Measurement(
            kind="prepare",
            name="asal",
            n=n,
            query_size=0,
            repeat=0,
            seconds=s,
            feature_bytes=40 * n,
        )
        for n, s in PREPARED.items()
    ]
    for name, by_size in SECONDS.items():
        for query_size in (10, 2) if name == "max-entropy" else (10,):
            for n, seconds in by_size.items():
                for repeat, s in enumerate(seconds):
                    spent = s * (1 if query_size == 10 else 0.5)
                    scan = {"pool_items_scored": n - repeat, "bytes_read": 8 * n}
                    work = scan if name == "max-entropy" else {"images_generated": 7}
                    found.append(
                        Measurement(
                            kind="select", name=name, n=n, query_size=query_size, repeat=repeat,
                            seconds=spent, work=work,
                            phases={"score": spent / 4, "pick": spent / 2, "bookkeeping": 1.0, READ: 9.0},
                            peak_host_bytes=2_000_000 * (repeat + 1),
                            peak_device_bytes=5_000_000 if name == "asal" and repeat == 0 else None,
                        )
                    )  # fmt: skip
    return Study(ScalingSpec(task="digits-two"), {}, tuple(found))


def row_of(rows: list[tuple[Any, ...]], *key: Any) -> tuple[Any, ...]:
    (found,) = [row for row in rows if row[: len(key)] == key]
    return found


def test_every_column_of_the_table() -> None:
    rows = estimates.table(measured())
    assert [row[:4] for row in rows] == [
        ("select", name, query_size, n)
        for name, query_size in (("max-entropy", 10), ("max-entropy", 2), ("asal", 10))
        for n in SIZES
    ]
    assert row_of(rows, "select", "max-entropy", 10, 1_000)[4:] == (
        20.0, 10.0, 40.0, "bytes_read=8000, pool_items_scored=999", 6.0, 0.0,
    )  # fmt: skip
    assert row_of(rows, "select", "max-entropy", 2, 100)[4:7] == (1.0, 0.5, 1.5)
    # Memory of the device counts where there is one; the other repeats tell the host's.
    assert row_of(rows, "select", "asal", 10, 10_000)[4:] == (
        5.0, 2.0, 8.0, "images_generated=7", 6.0, 390.0,
    )  # fmt: skip
    assert len(estimates.HEADER) == len(rows[0])


def test_every_column_of_the_slopes() -> None:
    """By decades the slope through three medians is half the ratio of the outer two, in decades."""
    rows = estimates.slopes(measured())
    time = row_of(rows, "select", "max-entropy", 10, "time")
    assert time[4:] == (
        pytest.approx(math.log10(200 / 2) / 2),
        pytest.approx(math.log10(100 / 3) / 2),
        pytest.approx(math.log10(400 / 1) / 2),
        3,
    )
    for name in ("score", "pick"):  # a share of the time that is the same everywhere
        of_phase = row_of(rows, "select", "max-entropy", 10, f"time of {name}")
        assert of_phase[4:7] == pytest.approx(time[4:7])
    assert row_of(rows, "select", "max-entropy", 10, "bytes_read")[4:] == (1.0, 1.0, 1.0, 3)
    assert row_of(rows, "select", "asal", 10, "images_generated")[4:] == (0.0, 0.0, 0.0, 3)
    named = {row[3] for row in rows}
    assert named == {
        "time", "time of score", "time of pick", "pool_items_scored", "bytes_read", "images_generated",
    }  # fmt: skip


def test_a_slope_from_a_size_on_leaves_smaller_ones_out() -> None:
    line = next(found for found in estimates.lines(measured()) if found.name == "asal")
    assert estimates.time_slope(line, smallest=100) == estimates.time_slope(line)
    assert estimates.time_slope(line, smallest=101) is None  # two sizes are left
    line = estimates.Line(
        line.kind, line.name, 10, {**line.repeats, 10: line.repeats[10_000]}, line.preparation
    )
    assert estimates.time_slope(line, smallest=100) != estimates.time_slope(line)


def test_every_column_of_table_2() -> None:
    scan, fewer, asal = estimates.table_2(measured())
    assert scan == ("max-entropy", 10, "none", "pool_items_scored ~ n^1.00", 10_000, 200.0)
    assert fewer == ("max-entropy", 2, "none", "pool_items_scored ~ n^1.00", 10_000, 100.0)
    assert asal == ("asal", 10, "none", "no pool item", 10_000, 5.0)


def test_every_transition_and_its_ends() -> None:
    """Only the scan with equal queries is an alternative; cycles are preparation over savings."""
    found = {(*row[:4],): row[4] for row in estimates.transitions(measured())}
    assert set(found) == {("asal", "max-entropy", 10, n) for n in SIZES}
    assert found["asal", "max-entropy", 10, 1_000] == Estimate(60 / 15, 60 / 36, 60 / 4, 3)
    assert found["asal", "max-entropy", 10, 10_000] == Estimate(390 / 195, 390 / 398, 390 / 92, 3)
    never = found["asal", "max-entropy", 10, 100]
    assert (never.value, never.low, never.high) == (math.inf, math.inf, math.inf)


def test_a_preparation_is_set_off_against_that_of_the_other() -> None:
    study = measured()
    more = Measurement(
        kind="prepare", name="max-entropy", n=1_000, query_size=0, repeat=0, seconds=15
    )
    by_name = {
        (line.name, line.query_size): line
        for line in estimates.lines(Study(study.spec, {}, (*study.measurements, more)))
    }
    found = estimates.transition(by_name["asal", 10], by_name["max-entropy", 10], 1_000)
    assert found == Estimate(45 / 15, 45 / 36, 45 / 4, 3)


def test_a_ratio_and_its_ends() -> None:
    by_name = {(line.name, line.query_size): line for line in estimates.lines(measured())}
    found = estimates.ratio(by_name["max-entropy", 10], by_name["asal", 10], 1_000)
    assert found == Estimate(20 / 5, 10 / 6, 40 / 4, 3)
    assert found.low < found.value < found.high


def test_every_row_of_the_figures() -> None:
    drawn = {chart.name: chart for chart in figures.charts(measured())}
    assert list(drawn) == ["select_time", "select_work", "select_phases", "transition"]
    times = drawn["select_time"].rows
    assert ("max-entropy, 10 items", 1_000, 20.0, 10.0, 40.0) in times
    assert ("max-entropy, 2 items", 100, 1.0, 0.5, 1.5) in times
    assert ("asal, 10 items", 10_000, 5.0, 2.0, 8.0) in times
    assert len(times) == 9
    work = drawn["select_work"].rows
    assert ("max-entropy, 2 items: pool_items_scored", 1_000, 999.0) in work
    assert ("asal, 10 items: images_generated", 100, 7.0) in work
    assert not [row for row in work if "bytes_read" in str(row[0])]
    phases = drawn["select_phases"].rows
    assert ("max-entropy, 10 items, 1,000", "score", 5.0) in phases
    assert ("asal, 10 items, 10,000", "pick", 2.5) in phases
    assert {row[1] for row in phases} == {"score", "pick"}
    assert list(drawn["transition"].rows) == [
        ("asal", "max-entropy", 10, 1_000, 60 / 15, 60 / 36, 60 / 4),
        ("asal", "max-entropy", 10, 10_000, 390 / 195, 390 / 398, 390 / 92),
    ]


def test_phases_are_drawn_as_shares_of_their_own_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    (chart,) = (c for c in figures.charts(measured()) if c.name == "select_phases")
    drawn: dict[str, list[float]] = {}

    def bars(axes: Any, labels: list[str], lengths: dict[str, list[float]]) -> None:
        assert labels[0] == "asal, 10 items, 10,000"  # from below
        drawn.update(lengths)

    monkeypatch.setattr(figures, "stacked_bars", bars)
    chart.draw(new_figure(*chart.size))
    assert drawn == {"score": pytest.approx([100 / 3] * 9), "pick": pytest.approx([200 / 3] * 9)}


#: Mean test figures at the end of the budget: three selections of ten items each.
ENDS = {"max-entropy": 0.9, "asal": 0.8}


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_every_column_of_what_accuracy_costs(make_run: Any, metric: str) -> None:
    """``log_loss`` is 1 - accuracy in these records: the same strategy is the better one."""
    for name, end in ENDS.items():
        for seed, off in enumerate((-0.01, 0.01)):
            make_run(name, seed, (0.5, 0.6, 0.7, end + off))
    comparison = comparisons(read_runs(make_run.root))[0]
    found = costs.costs(comparison, measured(), metric=metric, sizes=(1_000, 10_000))
    worth = {name: end if metric == "accuracy" else 1 - end for name, end in ENDS.items()}
    for n, rows in found.items():
        low, middle, high = sorted(SECONDS["asal"][n])
        scan_low, scan, scan_high = sorted(SECONDS["max-entropy"][n])
        wanted = {
            "asal": (PREPARED[n], middle, low, high, PREPARED[n] + 3 * middle),
            "max-entropy": (0.0, scan, scan_low, scan_high, 3 * scan),
        }
        order = sorted(wanted, key=lambda name: wanted[name][-1])
        assert [row.label for row in rows] == order
        for row in rows:
            # The cheaper one is best always, the dearer one where it is better.
            best = row.label == order[0] or row.label == "max-entropy"
            expected = Cost(
                row.label, pytest.approx(worth[row.label]), *wanted[row.label], True, best
            )  # type: ignore[arg-type]
            assert vars(row) == vars(expected), n
    told = costs.table(found)
    # 3 x 20 s are fewer than 60 s + 3 x 5 s; 3 x 200 s are more than 390 s + 3 x 5 s.
    cells = {row[0]: row[2:] for row in told.rows}
    assert cells == {"max-entropy": ("20 s *", "200 s *"), "asal": ("60 + 5 s", "390 + 5 s *")}
    assert list(costs.chart(found).rows) == [
        (n, r.label, r.score, r.prepare_s, r.select_s, r.seconds, 1, int(r.best))
        for n, rows in found.items()
        for r in rows
    ]


def test_the_table_of_costs_begins_with_the_highest_figure() -> None:
    def cost(label: str, score: float) -> Cost:
        return Cost(label, score, 0.0, 1.0, 1.0, 1.0, 3.0, True, False)

    found = {10: (cost("low", 0.5), cost("high", 0.9), cost("middle", 0.7))}
    assert [row[0] for row in costs.table(found).rows] == ["high", "middle", "low"]


def test_an_interval_is_told_where_it_is_wider_than_a_factor_of_two() -> None:
    def told(low: float, high: float, *, measured: bool) -> str:
        row = Cost("x", 0.9, 0.0, 3.0, low, high, 9.0, measured, False)
        return str(costs.table({10: (row,)}).rows[0][2])

    assert told(2.0, 4.0, measured=False) == "~3 s"
    assert told(2.0, 4.1, measured=False) == "~2 to 4.1 s"
    assert told(2.0, 9.0, measured=True) == "3 s"


def test_another_size_is_a_fixed_part_and_one_per_image_by_relative_errors() -> None:
    assert costs.extrapolated({100: 3.0, 300: 5.0}, 1_000) == pytest.approx(12.0)
    times = {100: 3.0, 200: 5.0, 400: 6.0, 100_000: 1_500.0}
    rows = [[1 / seconds, n / seconds] for n, seconds in times.items()]
    (fixed, each), *_ = np.linalg.lstsq(np.array(rows), np.ones(4), rcond=None)
    assert fixed > 0 < each
    assert costs.extrapolated(times, 50_000) == pytest.approx(fixed + 50_000 * each)


def test_features_and_peak_must_fit_the_memory_to_the_byte() -> None:
    """40 bytes of features an item, and 600 of the peak: 640 x n may be as much as there is."""
    study = measured()
    line = next(found for found in estimates.lines(study) if found.name == "asal")
    for memory, fitting in ((640 * 20_000, True), (640 * 20_000 - 1, False)):
        told = Study(study.spec, {"memory_bytes": memory}, study.measurements)
        assert costs.fits(told, line, 20_000) is fitting
        assert costs.fits(told, line, 10_000)  # it was measured there
    assert costs.fits(study, line, 10**12)  # a study that does not know


def test_the_nearest_size_of_a_query_is_the_comparisons(make_run: Any) -> None:
    for seed in (0, 1):
        make_run("max-entropy", seed, (0.5, 0.6), query_size=3)
    (comparison,) = comparisons(read_runs(make_run.root))
    ((row,),) = costs.costs(comparison, measured(), sizes=(1_000,)).values()
    assert row.select_s == 10.0  # of two items
