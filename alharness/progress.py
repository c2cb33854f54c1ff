"""How long work tells that it is alive; who shows it (a terminal, a log, nobody) is not its business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Called now and then by long work: ``progress("train generator", 120, 2500, {"loss": -1.2})``."""

    def __call__(
        self, stage: str, done: int, total: int, notes: Mapping[str, float] | None = None
    ) -> None: ...


def silent(stage: str, done: int, total: int, notes: Mapping[str, float] | None = None) -> None:
    """The progress of a caller that does not look."""
