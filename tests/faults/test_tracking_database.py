"""The MLflow database beside the runs is broken, half made, of another version or somewhere odd."""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from alharness.cli import call
from alharness.records import run_folders
from alharness.tracking import (
    RunView,
    Tracking,
    default_uri,
    open_tracking,
    stores,
    sync_run,
    visits,
)
from alharness.tracking.stores import ready_database, sqlite_path, sqlite_uri

RUN = ["run", "--dataset", "digits-two", "--strategy", "random", "--device", "cpu", "--quiet"]
RUN += ["--budget", "30", "--query-size", "10", "--initial-size", "20"]

Place = Callable[[Path], str]


pytestmark = pytest.mark.usefixtures("visits_here")


def in_view(runs_dir: Path) -> dict[str, list[int]]:
    """Steps of ``accuracy`` by run key, for all active runs."""
    tracking = open_tracking(default_uri(runs_dir))
    return {
        run.data.tags["alharness.run_key"]: [
            point.step for point in tracking.client.get_metric_history(run.info.run_id, "accuracy")
        ]
        for run in tracking.client.search_runs([tracking.experiment_id])
    }


def recorded(runs_dir: Path) -> dict[str, list[int]]:
    return {
        folder.path.name: [record.n_labelled for record in folder.records()]
        for folder in run_folders(runs_dir)
    }


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def scribbled(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[3 * 4096 : 9 * 4096] = b"x" * 6 * 4096
    database.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a database"),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:20_000]),
    "scribbled over": scribbled,
    "first table only": lambda path: (path.unlink(), change(path, "CREATE TABLE experiments (x)")),
    "a table missing": lambda path: change(path, "DROP TABLE metrics"),
    "stopped in the middle": lambda path: change(path, "UPDATE alembic_version SET version_num='1'"),
    "no version": lambda path: change(path, "DELETE FROM alembic_version"),
}  # fmt: skip


@pytest.mark.usefixtures("copied_stores")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_database_is_set_aside_by_the_next_run_and_by_sync(
    damage: str, place_store: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    place_store(runs)
    DAMAGES[damage](runs / "mlflow.db")
    assert call([*RUN, "--runs-dir", str(runs)]) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert "was broken" in line
    assert (runs / "mlflow.db.broken-1").exists()
    assert in_view(runs) == recorded(runs)

    (runs / "mlflow.db").write_bytes(b"SQLite format 3\0 and no more")
    assert call(["sync", "--runs-dir", str(runs)]) == 0
    printed = capfd.readouterr()
    assert "1 runs: 2 cycles added" in printed.out
    assert len(printed.err.splitlines()) == 1
    assert (runs / "mlflow.db.broken-2").exists()
    assert in_view(runs) == recorded(runs)


def test_a_database_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while its tables are made, then made beside what the stop left."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    here = tmp_path / "odd? 100% place"
    here.mkdir()
    path = here / "mlflow.db"

    def stopped(self: object, *arguments: object) -> None:
        (here / "mlflow.db.partial").write_bytes(b"half a table")
        (here / "mlflow.db.partial-journal").write_bytes(b"a journal of it")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "__init__", stopped)
        with pytest.raises(KeyboardInterrupt):
            ready_database(path, mend=True, tell=pytest.fail)
    assert not path.exists()
    ready_database(path, mend=True, tell=pytest.fail)
    assert sorted(file.name for file in here.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    ready_database(path, mend=False, tell=pytest.fail)


@pytest.mark.parametrize("revision", ["451aebb31d03", "fffffffffff0"])
def test_a_database_of_another_version_says_the_whole_cure_and_stops_no_run(
    revision: str,
    place_store: Place,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    runs = tmp_path / "some long and unusual place, for a path that fills a line by itself" / "r"
    uri = place_store(runs)
    assert call([*RUN, "--runs-dir", str(runs)]) == 0
    change(runs / "mlflow.db", f"UPDATE alembic_version SET version_num='{revision}'")
    content = (runs / "mlflow.db").read_bytes()
    later = revision == "fffffffffff0"  # which the installed MLflow cannot locate
    database = str(runs / "mlflow.db")
    aside = shlex.join(["mv", database, f"{database}.other-version"])
    cure = aside if later else f"mlflow db upgrade {shlex.quote(uri)}"

    assert call([*RUN, "--runs-dir", str(runs), "--seed", "1"]) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert cure in line
    assert "The run goes on" in line
    for command in (["sync"], ["ui", "--mlflow"]):
        assert call([*command, "--runs-dir", str(runs)]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert cure in line
        assert "Start" not in line
    assert (runs / "mlflow.db").read_bytes() == content
    assert not list(runs.glob("*.broken-*"))
    if later:
        subprocess.run(shlex.split(aside), check=True)
        assert call(["sync", "--runs-dir", str(runs)]) == 0
        assert "2 runs: 4 cycles added" in capfd.readouterr().out


def test_a_file_that_is_not_ours_is_left_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    notes, other = tmp_path / "notes.txt", tmp_path / "other.db"
    notes.write_text("my notes")
    change(other, "CREATE TABLE customers (name)")
    content = other.read_bytes()
    for path, told in ((notes, "no SQLite database"), (other, "another program")):
        uri = f"sqlite:///{path}"
        assert call([*RUN, "--runs-dir", str(tmp_path / path.stem), "--tracking-uri", uri]) == 0
        (line,) = capfd.readouterr().err.splitlines()
        assert told in line
        assert "The run goes on" in line
    assert notes.read_text() == "my notes"
    assert other.read_bytes() == content


def test_a_place_that_cannot_hold_a_database_costs_the_view_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    uri = f"sqlite:///{tmp_path}/file/mlflow.db"
    assert call([*RUN, "--runs-dir", str(tmp_path / "runs"), "--tracking-uri", uri]) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert "cannot be kept there" in line
    assert "Start the server" not in line


def test_odd_signs_in_a_path_lead_to_the_file_that_they_name(
    place_store: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    here = tmp_path / 'quest?ion per%20cent #1 it\'s "so" Ä'
    here.mkdir()
    monkeypatch.chdir(here)
    place_store(here / "runs")
    assert call(RUN) == 0
    assert call(["sync"]) == 0
    assert "1 runs: 0 cycles added" in capfd.readouterr().out
    assert (here / "runs" / "mlflow.db").stat().st_size > 100_000
    assert [path.name for path in tmp_path.iterdir()] == [here.name]
    assert in_view(Path("runs")) == recorded(Path("runs"))
    place = unquote(urlsplit(only_run(Path("runs")).info.artifact_uri).path)
    assert Path(place).is_relative_to(here / "runs" / "mlflow"), "pictures lie there, too"


@pytest.mark.parametrize(
    "name", ["plain", "a b", "what?", "100%", "%3F", "%25?x=1", "#", "a'b", "é"]
)
def test_a_uri_leads_back_to_its_path(name: str) -> None:
    path = Path("/tmp") / name / "mlflow.db"
    assert sqlite_path(sqlite_uri(path)) == path


def only_run(runs: Path) -> Any:
    tracking = open_tracking(default_uri(runs))
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    return run


def test_a_kill_between_a_run_and_its_parameters_is_completed_by_sync(
    place_store: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By MLflow's client; in a database of ours a run is one transaction."""
    runs = tmp_path / "runs"
    tracking = open_tracking(place_store(runs))
    assert call([*RUN, "--runs-dir", str(runs), "--no-tracking"]) == 0
    (folder,) = run_folders(runs)
    (folder.path / "no-tracking").unlink()

    def killed(*arguments: object) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(Tracking, "_write_facts", killed)
        patch.setattr(tracking, "_engine", None)
        with pytest.raises(SystemExit):
            sync_run(folder, tracking)
    assert only_run(runs).data.params == {}
    assert call(["sync", "--runs-dir", str(runs)]) == 0
    run = only_run(runs)
    assert run.data.params["budget"] == "30"
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["digits-two"]
    assert run.info.status == "FINISHED"


def test_ctrl_c_in_a_visit_leaves_no_run_that_seems_to_go_on(
    place_store: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = tmp_path / "runs"
    place_store(runs)
    ask, asked = RunView._ask, list[str]()

    def interrupted(view: RunView, folders: Any, status: str, patience: float) -> None:
        asked.append(status)
        if status == "FINISHED":
            raise KeyboardInterrupt
        ask(view, folders, status, patience)

    monkeypatch.setattr(visits, "FIRST_S", 0.0)
    monkeypatch.setattr(visits, "PARTING_S", visits.PATIENCE_S)  # a machine that is full
    monkeypatch.setattr(RunView, "_ask", interrupted)
    assert call([*RUN, "--runs-dir", str(runs)]) == 130
    assert asked == ["RUNNING", "FINISHED", "KILLED"]
    assert only_run(runs).info.status == "FINISHED", "its records say so"


def test_fresh_leaves_no_old_point(place_store: Place, tmp_path: Path) -> None:
    """Also when the fresh start was made without MLflow, and sync came later."""
    runs = tmp_path / "runs"
    place_store(runs)
    assert call([*RUN, "--runs-dir", str(runs)]) == 0
    first = only_run(runs).info.run_id
    assert call([*RUN, "--runs-dir", str(runs), "--fresh"]) == 0
    second = only_run(runs).info.run_id
    assert call([*RUN, "--runs-dir", str(runs), "--fresh", "--no-tracking"]) == 0
    assert call(["sync", "--runs-dir", str(runs), "--all"]) == 0
    assert len({first, second, only_run(runs).info.run_id}) == 3
    assert in_view(runs) == recorded(runs)


def test_a_runs_folder_that_was_moved_keeps_its_runs_in_the_view(
    place_store: Place, tmp_path: Path
) -> None:
    runs, moved = tmp_path / "runs", tmp_path / "moved"
    place_store(runs)
    assert call([*RUN, "--runs-dir", str(runs)]) == 0
    before = only_run(runs).info.run_id
    runs.rename(moved)
    assert call(["sync", "--runs-dir", str(moved)]) == 0
    assert only_run(moved).info.run_id == before
    assert only_run(moved).data.tags["alharness.folder"].startswith(str(moved))


def test_the_same_spec_in_two_folders_is_two_runs_of_one_store(
    place_store: Place, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    uri = place_store(one)
    for runs in (one, two, one):
        assert call([*RUN, "--runs-dir", str(runs), "--tracking-uri", uri]) == 0
    tracking = open_tracking(uri)
    found = tracking.client.search_runs([tracking.experiment_id])
    assert len(found) == 2
    for run in found:
        assert len(tracking.client.get_metric_history(run.info.run_id, "cycle")) == 2


def test_sync_names_bad_folders_and_brings_in_the_others(
    place_store: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    place_store(runs)
    for seed in range(4):
        assert call([*RUN, "--runs-dir", str(runs), "--seed", str(seed), "--no-tracking"]) == 0
    bad = run_folders(runs)[:3]
    bad[0].spec.write_text("budget = 3\n")
    bad[1].env.write_text("{")
    bad[2].cycles.write_bytes(b"\xff\n")
    assert call(["sync", "--runs-dir", str(runs), "--all"]) == 1
    printed = capfd.readouterr()
    assert "4 runs: 2 cycles added, 3 could not be added" in printed.out
    assert len(printed.err.splitlines()) == 3
    for folder in bad:
        assert folder.path.name in printed.err


def test_sync_leaves_out_what_was_kept_out_and_what_failed_unless_asked(
    place_store: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    place_store(runs)
    for seed in range(2):
        assert call([*RUN, "--runs-dir", str(runs), "--no-tracking", "--seed", str(seed)]) == 0
    # As a worker of a sweep leaves a run that raises in its second cycle.
    failed = run_folders(runs)[0]
    failed.cycles.write_bytes(failed.cycles.read_bytes().splitlines(keepends=True)[0])
    (failed.path / "no-tracking").unlink()
    failed.write_failure("KeyError: 'x'")
    assert call(["sync", "--runs-dir", str(runs)]) == 0
    out = capfd.readouterr().out
    assert "2 runs: 0 cycles added, 1 made with --no-tracking, 1 failed (left out" in out
    keys = {folder.path.name: folder for folder in run_folders(runs)}
    tracking = open_tracking(default_uri(runs))

    def shown() -> set[str]:
        found = tracking.client.search_runs([tracking.experiment_id])
        return {run.data.tags["alharness.run_key"] for run in found}

    assert shown() == set()
    assert call(["sync", "--runs-dir", str(runs), "--all"]) == 0
    assert shown() == set(keys)
    # Runs that are followed from now on are no longer kept out.
    for seed in range(2):
        assert call([*RUN, "--runs-dir", str(runs), "--seed", str(seed)]) == 0
    capfd.readouterr()
    assert call(["sync", "--runs-dir", str(runs)]) == 0
    assert "--no-tracking" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "uri",
    ["file:///tmp/mlruns", "file:mlruns", "./mlruns", "mlruns", "sqlite:mlflow.db", "sqlite://",
     "sqlite:///:memory:", "htp://host:5000", "sqlite:///no/such?x/mlflow.db"],
)  # fmt: skip
def test_a_uri_that_can_be_no_store_is_refused_in_one_line_before_anything_is_made(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (RUN, ["sweep", "--strategies", "random", "--datasets", "digits-two"]):
        assert call([*command, "--tracking-uri", uri]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert "tracking URI" in line
        assert "sqlite:///" in line or "folder first" in line
        assert "Start the server" not in line
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_not_shown() -> None:
    assert stores.shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert stores.shown("http://127.0.0.1:5000") == "http://127.0.0.1:5000"
