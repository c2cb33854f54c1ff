"""A user's own arrays: ``npz:PATH``, as ``numpy.savez`` writes them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from alharness.errors import UserError
from alharness.progress import Progress, silent
from alharness.tasks.arrays import OwnFile, as_items, data_of, defaults_for
from alharness.tasks.base import DataLocations, Profile, TaskData, TaskDefaults
from alharness.tasks.originals.tree import in_words
from alharness.tasks.rows import Rows, SplitParameters, check_labels, divided

#: The two forms of a file.
WITH_TEST = ("x_pool", "y_pool", "x_test", "y_test")
WHOLE = ("x", "y")


class NpzParameters(SplitParameters):
    """``--set task.NAME=VALUE`` for ``npz:PATH``."""

    layout: Literal["auto", "chw", "hwc"] = Field(
        "auto", description="axes of images with channels; auto sees them by the axis of 1 or 3"
    )


class Npz(OwnFile):
    """Your own arrays: npz:PATH with x_pool, y_pool, x_test, y_test, or x and y to be split.

    Items are uint8 images ``[N, H, W]``, ``[N, C, H, W]`` or ``[N, H, W, C]``, or float rows ``[N, D]``
    (embeddings, measurements), which are used as they are: scale them before. Labels are whole numbers
    or texts. ``class_names`` may name the classes 0, 1, ...
    """

    Parameters = NpzParameters
    parameters: NpzParameters
    source = "an npz file on this machine, written by numpy.savez"
    expected = "npz:PATH with a file that numpy.savez wrote"

    def defaults(self, profile: Profile) -> TaskDefaults:
        return defaults_for(profile, self._item_shape())

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        where = self.where
        held = self._read()
        names = held.pop("class_names", None)
        form = WITH_TEST if set(held) >= set(WITH_TEST) else WHOLE
        if set(held) != set(form):
            raise UserError(
                f"{where} must hold {', '.join(WITH_TEST)}, or x and y to be split (and class_names if "
                f"you like); found {', '.join(sorted(held)) or 'nothing'}. Save it with those names."
            )
        parts: list[tuple[NDArray[Any], NDArray[Any]]] = []
        for x, y in zip(form[::2], form[1::2], strict=True):
            items = as_items(held[x], f"{x} of {where}", self.parameters.layout)
            check_labels(held[y], f"{y} of {where}")
            if len(items) != len(held[y]):
                raise UserError(
                    f"{where} has {len(items)} items in {x} and {len(held[y])} labels in {y}; expected as "
                    "many. Mend the file."
                )
            parts.append((items, held[y]))
        self._refuse_unlike([f"{items.dtype} {items.shape[1:]}" for items, _ in parts], form[::2])
        self._refuse_unlike([labels.dtype.kind for _, labels in parts], form[1::2])
        sizes = [len(labels) for _, labels in parts]
        rows = Rows(
            items=np.concatenate([items for items, _ in parts]),
            labels=np.concatenate([labels for _, labels in parts]),
            split=np.repeat(["train", "test"], sizes) if form is WITH_TEST else None,
            names=None if names is None else [str(name) for name in np.ravel(names)],
            spelled={"train": "x_pool", "test": "x_test"},
            notes={"source": f"npz file {self.path.name}"},
        )
        return data_of(divided(rows, self.parameters, where), rows.items)

    def _refuse_unlike(self, found: Sequence[str], keys: Sequence[str]) -> None:
        if len(set(found)) > 1:
            raise UserError(
                f"{' and '.join(keys)} of {self.where} must be alike; found {' and '.join(found)}. Convert "
                "one of them."
            )

    def _read(self) -> dict[str, NDArray[Any]]:
        where = self.where
        self.identity()  # refuses a file that is not there
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except Exception as error:  # numpy, zipfile and zlib raise many kinds for a damaged file
            if "pickle" in str(error):
                raise UserError(
                    f"{where} holds Python objects, which are never unpickled. Save texts with "
                    "astype(str), and arrays of one shape."
                ) from error
            raise UserError(
                f"{where} is not a whole npz file: {in_words(error)}. Write it again with numpy.savez."
            ) from error

    def _item_shape(self) -> tuple[int, ...] | None:
        """Shape of one item from the file's header alone; None where ``load`` will complain."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                inside = set(archive.namelist())
                name = next(n for n in ("x_pool.npy", "x.npy") if n in inside)
                with archive.open(name) as file:
                    version = np.lib.format.read_magic(file)
                    read = {
                        (1, 0): np.lib.format.read_array_header_1_0,
                        (2, 0): np.lib.format.read_array_header_2_0,
                    }[version]
                    shape, _, _ = read(file)
        except Exception:  # as many kinds as in ``_read``, which tells of them
            return None
        sides = tuple(shape[1:])
        if len(sides) == 2:
            return (1, *sides)
        seen = len(sides) == 3 and sides[0] not in (1, 3) and sides[2] in (1, 3)
        if len(sides) == 3 and (
            seen if self.parameters.layout == "auto" else self.parameters.layout == "hwc"
        ):
            return (sides[2], *sides[:2])
        return sides
