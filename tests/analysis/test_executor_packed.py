"""Sweeps whose networks are trained side by side: the records of runs made alone, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from alharness import numerics
from alharness.cli import call
from alharness.engine.opening import Places
from alharness.engine.runner import execute
from alharness.executors.packed import Meeting
from alharness.files import read_toml
from alharness.records import run_folders
from alharness.spec import RunSpec, resolve
from alharness.tasks.base import DataLocations

NETWORK = [
    *("--set", "learner.kind=mlp", "--set", "learner.min_steps=10", "--set", "learner.epochs=1"),
    *("--set", "learner.dropout=0.2", "--set", "learner.width=8", "--set", "budget=50"),
]
SMALL = ["--datasets", "digits-two", "--device", "cpu", *NETWORK]
PACKED = ["--no-tracking", "--threads", "1", "--executor", "packed", "--pack", "3"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def records(root: Path) -> dict[str, Any]:
    return {
        str(folder.path.relative_to(root)): [record.without_times() for record in folder.records()]
        for folder in run_folders(root)
    }


def alone(root: Path) -> dict[str, Any]:
    """The same runs, each by itself."""
    whole = root.parent / "alone"
    for folder in run_folders(root):
        spec = RunSpec.model_validate(read_toml(folder.spec))
        execute(spec, Places(whole, DataLocations.resolve()))
    return records(whole)


def test_a_failing_and_a_dying_partner_stop_no_other(
    broken: Callable[[Path], object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken(tmp_path / "broken.py")
    strategies = "./broken.py:Raises,./broken.py:Dies,random"
    assert call(["sweep", "--strategies", strategies, "--seeds", "0", *SMALL, *PACKED]) == 1
    printed = capfd.readouterr()
    assert "found KeyError: 'lost item'" in printed.err
    assert "its process ended with signal SIGKILL" in printed.err
    assert "2 of 3 runs failed" in printed.err
    assert printed.out.count("finished  digits-two / random") == 1
    assert "--set learner.pack=3" in printed.out  # the command of the report finds them
    (random,) = (folder for folder in run_folders(Path("runs")) if "random" in folder.path.parts)
    spec = RunSpec.model_validate(read_toml(random.spec))
    again = execute(spec, Places(tmp_path / "alone", DataLocations.resolve()))
    assert [one.without_times() for one in again.records()] == [
        one.without_times() for one in random.records()
    ]


def test_a_stopped_run_goes_on_beside_other_partners_to_the_same_records(tmp_path: Path) -> None:
    def wanted(strategy: str, seed: int) -> RunSpec:
        learner = {"kind": "mlp", "min_steps": 10, "epochs": 1, "width": 8, "dropout": 0.2}
        return resolve(
            {
                **{"task": "digits-two", "strategy": strategy, "seed": seed, "device": "cpu"},
                "budget": 50,
                "learner": {**learner, "pack": 3},
            }
        )

    where = Places(tmp_path / "runs", DataLocations.resolve())

    def side_by_side(*specs: RunSpec, max_cycles: int | None = None) -> None:
        meeting = Meeting()

        def one(spec: RunSpec) -> None:
            with meeting.run():
                execute(spec, where, max_cycles=max_cycles)

        with numerics.exact(), ThreadPoolExecutor(len(specs)) as threads:
            list(threads.map(one, specs))

    stopped = wanted("max-entropy", 0)
    side_by_side(stopped, wanted("random", 0), max_cycles=1)
    side_by_side(stopped, wanted("random", 1), wanted("margin", 2))
    side_by_side(wanted("random", 0))
    found = records(where.runs_dir)
    assert len(found) == 4
    assert found == alone(where.runs_dir)


@pytest.mark.slow
def test_a_killed_pack_continues_with_other_partners_and_the_same_records(tmp_path: Path) -> None:
    command = ["sweep", "--strategies", "random,max-entropy", *SMALL, *PACKED]
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "alharness", *command, "--seeds", "0-1", "--runs-dir", str(killed)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "finished  digits-two" in line:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    assert call([*command, "--seeds", "0-2", "--runs-dir", str(killed)]) == 0
    assert len(records(killed)) == 6
    assert records(killed) == alone(killed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--pack", "3"],
            "--pack says how many runs are trained side by side, which --executor local",
        ),
        (["--executor", "packed", "--set", "learner.kind=resnet18"], "'resnet18' is none of them"),
    ],
)
def test_what_cannot_be_packed_is_one_line(
    options: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "--strategies", "random", "--seeds", "0", *SMALL, *options, "--quiet"]
    assert call(command) == 2
    errors = capfd.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert not Path("runs").exists()
