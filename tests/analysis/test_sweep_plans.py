"""Plans for job arrays: numbers that keep their runs, devices that are settled where a run starts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch

from alharness.cli import call
from alharness.executors.plans import as_array
from alharness.executors.sweeps import Choices, Sweep, expand, standing
from alharness.records import run_folders

PLAN = ["sweep", "plan", "--strategies", "random,margin", "--datasets", "digits-two"]
SMALL = ["--set", "budget=30", "--set", "initial_size=20"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def named(path: str = "plan.json") -> list[str]:
    """The runs of a plan in words, by number."""
    runs = json.loads(Path(path).read_text())["runs"]
    return [f"{run['strategy']['name']} {run['seed']}" for run in runs]


def test_a_plan_that_is_made_again_keeps_the_numbers_of_an_array_that_waits(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert call([*PLAN, "--seeds", "0-1", *SMALL]) == 0
    first = named()
    assert "--array=0-3 " in capfd.readouterr().out
    assert call(["sweep", "run-one", "plan.json", "--index", "1"]) == 0
    capfd.readouterr()

    assert call([*PLAN, "--seeds", "0-2", *SMALL]) == 0
    out = capfd.readouterr().out
    assert "plan.json: 5 of 6 runs are left" in out
    assert "--array=0,2-5 " in out
    assert named()[:4] == first
    assert named()[4:] == ["random 2", "margin 2"]
    # Of another sweep over the same file: appended, and only its own numbers are asked for.
    assert call([*PLAN[:3], "full", *PLAN[4:], "--seeds", "0", *SMALL]) == 0
    assert "--array=6 " in capfd.readouterr().out
    assert named()[:4] == first


def test_numbers_are_written_as_slurm_reads_them() -> None:
    assert as_array([0]) == "0"
    assert as_array([0, 1, 2, 3]) == "0-3"
    assert as_array([0, 2, 3, 7]) == "0,2-3,7"


def test_the_printed_command_works_as_it_stands(capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--out", "my plan's.json", "--runs-dir", "my runs"]
    assert call([*PLAN, "--seeds", "0", *SMALL, *options]) == 0
    batch = shlex.split(capfd.readouterr().out.splitlines()[-1])
    assert batch[:2] == ["sbatch", "--array=0-1"]
    carried = shlex.split(batch[3])
    assert carried[0] == "alharness"
    assert call([*carried[1:], "--index", "0"]) == 0
    assert len(run_folders(Path("my runs"))) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not a plan"),
        ('{"runs": 3, "runs_dir": "x"}', "is not a plan"),
        ('{"runs": [], "runs_dir": "/elsewhere"}', "Choose another --out"),
    ],
)
def test_a_file_that_an_array_may_wait_for_is_not_written_over(
    content: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("plan.json").write_text(content)
    assert call([*PLAN, "--seeds", "0", *SMALL]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert told in line
    assert Path("plan.json").read_text() == content


def test_an_open_device_stays_open_until_a_worker_takes_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The login node has no GPU, the worker may have one; what ran there counts as finished."""
    assert call([*PLAN, "--seeds", "0", *SMALL]) == 0
    assert {run["device"] for run in json.loads(Path("plan.json").read_text())["runs"]} == {"auto"}
    assert call(["sweep", "run-one", "plan.json", "--index", "0"]) == 0
    sweep = Sweep(
        base={"task": "digits-two", "budget": 30, "initial_size": 20},
        runs=[{"strategy": "random", "seed": 0}],
    )
    (job,) = expand(sweep, Choices(), Path("runs"), elsewhere=True)
    assert job.portable()["device"] == "auto"
    (folder,) = run_folders(Path("runs"))
    assert standing([job]).left == ()
    # As if a worker had carried it out on a GPU.
    on_gpu = job.on("cuda").folder
    assert on_gpu.path != folder.path
    folder.path.rename(on_gpu.path)
    assert [run.folder.path for run in standing([job]).finished] == [on_gpu.path]
    assert job.present().folder.path == on_gpu.path, "a report finds it"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the worker lacks")
def test_a_plan_for_gpus_is_made_anywhere_and_refused_where_there_is_none(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert call([*PLAN, "--seeds", "0", *SMALL, "--device", "cuda"]) == 0
    capfd.readouterr()
    assert call(["sweep", "run-one", "plan.json", "--index", "0"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line]
    assert "No CUDA device" in line
