"""Plans for job arrays: numbers that keep their runs, devices that are settled where a run starts."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from alharness.cli import call
from alharness.errors import UserError
from alharness.executors import plans
from alharness.executors.plans import as_array, extend_plan, job_of_plan
from alharness.executors.sweep_files import Sweep
from alharness.executors.sweeps import Choices, expand, standing
from alharness.records import run_folders
from alharness.spec import resolve

PLAN = ["sweep", "plan", "--strategies", "random,margin", "--datasets", "digits-two"]
SMALL = ["--set", "budget=30", "--set", "initial_size=20"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def planned(path: str = "plan.jsonl") -> list[dict[str, Any]]:
    """The runs of a plan, by number."""
    _, *lines = map(json.loads, Path(path).read_text().splitlines())
    assert [line["index"] for line in lines] == [*range(len(lines))]
    return [line["run"] for line in lines]


def named(path: str = "plan.jsonl") -> list[str]:
    """The same in words."""
    runs = planned(path)
    return [f"{run['strategy']['name']} {run['seed']}" for run in runs]


def test_a_plan_that_is_made_again_keeps_the_numbers_of_an_array_that_waits(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert call([*PLAN, "--seeds", "0-1", *SMALL]) == 0
    first = named()
    assert "--array=0-3 " in capfd.readouterr().out
    assert call(["sweep", "run-one", "plan.jsonl", "--index", "1"]) == 0
    capfd.readouterr()

    assert call([*PLAN, "--seeds", "0-2", *SMALL]) == 0
    out = capfd.readouterr().out
    assert "plan.jsonl: 5 of 6 runs are left" in out
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
        ('{"plan": 2, "runs_dir": "/elsewhere"}\n', "Choose another --out"),
        ('{"plan": 9, "runs_dir": "/elsewhere"}\n', "is of a later version"),
    ],
)
def test_a_file_that_an_array_may_wait_for_is_not_written_over(
    content: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("plan.jsonl").write_text(content)
    assert call([*PLAN, "--seeds", "0", *SMALL]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert told in line
    assert Path("plan.jsonl").read_text() == content


def test_an_open_device_stays_open_until_a_worker_takes_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The login node has no GPU, the worker may have one; what ran there counts as finished."""
    assert call([*PLAN, "--seeds", "0", *SMALL]) == 0
    assert {run["device"] for run in planned()} == {"auto"}
    assert call(["sweep", "run-one", "plan.jsonl", "--index", "0"]) == 0
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
    on_gpu.spec.write_text(on_gpu.spec.read_text().replace('device = "cpu"', 'device = "cuda"'))
    records = [json.loads(line) for line in on_gpu.cycles.read_text().splitlines()]
    plain = [{**r, "files": None, "rows": None} for r in records if r.pop("chain")]
    on_gpu.cycles.write_text("".join(json.dumps(record) + "\n" for record in plain))
    assert [run.folder.path for run in standing([job]).finished] == [on_gpu.path]
    assert job.present().folder.path == on_gpu.path, "a report finds it"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what the worker lacks")
def test_a_plan_for_gpus_is_made_anywhere_and_refused_where_there_is_none(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert call([*PLAN, "--seeds", "0", *SMALL, "--device", "cuda"]) == 0
    capfd.readouterr()
    assert call(["sweep", "run-one", "plan.jsonl", "--index", "0"]) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line]
    assert "No CUDA device" in line


def test_a_plan_of_an_earlier_version_keeps_its_numbers() -> None:
    assert call([*PLAN, "--seeds", "0-1", *SMALL]) == 0
    runs = planned()[::-1]
    old = {"sweep": "x", "runs_dir": str(Path("runs").resolve()), "runs": runs}
    Path("old.json").write_text(json.dumps(old, indent=2))
    assert job_of_plan(Path("old.json"), 1).spec.seed == runs[1]["seed"]
    assert call([*PLAN, "--seeds", "0-2", *SMALL, "--out", "old.json"]) == 0
    assert planned("old.json")[:4] == runs
    assert named("old.json")[4:] == ["random 2", "margin 2"]


@pytest.mark.parametrize("text", ['"plan"', '["plan"]', "5", "null", "{}", '{"plan": 2}'])
def test_json_that_is_no_plan_is_refused(text: str) -> None:
    Path("other.json").write_text(text)
    with pytest.raises(UserError, match=r"'other.json' is not a plan"):
        job_of_plan(Path("other.json"), 0)


def test_a_task_reads_little_of_a_long_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are of any length; each number finds its own, and others find none."""
    sweep = Sweep(
        base={"task": "digits-two", "budget": 30},
        runs=[{"strategy": ["random", "margin"], "seed": "0-499"}],
    )
    path = Path("long.jsonl")
    assert extend_plan(path, "x", Path("runs"), expand(sweep, Choices(), Path("runs"))) == [
        *range(1000)
    ]
    read: list[bytes] = []
    parsed = plans._parsed
    monkeypatch.setattr(
        plans, "_parsed", lambda line, path: read.append(line) or parsed(line, path)
    )
    for index in (0, 1, 499, 998, 999):
        read.clear()
        assert job_of_plan(path, index).spec == job_of_plan(path, index).spec
        assert len(read) <= 2 * 11, "halving a thousand lines, twice"
        assert json.loads(read[-1])["index"] == index
    with pytest.raises(UserError, match="has runs 0 to 999; found --index 1000"):
        job_of_plan(path, 1000)


def test_runs_that_differ_in_their_seeds_alone_are_what_each_would_be_by_itself() -> None:
    sweep = Sweep(
        base={"task": "digits-two", "budget": [30, 40]},
        runs=[
            {"strategy": ["random", "margin"], "seed": "0-2", "budget": [30, 40]},
            {"strategy": "random", "seed": 5, "data_seed": [5, 6], "learner": {"c": 0.5}},
        ],
    )
    sweep = sweep.model_copy(update={"base": {"task": "digits-two"}})
    jobs = expand(sweep, Choices(), Path("runs"))
    assert len(jobs) == 14
    for job in jobs:
        values = job.spec.model_dump(mode="json")
        assert resolve(values).run_key == job.spec.run_key
