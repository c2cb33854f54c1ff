"""A sweep on a Ray cluster of this machine, with a worker killed in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from alharness.cli import call
from alharness.records import run_folders
from alharness.runner import Places, execute
from alharness.spec import RunSpec, read_toml
from alharness.tasks.base import DataLocations

pytest.importorskip("ray", reason="the Ray executor needs: pip install 'alharness[ray]'")

#: Takes its worker with it in cycle 2, once; and a worker that is told to go, as a preempted one is.
FRAGILE = '''
import os, signal, time
from pathlib import Path
from alharness.strategy import PoolQuery, Strategy

class Fragile(Strategy):
    """Kills its worker once."""
    number = signal.SIGKILL
    def select(self, view, query_size):
        marker = Path(__file__).with_name(f"lost-{self.number.name}")
        if view.cycle == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), self.number)
            time.sleep(20)
        return PoolQuery(view.unlabelled[:query_size])

class Preempted(Fragile):
    """Is told to go, once."""
    number = signal.SIGTERM

class Doomed(Strategy):
    """Kills its worker every time."""
    def select(self, view, query_size):
        os.kill(os.getpid(), signal.SIGKILL)
'''


def test_lost_and_preempted_workers_are_replaced_and_a_hopeless_run_stops_no_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    runs = tmp_path / "runs"
    names = [f"{tmp_path / 'fragile.py'}:{name}" for name in ("Fragile", "Preempted", "Doomed")]
    command = ["sweep", "--strategies", ",".join([*names, "random"]), "--datasets", "digits-two"]
    command += ["--seeds", "0", "--no-tracking", "--set", "budget=80", "--runs-dir", str(runs)]
    assert call([*command, "--executor", "ray", "--jobs", "2", "--retries", "1"]) == 1
    assert (tmp_path / "lost-SIGKILL").exists()
    assert (tmp_path / "lost-SIGTERM").exists()
    printed = capfd.readouterr()
    assert "3 of 4 runs are finished" in printed.out
    (line,) = [text for text in printed.err.splitlines() if "  failed  " in text]
    assert "Doomed / seed 0: its worker was lost after 1 new starts" in line
    finished = [folder for folder in run_folders(runs) if folder.is_finished()]
    sessions = sorted(len(folder.environment()["sessions"]) for folder in finished)
    assert sessions == [1, 2, 2], "a run whose worker was lost is continued, not begun again"
    for folder in finished:
        spec = RunSpec.model_validate(read_toml(folder.spec))
        again = execute(spec, Places(tmp_path / "local", DataLocations.resolve()))
        assert [r.without_times() for r in again.records()] == [
            r.without_times() for r in folder.records()
        ]
    # Ray by itself would wait for ever.
    assert call([*command, "--executor", "ray", "--jobs", "1", "--threads", "4096"]) == 2
    (line,) = [text for text in capfd.readouterr().err.splitlines() if text]
    assert "No node of the Ray cluster" in line
    assert "4096 cores" in line
