"""A plan: runs with numbers, for job arrays. A number keeps its run for ever.

An array that waits in a queue knows its runs by number, so a plan that is made again over the same file
keeps what is there and appends what is new. The file is JSON lines: a head, then one run a line in the
order of the numbers. A task finds its own line by halving the file, and reads some kilobytes of a plan of
any length; versions before 0.3 wrote one JSON object, which is read as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from alharness.errors import UserError
from alharness.executors.base import settled
from alharness.executors.sweeps import Job
from alharness.files import beside, parse_json

#: What the head of a plan says it is.
FORMAT = 2


def job_of_plan(path: Path, index: int) -> Job:
    """The run of a number, for this machine.

    Raises:
        UserError: no such plan or number, a spec of another version, a device that is not here.
    """
    with _opened(path) as file:
        head, first = _head(file, path)
        runs = head.get("runs")  # of a plan from before
        if runs is not None:
            run = runs[index] if index < len(runs) else None
        else:
            run = _find(file, first, index, path)
        if run is None:
            n = len(runs) if runs is not None else sum(1 for _ in _lines(file, first))
            raise UserError(f"The plan '{path}' has runs 0 to {n - 1}; found --index {index}.")
    try:
        return Job(index, settled(run), Path(head["runs_dir"]))
    except ValidationError as error:
        raise UserError(
            f"Run {index} of '{path}' does not fit this version ({error.errors()[0]['msg']}). "
            "Make the plan again with another --out."
        ) from error


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
    head = {"plan": FORMAT, "sweep": sweep, "runs_dir": str(root)}
    known: dict[str, int] = {}
    if path.exists():
        with _opened(path) as file:
            there, first = _head(file, path)
            if Path(there["runs_dir"]) != root:
                raise UserError(
                    f"'{path}' is a plan for runs in '{there['runs_dir']}', and an array may be waiting "
                    f"for it; these runs belong in '{root}'. Choose another --out."
                )
            runs = there.get("runs")
            if runs is None:
                runs = (_parsed(line, path)["run"] for line in _lines(file, first))
            known = {_text(run): index for index, run in enumerate(runs)}
    numbers = [known.setdefault(_text(job.portable()), len(known)) for job in jobs]
    with beside(path) as partial, partial.open("w", encoding="utf-8") as written:
        written.write(json.dumps(head) + "\n")
        for text, index in known.items():  # in the order of their numbers
            written.write(f'{{"index":{index},"run":{text}}}\n')
    return sorted(numbers)


def _text(run: Mapping[str, Any]) -> str:
    """A spec as it stands in a line: equal texts, equal runs."""
    return json.dumps(run, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise UserError(
            f"There is no plan '{path}'. Make one with 'alharness sweep plan'."
        ) from None
    except OSError as error:
        raise _no_plan(path, error) from error


def _head(file: IO[bytes], path: Path) -> tuple[dict[str, Any], int]:
    """What a plan says before its runs, and where these begin; of an old plan, all that it says."""
    try:
        line = file.readline()
        if not line.startswith(b'{"plan":'):
            line += file.read()
        head: Any = parse_json(line)
        if not isinstance(head, dict):  # '"plan"' and '["plan"]' hold the word, too
            raise TypeError("it begins with no table")
        runs = None if "plan" in head else head["runs"]
        if runs is not None and not (
            isinstance(runs, list) and all(isinstance(run, dict) for run in runs)
        ):
            raise TypeError("its 'runs' are no list of specs")
        if head.get("plan", FORMAT) != FORMAT:
            raise ValueError(f"format {head['plan']} is of a later version")
        return {**head, "runs": runs, "runs_dir": str(head["runs_dir"])}, file.tell()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_plan(path, error) from error


def _lines(file: IO[bytes], first: int) -> Iterator[bytes]:
    file.seek(first)
    return iter(file.readline, b"")


def _find(file: IO[bytes], first: int, index: int, path: Path) -> Any:
    """The run of a number; None where the plan has no such line. Lines stand in the numbers' order."""
    low, high = first, file.seek(0, os.SEEK_END)  # the line begins at one of these bytes
    while low < high:
        middle = (low + high) // 2
        if middle > first:
            file.seek(middle - 1)
            file.readline()  # the rest of a line that begins before
        else:
            file.seek(first)
        begins = file.tell()
        # The next line begins behind what is looked through: the one that is sought lies before the middle.
        if begins >= high:
            high = middle
            continue
        found = _parsed(file.readline(), path)
        if found["index"] == index:
            return found["run"]
        if found["index"] < index:
            low = file.tell()
        else:
            high = middle
    return None


def _parsed(line: bytes, path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = parse_json(line)
        if not isinstance(value["run"], dict) or not isinstance(value["index"], int):
            raise TypeError("a line holds no run")
        return value
    except (ValueError, KeyError, TypeError) as error:
        raise _no_plan(path, error) from error


def _no_plan(path: Path, error: Exception) -> UserError:
    return UserError(
        f"'{path}' is not a plan ({error}). Make one with 'alharness sweep plan --out FILE'."
    )


def as_array(numbers: Sequence[int]) -> str:
    """Ascending numbers as Slurm writes them: ``0-3,7``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
