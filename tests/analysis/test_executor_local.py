"""Real sweeps on digits: failures that do not spread, kills that lose nothing."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from alharness.cli import call
from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.executors.local import LocalExecutor
from alharness.files import read_toml
from alharness.pool.residency import SHARING
from alharness.records import RunFolder, run_folders
from alharness.spec import RunSpec
from alharness.tasks.base import DataLocations

#: Few cycles, one thread: seconds.
SMALL = ["--datasets", "digits-two", "--no-tracking", "--set", "budget=40", "--threads", "1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_run_that_fails_and_one_that_dies_stop_no_other(
    broken: Callable[[Path], object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken(tmp_path / "broken.py")
    strategies = "./broken.py:Raises,./broken.py:Dies,random"
    command = ["sweep", "--strategies", strategies, "--seeds", "0", *SMALL]
    assert call(command) == 1
    printed = capfd.readouterr()
    assert re.search(r"found KeyError: 'lost item' \(.*broken\.py, line 9\)", printed.err)
    assert "its process ended with signal SIGKILL" in printed.err
    assert "2 of 3 runs failed" in printed.err
    assert printed.out.count("finished  digits-two / random") == 1
    assert "1 of 3 runs are finished." in printed.out

    # The table tells of it; the failed runs would be tried again, and nothing else.
    assert call(["compare", *command[1:5], *SMALL[:2], *SMALL[3:5]]) == 0
    told = capfd.readouterr().out
    assert "Incomplete: 1 of 3 runs are finished; 2 failed" in told
    assert "KeyError: 'lost item'" in told
    assert call([*command, "--dry-run"]) == 0
    told = capfd.readouterr().out
    assert "3 runs, 1 finished, 2 to continue" in told


PATCHING = '''
from alharness import seeds
from alharness.strategy import PoolQuery, Strategy

plain = seeds.derive
seeds.derive = lambda seed, *names: plain(seed + 1, *names)  # at its import: no guard is up yet


class Patching(Strategy):
    """Whatever runs in its process after it has other random streams."""

    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[:query_size])
'''
CACHING = '''
import torch
from alharness.strategy import PoolQuery, Strategy


class Caching(Strategy):
    """Keeps the order that it drew first, for all later runs of its process."""

    order = None

    def select(self, view, query_size):
        if Caching.order is None:
            Caching.order = torch.randperm(view.pool.n, generator=view.torch_rng("order"))
        left = Caching.order[~torch.isin(Caching.order, view.available.taken)]
        return PoolQuery(left[:query_size].clone())
'''


class Mixed(NamedTuple):
    root: Path
    printed: str


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    """A sweep of foreign code and of ours, two seeds.

    Not by ``call``: who drives a sweep imports its plug-ins, too, and this process has other tests."""
    root = tmp_path_factory.mktemp("mixed")
    (root / "patching.py").write_text(PATCHING)
    (root / "caching.py").write_text(CACHING)
    command = ["sweep", "--seeds", "0,1", *SMALL, "--strategies"]
    command += ["./patching.py:Patching,./caching.py:Caching,random"]
    done = subprocess.run(
        [sys.executable, "-m", "alharness", *command],
        cwd=root,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Mixed(root, done.stdout)


def _alone(strategy: str, seed: int) -> list[dict[str, object]]:
    """Records of a run in this process."""
    named = ["--strategy", strategy, "--dataset", "digits-two", "--seed", str(seed), "--quiet"]
    assert call(["run", *named, "--budget", "40", "--no-tracking"]) == 0
    (records,) = _records(Path("runs")).values()
    return records


def test_what_a_plug_in_does_to_its_process_stays_with_its_runs(mixed: Mixed) -> None:
    assert _alone("random", 1) in _records(mixed.root).values()


def test_equal_specs_of_foreign_code_give_equal_records_alone_and_in_a_sweep(mixed: Mixed) -> None:
    """What a plug-in keeps in its class is there for one run: each has a process of its own."""
    Path("caching.py").write_text(CACHING)
    assert _alone("./caching.py:Caching", 1) in _records(mixed.root).values()


def test_runs_of_foreign_code_stand_among_the_others(mixed: Mixed) -> None:
    """The order of a sweep is kept, seed by seed: a busy minute meets plug-ins and built-ins alike."""
    ended = re.findall(r"finished  digits-two / (\S+)", mixed.printed)
    assert ended == ["./patching.py:Patching", "./caching.py:Caching", "random"] * 2


WAITING = '''
import time
from pathlib import Path

from alharness.strategy import PoolQuery, Strategy


class Waiting(Strategy):
    """Asks its second question once nothing holds it."""

    def select(self, view, query_size):
        while len(view.labelled) > 20 and Path("hold").exists():
            time.sleep(0.01)
        return PoolQuery(view.unlabelled[:query_size])
'''


@pytest.mark.usefixtures("sweeps_here")  # the one that continues
def test_a_killed_sweep_continues_and_gives_the_same_records(tmp_path: Path) -> None:
    Path("waiting.py").write_text(WAITING)
    Path("hold").touch()
    command = ["sweep", "--strategies", "random,./waiting.py:Waiting", "--seeds", "0-1", *SMALL]
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "alharness", *command, "--runs-dir", str(killed)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:  # the second run has begun when the first has ended
        if "finished  digits-two" in line:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()
    n_lines = _lines(killed)
    Path("hold").unlink()
    time.sleep(1.5)
    assert _lines(killed) <= n_lines + 1, "a worker went on without its driver"
    assert [folder.is_finished() for folder in run_folders(killed)].count(True) == 1

    assert call([*command, "--runs-dir", str(killed)]) == 0
    whole = tmp_path / "whole"
    for folder in run_folders(killed):
        spec = RunSpec.model_validate(read_toml(folder.spec))
        execute(spec, Places(whole, DataLocations.resolve()))
    assert _records(killed) == _records(whole)
    assert len(_records(whole)) == 4


def _lines(root: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in root.rglob("cycles.jsonl"))


def _records(root: Path) -> dict[str, list[dict[str, object]]]:
    return {
        str(folder.path.relative_to(root)): [record.without_times() for record in folder.records()]
        for folder in run_folders(root)
    }


def test_threads_follow_the_option_the_environment_and_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert LocalExecutor(jobs=2, threads=3).threads == 3
    assert LocalExecutor(jobs=2).threads == 1  # OMP_NUM_THREADS=1 above
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert LocalExecutor(jobs=2).threads == 4
    assert LocalExecutor(jobs=16).threads == 1


def test_workers_share_the_gpus_that_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = LocalExecutor(jobs=3, threads=1, n_gpus=2)
    shown = "CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv(shown, raising=False)
    assert [executor._environment(slot)[shown] for slot in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv(shown, "2,3")
    assert [executor._environment(slot)[shown] for slot in range(3)] == ["2", "3", "2"]
    monkeypatch.setenv(shown, "GPU-8f6e, MIG-17aa")
    assert [executor._environment(slot)[shown] for slot in range(2)] == ["GPU-8f6e", "MIG-17aa"]
    sharing = [executor._environment(0)[name] for name in SHARING.values()]
    assert sharing == ["3", "2"]  # on the machine, and on the fuller card
    monkeypatch.setenv(shown, "5")
    assert LocalExecutor(threads=1, n_gpus=1)._environment(0)[shown] == "5"


@pytest.mark.usefixtures("sweeps_here")
def test_a_sweep_tells_what_it_does_and_ends_with_a_command_that_works(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One run is damaged beforehand: it fails by its name, and the other is carried out."""
    runs = tmp_path / "my runs"
    command = ["--strategies", "random", "--seeds", "0-1", *SMALL[:2], *SMALL[3:]]
    small = ["sweep", *command, "--runs-dir", str(runs), "--no-tracking"]
    assert call([*small[:3], "--seeds", "0", *small[5:]]) == 0
    (folder,) = run_folders(runs)
    folder.cycles.write_text("{}\n")
    capfd.readouterr()
    assert call(small) == 1
    printed = capfd.readouterr()
    lines = printed.out.splitlines()
    assert lines[0] == "looking up the runs of these options ..."
    assert "2 runs, 0 finished" in lines[1]
    assert "starting 1 at once" in printed.out
    assert "0/2  started   digits-two / random / seed 0" in printed.out
    assert "is not a cycle record" in printed.err
    assert printed.out.count("finished  digits-two / random / seed 1") == 1
    report = shlex.split(lines[-1].removeprefix("Report:"))
    assert report[:2] == ["alharness", "report"]
    assert report[-2:] == ["--runs-dir", str(runs)]


def test_a_plan_is_carried_out_by_index(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = [
        "--strategies",
        "random",
        "--datasets",
        "digits-two",
        "--seeds",
        "0-1",
        "--set",
        "budget=30",
    ]
    assert call(["sweep", "plan", *options]) == 0
    assert (
        "sbatch --array=0-1 --wrap 'alharness sweep run-one plan.jsonl'" in capfd.readouterr().out
    )
    assert call(["sweep", "run-one", "plan.jsonl", "--index", "1"]) == 0
    (folder,) = run_folders(Path("runs"))
    assert RunFolder(folder.path).is_finished()
    assert call(["sweep", "plan", *options, "--out", "rest.jsonl"]) == 0
    assert "1 of 2 runs are left" in capfd.readouterr().out
    assert call(["sweep", "run-one", "rest.jsonl", "--index", "1"]) == 2
    assert "has runs 0 to 0" in capfd.readouterr().err
    assert call(["sweep", "run-one", "nowhere.json", "--index", "0"]) == 2
