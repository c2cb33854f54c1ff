"""A run folder with any file damaged: every command goes on or says in a line what is wrong.

The campaign: ``pytest tests/faults/test_damage.py -m slow`` (200 damages; ``ALHARNESS_DAMAGES=2000`` for
more).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alharness.cli import call
from alharness.files import read_toml
from alharness.records import run_folders

N_LONG = int(os.environ.get("ALHARNESS_DAMAGES", "200"))

RUN = "run --strategy random --dataset digits-two --device cpu --quiet --no-tracking --budget 30"
RUN += " --query-size 10 --initial-size 20 --runs-dir ROOT/runs"

#: What a user may give next.
COMMANDS = [
    f"{RUN} --seed 0",
    "compare ROOT/runs",
    "report ROOT/runs --out ROOT/report",
    "sync --runs-dir ROOT/runs --all",
    "list strategies",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, _mlflow_template: Path) -> Path:
    """Three finished runs, in MLflow too."""
    root = tmp_path_factory.mktemp("damage")
    for seed in range(3):
        assert call([*RUN.replace("ROOT", str(root)).split(), "--seed", str(seed)]) == 0
    shutil.copyfile(_mlflow_template, root / "runs" / "mlflow.db")
    return root


def damage(path: Path, rng: np.random.Generator) -> str:
    """Do to a file what disks, editors and people do."""
    content = bytearray(path.read_bytes())
    at = int(rng.integers(len(content) + 1))
    kinds = [
        "empty",
        "gone",
        "folder",
        "cut",
        "bit",
        "bytes",
        "line twice",
        "link",
        "text",
        "utf-16",
    ]
    kind = kinds[int(rng.integers(len(kinds)))]
    if kind in ("gone", "folder", "link"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(path.with_name("nowhere"))
        return kind
    if kind == "empty":
        content.clear()
    elif kind == "cut":
        del content[at:]
    elif kind == "bit" and content:
        content[at % len(content)] ^= 1 << int(rng.integers(8))
    elif kind == "bytes":
        content[at : at + 20] = rng.bytes(int(rng.integers(40)))
    elif kind == "line twice":
        lines = bytes(content).splitlines(keepends=True) or [b""]
        line = int(rng.integers(len(lines)))
        content = bytearray(b"".join([*lines[: line + 1], *lines[line:]]))
    elif kind == "text":
        content = bytearray(b"<<<<<<< HEAD\n")
    else:
        content = bytearray(bytes(content).decode("latin1").encode("utf-16"))
    path.write_bytes(content)
    return kind


@pytest.mark.timeout(3600)  # for the campaign
@pytest.mark.parametrize("times", [3, pytest.param(N_LONG, marks=pytest.mark.slow)])
def test_no_damage_of_a_runs_files_ends_in_a_traceback(
    made: Path, times: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    names = ["spec.toml", "env.json", "cycles.jsonl", "queries.npz", "lock"]
    for number in range(times):
        root = tmp_path / str(number)
        shutil.copytree(made, root)
        (folder,) = (f for f in run_folders(root / "runs") if read_toml(f.spec)["seed"] == 0)
        name = names[number % len(names)]
        (folder.path / name).touch()  # a lock is gone when nobody holds it
        kind = damage(folder.path / name, rng)
        others = contents(root, folder.path)
        for command in COMMANDS:
            capfd.readouterr()
            code = call(command.replace("ROOT", str(root)).split())
            told = capfd.readouterr().err
            where = f"{name}, {kind}, {command}: {told}"
            assert code in (0, 1, 2), where
            assert "Traceback" not in told, where
            assert code == 0 or told.count("\n") == 1, where
        assert contents(root, folder.path) == others, f"{name}, {kind}: another run was touched"
        shutil.rmtree(root)


def contents(root: Path, damaged: Path) -> dict[str, Any]:
    """The files of all runs but the damaged one."""
    return {
        str(path): path.read_bytes()
        for folder in run_folders(root / "runs")
        if folder.path != damaged
        for path in folder.path.iterdir()
        if path.name != "no-tracking" and path.is_file()
    }
