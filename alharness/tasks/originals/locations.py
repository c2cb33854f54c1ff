"""Where data sets are looked for, and where converted ones are kept."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from alharness.errors import UserError


@dataclass(frozen=True)
class DataLocations:
    """Where data sets are looked for and where converted ones are kept.

    Attributes:
        data_root: originals: ``--data-root``, else ``ALHARNESS_DATA``, else the cache's ``data``.
            May be read-only.
        cache_root: converted uint8 caches: ``ALHARNESS_CACHE``, else ``~/.cache/alharness``.
        download: fetch what is missing. Runs never download in silence; ``alharness data prepare`` does.
        rebuild: convert again although there is a cache.
    """

    data_root: Path
    cache_root: Path
    download: bool = False
    rebuild: bool = False

    @classmethod
    def resolve(
        cls, data_root: str | Path | None = None, *, download: bool = False, rebuild: bool = False
    ) -> DataLocations:
        """Locations from the option, the environment and the defaults; an empty variable is none.

        Raises:
            UserError: no place for the caches: neither a variable nor a home directory.
        """
        given = os.environ.get("ALHARNESS_CACHE")
        cache = _expanded(given) if given else _home() / ".cache" / "alharness"
        root = data_root or os.environ.get("ALHARNESS_DATA") or cache / "data"
        return cls(_expanded(root), cache, download, rebuild)

    def kept(self, kind: str, path: Path, parameters: object) -> Path:
        """The folder in which a user's own files are kept converted.

        Args:
            kind: of files, as their data set is called.
            path: of the files.
            parameters: of the conversion: others have a folder of their own.
        """
        key = repr((path.as_posix(), parameters)).encode(errors="surrogateescape")
        # A file's name has 255 bytes at most, and a suffix of ours may follow.
        stem = path.stem.encode(errors="surrogateescape")[:100].decode(errors="ignore")
        name = f"{kind}-{stem}-{hashlib.sha256(key).hexdigest()[:8]}"
        return self.cache_root / "datasets" / name


def _expanded(path: str | Path) -> Path:
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no home directory. Give the whole path.") from error


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise UserError(
            "There is no home directory to keep converted data sets in. Set the environment "
            "variable ALHARNESS_CACHE to a folder that may be written to."
        ) from error
