"""Where a run lies: ``runs/<task>/<strategy>/<run_key>/`` and its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alharness.files import read_sealed, write_sealed
from alharness.records.proof import digests_of, prove_files
from alharness.records.records import CycleRecord, RecordFile

#: Below the root of all runs: what ``alharness check`` found of each strategy (R18).
CONFORMANCE = "conformance.json"


def keep_conformance(runs_dir: Path, strategy: str, found: Mapping[str, Any]) -> Path:
    """Keep what the contract's checks said of a strategy, for reports on runs of it.

    Args:
        found: ``distribution``, ``commit``, ``passed``, ``skipped`` and the names that ``failed``.
    """
    path = runs_dir / CONFORMANCE
    write_sealed(path, {**read_conformance(runs_dir), strategy: dict(found)})
    return path


def read_conformance(runs_dir: Path) -> dict[str, Any]:
    """What was kept by strategy; empty when nothing was."""
    path = runs_dir / CONFORMANCE
    if not path.exists():
        return {}
    return read_sealed(path, "Remove it; 'alharness check' writes it anew.")


class RunFolder:
    """``runs/<task>/<strategy>/<run_key>/``: the files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def spec(self) -> Path:
        return self.path / "spec.toml"

    @property
    def cycles(self) -> Path:
        return self.path / "cycles.jsonl"

    @property
    def queries(self) -> Path:
        return self.path / "queries.npz"

    @property
    def env(self) -> Path:
        return self.path / "env.json"

    @property
    def lock(self) -> Path:
        """Held by the process that writes: liveness of a run is this lock, not a status somewhere."""
        return self.path / "lock"

    def record_file(self) -> RecordFile:
        """The file of records, to be read and appended to."""
        return RecordFile(self.cycles)

    def records(self) -> list[CycleRecord]:
        """All complete records; those of a finished run prove its other files.

        Raises:
            UserError: a file of the run is damaged or missing.
        """
        records = self.record_file().read()
        if records and records[-1].final:
            prove_files(records[-1], self.path)
        return records

    def is_proven(self, records: Sequence[CycleRecord]) -> bool:
        """Whether checksums cover the run: false for runs from before there were any."""
        return bool(records) and all(record.rows is not None for record in records)

    def clear(self) -> None:
        """Throw away what exists of the run."""
        for path in (self.cycles, self.queries, self.env):
            path.unlink(missing_ok=True)

    def seal(self) -> dict[str, str]:
        """Digests of the files beside the records."""
        return digests_of([self.spec, self.env, self.queries])

    def write_environment(self, value: Mapping[str, Any]) -> None:
        """Write ``env.json``."""
        write_sealed(self.env, value)

    def environment(self) -> dict[str, Any]:
        """What ``env.json`` says; empty when the run never got so far.

        Raises:
            UserError: the file is damaged.
        """
        if not self.env.exists():
            return {}
        return read_sealed(self.env, "Restore it, or start the run over with --fresh.")

    def is_finished(self) -> bool:
        """Whether the budget is spent."""
        records = self.records()
        return bool(records) and records[-1].final


def run_folders(runs_dir: Path) -> list[RunFolder]:
    """All run folders below ``runs_dir``, sorted by path."""
    return [RunFolder(path.parent) for path in sorted(runs_dir.glob("*/*/*/spec.toml"))]
