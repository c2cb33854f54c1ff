"""Runs that were read before, kept beside the runs: a finished study that is asked again costs little.

Beside the folders of a strategy's runs lies one file with the columns of those that are finished. It can be
thrown away at any time, and it is never believed over the records: a run is taken from it only while each
of the run's files is the one that was read (by its number on the disk, size, and times of content and
entry), and while its records end with the same link of their chain. In every other case the run is read
again, and so are all runs where the file is cut off, does not agree with its checksum, or was written for
other fields.

Several processes may write at once: each writes beside and renames, and the last one's file stays. Where
nothing can be written, nothing is kept and nothing is said.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from alharness.files import PARTIAL
from alharness.records.cycles import MODELS, Columns, Cycles
from alharness.records.facts import RunFacts, SpecFacts
from alharness.records.folder import FAILURE
from alharness.records.proof import LEFT_OUT
from alharness.records.runs import Run

#: The file, in the folder of a strategy's runs.
NAME = ".parsed-runs"

#: Raised when the file is laid out in another way.
FORMAT = 1

#: Fewer runs are read sooner than a file of them is written.
WORTH = 24

#: Files whose times are younger may change once more within one tick of the file system's clock, unseen.
SETTLED_NS = 2_000_000_000

#: Bytes at the end of the records that hold the last link of their chain.
_LINK_BYTES = 32

#: What is asked of the disk about a file: (number, size, content's time, entry's time); None: not there.
Stamp = list[list[int] | None]


class ParsedRuns:
    """Runs by their folders, from what was kept where that holds, else read.

    Use it as a context: what was read anew is kept at its end, where that is worth a file.

    Args:
        read: reads a run's folder.
    """

    def __init__(self, read: Callable[[Path], Run]) -> None:
        self._read = read
        self._homes: dict[Path, _Home] = {}

    def __enter__(self) -> ParsedRuns:
        return self

    def __exit__(self, *_: object) -> None:
        if sum(len(home.fresh) for home in self._homes.values()) >= WORTH:
            for home in self._homes.values():
                home.write()

    def of(self, folder: Path) -> Run:
        """What a run's folder says.

        Raises:
            UserError: as ``read``.
        """
        home = self._homes.get(folder.parent)
        if home is None:
            home = self._homes[folder.parent] = _Home(folder.parent)
        stamp = _stamp(folder)
        kept = home.find(folder, stamp)
        if kept is not None:
            return kept
        run = self._read(folder)
        # Taken twice: a file that changed while it was read is not the one of the stamp.
        if run.finished and _settled(stamp) and stamp == _stamp(folder):
            with suppress(TypeError, ValueError):  # a date of TOML, say, that JSON has not
                home.fresh[folder.name] = _written(stamp, run)
        return run


@dataclass
class _Home:
    """One folder of runs: what is kept of them, and what is new.

    Attributes:
        folder: where the runs lie.
        fresh: run's name -> its two lines, of runs that were read anew.
    """

    folder: Path
    fresh: dict[str, bytes] = field(default_factory=dict)
    _known: dict[str, _Entry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            self._known = _entries((self.folder / NAME).read_bytes())

    def find(self, folder: Path, stamp: Stamp) -> Run | None:
        """A run that was kept and is still what it was; None where there is none."""
        entry = self._known.get(folder.name)
        if entry is None or entry.told.get("stamp") != stamp:
            return None
        # It agrees with its checksum, but a stranger's program may have written it.
        with suppress(ValidationError, KeyError, TypeError):
            spec, facts = entry.told["spec"], entry.told["facts"]
            return Run(
                folder,
                SpecFacts.model_validate(spec),
                RunFacts.model_validate(facts),
                Cycles(read=entry.columns),
                entry.told["failure"],
            )
        return None

    def write(self) -> None:
        """Keep what is known and still there, and what is new; nothing where the system refuses."""
        if not self.fresh:
            return
        with suppress(OSError):
            there = {entry.name for entry in os.scandir(self.folder)}
            kept = {name: entry.lines for name, entry in self._known.items() if name in there}
            body = b"".join({**kept, **self.fresh}.values())
            # A name of its own: others may be writing the same file.
            partial = self.folder / f"{NAME}-{uuid.uuid4().hex[:12]}{PARTIAL}"
            try:
                partial.write_bytes(_header(body) + body)
                partial.replace(self.folder / NAME)
            finally:
                partial.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Entry:
    """A run in the file.

    Attributes:
        told: what its first line says.
        lines: both of its lines.
        start: where the second one begins.
    """

    told: dict[str, Any]
    lines: bytes
    start: int

    def columns(self) -> Columns:
        """The run's columns, parsed anew with each call."""
        values: dict[str, Any] = from_json(self.lines[self.start :], cache_strings="keys")
        n = len(values["cycle"])
        # What every cycle has alike stands there once.
        return {k: value if type(value) is list else [value] * n for k, value in values.items()}


#: What tells that a run's files are those that were read before; the lock and pictures say nothing.
_FILES = ("spec.toml", "env.json", "cycles.jsonl", "queries.npz", FAILURE, LEFT_OUT)


def _stamp(folder: Path) -> Stamp:
    """What the disk says of a run's files."""
    # By text, not by Path: the paths of six names take longer to make than the system to answer.
    place = os.fspath(folder)
    return [*(_told(f"{place}/{name}") for name in _FILES), _link_of(f"{place}/cycles.jsonl")]


def _told(file: str) -> list[int] | None:
    """Number, size and times of a file; None where it cannot be asked."""
    try:
        told = os.stat(file)  # noqa: PTH116
    except OSError:
        return None
    return [told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns]


def _link_of(cycles: str) -> list[int] | None:
    """The end of the records: the last link of their chain, as numbers like the rest of a stamp."""
    try:
        with open(cycles, "rb", buffering=0) as file:  # noqa: PTH123
            file.seek(-_LINK_BYTES, os.SEEK_END)
            return list(file.read(_LINK_BYTES))
    except OSError:
        return None


def _settled(stamp: Stamp) -> bool:
    """Whether all times of a stamp lie so far back that another change would show."""
    newest = max(max(told[2:4]) for told in stamp[:-1] if told is not None)
    return newest < time.time_ns() - SETTLED_NS


def _written(stamp: Stamp, run: Run) -> bytes:
    """A run as two lines: what is needed of every run, and its columns."""
    told = {
        "name": run.folder.name,
        "stamp": stamp,
        "spec": run.spec.as_written(),
        "facts": run.facts.as_written(),
        "failure": run.failure,
    }
    columns = run.records.columns()
    return _line(told) + _line({name: _short(name, column) for name, column in columns.items()})


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _short(name: str, column: list[Any]) -> Any:
    """A column, or what every cycle has alike: 1, 1.0 and True are not alike here, lists never."""
    first, kinds = column[0], {type(value) for value in column}
    if name == "cycle" or len(kinds) > 1 or isinstance(first, list | dict):
        return column
    return first if all(value == first for value in column) else column


@cache
def _fields() -> str:
    """Digest of the fields of records: what was kept of others is read again."""
    told = [
        f"{m.__name__}.{name}:{field}" for m in MODELS for name, field in m.model_fields.items()
    ]
    # A validator's address is another in every process.
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", "\n".join(told))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _header(body: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(body).hexdigest()
    return _line({"format": FORMAT, "fields": _fields(), "sha256": digest})


def _entries(content: bytes) -> dict[str, _Entry]:
    """What a file holds, by the run's name.

    Raises:
        ValueError: it is not what was written, or was written for other fields.
    """
    start = content.index(b"\n") + 1
    if content[:start] != _header(memoryview(content)[start:]):
        raise ValueError("another format, other fields or another body")
    found = {}
    while start < len(content):
        columns = content.index(b"\n", start) + 1
        end = content.index(b"\n", columns) + 1
        told = from_json(content[start:columns])
        found[str(told["name"])] = _Entry(told, content[start:end], columns - start)
        start = end
    return found
