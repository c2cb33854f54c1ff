"""Do the files beside the records belong to them? The last record of a run proves them whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from alharness.errors import UserError
from alharness.files import sha256_of
from alharness.records.query_log import INITIAL
from alharness.records.records import CycleRecord

#: What can be done about a damaged file of a run.
CURE = "Restore the file, or start the run over with --fresh."


#: Names the files of a run that published records do not hold.
LEFT_OUT = "left-out.txt"


def cycles_of(cycle: int) -> tuple[int, ...]:
    """Cycles of ``queries.npz`` whose rows belong to the record of a cycle."""
    return (INITIAL, 0) if cycle == 0 else (cycle,)


def digests_of(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of files by name, for the last record of a run."""
    return {path.name: sha256_of(path) for path in paths}


def prove_files(record: CycleRecord, folder: Path) -> None:
    """Hold the other files of a finished run against its last record; one without digests says nothing.

    Raises:
        UserError: a file is missing, or not what it was when the run ended.
    """
    left_out = folder / LEFT_OUT
    absent = left_out.read_text(encoding="utf-8").split() if left_out.is_file() else []
    for name, digest in (record.files or {}).items():
        path = folder / name
        if not path.is_file():
            if name in absent:
                continue
            raise UserError(f"'{path}' is missing: the run is damaged. {CURE}")
        if sha256_of(path) != digest:
            raise UserError(
                f"'{path}' is damaged: it is not what it was when the run ended. {CURE}"
            )
