"""What a classifier or a task does that it must not is told in one line with its name, as for a strategy."""

from __future__ import annotations

import importlib.util
import inspect
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from alharness.border import limits, threads
from alharness.border.author import Author
from alharness.border.call import watched
from alharness.border.state import SETTINGS, changed, global_marks, put_back
from alharness.cli import call, main
from alharness.errors import PluginError
from alharness.records import run_folders, timed_selections
from alharness.timing import effort

GALLERY = Path(__file__).parents[1] / "gallery"


def gallery(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"gallery_of_{name}", GALLERY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def samples(name: str, attribute: str) -> list[type]:
    """Samples that say so themselves."""
    found = inspect.getmembers(gallery(name), inspect.isclass)
    return [sample for _, sample in found if vars(sample).get(attribute)]


def run(tmp_path: Path, **options: str) -> int:
    given = {"strategy": "margin", "dataset": "digits-two", **options}
    named = [part for key, value in given.items() for part in (f"--{key}", value)]
    return call(
        [
            "run", *named, "--budget", "40", "--query-size", "10", "--initial-size", "20",
            "--device", "cpu", "--no-tracking", "--quiet", "--runs-dir", str(tmp_path),
        ]
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _everybodys_state(monkeypatch: pytest.MonkeyPatch) -> object:
    # On a busy machine, too, a thread that works on has its turn.
    monkeypatch.setattr(threads, "WATCHED_S", 0.5)
    before = global_marks()
    yield
    put_back(before)


@pytest.mark.parametrize("sample", samples("classifiers", "told"), ids=lambda one: one.__name__)
def test_a_classifier_that_misbehaves_is_named_in_one_line(
    sample: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{GALLERY / 'classifiers.py'}:{sample.__name__}"
    assert run(tmp_path, set=f"learner.kind={name}") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1, told
    assert sample.told in told  # type: ignore[attr-defined]
    assert f"The classifier '{name}' broke the contract" in told
    assert not [record for folder in run_folders(tmp_path) for record in folder.records()]


@pytest.mark.parametrize("sample", samples("tasks", "told"), ids=lambda one: one.__name__)
def test_a_task_that_misbehaves_is_told_in_one_line(
    sample: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{GALLERY / 'tasks.py'}:{sample.__name__}"
    before = global_marks()
    assert run(tmp_path, dataset=name) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1, told
    assert sample.told in told  # type: ignore[attr-defined]
    assert name in told
    left = [one for one in changed(before, global_marks()) if "signals" not in one]  # the command's
    assert left == []  # the next run of this process is where it was


def test_test_items_in_the_pool_of_somebodys_task_are_in_the_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{GALLERY / 'tasks.py'}:TestsOnItsPool"
    assert run(tmp_path, dataset=name) == 0
    (folder,) = run_folders(tmp_path)
    assert folder.facts().task.n_shared == 40
    assert "40 of 80 test items are in the pool too" in folder.facts().task.notes["duplicates"]
    capsys.readouterr()
    assert call(["compare", "--runs-dir", str(tmp_path)]) == 0
    assert "40 of 80 test items are in the pool too" in " ".join(capsys.readouterr().out.split())


def test_runs_on_other_data_under_one_name_are_no_pair(tmp_path: Path) -> None:
    """A task that types its fingerprint and draws its items anew: the harness reads what is there."""
    name = f"{GALLERY / 'tasks.py'}:ChangesItsData"
    for strategy in ("margin", "random"):
        assert run(tmp_path, dataset=name, strategy=strategy) == 0
    one, other = (folder.facts() for folder in run_folders(tmp_path))
    assert "typed by hand" not in (one.task.fingerprint, other.task.fingerprint)
    assert one.task.fingerprint != other.task.fingerprint
    assert one.protocol != other.protocol


@pytest.mark.parametrize(
    ("kind", "sample"),
    [
        (kind, sample)
        for kind in ("classifiers", "tasks")
        for sample in samples(kind, "kind")
        if getattr(sample, "caught_by", "") is not None
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_check_names_it(kind: str, sample: type, capsys: pytest.CaptureFixture[str]) -> None:
    code = call(["check", f"{GALLERY / kind}.py:{sample.__name__}"])
    printed = capsys.readouterr()
    if sample.__name__ == "RaisesWhenMade":  # nothing can be checked
        assert code == 2
        assert "not today" in printed.err
        return
    assert code == 1
    check = getattr(sample, "caught_by", "as-in-a-run")
    assert any(line.startswith("FAIL") and check in line for line in printed.out.splitlines()), (
        printed.out
    )


@pytest.mark.parametrize("name", ["classifiers", "tasks"])
def test_an_honest_one_passes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["check", f"{GALLERY / name}.py:Honest"]) == 0, capsys.readouterr().out


# What belongs to everybody -----------------------------------------------------------------------


_KEPT: list[object] = []


def _stay_in_inference_mode() -> None:
    mode = torch.inference_mode()
    mode.__enter__()
    _KEPT.append(mode)  # it ends with its object


def _upset() -> dict[str, object]:
    """Something for every row of the table that can be upset here, by the row's name."""
    return {
        "the global random state of torch": lambda: torch.manual_seed(3),
        "the global random state of numpy": lambda: np.random.rand(),  # noqa: NPY002
        "the global random state of random": random.random,
        "torch's gradient mode": lambda: torch.set_grad_enabled(False),
        "torch's inference mode": _stay_in_inference_mode,
        "torch's modes": lambda: torch.set_default_device("meta"),
        "torch's autocast": lambda: torch.set_autocast_enabled("cpu", True),
        "torch's anomaly mode": lambda: torch.autograd.set_detect_anomaly(True),
        "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
        "torch's number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
        "torch's determinism": lambda: torch.use_deterministic_algorithms(True),
        "torch's precision": lambda: setattr(
            torch.backends.mkldnn.matmul, "fp32_precision", "bf16"
        ),
        "torch's flushing of denormal numbers": lambda: torch.set_flush_denormal(True),
        "torch's use of oneDNN": lambda: setattr(torch.backends.mkldnn, "enabled", False),
        "torch's hooks on all modules and optimisers": lambda: (
            torch.nn.modules.module.register_module_forward_hook(lambda *values: None)
        ),
        "numpy's handling of floating-point errors": lambda: np.seterr(all="raise"),
        "the working folder": lambda: os.chdir("/"),
        "the mask of new files' modes (umask)": lambda: os.umask(0o777),
        "the handlers of signals": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        "the mask of signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]),
        "the environment's variables": lambda: os.environ.update(OMP_NUM_THREADS="7"),
        "the standard streams": lambda: setattr(sys, "stdin", None),
        "Python's recursion limit": lambda: sys.setrecursionlimit(4321),
        "Python's collector of garbage": lambda: __import__("gc").disable(),
        "Python's tracing": lambda: sys.setprofile(lambda *values: None),
    }


@pytest.mark.parametrize("name", list(_upset()))
def test_each_setting_of_the_process_is_found_changed_and_put_back(name: str) -> None:
    assert name in {row.name for row in SETTINGS}
    before = global_marks()
    with pytest.raises(PluginError, match="changed") as caught:
        watched(Author(object(), "it"), "select", "nothing", _upset()[name])  # type: ignore[arg-type]
    assert name.partition(" (")[0] in str(caught.value)
    assert changed(before, global_marks()) == []


def test_reading_the_table_never_raises_whatever_was_set() -> None:
    before = global_marks()
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # torch's older getter raises from here on
    assert "torch's precision" in changed(before, global_marks())
    put_back(before)
    assert torch.get_float32_matmul_precision() == "highest"


# Doubt -------------------------------------------------------------------------------------------


class Beside:
    """A thread of a library that draws from everybody's random state while others are called."""

    def __init__(self, n_draws: int) -> None:
        self.wanted, self.drawn = threading.Semaphore(0), threading.Semaphore(0)
        self.left = n_draws
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while self.wanted.acquire():
            if self.left > 0:
                self.left -= 1
                random.random()
            self.drawn.release()

    def meanwhile(self) -> str:
        """A call in the middle of which the thread has its turn."""
        self.wanted.release()
        self.drawn.acquire()
        return "done"


def test_nobody_is_blamed_for_what_another_thread_drew() -> None:
    beside = Beside(n_draws=1)
    before = global_marks()
    assert watched(Author(object(), "it"), "select", "a word", beside.meanwhile) == "done"
    assert changed(before, global_marks()) == []


def test_who_draws_again_when_asked_again_is_blamed_whoever_runs_beside() -> None:
    Beside(n_draws=0)
    with pytest.raises(PluginError, match="global random state of random"):
        watched(Author(object(), "it"), "select", "a number", random.random)


# Threads -----------------------------------------------------------------------------------------


def _leave(work: object) -> None:
    threading.Thread(target=work, daemon=True).start()  # type: ignore[arg-type]


def test_a_thread_that_computes_after_the_call_is_refused_and_an_idle_one_is_not() -> None:
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            sum(range(100))

    with pytest.raises(PluginError, match=r"computing for .* s after it returned"):
        watched(Author(object(), "it"), "select", "nothing", lambda: _leave(compute))
    over.set()
    watched(Author(object(), "it"), "select", "nothing", lambda: _leave(lambda: time.sleep(5)))


# Selections that do not end -------------------------------------------------------------------------

DEAF = """
from alharness.strategy import PoolQuery, Strategy


class Deaf(Strategy):
    '''In its second cycle, native code that holds the interpreter's lock and looks for no signal.'''

    def select(self, view, query_size):
        if view.cycle:
            sum(range(10**12))
        return PoolQuery(view.unlabelled[:query_size])
"""


def test_native_code_that_never_comes_back_is_ended_and_the_records_before_it_are_safe(
    tmp_path: Path, copies: Callable[..., Any]
) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    name = f"{tmp_path / 'deaf.py'}:Deaf"
    command = [
        "run", "--strategy", name, "--dataset", "digits-two", "--budget", "60", "--query-size", "10",
        "--initial-size", "20", "--device", "cpu", "--no-tracking", "--quiet", "--runs-dir",
        str(tmp_path / "runs"), "--select-timeout", "1", "--set", "learner.kind=linear",
    ]  # fmt: skip
    ended = copies(lambda: main(command))
    assert ended.wait() == -signal.SIGKILL
    assert (
        f"'{name}' did not answer within 1 s (--select-timeout) in select of cycle 1"
        in ended.printed
    )
    (folder,) = run_folders(tmp_path / "runs")
    assert len(folder.records()) == 1


def limited(select: Callable[[], object], cycle: int = 0) -> None:
    with limits.time_limit(0.1, Author(object(), "it"), cycle):
        select()


def sleep_on() -> None:
    while True:
        time.sleep(0.01)


def test_who_ignores_the_alarm_is_ended_from_another_thread(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mask() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        sleep_on()

    monkeypatch.setattr(limits, "GRACE_S", 0.1)
    with pytest.raises(PluginError, match=r"within 0\.1 s"):
        limited(mask, cycle=3)
    told = capsys.readouterr().err
    assert (
        "The strategy 'it' did not answer within 0.1 s (--select-timeout) in select of cycle 3"
        in told
    )


def after() -> None:
    with limits.time_limit(60, Author(object(), "it"), 0):
        pass
    sys.setprofile(lambda *values: None)
    print([n * n for n in range(1000)][-1])


def test_a_selection_in_time_leaves_the_interpreter_as_it_was(copies: Callable[..., Any]) -> None:
    """With a profiler or debugger CPython 3.11 went round for ever after a selection that kept its limit."""
    done = copies(after)
    assert done.wait() == 0, done.printed
    assert done.printed == "998001\n"


def test_who_swallows_exceptions_gets_one_after_the_other() -> None:
    swallowed: list[BaseException] = []

    def swallow() -> None:
        while len(swallowed) < 2:
            try:
                sleep_on()
            except BaseException as error:
                swallowed.append(error)
        sleep_on()

    with pytest.raises(PluginError, match=r"within 0\.1 s"):
        limited(swallow)


def test_a_selection_beside_the_main_thread_is_ended_too() -> None:
    told: list[str] = []

    def select() -> None:
        try:
            limited(sleep_on)
        except PluginError as error:
            told.append(str(error))

    beside = threading.Thread(target=select)
    beside.start()
    beside.join(20)
    assert "within 0.1 s (--select-timeout)" in told[0]


# What a record says of time ---------------------------------------------------------------------------


def test_a_stop_is_in_the_record_and_cpu_seconds_beside_it() -> None:
    with effort() as taken:
        other = subprocess.Popen(
            [
                sys.executable, "-c",
                f"import os, signal, time; pid = {os.getpid()}; os.kill(pid, signal.SIGSTOP)\n"
                "time.sleep(.5); os.kill(pid, signal.SIGCONT)",
            ]
        )  # fmt: skip
        other.wait()
    assert taken.paused_s > 0.4
    with effort() as busy:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
    assert busy.paused_s == 0.0
    assert busy.cpu_s > 0.09


def test_cycles_in_which_the_process_was_stopped_are_left_out_of_times(tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    (folder,) = run_folders(tmp_path)
    records = folder.records()
    assert all(record.time.fit_cpu_s > 0 and record.time.load is not None for record in records)
    assert [record.time.select_cpu_s is not None for record in records] == [True, True, False]
    paused = records[1].time.model_copy(update={"paused_s": 40.0})
    stopped = [records[0], records[1].model_copy(update={"time": paused}), records[2]]
    assert [record.cycle for record in timed_selections(records)] == [1]
    assert [record.cycle for record in timed_selections(stopped)] == [0]


# What prepare changed ---------------------------------------------------------------------------------


def test_a_test_set_and_a_classifier_of_a_strategys_own_are_recorded_and_told_by_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"{GALLERY / 'strategies.py'}:TestsOnOthers"
    assert run(tmp_path, strategy=name, set="learner.kind=linear") == 0
    assert run(tmp_path, strategy="random", set="learner.kind=linear") == 0
    adapted = [folder.facts().strategy.adapted for folder in run_folders(tmp_path)]
    assert sorted(map(sorted, adapted)) == [[], ["classifier", "test set"]]
    capsys.readouterr()
    assert call(["compare", "--runs-dir", str(tmp_path)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "was prepared with classifier, test set of its own" in told


# Names that are taken ---------------------------------------------------------------------------------

NAMED = """
from alharness.strategy import Parameters, PoolQuery, Strategy


class Named(Strategy):
    class Parameters(Parameters):
        name: str = "mine"

    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[:query_size])
"""


def test_a_parameter_called_name_is_refused_by_check_and_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "named.py").write_text(NAMED)
    name = f"{tmp_path / 'named.py'}:Named"
    for command in (lambda: call(["check", name]), lambda: run(tmp_path / "runs", strategy=name)):
        assert command() == 2
        told = capsys.readouterr().err
        assert (
            "has a parameter called 'name', which in 'strategy.name' means something else" in told
        )
        assert told.count("\n") == 1
