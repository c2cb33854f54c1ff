"""What is kept of a cycle: its record, its rows of ``queries.npz``, and the way back from both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alharness.artefacts import read_tensors, write_tensors
from alharness.engine.loop import Asked, Cycle, History
from alharness.engine.proof import answers_of, proved_log
from alharness.errors import UserError
from alharness.files import drop_torn_line
from alharness.labelled import Annotation
from alharness.learners.learner import digest_of
from alharness.oracle import Oracle
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
    cycles_of,
)


class Keeper:
    """Keeps a run's cycles in its folder, in the order that makes a kill harmless at any moment.

    First ``queries.npz`` (written beside and renamed), then the cycle's line (appended and flushed). Rows
    of ``queries.npz`` beyond the last complete line are dropped when a run goes on. Where classifiers start
    from the one before, its parameters are kept beside the line until the next line is there.

    Attributes:
        folder: the run's folder.
        records: all complete cycles; ``keep`` adds to them.
        log: what was asked and what came back.
    """

    def __init__(self, folder: RunFolder, *, warm_start: bool = False) -> None:
        self.folder = folder
        self._warm_start = warm_start
        self._file = folder.record_file()
        self.records = self._file.read()
        # Before anything is appended: a new line behind half of one would be half of a line, too.
        drop_torn_line(folder.cycles)
        self.log = proved_log(folder, self.records)
        self._is_cold = True  # until a selection of this session is kept

    def history(self, begin: Callable[[], History], oracle: Oracle) -> History:
        """Where the run goes on; ``begin`` gives the initial set of a new one.

        Raises:
            UserError: the labels of the stopped run are not those that the oracle gives.
        """
        if self.records:
            history = rebuild(self.records, self.log)
            for annotation in (history.initial, *history.annotations):
                if not oracle.confirms(annotation):
                    raise UserError(
                        f"'{self.folder.queries}' holds labels that are not those of the data. Restore the "
                        "file, or start the run over with --fresh."
                    )
            return replace(history, classifier=self._classifier())
        history = begin()
        self.log.add(INITIAL, initial_rows(history))
        return history

    def keep(self, cycle: Cycle, ledger: Ledger) -> CycleRecord:
        """Write one cycle to the disk."""
        if cycle.asked is not None:
            self.log.add(cycle.number, cycle_rows(cycle.asked))
        # Rows before their line: after a kill between the two they are dropped, and the cycle is run again.
        self.log.write(self.folder.queries)
        if self._warm_start and cycle.asked is not None:
            write_tensors(self.folder.classifier(cycle.number), cycle.learner.state())
        record = record_of(cycle, ledger, cold=self._is_cold).model_copy(
            update={
                "rows": self.log.digest(*cycles_of(cycle.number)),
                "files": None if cycle.asked else self.folder.seal(),
            }
        )
        self._file.append(record)
        self.records.append(record)
        self._is_cold = False
        if self._warm_start:
            # Only now: after a kill before the line the run goes on from the cycle before.
            self.folder.drop_classifiers(but=None if record.final else cycle.number)
        return record

    def _classifier(self) -> dict[str, torch.Tensor] | None:
        """Parameters of the last complete cycle's classifier, proved by its record.

        Raises:
            UserError: they are not there, or are others.
        """
        last = self.records[-1]
        if not self._warm_start or last.final:
            return None
        file = self.folder.classifier(last.cycle)
        if file.exists():
            found = read_tensors(file)
            if digest_of(found) == last.learner_digest:
                return found
        why = "is not what was written" if file.exists() else "is missing"
        raise UserError(
            f"'{file}' {why}: the classifier of cycle {last.cycle}, from which the next one starts "
            "(learner.warm_start). Restore it, or start the run over with --fresh."
        )


def record_of(cycle: Cycle, ledger: Ledger, *, cold: bool = False) -> CycleRecord:
    """The line of truth of a cycle; the ledger of one-off costs belongs to the first one.

    Args:
        cycle: what it produced.
        ledger: of one-off costs.
        cold: whether its selection is its session's first.
    """
    labelled, asked = cycle.labelled, cycle.asked
    # Before the clock of the cycle is read: hashing them is time of the harness.
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
            steps=cycle.fit.steps,
            train_loss=cycle.fit.train_loss,
            converged=cycle.fit.converged,
            n_unlabelled=cycle.fit.n_unlabelled,
            n_pseudo=cycle.fit.n_pseudo,
        ),
        test=cycle.test,
        query=_query_figures(asked) if asked else None,
        annotation=_annotation_figures(asked, cycle.learner.n_classes) if asked else None,
        work=dict(sorted(asked.view.work.counts.items())) if asked else {},
        time=_times(cycle, ledger, cold=cold),
        ts_ms=time.time_ns() // 1_000_000,
        final=asked is None,
        stop_set=cycle.looked.stop_set if cycle.looked else None,
        cross_validated=cycle.looked.cross_validated if cycle.looked else None,
        stopped=cycle.stopped,
    )


def _times(cycle: Cycle, ledger: Ledger, *, cold: bool) -> Times:
    seconds, asked = cycle.clock.seconds, cycle.asked
    phases = dict(asked.view.stopwatch.seconds) if asked else {}
    select_s = sum(phases.values())
    of_fit, of_selection = (
        cycle.clock.efforts["fit"],
        asked.view.stopwatch.effort if asked else None,
    )
    # Of fit and selection alone: these are the times that are compared.
    paused_s = of_fit.paused_s + (of_selection.paused_s if of_selection else 0.0)
    return Times(
        fit_s=seconds["fit"],
        evaluate_s=seconds["evaluate"],
        select_s=select_s if asked else None,
        annotate_s=seconds.get("annotate"),
        bookkeeping_s=sum(asked.view.stopwatch.apart.values()) if asked else 0.0,
        # What is left: nothing of a cycle's time is in no column.
        harness_s=cycle.clock.elapsed() - sum(seconds.values()) - select_s,
        phases=phases,
        cold=cold if asked else None,
        fit_cpu_s=of_fit.cpu_s,
        select_cpu_s=of_selection.cpu_s if of_selection else None,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        paused_s=paused_s or None,
        stop_s=seconds["stop"] + seconds.get("stop rules", 0.0) if "stop" in seconds else None,
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
        # A strategy may give scalars of numpy and torch, which JSON has not.
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
        n_wrong=None if annotation.wrong is None else int(annotation.wrong.sum()),
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
    if annotation.wrong is not None:
        rows["wrong"] = annotation.wrong.numpy()
    if annotation.items is not None and annotation.item_targets is not None:
        rows["items"] = annotation.items.numpy()
        rows["item_targets"] = annotation.item_targets.numpy()
    for name, values in annotation.extras.items():
        rows[f"extra.{name}"] = values.numpy()
    return rows


def rebuild(records: Sequence[CycleRecord], log: QueryLog) -> History:
    """The state after the last complete cycle, from the files of a stopped run."""
    initial, answers = answers_of(records, log)
    asked = [log.rows("asked", cycle) for cycle in range(INITIAL, len(records))]
    together = np.concatenate([rows for rows in asked if rows is not None])
    return History(initial, torch.from_numpy(together), answers)
