"""Times that were saved are a baseline on the machine that they come from, and nowhere else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCHMARK = """
import os, time

def test_sleep(benchmark):
    benchmark.pedantic(time.sleep, (float(os.environ["SLEEP"]),), rounds=3)
"""


def bench(folder: Path, sleep: float, *options: str) -> subprocess.CompletedProcess[str]:
    """The one benchmark of a folder, under the conftest of the real ones."""
    # Benchmarks are off inside a worker of pytest-xdist, which tells of itself by variables.
    outside = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "pytest.ini", "bench_sleep.py", *options],
        cwd=folder,
        env={**outside, "SLEEP": str(sleep)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_slower_step_fails_against_saved_times_of_this_machine_only(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    shutil.copy(root / "benchmarks" / "conftest.py", tmp_path)
    (tmp_path / "bench_sleep.py").write_text(BENCHMARK)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    compare = ("--benchmark-compare", "--benchmark-compare-fail=median:300%")

    saved = bench(tmp_path, 0.02, "--benchmark-save=before")
    assert saved.returncode == 0, saved.stdout + saved.stderr
    (file,) = (tmp_path / ".benchmarks").rglob("*.json")
    assert len(file.relative_to(tmp_path).parts) == 4  # .benchmarks, fingerprint, Python, file

    as_fast = bench(tmp_path, 0.02, *compare)
    assert as_fast.returncode == 0, as_fast.stdout + as_fast.stderr

    slower = bench(tmp_path, 0.5, *compare)
    assert slower.returncode != 0
    assert "Performance has regressed" in slower.stdout + slower.stderr

    foreign = json.loads(file.read_text())
    foreign["machine_info"]["alharness"]["cores"] = 1 + (os.cpu_count() or 0)
    file.write_text(json.dumps(foreign))
    refused = bench(tmp_path, 0.02, *compare)
    assert refused.returncode != 0
    assert "times of two machines do not compare" in refused.stdout + refused.stderr
