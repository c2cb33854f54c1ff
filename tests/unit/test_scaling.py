"""The scaling study: what it measures, that it goes on after a stop, and what it makes of the numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from alharness.comparison.verdicts import Estimate
from alharness.engine.places import Places
from alharness.errors import UserError
from alharness.progress import silent
from alharness.records import LedgerEntry
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
def test_the_memory_of_the_machine_is_that_of_the_system() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    (total,) = (line.split()[1:] for line in lines if line.startswith("MemTotal:"))
    assert total[1] == "kB"
    found = measure._memory(torch.device("cpu"))["memory_bytes"]
    assert found == pytest.approx(1024 * int(total[0]), rel=0.01)


@pytest.mark.parametrize(
    ("kind", "grown", "host", "device"),
    [
        ("cpu", 700, 200, None),
        ("cpu", 400, 0, None),  # never less than nothing
        ("cpu", None, None, None),  # a system that does not tell
        ("cuda", 700, 200, 9_000),
        ("cuda", None, None, 9_000),
    ],
)
def test_a_peak_is_what_grew_and_a_cards_own(
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    grown: int | None,
    host: int | None,
    device: int | None,
) -> None:
    reset: list[str] = []
    monkeypatch.setattr(measure, "_reset_host_peak", lambda: None if grown is None else 500)
    monkeypatch.setattr(measure, "_status_bytes", lambda name: {"VmHWM": grown}[name])
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda device: reset.append(device.type)
    )
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 9_000)
    with measure._peak_memory(torch.device(kind)) as peak:
        pass
    assert (peak.host, peak.device) == (host, device)
    assert reset == [kind] * (kind == "cuda")


def test_the_memory_of_a_card_is_told_by_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    told = SimpleNamespace(total_memory=80_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: told)
    assert measure._memory(torch.device("cuda")) == {"memory_bytes": 80_000}


@pytest.mark.parametrize(("networks", "steps"), [("untrained", 1), ("trained", None)])
def test_networks_that_are_not_trained_take_one_step(networks: str, steps: int | None) -> None:
    spec = SPEC.model_copy(update={"networks": networks})
    bound = measure.run_of(spec, torch.device("cpu")).spec
    assert bound.generator.steps == bound.autoencoder.steps == steps
    assert (bound.task.name, bound.device) == ("digits-two", "cpu")


class Prepared:
    """A source whose strategies were prepared for what their ledgers say, and that asks by a clock."""

    def __init__(self, entries: list[LedgerEntry], seconds: float) -> None:
        self.entries, self.seconds = entries, seconds
        self.asked: list[tuple[int, int]] = []

    def learner(self) -> None:
        return None

    def enlarged(self, n: int) -> tuple[None, SimpleNamespace]:
        return None, SimpleNamespace(n=n, residency="virtual")

    def timed(self, name: str, data: None, pool: Any, learner: None) -> SimpleNamespace:
        def ask(query_size: int, repeat: int) -> SimpleNamespace:
            self.asked.append((query_size, repeat))
            return SimpleNamespace(seconds=self.seconds)

        ledger = SimpleNamespace(entries=self.entries)
        return SimpleNamespace(stage=SimpleNamespace(ledger=ledger), ask=ask)


def test_what_is_prepared_once_is_paid_once_and_says_its_bytes() -> None:
    def entry(name: str, seconds: float, **details: Any) -> LedgerEntry:
        return LedgerEntry(name=name, seconds=seconds, cached=False, load_s=0.0, details=details)

    found = [
        entry("generator", 30.0, key="g"),
        entry("features", 2.0, bytes=800),
        entry("pca", 1.0),
    ]
    source = Prepared([*found, found[0]], 0.1)
    selections = measure._Selections(SPEC, source, silent)  # type: ignore[arg-type]
    selections.open(100)
    assert selections.prepare("asal-gray", 100) == Measurement(
        kind="prepare", name="asal-gray", n=100, query_size=0, repeat=0, seconds=33.0,
        phases={"generator": 30.0, "features": 2.0, "pca": 1.0}, feature_bytes=800, residency="virtual",
    )  # fmt: skip


@pytest.mark.parametrize(("seconds", "times"), [(0.999, 2), (1.0, 1), (1.001, 1)])
def test_what_takes_a_second_is_warmed_up_once(seconds: float, times: int) -> None:
    """With each query size that is no more than half of the pool, and a repeat that nothing else has."""
    source = Prepared([], seconds)
    spec = SPEC.model_copy(update={"query_sizes": (5, 50, 51), "repeats": 7})
    selections = measure._Selections(spec, source, silent)  # type: ignore[arg-type]
    selections.open(100)
    selections.prepare("random", 100)
    for _ in range(2):
        selections.warm_up("random", 100)
    assert source.asked == [(5, 7), (50, 7)] * times


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
