"""What a view holds already, asked in one question and of an SQLite file without importing MLflow.

Each run in the view carries a stamp: a digest of what its folder said when it was written. A run whose
stamp agrees needs nothing, so a view with nothing new costs a read of each folder's end.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from alharness.records import RunFolder
from alharness.tracking.stores import CHECKED_BYTES, sqlite_path

PREFIX = "alharness."
STAMP, KEY, FOLDER, SWEEP = (f"{PREFIX}{name}" for name in ("stamp", "run_key", "folder", "sweep"))
PARENT = "mlflow.parentRunId"

#: Changed when a version writes more into the view: stamps of before agree with none then.
VERSION = "1"

#: The end of ``cycles.jsonl`` that is looked at: its last line holds the checksum of all before it.
END_BYTES = 4096

_QUESTION = """
SELECT runs.run_uuid, runs.status, tags.key, tags.value
FROM runs JOIN tags USING (run_uuid) JOIN experiments USING (experiment_id)
WHERE experiments.name = ? AND experiments.lifecycle_stage = 'active'
AND runs.lifecycle_stage = 'active' AND tags.key IN (?, ?, ?, ?, ?)
"""


@dataclass(frozen=True)
class SeenRun:
    """A run in the view: its identity there, its status and our tags."""

    run_id: str
    status: str
    tags: Mapping[str, str]


class Seen:
    """The runs of an experiment by run key, and the sweeps by name."""

    def __init__(self, runs: Iterable[SeenRun]) -> None:
        self.by_key: dict[str, list[SeenRun]] = {}
        self.sweeps: dict[str, SeenRun] = {}
        for run in runs:
            if KEY in run.tags:
                self.by_key.setdefault(run.tags[KEY], []).append(run)
            elif SWEEP in run.tags:
                self.sweeps.setdefault(run.tags[SWEEP], run)

    def is_fresh(self, folder: RunFolder, sweep: str = "") -> bool:
        """Whether the view of a run says what its folder says, below its sweep where it has one."""
        parent = self.sweeps.get(sweep)
        if sweep and parent is None:
            return False
        wanted = {STAMP: stamp_of(folder), FOLDER: str(folder.path.resolve())}
        if parent is not None:
            wanted[PARENT] = parent.run_id
        return any(
            run.status != "RUNNING" and wanted.items() <= run.tags.items()
            for run in self.by_key.get(folder.path.name, [])
        )


def stamp_of(folder: RunFolder) -> str:
    """A digest of what a run's folder says: settings, environment, and the last link of its records."""
    digest = hashlib.sha256(VERSION.encode())
    for path in (folder.spec, folder.env):
        digest.update(path.read_bytes() if path.exists() else b"")
        digest.update(b"\0")
    if folder.cycles.exists():
        with folder.cycles.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - END_BYTES))
            digest.update(f"{size}\0".encode() + file.read())
    return digest.hexdigest()[:16]


def look(uri: str, experiment: str) -> Seen | None:
    """What an SQLite store holds, without MLflow; None where only MLflow can tell."""
    path = sqlite_path(uri)
    if path is None or not path.is_file():
        return None
    try:
        return Seen(_rows(path, experiment))
    except (sqlite3.Error, OSError):  # whatever is wrong with it, whoever opens it in full says it
        return None


def _rows(path: Path, experiment: str) -> list[SeenRun]:
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as database:
        if path.stat().st_size <= CHECKED_BYTES:
            (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise sqlite3.DatabaseError(sound)
        asked = (experiment, STAMP, KEY, FOLDER, SWEEP, PARENT)
        found: dict[str, tuple[str, dict[str, str]]] = {}
        for run_id, status, key, value in database.execute(_QUESTION, asked):
            found.setdefault(run_id, (status, {}))[1][key] = value
    return [SeenRun(run_id, status, tags) for run_id, (status, tags) in found.items()]
