"""The protocol behind which runs are carried out, and the one function that carries a run out."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from alharness.errors import UserError, reason_of
from alharness.executors.sweeps import Job

if TYPE_CHECKING:
    from alharness.engine.places import Places
    from alharness.progress import Progress
    from alharness.spec import RunSpec


@dataclass(frozen=True)
class Event:
    """What an executor reports.

    Attributes:
        kind: ``started``, ``progress`` (of long work before a cycle), ``finished``, ``failed``, or
            ``tick``: nothing happened, the display may be drawn again.
        job: which run; None for a tick.
        text: the reason of a failure, or the progress in words.
        details: a traceback, where there is one.
        seconds: how long the run took, as its worker says; None where whoever watches has to look.
    """

    kind: Literal["started", "progress", "finished", "failed", "tick"]
    job: Job | None = None
    text: str = ""
    details: str = ""
    seconds: float | None = None


class Executor(Protocol):
    """Carries out runs somewhere. Closing the generator stops everything that still runs.

    A run that is stopped at any moment continues after its last complete cycle, so stopping needs no
    ceremony. A run that fails is reported and does not stop the others.
    """

    def run(
        self, jobs: Sequence[Job], places: Places, *, fresh: bool
    ) -> Generator[Event, None, None]:
        """Carry out all jobs; yields at least once a second."""


def payload(job: Job, places: Places, *, fresh: bool) -> dict[str, Any]:
    """A job as plain values, for another process or machine."""
    return {
        "index": job.index,
        "spec": job.portable(),
        "runs_dir": str(places.runs_dir.resolve()),
        "data_root": str(places.locations.data_root.resolve()),
        "cache_root": str(places.locations.cache_root.resolve()),
        "store": str(places.store_root.resolve()),
        "fresh": fresh,
    }


def settled(values: Mapping[str, Any]) -> RunSpec:
    """A job's spec on the machine that carries it out: only there ``auto`` becomes a device.

    Raises:
        UserError: the device is not here.
        ValidationError: the values are not a spec.
    """
    from alharness.spec import RunSpec, resolve_device

    device = values.get("device")
    if isinstance(device, str):  # anything else is told by the model
        values = {**values, "device": resolve_device(device)}
    return RunSpec.model_validate(values)


def carry_out(work: Mapping[str, Any], progress: Progress | None = None) -> tuple[str, str]:
    """Execute the run of a payload, here and now.

    Returns:
        reason and traceback of a failure; two empty strings when the run is finished.
    """
    from alharness.engine.places import Places
    from alharness.engine.runner import execute
    from alharness.progress import silent
    from alharness.tasks.base import DataLocations

    try:
        execute(
            settled(work["spec"]),
            Places(
                Path(work["runs_dir"]),
                DataLocations(Path(work["data_root"]), Path(work["cache_root"])),
                Path(work["store"]),
            ),
            fresh=bool(work["fresh"]),
            progress=progress or silent,
        )
    except Exception as error:  # a run that fails must not take the other runs with it
        told = "" if isinstance(error, UserError) else traceback.format_exc()
        return reason_of(error), told
    return "", ""
