"""Arrays as a task: what npz files, tables and torchvision's sets have in common.

Items are uint8 images ``[N, C, H, W]`` or float32 rows ``[N, D]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.pool import digest
from alharness.tasks.base import Profile, TaskData, TaskDefaults, TaskPlugin
from alharness.tasks.rows import Divided
from alharness.tasks.settings import row
from alharness.tasks.soundness import n_shared, shared_note

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Images from this side on have structure that a convolution finds and an mlp does not.
CONVOLVED = 16


class OwnFile(TaskPlugin):
    """A task whose data are one file of the user's: ``NAME:PATH``.

    Class attributes:
        expected: what a user should have typed, for messages.
    """

    takes_argument = True
    expected: ClassVar[str]

    @property
    def where(self) -> str:
        """The data as the user named them."""
        return f"{self.name}:{self.argument}"

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.argument or "").expanduser().resolve()

    def identity(self) -> dict[str, str]:
        """The file's content: one name means another file in another place or next week.

        Raises:
            UserError: there is no such file.
        """
        if not self.path.is_file():
            raise UserError(
                f"'{self.argument}' does not exist (looked for {self.path}). Expected {self.expected}."
            )
        status = self.path.stat()
        return {self.argument or "": _sha256(self.path, status.st_mtime_ns, status.st_size)}


@lru_cache(maxsize=64)  # a sweep resolves many runs on one file
def _sha256(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def defaults_for(profile: Profile, item_shape: Sequence[int] | None) -> TaskDefaults:
    """Budget, sizes and classifier for data that the paper does not have.

    Args:
        profile: ``quick`` or ``paper``.
        item_shape: of one item; None where that is not known yet.
    """
    images = item_shape is not None and len(item_shape) == 3 and min(item_shape[1:]) >= CONVOLVED
    kind = "strided-cnn" if images else "mlp"
    if profile == "paper":
        width = 32 if images else 128
        return row(1000, 10, 100, kind=kind, width=width, batch_size=50, epochs=20, min_steps=1000)
    width = 16 if images else 64
    return row(100, 10, 20, kind=kind, width=width, batch_size=50, epochs=10, min_steps=200)


def data_of(found: Divided, items: NDArray[Any], names: NDArray[np.str_] | None = None) -> TaskData:
    """The task's data.

    Args:
        found: which items are what.
        items: uint8 ``[N, C, H, W]`` or float32 ``[N, D]``.
        names: what people call them, ``[N]``, where they are to be labelled.
    """
    pool, test = (np.ascontiguousarray(items[_as_slice(part)]) for part in (found.pool, found.test))
    pool_targets, test_targets = found.targets[found.pool], found.targets[found.test]
    shared = n_shared(pool, test)
    return TaskData(
        pool_images=pool,
        pool_targets=pool_targets,
        test_images=test,
        test_targets=test_targets,
        class_names=found.class_names,
        fingerprint=digest(pool, pool_targets, test, test_targets),
        pool_fingerprint=digest(pool),
        notes={**found.notes, **shared_note(shared, len(test))},
        n_shared=shared,
        has_gaps=pool.dtype.kind == "f" and bool(np.isnan(pool).any() or np.isnan(test).any()),
        pool_names=None if names is None else names[found.pool],
    )


def _as_slice(positions: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """The same positions as a slice where they follow each other: what it takes is not copied."""
    if len(positions) == 0:
        return slice(0, 0)
    start, stop = int(positions[0]), int(positions[-1]) + 1
    return slice(start, stop) if stop - start == len(positions) else positions


def channels_last(item: Sequence[int], layout: str) -> bool:
    """Whether the last axis of an image holds its channels: seen by 1 or 3, or as ``layout`` says."""
    return item[0] not in (1, 3) and item[2] in (1, 3) if layout == "auto" else layout == "hwc"


def as_items(values: NDArray[Any], where: str, layout: str = "auto") -> NDArray[Any]:
    """Arrays as items: uint8 images ``[N, C, H, W]`` or float32 rows ``[N, D]``.

    Args:
        values: uint8 ``[N, H, W]``, ``[N, C, H, W]`` or ``[N, H, W, C]``; or float rows ``[N, D]``.
        where: which array, for messages.
        layout: ``chw`` or ``hwc`` of images with an axis of channels; ``auto`` sees it by the axis of 1
            or 3.

    Raises:
        UserError: neither, or rows that are not finite.
    """
    if values.dtype == np.uint8 and values.ndim == 3:
        return values[:, None]
    if values.dtype == np.uint8 and values.ndim == 4:
        if layout == "auto" and (values.shape[1] in (1, 3)) == (values.shape[3] in (1, 3)):
            raise UserError(
                f"{where} has shape {values.shape}: which axis holds the channels cannot be seen. Set "
                "task.layout=chw or task.layout=hwc."
            )
        if not channels_last(values.shape[1:], layout):
            return values
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    if values.dtype.kind == "f" and values.ndim == 2 and values.shape[1] > 0:
        # What float32 cannot hold becomes infinite, and is refused below by its row and column.
        with np.errstate(over="ignore"):
            rows = values.astype(np.float32)
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            raise UserError(
                f"{where} must be finite; row {row}, column {column} is {values[row, column]}. Fill or "
                "drop such rows."
            )
        return rows
    remedy = "Convert it, for instance with astype('float32')"
    if values.ndim in (3, 4):
        remedy = "Scale images to 0 .. 255 and convert them with astype('uint8')"
    raise UserError(
        f"{where} must be uint8 images [N, H, W], [N, C, H, W] or [N, H, W, C], or float rows [N, D]; "
        f"found {values.dtype} of shape {values.shape}. {remedy}."
    )
