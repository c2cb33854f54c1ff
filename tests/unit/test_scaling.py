"""The scaling study: what it measures, that it goes on after a stop, and what it makes of the numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from alharness.comparison.verdicts import Estimate
from alharness.engine.places import Places
from alharness.errors import UserError
from alharness.scaling import estimates, figures, measure
from alharness.scaling.estimates import slope
from alharness.scaling.measure import more_rows, run_study
from alharness.scaling.study import READ, Measurement, ScalingSpec, Study
from alharness.tasks.base import DataLocations

SPEC = ScalingSpec(
    task="digits-two",
    strategies=("random", "max-entropy", "asal-gray"),
    sizes=(500, 1000, 2000),
    query_sizes=(5,),
    indices=("exact", "kdtree"),
    rows=(300, 600, 1200),
    repeats=2,
    device="cpu",
    networks="untrained",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scaling")


def places(root: Path) -> Places:
    return Places(root / "runs", DataLocations.resolve())


@pytest.fixture(scope="module")
def study(root: Path) -> Study:
    return run_study(SPEC, places(root), root / "study")


def test_everything_asked_for_is_measured(study: Study) -> None:
    keys = [m.key for m in study.measurements]
    assert len(keys) == len(set(keys))
    selections = [m for m in study.measurements if m.kind == "select"]
    matches = [m for m in study.measurements if m.kind == "match"]
    prepared = [m for m in study.measurements if m.kind == "prepare"]
    assert len(selections) == 3 * 3 * 2
    assert len(matches) == 2 * 3 * 2
    assert len(prepared) == 3 * 3 + 2 * 3
    assert all(m.seconds > 0 and m.cpu_s > 0 for m in selections + matches)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="not Linux")
def test_the_memory_of_the_machine_is_that_of_the_system(study: Study) -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    (total,) = (line.split()[1:] for line in lines if line.startswith("MemTotal:"))
    assert total[1] == "kB"
    assert study.machine["memory_bytes"] == pytest.approx(1024 * int(total[0]), rel=0.01)


def test_memory_is_told_of_what_was_timed_and_of_nothing_else(study: Study) -> None:
    """On a CPU the peak of the process, where the system tells it; no card's."""
    timed = [m for m in study.measurements if m.kind in ("select", "match")]
    assert all(m.peak_device_bytes is None for m in study.measurements)
    peaks = {m.peak_host_bytes for m in timed}
    assert peaks == {None} or all(isinstance(peak, int) and 0 <= peak < 1 << 28 for peak in peaks)


def test_counters_are_those_of_the_strategies(study: Study) -> None:
    for m in study.measurements:
        if m.kind == "select" and m.name == "max-entropy":
            assert 0.9 * m.n <= m.work["pool_items_scored"] < m.n
        if m.kind == "select" and m.name == "asal-gray":
            assert m.work["images_generated"] == 5 * 101
            assert "pool_items_scored" not in m.work
        if m.kind == "match" and m.name == "exact":
            assert m.work["feature_rows_read"] == m.n


def test_preparations_say_what_they_cost(study: Study) -> None:
    asal = [m for m in study.measurements if m.kind == "prepare" and m.name == "asal-gray"]
    assert {"generator", "pca", "features", "index"} <= set(asal[0].phases)
    assert all(m.seconds == pytest.approx(sum(m.phases.values())) for m in asal)
    assert [m.feature_bytes for m in asal] == [4 * 50 * m.n for m in asal]


def test_a_finished_study_measures_nothing_again(
    study: Study, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure._Timed, "ask", None)
    monkeypatch.setattr(measure, "match", None)
    assert run_study(SPEC, places(root), root / "study").measurements == study.measurements


def test_a_stopped_study_goes_on(study: Study, root: Path) -> None:
    folder = root / "stopped"
    folder.mkdir()
    (folder / "study.json").write_text((root / "study" / "study.json").read_text())
    lines = (root / "study" / "timing.jsonl").read_text().splitlines(keepends=True)
    (folder / "timing.jsonl").write_text("".join(lines[:20]) + lines[20][:30])  # a torn line
    again = run_study(SPEC, places(root), folder)
    assert again.measurements[:20] == study.measurements[:20]
    assert {m.key for m in again.measurements} == {m.key for m in study.measurements}
    assert len(again.measurements) == len(study.measurements)


@pytest.mark.parametrize(("field", "value"), [("task", "digits-ten"), ("seed", 7)])
def test_another_study_in_the_same_folder_is_refused(
    study: Study, root: Path, field: str, value: object
) -> None:
    with pytest.raises(UserError, match=f"{field}=.* Give another --out"):
        run_study(SPEC.model_copy(update={field: value}), places(root), root / "study")


def test_another_machine_is_refused(study: Study, root: Path) -> None:
    folder = root / "elsewhere"
    folder.mkdir()
    about = json.loads((root / "study" / "study.json").read_text())
    about["machine"]["cpu"] = "another"
    (folder / "study.json").write_text(json.dumps(about))
    (folder / "timing.jsonl").write_text("")
    with pytest.raises(UserError, match=r"cpu=another.*times do not compare"):
        run_study(SPEC, places(root), folder)


def test_no_study_and_damaged_ones_are_named(study: Study, root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no timing study"):
        Study.read(tmp_path)
    (tmp_path / "study.json").write_text((root / "study" / "study.json").read_text())
    (tmp_path / "timing.jsonl").write_text("{}\n{}\n")
    with pytest.raises(UserError, match="line 1 is damaged"):
        Study.read(tmp_path)


def test_a_strategy_that_cannot_serve_the_task_is_named(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"strategies": ("asal-rgb",), "rows": ()})
    with pytest.raises(UserError, match="'asal-rgb' cannot serve the data set 'digits-two'"):
        run_study(spec, places(tmp_path), tmp_path / "study")


def test_computing_virtual_items_is_not_selection(tmp_path: Path) -> None:
    update = {"strategies": ("max-entropy",), "sizes": (400,), "rows": (), "resident_bytes": 0}
    found = run_study(SPEC.model_copy(update=update), places(tmp_path), tmp_path / "study")
    selection = next(m for m in found.measurements if m.kind == "select")
    assert selection.residency == "virtual"
    assert selection.phases[READ] > 0
    rest = sum(selection.phases.values()) - selection.phases[READ]
    assert selection.seconds <= rest


def test_more_rows_are_the_rows_and_their_neighbours() -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    more = more_rows(rows, 120, seed=0)
    assert torch.equal(more[:50], rows)
    assert float((more[50:100] - rows).abs().max()) < rows.std() * 0.6
    assert torch.equal(more_rows(rows, 120, seed=0), more)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_slopes_are_recovered_with_an_interval(exponent: float) -> None:
    rng = np.random.default_rng(0)
    sizes = (10, 100, 1000, 10_000)
    values = {n: 3 * n**exponent * np.exp(rng.normal(0, 0.05, size=9)) for n in sizes}
    found = slope(values)
    assert found is not None
    assert found.low <= exponent <= found.high
    assert found.high - found.low < 0.1
    exact = slope({n: np.array([3.0 * n**exponent]) for n in sizes})
    assert exact is not None
    assert exact.value == pytest.approx(exponent)
    assert exact.low == exact.high == exact.value


def test_a_slope_of_two_sizes_or_of_nothing_is_no_slope() -> None:
    assert slope({1: np.ones(3), 2: np.ones(3)}) is None
    assert slope({n: np.zeros(3) for n in (1, 2, 4)}) is None


def made_up(**seconds: float | tuple[float, ...]) -> Study:
    """Strategies at n = 1000 whose times (three repeats) and preparation are known."""
    measurements = []
    for name, given in seconds.items():
        preparation = 100.0 if name == "asal" else 0.0
        measurements.append(
            Measurement(
                kind="prepare", name=name, n=1000, query_size=0, repeat=0, seconds=preparation
            )
        )
        work = {"pool_items_scored": 1000} if name == "scan" else {}
        repeats = given if isinstance(given, tuple) else (given,) * 3
        measurements += [
            Measurement(
                kind="select", name=name, n=1000, query_size=10, repeat=r, seconds=spent, work=work
            )
            for r, spent in enumerate(repeats)
        ]
    return Study(SPEC, {}, tuple(measurements))


def test_the_transition_point_is_preparation_over_savings() -> None:
    found = estimates.transitions(made_up(scan=3.0, asal=1.0))
    assert found == [("asal", "scan", 10, 1000, Estimate(50.0, 50.0, 50.0, 3))]
    never = estimates.transitions(made_up(scan=1.0, asal=1.0))[0][4]
    assert (never.value, never.low, never.high) == (math.inf, math.inf, math.inf)


def test_the_interval_of_a_transition_point_is_that_of_the_savings() -> None:
    (row,) = estimates.transitions(made_up(scan=(3.0, 5.0, 6.0), asal=1.0))
    assert row[4] == Estimate(25.0, 20.0, 50.0, 3)
    # One of three repeats saved nothing: whether it ever pays is open.
    (row,) = estimates.transitions(made_up(scan=(0.5, 3.0, 3.0), asal=1.0))
    assert (row[4].value, row[4].low, row[4].high) == (50.0, 50.0, math.inf)


def test_ratios_have_intervals() -> None:
    by_name = {line.name: line for line in estimates.lines(made_up(scan=3.0, asal=1.5))}
    assert estimates.ratio(by_name["scan"], by_name["asal"], 1000) == Estimate(2.0, 2.0, 2.0, 3)


def test_tables_and_figures_show_the_study(study: Study, tmp_path: Path) -> None:
    table = estimates.table(study)
    assert len(table) == 3 * 3 + 2 * 3
    assert all(len(row) == len(estimates.HEADER) for row in table)
    grown = {(row[1], row[3]): row[4] for row in estimates.slopes(study)}
    assert grown["max-entropy", "pool_items_scored"] == pytest.approx(1.0, abs=0.03)
    assert grown["asal-gray", "images_generated"] == 0.0
    assert 0 < float(grown["kdtree", "distances"]) < 1
    names = [chart.name for chart in figures.charts(study)]
    assert names[:5] == ["select_time", "select_work", "match_time", "match_work", "select_phases"]
    for chart in figures.charts(study):
        assert chart.rows
        assert all(path.stat().st_size > 100 for path in chart.write(tmp_path))


def test_table_2_says_what_grows(study: Study) -> None:
    by_name = {row[0]: row for row in estimates.table_2(study)}
    assert by_name["random"][3] == "no pool item"
    assert by_name["max-entropy"][3].startswith("pool_items_scored ~ n^1.0")
