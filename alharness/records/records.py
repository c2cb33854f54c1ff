"""The truth of a run: one line per cycle in ``cycles.jsonl``, what was asked in ``queries.npz``.

Everything else (MLflow, tables, figures) is a view that can be rebuilt from these files. A line is
appended and flushed to the disk when its cycle is complete; a torn last line is dropped on reading.

``record.without_times()`` is what two runs of the same spec have in common, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alharness.errors import UserError
from alharness.files import append_line
from alharness.records.ledger import LedgerEntry, each_once

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
    preparation: list[LedgerEntry] | None = Field(
        None, description="the ledger of one-off costs, in the record of cycle 0"
    )

    @property
    def prepared(self) -> list[LedgerEntry]:
        """What was prepared, each thing once; empty in all cycles but the first."""
        return each_once(self.preparation or [])


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


def append_record(path: Path, record: CycleRecord) -> None:
    """Append one line and wait until it is on the disk."""
    append_line(path, record.model_dump_json())


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
