"""MLflow is a view: complete, rebuilt from the records, never doubled, never able to stop a run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from mlflow.utils.validation import _validate_metric_name

from alharness.cli import call
from alharness.files import flatten
from alharness.records import CycleRecord, LedgerEntry, RunFolder, run_folders
from alharness.tracking import (
    RunView,
    Tracking,
    cycle_metrics,
    default_uri,
    open_tracking,
    sync_run,
    visits,
)
from alharness.tracking.content import content_of
from alharness.tracking.marks import is_kept_out
from alharness.tracking.metrics import clean, renamed

SIZES = ["--budget", "40", "--query-size", "10", "--initial-size", "20", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, _mlflow_template: Path) -> Path:
    """Two finished runs of digits-two, logged as the command line logs them."""
    root = tmp_path_factory.mktemp("tracked") / "runs"
    root.mkdir()
    shutil.copyfile(_mlflow_template, root / "mlflow.db")
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
        "accuracy",
        "query_entropy",
        "select_s",
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
        assert {Path(name).suffix for name in names} <= {".png"}, "no file that passes for a run"


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


def test_sync_without_runs_says_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(["sync", "--runs-dir", str(tmp_path)]) == 2
    assert "There are no runs" in capfd.readouterr().err


def test_nested_settings_become_flat_parameters() -> None:
    assert flatten({"a": 1, "b": {"c": None, "d": {"e": "x"}}}) == {
        "a": 1,
        "b.c": None,
        "b.d.e": "x",
    }


def test_headline_metrics_are_those_of_the_sections_by_short_names(runs: Path) -> None:
    """MLflow draws what has no section first."""
    for record in run_folders(runs)[0].records():
        metrics = cycle_metrics(record)
        assert metrics["accuracy"] == metrics["test/accuracy"]
        assert metrics.get("query_entropy") == metrics.get("query/entropy_mean")
        assert metrics.get("select_s") == metrics.get("time/select_s")


def with_names(record: CycleRecord, *names: str) -> CycleRecord:
    """The record as if a plug-in had used these names everywhere it may."""
    values = {name: float(number) for number, name in enumerate(names)}
    assert record.query is not None
    return record.model_copy(
        update={
            "query": record.query.model_copy(update={"diagnostics": values}),
            "time": record.time.model_copy(
                update={
                    "phases": values,
                    "preparation": [
                        LedgerEntry(name=name, seconds=1.0, cached=False, load_s=0.0)
                        for name in names
                    ],
                }
            ),
            "work": {name: int(value) for name, value in values.items()},
        }
    )


def test_names_that_mlflow_refuses_are_cleaned_and_never_meet(runs: Path) -> None:
    """The true names stand in tags; a diagnostic by a name of the harness hides nothing."""
    odd = ["k-means++", "recall@10", "recall#10", "a//b", "/a", "..", "a/", "a:b", "é ü", "x" * 300]
    odd += [
        "recall_10",
        "entropy_mean",
        "class_0",
        "n_rejected",
        clean("recall@10"),
        " ",
        "a\nb",
        "%",
    ]
    record = with_names(run_folders(runs)[0].records()[0], *odd)
    metrics = cycle_metrics(record)
    assert len(metrics) == len(cycle_metrics(with_names(record))) + 5 * len(odd)
    assert metrics["query/entropy_mean"] == record.query.entropy_mean  # type: ignore[union-attr]
    for name in metrics:
        _validate_metric_name(name)
        assert len(name) <= 250
    true = renamed(record)
    assert true["query/recall_10-" + clean("recall@10")[-8:]] == "query/recall@10"
    assert metrics["query/recall_10"] == odd.index("recall_10")
    assert clean("score") == "score"


@pytest.mark.usefixtures("visits_here")
def test_a_plugin_with_odd_names_is_in_the_view(
    place_store: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.py").write_text(
        "from alharness.strategy import PoolQuery, Strategy\n"
        "class Odd(Strategy):\n"
        '    """Names things as its paper does."""\n'
        "    def select(self, view, query_size):\n"
        '        with view.stopwatch.phase("k-means++"):\n'
        "            asked = view.unlabelled[:query_size]\n"
        '        return PoolQuery(asked, diagnostics={"recall@10": 0.5})\n'
    )
    uri = place_store(tmp_path / "runs")
    arguments = ["--strategy", f"{tmp_path}/odd.py:Odd", "--dataset", "digits-two", "--quiet"]
    assert call(["run", "--runs-dir", str(tmp_path / "runs"), *arguments, *SIZES]) == 0
    assert capfd.readouterr().err == ""
    tracking = open_tracking(uri)
    (folder,) = run_folders(tmp_path / "runs")
    assert points(tracking, folder) == expected(folder)
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    told = {run.data.tags[key] for key in run.data.tags if key.startswith("alharness.name.")}
    assert told == {"query/recall@10", "time/select/k-means++_s"}


def test_a_record_with_more_numbers_than_one_request_takes_is_whole(
    runs: Path, tmp_path: Path, place_store: Any
) -> None:
    tracking = open_tracking(place_store(tmp_path))
    record = run_folders(runs)[0].records()[0]
    assert record.annotation is not None
    many = record.annotation.model_copy(update={"class_histogram": list(range(2500))})
    record = record.model_copy(update={"annotation": many})
    content = replace(content_of(run_folders(runs)[0]), records=[record])
    tracking.add(content)
    tracking.complete(tracking.client.create_run(tracking.experiment_id), content)
    found = tracking.client.search_runs([tracking.experiment_id])
    assert [len(run.data.metrics) for run in found] == 2 * [len(cycle_metrics(record))]


def test_our_transaction_writes_what_mlflows_client_writes(
    runs: Path, tmp_path: Path, place_store: Any
) -> None:
    """A run by MLflow's tables at once, and one by its client: told apart by their ids only."""
    tracking = open_tracking(place_store(tmp_path))
    content = content_of(run_folders(runs)[0])
    tracking.add(content)
    tracking._engine = None
    tracking.add(content)
    ours, theirs = tracking.client.search_runs([tracking.experiment_id])
    assert ours.data.to_dictionary() == theirs.data.to_dictionary()
    assert ours.inputs.to_dictionary() == theirs.inputs.to_dictionary()
    for name in ("status", "start_time", "end_time", "lifecycle_stage", "user_id", "run_name"):
        assert getattr(ours.info, name) == getattr(theirs.info, name), name
    for name in ours.data.metrics:
        one, other = (
            [(m.step, m.value, m.timestamp) for m in tracking.client.get_metric_history(r, name)]
            for r in (ours.info.run_id, theirs.info.run_id)
        )
        assert one == other
    files = [
        [item.path for item in tracking.client.list_artifacts(run.info.run_id)]
        for run in (ours, theirs)
    ]
    assert files[0] == files[1]
    where = [run.info.artifact_uri.replace(run.info.run_id, "ID") for run in (ours, theirs)]
    assert where[0] == where[1]


def test_a_run_is_one_transaction(runs: Path, tmp_path: Path, place_store: Any) -> None:
    from sqlalchemy import event

    tracking = open_tracking(place_store(tmp_path))
    folder = run_folders(runs)[0]
    commits: list[object] = []
    event.listen(tracking._engine, "commit", commits.append)
    tracking.add(content_of(folder))
    assert len(commits) == 1


def test_a_fresh_view_is_known_without_importing_mlflow(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys\nfrom alharness.cli import call\n"
        f"assert call(['sync', '--runs-dir', {str(runs)!r}]) == 0\n"
        "heavy = {'torch', 'mlflow', 'sqlalchemy', 'pandas', 'sklearn', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 runs: 0 cycles added", "[]"]


def test_what_was_deleted_or_changed_in_the_view_is_brought_back(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs-dir", str(runs), "--tracking-uri", f"sqlite:///{tmp_path / 'other.db'}"]
    assert call(["sync", *where]) == 0
    tracking = open_tracking(f"sqlite:///{tmp_path / 'other.db'}")
    (first, _) = tracking.client.search_runs([tracking.experiment_id])
    tracking.client.delete_run(first.info.run_id)
    capsys.readouterr()
    assert call(["sync", *where]) == 0
    assert "2 runs: 3 cycles added" in capsys.readouterr().out
    for folder in run_folders(runs):
        assert points(tracking, folder) == expected(folder)


def test_a_run_is_visited_after_one_two_and_four_minutes_and_at_its_end(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two cycles: it is told of a cycle, and the next one waits for it."""
    minutes, asked = 0.0, list[tuple[float, str]]()
    monkeypatch.setattr(visits.time, "monotonic", lambda: 60 * minutes)
    monkeypatch.setattr(RunView, "_is_fresh", lambda *_: False)
    monkeypatch.setattr(
        RunView, "_ask", lambda view, folders, status, patience: asked.append((minutes, status))
    )
    folder = run_folders(runs)[0]
    record = folder.records()[0]
    view = RunView("sqlite:///x.db", "alharness", pytest.fail)
    view.started(None, folder, [])  # type: ignore[arg-type]
    while minutes < 20:
        minutes += 0.5
        view.cycle(record)
    view.finished(folder, [record])
    assert asked == [
        (1, "RUNNING"),
        (3, "RUNNING"),
        (7, "RUNNING"),
        (15, "RUNNING"),
        (20, "FINISHED"),
    ]


def test_a_run_that_goes_on_is_running_and_one_that_was_stopped_is_not(
    runs: Path, tmp_path: Path, place_store: Any
) -> None:
    shutil.copytree(run_folders(runs)[0].path, tmp_path / "digits-two" / "random" / "half")
    folder = RunFolder(tmp_path / "digits-two" / "random" / "half")
    whole = folder.cycles.read_bytes()
    folder.cycles.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    tracking = open_tracking(place_store(tmp_path))
    for running, status in ((True, "RUNNING"), (False, "KILLED")):
        sync_run(folder, tracking, running=running)
        (run,) = tracking.client.search_runs([tracking.experiment_id])
        assert run.info.status == status
    folder.cycles.write_bytes(whole)
    assert sync_run(folder, tracking) == 1
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert (run.info.status, run.info.end_time) == ("FINISHED", folder.records()[-1].ts_ms)
    assert points(tracking, folder) == expected(folder)


def test_times_of_a_synced_run_are_those_of_its_records(
    runs: Path, tmp_path: Path, place_store: Any
) -> None:
    tracking = open_tracking(place_store(tmp_path))
    folder = run_folders(runs)[0]
    assert sync_run(folder, tracking) == 3
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert run.info.start_time == folder.facts().sessions[0].started_ms
    assert run.info.end_time == folder.records()[-1].ts_ms


def test_the_page_of_mlflow_that_ui_opens_is_that_of_training_runs(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[list[str]] = []

    def serve(command: list[str], environment: object) -> int:
        served.append(command)
        return 0

    monkeypatch.setattr("alharness.cli.tracking._serve", serve)
    assert call(["ui", "--mlflow", "--runs-dir", str(runs)]) is not None
    (address,) = capsys.readouterr().out.splitlines()
    assert "workflowType=machine_learning" in address
    assert "orderByKey=params.`seed`" in unquote(address)  # by time a sweep hides its runs
    assert unquote(address).endswith("searchFilter=params.`strategy.name` != 'full'")
    assert default_uri(runs) in served[0]


@pytest.mark.parametrize("option", ["--tracking-uri", "--experiment"])
def test_an_option_of_mlflows_page_is_not_passed_over(
    option: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "alharness.live.server.LocalServer.serve", lambda server: pytest.fail("it is served")
    )
    assert call(["ui", "--runs-dir", str(runs), option, "sqlite:////tmp/other.db"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{option} belongs to MLflow's page. Add --mlflow" in line


@pytest.mark.usefixtures("visits_here")
def test_a_run_from_python_is_in_the_view_unless_it_asks_not_to_be(
    tmp_path: Path, place_store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with the command: on by default, and what asked for no view is left out by ``sync`` too."""
    import alharness

    uri = place_store(tmp_path)
    tiny: dict[str, Any] = {"budget": 60, "query_size": 20, "runs_dir": tmp_path}
    found = alharness.run("random", "digits-two", **tiny)
    tracking = open_tracking(uri, "alharness")
    assert found.notes == ()
    run_id = tracking.find_run(RunFolder(found.folder), found.records).info.run_id
    assert tracking.logged_cycles(run_id) == {0, 1, 2}
    without = alharness.run("margin", "digits-two", tracking=False, **tiny)
    assert is_kept_out(RunFolder(without.folder))
    assert call(["sync", "--runs-dir", str(tmp_path)]) == 0
    assert "0 cycles added, 1 made with --no-tracking" in capsys.readouterr().out
    assert len(tracking.client.search_runs([tracking.experiment_id])) == 1
