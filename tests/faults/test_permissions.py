"""Places of another user: what may not be written or read is told in one line, and nothing changes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from alharness.artefacts import ArtefactStore
from alharness.artefacts.store import artefact_key
from alharness.cli import call
from alharness.records import run_folders

RUN = "run --strategy random --dataset digits-two --device cpu --quiet --budget 30 --query-size 10"
RUN += " --initial-size 20"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs and an artefact's folder, as a colleague left them."""
    root = tmp_path_factory.mktemp("colleague") / "runs"
    for seed in range(2):
        command = [*RUN.split(), "--seed", str(seed), "--no-tracking", "--runs-dir", str(root)]
        assert call(command) == 0
    ArtefactStore(root / "artefacts").obtain("thing", {"a": 1}, lambda place, progress: {})
    return root


def below(root: Path) -> list[Path]:
    return [root, *root.rglob("*")]


@contextmanager
def of_another_user(root: Path, *, readable: bool = True) -> Iterator[None]:
    """Nobody may write below a folder; with ``readable`` false nobody may read its files either."""
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in below(root)}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222 if readable or path.is_dir() else 0)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in below(root) if path.is_file()}


def told(nursery: Any, command: str, root: Path) -> tuple[int, list[str]]:
    """Exit code and lines of a command that has no rights of its own."""
    child = nursery.start(command.split(), root, powerless=True)
    code = child.wait()
    assert "Traceback" not in child.printed
    assert code in (0, 1, 2)
    return code, child.printed.splitlines()


@pytest.mark.parametrize(
    "command",
    [
        f"{RUN} --runs-dir RUNS --no-tracking",  # finished before
        f"{RUN} --runs-dir RUNS --no-tracking --fresh",
        f"{RUN} --runs-dir RUNS --no-tracking --seed 7",
        f"{RUN} --runs-dir RUNS --seed 7",  # with a database to be made there
        f"{RUN} --runs-dir RUNS/new/place --no-tracking",
        "compare RUNS --out RUNS/table.csv",
        "report RUNS --out RUNS/report",
        "sweep plan --strategies random --datasets digits-two --out RUNS/plan.json --runs-dir RUNS",
        "sweep --strategies random --datasets digits-two --seeds 8 --no-tracking --runs-dir RUNS",
        "artefacts remove KEY --runs-dir RUNS",
        "artefacts list --runs-dir RUNS",
        "sync --runs-dir RUNS",
        "generator train digits-two --quiet --device cpu --runs-dir RUNS",
    ],
)
def test_a_folder_that_may_only_be_read(nursery: Any, runs: Path, command: str) -> None:
    before = contents(runs)
    with of_another_user(runs):
        command = command.replace("KEY", artefact_key("thing", {"a": 1}))
        code, lines = told(nursery, command.replace("RUNS", str(runs)), runs)
    assert contents(runs) == before
    refused = [line for line in lines if "ermission denied" in line or "not allowed" in line]
    assert all(str(runs) in line for line in refused)
    # A run that has no place for its records has none for a database either.
    both = command.startswith("run") and "database" in "".join(refused[:1])
    # A sweep names a run when it fails, and once more at its end; its other runs go on.
    both = both or command.startswith("sweep --")
    assert code == 0 or len(refused) == (2 if both else 1), lines


@pytest.mark.parametrize(
    "command",
    [
        f"{RUN} --runs-dir RUNS --no-tracking",
        "compare RUNS",
        "report RUNS --out OUT",
        "sync --runs-dir RUNS --tracking-uri sqlite:///OUT.db --all",
        "artefacts list --runs-dir RUNS",
    ],
)
def test_files_that_may_not_be_read(
    nursery: Any, runs: Path, tmp_path: Path, command: str, place_store: Any
) -> None:
    place_store(tmp_path)
    (tmp_path / "mlflow.db").rename(tmp_path / "out.db")
    command = command.replace("RUNS", str(runs)).replace("OUT", str(tmp_path / "out"))
    with of_another_user(runs, readable=False):
        code, lines = told(nursery, command, runs)
    assert code in (1, 2)
    assert any("ermission denied" in line and str(runs) in line for line in lines), lines


def test_a_cache_that_may_not_be_written_is_told(
    nursery: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    for name in ("a", "b"):
        (images / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8), number).save(images / name / f"{number}.png")
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("ALHARNESS_CACHE", str(cache))
    with of_another_user(cache):
        command = f"run --strategy random --dataset folder:{images} --quiet --no-tracking"
        code, lines = told(nursery, f"{command} --runs-dir {tmp_path / 'runs'}", tmp_path)
    assert code == 2
    assert len(lines) == 1
    assert "ALHARNESS_CACHE" in lines[0]


def test_a_finished_run_of_another_user_can_still_be_compared(nursery: Any, runs: Path) -> None:
    assert len(run_folders(runs)) == 2
    with of_another_user(runs):
        code, lines = told(nursery, f"compare {runs}", runs)
    assert code == 0
    assert any("random" in line for line in lines)


def test_without_a_flock_runs_and_artefacts_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """filelock tells it by an error of its own where the system has no such call."""
    from filelock import FileLock

    def refuse(*arguments: object, **more: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    for command in (
        f"{RUN} --no-tracking --runs-dir {tmp_path / 'runs'}",
        f"generator train digits-two --device cpu --quiet --runs-dir {tmp_path / 'runs'}",
    ):
        assert call(command.split()) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert os.strerror(37) in line
        assert str(tmp_path) in line


def test_a_group_may_share_a_folder_of_runs(tmp_path: Path) -> None:
    """With the folder's group handed down and a umask of 002, a second user may write everything."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    before = os.umask(0o002)
    try:
        assert call([*RUN.split(), "--set", "learner.kind=linear", "--runs-dir", str(shared)]) == 0
    finally:
        os.umask(before)
    assert (shared / "mlflow.db").exists()
    for path in below(shared):
        mode = path.stat().st_mode
        assert mode & stat.S_IWGRP, path
        assert not path.is_dir() or mode & stat.S_ISGID, path


def test_who_may_not_write_is_told_how_a_group_shares_a_folder(runs: Path, nursery: Any) -> None:
    with of_another_user(runs):
        code, lines = told(nursery, f"{RUN} --runs-dir {runs} --no-tracking --seed 7", runs)
    assert code == 2
    assert len(lines) == 1
    assert "umask 002" in lines[0]
