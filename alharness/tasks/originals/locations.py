"""Where data sets are looked for, and where converted ones are kept."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataLocations:
    """Where data sets are looked for and where converted ones are kept.

    Attributes:
        data_root: originals: ``--data-root``, else ``ALHARNESS_DATA``, else the cache's ``data``.
            May be read-only.
        cache_root: converted uint8 caches: ``ALHARNESS_CACHE``, else ``~/.cache/alharness``.
        download: fetch what is missing. Runs never download in silence; ``alharness data prepare`` does.
    """

    data_root: Path
    cache_root: Path
    download: bool = False

    @classmethod
    def resolve(
        cls, data_root: str | Path | None = None, *, download: bool = False
    ) -> DataLocations:
        """Locations from the option, the environment and the defaults."""
        cache = Path(os.environ.get("ALHARNESS_CACHE", Path.home() / ".cache" / "alharness"))
        root = data_root or os.environ.get("ALHARNESS_DATA") or cache / "data"
        return cls(Path(root).expanduser(), cache.expanduser(), download)
