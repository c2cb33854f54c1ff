"""A run's folder is not believed by its name, and nobody is led out of it by a link."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import alharness
from alharness.cli import call
from alharness.engine import runner
from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.errors import PendingError, UserError
from alharness.records import RunFolder, read_run, run_folders
from alharness.spec import RunSpec, resolve
from alharness.tasks.base import DataLocations

SMALL = {"budget": 30, "initial_size": 20, "query_size": 10, "learner": {"kind": "linear"}}


def spec_of(strategy: str = "random", seed: int = 0) -> RunSpec:
    return resolve({"task": "digits-two", "strategy": strategy, "seed": seed, **SMALL})


def options(**asked: object) -> list[str]:
    sizes = ["--budget", "30", "--initial-size", "20", "--query-size", "10", "--no-tracking"]
    given = [word for name, value in asked.items() for word in (f"--{name}", str(value))]
    return [*sizes, "--set", "learner.kind=linear", *given]


def places(root: Path) -> Places:
    return Places(root, DataLocations.resolve())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs of random, one of margin."""
    root = tmp_path_factory.mktemp("made")
    for strategy, seed in (("random", 0), ("random", 1), ("margin", 0)):
        execute(spec_of(strategy, seed), places(root))
    return root


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs"))


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name not in ("lock", "failure.json", "no-tracking")
    }


def swap(one: Path, two: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    two.rename(one)
    aside.rename(two)


@pytest.mark.parametrize("other", [("margin", 0), ("random", 1)])
def test_a_swapped_folder_is_no_result(
    other: tuple[str, int], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of()
    swap(spec.folder(runs), spec_of(*other).folder(runs))
    before = contents(runs)
    command = ["run", *options(strategy="random", dataset="digits-two", seed=0)]
    for more in ([], ["--fresh"]):
        assert call([*command, "--runs-dir", str(runs), *more]) == 2
        told = capsys.readouterr().err
        assert "holds another run than its name says" in told
        assert f"found digits-two, {other[0]}, seed {other[1]} (key " in told
    with pytest.raises(UserError, match="holds another run"):
        execute(spec, places(runs))
    with pytest.raises(UserError, match="holds another run"):
        alharness.run("random", "digits-two", runs_dir=runs, seed=0, **SMALL)  # type: ignore[arg-type]
    assert contents(runs) == before, "neither of the two is touched"


@pytest.mark.usefixtures("sweeps_here")
def test_a_sweep_counts_no_swapped_folder_as_finished(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swap(spec_of().folder(runs), spec_of("margin").folder(runs))
    before = contents(runs)
    command = ["sweep", "--strategies", "random,margin", "--datasets", "digits-two", "--seeds"]
    command += ["0", "--no-tracking", "--jobs", "1"]
    for name in ("budget=30", "initial_size=20", "query_size=10", "learner.kind=linear"):
        command += ["--set", name]
    assert call([*command, "--runs-dir", str(runs)]) == 1
    printed = capsys.readouterr()
    told = " ".join((printed.out + printed.err).split())
    assert "2 runs, 0 finished, 0 to continue, 2 to start" in told
    assert told.count("holds another run than its name says") >= 2
    assert not spec_of("margin").folder(runs).joinpath("failure.json").exists()
    after = contents(runs)
    assert {name: after[name] for name in before} == before


def test_a_copied_folder_is_no_run_of_another_seed(runs: Path) -> None:
    copied = spec_of(seed=7).folder(runs)
    shutil.copytree(spec_of().folder(runs), copied)
    with pytest.raises(UserError, match=f"Its own place is '.*{spec_of().run_key}'"):
        execute(spec_of(seed=7), places(runs))


def test_a_stopped_run_goes_on_in_its_own_folder_alone(tmp_path: Path) -> None:
    one, two = (
        execute(spec_of(seed=seed), places(tmp_path), max_cycles=1).path for seed in range(2)
    )
    swap(one, two)
    with pytest.raises(UserError, match="holds another run"):
        execute(spec_of(), places(tmp_path))
    swap(one, two)
    assert execute(spec_of(), places(tmp_path)).is_finished()


def test_records_without_a_spec_are_nobodys(runs: Path) -> None:
    folder = RunFolder(spec_of().folder(runs))
    folder.spec.unlink()
    with pytest.raises(UserError, match=r"spec\.toml' is damaged \(it is missing\)"):
        execute(spec_of(), places(runs))
    assert execute(spec_of(), places(runs), fresh=True).is_finished()


@pytest.mark.parametrize("link", ["task", "strategy", "key", "cycles.jsonl", "env.json", "lock"])
@pytest.mark.parametrize("more", [[], ["--fresh"]], ids=["", "fresh"])
def test_no_run_is_written_over_a_link(
    link: str, more: list[str], runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder that many share, somebody's link leads to a victim's records."""
    shared = tmp_path / "shared"
    spec = spec_of()
    folder, victim = spec.folder(shared), spec.folder(runs)
    if link in ("task", "strategy", "key"):
        above = {"task": 2, "strategy": 1, "key": 0}[link]
        folder, victim = ([x, *x.parents][above] for x in (folder, victim))
        folder.parent.mkdir(parents=True)
        folder.symlink_to(victim)
    else:
        folder.mkdir(parents=True)
        (folder / link).symlink_to(victim / link)
    before = contents(runs)
    command = ["run", *options(strategy="random", dataset="digits-two", seed=0), *more]
    assert call([*command, "--runs-dir", str(shared)]) == 2
    told = capsys.readouterr().err
    assert "is a link to" in told
    assert told.count("\n") == 1
    assert contents(runs) == before


def test_the_root_of_all_runs_may_be_a_link(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "here").symlink_to(runs)
    assert execute(spec_of(), places(tmp_path / "here")).is_finished()


def test_a_run_that_failed_is_called_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> None:
        raise ValueError("the moon is full")

    execute(spec_of("margin"), places(tmp_path))
    for place in ("open_task", "describe_preparation"):  # before and after it has described itself
        with monkeypatch.context() as patch:
            patch.setattr(runner, place, broken)
            with pytest.raises(ValueError, match="moon"):
                execute(spec_of(), places(tmp_path))
        found = read_run(spec_of().folder(tmp_path))
        assert found.state() == "failed"
        assert str(found.failure).startswith("ValueError: the moon is full (test_folders.py:")
        assert call(["compare", "--runs-dir", str(tmp_path)]) == 0
        assert "the moon is full" in capsys.readouterr().out
    assert read_run(execute(spec_of(), places(tmp_path)).path).failure is None


@pytest.mark.parametrize(
    ("strategy", "more", "told"),
    [
        ("margin", [], "Which column .* holds the classes"),
        ("margin", ["--set", "task.target=c", "--budget", "3000"], "larger than the pool"),
        ("gaal", ["--set", "task.target=c"], "cannot serve the data set"),  # after its description
    ],
)
def test_a_run_that_is_refused_as_bad_input_never_began(
    strategy: str, more: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text(
        "a,b,c\n" + "".join(f"{n % 7},.5,{n % 2}\n" for n in range(60))
    )
    command = ["run", *options(strategy=strategy, dataset=f"table:{tmp_path / 'rows.csv'}"), *more]
    assert call([*command, "--runs-dir", str(tmp_path / "runs")]) == 2
    assert re.search(told, capsys.readouterr().err)
    assert run_folders(tmp_path / "runs") == []


@pytest.mark.usefixtures("sweeps_here")
def test_a_run_of_a_sweep_that_is_refused_is_missed_in_it(tmp_path: Path) -> None:
    command = ["sweep", "--strategies", "margin", "--datasets", "digits-two", "--seeds", "0"]
    command += ["--set", "budget=3000", "--no-tracking", "--jobs", "1"]
    assert call([*command, "--runs-dir", str(tmp_path)]) == 1
    (asked,) = run_folders(tmp_path)
    assert "larger than the pool" in str(read_run(asked.path).failure)


def test_a_run_that_waits_for_a_person_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waiting(*arguments: Any) -> None:
        raise PendingError("1 of 2 annotations are missing")

    monkeypatch.setattr(runner, "describe_preparation", waiting)
    with pytest.raises(PendingError):
        execute(spec_of(), places(tmp_path))
    assert read_run(spec_of().folder(tmp_path)).state() == "not started"
