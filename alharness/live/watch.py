"""What the live page shows of a folder of runs: states, progress, time left, and every curve."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from alharness.comparison.comparison import BASELINE
from alharness.comparison.runs import label_of
from alharness.errors import UserError
from alharness.pictures.charts import COLOURS
from alharness.pictures.styles import line_styles
from alharness.records import METRICS, Run, read_runs
from alharness.records.reader import read_or_mark, run_folders

#: A run without a new cycle for so long is not being made.
QUIET_S = 600.0


def page() -> str:
    """The page itself; it asks for ``runs.json`` again and again."""
    return (files("alharness.live") / "page.html").read_text(encoding="utf-8")


@dataclass
class Watched:
    """A folder of runs, read again only where something changed.

    Attributes:
        runs_dir: the folder.
    """

    runs_dir: Path
    _known: dict[Path, tuple[tuple[float, ...], Run]] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """All that the page shows, for JSON."""
        runs = self._runs()
        now = time.time()
        return {
            "where": str(self.runs_dir),
            "counts": dict(Counter(_state(run, now) for run in runs)),
            "metrics": {name: metric.description for name, metric in METRICS.items()},
            "colours": _colours(runs),
            "runs": [_of(run, now) for run in runs],
        }

    def _runs(self) -> list[Run]:
        found = []
        for folder in run_folders(self.runs_dir):
            # By their times: the page asks again and again, of a folder that may hold a thousand runs.
            stamp = tuple(
                path.stat().st_mtime if path.exists() else 0.0
                for path in (folder.cycles, folder.spec, folder.path / "failure.json")
            )
            known = self._known.get(folder.path)
            if known is None or known[0] != stamp:
                known = self._known[folder.path] = stamp, read_or_mark(folder.path)
            found.append(known[1])
        return found


def watched(runs_dir: Path) -> Watched:
    """A folder to watch.

    Raises:
        UserError: there is no such folder, or nothing in it yet.
    """
    if not runs_dir.is_dir():
        raise UserError(
            f"There is no folder '{runs_dir}'. Run something first, or give --runs-dir."
        )
    read_runs(runs_dir)  # says what is wrong with an empty one
    return Watched(runs_dir)


def _colours(runs: list[Run]) -> dict[str, str]:
    """A colour for every strategy: its own of the reports, or a free one where another has it already."""
    labels = sorted({label_of(run) for run in runs})
    usual = line_styles(labels, baseline=BASELINE)
    found: dict[str, str] = {}
    for label in labels:
        free = [colour for colour in COLOURS if colour not in found.values()]
        own = str(usual[label]["color"])
        found[label] = free[0] if own in found.values() and free else own
    # Black is the page's own ink, which is light on a dark page.
    return {k: "currentColor" if colour == "#000000" else colour for k, colour in found.items()}


def _state(run: Run, now: float) -> str:
    state = run.state()
    if state == "unfinished" and now - run.records[-1].ts_ms / 1000 < QUIET_S:
        return "running"
    return state


def _of(run: Run, now: float) -> dict[str, Any]:
    records, budget = run.records, run.spec.budget
    n = records[-1].n_asked if records else 0
    return {
        "task": run.task,
        "strategy": label_of(run),
        "seed": run.pair[0],
        "key": run.folder.name,
        "state": _state(run, now),
        "why": (run.damage or run.failure or "")[:500],
        "asked": n,
        "budget": budget,
        "left_s": _left_s(run) if _state(run, now) == "running" else None,
        "x": [record.n_asked for record in records],
        "y": {name: _finite(list(run.y(name))) for name in METRICS} if records else {},
    }


def _left_s(run: Run) -> float | None:
    """Seconds until the budget is spent, at the pace of the last ten cycles; None before there are two."""
    last = run.records[-11:]
    if len(last) < 2 or run.spec.budget is None:
        return None
    asked = last[-1].n_asked - last[0].n_asked
    if asked <= 0:
        return None
    pace = (last[-1].ts_ms - last[0].ts_ms) / 1000 / asked
    return round(max(0, run.spec.budget - last[-1].n_asked) * pace, 1)


def _finite(values: list[float]) -> list[float | None]:
    """JSON has no NaN."""
    return [round(float(value), 6) if math.isfinite(value) else None for value in values]
