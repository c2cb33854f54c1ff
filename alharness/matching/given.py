"""Features that were computed elsewhere: a file with one row for each pool item.

``strategy.features=npz:FILE``: what ``alharness data embed`` writes, or anybody's own ``.npz`` or ``.npy``.
Row i is pool item i, whatever subset of the pool is looked at. A file of ``data embed`` says what it was
computed from; that is held against the task at hand. Of another file only the number of rows can be.

Shape letters: N pool items, D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.matching.embedder import load_embedder
from alharness.pool import EMBEDDED, Pool, digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

SETTING = "strategy.features"
PREFIX = "npz:"
#: Arrays that are the pool's rows, by the names in use; the first one that the file has.
NAMES = ("x_pool", "features", "embeddings", "x_train")
#: What writes such files, for messages.
CURE = "'alharness data embed' writes one"
#: Pool items whose rows are computed again before images from elsewhere are placed among them.
PROBED = 4


@dataclass(frozen=True)
class GivenRows:
    """The rows of a file.

    Attributes:
        path: the file.
        digest: of its content.
        rows: float32 ``[N, D]`` on the CPU, finite.
        origin: what ``alharness data embed`` noted: the model and the fingerprints of task and pool; empty
            for a file of other origin.
    """

    path: Path
    digest: str
    rows: torch.Tensor
    origin: Mapping[str, Any]

    def require(self, n_items: int, fingerprint: str) -> None:
        """Refuse rows of other items.

        Args:
            n_items: N of the pool.
            fingerprint: of the pool's items.

        Raises:
            UserError: another number of rows, or other items by the file's own word.
        """
        made_of = f", made of '{self.origin['task']}'" if "task" in self.origin else ""
        if len(self.rows) != n_items:
            raise UserError(
                f"{SETTING}: '{self.path}'{made_of} has {len(self.rows):,} rows, the pool {n_items:,} items; "
                f"expected one row for each item, in the order of the pool. {CURE}."
            )
        # Without a word on its origin a file is taken for what its user says it is. The items may be
        # the rows themselves, where the file is the data set.
        if self.origin and fingerprint not in (self.origin["pool"], digest(self.rows.numpy())):
            raise UserError(
                f"{SETTING}: '{self.path}'{made_of} holds rows of other items: expected the pool "
                f"{fingerprint}, found {self.origin['pool']}. Embed this data set: {CURE}."
            )

    def placing(self, pool: Pool) -> Callable[[torch.Tensor], torch.Tensor]:
        """Images ``[B, C, H, W]`` to rows ``[B, D]``: the model that made the file.

        Raises:
            UserError: the file does not name a model, or the model gives other rows now.
        """
        if not self.origin:
            raise UserError(
                f"{SETTING}: '{self.path}' does not say which model made it, and images that are not in the "
                f"pool have to be placed among its rows. {CURE} that does."
            )
        embed = load_embedder(self.origin["model"], pool.device)
        some = torch.arange(min(PROBED, pool.n))
        expected, found = self.rows[some], embed(pool.gather(some)).cpu()
        if found.shape != expected.shape or not torch.allclose(
            found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())
        ):
            raise UserError(
                f"{SETTING}: the model '{self.origin['model']}' gives other rows for the pool's first items "
                f"than '{self.path}' holds. It has changed since: embed the data set again."
            )
        return embed


def path_of(features: str) -> Path | None:
    """The file that ``npz:FILE`` means; None for the name of a space."""
    return Path(features[len(PREFIX) :]).expanduser() if features.startswith(PREFIX) else None


def features_identity(features: str) -> dict[str, str]:
    """What ``strategy.features`` leaves open: the file's content, for a run's key.

    Raises:
        UserError: there is no such file.
    """
    path = path_of(features)
    return {} if path is None else {SETTING: _digest_of(path)}


def read_given(path: Path) -> GivenRows:
    """The rows of a file.

    Raises:
        UserError: no such file, a damaged one, none that could be the pool's rows, or rows that are no
            finite numbers.
    """
    content = _digest_of(path)
    try:
        if path.suffix.lower() == ".npy":
            return GivenRows(path, content, _rows(np.load(path, allow_pickle=False), path, ""), {})
        with np.load(path, allow_pickle=False) as file:
            # Only these are read: the file's labels, if it has any, are left where they are.
            name = _name_in(file.files, path)
            origin = json.loads(str(file[EMBEDDED])) if EMBEDDED in file.files else {}
            return GivenRows(path, content, _rows(file[name], path, f"{name} of "), origin)
    except UserError:
        raise
    except Exception as error:  # numpy, zipfile, zlib and json raise many kinds for a damaged file
        why = " ".join(str(error).split()) or type(error).__name__
        if "pickle" in why:
            why = "Python objects are never unpickled"
        raise UserError(
            f"{SETTING}: '{path}' is no whole file of rows ({why}). Write it again; {CURE}."
        ) from error


def _name_in(names: list[str], path: Path) -> str:
    """The array that holds the pool's rows."""
    found = next((name for name in NAMES if name in names), None)
    if found is None and len(names) == 1:
        found = names[0]
    if found is None:
        raise UserError(
            f"{SETTING}: '{path}' holds {', '.join(names) or 'nothing'}; expected {', '.join(NAMES[:-1])} or "
            f"{NAMES[-1]}, or one array alone. {CURE}."
        )
    return found


def _rows(values: NDArray[Any], path: Path, name: str) -> torch.Tensor:
    if values.dtype.kind != "f" or values.ndim != 2 or 0 in values.shape:
        raise UserError(
            f"{SETTING}: {name}'{path}' must be rows of floats [N, D]; found {values.dtype} of shape "
            f"{values.shape}. Convert them, for instance with astype('float32')."
        )
    with np.errstate(over="ignore"):  # told below
        rows = np.ascontiguousarray(values, dtype=np.float32)
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        column = int((~np.isfinite(rows[row])).argmax())
        raise UserError(
            f"{SETTING}: {name}'{path}' must be finite in float32; row {row}, column {column} is "
            f"{values[row, column]}. Compute or fill such rows."
        )
    return torch.from_numpy(rows)


def _digest_of(path: Path) -> str:
    if not path.is_file():
        raise UserError(
            f"{SETTING}: '{path}' does not exist (looked for {path.resolve()}). Expected a .npz or .npy file "
            f"with a row for each pool item; {CURE}."
        )
    status = path.stat()
    return _sha256(path.resolve(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)  # a sweep binds many runs to one file
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
