"""What the view says of a run: its folder as names, texts and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alharness.records import CycleRecord, Run, RunFolder, read_run
from alharness.tracking.metrics import clean, cycle_metrics, renamed
from alharness.tracking.seen import FOLDER, KEY, PARENT, PREFIX, stamp_of

#: MLflow cuts longer values off, and says so each time.
LONGEST_VALUE = 5000


@dataclass(frozen=True)
class Content:
    """What a run is in the view.

    Attributes:
        name: heading of the run.
        tags: volatile facts: they may change from session to session, parameters may not.
        params: the settings, ``section.name`` -> text.
        dataset: name and digest of the data.
        records: the cycles that the view lacks.
        started_ms, ended_ms: of the run; None where nobody wrote it down.
        status: ``FINISHED``, ``RUNNING`` or ``KILLED``.
        pictures: files that a person opens there.
        stamp: digest of what the folder said.
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    dataset: tuple[str, str]
    records: Sequence[CycleRecord]
    started_ms: int | None
    ended_ms: int | None
    status: str
    pictures: Sequence[Path]
    stamp: str

    def metrics(self) -> Iterator[tuple[str, float, int, int]]:
        """Name, value, time of the record (milliseconds since 1970) and step (``n_labelled``)."""
        for record in self.records:
            values = cycle_metrics(record)
            values["cycle"] = values.pop("cycle")  # last: where it is, the whole record is
            for key, value in values.items():
                yield key, value, record.ts_ms, record.n_labelled


def content_of(folder: RunFolder, parent: str | None = None, *, running: bool = False) -> Content:
    """What the view says of a run; arguments and errors as for ``sync_run``."""
    stamp = stamp_of(folder)  # first: what is written while we read is seen next time
    run = read_run(folder.path)
    records, task = run.records, run.facts.task
    sessions = run.facts.sessions
    return Content(
        name=f"{run.task} {run.strategy} s{run.spec.seed}"[:200],
        tags=_tags(run, parent),
        params={clean(key): str(value)[:LONGEST_VALUE] for key, value in run.spec.settings.items()},
        dataset=(run.task[:500], (task.fingerprint or "unknown")[:36]),
        records=records,
        started_ms=sessions[0].started_ms if sessions else None,
        ended_ms=records[-1].ts_ms if records else None,
        status="FINISHED" if run.finished else "RUNNING" if running else "KILLED",
        pictures=sorted(folder.path.glob("*.png")) if run.finished else [],
        stamp=stamp,
    )


def _tags(run: Run, parent: str | None) -> dict[str, str]:
    facts = run.facts
    told: dict[str, Any] = {
        "strategy": run.strategy,
        "task": run.task,
        "git_commit": facts.git_commit,
        "synthetic_data": facts.task.synthetic,
        **{f"version.{key}": value for key, value in facts.versions.items()},
        **{f"hardware.{key}": value for key, value in facts.hardware.items()},
        **{f"name.{key}": true for record in run.records for key, true in renamed(record).items()},
    }
    tags = {f"{PREFIX}{clean(key)}": str(value)[:LONGEST_VALUE] for key, value in told.items()}
    # The folder's name, not the spec's hash now: a later version hashes further settings.
    tags |= {KEY: run.folder.name, FOLDER: str(run.folder.resolve())}
    return tags if parent is None else {**tags, PARENT: parent}
