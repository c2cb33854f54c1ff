"""The field's studies: every spec becomes runs whose names are found, and nothing is carried out."""

from __future__ import annotations

import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pytest

from alharness.executors.sweep_files import read_sweep
from alharness.executors.sweeps import Choices, expand

ROOT = Path(__file__).parents[2]
SPECS = sorted((ROOT / "benchmarks" / "specs" / "field").glob("*.toml"))
FIELD = runpy.run_path(str(ROOT / "benchmarks" / "field.py"))


def test_there_are_three_regimes_and_the_field() -> None:
    names = {path.stem for path in SPECS}
    assert {"regime-low", "regime-medium", "regime-high", "thirteen"} <= names


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_of_the_field_becomes_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("small_text", "skactiveml"):
        used = package.replace("_", "-") in path.read_text(encoding="utf-8")
        if used and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    FIELD["write_tables"](Path("tables"))
    rows, targets = np.zeros((20, 4), np.float32), np.arange(20) % 10
    for name in FIELD["files_of"](path):
        if not Path(name).exists():  # stand-ins: nothing is read of them but that they are there
            Path(name).parent.mkdir(exist_ok=True)
            with Path(name).open("wb") as file:
                np.savez(file, x_train=rows, y_train=targets, x_test=rows, y_test=targets)
    sweep = read_sweep(path)
    jobs = expand(sweep, Choices(seeds=(0,)), Path("runs"))
    assert len({job.spec.run_key for job in jobs}) == len(jobs) > 4


def test_a_study_without_its_data_is_left_out_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert FIELD["main"](["regime-low", "--", "--dry-run"]) == 1
    told = capsys.readouterr().out
    assert "left out: 'regime-low' needs embeddings/cifar10.npz" in told
    assert FIELD["main"](["regime-los"]) == 2
    assert "No study 'regime-los'" in capsys.readouterr().out
