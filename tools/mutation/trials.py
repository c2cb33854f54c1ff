"""One mutant after another, each in a fork of a process that has the libraries imported."""

from __future__ import annotations

import ast
import compileall
import contextlib
import gc
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import os
import pkgutil
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType

import psutil
import pytest
from _pytest import main

from mutation.hits import PYTEST, Counting, block_of, blocks, record
from mutation.places import ROOT, Place

#: Imported once; every fork starts with them.
WARM = (
    "torch", "numpy", "scipy.stats", "scipy.optimize", "sklearn.cluster", "sklearn.decomposition",
    "sklearn.linear_model", "sklearn.neighbors", "sklearn.metrics", "pandas", "pydantic", "click",
    "PIL.Image", "matplotlib.figure", "torchvision", "pyarrow.parquet", "safetensors.torch",
)  # fmt: skip
#: What pytest says of tests that it does not find: nothing was tried then.
NOT_FOUND = "ERROR: not found"
#: What pytest says where it ran what there is: some tests may fail, and there may be none.
RAN = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
#: CPU seconds that any trial may take before it counts as one that does not end.
SHORTEST_S = 30
#: Seconds without any work of a trial or its children after which it hangs. Nothing else asks a clock on the
#: wall: beside other work a trial takes as long as it takes.
STILL_S = 90
FOLDERS = ("alharness", "strategies/alharness_strategies")
#: Tests that look at all of the code, by its text or its names: asked about every mutant.
ALL_OVER = (
    "tests/golden/test_numbers.py",
    "tests/contract/test_limits_of_settings.py",
    "tests/contract/test_calls_that_leave_nothing_open.py",
)
#: Tests of this tool: they count blocks themselves, and none of what is changed here.
OWN = "test_mutation.py"


@dataclass(frozen=True)
class Passing:
    """A test that passes without a change, and what it costs."""

    test: str
    cpu: float


def shadow(folder: Path) -> Path:
    """A copy of what git tracks and of new files: mutants are written there, never into a checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def warm() -> None:
    """Import what takes time: libraries, and pytest's plug-ins, which it would rewrite in every fork."""
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        if not plugin.value.startswith("alharness"):
            with contextlib.suppress(ImportError):
                plugin.load()
    importlib.import_module("hypothesis")
    gc.freeze()  # pytest collects garbage several times a run; none of this is


def enter(root: Path) -> None:
    """This process, and all that it starts, take the code from the copy."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), str(root / "strategies")])
    sys.path[:0] = [str(root), str(root / "strategies")]
    os.chdir(root)


def draw_map(root: Path, out: Path, folders: Sequence[str]) -> None:
    """Which test passes which block: ``out/FOLDER.jsonl``, each folder of tests in a process of its own.

    What was drawn of the same code holds: only files of tests that are new or were edited run again."""
    out.mkdir(exist_ok=True)
    code = _digest(path for part in FOLDERS for path in (root / part).rglob("*.py"))
    for folder in folders:
        files = {
            path.relative_to(root).as_posix(): _digest([path])
            for path in (root / "tests" / folder).glob("test_*.py")
            if path.name != OWN
        }
        drawn, stands = out / f"{folder}.jsonl", out / f"{folder}.json"
        before = json.loads(stands.read_text()) if stands.exists() else {}
        known = before.get("tests", {}) if before.get("code") == code else {}
        asked = sorted(name for name, digest in files.items() if known.get(name) != digest)
        if not asked:
            continue
        new = out / f"{folder}.new"
        new.unlink(missing_ok=True)
        status = _forked(
            lambda asked=asked, new=new: record(root, FOLDERS, new, [*asked, "-m", "not slow"]),
            out / f"{folder}.log",
            seconds=3600,
        )
        if status not in RAN:
            raise RuntimeError(f"the tests of {folder} were not run: see {out / folder}.log")
        kept = [
            line
            for line in (drawn.read_text(encoding="utf-8").splitlines(True) if known else [])
            if (name := json.loads(line)["test"].split("::")[0]) in files and name not in asked
        ]
        fresh = new.read_text(encoding="utf-8") if new.exists() else ""
        drawn.write_text("".join(kept) + fresh, encoding="utf-8")
        stands.write_text(json.dumps({"code": code, "tests": files}))
        said = "passed" if status == 0 else "has failures, which are left out"
        print(f"{folder} ({len(asked)} files): {said}", flush=True)


def _digest(paths: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(path.read_bytes())
    return found.hexdigest()


def settle(root: Path) -> None:
    """Compile the copy and its tests; from here on nothing is: what is compiled of a mutant outlives it."""
    for folder in FOLDERS:
        compileall.compile_dir(root / folder, quiet=1)
    _forked(
        lambda: int(pytest.main([*PYTEST, "--collect-only", "tests"])),
        root.parent / "collected.log",
        seconds=600,
    )
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    sys.dont_write_bytecode = True


def mapped(root: Path, out: Path, folders: Sequence[str]) -> dict[tuple[str, int], list[Passing]]:
    """(file, block) -> tests that pass it, the quickest first."""
    numbers = {
        start + number: (Path(path).relative_to(root).as_posix(), number)
        for path, start in Counting(root, FOLDERS).starts.items()
        for number in range(len(blocks(ast.parse(Path(path).read_text(encoding="utf-8")))))
    }
    found: dict[tuple[str, int], list[Passing]] = {}
    whole: dict[str, dict[str, Passing]] = {}
    everywhere: dict[str, Passing] = {}
    for folder in folders:
        drawn = out / f"{folder}.jsonl"
        for line in drawn.read_text(encoding="utf-8").splitlines() if drawn.exists() else []:
            entry = json.loads(line)
            if entry["passed"]:
                test = Passing(entry["test"], entry["cpu"])
                if test.test.split("::")[0] in ALL_OVER:
                    everywhere[test.test] = test
                    continue
                for number in entry["blocks"]:
                    place = numbers[number]
                    found.setdefault(place, []).append(test)
                    whole.setdefault(place[0], {})[test.test] = test
    for name, tests in whole.items():  # a module's own lines: all that enter the module
        found[name, 0] = list(tests.values())
    for place in numbers.values():
        found.setdefault(place, []).extend(everywhere.values())
    for passing in found.values():
        passing.sort(key=lambda one: one.cpu)
    return found


def chosen(tests: Sequence[Passing], seconds: float, *, first: str) -> list[Passing]:
    """As many as ``seconds`` of CPU hold: those whose file is named after the module, then the quickest."""
    stem = Path(first).stem.strip("_")
    taken, left = [], seconds
    for test in sorted(tests, key=lambda one: (stem not in one.test.split("::")[0], one.cpu)):
        if test.cpu <= left:
            taken.append(test)
            left -= test.cpu
    return sorted(taken, key=lambda one: one.cpu)


def trial(
    root: Path, place: Place, tests: Sequence[Passing], session: pytest.Session | None = None
) -> tuple[str, str]:
    """'noticed', and by which test; 'did not end'; or 'survived'.

    Args:
        session: this process has our modules imported and its tests collected: functions are changed where
            they are.
    """
    path = root / place.file
    written = path.stat().st_mtime_ns
    clean = path.read_text(encoding="utf-8")
    text = place.changed()
    assert text is not None
    first = root.parent / "failed"
    first.write_text("")

    def work() -> int:
        if session is None:
            return _tested([test.test for test in tests], first)
        changed = changed_functions(clean, text, str(path))
        assert changed is not None
        change_in_place(changed)
        return _tested_again(session, [test.test for test in tests])

    try:
        path.write_text(text, encoding="utf-8")
        planned = sum(test.cpu for test in tests)
        status = _forked(work, root.parent / "trial.log", seconds=SHORTEST_S + 5 * planned)
    finally:
        path.write_text(clean, encoding="utf-8")
        os.utime(path, ns=(written, written))  # its compiled file holds again
    said = (root.parent / "trial.log").read_text(encoding="utf-8", errors="replace")
    if status == pytest.ExitCode.USAGE_ERROR and NOT_FOUND in said:
        raise RuntimeError(f"the tests of {place.file}:{place.line} are not there: see trial.log")
    outcome = {0: "survived", None: "did not end"}.get(status, "noticed")
    return outcome, first.read_text(encoding="utf-8")


@dataclass(frozen=True)
class _Failed:
    """A plug-in of pytest: which test or file failed."""

    told: Path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.told.write_text(report.nodeid, encoding="utf-8")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.told.write_text(report.nodeid, encoding="utf-8")


def _tested(tests: Sequence[str], told: Path) -> int:
    return int(pytest.main([*PYTEST, "-x", *tests], plugins=[_Failed(told)]))


def _forked(work: object, log: Path, seconds: float) -> int | None:
    """The status of work in a child with its own group; None where it took more CPU seconds, or hung."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.setsid()
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
        status = 70
        try:
            status = work()  # type: ignore[operator]
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    work_s, since, looked = 0.0, time.monotonic(), time.monotonic()
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            _end(child)
            if os.WIFSIGNALED(status):
                return None if os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL) else 70
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
        now = time.monotonic()
        if now - looked < 1:
            continue
        looked, spent_s = now, _cpu_of(child)
        if abs(spent_s - work_s) > 0.01:
            work_s, since = spent_s, now
        if spent_s > seconds or now - since > STILL_S:
            _end(child)
            os.waitpid(child, 0)
            return None


def _cpu_of(process: int) -> float:
    """CPU seconds of a process and all below it, those that have ended among them."""
    try:
        those = [(top := psutil.Process(process)), *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    spent_s = 0.0
    for one in those:
        with contextlib.suppress(psutil.NoSuchProcess):
            spent_s += sum(one.cpu_times()[:4])
    return spent_s


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def trials(
    root: Path, drawn: Sequence[Place], tests: dict[tuple[str, int], list[Passing]], seconds: float
) -> Iterator[dict[str, object]]:
    """What became of each mutant: first those within functions, from a process that has imported everything
    and collected the tests; a module's own lines count when it is imported, and those mutants start from a
    process without it."""
    within, others = [], []
    passing = {}
    for place in drawn:
        source = (root / place.file).read_text(encoding="utf-8")
        text = place.changed()
        assert text is not None
        found = changed_functions(source, text, str(root / place.file))
        (within if found else others).append(place)
        passing[place] = tests.get((place.file, block_of(source, place.line)), [])
    picked = {place: chosen(passing[place], seconds, first=place.file) for place in drawn}

    def tried(place: Place, session: pytest.Session | None = None) -> dict[str, object]:
        start = time.monotonic()
        outcome, by = ("no test", "")
        if picked[place]:
            outcome, by = trial(root, place, picked[place], session)
        return {
            "room": place.room, "file": place.file, "line": place.line, "family": place.family,
            "before": place.before, "after": place.after, "outcome": outcome, "by": by,
            "tests": len(picked[place]), "of": len(passing[place]),
            "seconds": round(time.monotonic() - start, 1),
        }  # fmt: skip

    def collected(told: Callable[[dict[str, object]], None]) -> None:
        def every(session: pytest.Session) -> None:
            known = {item.nodeid for item in session.items}
            wanted = {test.test for place in within for test in picked[place]}
            if lacking := sorted(wanted - known):
                raise RuntimeError(f"{lacking[0]} was not collected")
            gc.freeze()
            for place in within:
                told(tried(place, session))
            done.append(True)

        done: list[bool] = []

        files = {test.test.split("::")[0] for place in within for test in picked[place]}
        asked = [*PYTEST, "-x", "--continue-on-collection-errors", *sorted(files)]
        pytest.main(asked, plugins=[_Failed(root.parent / "failed"), _Instead(every)])
        if not done:
            raise RuntimeError("the tests were not collected, or not all mutants tried")

    if any(picked[place] for place in within):
        yield from _from_a_fork(collected, root.parent / "tried.log")
    else:
        yield from map(tried, within)
    yield from map(tried, others)


@dataclass(frozen=True)
class _Instead:
    """A plug-in of pytest: what is done with the tests that were collected, in place of running them."""

    work: Callable[[pytest.Session], None]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.work(session)
        return True


def _tested_again(session: pytest.Session, tests: Sequence[str]) -> int:
    """Run some of the tests that were collected, in a fork."""
    items = {item.nodeid: item for item in session.items}
    session.items[:] = [items[test] for test in tests]
    session.testsfailed = 0  # files that were not collected
    with contextlib.suppress(session.Failed):  # -x: one is enough
        main.pytest_runtestloop(session)
    return int(session.testsfailed > 0)


def _from_a_fork(
    work: Callable[[Callable[[dict[str, object]], None]], None], log: Path
) -> Iterator[dict[str, object]]:
    """What work tells, out of a child that imports all our modules first; this process stays without."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            with log.open("wb") as file:  # pytest's own words
                os.dup2(file.fileno(), 1)
            import_all()
            with os.fdopen(writing, "w", encoding="utf-8") as file:
                work(lambda entry: print(json.dumps(entry), file=file, flush=True))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("the process that tries mutants in place has failed: see above")


def import_all() -> None:
    """Every module of ours that imports here; what needs another library is left to who needs it."""
    for package in ("alharness", "alharness_strategies"):
        found = importlib.import_module(package)
        for module in pkgutil.walk_packages(found.__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                with contextlib.suppress(ImportError, pytest.skip.Exception):
                    importlib.import_module(module.name)


def changed_functions(clean: str, text: str, path: str) -> dict[CodeType, CodeType] | None:
    """Code of functions before -> after; None where lines that run at the import differ, too."""
    found: dict[CodeType, CodeType] = {}

    def inside(before: CodeType, after: CodeType) -> bool:
        """Pair all code below; whether nothing but functions differs."""
        parts = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (before, after)]
        if [part.co_qualname for part in parts[0]] != [part.co_qualname for part in parts[1]]:
            return False
        rest = [
            (
                code.co_code,
                code.co_names,
                [repr(c) for c in code.co_consts if not isinstance(c, CodeType)],
            )
            for code in (before, after)
        ]
        is_function = bool(before.co_flags & inspect.CO_OPTIMIZED)
        if is_function:
            if before.co_freevars != after.co_freevars:
                return False
            if before != after:
                found[before] = after
        elif rest[0] != rest[1]:
            return False
        return all(inside(one, other) for one, other in zip(*parts, strict=True)) or is_function

    codes = (compile(one, path, "exec", dont_inherit=True) for one in (clean, text))
    whole = inside(*codes)
    return found if whole and found else None


def change_in_place(changed: Mapping[CodeType, CodeType]) -> None:
    """Give every function that has the code of before the code of after, whoever holds it."""
    gc.unfreeze()  # what is frozen is not listed
    for thing in gc.get_objects():
        if type(thing) is FunctionType and (after := changed.get(thing.__code__)) is not None:
            thing.__code__ = after
    gc.freeze()
