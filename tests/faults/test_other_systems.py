"""The main job without what only some systems have: alarms (Windows), /proc (macOS, Windows), fork (Windows).

Each is taken away from the command and from every process that it starts, before anything is imported. No
such system is here, so that what else it does otherwise is not seen; README says so.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alharness.records import read_runs

#: What is missing -> what every process does first.
MISSING = {
    "SIGALRM": """\
import signal
for name in ("SIGALRM", "setitimer", "getitimer", "alarm", "ITIMER_REAL", "pthread_sigmask"):
    delattr(signal, name)
""",
    "/proc": """\
import builtins, io, os, sys
def without(function):
    def refuse(path, *args, **kwargs):
        # psutil reads it where the system is Linux, and asks the kernel of another one.
        if sys._getframe(1).f_globals.get("__name__", "").startswith("psutil"):
            return function(path, *args, **kwargs)
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", os.fspath(path))
        return function(path, *args, **kwargs)
    return refuse
for module, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "scandir"), (os, "listdir"),
                     (os, "stat"), (os, "lstat")):
    setattr(module, name, without(getattr(module, name)))
""",
    "fork": """\
import os, socket
for name in ("fork", "forkpty"):
    delattr(os, name)
for name in ("send_fds", "recv_fds"):
    delattr(socket, name)
""",
}

MINE = """\
from alharness.strategy import ScoreStrategy

class Mine(ScoreStrategy):
    def score(self, log_probs):
        return -(log_probs.exp() ** 2).sum(dim=-1)
"""

SLOW = """\
import time
from alharness.strategy import PoolQuery, Strategy

class Slow(Strategy):
    follows_order = True

    def select(self, view, query_size):
        time.sleep(600)
"""

SMALL = ["--set", "budget=40", "--set", "min_steps=5", "--device", "cpu", "--no-tracking"]


#: What a system lacks.
SYSTEMS = {"macOS": ["/proc"], "Windows": ["SIGALRM", "/proc", "fork"]}
#: Each starts processes that import torch: in every suite the one that lacks what the other lacks, too.
EACH = [pytest.param("macOS", marks=pytest.mark.slow), "Windows"]


def alharness(folder: Path, system: str, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Commands in a process, and in processes of processes, that lack what a system lacks."""
    lacks = "".join(MISSING[name] for name in SYSTEMS[system])
    (folder / "sitecustomize.py").write_text(lacks)
    # Ours comes first; what the environment had there before is not of this test.
    code = f"import sys; from alharness.cli import call\nsys.exit(max(call(c) for c in {list(commands)}))"
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.parametrize("missing", MISSING)
def test_it_is_really_gone(missing: str, tmp_path: Path) -> None:
    """So that the tests below cannot pass for another reason."""
    (tmp_path / "sitecustomize.py").write_text(MISSING[missing])
    looked = {
        "SIGALRM": "import signal; signal.SIGALRM",
        "/proc": "open('/proc/self/status')",
        "fork": "import os; os.fork()",
    }
    done = subprocess.run(
        [sys.executable, "-c", looked[missing]],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0


@pytest.mark.parametrize("system", EACH)
def test_a_sweep_with_a_plugin_and_its_comparison_come_to_their_end(
    system: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    names = "random,margin,./mine.py:Mine"
    sweep = ["sweep", "--strategies", names, "--datasets", "digits-two", "--seeds", "0"]
    sweep += ["--jobs", "2", *SMALL]
    done = alharness(tmp_path, system, sweep, ["compare", "--at", "40"])
    assert done.returncode == 0, done.stderr
    assert "3 of 3 runs are finished" in done.stdout
    assert done.stderr == ""
    assert all(run.finished for run in read_runs(tmp_path / "runs"))
    table = done.stdout.partition("3 of 3 runs are finished")[2]
    assert all(f"{name} " in table for name in ("random", "margin", "./mine.py:Mine"))


@pytest.mark.parametrize("system", EACH)
def test_a_selection_that_never_ends_is_ended_all_the_same(system: str, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        SLOW.replace("time.sleep(600)", "[time.sleep(.01) for _ in range(60_000)]")
    )
    run = ["run", "./slow.py:Slow", "digits-two", "--select-timeout", "1", *SMALL]
    done = alharness(tmp_path, system, run)
    # Without an alarm nothing raises in the selection: the process is ended from outside.
    assert done.returncode in (2, -signal.SIGKILL), done.stderr
    assert "within 1 s (--select-timeout)" in done.stderr
