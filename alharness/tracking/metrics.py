"""A record as MLflow's metrics: names and numbers.

MLflow refuses names with signs such as ``+`` or ``@``, and names that would be another path. A part
of a name that a plug-in chose (a phase, a diagnostic, a counter, an artefact) is cleaned where it has
to be: what is refused becomes ``_``, and a dash with eight hex digits of the true name's SHA-256
follows, so that ``a+`` and ``a@`` stay two. ``recall@10`` is ``query/recall_10-1bd5f1d0``; the run's
tag ``alharness.name.query/recall_10-1bd5f1d0`` tells the true name. Other names stay as they are.
"""

from __future__ import annotations

import hashlib
import math
import posixpath
import re
from collections.abc import Iterator
from functools import lru_cache

from alharness.records import METRICS, CycleRecord

#: MLflow's rule on every system (on Windows a colon is refused).
_ALLOWED = re.compile(r"[\w./ -]+")

#: What ``clean`` makes; a name that looks like it is cleaned too, so that no two names meet.
_MADE = re.compile(r".*-[0-9a-f]{8}")

#: MLflow takes 250 characters in all.
_LONGEST = 150


@lru_cache(maxsize=10_000)  # the same some dozens in every cycle of every run
def clean(name: str) -> str:
    """A part of a name as MLflow takes it; equal for equal names, different for different ones."""
    fits = _ALLOWED.fullmatch(name) and not _MADE.fullmatch(name) and len(name) <= _LONGEST
    return name if fits and _is_a_path(name) else _marked(name)


def _is_a_path(name: str) -> bool:
    """Whether a name stays itself when it is read as a path below another."""
    return posixpath.normpath(f"x/{name}") == f"x/{name}" and not name.startswith("/")


def _marked(name: str) -> str:
    signs = re.sub(r"[^\w. -]", "_", name)[:_LONGEST]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{signs}-{digest}"


def cycle_metrics(record: CycleRecord) -> dict[str, float]:
    """All metrics of one cycle by MLflow's names; the three without a section are its first charts."""
    return {key: value for key, _, value in _metrics(record)}


def renamed(record: CycleRecord) -> dict[str, str]:
    """Metrics whose names were cleaned: MLflow's name -> the true one."""
    return {key: true for key, true, _ in _metrics(record) if key != true}


def _metrics(record: CycleRecord) -> Iterator[tuple[str, str, float]]:
    """(MLflow's name, true name, value); no name comes twice."""
    met: set[str] = set()
    for section, name, unit, value in _parts(record):
        true = f"{section}{name}{unit}"
        key = f"{section}{clean(name)}{unit}"
        if key in met:  # a plug-in's name that is the harness's own already
            key = f"{section}{_marked(name)}{unit}"
        met.add(key)
        yield key, true, value


def _parts(record: CycleRecord) -> Iterator[tuple[str, str, str, float]]:
    """(section, name, unit, value); the harness's own names come before those of plug-ins."""
    test, query, annotation, time = record.test, record.query, record.annotation, record.time
    own: dict[str, float | None] = {"accuracy": test.accuracy}
    if query is not None:
        own["query_entropy"] = query.entropy_mean
    if time.select_s is not None:
        own["select_s"] = time.select_s
    own |= {
        "cycle": record.cycle,
        "labels/n_asked": record.n_asked,
        "labels/n_synthetic": record.n_synthetic,
        "labels/cost": record.cost,
        **{f"test/{name}": getattr(test, name) for name in METRICS},
        "fit/steps": record.fit.steps,
        "fit/train_loss": record.fit.train_loss,
        "time/fit_s": time.fit_s,
        "time/evaluate_s": time.evaluate_s,
        "time/harness_s": time.harness_s,
    }
    if time.select_s is not None:
        own["time/select_s"] = time.select_s
    if query is not None:
        own["query/entropy_mean"] = query.entropy_mean
        own["query/entropy_median"] = query.entropy_median
    if annotation is not None:
        own["query/n_rejected"] = annotation.n_rejected
        for index, count in enumerate(annotation.class_histogram):
            own[f"query/class_{index}"] = count
    for name, value in own.items():
        if value is not None and not math.isnan(
            value
        ):  # a figure that the test set does not define
            yield "", name, "", value
    for name, seconds in time.phases.items():
        yield "time/select/", name, "_s", seconds
    for name, said in (query.diagnostics if query is not None else {}).items():
        yield "query/", name, "", said
    for name, count in record.work.items():
        yield "work/", name, "", count
    # One thing may be prepared twice in a run: under one name MLflow would show the last alone.
    times: dict[str, int] = {}
    for entry in time.prepared:
        name = entry.name
        times[name] = times.get(name, 0) + 1
        if times[name] > 1:
            name = f"{name} {times[name]}"
        yield "preparation/", name, "_s", entry.seconds
        yield "preparation/", name, "_cached", float(entry.cached)
