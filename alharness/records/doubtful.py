"""Which notes on a task's data are warnings: for whoever opens the data, and for whoever reads a run."""

from __future__ import annotations

from collections.abc import Mapping

#: Notes that are warnings, not descriptions.
DOUBTS = (
    "partial",
    "absent",
    "duplicates",
    "left out",
    "row numbers",
    "rebuilt",
    "file",
    "columns",
    "gaps",
    "leak",
    "scales",
    "author's split",
    "cut off",
    "sizes",
)


def doubts(notes: Mapping[str, str]) -> tuple[str, ...]:
    """Those of a task's notes that are warnings, one line each; also of a record's notes."""
    return tuple(f"{name}: {notes[name]}" for name in DOUBTS if name in notes)
