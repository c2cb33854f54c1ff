"""A data set's items as rows of somebody's model: ``alharness data embed``.

The file serves twice: as ``strategy.features=npz:FILE`` of the data set that it was made of, and as a data
set of its own, ``npz:FILE``, whose items are the rows. It notes the model and the fingerprints of what it was
made of. Rows are kept beside it as they are computed, so that a killed call goes on where it was.

Shape letters: N items, B items of a batch, D features.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alharness import numerics, plugins
from alharness.errors import UserError
from alharness.files import PARTIAL, beside, explained, locked, write_json
from alharness.lazily import torch
from alharness.progress import Progress, silent

if TYPE_CHECKING:
    from alharness.pool import Pool
    from alharness.tasks.base import DataLocations, TaskData

#: What is known of an unfinished file, in its folder.
ORIGIN = "origin.json"
#: Items whose rows are computed again: alone, to see that a row does not hang on its neighbours; and when
#: a call goes on, to see that the model is what it was.
PROBED = 2


@dataclass(frozen=True)
class Embedded:
    """What was written.

    Attributes:
        path: the file.
        n_pool, n_test, n_features: how many rows, and numbers in each.
        n_found: rows that an earlier call had computed.
    """

    path: Path
    n_pool: int
    n_test: int
    n_features: int
    n_found: int


@numerics.exact()  # what is stored for all runs must not depend on who computed it
def embed(
    dataset: str,
    model: str,
    out: Path,
    *,
    locations: DataLocations,
    batch_size: int = 64,
    device: str = "auto",
    fresh: bool = False,
    progress: Progress = silent,
) -> Embedded:
    """Write the rows that a model gives for a data set's items.

    Args:
        dataset: its name.
        model: ``package.module:name`` or ``./file.py:name``: a ``torch.nn.Module``, a function of float32
            images ``[B, C, H, W]`` in [0, 1] to rows ``[B, D]``, or what gives one of these when it is
            called without arguments.
        out: an ``.npz`` file.
        locations: of data and caches.
        batch_size: items at a time.
        device: where the model computes.
        fresh: throw away what an earlier call left unfinished.
        progress: told of every batch.

    Raises:
        UserError: a file of something else lies there, or an unfinished one; the data or the model cannot
            be had; rows that hang on their neighbours.
        PluginError: the model raises, or gives no rows.
    """
    from alharness.matching.embedder import load_embedder
    from alharness.registry import resolve_task
    from alharness.spec.devices import resolve_device
    from alharness.tasks.base import load_data

    if out.suffix.lower() != ".npz":
        raise UserError(f"--out '{out}' must end in .npz, as what numpy.savez writes does.")
    where = torch.device(resolve_device(device))
    compute = load_embedder(model, where)  # first: a slip in its name is told before data are read
    data = load_data(resolve_task(dataset), locations, progress, blanks=True)
    parts: dict[str, Pool] = {"pool": data.open_pool(where)}
    if len(data.test_targets):
        parts["test"] = data.open_test(where)
    origin = {
        "task": dataset,
        "fingerprint": data.fingerprint,
        **{name: part.fingerprint for name, part in parts.items()},
        "model": model,
        "source": plugins.identity_of(plugins.MODELS, model),
        "torch": torch.__version__,
    }
    folder = out.with_name(out.name + PARTIAL + ".d")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock", 0.0, busy=f"Another process embeds into '{out}' now."):
        if out.exists():
            return _whole(out, origin, folder)
        _require_same(folder, origin, fresh)
        files = {
            name: _Rows(folder / f"{name}.rows", name, part, compute, batch_size, progress)
            for name, part in parts.items()
        }
        n_found = sum(rows.fill() for rows in files.values())
        arrays = {f"x_{name}": rows.mapped() for name, rows in files.items()}
        _write(out, arrays, data, origin)
        n_features = arrays["x_pool"].shape[1]
    shutil.rmtree(folder)
    return Embedded(out, parts["pool"].n, len(data.test_targets), n_features, n_found)


def _whole(out: Path, origin: Mapping[str, Any], folder: Path) -> Embedded:
    """A file that is there already, where it is what was asked for.

    Raises:
        UserError: it is something else.
    """
    from alharness.matching.given import read_given
    from alharness.pool import EMBEDDED

    found = read_given(out)
    if dict(found.origin) != dict(origin):
        differing = [key for key in origin if found.origin.get(key) != origin[key]]
        raise UserError(
            f"'{out}' is there already and of something else ({', '.join(differing)}). Name another --out, "
            "or remove it."
        )
    shutil.rmtree(folder)
    with np.load(out, allow_pickle=False) as file:
        assert EMBEDDED in file.files
        n_test = len(file["y_test"]) if "y_test" in file.files else 0
    n_pool, n_features = found.rows.shape
    return Embedded(out, n_pool, n_test, n_features, n_pool + n_test)


def _require_same(folder: Path, origin: Mapping[str, Any], fresh: bool) -> None:
    """Begin in a folder, or go on in it where it is of the same model and data.

    Raises:
        UserError: it is of others.
    """
    path = folder / ORIGIN
    if path.exists() and not fresh:
        before = json.loads(path.read_text(encoding="utf-8"))
        if before == origin:
            return
        differing = [key for key in origin if before.get(key) != origin[key]]
        raise UserError(
            f"'{folder}' was begun with something else ({', '.join(differing)}). Give --fresh to begin "
            "again, or name another --out."
        )
    for rows in folder.glob("*.rows"):
        rows.unlink()
    write_json(path, origin)


@dataclass
class _Rows:
    """Rows of one part, appended to a file of raw float32 numbers as they are computed."""

    path: Path
    name: str
    pool: Pool
    compute: Callable[[torch.Tensor], torch.Tensor]
    batch_size: int
    progress: Progress
    n_features: int = 0

    def fill(self) -> int:
        """Compute what is missing; how many rows were there."""
        n = self.pool.n
        first = torch.arange(min(PROBED, n))
        alone = self._of(first)
        self.n_features = alone.shape[1]
        done = self._known(alone)
        with explained(self.path), self.path.open("ab") as file:
            file.truncate(4 * self.n_features * done)
            for start in range(done, n, self.batch_size):
                indices = torch.arange(start, min(start + self.batch_size, n))
                rows = self._of(indices)
                if start == 0:
                    _require_own(alone, rows[: len(first)])
                file.write(np.ascontiguousarray(rows).tobytes())
                file.flush()
                # On the disk before the next one: after a power cut what is there is what was written.
                os.fsync(file.fileno())
                self.progress(f"rows of the {self.name}", int(indices[-1]) + 1, n)
        return done

    def _of(self, indices: torch.Tensor) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = self.compute(self.pool.gather(indices)).cpu().numpy()
        if self.n_features and rows.shape[1] != self.n_features:
            raise UserError(
                f"The model gives rows of {rows.shape[1]} numbers for items {int(indices[0])} and on, and of "
                f"{self.n_features} for the first; expected one width for all."
            )
        return rows

    def _known(self, alone: NDArray[np.float32]) -> int:
        """Whole rows in the file but those of the last batch, which may have been cut short.

        Raises:
            UserError: the model gives other rows now.
        """
        size = self.path.stat().st_size if self.path.exists() else 0
        n_rows = size // (4 * self.n_features)
        done = max(0, n_rows - 1) // self.batch_size * self.batch_size
        if done:
            with self.path.open("rb") as file:
                before = np.fromfile(file, np.float32, min(done, len(alone)) * self.n_features)
            if not _alike(before.reshape(-1, self.n_features), alone[:done]):
                raise UserError(
                    f"The model gives other rows for the first items of the {self.name} than it gave "
                    "before it was stopped: its weights are others, or drawn at random. Give --fresh to "
                    "begin again."
                )
        return done

    def mapped(self) -> NDArray[np.float32]:
        """All rows, ``[N, D]``, where they lie."""
        return np.memmap(self.path, np.float32, "r", shape=(self.pool.n, self.n_features))


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Equal up to what another batch size rounds otherwise."""
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-3 * float(np.abs(other).max())))


def _require_own(alone: NDArray[np.float32], among: NDArray[np.float32]) -> None:
    """Refuse rows that hang on what stands beside them in a batch.

    Raises:
        UserError: they do.
    """
    if not _alike(among, alone):
        raise UserError(
            "The model gives an image another row when others stand beside it: statistics of the batch, or "
            "chance. Put it into evaluation mode, model.eval(), where it is made."
        )


def _write(
    out: Path,
    arrays: Mapping[str, NDArray[np.float32]],
    data: TaskData,
    origin: Mapping[str, Any],
) -> None:
    from alharness.pool import EMBEDDED
    from alharness.tasks.soundness import BLANK

    targets = {"y_pool": data.pool_targets, "y_test": data.test_targets}
    names: dict[str, NDArray[Any]] = {"class_names": np.array(data.class_names)}
    if (data.pool_targets == BLANK).any():
        # As texts, of which a blank one is known to be none.
        texts = np.array([*data.class_names, ""])
        targets, names = {key: texts[value] for key, value in targets.items()}, {}
    held = {key: value for key, value in targets.items() if f"x_{key[2:]}" in arrays}
    note = np.array(json.dumps(origin, ensure_ascii=False))
    with beside(out) as partial, partial.open("wb") as file:
        written: dict[str, Any] = {**arrays, **held, **names, EMBEDDED: note}
        np.savez(file, **written)
