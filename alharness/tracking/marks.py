"""Word in a run's folder that it was made without MLflow, and is to stay out of its view."""

from __future__ import annotations

from contextlib import suppress

from alharness.errors import UserError
from alharness.files import write_text
from alharness.records import RunFolder

#: A file in the folder of a run that was made with ``--no-tracking``.
KEPT_OUT = "no-tracking"


def is_kept_out(folder: RunFolder) -> bool:
    """Whether the run was made without MLflow, and never with it since."""
    return (folder.path / KEPT_OUT).exists()


def mark(folder: RunFolder, *, tracked: bool) -> None:
    """Leave word that a run is made without MLflow, or take it back.

    A run that has records already was begun under another word, and stays in the view or out of it.
    """
    path = folder.path / KEPT_OUT
    with suppress(OSError, UserError):  # the folder of a finished run may be read-only
        folder.require_no_links()
        if tracked:
            path.unlink(missing_ok=True)
        elif not path.exists() and not folder.cycles.exists():
            write_text(path, "made with --no-tracking: 'alharness sync' leaves it out\n")
