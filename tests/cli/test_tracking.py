"""MLflow is a view: complete, rebuilt from the records, never doubled, never able to stop a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alharness.cli import call
from alharness.records import RunFolder, run_folders
from alharness.tracking import (
    Tracking,
    TrackingObserver,
    cycle_metrics,
    default_uri,
    flat,
    open_tracking,
)

SIZES = ["--budget", "40", "--query-size", "10", "--initial-size", "20", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs of digits-two, logged as the command line logs them."""
    root = tmp_path_factory.mktemp("tracked") / "runs"
    for strategy in ("random", "max-entropy"):
        arguments = ["--strategy", strategy, "--dataset", "digits-two", "--quiet", *SIZES]
        assert call(["run", "--runs-dir", str(root), *arguments]) == 0
    return root


def points(tracking: Tracking, folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    (run,) = [
        run
        for run in tracking.client.search_runs([tracking.experiment_id])
        if run.data.tags["alharness.run_key"] == folder.path.name
    ]
    names = list(run.data.metrics)
    return {
        name: [(m.step, m.value) for m in tracking.client.get_metric_history(run.info.run_id, name)]
        for name in names
    }


def expected(folder: RunFolder) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for record in folder.records():
        for name, value in cycle_metrics(record).items():
            found.setdefault(name, []).append((record.n_labelled, pytest.approx(value)))
    return found


def test_every_number_of_every_record_is_in_the_view(runs: Path) -> None:
    tracking = open_tracking(default_uri(runs))
    for folder in run_folders(runs):
        assert points(tracking, folder) == expected(folder)
    assert {
        "test/accuracy",
        "test/balanced_accuracy",
        "query/entropy_mean",
        "time/select_s",
    } <= set(expected(run_folders(runs)[0]))


def test_parameters_are_the_resolved_spec_and_tags_say_where_it_ran(runs: Path) -> None:
    tracking = open_tracking(default_uri(runs))
    for run in tracking.client.search_runs([tracking.experiment_id]):
        assert run.info.status == "FINISHED"
        assert run.data.params["budget"] == "40"
        assert run.data.params["learner.kind"] == "linear"
        assert run.data.tags["alharness.hardware.device"] == "cpu"
        assert run.data.tags["alharness.version.torch"]
        names = {file.path for file in tracking.client.list_artifacts(run.info.run_id)}
        assert {"spec.toml", "cycles.jsonl", "queries.npz", "env.json"} <= names


def test_syncing_what_is_there_adds_nothing(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["sync", "--runs-dir", str(runs)]) == 0
    assert "2 runs: 0 cycles added" in capsys.readouterr().out
    tracking = open_tracking(default_uri(runs))
    for folder in run_folders(runs):
        assert points(tracking, folder) == expected(folder)


def test_a_lost_view_is_rebuilt_from_the_records(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    assert call(["sync", "--runs-dir", str(runs), "--tracking-uri", uri]) == 0
    assert "2 runs: 6 cycles added" in capsys.readouterr().out
    tracking = open_tracking(uri)
    for folder in run_folders(runs):
        assert points(tracking, folder) == expected(folder)


def test_a_store_that_dies_in_the_middle_is_told_once_and_the_run_goes_on(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    observer = TrackingObserver(default_uri(runs), "dies", told.append)
    observer.open()

    def fail(*arguments: Any, **more: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(Tracking, "log_record", fail)
    (record, *_) = run_folders(runs)[0].records()
    observer._run_id = "x"
    observer.cycle(record)
    observer.cycle(record)
    assert len(told) == 1
    assert "gone" in told[0]
    assert "alharness sync" in told[0]


def test_sync_without_runs_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(["sync", "--runs-dir", str(tmp_path)]) == 2
    assert "There are no runs" in capfd.readouterr().err


def test_nested_settings_become_flat_parameters() -> None:
    assert flat({"a": 1, "b": {"c": None, "d": {"e": "x"}}}) == {
        "a": "1",
        "b.c": "None",
        "b.d.e": "x",
    }
