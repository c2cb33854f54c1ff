"""A plan: runs with numbers, for job arrays. A number keeps its run for ever.

An array that waits in a queue knows its runs by number, so a plan that is made again over the same file
keeps what is there and appends what is new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alharness.errors import UserError
from alharness.executors.base import settled
from alharness.executors.sweeps import Job
from alharness.files import parse_json, write_json


@dataclass(frozen=True)
class Plan:
    """Runs by number.

    Attributes:
        runs_dir: root of their folders.
        runs: their specs as plain values; a device of ``auto`` is settled where the run is carried out.
    """

    runs_dir: Path
    runs: tuple[dict[str, Any], ...]

    def job(self, index: int, path: Path) -> Job:
        """The run of a number, for this machine.

        Raises:
            UserError: no such number, a spec of another version, a device that is not here.
        """
        if index >= len(self.runs):
            raise UserError(
                f"The plan '{path}' has runs 0 to {len(self.runs) - 1}; found --index {index}."
            )
        try:
            return Job(index, settled(self.runs[index]), self.runs_dir)
        except ValidationError as error:
            raise UserError(
                f"Run {index} of '{path}' does not fit this version ({error.errors()[0]['msg']}). "
                "Make the plan again with another --out."
            ) from error


def read_plan(path: Path) -> Plan:
    """A plan that ``extend_plan`` wrote.

    Raises:
        UserError: no such file, or not a plan.
    """
    try:
        written = parse_json(path.read_text(encoding="utf-8"))
        runs, runs_dir = written["runs"], Path(written["runs_dir"])
        if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
            raise TypeError("its 'runs' are no list of specs")
    except FileNotFoundError:
        raise UserError(
            f"There is no plan '{path}'. Make one with 'alharness sweep plan'."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"'{path}' is not a plan ({error}). Make one with 'alharness sweep plan --out FILE'."
        ) from error
    return Plan(runs_dir, tuple(runs))


def extend_plan(path: Path, sweep: str, runs_dir: Path, jobs: Sequence[Job]) -> list[int]:
    """Write a plan, or add to the one that is there.

    Args:
        path: the plan's file.
        sweep: its name.
        runs_dir: root of the run folders.
        jobs: runs that are left.

    Returns:
        the numbers of these jobs.

    Raises:
        UserError: the file is there and is no plan, or the plan of another ``runs_dir``.
    """
    root = runs_dir.resolve()
    runs = []
    if path.exists():
        known = read_plan(path)
        if known.runs_dir != root:
            raise UserError(
                f"'{path}' is a plan for runs in '{known.runs_dir}', and an array may be waiting for it; "
                f"these runs belong in '{root}'. Choose another --out."
            )
        runs = list(known.runs)
    numbers = []
    for job in jobs:
        spec = job.portable()
        if spec not in runs:
            runs.append(spec)
        numbers.append(runs.index(spec))
    write_json(path, {"sweep": sweep, "runs_dir": str(root), "runs": runs})
    return sorted(numbers)


def as_array(numbers: Sequence[int]) -> str:
    """Ascending numbers as Slurm writes them: ``0-3,7``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
