"""The driver of a sweep, with the smallest executor there can be: one that runs here and now."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from alharness.cli import call
from alharness.engine.places import Places
from alharness.executors.base import Event, carry_out, payload
from alharness.executors.driver import drive
from alharness.executors.sweep_files import Sweep
from alharness.executors.sweeps import Choices, Job, expand
from alharness.tasks.base import DataLocations
from alharness.tracking import Visits, default_uri, open_tracking
from alharness.tracking.marks import is_kept_out

pytestmark = pytest.mark.usefixtures("visits_here")


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
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(
        '[base]\ntask = "digits-two"\nbudget = 30\n[[runs]]\nstrategy = ["random", "margin"]\nseed = 0\n'
    )
    jobs, places = small(Path("runs"))
    place_store(Path("runs"))
    uri = default_uri(Path("runs"))
    outcome = drive(jobs, places, Inline(), view=Visits(uri, "alharness", pytest.fail, "mine"))
    tracking = open_tracking(uri, "alharness")
    parent = tracking.sweep("mine")
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
    told: list[str] = []
    jobs, places = small(tmp_path / "runs")
    view = Visits("http://127.0.0.1:9", "alharness", told.append, "x")
    outcome = drive(jobs, places, Inline(), view=view)
    assert len(outcome.finished) == 2
    (line,) = told
    assert "The sweep goes on without MLflow" in line
    assert "alharness sync" in line


def test_a_finished_sweep_asked_again_opens_no_store(
    tmp_path: Path, place_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, places = small(tmp_path / "runs")
    uri = place_store(tmp_path / "runs")
    drive(jobs, places, Inline(), view=Visits(uri, "alharness", pytest.fail, "x"))
    again = Visits(uri, "alharness", pytest.fail, "x")
    drive([], places, Inline(), before=jobs, view=again)
    assert not again.made
    other = Visits(uri, "alharness", pytest.fail, "y")  # the same runs below another sweep
    drive([], places, Inline(), before=jobs, view=other)
    assert other.made


def test_a_failure_leaves_its_reason_and_a_later_success_takes_it_away(tmp_path: Path) -> None:
    jobs, places = small(tmp_path / "runs")
    job = jobs[0]
    job.folder.path.mkdir(parents=True)
    job.folder.spec.write_text(job.spec.to_toml(), encoding="utf-8")
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
    tracking = open_tracking(place_store(tmp_path))
    first = tracking.sweep(name)
    assert first == tracking.sweep(name) != tracking.sweep(name + "'")
    assert len(tracking.client.search_runs([tracking.experiment_id])) == 2


def test_a_store_that_cannot_be_opened_is_told_and_costs_no_run(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "file").touch()
    view = Visits(f"sqlite:///{tmp_path}/file/mlflow.db", "alharness", told.append, "x")
    view.visit([], "FINISHED")
    (line,) = told
    assert "The sweep goes on without MLflow" in line


def test_a_run_that_cannot_be_copied_is_named_and_the_others_are(
    tmp_path: Path, place_store: Any
) -> None:
    jobs, places = small(tmp_path / "runs")
    uri = place_store(tmp_path / "runs")
    told: list[str] = []
    assert len(drive(jobs, places, Inline()).finished) == 2
    jobs[0].folder.env.write_text("{")
    Visits(uri, "alharness", told.append, "x").visit([job.folder for job in jobs], "FINISHED")
    (line,) = told
    assert str(jobs[0].folder.path) in line
    tracking = open_tracking(uri)
    runs = tracking.client.search_runs([tracking.experiment_id])
    assert {run.data.params.get("strategy.name") for run in runs} == {None, "margin"}


def test_runs_of_a_sweep_without_mlflow_stay_out_of_it(tmp_path: Path) -> None:
    jobs, places = small(tmp_path / "runs")
    drive(jobs, places, Inline(), view=Visits(None, "alharness", pytest.fail, "x"))
    assert all(is_kept_out(job.folder) for job in jobs)
