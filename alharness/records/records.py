"""The truth of a run: one line per cycle in ``cycles.jsonl``, what was asked in ``queries.npz``.

Everything else (MLflow, tables, figures) is a view that can be rebuilt from these files. A line is
appended and flushed to the disk when its cycle is complete; a torn last line is dropped on reading, and
a line that is not what was written is refused.

``record.without_times()`` is what two runs of the same spec have in common, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from alharness.artefacts.ledger import LedgerEntry, each_once
from alharness.errors import UserError
from alharness.files import append_line, explained
from alharness.frozen import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SCHEMA = 1


class FitFigures(Frozen):
    """How the classifier of the cycle was trained."""

    steps: int
    train_loss: float
    converged: bool
    n_unlabelled: int | None = Field(
        None, description="pool items without a label that the fit read (learner.pseudo_labels)"
    )
    n_pseudo: int | None = Field(
        None, description="of these, those that it took a label of its own for"
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fits that read labels alone are told as they always were."""
        values: dict[str, Any] = handler(self)
        return {k: v for k, v in values.items() if v is not None or not k.startswith("n_")}


@dataclass(frozen=True)
class Metric:
    """A figure of one classifier on the test set, as tables, figures and MLflow show it.

    Attributes:
        description: words for tables and axes.
        better: whether more or less of it is better.
        uneven: whether it is to be read in place of accuracy where classes are of uneven size.
    """

    description: str
    better: Literal["more", "less"] = "more"
    uneven: bool = False


def _measured(value: Any) -> Any:
    return math.nan if value is None else value


#: A figure of a test set; NaN, and null in the file, where there is none.
Figure = Annotated[float, BeforeValidator(_measured)]
#: What stands in the place of a figure that was not measured.
NOT_MEASURED = "-"


class TestFigures(Frozen):
    """The classifier of the cycle on the whole test set.

    Without a test set nothing was measured: all figures are NaN, and null in the file.

    A field with a ``Metric`` is a figure that ``compare``, the report and MLflow show: a new one is a
    field here (None by default, for records that were written before it) and its value in
    ``engine/evaluation.py``.
    """

    __test__ = False  # not a test class, whatever its name

    accuracy: Annotated[Figure, Metric("test accuracy")]
    balanced_accuracy: Annotated[Figure, Metric("balanced test accuracy", uneven=True)] = Field(
        description="mean recall over the classes of the test set"
    )
    macro_f1: Annotated[Figure, Metric("macro F1 on the test set")]
    average_precision: Annotated[
        float | None, Metric("average precision on the test set", uneven=True)
    ] = Field(
        description="of what average_precision_of says; None where the test set has nothing to find"
    )
    log_loss: Annotated[Figure, Metric("test log loss (nats)", better="less")] = Field(
        description="mean cross-entropy in nats"
    )
    average_precision_of: str | None = Field(
        None,
        description="'macro' (mean over classes, each against the rest) or 'class NAME'; before 0.3.0 "
        "nothing was written, and it was class 1 of two classes, else the mean",
    )

    @classmethod
    def without_test_set(cls, average_precision_of: str | None) -> TestFigures:
        """What is said where nothing can be measured."""
        return cls(
            accuracy=math.nan,
            balanced_accuracy=math.nan,
            macro_f1=math.nan,
            average_precision=None,
            log_loss=math.nan,
            average_precision_of=average_precision_of,
        )

    @property
    def were_measured(self) -> bool:
        return not math.isnan(self.accuracy)

    def as_text(self, name: str) -> str:
        """A figure for people, to four digits."""
        value = getattr(self, name)
        return NOT_MEASURED if value is None or math.isnan(value) else f"{value:.4f}"

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run that was begun before there was a choice goes on with records as they were."""
        values: dict[str, Any] = handler(self)
        if values["average_precision_of"] is None:
            del values["average_precision_of"]
        # As JSON has it: NaN is no number there.
        return {name: None if value != value else value for name, value in values.items()}


class QueryFigures(Frozen):
    """What was asked, judged by the classifier that asked, before annotation."""

    kind: Literal["pool", "image", "line"]
    size: int
    entropy_mean: float = Field(description="nats")
    entropy_median: float
    digest: str = Field(description="SHA-256 (16 hex digits) of the query")
    diagnostics: dict[str, float] = Field(default_factory=dict)


class AnnotationFigures(Frozen):
    """What came back."""

    n_asked: int = Field(description="annotations spent by this query")
    n_rejected: int
    n_labels: int = Field(description="labels that joined the training set")
    cost: float
    class_histogram: list[int] = Field(description="labels per class")
    n_wrong: int | None = Field(
        None,
        description="labels of pool items that are wrong on purpose (oracle.noise), or a person's "
        "that are not the data's own",
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Runs whose labels are true say what they said before there was noise."""
        values: dict[str, Any] = handler(self)
        if values["n_wrong"] is None:
            del values["n_wrong"]
        return values


class StopSetFigures(Frozen):
    """The cycle's classifier on the stop set: what stopping rules are judged by (since 0.3).

    The stop set is a fixed random sample of the pool, the same in all cycles of a run and for all
    strategies at equal seeds. Nothing of its items' classes is in here, only what is predicted.
    """

    size: int = Field(description="items of the stop set")
    n_labelled: int = Field(description="of its items that have a label by now")
    n_classes: int
    classes: str = Field(
        description="predicted class of each item, a byte each (two, low first, from 257 classes on), "
        "as base64"
    )
    confidence: float | None = Field(
        description="mean of the largest probability over items without a label; None: there are none"
    )
    entropy: float | None = Field(description="mean entropy of the same items, nats")
    entropy_max: float | None = Field(description="largest entropy of the same items, nats")

    @staticmethod
    def packed(predicted: Any, n_classes: int) -> str:
        """Predicted classes, int ``[S]``, as ``classes`` holds them."""
        import numpy as np

        values = np.asarray(predicted).astype("<u1" if n_classes <= 256 else "<u2")
        return base64.b64encode(values.tobytes()).decode("ascii")

    def predicted(self) -> NDArray[np.int64]:
        """The predicted class of each item, int64 ``[S]``."""
        import numpy as np

        values = np.frombuffer(
            base64.b64decode(self.classes), "<u1" if self.n_classes <= 256 else "<u2"
        )
        return values.astype(np.int64)


class Times(Frozen):
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
    cold: bool | None = Field(
        None,
        description="whether this was the first selection of its session (after a start or a resume), "
        "in which libraries load and graphs are captured; None where 0.1.0 did not tell",
    )
    fit_cpu_s: float | None = Field(
        None, description="CPU seconds of the fit, all threads of the process together (since 0.3)"
    )
    select_cpu_s: float | None = Field(
        None, description="CPU seconds of the selection, all threads together (since 0.3)"
    )
    load: float | None = Field(
        None, description="processes that wanted a processor in the last minute (since 0.3)"
    )
    paused_s: float | None = Field(
        None,
        description="seconds in which the process was stopped or the machine slept, in fit or selection: "
        "at most; None where it was not",
    )
    stop_s: float | None = Field(
        None,
        description="predictions on the stop set, and what the run's stopping rules need beside them: no "
        "part of select_s (since 0.3)",
    )
    preparation: list[LedgerEntry] | None = Field(
        None, description="the ledger of one-off costs, in the record of cycle 0"
    )

    @property
    def prepared(self) -> list[LedgerEntry]:
        """What was prepared, each thing once; empty in all cycles but the first."""
        return each_once(self.preparation or [])


#: Fields of a record that are left out where there is nothing to say.
_LATER = {"stop_set", "cross_validated", "stopped"}


class CycleRecord(Frozen):
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
    rows: str | None = Field(
        None,
        description="SHA-256 (16 hex digits) of the rows of queries.npz that belong to the cycle",
    )
    files: dict[str, str] | None = Field(
        None, description="SHA-256 of the run's other files, in the last record"
    )
    time: Times
    ts_ms: int = Field(description="when the cycle was complete, milliseconds since 1970")
    final: bool = Field(
        description="true in the run's last record: the budget is spent, or a rule stopped"
    )
    stop_set: StopSetFigures | None = Field(
        None, description="the classifier on the stop set; None in runs that were begun before 0.3"
    )
    cross_validated: float | None = Field(
        None,
        description="accuracy by five-fold cross-validation on the labels, where a stopping rule of the run "
        "needs it",
    )
    stopped: str | None = Field(
        None, description="the stopping rule that ended the run before its budget, and why"
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run that was begun before there was a stop set goes on with records as they were."""
        values: dict[str, Any] = handler(self)
        return {k: v for k, v in values.items() if k not in _LATER or v is not None}

    @property
    def is_cold(self) -> bool:
        """Whether the selection was its session's first."""
        return is_cold(self.cycle, self.time.cold)

    def without_times(self) -> dict[str, Any]:
        """The record as plain values, without what the clock says."""
        return self.model_dump(exclude={"time", "ts_ms", "files"})


def is_cold(cycle: int, cold: bool | None) -> bool:
    """Whether a cycle's selection was its session's first; 0.1.0 told of the run's first only."""
    return cycle == 0 if cold is None else cold


def timed_selections(records: Sequence[CycleRecord]) -> list[CycleRecord]:
    """The cycles of a run whose selection says what a selection takes.

    The first of each session pays for libraries and captures and is left out, and so is a cycle in which
    the process was stopped; where a run has no other, those are what there is.
    """
    times = [record.time for record in records]
    places = timed_places(
        [record.cycle for record in records],
        [time.select_s for time in times],
        [time.paused_s for time in times],
        [time.cold for time in times],
    )
    return [records[place] for place in places]


def timed_places(
    cycles: Sequence[int],
    select_s: Sequence[float | None],
    paused_s: Sequence[float | None],
    cold: Sequence[bool | None],
) -> list[int]:
    """``timed_selections`` of the fields in every cycle, ``[K]`` each: places among them."""
    asked = [place for place, seconds in enumerate(select_s) if seconds is not None]
    straight = [place for place in asked if not paused_s[place]]
    warm = [p for p in straight if not is_cold(cycles[p], cold[p])]
    return warm or straight or asked


class RecordFile:
    """``cycles.jsonl``: each line ends with a checksum of itself and of all lines before it.

    Lines from before there were checksums are read as they are; the chain covers them from the first
    line with a checksum on.

    Attributes:
        path: the file.
        unproven: lines without a checksum that were read.
    """

    #: Between what a line says and its checksum.
    LINK = ',"chain":"'

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unproven = 0
        self._chain = ""

    def read(self) -> list[CycleRecord]:
        """All complete records; a torn last line, left by a kill, is passed over.

        Raises:
            UserError: a line that is not what was written, or a gap in the cycles.
        """
        self.unproven, self._chain = 0, ""
        records: list[CycleRecord] = []
        if not self.path.exists():
            return records
        with explained(self.path, "read"):
            # A line gets its end with its last byte: what stands behind the last end is not finished.
            *lines, torn = self.path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, start=1):
            records.append(self._record(line, number))
        if torn:
            self._refuse_whole(torn, len(lines) + 1)
        return records

    def append(self, record: CycleRecord) -> None:
        """Append one line and wait until it is on the disk; the file was read before, or is new.

        Raises:
            UserError: the record could not be read again, or the system refuses to write.
        """
        body = record.model_dump_json()
        # Read back first: NaN becomes null in JSON, and a line with it would shut the whole file.
        try:
            again = CycleRecord.model_validate_json(body)
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise UserError(
                f"The record of cycle {record.cycle} holds a value that cannot be written ('{place}': "
                "NaN, infinity or not a number). Nothing was written; mend what computes it."
            ) from error
        assert again.cycle == record.cycle
        chain = _link(self._chain, body.encode())
        append_line(self.path, f'{body[:-1]}{self.LINK}{chain}"}}')
        # Now that the line is there: after a refusal the chain ends where the file does.
        self._chain = chain

    def _record(self, line: bytes, number: int) -> CycleRecord:
        """One line, checked; moves the chain on."""
        body, link, tail = line.rpartition(self.LINK.encode())
        body = body + b"}" if link else line
        try:
            record = CycleRecord.model_validate_json(body)
        except ValidationError as error:
            self._refuse(number, f"is not a cycle record ({error.errors()[0]['msg']})")
        if record.cycle != number - 1:
            self._refuse(number, f"is cycle {record.cycle}, expected {number - 1}")
        chain = _link(self._chain, body)
        if link and tail != chain.encode() + b'"}':
            self._refuse(
                number, "does not agree with its checksum, or a line before it was changed"
            )
        if not link:
            # Lines of 0.1.0 have none and stand in front; behind a line that has one, all have one.
            if self.unproven < number - 1:
                self._refuse(number, "has lost its checksum")
            self.unproven += 1
        self._chain = chain
        return record

    def _refuse_whole(self, torn: bytes, number: int) -> None:
        """A last line that is whole, with another byte than its end behind it, was not torn by a kill."""
        body, link, tail = torn.rpartition(self.LINK.encode())
        if link and tail[:-1] == _link(self._chain, body + b"}").encode() + b'"}':
            self._refuse(number, "has another end than a line")

    def _refuse(self, number: int, why: str) -> NoReturn:
        raise UserError(
            f"'{self.path}' line {number} {why}: the file is damaged. Restore it, or start the run over "
            "with --fresh."
        )


def _link(before: str, body: bytes) -> str:
    """Checksum of a line and of all before it: 16 hex digits."""
    return hashlib.sha256(before.encode() + body).hexdigest()[:16]


def append_record(path: Path, record: CycleRecord) -> None:
    """Append one line to a file of records, and wait until it is on the disk."""
    file = RecordFile(path)
    file.read()
    file.append(record)


def read_records(path: Path) -> list[CycleRecord]:
    """All complete records of a file; a torn last line, left by a kill, is passed over.

    Raises:
        UserError: a line that is not what was written, or a gap in the cycles.
    """
    return RecordFile(path).read()
