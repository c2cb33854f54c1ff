"""The driver of a sweep, with the smallest executor there can be: one that runs here and now."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from alharness.cli import call
from alharness.engine.opening import Places
from alharness.executors.base import Event, carry_out, payload
from alharness.executors.driver import Follow, drive
from alharness.executors.sweeps import Choices, Job, Sweep, expand
from alharness.tasks.base import DataLocations


class Inline:
    """Carries runs out in this process, one after the other."""

    def run(
        self, jobs: Sequence[Job], places: Places, *, fresh: bool
    ) -> Generator[Event, None, None]:
        for job in jobs:
            yield Event("started", job)
            reason, details = carry_out(payload(job, places, fresh=fresh))
            yield Event("failed" if reason else "finished", job, reason, details)


def small(runs_dir: Path) -> tuple[list[Job], Places]:
    sweep = Sweep(
        base={"task": "digits-two", "budget": 30, "device": "cpu"},
        runs=[{"strategy": ["random", "margin"], "seed": 0}],
    )
    return expand(sweep, Choices(), runs_dir), Places(runs_dir, DataLocations.resolve())


def test_mlflow_shows_a_parent_with_its_runs_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place_store: Any
) -> None:
    from alharness.tracking import default_uri, open_tracking

    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        '[base]\ntask = "digits-two"\nbudget = 30\n[[runs]]\nstrategy = ["random", "margin"]\nseed = 0\n'
    )
    jobs, places = small(Path("runs"))
    place_store(Path("runs"))
    tracking = open_tracking(default_uri(Path("runs")), "alharness")
    parent = tracking.sweep("mine")
    follow = Follow(tracking, parent, pytest.fail)
    outcome = drive(jobs, places, Inline(), follow=follow)
    follow.ended("FINISHED")
    assert (len(outcome.finished), outcome.failed) == (2, [])
    assert call(["report", "mine.toml"]) == 0

    client = tracking.client
    runs = client.search_runs([tracking.experiment_id])
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent]
    assert len(runs) == 3
    assert {run.data.params["strategy.name"] for run in children} == {"random", "margin"}
    assert all(run.info.status == "FINISHED" for run in runs)
    assert all(
        len(client.get_metric_history(r.info.run_id, "test/accuracy")) == 2 for r in children
    )
    kept = {item.path for item in client.list_artifacts(parent)}
    assert {"report.html", "curve_accuracy.png"} <= kept


def test_a_store_that_fails_is_told_once_and_costs_no_run(tmp_path: Path) -> None:
    class Broken:
        """A store that went away."""

        def __getattr__(self, name: str) -> object:
            raise ConnectionError("gone")

    told: list[str] = []
    jobs, places = small(tmp_path / "runs")
    follow = Follow(Broken(), "parent", told.append)  # type: ignore[arg-type]
    outcome = drive(jobs, places, Inline(), follow=follow)
    follow.ended("FINISHED")
    assert len(outcome.finished) == 2
    assert len(told) == 1
    assert "gone" in told[0]
    assert "alharness sync" in told[0]


def test_a_failure_leaves_its_reason_and_a_later_success_takes_it_away(tmp_path: Path) -> None:
    jobs, places = small(tmp_path / "runs")
    job = jobs[0]
    job.folder.path.mkdir(parents=True)
    job.folder.queries.write_bytes(b"not an archive")
    job.folder.cycles.write_text("{}\n")
    outcome = drive([job], places, Inline())
    assert "is not a cycle record" in outcome.failed[0][1]
    assert (job.folder.path / "failure.json").exists()
    assert drive([job], places, Inline(), fresh=True).failed == []
    assert not (job.folder.path / "failure.json").exists()


@pytest.mark.parametrize("name", ["bob's sweep", 'a "b" `c`', "100 % x", "back\\slash", "a\nb"])
def test_a_sweep_by_any_name_has_one_run_in_mlflow(
    name: str, tmp_path: Path, place_store: Any
) -> None:
    from alharness.tracking import open_tracking

    uri = place_store(tmp_path)
    told: list[str] = []
    first = Follow.opened(uri, "alharness", name, told.append)
    again = Follow.opened(uri, "alharness", name, told.append)
    other = Follow.opened(uri, "alharness", name + "'", told.append)
    assert told == []
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.parent == again.parent != other.parent
    tracking = open_tracking(uri)
    assert len(tracking.client.search_runs([tracking.experiment_id])) == 2


def test_a_store_that_cannot_be_opened_is_told_and_costs_no_run(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "file").touch()
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    assert Follow.opened(uri, "alharness", "x", told.append) is None
    (line,) = told
    assert "The sweep goes on without MLflow" in line


def test_a_run_that_cannot_be_copied_is_named_and_the_others_are(
    tmp_path: Path, place_store: Any
) -> None:
    jobs, places = small(tmp_path / "runs")
    uri = place_store(tmp_path / "runs")
    told: list[str] = []
    follow = Follow.opened(uri, "alharness", "x", told.append)
    assert follow is not None
    assert len(drive(jobs, places, Inline()).finished) == 2
    jobs[0].folder.env.write_text("{")
    for job in jobs:
        follow.finished(job)
    (line,) = told
    assert jobs[0].name in line
    runs = follow.tracking.client.search_runs([follow.tracking.experiment_id])
    assert {run.data.params.get("strategy.name") for run in runs} == {None, "margin"}


def test_runs_of_a_sweep_without_mlflow_stay_out_of_it(tmp_path: Path) -> None:
    from alharness.tracking.marks import is_kept_out

    jobs, places = small(tmp_path / "runs")
    drive(jobs, places, Inline(), keep_out=True)
    assert all(is_kept_out(job.folder) for job in jobs)
