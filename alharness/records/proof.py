"""Do a run's files belong together? Everything that a record says of what was asked is held against it.

A line's checksum proves that the line is what was written; the digests in it prove the rows of
``queries.npz``; the last record proves the whole files. Records from before there were checksums still hold
digests of what was labelled and asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from alharness.errors import UserError
from alharness.files import sha256_of
from alharness.labelled import Annotation, LabelledSet
from alharness.records.query_log import INITIAL, QueryLog
from alharness.records.records import CycleRecord


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
            f"are missing. {_CURE}"
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
        raise UserError(
            f"'{path}' does not hold what its records say ({error}). {_CURE}"
        ) from error


_CURE = "Restore the file, or start the run over with --fresh."


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
        raise UserError(f"'{path}' does not belong to cycle {cycle} of its run: {problem}. {_CURE}")


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


def cycles_of(cycle: int) -> tuple[int, ...]:
    """Cycles of ``queries.npz`` whose rows belong to the record of a cycle."""
    return (INITIAL, 0) if cycle == 0 else (cycle,)


def digests_of(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of files by name, for the last record of a run."""
    return {path.name: sha256_of(path) for path in paths}


def prove_files(record: CycleRecord, folder: Path) -> None:
    """Hold the other files of a finished run against its last record; one without digests says nothing.

    Raises:
        UserError: a file is missing, or not what it was when the run ended.
    """
    for name, digest in (record.files or {}).items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"'{path}' is missing: the run is damaged. {_CURE}")
        if sha256_of(path) != digest:
            raise UserError(
                f"'{path}' is damaged: it is not what it was when the run ended. {_CURE}"
            )
