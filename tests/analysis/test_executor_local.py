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


def test_what_a_plug_in_does_to_its_process_stays_with_its_runs(tmp_path: Path) -> None:
    """In processes of their own: who drives a sweep imports its plug-ins, too."""
    (tmp_path / "patching.py").write_text(PATCHING)

    chosen = ["sweep", "--seeds", "0,1", *SMALL]
    assert call([*chosen, "--strategies", "random"]) == 0
    mixed = [*chosen, "--strategies", "./patching.py:Patching,random", "--runs-dir", "mixed"]
    # Not by call: whoever plans it may import the plug-in, and this process has other tests.
    subprocess.run([sys.executable, "-m", "alharness", *mixed], check=True)

    def asked(root: str) -> dict[str, list[str]]:
        return {
            folder.path.name: [record.query.digest for record in folder.records() if record.query]
            for folder in run_folders(tmp_path / root)
            if folder.path.parent.name == "random"
        }

    assert len(asked("runs")) == 2
    assert asked("mixed") == asked("runs")


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


def test_equal_specs_of_foreign_code_give_equal_records_alone_and_in_a_sweep(
    tmp_path: Path,
) -> None:
    """What a plug-in keeps in its class is there for one run: each has a process of its own."""
    (tmp_path / "caching.py").write_text(CACHING)
    chosen = ["--strategies", "./caching.py:Caching", *SMALL]
    for root, seeds in (("swept", "0,1"), ("alone", "1")):
        assert call(["sweep", *chosen, "--seeds", seeds, "--runs-dir", root]) == 0
    (alone,) = _records(tmp_path / "alone").items()
    assert _records(tmp_path / "swept")[alone[0]] == alone[1]


def test_a_killed_sweep_continues_and_gives_the_same_records(tmp_path: Path) -> None:
    command = ["sweep", "--strategies", "random,max-entropy", "--seeds", "0-2", *SMALL]
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
    time.sleep(1.5)
    assert _lines(killed) <= n_lines + 1, "a worker went on without its driver"
    assert (
        not all(folder.is_finished() for folder in run_folders(killed))
        or len(run_folders(killed)) < 6
    )

    assert call([*command, "--runs-dir", str(killed)]) == 0
    whole = tmp_path / "whole"
    for folder in run_folders(killed):
        spec = RunSpec.model_validate(read_toml(folder.spec))
        execute(spec, Places(whole, DataLocations.resolve()))
    assert _records(killed) == _records(whole)
    assert len(_records(whole)) == 6


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


def test_runs_of_foreign_code_stand_among_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The order of a sweep is kept: a busy minute meets plug-ins and built-ins alike."""
    (tmp_path / "mine.py").write_text(
        "from alharness.strategy import PoolQuery, Strategy\n\n\n"
        "class First(Strategy):\n"
        '    """The first items."""\n\n'
        "    def select(self, view, query_size):\n"
        "        return PoolQuery(view.unlabelled[:query_size])\n"
    )
    strategies = "./mine.py:First,random"
    assert call(["sweep", "--strategies", strategies, "--seeds", "0-1", *SMALL]) == 0
    ended = re.findall(r"finished  digits-two / (\S+)", capfd.readouterr().out)
    # Seed by seed, as the sweep has them.
    assert ended == ["./mine.py:First", "random", "./mine.py:First", "random"]
