"""A plug-in that misbehaves is caught in the run: one line with its name, and no record that is wrong."""

from __future__ import annotations

import importlib.util
import inspect
import random
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from alharness.border import guard, threads
from alharness.border.state import global_marks, put_back
from alharness.cli import call
from alharness.engine.places import Places
from alharness.engine.proof import proved_log
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.records import run_folders
from alharness.spec import resolve
from alharness.tasks.base import DataLocations

FILE = Path(__file__).parents[1] / "gallery" / "strategies.py"


def _samples() -> list[type]:
    spec = importlib.util.spec_from_file_location("gallery_of_strategies", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [
        found for _, found in inspect.getmembers(module, inspect.isclass) if "told" in vars(found)
    ]


@pytest.fixture(autouse=True)
def _everybodys_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The samples move what belongs to all tests; whoever started these may have them ignore Ctrl-C."""
    monkeypatch.setattr(
        guard, "LONG_S", 600.0
    )  # on a busy machine, too, the first selection is looked at
    monkeypatch.setattr(threads, "WATCHED_S", 0.5)  # and a thread that works on has its turn
    signal.signal(signal.SIGINT, signal.default_int_handler)
    before = global_marks()
    yield
    put_back(before)


@pytest.fixture(autouse=True)
def _a_thread_beside() -> Iterator[None]:
    """A notebook or a library keeps threads of its own: no excuse for a plug-in."""
    over = threading.Event()
    beside = threading.Thread(target=over.wait)
    beside.start()
    yield
    over.set()
    beside.join()


def run(tmp_path: Path, strategy: str, *more: str) -> int:
    return call(
        [
            "run", "--strategy", strategy, "--dataset", "digits-two", "--budget", "60",
            "--query-size", "20", "--initial-size", "20", "--device", "cpu", "--no-tracking",
            "--quiet", "--runs-dir", str(tmp_path), *more,
        ]
    )  # fmt: skip


@pytest.mark.parametrize("sample", _samples(), ids=lambda sample: sample.__name__)
def test_it_ends_the_run_with_one_line(
    sample: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{FILE}:{sample.__name__}"
    assert run(tmp_path, name) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1, told
    assert sample.told in told  # type: ignore[attr-defined]
    if sample.__name__ != "RefusesByItself":
        assert f"The strategy '{name}' broke the contract" in told
        assert "gallery/strategies.py, line " in told
    late = sample.__name__ == "KeepsOtherShapesLater"
    for folder in run_folders(tmp_path):
        assert len(folder.records()) == (1 if late else 0)
        assert not folder.is_finished()


@pytest.mark.parametrize("seed", [0, 1, 2, 42, 1234])
def test_a_draw_that_is_put_back_is_caught_whatever_the_user_seeded(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked again, it must find other states than the user's; a seed of ours may be the user's, too."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    assert run(tmp_path, f"{FILE}:DrawsAndPutsBack") == 2
    assert "the global random state" in capsys.readouterr().err


def test_who_changes_the_folder_leaves_the_next_run_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(Path("runs"), f"{FILE}:ChangesTheFolder") == 2
    assert Path.cwd() == tmp_path
    assert run(Path("runs"), f"{FILE}:Honest") == 0
    assert len(list(run_folders(tmp_path / "runs"))) == 2


def test_an_honest_one_runs_to_its_end(tmp_path: Path) -> None:
    assert run(tmp_path, f"{FILE}:Honest") == 0
    (folder,) = run_folders(tmp_path)
    assert [record.n_labelled for record in folder.records()] == [20, 40, 60]


@pytest.mark.parametrize("call_it", ["prepare", "select"])
def test_a_random_state_that_an_import_moved_comes_with_the_cure(
    call_it: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library draws as it is imported, and the plug-in imports it inside a call; at its top it may."""
    library = f"drawing_for_{call_it}"
    (tmp_path / f"{library}.py").write_text("import random\n\nrandom.random()\n")
    monkeypatch.syspath_prepend(tmp_path)
    head = "from alharness.strategy import PoolQuery, Strategy\n"
    calls = {
        "prepare": "    def prepare(self, preparation):\n        {}\n",
        "select": "    def select(self, view, query_size):\n        {}\n"
        "        return PoolQuery(view.unlabelled[:query_size])\n",
    }

    def body(**inside: str) -> str:
        return "\n\nclass Lazy(Strategy):\n" + "".join(
            text.format(inside.get(name, "pass")) for name, text in calls.items()
        )

    inside, at_top = tmp_path / "inside.py", tmp_path / "at_top.py"
    inside.write_text(head + body(**{call_it: f"import {library}"}))
    at_top.write_text(f"import {library}\n" + head + body())
    assert run(tmp_path / "runs", f"{inside}:Lazy") == 2
    told = capsys.readouterr().err
    assert (
        f"{call_it} to leave all as it is, found changed the global random state of random (if importing "
        f"{library} did, import at the top of the module, not inside the call)"
    ) in told
    assert told.count("\n") == 1, told
    sys.modules.pop(library)
    assert run(tmp_path / "runs", f"{at_top}:Lazy") == 0


def test_a_module_that_exits_when_imported_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "leaves.py"
    plugin.write_text("import sys\n\nsys.exit(0)\n")
    for command in (["run", "--dataset", "digits-two", "--strategy"], ["check"]):
        assert call([*command, f"{plugin}:Gone"]) == 2
        told = capsys.readouterr().err
        assert "a module that can be imported, found an exit with code 0" in told
        assert "leaves.py, line 3" in told
    plugin.write_text("class Gone(:\n")
    assert call(["check", f"{plugin}:Gone"]) == 2
    assert "found SyntaxError: invalid syntax (leaves.py, line 1)" in capsys.readouterr().err


def test_the_traceback_is_there_for_whoever_asks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALHARNESS_TRACEBACK", "1")
    assert run(tmp_path, f"{FILE}:Divides") == 2
    assert "return 1 / 0" in capsys.readouterr().err


BUFFER = '''
import numpy as np
import torch
from alharness.strategy import PoolQuery, Strategy


class Reuses(Strategy):
    """Answers from one buffer, again and again."""

    def prepare(self, preparation):
        self.indices = torch.zeros(20, dtype=torch.int64)
        self.scores = np.zeros(20)

    def select(self, view, query_size):
        self.indices[:] = view.unlabelled[:query_size]
        self.scores[:] = view.cycle
        return PoolQuery(self.indices, arrays={"scores": self.scores})
'''


def test_a_buffer_that_is_used_again_does_not_change_what_was_asked(tmp_path: Path) -> None:
    plugin = tmp_path / "reuses.py"
    plugin.write_text(BUFFER)
    assert run(tmp_path / "runs", f"{plugin}:Reuses") == 0
    (folder,) = run_folders(tmp_path / "runs")
    log = proved_log(folder, folder.records())
    asked = [log.rows("asked", cycle) for cycle in (0, 1)]
    assert not np.isin(asked[0], asked[1]).any()
    assert [log.rows("array.scores", cycle).mean() for cycle in (0, 1)] == [0.0, 1.0]


SLEEPER = '''
import time
from alharness.strategy import PoolQuery, Strategy


class Sleeps(Strategy):
    """Takes its time, and catches what it can."""

    def select(self, view, query_size):
        try:
            time.sleep(30)
        except Exception:
            pass
        return PoolQuery(view.unlabelled[:query_size])
'''


def test_a_selection_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    plugin = tmp_path / "sleeps.py"
    plugin.write_text(SLEEPER)
    spec = resolve(
        {"task": "digits-two", "strategy": f"{plugin}:Sleeps", "budget": 40, "initial_size": 20,
         "query_size": 20, "device": "cpu"}
    )  # fmt: skip
    places = Places(tmp_path / "runs", DataLocations.resolve(), None)
    with pytest.raises(UserError, match=r"within 1 s \(--select-timeout\).*sleeps.py, line 11"):
        execute(spec, places, select_timeout=1.0)


@pytest.mark.parametrize(("kind", "lr"), [("mlp", 1e30), ("mlp", 1e20)])
def test_a_training_that_diverged_is_one_line(
    kind: str, lr: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"kind": kind, "lr": lr, "min_steps": 60, "epochs": 1}
    more = [part for key, value in settings.items() for part in ("--set", f"learner.{key}={value}")]
    assert run(tmp_path, "random", *more) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"The training of the classifier '{kind}' diverged" in told
    assert "Lower learner.lr" in told


def test_a_training_that_ends_worse_than_a_guess_is_marked(tmp_path: Path) -> None:
    more = [
        part
        for text in ("kind=mlp", "lr=1e4", "min_steps=3", "epochs=1")
        for part in ("--set", f"learner.{text}")
    ]
    assert run(tmp_path, "random", *more) == 0
    (folder,) = run_folders(tmp_path)
    fits = [record.fit for record in folder.records()]
    assert [fit.converged for fit in fits] == [fit.train_loss <= np.log(2) for fit in fits]
    assert not all(fit.converged for fit in fits)


def test_an_installed_plug_in_is_named_whatever_functions_it_borrows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file counts as its author's though it lies among the libraries, a borrowed function first in it."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "borrowing.py").write_text(
        "import textwrap\nfrom alharness.strategy import Strategy\n\n\nclass Borrowing(Strategy):\n"
        "    tidy = textwrap.dedent\n\n    def select(self, view, query_size):\n        return 1 // 0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    # Everything below it is an installed distribution's now.
    monkeypatch.setattr(
        "alharness.errors.sysconfig.get_path",
        lambda which: str(site if which == "purelib" else Path(inspect.__file__).parent),
    )
    assert run(tmp_path / "runs", "borrowing:Borrowing") == 2
    told = capsys.readouterr().err
    assert "ZeroDivisionError" in told
    assert "borrowing.py, line 9)" in told
