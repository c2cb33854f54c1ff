"""A run that is killed in the middle, at any moment, continues to the same records."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from alharness.cli import call, main
from alharness.records import CycleRecord, QueryLog, RunFolder, run_folders
from alharness.records.records import RecordFile

SLOW_PLUGIN = '''
import os, time
from alharness_strategies.max_entropy import MaxEntropy


class Slow(MaxEntropy):
    """Max-entropy that waits before its fourth question, where it is told to, until it is killed."""

    def select(self, view, query_size):
        while "HELD" in os.environ and len(view.labelled) == 35:
            time.sleep(0.05)
        return super().select(view, query_size)
'''


def command(plugin: Path, runs: Path, *more: str) -> list[str]:
    return [
        "run", "--strategy", f"{plugin}:Slow", "--dataset", "digits-two", "--runs-dir", str(runs),
        "--budget", "60", "--query-size", "5", "--initial-size", "20", "--device", "cpu", *more,
    ]  # fmt: skip


def here(plugin: Path, runs: Path, *more: str) -> int:
    return call(command(plugin, runs, *more))


Held = Callable[[list[str], Path], AbstractContextManager[None]]


@pytest.fixture
def held(copies: Callable[..., Any]) -> Held:
    """A process of its own that has written three cycles and waits in the next; it is killed at the end."""

    def work(words: list[str]) -> None:
        os.environ["HELD"] = "1"
        main(words)

    @contextmanager
    def held(words: list[str], runs: Path) -> Iterator[None]:
        process = copies(lambda: work(words))
        try:
            deadline = time.monotonic() + 300
            while not (runs.exists() and any(len(f.records()) == 3 for f in run_folders(runs))):
                assert time.monotonic() < deadline, process.printed
                time.sleep(0.02)
            yield
        finally:
            process.kill()

    return held


def only_folder(runs: Path) -> RunFolder:
    (folder,) = run_folders(runs)
    return folder


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "slow.py"
    path.write_text(SLOW_PLUGIN)
    return path


@pytest.mark.usefixtures("visits_here")
def test_killed_and_started_again(plugin: Path, tmp_path: Path, held: Held) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert here(plugin, whole, "--quiet") == 0

    with held(command(plugin, parts, "--quiet"), parts):
        pass
    left = only_folder(parts)
    n_left = len(left.records())
    assert n_left == 3
    with left.cycles.open("ab") as file:  # what a kill inside the write would leave
        file.write(b'{"schema_version":1,"cyc')

    assert here(plugin, parts, "--quiet") == 0

    expected, found = only_folder(whole), only_folder(parts)
    assert [r.without_times() for r in found.records()] == [
        r.without_times() for r in expected.records()
    ]
    assert found.is_finished()
    a, b = QueryLog.read(expected.queries), QueryLog.read(found.queries)
    assert a.names() == b.names()
    for name in a.names():
        assert a.cycles(name) == b.cycles(name)
        for cycle in a.cycles(name):
            assert a.rows(name, cycle).tobytes() == b.rows(name, cycle).tobytes()
    sessions = found.facts().sessions
    assert [session.first_cycle for session in sessions] == [0, n_left]

    # One MLflow run, FINISHED, no doubled points.
    from alharness.tracking import default_uri, open_tracking

    tracking = open_tracking(default_uri(parts))
    (run,) = tracking.client.search_runs([tracking.experiment_id])
    assert run.info.status == "FINISHED"
    for metric in ("test/accuracy", "cycle", "query/entropy_mean"):
        steps = [
            point.step for point in tracking.client.get_metric_history(run.info.run_id, metric)
        ]
        assert len(steps) == len(set(steps))
    accuracy = tracking.client.get_metric_history(run.info.run_id, "test/accuracy")
    assert {p.step: p.value for p in accuracy} == {
        r.n_labelled: r.test.accuracy for r in found.records()
    }


@pytest.mark.parametrize("cycle", [0, 1, 8])
def test_stopped_between_what_was_asked_and_its_line(
    cycle: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``queries.npz`` is written before the line; in cycle 0 it holds the initial set already."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = "run --strategy max-entropy --dataset digits-two --budget 60 --query-size 5"
    arguments += " --initial-size 20 --device cpu --quiet --no-tracking --runs-dir"
    assert call([*arguments.split(), str(whole)]) == 0

    class PowerCutError(BaseException):
        """Ends the process, as far as the run is concerned."""

    append = RecordFile.append

    def cut(file: RecordFile, record: CycleRecord) -> None:
        if record.cycle == cycle:
            raise PowerCutError
        append(file, record)

    with monkeypatch.context() as patch:
        patch.setattr(RecordFile, "append", cut)
        with pytest.raises(PowerCutError):
            call([*arguments.split(), str(parts)])
    assert only_folder(parts).queries.exists()
    assert call([*arguments.split(), str(parts)]) == 0
    expected, found = only_folder(whole), only_folder(parts)
    assert [r.without_times() for r in found.records()] == [
        r.without_times() for r in expected.records()
    ]
    same = [QueryLog.read(folder.queries) for folder in (expected, found)]
    assert same[0].digest(*range(-1, 9)) == same[1].digest(*range(-1, 9))
    assert call([*arguments.split(), str(parts)]) == 0  # and proves itself


def test_a_finished_run_is_not_run_again_and_fresh_starts_over(
    plugin: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    for _ in range(2):
        assert here(plugin, runs, "--quiet", "--no-tracking") == 0
    folder = only_folder(runs)
    (session,) = folder.facts().sessions
    assert session.distribution == folder.facts().strategy.distribution
    stamp = folder.records()[0].ts_ms
    assert here(plugin, runs, "--quiet", "--no-tracking", "--fresh") == 0
    assert folder.records()[0].ts_ms > stamp
    assert len(folder.records()) == 9


def test_two_processes_do_not_write_one_run(
    plugin: Path, tmp_path: Path, held: Held, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    with held(command(plugin, runs, "--quiet", "--no-tracking"), runs):
        assert here(plugin, runs, "--quiet", "--no-tracking") == 2
    told = capfd.readouterr().err
    assert "Another process is writing this run" in told
    assert "Traceback" not in told


def test_fresh_starts_a_run_over_whose_spec_cannot_be_read(plugin: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert here(plugin, runs, "--quiet", "--no-tracking") == 0
    folder = only_folder(runs)
    whole = folder.spec.read_bytes()
    folder.spec.write_bytes(b"\xff\x00 = [")
    assert here(plugin, runs, "--quiet", "--no-tracking") == 2
    assert here(plugin, runs, "--quiet", "--no-tracking", "--fresh") == 0
    assert folder.spec.read_bytes() == whole
    assert only_folder(runs).is_finished()
