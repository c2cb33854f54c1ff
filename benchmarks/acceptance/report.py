"""Figures with their targets, each measured in a process of its own, and what is written of them."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch

from alharness import numerics
from alharness.engine import environment

#: Seconds of a preflight, at most: a wrong machine is to be found out before it costs anything.
PREFLIGHT_S = 30.0
#: A figure is given so many times what it should take, and never less than this.
PATIENCE, PATIENCE_S = 3.0, 60.0
#: Strategies that are installed, at least: fewer means that nothing was installed.
N_STRATEGIES = 25

Verdict = Literal["met", "missed", "failed", "not measured", "not judged"]


class NotMeasuredError(Exception):
    """A figure that this machine, this data or this version cannot give; its text is the reason."""


@dataclass(frozen=True)
class Found:
    """What a figure turned out to be.

    Attributes:
        value: the number, or None where only ``good`` counts.
        good: whether the target is met.
        target: the target in words.
        unit: of the value.
        is_time: depends on the clock: not judged on a pretended device.
        note: more about it.
        over: how many things were looked at: none of them is no finding.
    """

    value: float | None
    good: bool
    target: str
    unit: str = ""
    is_time: bool = False
    note: str = ""
    over: int = 1


def at_most(value: float, limit: float, unit: str, note: str = "") -> Found:
    """A time or another measured number that may not be larger."""
    return Found(value, value <= limit, f"<= {limit:g} {unit}", unit, is_time=True, note=note)


def at_least(value: float, limit: float, unit: str, note: str = "") -> Found:
    """A measured number that may not be smaller."""
    return Found(value, value >= limit, f">= {limit:g} {unit}", unit, is_time=True, note=note)


def holds(good: bool, target: str, note: str = "", *, over: int) -> Found:
    """Something that is so or not, wherever it is looked at.

    Args:
        over: of how many things.
    """
    return Found(None, good, target, note=note, over=over)


@dataclass(frozen=True)
class Place:
    """What a figure is made with.

    Attributes:
        device: the GPU, or the pretended one.
        dry: tiny sizes.
        scratch: a folder that is removed at the end.
        out: the folder of the results.
        ends: when the figure's time is over (``time.monotonic``).
    """

    device: torch.device
    dry: bool
    scratch: Path
    out: Path
    ends: float

    def left_s(self) -> float:
        """Seconds that are left."""
        return self.ends - time.monotonic()

    def size(self, full: int, tiny: int) -> int:
        """The size to measure at."""
        return tiny if self.dry else full

    def need_memory(self, n_bytes: int) -> None:
        """Room for so much on the device.

        Raises:
            NotMeasuredError: there is less.
        """
        free = torch.cuda.mem_get_info(self.device)[0]
        if n_bytes > free:
            raise NotMeasuredError(
                f"needs {n_bytes / 1e9:.0f} GB of device memory, {free / 1e9:.0f} GB are free"
            )


Measure = Callable[[Place], Found]


@dataclass(frozen=True)
class Figure:
    """A name and how to find what belongs to it.

    Attributes:
        needs_s: seconds that it takes at full size; not begun when fewer are left.
    """

    name: str
    measure: Measure
    needs_s: float = 5.0


class Report:
    """Figures in one folder, written as they are found; a later call adds to what is there.

    Nothing here touches the device: a process that has could not be forked, and an error that sticks to a
    process (a bad address, a capture that failed) is to cost one figure.
    """

    def __init__(
        self, out: Path, scratch: Path, *, dry: bool, budget_s: float, commit: str = ""
    ) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.scratch, self.dry, self.commit = out, scratch, dry, commit
        self.ends = time.monotonic() + budget_s
        self.lines = out / "figures.jsonl"
        self.rows: dict[str, dict[str, Any]] = {}
        self.head: dict[str, Any] = {}
        if self.lines.exists():
            for line in self.lines.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                if "figure" in row:
                    self.rows[row["figure"]] = row

    def preflight(self) -> str:
        """What is wrong with this machine or installation, in words; empty where nothing is."""
        answer = _in_a_process(_preflight, (self.dry,), PREFLIGHT_S)
        if isinstance(answer, str):
            return answer
        self.head = {**answer, "started_ms": time.time_ns() // 1_000_000}
        if self.commit:
            self.head["git_commit"] = self.commit
        self._append(self.head)
        return ""

    def is_settled(self, figure: Figure) -> bool:
        """Whether an earlier call has found it."""
        row = self.rows.get(figure.name)
        return row is not None and row["verdict"] in ("met", "missed", "not judged")

    def measure(self, figure: Figure) -> None:
        """Find a figure in a process of its own, and write its line."""
        start = time.monotonic()
        left = self.ends - start
        verdict: Verdict = "not measured"
        found: Found | None = None
        if left <= 0:
            note = "no time of the budget was left"
        elif not self.dry and figure.needs_s > left:
            note = f"takes about {figure.needs_s:.0f} s, and {left:.0f} s of the budget are left"
        else:
            limit = left if self.dry else min(left, max(PATIENCE_S, PATIENCE * figure.needs_s))
            place = (torch.device("cuda"), self.dry, self.scratch, self.out)
            answer = _in_a_process(_measure, (figure, place, limit), limit + 5.0)
            if isinstance(answer, str):
                verdict, note = "failed", answer
            else:
                found, verdict, note = answer
        if found is None:
            found = Found(None, False, "")
        if verdict == "met" and found.over == 0:
            verdict, note = "failed", f"nothing was looked at. {note}"
        if verdict in ("met", "missed") and self.dry and found.is_time:
            verdict = "not judged"
        row = {
            "figure": figure.name,
            "value": found.value,
            "unit": found.unit,
            "target": found.target,
            "verdict": verdict,
            "note": note,
            "over": found.over,
            "seconds": round(time.monotonic() - start, 3),
            "commit": self.head.get("git_commit", ""),
        }
        self.rows[figure.name] = row
        self._append(row)
        (self.out / "figures.txt").write_text(self.table(), encoding="utf-8")
        print(f"{row['seconds']:8.1f} s  {verdict:13} {figure.name}", flush=True)

    def _append(self, line: dict[str, Any]) -> None:
        """On the disk before anything else happens: whatever comes next may end this process."""
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> int:
        """Print the table; the exit code."""
        print("\n" + self.table(), flush=True)
        found = [row["verdict"] for row in self.rows.values()]
        return int(not found or any(verdict in ("missed", "failed") for verdict in found))

    def table(self) -> str:
        """Head and figures as a reader wants them."""
        about = {**self.head.get("hardware", {}), **self.head.get("versions", {})}
        lines = [f"GPU acceptance{' (dry: pretended device)' if self.dry else ''}"]
        lines += [f"  {name}: {value}" for name, value in about.items()]
        width = max((len(name) for name in self.rows), default=0)
        for name, row in self.rows.items():
            value = "" if row["value"] is None else f"{row['value']:.4g} {row['unit']}"
            line = f"{name:{width}}  {row['verdict']:12}  {value:>16}  {row['target']:14}"
            lines.append(f"{line}  {row['note']}".rstrip())
        kinds = ("met", "missed", "failed", "not measured", "not judged")
        count = {v: sum(row["verdict"] == v for row in self.rows.values()) for v in kinds}
        lines.append(", ".join(f"{n} {name}" for name, n in count.items()))
        return "\n".join(lines) + "\n"


def _in_a_process(function: Callable[..., Any], given: Sequence[Any], limit_s: float) -> Any:
    """What ``function`` gives in a forked process; a text where it gave nothing.

    Forked, not begun anew: what takes seconds to import is there already.
    """
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(function, given, theirs))
    process.start()
    theirs.close()
    answer: Any = f"took longer than {limit_s:.0f} s"
    if ours.poll(limit_s):
        try:
            answer = ours.recv()
        except EOFError:
            process.join()
            answer = f"its process ended with exit code {process.exitcode}"
    with ExitStack() as stack:
        stack.callback(process.join)
        if process.is_alive():
            process.join(1.0)
        if process.is_alive() and process.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it has begun
    return answer


def _answer(function: Callable[..., Any], given: Sequence[Any], theirs: Connection) -> None:
    os.setsid()  # a group of its own, to be ended as one
    try:
        theirs.send(function(*given))
    except BaseException as error:
        traceback.print_exc()
        theirs.send(f"{type(error).__name__}: {error}".splitlines()[0])


def _pretended(stack: ExitStack, *, dry: bool) -> None:
    if dry:
        from pretended_cuda import pretended_cuda

        stack.enter_context(pretended_cuda())


def _preflight(dry: bool) -> dict[str, Any] | str:
    """The head of the results, or what is wrong."""
    from alharness import registry

    n = len(registry.names(registry.STRATEGIES))
    if n < N_STRATEGIES:
        return (
            f"only {n} strategies are found: alharness is not installed (pip install --no-deps of its "
            "wheel; a checkout on PYTHONPATH has no entry points)"
        )
    with ExitStack() as stack:
        _pretended(stack, dry=dry)
        if not torch.cuda.is_available():
            from alharness.errors import UserError
            from alharness.spec import resolve_device

            try:
                resolve_device("cuda")
            except UserError as error:
                return f"{error} --dry tries the command anywhere."
        device = torch.device("cuda")
        if float(torch.ones(3, device=device).sum()) != 3.0:
            return "the device cannot add three ones"
        return head(device, dry=dry)


def _measure(
    figure: Figure, where: tuple[torch.device, bool, Path, Path], limit_s: float
) -> tuple[Found | None, Verdict, str]:
    """A figure, its verdict, and a note."""
    device, dry, scratch, out = where
    own = scratch / str(os.getpid())
    own.mkdir()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, own, ignore_errors=True)
        _pretended(stack, dry=dry)
        stack.enter_context(numerics.exact())
        try:
            found = figure.measure(Place(device, dry, own, out, time.monotonic() + limit_s))
        except NotMeasuredError as reason:
            return None, "not measured", str(reason)
        except subprocess.TimeoutExpired:
            return None, "not measured", "it took longer than what was left"
    return found, "met" if found.good else "missed", found.note


def head(device: torch.device, *, dry: bool) -> dict[str, Any]:
    """What the figures were made on and with."""
    versions = dict(environment.versions())
    for name in ("scipy", "triton", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    with numerics.exact():
        arithmetic = numerics.describe()
    return {
        "dry": dry,
        "hardware": environment.hardware(device),
        "memory_bytes": torch.cuda.mem_get_info(device)[1],
        "python": sys.version.split()[0],
        "versions": versions,
        "arithmetic": arithmetic,
        "git_commit": environment.git_commit(),
    }


def seconds(function: Callable[[], object], *, repeats: int = 5, warm_up: int = 2) -> float:
    """Least seconds of one call: what the device can do, without the host's interruptions."""
    for _ in range(warm_up):
        function()
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)
    return min(found)
