"""Do the rows of ``queries.npz`` belong to the records? All that a record says of them is held against them.

A line's checksum proves that the line is what was written, the digests in it prove the rows. Records
from before there were checksums still hold digests of what was labelled and asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from alharness.errors import UserError
from alharness.labelled import Annotation, LabelledSet
from alharness.records import CURE, INITIAL, CycleRecord, QueryLog, RunFolder, cycles_of


def proved_log(folder: RunFolder, records: Sequence[CycleRecord]) -> QueryLog:
    """What was asked and what came back, proved by the records.

    Raises:
        UserError: the file is damaged, missing, or of another run.
    """
    if not records and not folder.queries.exists():
        return QueryLog()
    log = QueryLog.read(folder.queries)
    prove_rows(records, log, folder.queries)
    # Before the first line there was no run: it begins anew, its initial set included.
    return log.before(len(records)) if records else QueryLog()


def answers_of(
    records: Sequence[CycleRecord], log: QueryLog
) -> tuple[Annotation, tuple[Annotation, ...]]:
    """The answer to the initial set, and one answer per cycle that asked."""
    first = records[0]
    initial = _annotation(log, INITIAL, n_asked=first.n_asked, n_rejected=0, cost=first.cost)
    answers = tuple(
        _annotation(
            log,
            record.cycle,
            n_asked=record.annotation.n_asked,
            n_rejected=record.annotation.n_rejected,
            cost=record.annotation.cost,
        )
        for record in records
        if record.annotation is not None
    )
    return initial, answers


def _annotation(
    log: QueryLog, cycle: int, *, n_asked: int, n_rejected: int, cost: float
) -> Annotation:
    def tensor(name: str) -> torch.Tensor | None:
        rows = log.rows(name, cycle)
        return torch.from_numpy(rows) if rows is not None else None

    empty = torch.empty(0, dtype=torch.int64)
    indices, targets = tensor("indices"), tensor("targets")
    extras = {
        name.removeprefix("extra."): values
        for name in log.names()
        if name.startswith("extra.") and (values := tensor(name)) is not None
    }
    return Annotation(
        indices=empty if indices is None else indices,
        targets=empty if targets is None else targets,
        items=tensor("items"),
        item_targets=tensor("item_targets"),
        n_asked=n_asked,
        n_rejected=n_rejected,
        cost=cost,
        extras=extras,
    )


def prove_rows(records: Sequence[CycleRecord], log: QueryLog, path: Path) -> None:
    """Hold what was asked and answered against the records.

    Args:
        records: all complete cycles.
        log: the content of ``queries.npz``, rows beyond the records included.
        path: of ``queries.npz``, for the message.

    Raises:
        UserError: the file does not belong to the records.
    """
    last = log.last_cycle()
    if last is not None and last > len(records):
        # A kill leaves the rows of one cycle at most beyond the last line.
        raise UserError(
            f"'{path}' holds cycles up to {last}, the records only {len(records)}: lines of cycles.jsonl "
            f"are missing. {CURE}"
        )
    if not records:
        return
    try:
        initial, answers = answers_of(records, log)
        labelled = LabelledSet().extended(initial)
        for record in records:
            _prove_row(record, log, labelled, path)
            if record.annotation is not None:
                labelled = labelled.extended(answers[record.cycle])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise UserError(f"'{path}' does not hold what its records say ({error}). {CURE}") from error


def _prove_row(record: CycleRecord, log: QueryLog, labelled: LabelledSet, path: Path) -> None:
    cycle = record.cycle
    problem = None
    if record.rows is not None and log.digest(*cycles_of(cycle)) != record.rows:
        problem = "rows were changed"
    elif len(labelled) != record.n_labelled:
        problem = f"{len(labelled)} labels where its record says {record.n_labelled}"
    elif labelled.digest() != record.labelled_digest:
        problem = "other items were labelled than its record says"
    elif record.query is not None and record.annotation is not None:
        problem = _prove_query(record, log)
    if problem is not None:
        raise UserError(f"'{path}' does not belong to cycle {cycle} of its run: {problem}. {CURE}")


def _prove_query(record: CycleRecord, log: QueryLog) -> str | None:
    assert record.query is not None
    assert record.annotation is not None
    asked = log.rows("asked", record.cycle)
    if record.query.kind == "pool":
        digest = hashlib.sha256(asked.tobytes()).hexdigest()[:16] if asked is not None else ""
        if digest != record.query.digest:
            return "other items were asked about than its record says"
    targets = [
        rows
        for name in ("targets", "item_targets")
        if (rows := log.rows(name, record.cycle)) is not None
    ]
    together = np.concatenate(targets) if targets else np.empty(0, dtype=np.int64)
    histogram = record.annotation.class_histogram
    if np.bincount(together, minlength=len(histogram)).tolist() != histogram:
        return "other classes came back than its record says"
    return None
