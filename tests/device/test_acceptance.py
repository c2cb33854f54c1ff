"""The acceptance command, dry: every figure on the pretended device, so that it works on a real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ROOT / "benchmarks" / "gpu_acceptance.py"

Done = subprocess.CompletedProcess[str]


#: Packages of a machine with a card, and (the last line) those that ``gpu_carry.sh`` brings there.
BARE = """
alharness click cloudpickle contourpy cycler filelock fonttools fsspec jinja2 joblib kiwisolver markdown-it-py
markupsafe matplotlib mdurl mpmath networkx numpy packaging pandas pillow pip pluggy iniconfig psutil pyarrow
pygments pyparsing pytest python-dateutil rich safetensors scikit-learn scipy setuptools six sympy
narwhals threadpoolctl torch torchvision triton typing-extensions tzdata
pydantic pydantic-core annotated-types typing-inspection tomli-w
"""
#: Finds none of these, from the beginning on.
IMITATION = """
import sys
from importlib.machinery import PathFinder

HIDDEN = {hidden!r}

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
"""


def imitation(folder: Path) -> str:
    """A PYTHONPATH under which nothing is found that a bare machine lacks."""
    bare = set(BARE.split())
    hidden = {
        name
        for name, made_by in packages_distributions().items()
        if not any(one.lower().replace("_", "-") in bare for one in made_by)
        and name not in sys.stdlib_module_names
        and not name.startswith(("nvidia", "cuda", "torch"))
    }
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(IMITATION.format(hidden=hidden))
    return f"{folder}{os.pathsep}{ROOT}"


def accept(*calls: Sequence[object], path: str = str(ROOT), first: str = "") -> Done:
    """Calls of the command, one after the other in one process: importing torch takes seconds.

    Args:
        path: PYTHONPATH.
        first: code before them.
    """
    code = f"import sys; sys.path.insert(0, {str(COMMAND.parent)!r})\n{first}\n"
    code += "from gpu_acceptance import main\n"
    code += f"sys.exit(max(main(call) for call in {[[str(one) for one in c] for c in calls]!r}))"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def written(out: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Heads and figures."""
    found = [json.loads(line) for line in (out / "figures.jsonl").read_text().splitlines()]
    return [row for row in found if "figure" not in row], [r for r in found if "figure" in r]


def check_what_is_written(out: Path) -> None:
    (head, *_), rows = written(out)
    assert head["dry"]
    assert "pretended" in head["hardware"]["gpu"]
    assert {"torch", "numpy", "alharness"} <= set(head["versions"])
    table = (out / "figures.txt").read_text()
    for row in rows:
        assert row["figure"] in table
        assert row["verdict"] in ("met", "not judged", "not measured"), row
        assert row["note"] or row["verdict"] != "not measured"
        assert row["over"] > 0
        if row["value"] is not None:  # a number of a pretended device is not judged
            assert row["verdict"] == "not judged"
    assert any(row["verdict"] != "not measured" for row in rows)


def test_what_is_worth_most_comes_first_and_a_second_call_adds_to_the_first(tmp_path: Path) -> None:
    """Where a bare machine is imitated: nothing can be imported that it lacks."""
    path = imitation(tmp_path / "imitation")
    out = ["--out", tmp_path / "out", "--dry", "--commit", "abc", "--only", "captured search"]
    more = ["--only", "MLflow is not", "--only", "captured fit"]
    done = accept(out, [*out, *more], path=path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_what_is_written(tmp_path / "out")
    heads, rows = written(tmp_path / "out")
    names = [row["figure"] for row in rows]
    assert names == [
        "captured search = eager",
        "captured fit = eager",
        "MLflow is not needed",
    ]
    assert len(heads) == 2
    assert {row["commit"] for row in rows} == {"abc"}


@pytest.mark.slow
def test_all_figures_in_an_imitation_of_a_bare_machine(tmp_path: Path) -> None:
    path = imitation(tmp_path / "imitation")
    done = accept(["--out", tmp_path / "out", "--dry", "--budget", "3600"], path=path)
    assert done.returncode == 0, done.stdout + done.stderr
    check_what_is_written(tmp_path / "out")


MADE_UP = """
import os, sys, time
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from acceptance.report import *

def broken(place): raise ValueError("no")
def absent(place): raise NotMeasuredError("there is none")
def dead(place): os._exit(7)  # as a card's sticky error may end it
def endless(place): time.sleep(600)

def verdicts(dry, budget_s, *figures):
    out = Path(sys.argv[1]) / str(time.monotonic_ns())
    report = Report(out, out, dry=dry, budget_s=budget_s)
    for figure in figures:
        report.measure(figure)
    return [row["verdict"] for row in report.rows.values()], report.close()

assert verdicts(True, 60.0,
    Figure("a", lambda p: holds(True, "t", over=2)),
    Figure("b", lambda p: holds(False, "t", over=2)),
    Figure("c", broken),
    Figure("d", dead),
    Figure("e", absent),
    Figure("f", lambda p: at_most(2, 1, "s")),
    Figure("g", lambda p: holds(True, "t", over=0)),
) == (["met", "missed", "failed", "failed", "not measured", "not judged", "failed"], 1)
assert verdicts(True, 60.0, Figure("a", lambda p: holds(True, "t", over=2))) == (["met"], 0)
assert verdicts(True, 60.0) == ([], 1), "nothing was measured"
assert verdicts(True, 2.0, Figure("a", endless)) == (["failed"], 1)
"""


def test_each_figure_is_found_by_itself_and_nothing_is_met_over_nothing(tmp_path: Path) -> None:
    paths = [str(ROOT / part) for part in ("", "strategies", "benchmarks", "tests/device")]
    done = subprocess.run(
        [sys.executable, "-c", MADE_UP, str(tmp_path), *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_where_nothing_is_installed_it_stops_before_anything_is_measured(tmp_path: Path) -> None:
    nothing = "from alharness import registry; registry.names = lambda group: []"
    done = accept(["--dry", "--out", tmp_path], first=nothing)
    assert done.returncode == 2
    assert "only 0 strategies are found: alharness is not installed" in done.stderr
    assert not (tmp_path / "figures.jsonl").exists()


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = accept(["--out", tmp_path])
    assert done.returncode == 2
    assert "--dry" in done.stderr
    assert "Traceback" not in done.stderr
