"""``alharness.run`` and its neighbours do from Python what the commands do, in the same folders."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

import alharness
from alharness import UserError, plugins
from alharness.api.cells import CellLine, cell_line
from alharness.api.naming import name_of
from alharness.cli import call
from alharness.executors.base import Event, carry_out, payload
from alharness.records import run_folders
from alharness.spec import resolve
from alharness.strategy import PoolQuery, Strategy
from alharness_strategies.asal import AsalGray, AsalGrayRerank, preset
from alharness_strategies.margin import Margin

#: A run of a second: two cycles, fifty steps.
TINY: Mapping[str, Any] = {
    "tracking": False,
    "budget": 60,
    "query_size": 20,
    "learner": {"min_steps": 50, "epochs": 0},
}
TYPED = [
    *("--budget", "60", "--query-size", "20", "--no-tracking", "--quiet"),
    *("--set", "learner.min_steps=50", "--set", "learner.epochs=0"),
]
MINE = """
from alharness.strategy import PoolQuery, Strategy

class Lowest(Strategy):
    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[:query_size])
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of one's own, from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


# -- import ------------------------------------------------------------------------------------------


def test_the_import_is_light_and_the_names_are_there() -> None:
    code = (
        "import sys, alharness\n"
        "names = dir(alharness)\n"
        "assert {'run', 'sweep', 'load_runs', 'compare', 'UserError'} <= set(names), names\n"
        "assert issubclass(alharness.UserError, Exception)\n"
        "assert all(callable(getattr(alharness, name)) for name in alharness.__all__[1:])\n"
        "heavy = {'torch', 'numpy', 'pandas', 'mlflow', 'sklearn', 'pydantic', 'matplotlib'}\n"
        "print('IMPORTED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "IMPORTED []\n"


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'rnu'"):
        _ = alharness.rnu  # type: ignore[attr-defined]


def test_run_is_a_plain_function_that_help_explains() -> None:
    importlib.import_module("alharness.engine.loop")  # no import of a room takes its place
    assert inspect.isfunction(alharness.run)
    assert list(inspect.signature(alharness.run).parameters)[:2] == ["strategy", "dataset"]
    assert "strategy:" in (alharness.run.__doc__ or "")


# -- run ---------------------------------------------------------------------------------------------


def test_the_command_and_the_function_make_one_run(tmp_path: Path) -> None:
    where = ["--runs-dir", str(tmp_path)]
    assert call(["run", "--strategy", "margin", "--dataset", "digits-ten", *TYPED, *where]) == 0
    (folder,) = run_folders(tmp_path)
    seen: list[int] = []
    found = alharness.run(
        "margin", "digits-ten", runs_dir=tmp_path, on_cycle=lambda r: seen.append(r.cycle), **TINY
    )
    assert found.folder == folder.path
    assert list(found.records) == folder.records()
    assert seen == [], "a finished run is returned, not run again"
    assert "finished before" in found.notes[0]


def test_a_run_goes_on_where_it_stopped_and_starts_over_when_told(tmp_path: Path) -> None:
    def stop(record: object) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        alharness.run("random", "digits-ten", runs_dir=tmp_path, on_cycle=stop, **TINY)
    seen: list[int] = []

    def see(record: Any) -> None:
        seen.append(record.cycle)

    again = alharness.run("random", "digits-ten", runs_dir=tmp_path, on_cycle=see, **TINY)
    assert seen == [1], "cycle 0 was on the disk"
    alharness.run("random", "digits-ten", runs_dir=tmp_path, on_cycle=see, fresh=True, **TINY)
    assert seen == [1, 0, 1]
    assert again.notes == ()


def test_a_run_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    found = alharness.run("random", "digits-ten", runs_dir=tmp_path, **TINY)
    with (
        FileLock(found.folder / "lock"),
        pytest.raises(UserError, match="Another process is writing"),
    ):
        alharness.run("random", "digits-ten", runs_dir=tmp_path, fresh=True, **TINY)


def test_a_result_shows_its_curve_and_its_cycles(tmp_path: Path) -> None:
    found = alharness.run(
        {"name": "margin"}, "digits-ten", runs_dir=tmp_path, seed=np.int64(3), **TINY
    )
    assert found._repr_html_().count("<svg") == 1
    assert "margin on digits-ten, seed 3" in found._repr_html_()
    assert found._repr_png_().startswith(b"\x89PNG")
    assert repr(found) == (
        f"<margin on digits-ten, seed 3: accuracy {found.accuracy:.4f} with 60 labels; records in "
        f"'{found.folder}'>"
    )
    cycles = found.cycles
    assert cycles["n_labelled"].tolist() == [40, 60]
    assert cycles["test.accuracy"].tolist() == [r.test.accuracy for r in found.records]
    assert cycles["time.select_s"][0] == found.records[0].time.select_s
    assert np.isnan(cycles["time.select_s"][1]), "the last cycle asks nothing"
    assert cycles["work.pool_items_scored"][0] == found.records[0].work["pool_items_scored"]


def test_the_device_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"task": "digits-two", "strategy": "random"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve(asked).device == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve(asked).device == "cpu"


def test_progress_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="alharness"):
        alharness.run("random", "digits-ten", runs_dir=tmp_path, **TINY)
    assert [r.message for r in caplog.records if r.message.startswith("cycle 1")]
    with caplog.at_level(logging.WARNING, logger="alharness"):
        alharness.run("random", "digits-ten", runs_dir=tmp_path, **TINY)
    assert "finished before" in caplog.records[-1].message


@pytest.mark.parametrize(
    ("strategy", "settings", "said"),
    [
        ("margn", {}, "Did you mean 'margin'"),
        (3, {}, "The strategy is a name, a class, or"),
        ("margin", {"bugdet": 3}, "Did you mean 'budget'"),
        ("margin", {"learner.min_step": 3}, "Did you mean 'learner.min_steps'"),
        ({"shortlist": 3}, {}, "The strategy is a name"),
    ],
)
def test_wrong_words_are_one_line(
    strategy: Any, settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        alharness.run(strategy, "digits-ten", runs_dir=tmp_path, **settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# -- classes -----------------------------------------------------------------------------------------


def test_a_class_of_a_file_is_the_run_of_the_command(here: Path) -> None:
    Path("lowest_of_mine.py").write_text(MINE)
    strategy = importlib.import_module("lowest_of_mine").Lowest
    found = alharness.run(strategy, "digits-ten", **TINY)
    assert found.run.strategy == "./lowest_of_mine.py:Lowest"
    assert found.run.spec.plugins.keys() == {"./lowest_of_mine.py"}
    typed = ["--strategy", "./lowest_of_mine.py:Lowest", "--dataset", "digits-ten", *TYPED]
    assert call(["run", *typed]) == 0
    assert [folder.path for folder in run_folders(Path("runs"))] == [found.folder]


def test_the_same_class_after_an_edit_of_its_file_is_another_run(here: Path) -> None:
    Path("edited_of_mine.py").write_text(MINE)
    strategy = importlib.import_module("edited_of_mine").Lowest
    first = alharness.run(strategy, "digits-ten", **TINY)
    Path("edited_of_mine.py").write_text(MINE.replace("[:query_size]", "[-query_size:]"))
    second = alharness.run(strategy, "digits-ten", **TINY)
    assert first.folder != second.folder
    assert first.records[0].query != second.records[0].query, "the file as it stands is what runs"


def test_an_installed_class_has_its_name_and_one_of_a_package_its_module(here: Path) -> None:
    assert name_of(plugins.STRATEGIES, Margin) == "margin"
    # Made by a call from another class, whose name it has: what runs is the one that was given.
    assert name_of(plugins.STRATEGIES, AsalGrayRerank) == "asal-gray-rerank"
    unnamed = preset(AsalGray, "Nowhere under a name.", rerank=3)
    with pytest.raises(UserError, match="no other process finds it"):
        name_of(plugins.STRATEGIES, unnamed)
    Path("folder_of_mine").mkdir()
    Path("folder_of_mine/__init__.py").touch()
    Path("folder_of_mine/lowest.py").write_text(MINE)
    strategy = importlib.import_module("folder_of_mine.lowest").Lowest
    assert name_of(plugins.STRATEGIES, strategy) == "folder_of_mine.lowest:Lowest"


def test_a_classifiers_class_may_stand_for_its_kind(tmp_path: Path) -> None:
    from sklearn.naive_bayes import GaussianNB

    found = alharness.run(
        "margin", "digits-ten", runs_dir=tmp_path, budget=60, query_size=20, tracking=False,
        **{"learner.kind": GaussianNB},
    )  # fmt: skip
    assert found.run.spec.learner["kind"] == "sklearn.naive_bayes:GaussianNB"
    assert found.accuracy > 0.3


def test_a_store_that_is_none_is_told_in_pythons_words_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Without MLflow: .*tracking=False"):
        alharness.run("random", "digits-two", runs_dir=tmp_path, tracking="none")


class Local(Strategy):
    """At the top of a test module: it has a file."""

    def select(self, view: Any, query_size: int) -> PoolQuery:
        return PoolQuery(view.unlabelled[:query_size])


def test_a_class_without_a_file_of_its_own_is_refused(tmp_path: Path) -> None:
    class Inside(Local):
        pass

    with pytest.raises(UserError, match=r"inside a function.*%%writefile mine.py.*mine.py:"):
        alharness.run(Inside, "digits-ten", runs_dir=tmp_path)
    in_a_notebook = type("Lowest", (Local,), {"__module__": "__main__"})
    with pytest.raises(UserError, match="The strategy Lowest is defined in a notebook"):
        alharness.run(in_a_notebook, "digits-ten", runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- sweep, load_runs, compare -----------------------------------------------------------------------


class Here:
    """An executor without processes of its own, each of which would import torch."""

    def __init__(self) -> None:
        self.n_done = 0

    def run(self, jobs: Sequence[Any], places: Any, *, fresh: bool) -> Iterator[Event]:
        for job in jobs:
            yield Event("started", job)
            reason, details = carry_out(payload(job, places, fresh=fresh))
            yield Event("failed" if reason else "finished", job, reason, details)
            self.n_done += 1


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> alharness.SweepResult:
    """Two strategies and the bound, two seeds."""
    return alharness.sweep(
        ["random", Margin, "full"],
        "digits-ten",
        seeds="0-1",
        runs_dir=tmp_path_factory.mktemp("swept"),
        executor=Here(),
        **TINY,
    )


def test_a_sweep_runs_all_and_the_same_call_runs_nothing(swept: alharness.SweepResult) -> None:
    assert [job.name for job in swept.jobs] == [
        f"digits-ten / {name} / seed {seed}"
        for seed in (0, 1)
        for name in ("random", "margin", "full")
    ]
    assert swept.failed == {}
    assert all(run.finished for run in swept.runs)

    executor = Here()
    again = alharness.sweep(
        ["random", "margin", "full"],
        ["digits-ten"],
        seeds=[0, 1],
        runs_dir=swept.jobs[0].runs_dir,
        executor=executor,
        **TINY,
    )
    assert executor.n_done == 0
    assert [job.spec.run_key for job in again.jobs] == [job.spec.run_key for job in swept.jobs]


def test_a_sweep_may_be_a_mapping_or_a_file(swept: alharness.SweepResult, here: Path) -> None:
    tiny = {key: value for key, value in TINY.items() if key != "tracking"}
    spec = {"base": {"task": "digits-ten", **tiny}, "runs": [{"strategy": "margin", "seed": "0-1"}]}
    where = swept.jobs[0].runs_dir
    mapped = alharness.sweep(spec=spec, runs_dir=where, tracking=False)
    Path("s.toml").write_text(
        '[base]\ntask = "digits-ten"\nbudget = 60\nquery_size = 20\n'
        'learner = {min_steps = 50, epochs = 0}\n[[runs]]\nstrategy = "margin"\nseed = "0-1"\n'
    )
    filed = alharness.sweep(spec="s.toml", runs_dir=where, tracking=False)
    assert [run.folder for run in mapped.runs] == [run.folder for run in filed.runs]
    assert all(run.finished for run in mapped.runs)
    assert str(alharness.compare("s.toml", runs_dir=where)) == str(filed.compare())


def test_a_run_that_fails_is_told_and_stops_no_other_one(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path("broken.py").write_text(MINE.replace("[:query_size]", "[:query_size - 1]"))
    found = alharness.sweep(
        ["./broken.py:Lowest", "random"], "digits-ten", seeds=0, executor=Here(), **TINY
    )
    assert list(found.failed) == ["digits-ten / ./broken.py:Lowest / seed 0"]
    assert "failed" in caplog.text
    assert [run.finished for run in found.runs] == [False, True]
    assert "failed: digits-ten" in found._repr_html_()


def test_what_a_sweep_cannot_mean_is_refused() -> None:
    with pytest.raises(UserError, match="Expected strategies and data sets, or a sweep's file"):
        alharness.sweep(["random"])
    with pytest.raises(UserError, match="parameters are settings"):
        alharness.sweep("random", {"name": "digits-ten", "x": 1})
    with pytest.raises(UserError, match="found 'x'"):
        alharness.sweep("random", "digits-ten", seeds="x")
    with pytest.raises(UserError, match="runs"):
        alharness.sweep(spec={"base": {}})


def test_all_cycles_of_all_runs_are_one_table(swept: alharness.SweepResult) -> None:
    frame = alharness.load_runs(swept.jobs[0].runs_dir)
    assert len(frame) == 2 * (2 + 2 + 1), "the bound has one cycle"
    assert frame.columns[:4].tolist() == ["task", "strategy", "label", "seed"]
    last = frame[frame["n_labelled"] == 60].groupby("strategy")["test.accuracy"].mean()
    accuracy = [r.records[-1].test.accuracy for r in swept.runs if r.strategy == "margin"]
    assert last["margin"] == pytest.approx(np.mean(accuracy))
    assert set(frame["learner.min_steps"]) == {50}
    assert set(frame["budget"]) == {60}
    assert frame.attrs["unreadable"] == {}
    assert frame["time.preparation_s"].isna().sum() == 0


def test_parameters_and_damaged_runs_in_the_table(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alharness.run("random", "digits-ten", runs_dir=tmp_path, **TINY)
    hurt = alharness.run("margin", "digits-ten", runs_dir=tmp_path, **TINY)
    cycles = hurt.folder / "cycles.jsonl"
    cycles.write_bytes(cycles.read_bytes().replace(b'"cycle":0', b'"cycle":7'))
    frame = alharness.load_runs(tmp_path)
    assert set(frame["strategy"]) == {"random"}
    assert list(frame.attrs["unreadable"]) == [str(hurt.folder)]
    assert "is damaged" in caplog.text
    with pytest.raises(UserError, match="There is no directory"):
        alharness.load_runs(tmp_path / "nowhere")


def test_a_comparison_has_the_tables_of_the_command(
    swept: alharness.SweepResult, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = swept.jobs[0].runs_dir
    found = alharness.compare(where, axis="labels", labels={"margin": "Margin"})
    words = ["compare", str(where), "--x", "labels", "--label", "margin=Margin"]
    assert call(words) == 0
    assert capsys.readouterr().out == str(found)
    assert call([*words, "--format", "latex"]) == 0
    assert capsys.readouterr().out == found.text("latex")
    assert found.save(tmp_path / "t.csv").read_text() == found.text("csv")
    assert found.table["strategy"].tolist()[0] in ("Margin", "random")
    assert len(found.table) == 2
    assert found._repr_html_().count("<table>") >= 2
    assert "digits-ten/curve_accuracy" in found.charts
    assert swept.compare().table.equals(alharness.compare(runs_dir=where).table)


def test_results_of_runs_can_be_compared(swept: alharness.SweepResult) -> None:
    where = swept.jobs[0].runs_dir
    results = [
        alharness.run(name, "digits-ten", seed=seed, runs_dir=where, **TINY)
        for name in ("random", "margin")
        for seed in (0, 1)
    ]
    found = alharness.compare(*results)
    assert found.table["runs"].tolist() == [2, 2]
    with pytest.raises(UserError, match="mixture"):
        alharness.compare(results[0], where)
    with pytest.raises(UserError, match="found 3"):
        alharness.compare(3)  # type: ignore[arg-type]


def test_a_notebook_shows_a_users_error_as_one_line_without_our_frames() -> None:
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        shell.run_cell("import alharness; alharness.run('margn', 'digits-two')")
    shown = stream.getvalue()
    assert shown.strip().startswith("UserError: Unknown strategy 'margn'. Did you mean 'margin'?")
    assert "Traceback" not in shown


class Front:
    """A notebook's front end: what its one line said, one after the other."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.lines = 0

    def display(self, shown: dict[str, str], **options: Any) -> Front:
        self.lines += 1
        assert options["raw"]
        return self.update(shown)

    def update(self, shown: dict[str, str], **options: Any) -> Front:
        self.said.append(shown["text/plain"])
        return self


@pytest.mark.usefixtures("sweeps_here")
def test_a_running_cell_shows_one_line_that_is_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = Front()
    monkeypatch.setattr("alharness.api.cells.EVERY_S", 0.0)
    monkeypatch.setattr("alharness.api.running.cell_line", lambda: CellLine(front.display))
    monkeypatch.setattr("alharness.api.sweeping.cell_line", lambda: CellLine(front.display))
    where = {"runs_dir": tmp_path, "tracking": False, "budget": 40, "min_steps": 5}
    found = alharness.run("random", "digits-two", **where)
    assert front.lines == 1
    assert front.said[0].startswith("cycles: 1 of 3, labels 20, accuracy ")
    assert any("s left" in text for text in front.said)
    assert front.said[-1] == f"finished: {found.folder}"
    front.said.clear()
    alharness.sweep("random", "digits-two", seeds=range(3), **where)
    assert front.lines == 2
    assert front.said[-1] == "runs: 3 of 3"  # one was there already, and counts


def test_outside_of_a_notebook_a_call_shows_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alharness.run("random", "digits-two", runs_dir=tmp_path, tracking=False, budget=30, min_steps=5)
    assert capsys.readouterr().out == ""
    assert type(cell_line()).__name__ == "NoLine"


def test_a_kernel_gets_the_line_and_a_terminal_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ipython = pytest.importorskip("IPython")
    monkeypatch.setattr(ipython, "get_ipython", lambda: SimpleNamespace(kernel=None))
    assert type(cell_line()) is CellLine
    monkeypatch.setattr(ipython, "get_ipython", SimpleNamespace)
    assert type(cell_line()) is not CellLine


def test_a_run_has_a_figure_that_can_be_written(tmp_path: Path) -> None:
    found = alharness.run(
        "random", "digits-two", runs_dir=tmp_path / "r", tracking=False, budget=40, min_steps=5
    )
    chart = found.figure(tmp_path / "curve.pdf")
    assert chart._repr_html_().startswith("<svg")
    assert chart._repr_png_().startswith(b"\x89PNG")
    assert "Write it with .save('curve_accuracy.pdf')" in repr(chart)
    assert len(repr(chart)) < 400  # a prompt's lines, not all numbers
    again = chart.save(str(tmp_path / "again.svg"))
    assert again.read_text().count("<svg") == 1
    assert (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(UserError, match="Unknown metric"):
        found.figure(metric="acuracy")
