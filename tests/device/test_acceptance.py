"""The acceptance command, dry: every stage on the pretended device, so that it works on a real one."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / "benchmarks" / "gpu_acceptance.py"


def lines(out: Path, stage: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    head, *rows = map(json.loads, (out / f"{stage}.jsonl").read_text().splitlines())
    return head, rows


def check_what_is_written(out: Path, stage: str) -> None:
    head, rows = lines(out, stage)
    assert head["dry"]
    assert "pretended" in head["hardware"]["gpu"]
    assert {"torch", "numpy", "alharness"} <= set(head["versions"])
    table = (out / f"{stage}.txt").read_text()
    for row in rows:
        assert row["figure"] in table
        assert row["verdict"] in ("met", "not judged", "not measured"), row
        assert row["note"] or row["verdict"] != "not measured"
        if row["value"] is not None:  # a number of a pretended device is not judged
            assert row["verdict"] == "not judged"
    assert any(row["verdict"] != "not measured" for row in rows)
    assert len(list(out.iterdir())) <= 8


def test_the_stage_of_equalities_as_a_user_types_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(COMMAND), "--dry", "--stage", "tests", "--out", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check_what_is_written(tmp_path, "tests")


#: One generator's critic is normalised by layers and differentiated twice.
NORMALISED = pytest.mark.skipif(
    not hasattr(torch, "accelerator"),
    reason="before torch 2.6 a layer norm is not differentiated twice on the pretended device",
)


@pytest.mark.parametrize("stage", [pytest.param("speed", marks=NORMALISED), "runs"])
def test_a_stage(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # the command adds to it
    found = importlib.util.spec_from_file_location("gpu_acceptance", COMMAND)
    assert found is not None
    assert found.loader is not None
    command = importlib.util.module_from_spec(found)
    found.loader.exec_module(command)
    assert command.main(["--dry", "--stage", stage, "--out", str(tmp_path)]) == 0
    check_what_is_written(tmp_path, stage)


def test_a_missed_target_is_told_by_the_exit_code(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]; from pathlib import Path\n"
        "from pretended_cuda import pretended_cuda\n"
        "from acceptance.report import *\n"
        "def broken(place): raise ValueError('no')\n"
        "def absent(place): raise NotMeasuredError('there is none')\n"
        "with pretended_cuda():\n"
        "    for verdict, measure in [('met', lambda p: holds(True, 't')), ('missed', lambda p: "
        "holds(False, 't')), ('failed', broken), ('not measured', absent), ('not judged', "
        "lambda p: at_most(2, 1, 's'))]:\n"
        "        report = Report('tests', Path(sys.argv[1]), Path(sys.argv[1]), dry=True)\n"
        "        report.measure(Figure('f', measure))\n"
        "        assert report.rows[0]['verdict'] == verdict, report.rows\n"
        "        assert report.close() == (verdict in ('missed', 'failed'))\n"
        "    report = Report('tests', Path(sys.argv[1]), Path(sys.argv[1]), dry=False)\n"
        "    report.measure(Figure('slow', lambda p: at_most(2, 1, 's')))\n"
        "    report.measure(Figure('long', lambda p: at_most(1, 2, 's'), needs_s=600))\n"
        "    assert [row['verdict'] for row in report.rows] == ['missed', 'not measured']\n"
    )
    paths = [str(ROOT / part) for part in ("", "strategies", "benchmarks", "tests/device")]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *paths], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run(
        [sys.executable, str(COMMAND), "--out", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--dry" in done.stderr
    assert "Traceback" not in done.stderr
