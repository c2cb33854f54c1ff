"""Figures with their targets, a stage with its nine minutes, and what is written of both."""

from __future__ import annotations

import json
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from alharness import numerics
from alharness.engine import environment

#: Seconds of a stage; the command that starts it may have a limit of ten minutes.
STAGE_S = 520.0

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
    """

    value: float | None
    good: bool
    target: str
    unit: str = ""
    is_time: bool = False
    note: str = ""


def at_most(value: float, limit: float, unit: str, note: str = "") -> Found:
    """A time or another measured number that may not be larger."""
    return Found(value, value <= limit, f"<= {limit:g} {unit}", unit, is_time=True, note=note)


def at_least(value: float, limit: float, unit: str, note: str = "") -> Found:
    """A measured number that may not be smaller."""
    return Found(value, value >= limit, f">= {limit:g} {unit}", unit, is_time=True, note=note)


def holds(good: bool, target: str, note: str = "") -> Found:
    """Something that is so or not, wherever it is looked at."""
    return Found(None, good, target, note=note)


@dataclass(frozen=True)
class Place:
    """What a figure is made with.

    Attributes:
        device: the GPU, or the pretended one.
        dry: tiny sizes.
        scratch: a folder that is removed at the end.
        out: the folder of the results.
        ends: when the stage's time is over (``time.monotonic``).
    """

    device: torch.device
    dry: bool
    scratch: Path
    out: Path
    ends: float

    def left_s(self) -> float:
        """Seconds of the stage that are left."""
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
    """The figures of one stage, written as they are found."""

    def __init__(self, stage: str, out: Path, scratch: Path, *, dry: bool) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.stage, self.out, self.dry = stage, out, dry
        device = torch.device("cuda")
        self.place = Place(device, dry, scratch, out, time.monotonic() + STAGE_S)
        self.lines = out / f"{stage}.jsonl"
        self.rows: list[dict[str, Any]] = []
        self.head = head(stage, device, dry=dry)
        self.lines.write_text(json.dumps(self.head) + "\n", encoding="utf-8")

    def measure(self, figure: Figure) -> None:
        """Find a figure and write its line; an error in it is a figure that failed."""
        start = time.monotonic()
        verdict: Verdict
        found = Found(None, False, "")
        try:
            if not self.dry and figure.needs_s > self.place.left_s():
                raise NotMeasuredError(
                    f"takes about {figure.needs_s:.0f} s, and {self.place.left_s():.0f} s of the "
                    "stage's nine minutes are left"
                )
            with numerics.exact():
                found = figure.measure(self.place)
            verdict, note = "met" if found.good else "missed", found.note
            if self.dry and found.is_time:
                verdict = "not judged"
        except NotMeasuredError as reason:
            verdict, note = "not measured", str(reason)
        except subprocess.TimeoutExpired:
            verdict, note = "not measured", "it took longer than what was left of the stage"
        except Exception as error:  # the other figures are worth having
            verdict, note = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
            traceback.print_exc()
        torch.cuda.empty_cache()
        row = {
            "stage": self.stage,
            "figure": figure.name,
            "value": found.value,
            "unit": found.unit,
            "target": found.target,
            "verdict": verdict,
            "note": note,
            "seconds": round(time.monotonic() - start, 3),
        }
        self.rows.append(row)
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{row['seconds']:8.1f} s  {verdict:13} {figure.name}", flush=True)

    def close(self) -> int:
        """Write and print the table; the exit code."""
        text = self.table()
        (self.out / f"{self.stage}.txt").write_text(text, encoding="utf-8")
        print("\n" + text, flush=True)
        return int(any(row["verdict"] in ("missed", "failed") for row in self.rows))

    def table(self) -> str:
        """Head and figures as a reader wants them."""
        about = {**self.head["hardware"], **self.head["versions"]}
        lines = [f"{self.stage}{' (dry: pretended device)' if self.dry else ''}"]
        lines += [f"  {name}: {value}" for name, value in about.items()]
        width = max(len(row["figure"]) for row in self.rows)
        for row in self.rows:
            value = "" if row["value"] is None else f"{row['value']:.4g} {row['unit']}"
            line = f"{row['figure']:{width}}  {row['verdict']:12}  {value:>16}  {row['target']:14}"
            lines.append(f"{line}  {row['note']}".rstrip())
        count = {
            v: sum(row["verdict"] == v for row in self.rows) for v in ("met", "missed", "failed")
        }
        count["not measured"] = sum(row["verdict"] == "not measured" for row in self.rows)
        lines.append(", ".join(f"{n} {name}" for name, n in count.items()))
        return "\n".join(lines) + "\n"


def head(stage: str, device: torch.device, *, dry: bool) -> dict[str, Any]:
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
        "stage": stage,
        "dry": dry,
        "started_ms": time.time_ns() // 1_000_000,
        "hardware": environment.hardware(device),
        "memory_bytes": torch.cuda.mem_get_info(device)[1],
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
