"""Times that were saved are a baseline on the machine that they come from, and nowhere else."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

BENCHMARK = """
import os, time

def test_sleep(benchmark):
    benchmark.pedantic(time.sleep, (float(os.environ["SLEEP"]),), rounds=3)
"""


class Done(NamedTuple):
    returncode: int
    output: str


def bench(folder: Path, sleep: float, *options: str) -> Done:
    """The one benchmark of a folder, under the conftest of the real ones; in a fork, which has torch."""
    log = folder / "log.txt"
    child = os.fork()
    if child == 0:
        status = 70
        try:
            with log.open("wb") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # not pytest's own
            os.chdir(folder)
            os.environ["SLEEP"] = str(sleep)
            # Benchmarks are off inside a worker of pytest-xdist, which tells of itself by variables.
            for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
                del os.environ[name]
            status = pytest.main(["-q", "-c", "pytest.ini", "bench_sleep.py", *options])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return Done(os.waitstatus_to_exitcode(ended), log.read_text())


@pytest.mark.slow  # it is about 'tox -e bench', and starts it four times
def test_a_slower_step_fails_against_saved_times_of_this_machine_only(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    shutil.copy(root / "benchmarks" / "conftest.py", tmp_path)
    (tmp_path / "bench_sleep.py").write_text(BENCHMARK)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    compare = ("--benchmark-compare", "--benchmark-compare-fail=median:300%")

    saved = bench(tmp_path, 0.02, "--benchmark-save=before")
    assert saved.returncode == 0, saved.output
    (file,) = (tmp_path / ".benchmarks").rglob("*.json")
    assert len(file.relative_to(tmp_path).parts) == 4  # .benchmarks, fingerprint, Python, file

    as_fast = bench(tmp_path, 0.02, *compare)
    assert as_fast.returncode == 0, as_fast.output

    slower = bench(tmp_path, 0.5, *compare)
    assert slower.returncode != 0
    assert "Performance has regressed" in slower.output

    foreign = json.loads(file.read_text())
    foreign["machine_info"]["alharness"]["cores"] = 1 + (os.cpu_count() or 0)
    file.write_text(json.dumps(foreign))
    refused = bench(tmp_path, 0.02, *compare)
    assert refused.returncode != 0
    assert "times of two machines do not compare" in refused.output
