"""Where a run lies: ``runs/<task>/<strategy>/<run_key>/`` and its files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alharness.errors import DamagedError, UserError
from alharness.files import (
    explained,
    parse_json,
    parse_toml,
    read_sealed,
    write_json,
    write_sealed,
)
from alharness.records.cycles import Cycles
from alharness.records.facts import RunFacts, SpecFacts, first_fault
from alharness.records.proof import CURE, digests_of, prove_files
from alharness.records.records import CycleRecord, RecordFile

#: Below the root of all runs: what ``alharness check`` found of each strategy (R18).
CONFORMANCE = "conformance.json"

#: Written beside the records when a run ended in an error; removed when it is tried again.
FAILURE = "failure.json"


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

    def classifier(self, cycle: int) -> Path:
        """Parameters of a cycle's classifier, kept while the next one may start there."""
        return self.path / f"classifier_{cycle:04d}.safetensors"

    def drop_classifiers(self, but: int | None = None) -> None:
        """Remove kept classifiers, all but that of one cycle."""
        for path in self.path.glob("classifier_*.safetensors"):
            if but is None or path != self.classifier(but):
                path.unlink(missing_ok=True)

    @property
    def lock(self) -> Path:
        """Held by the process that writes: liveness of a run is this lock, not a status somewhere."""
        return self.path / "lock"

    def require_no_links(self) -> None:
        """Refuse to write over links: where many share a folder of runs, they may lead into another's run.

        The root of all runs may be a link; what lies below it may not.

        Raises:
            UserError: the folder, one of the two above it or something in it is a link.
        """
        with explained(self.path, "read"):
            links = [p for p in (*self.path.parents[1::-1], self.path) if p.is_symlink()]
            if not links and self.path.is_dir():
                with os.scandir(self.path) as entries:  # which tells links without asking for each
                    links = sorted(Path(entry) for entry in entries if entry.is_symlink())
            for place in links[:1]:
                raise UserError(
                    f"'{place}' is a link to '{place.readlink()}': a run is written into folders and "
                    "files of its own alone. Remove the link, or choose another place with "
                    "--runs-dir."
                )

    def record_file(self) -> RecordFile:
        """The file of records, to be read and appended to."""
        return RecordFile(self.cycles)

    def records(self) -> list[CycleRecord]:
        """All complete records; those of a finished run prove its other files.

        Raises:
            UserError: a file of the run is damaged or missing.
        """
        records = self.record_file().read()
        # While a run goes on, queries.npz is ahead of its records; env.json grows with each session.
        if records and records[-1].final:
            prove_files(records[-1], self.path)
        return records

    def is_proven(self, records: Sequence[CycleRecord]) -> bool:
        """Whether checksums cover the run: false for runs from before there were any."""
        rows = Cycles.of(records).column("rows")
        return bool(rows) and None not in rows

    def clear(self) -> None:
        """Throw away what exists of the run."""
        for path in (self.cycles, self.queries, self.env):
            path.unlink(missing_ok=True)
        self.drop_classifiers()

    def seal(self) -> dict[str, str]:
        """Digests of the files beside the records."""
        return digests_of([self.spec, self.env, self.queries])

    def write_facts(self, facts: RunFacts) -> None:
        """Write ``env.json``."""
        write_sealed(self.env, facts.as_written())

    def facts(self) -> RunFacts:
        """What ``env.json`` says; all defaults when the run never got so far.

        Raises:
            UserError: the file is damaged, or cannot be read.
        """
        if not self.env.exists():
            return RunFacts()
        values = read_sealed(self.env, CURE)
        try:
            return RunFacts.model_validate(values)
        except ValidationError as error:
            raise _damaged(self.env, first_fault(error)) from error

    def spec_facts(self) -> SpecFacts | None:
        """What ``spec.toml`` says; None when the run never got so far.

        Raises:
            UserError: the file is damaged, cannot be read, or is missing beside records.
        """
        if not self.spec.exists():
            if self.cycles.exists():
                raise _damaged(self.spec, "it is missing")
            return None
        try:
            with explained(self.spec, "read"):
                values = parse_toml(self.spec.read_text(encoding="utf-8"))
            return SpecFacts.model_validate(values)
        except ValidationError as error:
            raise _damaged(self.spec, first_fault(error)) from error
        except ValueError as error:  # not TOML, not text
            raise _damaged(self.spec, str(error)) from error

    def failure(self) -> str | None:
        """Why the last attempt at the run ended in an error."""
        file = self.path / FAILURE
        if not file.exists():
            return None
        try:
            return str(parse_json(file.read_text(encoding="utf-8"))["reason"])
        except (OSError, ValueError, KeyError, TypeError):
            return f"unknown: '{file}' is damaged"

    def write_failure(self, reason: str | None, details: str = "") -> None:
        """Leave the reason of a failed attempt beside the records; None takes an old one away."""
        self.require_no_links()
        file = self.path / FAILURE
        if reason is None:
            file.unlink(missing_ok=True)
        else:
            write_json(file, {"reason": reason, "traceback": details.splitlines()})

    def is_finished(self) -> bool:
        """Whether the budget is spent, or a rule ended the run."""
        records = self.records()
        return bool(records) and records[-1].final


def _damaged(file: Path, why: str) -> DamagedError:
    return DamagedError(f"'{file}' is damaged ({why}). {CURE}")
