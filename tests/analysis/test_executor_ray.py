"""A sweep on a Ray cluster of this machine, with a worker killed in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from alharness.cli import call
from alharness.files import read_toml
from alharness.records import run_folders
from alharness.run.opening import Places
from alharness.run.runner import execute
from alharness.spec import RunSpec
from alharness.tasks.base import DataLocations

pytest.importorskip("ray", reason="the Ray executor needs: pip install 'alharness[ray]'")

#: Takes its worker with it in cycle 2, once.
FRAGILE = '''
import os, signal
from pathlib import Path
from alharness.strategy import PoolQuery, Strategy

class Fragile(Strategy):
    """Kills its worker once."""
    def select(self, view, query_size):
        marker = Path(__file__).with_name("killed")
        if view.cycle == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return PoolQuery(view.unlabelled[:query_size])
'''


@pytest.mark.slow
def test_a_lost_worker_is_replaced_and_the_records_are_those_of_a_local_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fragile.py").write_text(FRAGILE)
    runs = tmp_path / "runs"
    strategies = f"{tmp_path / 'fragile.py'}:Fragile,random"
    command = ["sweep", "--strategies", strategies, "--datasets", "digits-two", "--seeds", "0-1"]
    command += ["--no-tracking", "--set", "budget=60", "--runs-dir", str(runs)]
    assert call([*command, "--executor", "ray", "--jobs", "2"]) == 0
    assert (tmp_path / "killed").exists()
    assert "4 of 4 runs are finished" in capfd.readouterr().out
    folders = run_folders(runs)
    assert len(folders) == 4
    sessions = {len(folder.environment()["sessions"]) for folder in folders}
    assert sessions == {1, 2}, "the run whose worker died was continued in a second session"
    for folder in folders:
        spec = RunSpec.model_validate(read_toml(folder.spec))
        again = execute(spec, Places(tmp_path / "local", DataLocations.resolve()))
        assert [r.without_times() for r in again.records()] == [
            r.without_times() for r in folder.records()
        ]
