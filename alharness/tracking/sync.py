"""Run folders into a view, one after the other: what every way into MLflow does.

A folder that cannot be read costs its own place in the view and no other's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from alharness.errors import UserError
from alharness.files import locked, refusal
from alharness.records import RunFolder
from alharness.tracking.stores import store_error
from alharness.tracking.view import Tracking, sync_run


@dataclass(frozen=True)
class Brought:
    """What became of a run folder.

    Attributes:
        outcome: ``added`` (whatever was missing), ``running`` (another process writes it), ``bad``, or the
            reason why it was left out.
        cycles: how many were added.
        reason: of a bad one, a sentence.
    """

    outcome: str
    cycles: int = 0
    reason: str = ""


def bring(
    folders: Sequence[RunFolder],
    tracking: Tracking,
    *,
    parent: str | None = None,
    left_out: Callable[[RunFolder], str] = lambda folder: "",
    running: bool = False,
    held: bool = False,
) -> Iterator[Brought]:
    """Bring folders up to date; yields what became of each.

    Args:
        folders: the runs.
        tracking: the store.
        parent: MLflow run of their sweep, if any.
        left_out: why a run is left out unless the view has it already; empty where it is not.
        running: runs that are not finished go on.
        held: the caller holds the runs' locks, or knows that nobody writes them.

    Raises:
        UserError: the store does not answer any more.
    """
    for folder in folders:
        try:
            reason = left_out(folder)
            with nullcontext() if held else locked(folder.lock, 0):
                added = sync_run(folder, tracking, parent, only_known=bool(reason), running=running)
        except TimeoutError:
            yield Brought("running")  # it brings itself
        except UserError as error:
            yield Brought("bad", reason=f"{folder.path}: {error}")
        except PermissionError as error:  # a folder of another user
            told = refusal(error, error.filename or folder.path, "read")
            yield Brought("bad", reason=str(told))
        except Exception as error:  # the folder's fault or the store's
            if not tracking.answers():
                raise store_error(tracking.uri, error) from error
            yield Brought("bad", reason=f"{folder.path}: {store_error(tracking.uri, error)}")
        else:
            yield Brought("added", added) if added is not None else Brought(reason)
