"""Accuracy and cost by pool size: a comparison and a timing study put together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alharness.cli import call
from alharness.comparison.comparison import Comparison, comparisons
from alharness.errors import UserError
from alharness.files import append_line, write_json
from alharness.records import read_runs
from alharness.scaling.costs import chart, costs, extrapolated, selection, table
from alharness.scaling.estimates import Line, lines
from alharness.scaling.study import Measurement, ScalingSpec, Study

SIZES = (1_000, 10_000, 100_000)
#: Seconds per selection: fixed, and per image.
TIMES = {"random": (0.001, 0.0), "max-entropy": (0.01, 1e-4), "asal-auto": (0.4, 1e-7)}


def a_study(task: str = "digits-two", query_size: int = 10) -> Study:
    found = []
    for name, (fixed, each) in TIMES.items():
        prepared = 300 + 1e-5 * SIZES[0] if name == "asal-auto" else 0.0
        for n in SIZES:
            about: dict[str, Any] = {"name": name, "n": n}
            if prepared:
                made = Measurement(
                    kind="prepare", query_size=0, repeat=0, seconds=300 + 1e-5 * n, **about
                )
                found.append(made)
            for repeat in range(3):
                seconds = (fixed + each * n) * (0.9, 1.0, 1.1)[repeat]
                found.append(
                    Measurement(
                        kind="select",
                        query_size=query_size,
                        repeat=repeat,
                        seconds=seconds,
                        **about,
                    )
                )
    return Study(ScalingSpec(task=task), {}, tuple(found))


@pytest.fixture
def comparison(make_run: Any) -> Comparison:
    for name, last in {"random": 0.80, "max-entropy": 0.90, "asal-auto": 0.85}.items():
        make_run(name, 0, (0.7, 0.75, last))  # two selections
    (found,) = comparisons(read_runs(make_run.root))
    return found


def test_what_was_measured_is_taken_and_the_rest_is_fixed_plus_each() -> None:
    times = {n: 0.4 + 1e-7 * n for n in SIZES}
    assert extrapolated(times, 10_000) == times[10_000]
    assert extrapolated(times, 10**8) == pytest.approx(10.4)
    # Never below 0, and no gain of larger pools, whatever the noise of small ones.
    assert extrapolated({1_000: 0.5, 10_000: 0.4, 100_000: 0.3}, 10**8) == pytest.approx(
        0.38, abs=0.1
    )


def test_who_is_best_changes_with_the_size_of_the_pool(comparison: Comparison) -> None:
    found = costs(comparison, a_study(), sizes=(1_000, 10**6, 10**9))
    by_size = {n: {row.label: row for row in rows} for n, rows in found.items()}
    scan, asal = by_size[1_000]["max-entropy"], by_size[1_000]["asal-auto"]
    assert scan.seconds == pytest.approx(2 * 0.11)
    assert asal.seconds == pytest.approx(300.01 + 2 * 0.4001)
    assert (scan.measured, scan.best, asal.best) == (True, True, False)  # dearer and worse
    scan, asal = by_size[10**9]["max-entropy"], by_size[10**9]["asal-auto"]
    assert scan.seconds == pytest.approx(2 * 1e5, rel=0.01)
    assert asal.seconds == pytest.approx(300 + 1e4 + 2 * 100.4, rel=0.01)
    assert (asal.measured, asal.best, scan.best) == (False, True, True)  # cheaper; better
    assert all(rows["random"].best for rows in by_size.values())  # nothing is cheaper


def test_a_time_too_short_for_the_clock_is_a_number_like_any_other() -> None:
    assert extrapolated({1000: 0.0, 2000: 0.0, 4000: 0.0}, 8000) == 0.0
    assert extrapolated({1000: 0.0, 2000: 1.0, 3000: 2.0}, 4000) == pytest.approx(3.0, rel=0.5)


def test_the_table_tells_what_is_extrapolated(comparison: Comparison) -> None:
    found = costs(comparison, a_study(), sizes=(10_000, 10**8))
    rows = {row[0]: row[2:] for row in table(found).rows}
    assert rows["max-entropy"] == ("1 s *", "~10,000 s *")
    assert rows["asal-auto"][0] == "300 + 0.4 s"
    assert rows["asal-auto"][1].startswith("~")
    drawn = chart(found)
    assert len(drawn.rows) == 6
    assert len(drawn.png) > 1000


def a_line(times: dict[int, tuple[float, ...]], work: dict[int, dict[str, int]]) -> Line:
    study = [
        Measurement(
            kind="select", name="x", n=n, query_size=10, repeat=at, seconds=s, work=work.get(n, {})
        )
        for n, seconds in times.items()
        for at, s in enumerate(seconds)
    ]
    (line,) = lines(Study(ScalingSpec(task="digits-two"), {}, tuple(study)))
    return line


def test_noise_is_not_extrapolated() -> None:
    times = {10_000: (0.10, 0.18, 0.20), 20_000: (0.11, 0.19, 0.25), 30_000: (0.12, 0.19, 0.30)}
    same = {n: {"pool_items_scored": 500} for n in times}
    assert selection(a_line(times, same), 10**8) == (0.19, 0.19, 0.19)
    more = {n: {"pool_items_scored": n} for n in times}
    middle, low, high = selection(a_line(times, more), 10**8)
    assert low < 1  # flat times are among what the repeats allow
    assert high > 300  # and so are (0.30 - 0.10) s per 20,000 items
    assert low <= middle <= high
    exact = {n: (n / 10_000,) * 3 for n in times}
    assert selection(a_line(exact, more), 10**8) == pytest.approx((1e4, 1e4, 1e4))


def test_two_sizes_are_not_extrapolated() -> None:
    """They lie on a line whatever the truth is: no residual tells how wrong the line is."""
    two = {10_000: (1.0, 1.0, 1.0), 30_000: (3.0, 3.0, 3.0)}
    more = {n: {"pool_items_scored": n} for n in two}
    assert np.isnan(selection(a_line(two, more), 10**8)).all()
    assert selection(a_line(two, more), 30_000)[0] == 3.0


def test_growth_that_is_not_linear_shows_in_the_interval() -> None:
    """n^.7: a line through it says too much, and the interval goes down to where the power law is."""
    times = {n: ((n / 1e4) ** 0.7,) * 3 for n in (10_000, 30_000, 100_000)}
    more = {n: {"pool_items_scored": n} for n in times}
    middle, low, _ = selection(a_line(times, more), 10**8)
    assert low == pytest.approx(1e4**0.7, rel=0.01)
    assert middle > 2 * low


def test_what_does_not_fit_the_memory_has_no_time(comparison: Comparison) -> None:
    study = a_study()
    kept = [
        m.model_copy(update={"feature_bytes": 200 * m.n})
        if (m.kind, m.name) == ("prepare", "asal-auto")
        else m
        for m in study.measurements
    ]
    small = Study(study.spec, {"memory_bytes": 8 << 30}, tuple(kept))
    rows = {row[0]: row[2:] for row in table(costs(comparison, small, sizes=(10**7, 10**8))).rows}
    assert rows["asal-auto"][0].startswith("~")
    assert rows["asal-auto"][1] == "unknown"  # 20 GB of features in 8 GiB
    assert len(chart(costs(comparison, small, sizes=(10**8,))).png) > 1000


def test_the_table_tells_how_unsure_an_extrapolation_is(comparison: Comparison) -> None:
    rows = {row[0]: row[2:] for row in table(costs(comparison, a_study(), sizes=(10**8,))).rows}
    assert rows["max-entropy"] == ("~10,000 s *",)  # 10 % of noise
    assert " to " in rows["asal-auto"][0]  # 10 % of .4 s are more than 10^-7 s per image


def test_a_study_of_other_strategies_is_refused_in_one_line(comparison: Comparison) -> None:
    empty = Study(ScalingSpec(task="digits-two"), {}, ())
    with pytest.raises(UserError, match="measured none of asal-auto, max-entropy, random"):
        costs(comparison, empty)


def lay(study: Study, folder: Path) -> str:
    write_json(folder / "study.json", {"spec": study.spec.model_dump(), "machine": {}})
    for measurement in study.measurements:
        append_line(folder / "timing.jsonl", measurement.model_dump_json())
    return str(folder)


@pytest.mark.usefixtures("undrawn")
def test_the_report_shows_them_beside_the_task_that_was_timed(
    comparison: Comparison, make_run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        make_run("random", seed, task="mnist-two")
    out = tmp_path / "report"
    command = ["report", "--runs-dir", str(make_run.root), "--no-tracking", "--out", str(out)]
    assert call([*command, "--timing", lay(a_study(), tmp_path / "timing")]) == 0
    assert (out / "report.html").read_text().count("Accuracy and cost") == 2  # a table and a chart
    (table_of,) = out.rglob("tables/*/costs.csv")
    assert table_of.parent.name == "digits-two"
    assert table_of.read_text().count("\n") == 4
    assert (out / "figures" / "digits-two" / "cost_by_size.csv").is_file()
    assert call([*command, "--timing", str(tmp_path)]) == 2
    assert "holds no timing study" in capsys.readouterr().err
    other = lay(a_study("svhn"), tmp_path / "other")
    assert call([*command, "--timing", other]) == 2
    assert "is of 'svhn', the runs are of digits-two, mnist-two" in capsys.readouterr().err
