"""Runs that were read before: taken from what was kept beside them while nothing has changed, never else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import alharness
from alharness.errors import UserError
from alharness.files import no_collections
from alharness.records import Run, RunFolder, read_run, read_runs
from alharness.records import cycles as cycles_of_runs
from alharness.records import parsed as kept
from alharness.records.cycles import Cycles, columns_of, records_of
from alharness.records.reader import read_or_mark

N = 4


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few finished runs of one strategy."""
    root = tmp_path_factory.mktemp("pattern")
    for seed in range(N):
        settings = {"budget": 60, "initial_size": 20, "query_size": 20, "device": "cpu"}
        alharness.run("margin", "digits-two", seed=seed, runs_dir=root, tracking=False, **settings)
    return root


@pytest.fixture
def runs_dir(pattern: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, which few runs are enough to keep."""
    monkeypatch.setattr(kept, "WORTH", 1)
    monkeypatch.setattr(kept, "SETTLED_NS", 0)
    return Path(shutil.copytree(pattern, tmp_path / "runs"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[str]]:
    """Reads a directory, and says which runs' records were really read for it."""
    opened: list[str] = []
    original = RunFolder.records

    def records(self: RunFolder) -> object:
        opened.append(self.path.name)
        return original(self)

    def which(folder: Path) -> list[str]:
        opened.clear()
        read_runs(folder)
        return sorted(opened)

    monkeypatch.setattr(RunFolder, "records", records)
    return which


def folders(runs_dir: Path) -> list[Path]:
    return sorted(path.parent for path in runs_dir.rglob("cycles.jsonl"))


def file_of(runs_dir: Path) -> Path:
    return runs_dir / "digits-two" / "margin" / kept.NAME


def replace_in(path: Path, old: bytes, new: bytes) -> None:
    """Change a file in place, and put its time back: only the disk's own book-keeping tells."""
    told = path.stat()
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


def test_a_finished_study_asked_again_reads_no_records_and_says_the_same(
    runs_dir: Path, read: Callable[[Path], list[str]]
) -> None:
    first = read_runs(runs_dir)
    assert read(runs_dir) == []
    again = read_runs(runs_dir)
    assert again == first
    assert [r.model_dump_json() for run in again for r in run.records] == [
        r.model_dump_json() for run in first for r in run.records
    ]
    # By any road: a part of the tree, or one run.
    assert read(runs_dir / "digits-two") == []
    assert read(folders(runs_dir)[0]) == []


def test_tables_and_comparisons_are_the_same_when_they_are_asked_again(runs_dir: Path) -> None:
    import pandas as pd

    table, text = alharness.load_runs(runs_dir), alharness.compare(runs_dir).text()
    assert file_of(runs_dir).exists()
    pd.testing.assert_frame_equal(alharness.load_runs(runs_dir), table)
    assert alharness.compare(runs_dir).text() == text


def test_a_comparison_of_runs_that_were_kept_makes_no_record_of_them(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record for each cycle costs more than all else in a study of thousands of runs."""
    text = alharness.compare(runs_dir).text()
    made: list[object] = []

    def counted(columns: cycles_of_runs.Columns) -> object:
        made.append(columns)
        return records_of(columns)

    monkeypatch.setattr(cycles_of_runs, "records_of", counted)
    assert alharness.compare(runs_dir).text() == text
    assert not made
    # The counter counts: whoever wants records gets them made.
    assert list(read_runs(runs_dir)[0].records)
    assert made


def test_a_few_runs_leave_nothing_behind(runs_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "WORTH", N + 1)
    read_runs(runs_dir)
    assert not file_of(runs_dir).exists()


def test_runs_that_were_written_a_moment_ago_are_not_kept(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within one tick of the disk's clock they may change again, with the same times."""
    monkeypatch.setattr(kept, "SETTLED_NS", 3600 * 10**9)
    read_runs(runs_dir)
    assert not file_of(runs_dir).exists()


@pytest.mark.parametrize("name", ["cycles.jsonl", "spec.toml", "env.json", "queries.npz"])
def test_a_file_changed_in_place_under_its_old_time_is_read_again_and_found_damaged(
    runs_dir: Path, name: str
) -> None:
    read_runs(runs_dir)
    victim = folders(runs_dir)[1]
    content = (victim / name).read_bytes()
    place = len(content) // 2
    other = bytes([content[place] ^ 1])
    replace_in(victim / name, content[: place + 1], content[:place] + other)
    states = {run.folder: run.state() for run in read_runs(runs_dir)}
    assert states.pop(victim) == "unreadable"
    assert set(states.values()) == {"finished"}


def test_a_shortened_file_is_an_unfinished_run(runs_dir: Path) -> None:
    read_runs(runs_dir)
    cycles = folders(runs_dir)[0] / "cycles.jsonl"
    told = cycles.stat()
    cycles.write_bytes(b"".join(cycles.read_bytes().splitlines(keepends=True)[:-1]))
    os.utime(cycles, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert [run.state() for run in read_runs(runs_dir)].count("unfinished") == 1


def test_folders_that_changed_places_are_each_what_lies_there(
    runs_dir: Path, read: Callable[[Path], list[str]]
) -> None:
    before = {run.folder: run.pair for run in read_runs(runs_dir)}
    one, other = folders(runs_dir)[:2]
    one.rename(runs_dir / "aside")
    other.rename(one)
    (runs_dir / "aside").rename(other)
    assert read(runs_dir) == sorted([one.name, other.name])
    after = {run.folder: run.pair for run in read_runs(runs_dir)}
    assert (after[one], after[other]) == (before[other], before[one])


def test_a_failure_left_beside_a_finished_run_is_seen(runs_dir: Path) -> None:
    read_runs(runs_dir)
    folder = folders(runs_dir)[0]
    RunFolder(folder).write_failure("could not be tried again")
    told = {run.folder: run.failure for run in read_runs(runs_dir)}
    assert told.pop(folder) == "could not be tried again"
    assert set(told.values()) == {None}


def test_a_run_that_is_gone_is_gone_and_a_new_one_is_there(
    runs_dir: Path, pattern: Path, read: Callable[[Path], list[str]]
) -> None:
    gone = folders(runs_dir)[0]
    shutil.rmtree(gone)
    assert len(read_runs(runs_dir)) == N - 1
    shutil.copytree(pattern / gone.relative_to(runs_dir), gone)
    assert read(runs_dir) == [gone.name]
    assert read(runs_dir) == []
    shutil.rmtree(gone)
    assert gone not in {run.folder for run in read_runs(runs_dir)}


@pytest.mark.parametrize("damage", ["cut off", "changed", "empty", "another format", "no file"])
def test_what_was_kept_can_be_thrown_away_and_is_never_believed_when_damaged(
    runs_dir: Path, read: Callable[[Path], list[str]], damage: str
) -> None:
    first = read_runs(runs_dir)
    file = file_of(runs_dir)
    content = file.read_bytes()
    if damage == "cut off":
        file.write_bytes(content[:-40])
    elif damage == "changed":
        file.write_bytes(content.replace(b'"test.accuracy":[0.', b'"test.accuracy":[1.', 1))
        assert file.read_bytes() != content
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "another format":
        file.write_bytes(b'{"format":0,"runs":[]}\n')
    else:
        file.unlink()
    assert len(read(runs_dir)) == N
    assert read(runs_dir) == []  # and it was written anew
    assert read_runs(runs_dir) == first


def test_what_was_kept_for_other_fields_of_records_is_read_again(
    runs_dir: Path, read: Callable[[Path], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_runs(runs_dir)
    assert read(runs_dir) == []
    monkeypatch.setattr(kept, "_fields", lambda: "of a later version")
    assert len(read(runs_dir)) == N
    monkeypatch.setattr(kept, "FORMAT", kept.FORMAT + 1)
    assert len(read(runs_dir)) == N


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(
    runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_bytes", refused)
    assert len(read_runs(runs_dir)) == N
    home = file_of(runs_dir).parent
    assert not [path for path in home.iterdir() if path.name.startswith(kept.NAME)]


def test_writers_at_the_same_time_leave_one_whole_file(
    runs_dir: Path, read: Callable[[Path], list[str]]
) -> None:
    found: list[list[Run]] = []
    threads = [threading.Thread(target=lambda: found.append(read_runs(runs_dir))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(runs == found[0] for runs in found)
    assert read(runs_dir) == []
    home = file_of(runs_dir).parent
    assert [p.name for p in home.iterdir() if p.name.startswith(kept.NAME)] == [kept.NAME]


def test_an_unreadable_run_is_an_error_whenever_it_is_asked_for(runs_dir: Path) -> None:
    (folders(runs_dir)[0] / "env.json").write_text("{")
    for _ in range(2):
        with kept.ParsedRuns(read_run) as parsed:
            assert read_or_mark(folders(runs_dir)[0], read=parsed.of).damage
            with pytest.raises(UserError, match="damaged"):
                parsed.of(folders(runs_dir)[0])


@pytest.mark.usefixtures("sweeps_here")
def test_a_sweep_that_is_finished_asks_for_no_records_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "WORTH", 1)
    monkeypatch.setattr(kept, "SETTLED_NS", 0)
    settings = {"budget": 40, "initial_size": 20, "query_size": 20, "device": "cpu"}

    def sweep() -> alharness.api.sweeping.SweepResult:
        return alharness.sweep(
            "random", "digits-two", seeds=2, runs_dir=tmp_path, tracking=False, **settings
        )

    first = sweep()
    sweep()  # reads them, and keeps what it read
    opened: list[Path] = []
    original = RunFolder.records
    monkeypatch.setattr(
        RunFolder, "records", lambda self: opened.append(self.path) or original(self)
    )
    again = sweep()
    assert again.runs == first.runs
    assert not opened


def test_columns_and_records_are_made_of_each_other(runs_dir: Path) -> None:
    records = read_runs(runs_dir)[0].records
    assert records_of(columns_of(records)) == tuple(records)
    columns = Cycles(read=lambda: columns_of(records))
    for name in columns_of(records):
        assert columns.column(name) == records.column(name), name
    assert columns.timed == records.timed
    for field in ("work", "time.phases"):
        assert columns.by_name(field) == records.by_name(field)
    assert records.by_name("work")["pool_items_scored"] == [
        record.work.get("pool_items_scored") for record in records
    ]
    assert columns.column("work.nothing of that name") == [None] * len(records)


def test_objects_are_collected_again_after_a_reading(runs_dir: Path) -> None:
    import gc

    assert gc.isenabled()
    read_runs(runs_dir)
    assert gc.isenabled()
    gc.disable()
    try:
        with no_collections():
            pass
        assert not gc.isenabled()  # whoever switched it off meant it
    finally:
        gc.enable()


def test_the_fields_are_called_the_same_in_every_process() -> None:
    text = "from alharness.records.parsed import _fields; print(_fields())"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == kept._fields()


@pytest.mark.parametrize(
    ("new", "is_settled"), [((), True), ((2,), False), ((3,), False), ((2, 3), False)]
)
@pytest.mark.parametrize("file", [0, 1])
def test_a_file_is_believed_by_its_times_when_both_lie_back(
    new: tuple[int, ...], is_settled: bool, file: int
) -> None:
    """Who sets a file's time back changes the other one: either of any file, by less than it takes."""
    now = time.time_ns()
    old = now - kept.SETTLED_NS - 10**9
    stamp: list[Any] = [[7, 100, old, old], [8, 200, old, old], None, [1, 2, 3]]
    for place in new:
        stamp[file][place] = now
    assert kept._settled(stamp) is is_settled
