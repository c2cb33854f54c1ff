"""A user's own arrays: ``npz:PATH``, as ``numpy.savez`` and ``numpy.save`` write them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from pydantic import Field

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.pool import EMBEDDED
from alharness.progress import Progress, silent
from alharness.tasks.arrays import OwnFile, as_items, channels_last, data_of, defaults_for
from alharness.tasks.base import DataLocations, Profile, TaskData, TaskDefaults
from alharness.tasks.originals.tree import in_words
from alharness.tasks.rows import Rows, SplitParameters, check_labels, divided

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where ``alharness list`` shows it.
FAMILY = "Your own data (needs a path)"

#: The forms of a file: items and labels of each part, with the keys in any case. The third is Keras'
#: (``mnist.npz``), the fourth MedMNIST's.
FORMS: tuple[dict[str, tuple[str, str]], ...] = (
    {"": ("x", "y")},
    {"train": ("x_pool", "y_pool"), "test": ("x_test", "y_test")},
    {
        "train": ("x_train", "y_train"),
        "test": ("x_test", "y_test"),
        "val": ("x_val", "y_val"),
    },
    {
        "train": ("train_images", "train_labels"),
        "test": ("test_images", "test_labels"),
        "val": ("val_images", "val_labels"),
    },
)
#: Files of labels that are looked for beside a file of items, to tell of them.
BESIDE = ("{stem}_labels", "{stem}-labels", "labels", "y", "targets")


class NpzParameters(SplitParameters):
    """``--set task.NAME=VALUE`` for ``npz:PATH``."""

    layout: Literal["auto", "chw", "hwc"] = Field(
        "auto", description="axes of images with channels; auto sees them by the axis of 1 or 3"
    )
    labels: str | None = Field(
        None,
        json_schema_extra={"added": "0.3.0"},
        description="for npz:FILE.npy: the file of its labels, another .npy, or text with one in each line",
    )
    unlabelled: str | None = Field(
        None,
        json_schema_extra={"added": "0.3.0"},
        description="label that means that there is none, for instance -1; NaN and blank texts always do",
    )


class Npz(OwnFile):
    """Your own arrays: npz:PATH with x_pool, y_pool, x_test, y_test, or x and y to be split.

    Also x_train, y_train, ... (Keras), train_images, train_labels, ... (MedMNIST), and one array of items
    (npz:FILE.npy) with task.labels=FILE. Items are uint8 images ``[N, H, W]``, ``[N, C, H, W]`` or
    ``[N, H, W, C]``, or float rows ``[N, D]`` (embeddings, measurements), which are used as
    they are: scale them before. Labels are whole numbers
    or texts. ``class_names`` may name the classes 0, 1, ...
    """

    Parameters = NpzParameters
    parameters: NpzParameters
    source = "an npz file on this machine, written by numpy.savez"
    expected = "npz:PATH with a file that numpy.savez wrote"

    def defaults(self, profile: Profile) -> TaskDefaults:
        return defaults_for(profile, self._item_shape())

    def identity(self) -> dict[str, str]:
        found = super().identity()
        if self.parameters.labels is not None:
            found |= Npz(self.name, self.parameters.labels).identity()
        return found

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        where = self.where
        held = self._read()
        names = held.pop("class_names", None)
        held.pop(EMBEDDED, None)  # what the rows were computed from: no items
        if self.parameters.wants_blanks:
            held |= _blank_labels(held)
        # By names alone: shapes are looked at when it is known what each array is.
        form = self._form(held)
        parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]] = []
        for x, y in form.values():
            items = as_items(held[x], f"{x} of {where}", self.parameters.layout)
            # Keras and MedMNIST give labels an axis of their own.
            given = (
                held[y].reshape(-1) if set(form) - {""} and held[y].shape[1:] == (1,) else held[y]
            )
            known, labels = self._known(given)
            check_labels(labels, f"{y} of {where}")
            if len(items) != len(labels):
                raise UserError(
                    f"{where} has {len(items)} items in {x} and {len(labels)} labels in {y}; expected as "
                    "many. Mend the file."
                )
            parts.append((items, labels, known))
        self._refuse_unlike(
            [f"{items.dtype} {items.shape[1:]}" for items, _, _ in parts],
            [x for x, _ in form.values()],
        )
        self._refuse_unlike(
            # Put together, numpy would make texts of the numbers without a word.
            [labels.dtype.kind for _, labels, known in parts if known.any()],
            [y for _, y in form.values()],
        )
        # What stands where there is no label is of no kind.
        kind = next((labels.dtype for _, labels, known in parts if known.any()), np.dtype(np.int64))
        sizes = [len(labels) for _, labels, _ in parts]
        items = np.concatenate([items for items, _, _ in parts])
        rows = Rows(
            items=items,
            labels=np.concatenate(
                [
                    labels if known.any() else np.zeros(len(labels), kind)
                    for _, labels, known in parts
                ]
            ),
            known=np.concatenate([known for _, _, known in parts]),
            split=None if "" in form else np.repeat(list(form), sizes),
            names=None if names is None else [str(name) for name in np.ravel(names)],
            spelled={role: x for role, (x, _) in form.items()},
            notes={"source": f"{self.path.suffix[1:]} file {self.path.name}"},
        )
        found = divided(rows, self.parameters, where)
        if (told := _scales(rows.items[found.pool])) is not None:
            found = replace(found, notes={**found.notes, "scales": told})
        numbers = np.arange(len(items)).astype(np.str_)
        return data_of(found, items, numbers if self.parameters.wants_blanks else None)

    def _form(self, held: Mapping[str, NDArray[Any]]) -> dict[str, tuple[str, str]]:
        """The keys of items and labels in each part that is there.

        Raises:
            UserError: other keys, or items without their labels.
        """
        keys = {key.lower(): key for key in held}
        for form in FORMS:
            there = {
                role: (keys[x], keys[y]) for role, (x, y) in form.items() if x in keys and y in keys
            }
            # An array that belongs to no part is a mistake in the file, not something to leave out.
            is_whole = len(keys) == len(held) == 2 * len(there)
            if is_whole and ("" in there or ("train" in there and there.keys() & {"test", "val"})):
                return there
        names = ", ".join(name for pair in FORMS[1].values() for name in pair)
        raise UserError(
            f"{self.where} must hold {names}, or x and y to be split (and class_names if you like); found "
            f"{', '.join(sorted(held)) or 'nothing'}. Save it with those names."
        )

    def _known(self, labels: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Which items have a label, bool ``[N]``, and the labels ``[N]``."""
        known = np.ones(len(labels), dtype=bool)
        if labels.ndim != 1:
            return known, labels
        if labels.dtype.kind == "f" and np.isnan(labels).any():
            known = ~np.isnan(labels)
            if (labels[known] == np.trunc(labels[known])).all():
                labels = np.where(known, labels, 0).astype(np.int64)  # a gap made floats of them
        elif labels.dtype.kind == "U":
            known = np.strings.strip(labels) != ""
        if self.parameters.unlabelled is not None:
            known &= labels.astype(str) != self.parameters.unlabelled
        return known, labels

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
            if self.path.suffix.lower() == ".npy":
                items = np.load(self.path, allow_pickle=False)
                if self.parameters.labels is None and self.parameters.wants_blanks:
                    return {"x": items}
                labels = self._labels()
                # A table that was written with its column's name has one line more.
                if labels.ndim == 1 and len(labels) == len(items) + 1:
                    raise UserError(
                        f"{where} has {len(items):,} items, and {self.parameters.labels} has one label more: "
                        f"if its first line, '{labels[0]}', is a heading, leave it out (in pandas "
                        "to_csv(FILE, index=False, header=False))."
                    )
                return {"x": items, "y": labels}
            with np.load(self.path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        except UserError:
            raise
        except Exception as error:  # numpy, zipfile and zlib raise many kinds for a damaged file
            if "pickle" in str(error):
                raise UserError(
                    f"{where} holds Python objects, which are never unpickled. Save texts with "
                    "astype(str), and arrays of one shape."
                ) from error
            raise UserError(
                f"{where} is not a whole npz file: {in_words(error)}. Write it again with numpy.savez."
            ) from error

    def _labels(self) -> NDArray[Any]:
        """The labels that lie beside a file of items.

        Raises:
            UserError: nothing says where, or the file cannot be read.
        """
        if self.parameters.labels is None:
            beside = [
                path
                for form in BESIDE
                for ending in (".npy", ".csv", ".txt")
                if (
                    path := self.path.with_name(form.format(stem=self.path.stem) + ending)
                ).is_file()
            ]
            hint = f", for instance task.labels={beside[0]}" if beside else ""
            raise UserError(
                f"{self.where} is one array: set task.labels to the file of its labels{hint} "
                "(.npy, or text with "
                "one in each line), or write both into one file with numpy.savez(FILE, x=..., y=...). Where "
                "there are none, 'alharness label' collects them."
            )
        path = Path(self.parameters.labels).expanduser()
        if path.suffix.lower() == ".npy":
            found: NDArray[Any] = np.load(path, allow_pickle=False)
            return found
        try:
            lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is neither a .npy file nor text ({in_words(error)})."
            ) from error
        # Numbers in the order of their values; 01 is a text, as in a table.
        whole = all(re.fullmatch(r"-?(0|[1-9]\d*)", line) for line in lines)
        return np.array(lines, dtype=np.int64 if whole else np.str_)

    def _item_shape(self) -> tuple[int, ...] | None:
        """Shape of one item from the file's header alone; None where ``load`` will complain."""
        try:
            with ExitStack() as stack:
                if self.path.suffix.lower() == ".npy":
                    file: IO[bytes] = stack.enter_context(self.path.open("rb"))
                else:
                    archive = stack.enter_context(zipfile.ZipFile(self.path))
                    firsts = {f"{next(iter(form.values()))[0]}.npy" for form in FORMS}
                    name = next(n for n in archive.namelist() if n.lower() in firsts)
                    file = stack.enter_context(archive.open(name))
                major, minor = np.lib.format.read_magic(file)
                read = getattr(np.lib.format, f"read_array_header_{major}_{minor}")
                shape, _, _ = read(file)
        except Exception:  # as many kinds as in ``_read``, which tells of them
            return None
        sides = tuple(shape[1:])
        if len(sides) == 2:
            return (1, *sides)
        if len(sides) == 3 and channels_last(sides, self.parameters.layout):
            return (sides[2], *sides[:2])
        return sides


def _blank_labels(held: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Labels that say nothing, for items to learn from that have none in the file."""
    keys = {key.lower(): key for key in held}
    for form in FORMS:
        x, y = form.get("") or form["train"]
        if x in keys and y not in keys:
            return {y: np.full(len(held[keys[x]]), np.nan)}
    return {}


def _scales(rows: NDArray[Any]) -> str | None:
    """Columns that differ a thousandfold: a network sees the large ones only, and rows are used as
    they are."""
    if rows.ndim != 2:
        return None
    spread = rows.std(axis=0, dtype=np.float64)
    spread = spread[spread > 0]
    if len(spread) < 2 or spread.max() < 1000 * spread.min():
        return None
    return (
        f"columns differ {spread.max() / spread.min():,.0f}-fold in scale, and rows are used as they are; "
        "networks and distances want them scaled"
    )
