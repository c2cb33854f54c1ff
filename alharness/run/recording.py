"""What is kept of a cycle: its record, its rows of ``queries.npz``, and the way back from both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.files import drop_torn_line
from alharness.labelled import Annotation
from alharness.records import (
    INITIAL,
    AnnotationFigures,
    CycleRecord,
    FitFigures,
    Ledger,
    QueryFigures,
    QueryLog,
    RunFolder,
    Times,
    append_record,
)
from alharness.run.loop import Asked, Cycle, History


class Keeper:
    """Keeps a run's cycles in its folder, in the order that makes a kill harmless at any moment.

    First ``queries.npz`` (written beside and renamed), then the cycle's line (appended and flushed). Rows
    of ``queries.npz`` beyond the last complete line are dropped when a run goes on.

    Attributes:
        folder: the run's folder.
        records: all complete cycles; ``keep`` adds to them.
        log: what was asked and what came back.
    """

    def __init__(self, folder: RunFolder) -> None:
        drop_torn_line(folder.cycles)
        self.folder, self.records = folder, folder.records()
        self.log = QueryLog()
        if self.records:
            self.log = QueryLog.read(folder.queries).before(len(self.records))

    def history(self, begin: Callable[[], History]) -> History:
        """Where the run goes on; ``begin`` gives the initial set of a new one."""
        if self.records:
            return rebuild(self.records, self.log)
        history = begin()
        self.log.add(INITIAL, initial_rows(history))
        return history

    def keep(self, cycle: Cycle, ledger: Ledger) -> CycleRecord:
        """Write one cycle to the disk."""
        record = record_of(cycle, ledger)
        if cycle.asked is not None:
            self.log.add(cycle.number, cycle_rows(cycle.asked))
        self.log.write(self.folder.queries)
        append_record(self.folder.cycles, record)
        self.records.append(record)
        return record


def record_of(cycle: Cycle, ledger: Ledger) -> CycleRecord:
    """The line of truth of a cycle; the ledger of one-off costs belongs to the first one."""
    labelled, asked = cycle.labelled, cycle.asked
    labelled_digest, learner_digest = labelled.digest(), cycle.learner.digest()
    return CycleRecord(
        cycle=cycle.number,
        n_labelled=len(labelled),
        n_asked=labelled.n_asked,
        n_synthetic=labelled.n_synthetic,
        cost=labelled.cost,
        labelled_digest=labelled_digest,
        learner_digest=learner_digest,
        fit=FitFigures(
            steps=cycle.fit.steps, train_loss=cycle.fit.train_loss, converged=cycle.fit.converged
        ),
        test=cycle.test,
        query=_query_figures(asked) if asked else None,
        annotation=_annotation_figures(asked, cycle.learner.n_classes) if asked else None,
        work=dict(sorted(asked.view.work.counts.items())) if asked else {},
        time=_times(cycle, ledger),
        ts_ms=time.time_ns() // 1_000_000,
        final=asked is None,
    )


def _times(cycle: Cycle, ledger: Ledger) -> Times:
    seconds, asked = cycle.clock.seconds, cycle.asked
    phases = dict(asked.view.stopwatch.seconds) if asked else {}
    select_s = sum(phases.values())
    return Times(
        fit_s=seconds["fit"],
        evaluate_s=seconds["evaluate"],
        select_s=select_s if asked else None,
        annotate_s=seconds.get("annotate"),
        bookkeeping_s=asked.view.stopwatch.harness_s if asked else 0.0,
        harness_s=cycle.clock.elapsed() - sum(seconds.values()) - select_s,
        phases=phases,
        preparation=list(ledger.entries) if cycle.number == 0 else None,
    )


def _query_figures(asked: Asked) -> QueryFigures:
    query, entropy = asked.query, asked.entropy
    return QueryFigures(
        kind=query.kind,
        size=len(query),
        entropy_mean=float(entropy.mean()),
        entropy_median=float(np.median(entropy)),
        digest=query.digest(),
        diagnostics={key: float(value) for key, value in sorted(query.diagnostics.items())},
    )


def _annotation_figures(asked: Asked, n_classes: int) -> AnnotationFigures:
    annotation = asked.annotation
    targets = annotation.targets
    if annotation.item_targets is not None:
        targets = torch.cat([targets, annotation.item_targets])
    return AnnotationFigures(
        n_asked=annotation.n_asked,
        n_rejected=annotation.n_rejected,
        n_labels=len(targets),
        cost=annotation.cost,
        class_histogram=torch.bincount(targets, minlength=n_classes).tolist(),
    )


def initial_rows(history: History) -> dict[str, NDArray[Any]]:
    """Rows of the initial set."""
    return _rows(history.initial, history.asked)


def cycle_rows(asked: Asked) -> dict[str, NDArray[Any]]:
    """Rows of a query, its answer, and what the strategy keeps for pictures."""
    rows = _rows(asked.annotation, asked.query.touched)
    rows["entropy"] = asked.entropy
    for name, values in asked.query.arrays.items():
        rows[f"array.{name}"] = np.asarray(values)
    return rows


def _rows(annotation: Annotation, asked: torch.Tensor) -> dict[str, NDArray[Any]]:
    rows: dict[str, NDArray[Any]] = {
        "asked": asked.numpy(),
        "indices": annotation.indices.numpy(),
        "targets": annotation.targets.numpy(),
    }
    if annotation.items is not None and annotation.item_targets is not None:
        rows["items"] = annotation.items.numpy()
        rows["item_targets"] = annotation.item_targets.numpy()
    for name, values in annotation.extras.items():
        rows[f"extra.{name}"] = values.numpy()
    return rows


def rebuild(records: Sequence[CycleRecord], log: QueryLog) -> History:
    """The state after the last complete cycle, from the files of a stopped run.

    Raises:
        UserError: ``queries.npz`` does not hold what the records say was labelled.
    """
    first = records[0]
    initial = _annotation(log, INITIAL, n_asked=first.n_asked, n_rejected=0, cost=first.cost)
    annotations = tuple(
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
    asked = [log.rows("asked", cycle) for cycle in range(INITIAL, len(records))]
    n_found = sum(len(a.targets) for a in (initial, *annotations[:-1])) + sum(
        len(a.item_targets) for a in annotations[:-1] if a.item_targets is not None
    )
    if n_found != records[-1].n_labelled:
        raise UserError(
            f"The run's queries.npz holds {n_found} labels where its records say "
            f"{records[-1].n_labelled}. Restore the file, or start over with --fresh."
        )
    together = np.concatenate([rows for rows in asked if rows is not None])
    return History(initial, torch.from_numpy(together), annotations)


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
