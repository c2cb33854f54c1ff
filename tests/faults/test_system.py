"""What the system refuses is one line with the file's name, and loses nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alharness.cli import call, cli
from alharness.errors import UserError
from alharness.files import append_line, beside, write_text
from alharness.records import RunFolder, run_folders

COMMAND = ["run", "--strategy", "random", "--dataset", "digits-two", "--device", "cpu"]
COMMAND += [
    "--budget",
    "40",
    "--query-size",
    "5",
    "--initial-size",
    "15",
    "--no-tracking",
    "--quiet",
]


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "facts.txt"
    write_text(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        UserError, match=r"facts\.txt' cannot be written: No space left .* Free some"
    ):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["facts.txt"]


def test_a_line_that_cannot_be_appended_is_not_left_in_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines"
    append_line(path, "first")

    def full(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="cannot be written"):
            append_line(path, "second")
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"


def test_what_fails_while_it_is_written_is_not_renamed(tmp_path: Path) -> None:
    def write_half() -> None:
        with beside(tmp_path / "x") as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def limited(runs: Path, blocks: int) -> subprocess.CompletedProcess[str]:
    """The run under a limit on the size of files: a disk that is full in the middle."""
    arguments = " ".join([sys.executable, "-m", "alharness", *COMMAND, "--runs-dir", str(runs)])
    return subprocess.run(
        # Python renames even compiled modules that were cut (gh-126606): they would be everybody's.
        ["bash", "-c", f"trap '' XFSZ; ulimit -f {blocks}; exec {arguments}"],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_of_ours_that_ends_too_early_is_a_fault_and_no_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A compiled module that was cut; click takes the end of any file for one of the keyboard's."""

    def cut(*_: object) -> None:
        raise EOFError("marshal data too short")

    monkeypatch.setattr(cli, "invoke", cut)
    with pytest.raises(EOFError, match="marshal"):
        call(COMMAND)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    done = limited(tmp_path / "runs", 4)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written: File too large" in done.stderr
    (folder,) = run_folders(tmp_path / "runs")
    before = [record.without_times() for record in folder.records()]
    assert 0 < len(before) < 6
    assert call([*COMMAND, "--runs-dir", str(tmp_path / "runs")]) == 0
    assert call([*COMMAND, "--runs-dir", str(tmp_path / "whole")]) == 0
    (whole,) = run_folders(tmp_path / "whole")
    continued = [record.without_times() for record in folder.records()]
    assert continued[: len(before)] == before
    assert continued == [record.without_times() for record in whole.records()]


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert call([*COMMAND, "--runs-dir", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "gives no locks" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", ["env.json", "spec.toml", "cycles.jsonl", "queries.npz"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[]", b"{", b'{"a": 1}\n'])
def test_no_damage_of_a_runs_file_ends_in_a_traceback(
    tmp_path: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*COMMAND, "--runs-dir", str(tmp_path)]) == 0
    (folder,) = run_folders(tmp_path)
    (folder.path / name).write_bytes(content)
    capsys.readouterr()
    assert call([*COMMAND, "--runs-dir", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert name in told
    assert told.count("\n") == 1
    assert call([*COMMAND, "--runs-dir", str(tmp_path), "--fresh"]) == 0
    assert RunFolder(folder.path).is_finished()
