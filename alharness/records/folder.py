"""Where a run lies: ``runs/<task>/<strategy>/<run_key>/`` and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alharness.files import write_json
from alharness.records.records import CycleRecord, read_records

#: Below the root of all runs: what ``alharness check`` found of each strategy (R18).
CONFORMANCE = "conformance.json"


def keep_conformance(runs_dir: Path, strategy: str, found: Mapping[str, Any]) -> Path:
    """Keep what the contract's checks said of a strategy, for reports on runs of it.

    Args:
        found: ``distribution``, ``commit``, ``passed``, ``skipped`` and the names that ``failed``.
    """
    path = runs_dir / CONFORMANCE
    write_json(path, {**read_conformance(runs_dir), strategy: dict(found)})
    return path


def read_conformance(runs_dir: Path) -> dict[str, Any]:
    """What was kept by strategy; empty when nothing was."""
    path = runs_dir / CONFORMANCE
    if not path.exists():
        return {}
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


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

    def records(self) -> list[CycleRecord]:
        """All complete records."""
        return read_records(self.cycles)

    def environment(self) -> dict[str, Any]:
        """What ``env.json`` says; empty when the run never got so far."""
        if not self.env.exists():
            return {}
        loaded: dict[str, Any] = json.loads(self.env.read_text(encoding="utf-8"))
        return loaded

    def is_finished(self) -> bool:
        """Whether the budget is spent."""
        records = self.records()
        return bool(records) and records[-1].final


def run_folders(runs_dir: Path) -> list[RunFolder]:
    """All run folders below ``runs_dir``, sorted by path."""
    return [RunFolder(path.parent) for path in sorted(runs_dir.glob("*/*/*/spec.toml"))]
