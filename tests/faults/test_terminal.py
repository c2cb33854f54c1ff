"""Nobody looks on: standard output is closed, full or left; and SIGTERM ends all that a command started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from alharness.records import run_folders

RUN = ["run", "--strategy", "random", "--dataset", "digits-two", "--no-tracking"]
RUN += ["--budget", "40", "--query-size", "10", "--initial-size", "20", "--device", "cpu"]


def shell(command: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """A line of a shell, in which ``$A`` is alharness and ``$RUN`` a small run."""
    environment = {
        **os.environ,
        "A": f"{sys.executable} -m alharness",
        "RUN": " ".join([*RUN, "--runs-dir", str(tmp_path)]),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("$A $RUN <&- >&- 2>&-", 0),
        ("$A $RUN >/dev/full", 1),
        ("$A $RUN >/dev/full 2>/dev/full", 1),
    ],
)
def test_a_run_goes_on_without_a_terminal(command: str, code: int, tmp_path: Path) -> None:
    """The exit code tells of the run: 0 is one that is finished; lost output is 1 and a line."""
    done = shell(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (folder,) = run_folders(tmp_path)
    assert [record.n_labelled for record in folder.records()] == [20, 30, 40]
    if code and "2>" not in command:
        assert "standard output was lost: No space left on device" in done.stderr


def test_a_closed_descriptor_is_never_a_file_of_ours(tmp_path: Path) -> None:
    """What a library or a child prints would stand in it."""
    code = (
        "import os; from alharness.cli.output import open_descriptors; open_descriptors(); "
        f"file = os.open({str(tmp_path / 'x')!r}, os.O_CREAT | os.O_WRONLY); os._exit(file < 3)"
    )
    assert (
        subprocess.run(["bash", "-c", f'{sys.executable} -c "{code}" <&- >&- 2>&-']).returncode == 0
    )


SERVER = """
import subprocess, sys, time
from alharness.cli.tracking import _serve
from alharness.errors import end_on_sigterm
end_on_sigterm()
inner = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']); "
    "print('up', flush=True); time.sleep(99)"
)
_serve([sys.executable, "-c", inner], {})
"""


def test_sigterm_ends_a_server_with_all_its_processes() -> None:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    _, left = psutil.wait_procs(below, timeout=300)
    assert left == []


def test_sigterm_ends_the_workers_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom alharness.strategy import PoolQuery, Strategy\n"
        "class Slow(Strategy):\n"
        "    def select(self, view, query_size):\n"
        "        time.sleep(1)\n        return PoolQuery(view.unlabelled[:query_size])\n"
    )
    command = [sys.executable, "-u", "-m", "alharness", "sweep", "--strategies", "./slow.py:Slow"]
    command += ["--datasets", "digits-two", "--seeds", "0-1", "--jobs", "2", "--no-tracking"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "started" in line:
            break
    below = psutil.Process(process.pid).children(recursive=True)
    assert below
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    assert process.wait() == 143
    _, left = psutil.wait_procs(below, timeout=300)
    assert left == []
