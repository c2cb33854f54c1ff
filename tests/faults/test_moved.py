"""A folder of runs that was moved or copied, and a view that is never read as the truth."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from alharness.cli import call
from alharness.errors import UserError
from alharness.records import RunFolder, read_runs, run_folders

RUN = ["run", "--dataset", "digits-two", "--device", "cpu", "--quiet", "--budget", "30"]
RUN += ["--query-size", "10", "--initial-size", "20", "--set", "learner.kind=linear"]


def run(root: Path, strategy: str, *more: str) -> None:
    assert call([*RUN, "--strategy", strategy, "--runs-dir", str(root), *more]) == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is followed by MLflow; its folder is gone from where it was made."""
    root = tmp_path_factory.mktemp("made") / "r0"
    run(root, "random", "--no-tracking")
    (folder,) = run_folders(root)
    # As a run with pictures leaves them: MLflow keeps a copy.
    (folder.path / "matches.png").write_bytes(b"a picture")
    assert call(["sync", "--all", "--runs-dir", str(root)]) == 0
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def places_in(database: Path) -> set[str]:
    """Every place that a database names."""
    with closing(sqlite3.connect(database)) as store:
        rows = [
            *store.execute("SELECT artifact_location FROM experiments"),
            *store.execute("SELECT artifact_uri FROM runs"),
            *store.execute("SELECT value FROM tags WHERE key = 'alharness.folder'"),
        ]
    return {text for (text,) in rows}


@pytest.mark.usefixtures("visits_here")
@pytest.mark.parametrize("how", ["copied", "moved"])
def test_a_run_in_another_place_of_the_folder_writes_there_alone(
    how: str, made: Path, tmp_path: Path
) -> None:
    first = Path(shutil.copytree(made, tmp_path / "r0"))
    run(first, "random")  # the database belongs here now
    second = tmp_path / "r3"
    if how == "copied":
        shutil.copytree(first, second)
    else:
        first.rename(second)
    before = contents(first)
    run(second, "margin")
    assert call(["sync", "--runs-dir", str(second)]) == 0
    assert contents(first) == before
    assert first.exists() == (how == "copied"), "the old place is not made again"
    named = places_in(second / "mlflow.db")
    assert named
    assert all(str(second) in place for place in named)


def test_the_files_of_a_moved_view_are_found(made: Path, tmp_path: Path) -> None:
    from alharness.tracking import open_tracking
    from alharness.tracking.stores import default_uri

    second = Path(shutil.copytree(made, tmp_path / "with 100% other signs"))
    (picture,) = (second / "mlflow").rglob("*.png")
    picture.write_bytes(b"the picture here")
    tracking = open_tracking(default_uri(second))
    (found,) = tracking.client.search_runs([tracking.experiment_id])
    (listed,) = tracking.client.list_artifacts(found.info.run_id)
    local = tracking.client.download_artifacts(found.info.run_id, listed.path)
    assert Path(local).read_bytes() == b"the picture here"


def test_an_experiment_that_keeps_its_files_elsewhere_stays(made: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(made, tmp_path / "r0"))
    with closing(sqlite3.connect(root / "mlflow.db")) as store, store:
        store.execute("UPDATE experiments SET artifact_location = 's3://bucket/mine'")
    run(root, "random")
    assert "s3://bucket/mine" in places_in(root / "mlflow.db")


def test_copies_of_records_in_the_view_are_no_runs(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version 0.2 copied records there."""
    root = Path(shutil.copytree(made, tmp_path / "r0"))
    (folder,) = run_folders(root)
    copy = root / "mlflow" / "artefacts" / "1" / "artifacts"
    shutil.copytree(folder.path, copy)
    assert [found.folder for found in read_runs(root)] == [folder.path]
    shutil.rmtree(root / "digits-two")
    with pytest.raises(UserError, match="There are no runs"):
        read_runs(root)
    assert call(["compare", "--runs-dir", str(root)]) == 2
    assert "There are no runs" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["", "digits-two", "digits-two/random", "key"])
def test_runs_are_found_in_any_part_of_their_tree(part: str, made: Path) -> None:
    (folder,) = run_folders(made)
    place = folder.path if part == "key" else made / part
    assert [found.folder for found in read_runs(place)] == [folder.path]


def test_several_trees_of_runs_are_found_below_one_directory(made: Path, tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        shutil.copytree(made, tmp_path / "all" / name)
    assert len(read_runs(tmp_path / "all")) == 2


def test_links_lead_to_runs_and_never_in_a_circle(made: Path, tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "digits").symlink_to(made / "digits-two")
    (tmp_path / "study" / "round").symlink_to(tmp_path / "study")
    assert len(read_runs(tmp_path / "study")) == 1


@pytest.mark.parametrize("depth", ["task", "strategy", "key"])
def test_a_folder_that_may_not_be_read_is_told(
    depth: str, made: Path, tmp_path: Path, nursery: Any
) -> None:
    root = Path(shutil.copytree(made, tmp_path / "r0"))
    run(root, "random", "--no-tracking", "--seed", "1")
    shutil.copytree(root / "digits-two", root / "digits-of-a-friend")
    (locked, *_) = run_folders(root / "digits-of-a-friend")
    place = {"key": 0, "strategy": 1, "task": 2}[depth]
    closed = [locked.path, *locked.path.parents][place]
    mode = closed.stat().st_mode
    closed.chmod(0)
    try:
        for command in (["compare", "--runs-dir", str(root)], ["sync", "--runs-dir", str(root)]):
            child = nursery.start(command, root, powerless=True)
            assert child.wait() == 1, child.printed
            told = " ".join(child.printed.split())
            assert f"'{os.fspath(closed)}" in told
            assert "Permission denied" in told
    finally:
        closed.chmod(mode)
    assert all(RunFolder(path.path).is_finished() for path in run_folders(root))
