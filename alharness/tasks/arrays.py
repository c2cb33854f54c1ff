"""Arrays as a task: what npz files, tables and torchvision's sets have in common.

Items are uint8 images ``[N, C, H, W]`` or float32 rows ``[N, D]``. A split without a test set of its own is
stratified and follows a seed of its own, never the run's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from alharness import seeds
from alharness.errors import UserError
from alharness.learners.settings import LearnerSettings
from alharness.pool import digest
from alharness.tasks.base import Profile, TaskData, TaskDefaults, TaskParameters, TaskPlugin

#: Images from this side on have structure that a convolution finds and an mlp does not.
CONVOLVED = 16


class SplitParameters(TaskParameters):
    """``--set task.NAME=VALUE`` for data that may come without a test set."""

    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the test set, where the data have none"
    )
    split_seed: int = Field(0, ge=0, description="seed of that split, apart from the run's seeds")


@dataclass(frozen=True)
class Arrays:
    """Items and their classes.

    Attributes:
        items: uint8 ``[N, C, H, W]`` or float32 ``[N, D]``.
        targets: int64 ``[N]``, numbers of classes.
    """

    items: NDArray[Any]
    targets: NDArray[np.int64]


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
    if profile == "paper":
        kind, width = ("strided-cnn", 32) if images else ("mlp", 128)
        learner = LearnerSettings(kind=kind, width=width, batch_size=50, epochs=20, min_steps=1000)
        return TaskDefaults(budget=1000, query_size=10, initial_size=100, learner=learner)
    kind, width = ("strided-cnn", 16) if images else ("mlp", 64)
    learner = LearnerSettings(kind=kind, width=width, batch_size=50, epochs=10, min_steps=200)
    return TaskDefaults(budget=100, query_size=10, initial_size=20, learner=learner)


def check_labels(labels: NDArray[Any], where: str) -> None:
    """Refuse what cannot name classes.

    Raises:
        UserError: labels that are neither whole numbers nor texts, or not one per item.
    """
    if labels.ndim != 1:
        flat = labels.ndim == 2 and labels.shape[1] == 1
        how = (
            "Flatten them, with ravel()" if flat else "Give one class each (argmax of one-hot rows)"
        )
        raise UserError(
            f"The labels {where} must be one per item; found shape {labels.shape}. {how}."
        )
    if labels.dtype.kind not in "iubU":
        raise UserError(
            f"The labels {where} must be whole numbers or texts; found {labels.dtype}. Convert them, for "
            "instance with astype(int)."
        )


def encode(labels: NDArray[Any], names: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Names of the classes: those given, or the labels that occur, in order.

    Args:
        labels: of pool and test set together, integers, bools or texts ``[N]``.
        names: names of the classes 0, 1, ... where they are given.
        where: what holds the labels, for messages.

    Raises:
        UserError: labels of another kind, of one class only, or beyond the names.
    """
    check_labels(labels, f"of {where}")
    found = np.unique(labels)
    if len(found) < 2:
        raise UserError(
            f"{where} has one class only ({', '.join(map(str, found))}); expected at least two."
        )
    if names is None:
        return tuple(str(label) for label in found)
    if labels.dtype.kind == "U" or int(found[0]) < 0 or int(found[-1]) >= len(names):
        raise UserError(
            f"With class names the labels of {where} must be numbers 0 .. {len(names) - 1}; found "
            f"{found[0]} .. {found[-1]}. Give a name for each class, or none."
        )
    return tuple(names)


def numbers(labels: NDArray[Any], names: Sequence[str], *, named: bool) -> NDArray[np.int64]:
    """Labels as numbers of classes.

    Args:
        labels: as in ``encode``.
        names: what it gave.
        named: whether labels are numbers of ``names`` already.
    """
    if named:
        return labels.astype(np.int64)
    order = {name: number for number, name in enumerate(names)}
    return np.array([order[str(label)] for label in labels.tolist()], dtype=np.int64)


def split(
    arrays: Arrays, names: Sequence[str], parameters: SplitParameters, where: str
) -> tuple[Arrays, Arrays]:
    """Pool and test set: a seeded share of each class, both in the order of the data.

    Raises:
        UserError: a class of too few items.
    """
    is_test = np.zeros(len(arrays.targets), dtype=bool)
    for number, name in enumerate(names):
        members = np.flatnonzero(arrays.targets == number)
        n_test = round(len(members) * parameters.test_fraction)
        if n_test == 0 or n_test == len(members):
            raise UserError(
                f"Class '{name}' of {where} has {len(members)} items: too few to split off a test "
                f"share of {parameters.test_fraction}. Add items or set task.test_fraction."
            )
        rng = seeds.rng(parameters.split_seed, "split", name)
        is_test[rng.permutation(members)[:n_test]] = True
    pool, test = (Arrays(arrays.items[part], arrays.targets[part]) for part in (~is_test, is_test))
    return pool, test


def data_of(
    pool: Arrays, test: Arrays, names: Sequence[str], where: str, notes: Mapping[str, str]
) -> TaskData:
    """The task's data, checked.

    Raises:
        UserError: pool and test items that do not go together, or a class without a pool item.
    """
    if pool.items.shape[1:] != test.items.shape[1:] or pool.items.dtype != test.items.dtype:
        raise UserError(
            f"Pool and test items of {where} must be alike; found {pool.items.dtype} "
            f"{pool.items.shape[1:]} and {test.items.dtype} {test.items.shape[1:]}. Convert one."
        )
    for part, kind in ((pool, "pool"), (test, "test")):
        if len(part.items) != len(part.targets) or len(part.items) == 0:
            raise UserError(
                f"The {kind} of {where} has {len(part.items)} items and {len(part.targets)} labels; "
                "expected one label for each of at least one item. Mend the data."
            )
    counts = np.bincount(pool.targets, minlength=len(names))
    for number, name in enumerate(names):
        if counts[number] == 0:
            beside = ", only in the test set" if (test.targets == number).any() else ""
            raise UserError(
                f"Class '{name}' of {where} has no item in the pool{beside}. Leave it out, or "
                f"{'move' if beside else 'add'} items to the pool."
            )
    said = dict(notes)
    known = {item.tobytes() for item in pool.items}
    n_twice = sum(item.tobytes() in known for item in test.items)
    if n_twice:
        said["duplicates"] = f"{n_twice:,} of {len(test.items):,} test items are in the pool too"
    items, test_items = np.ascontiguousarray(pool.items), np.ascontiguousarray(test.items)
    return TaskData(
        pool_images=items,
        pool_targets=pool.targets,
        test_images=test_items,
        test_targets=test.targets,
        class_names=tuple(names),
        fingerprint=digest(items, pool.targets, test_items, test.targets),
        pool_fingerprint=digest(items),
        notes=said,
    )


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
        first, last = values.shape[1] in (1, 3), values.shape[3] in (1, 3)
        if layout == "auto" and first == last:
            raise UserError(
                f"{where} has shape {values.shape}: which axis holds the channels cannot be seen. Set "
                "task.layout=chw or task.layout=hwc."
            )
        channels_last = last if layout == "auto" else layout == "hwc"
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if channels_last else values
    if values.dtype.kind == "f" and values.ndim == 2 and values.shape[1] > 0:
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
