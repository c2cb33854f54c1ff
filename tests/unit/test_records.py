"""The files of a run: complete, torn, damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from alharness.errors import UserError
from alharness.files import drop_torn_line
from alharness.records import (
    CycleRecord,
    FitFigures,
    QueryLog,
    TestFigures,
    Times,
    append_record,
    read_records,
    reader,
    timed_selections,
)


def record(cycle: int, final: bool = False) -> CycleRecord:
    return CycleRecord(
        cycle=cycle,
        n_labelled=10 + cycle,
        n_asked=10 + cycle,
        n_synthetic=0,
        cost=10.0 + cycle,
        labelled_digest="a",
        learner_digest="b",
        fit=FitFigures(steps=3, train_loss=0.1, converged=True),
        test=TestFigures(
            accuracy=0.9, balanced_accuracy=0.9, macro_f1=0.9, average_precision=0.9, log_loss=0.2
        ),
        query=None,
        annotation=None,
        time=Times(fit_s=0.1 * cycle, evaluate_s=0.1, select_s=None, annotate_s=None, harness_s=0),
        ts_ms=1000 + cycle,
        final=final,
    )


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "cycles.jsonl"
    assert read_records(path) == []
    written = [record(0), record(1), record(2, final=True)]
    for one in written:
        append_record(path, one)
    assert read_records(path) == written


@pytest.mark.parametrize("section", ["", "time", "test", "fit"])
def test_a_field_that_this_version_does_not_know_is_refused(section: str) -> None:
    """A later version's record is no record of this one: what it says beyond would be lost unsaid."""
    values = record(0).model_dump()
    (values[section] if section else values)["of a later version"] = 1
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        CycleRecord.model_validate(values)


def test_times_are_all_that_two_equal_runs_differ_in() -> None:
    slow = record(1).model_copy(update={"ts_ms": 5, "time": record(9).time})
    assert slow != record(1)
    assert slow.without_times() == record(1).without_times()


def selecting(cycle: int, cold: bool | None) -> CycleRecord:
    times = record(cycle).time.model_copy(update={"select_s": 0.1, "cold": cold})
    return record(cycle).model_copy(update={"time": times})


@pytest.mark.parametrize(
    ("marks", "timed"),
    [
        ([True, False, False, True, False], [1, 2, 4]),  # stopped after cycle 2 and continued
        ([None, None, None], [1, 2]),  # of 0.1.0, which marked nothing
        ([None, None, True, False], [1, 3]),  # begun by 0.1.0, continued by 0.2
        ([True], [0]),  # nothing else there is
    ],
)
def test_the_first_selection_of_each_session_is_not_timed(
    marks: list[bool | None], timed: list[int]
) -> None:
    records = [selecting(cycle, cold) for cycle, cold in enumerate(marks)]
    last = record(len(marks), final=True)
    assert [one.cycle for one in timed_selections([*records, last])] == timed


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_last_line_is_dropped_and_the_run_goes_on(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cycles.jsonl"
    append_record(path, record(0))
    append_record(path, record(1))
    path.write_bytes(path.read_bytes()[:-cut])
    assert [one.cycle for one in read_records(path)] == [0]
    drop_torn_line(path)
    append_record(path, record(1))
    assert read_records(path) == [record(0), record(1)]


@pytest.mark.parametrize("end", [b"X", b"\r", b" "])
def test_a_whole_line_with_another_end_is_damage_and_no_torn_one(
    tmp_path: Path, end: bytes
) -> None:
    """A kill leaves less of a line, and never another byte than the one that was written."""
    path = tmp_path / "cycles.jsonl"
    for cycle in range(3):
        append_record(path, record(cycle))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + end)
    with pytest.raises(UserError, match="line 3 has another end than a line"):
        read_records(path)
    path.write_bytes(whole[:-2])  # its end was never written, nor what stands before it
    assert len(read_records(path)) == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: [lines[0], b"{}\n", lines[2]], "line 2 is not a cycle record"),
        (lambda lines: [lines[0], lines[2]], "line 2 is cycle 2, expected 1"),
        (lambda lines: [b"\xff\n", *lines[1:]], "line 1 is not a cycle record"),
    ],
)
def test_damage_in_the_middle_is_never_read_over(tmp_path: Path, spoil, message: str) -> None:
    path = tmp_path / "cycles.jsonl"
    for cycle in range(3):
        append_record(path, record(cycle))
    path.write_bytes(b"".join(spoil(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(UserError, match=message):
        read_records(path)


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_line_that_lost_its_checksum_is_damage(tmp_path: Path, number: int) -> None:
    """Only lines in front may have none, as 0.1.0 wrote them: what they say is in the next checksum."""
    path = tmp_path / "cycles.jsonl"
    for cycle in range(4):
        append_record(path, record(cycle))
    lines = path.read_bytes().splitlines(keepends=True)
    body, link, _ = lines[number - 1].partition(b',"chain"')
    assert link
    lines[number - 1] = body + b"}\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(
        UserError, match=f"line {number} has lost its checksum: the file is damaged"
    ):
        read_records(path)


def test_lines_in_front_without_a_checksum_are_proven_by_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "cycles.jsonl"
    for cycle in range(4):
        append_record(path, record(cycle))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].partition(b',"chain"')[0] + b"}\n"
    path.write_bytes(b"".join(lines))
    assert len(read_records(path)) == 4
    path.write_bytes(b"".join(lines).replace(b'"n_labelled":10', b'"n_labelled":11'))
    with pytest.raises(UserError, match="line 2 does not agree with its checksum"):
        read_records(path)


def test_query_log_keeps_rows_by_cycle(tmp_path: Path) -> None:
    log = QueryLog()
    log.add(-1, {"indices": np.arange(3)})
    log.add(0, {"indices": np.array([7, 8]), "entropy": np.array([0.1, 0.2], np.float32)})
    log.write(tmp_path / "queries.npz")
    log.add(1, {"indices": np.array([9]), "items": np.ones((2, 1, 2, 2), np.float32)})
    log.write(tmp_path / "queries.npz")
    assert not list(tmp_path.glob("*.partial"))
    read = QueryLog.read(tmp_path / "queries.npz")
    assert read.rows("indices", -1).tolist() == [0, 1, 2]
    assert read.rows("indices", 0).tolist() == [7, 8]
    assert read.rows("indices", 1).tolist() == [9]
    assert read.rows("entropy", 1) is None
    assert read.rows("items", 1).shape == (2, 1, 2, 2)
    assert read.cycles("indices") == [-1, 0, 1]
    earlier = read.before(1)
    assert earlier.rows("indices", 0).tolist() == [7, 8]
    assert earlier.rows("indices", 1) is None
    assert "items" not in earlier.names()


def test_a_damaged_query_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "queries.npz"
    log = QueryLog()
    log.add(-1, {"indices": np.arange(300)})
    log.write(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"queries.npz' is damaged.*--fresh"):
        QueryLog.read(path)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_links_are_followed_as_far_as_a_tree_of_runs_is_deep(depth: int, tmp_path: Path) -> None:
    """``runs/TASK/STRATEGY/KEY``: each of the three may lie elsewhere; below, a link may lead round."""
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "spec.toml").write_text("")
    link = tmp_path.joinpath("runs", *"abcd"[:depth])
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    found = [folder.path for folder in reader.run_folders(tmp_path / "runs")]
    assert found == ([link] if depth <= reader.DEPTH else [])
