"""Where runs, data and artefacts lie. No torch: who only looks at runs needs to know it, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alharness.artefacts import default_store_root
from alharness.tasks.base import DataLocations


@dataclass(frozen=True)
class Places:
    """Where things lie.

    Attributes:
        runs_dir: root of all run folders.
        locations: data sets and their caches.
        store: root of the artefact store; by default below ``runs_dir``.
    """

    runs_dir: Path
    locations: DataLocations
    store: Path | None = None

    @property
    def store_root(self) -> Path:
        return self.store or default_store_root(self.runs_dir)
