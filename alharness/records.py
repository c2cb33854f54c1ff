"""The truth of a run: one line per cycle in ``cycles.jsonl``, what was asked in ``queries.npz``.

Everything else (MLflow, tables, figures) is a view that can be rebuilt from these files. A line is
appended and flushed to the disk when its cycle is complete; a torn last line is dropped on reading.

``record.without_times()`` is what two runs of the same spec have in common, byte for byte.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alharness.errors import UserError

SCHEMA = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FitFigures(_Model):
    """How the classifier of the cycle was trained."""

    steps: int
    train_loss: float
    converged: bool


class TestFigures(_Model):
    """The classifier of the cycle on the whole test set."""

    __test__ = False  # not a test class, whatever its name

    accuracy: float
    balanced_accuracy: float = Field(description="mean recall over the classes of the test set")
    macro_f1: float
    average_precision: float = Field(
        description="of class 1 for two classes, mean over classes against the rest otherwise"
    )
    log_loss: float = Field(description="mean cross-entropy in nats")


class QueryFigures(_Model):
    """What was asked, judged by the classifier that asked, before annotation."""

    kind: Literal["pool", "image", "line"]
    size: int
    entropy_mean: float = Field(description="nats")
    entropy_median: float
    digest: str = Field(description="SHA-256 (16 hex digits) of the query")
    diagnostics: dict[str, float] = Field(default_factory=dict)


class AnnotationFigures(_Model):
    """What came back."""

    n_asked: int = Field(description="annotations spent by this query")
    n_rejected: int
    n_labels: int = Field(description="labels that joined the training set")
    cost: float
    class_histogram: list[int] = Field(description="labels per class")


class Times(_Model):
    """Seconds. Only here and in ``ts_ms`` do two runs of one spec differ."""

    fit_s: float
    evaluate_s: float
    select_s: float | None = Field(
        description="phases of the selection, added up; book-keeping apart"
    )
    annotate_s: float | None
    bookkeeping_s: float = Field(
        0.0, description="the harness's O(pool) work on behalf of a strategy"
    )
    harness_s: float = Field(
        description="the rest of the cycle inside the loop, book-keeping included"
    )
    phases: dict[str, float] = Field(default_factory=dict, description="phases of select_s")
    preparation: list[dict[str, Any]] | None = Field(
        None, description="the ledger of one-off costs, in the record of cycle 0"
    )


class CycleRecord(_Model):
    """One cycle: train, evaluate, ask. The last one of a run asks nothing more."""

    schema_version: int = SCHEMA
    cycle: int
    n_labelled: int = Field(description="labels that the classifier of this cycle was trained on")
    n_asked: int = Field(description="annotations spent before this cycle; what the budget counts")
    n_synthetic: int = Field(description="labels of synthetic items among n_labelled")
    cost: float = Field(description="cost of all annotations before this cycle")
    labelled_digest: str
    learner_digest: str
    fit: FitFigures
    test: TestFigures
    query: QueryFigures | None
    annotation: AnnotationFigures | None
    work: dict[str, int] = Field(default_factory=dict)
    time: Times
    ts_ms: int = Field(description="when the cycle was complete, milliseconds since 1970")
    final: bool = Field(description="true when the budget is spent")

    def without_times(self) -> dict[str, Any]:
        """The record as plain values, without what the clock says."""
        return self.model_dump(exclude={"time", "ts_ms"})


#: Rows of ``queries.npz`` that belong to the initial set.
INITIAL = -1


class QueryLog:
    """Arrays of rows, each row tagged with the cycle it belongs to.

    Names: ``indices`` and ``targets`` (labelled pool items), ``items`` and ``item_targets``
    (labelled synthetic items), ``entropy`` (of each queried item), ``extra.NAME`` (further training
    signals), ``array.NAME`` (what a strategy keeps for pictures).
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[NDArray[Any]]] = {}
        self._cycles: dict[str, list[NDArray[np.int32]]] = {}

    def add(self, cycle: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Append the rows of one cycle."""
        for name, values in arrays.items():
            self._rows.setdefault(name, []).append(np.asarray(values))
            self._cycles.setdefault(name, []).append(np.full(len(values), cycle, dtype=np.int32))

    def rows(self, name: str, cycle: int) -> NDArray[Any] | None:
        """The rows of one cycle, or None when the name has none there."""
        found = [
            values[cycles == cycle]
            for values, cycles in zip(
                self._rows.get(name, []), self._cycles.get(name, []), strict=True
            )
            if (cycles == cycle).any()
        ]
        return np.concatenate(found) if found else None

    def names(self) -> list[str]:
        """Names with at least one chunk of rows."""
        return list(self._rows)

    def cycles(self, name: str) -> list[int]:
        """Cycles that have rows of a name, ascending."""
        found: set[int] = set()
        for chunk in self._cycles.get(name, []):
            found.update(np.unique(chunk).tolist())
        return sorted(found)

    def before(self, cycle: int) -> QueryLog:
        """Only the rows of earlier cycles: what a run that resumes at ``cycle`` starts from."""
        kept = QueryLog()
        for name, chunks in self._rows.items():
            for values, cycles in zip(chunks, self._cycles[name], strict=True):
                mask = cycles < cycle
                if mask.any():
                    kept._rows.setdefault(name, []).append(values[mask])
                    kept._cycles.setdefault(name, []).append(cycles[mask])
        return kept

    def write(self, path: Path) -> None:
        """Write beside and rename: a reader sees the old file or the new one, never half of one."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, chunks in self._rows.items():
            # One chunk per name from here on: the next write concatenates two pieces, not hundreds.
            self._rows[name] = [np.concatenate(chunks)]
            self._cycles[name] = [np.concatenate(self._cycles[name])]
            arrays[name] = self._rows[name][0]
            arrays[f"{name}@cycle"] = self._cycles[name][0]
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> QueryLog:
        """Read a file that ``write`` made.

        Raises:
            UserError: the file is damaged.
        """
        log = cls()
        try:
            with np.load(path, allow_pickle=False) as file:
                for name in file.files:
                    if not name.endswith("@cycle"):
                        log._rows[name] = [file[name]]
                        log._cycles[name] = [file[f"{name}@cycle"]]
        except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
            raise UserError(
                f"'{path}' is damaged ({error}). Start the run over with --fresh, or restore the file."
            ) from error
        return log


def append_record(path: Path, record: CycleRecord) -> None:
    """Append one line and wait until it is on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(record.model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_records(path: Path) -> list[CycleRecord]:
    """All complete records of a run; a torn last line, left by a kill, is passed over.

    Raises:
        UserError: a line in the middle that is not a record, or a gap in the cycles.
    """
    if not path.exists():
        return []
    records: list[CycleRecord] = []
    for number, line, complete in _lines(path):
        if not complete:
            break
        try:
            record = CycleRecord.model_validate_json(line)
        except ValidationError as error:
            raise UserError(
                f"'{path}' line {number} is not a cycle record ({error.errors()[0]['msg']}). "
                "Restore the file, or start the run over with --fresh."
            ) from error
        if record.cycle != len(records):
            raise UserError(
                f"'{path}' line {number} is cycle {record.cycle}, expected {len(records)}. "
                "Restore the file, or start the run over with --fresh."
            )
        records.append(record)
    return records


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, line, line.endswith(b"\n")


def drop_torn_line(path: Path) -> None:
    """Cut off what a kill left of an unfinished last line, before appending again."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("rb+") as file:
            file.truncate(end)
            os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file beside and rename: never half a file. Folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def write_json(path: Path, value: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write JSON beside and rename."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


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
