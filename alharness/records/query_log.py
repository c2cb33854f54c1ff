"""What was asked and what came back, cycle by cycle: ``queries.npz``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.files import beside
from alharness.lazily import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows of ``queries.npz`` that belong to the initial set.
INITIAL = -1


class QueryLog:
    """Arrays of rows, each row tagged with the cycle it belongs to.

    Names: ``indices`` and ``targets`` (labelled pool items), ``wrong`` (which of these
    targets are wrong on purpose), ``items`` and ``item_targets``
    (labelled synthetic items), ``entropy`` (of each queried item), ``extra.NAME`` (further training
    signals), ``array.NAME`` (what a strategy keeps for pictures).
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[NDArray[Any]]] = {}
        self._cycles: dict[str, list[NDArray[np.int32]]] = {}

    def add(self, cycle: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Append the rows of one cycle."""
        for name, values in arrays.items():
            self._rows.setdefault(name, []).append(np.asarray(values))
            self._cycles.setdefault(name, []).append(np.full(len(values), cycle, dtype=np.int32))

    def rows(self, name: str, cycle: int) -> NDArray[Any] | None:
        """The rows of one cycle, or None when the name has none there."""
        found = [
            values[cycles == cycle]
            for values, cycles in zip(
                self._rows.get(name, []), self._cycles.get(name, []), strict=True
            )
            if (cycles == cycle).any()
        ]
        return np.concatenate(found) if found else None

    def names(self) -> list[str]:
        """Names with at least one chunk of rows."""
        return list(self._rows)

    def cycles(self, name: str) -> list[int]:
        """Cycles that have rows of a name, ascending."""
        found: set[int] = set()
        for chunk in self._cycles.get(name, []):
            found.update(np.unique(chunk).tolist())
        return sorted(found)

    def digest(self, *cycles: int) -> str:
        """SHA-256 (16 hex digits) of all rows of some cycles: names, types, shapes and values."""
        sha = hashlib.sha256()
        for name in sorted(self._rows):
            for cycle in cycles:
                rows = self.rows(name, cycle)
                if rows is not None:
                    # Types and shapes too, or the same bytes could pass for other rows.
                    sha.update(f"{name} {cycle} {rows.dtype.str} {rows.shape}".encode())
                    sha.update(np.ascontiguousarray(rows).data.cast("B"))
        return sha.hexdigest()[:16]

    def last_cycle(self) -> int | None:
        """The last cycle that has rows; None when there are none."""
        return max((cycle for name in self._rows for cycle in self.cycles(name)), default=None)

    def before(self, cycle: int) -> QueryLog:
        """Only the rows of earlier cycles: what a run that resumes at ``cycle`` starts from."""
        kept = QueryLog()
        for name, chunks in self._rows.items():
            for values, cycles in zip(chunks, self._cycles[name], strict=True):
                mask = cycles < cycle
                if mask.any():
                    kept._rows.setdefault(name, []).append(values[mask])
                    kept._cycles.setdefault(name, []).append(cycles[mask])
        return kept

    def write(self, path: Path) -> None:
        """Write beside and rename: a reader sees the old file or the new one, never half of one."""
        arrays: dict[str, NDArray[Any]] = {}
        for name, chunks in self._rows.items():
            # One chunk per name from here on: the next write concatenates two pieces, not hundreds.
            self._rows[name] = [np.concatenate(chunks)]
            self._cycles[name] = [np.concatenate(self._cycles[name])]
            arrays[name] = self._rows[name][0]
            arrays[f"{name}@cycle"] = self._cycles[name][0]
        # An open file: of a name without its ending savez makes another one.
        with beside(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> QueryLog:
        """Read a file that ``write`` made.

        Raises:
            UserError: the file is damaged.
        """
        log = cls()
        try:
            with np.load(path, allow_pickle=False) as file:
                for name in file.files:
                    if not name.endswith("@cycle"):
                        log._rows[name] = [file[name]]
                        log._cycles[name] = [file[f"{name}@cycle"]]
        except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
            raise UserError(
                f"'{path}' is damaged ({error}). Start the run over with --fresh, or restore the file."
            ) from error
        return log
