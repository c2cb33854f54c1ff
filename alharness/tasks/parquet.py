"""Images in parquet files, as Hugging Face's data sets come: ``parquet:PATH``.

``PATH`` is a folder with ``train-*.parquet`` and ``test-*.parquet`` (a clone of a data set, or
``train/0000.parquet`` as the hub converts them), or one file. Each row holds an encoded image and a
label. What was converted is cached and converted again when the files change.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field

from alharness.errors import UserError, unknown_name
from alharness.lazily import numpy as np
from alharness.progress import Progress, silent
from alharness.tasks.base import DataLocations, TaskData
from alharness.tasks.fitting import FitParameters, OwnImages, plan_of
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.class_folders import suffixes
from alharness.tasks.originals.conversion import Conversion
from alharness.tasks.originals.layout import split_of
from alharness.tasks.originals.parquet_files import (
    ParquetImages,
    ParquetRows,
    group_starts,
    opened_parquet,
    reading,
)
from alharness.tasks.originals.tree import FileTree, file_facts, listed, shown
from alharness.tasks.rows import LEFT_OUT, Divided, Rows, SplitParameters, check_labels, divided
from alharness.tasks.splits import NO_SPLIT, is_flag, roles_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where ``alharness list`` shows it.
FAMILY = "Your own data (needs a path)"

#: Columns that are taken for the label when nothing says which one is.
LABELS = ("label", "labels", "target", "class", "y")
SUFFIXES = (".parquet", ".pq")
EXPECTED = "parquet:PATH with train-*.parquet and test-*.parquet, or one file"


class ParquetParameters(FitParameters, SplitParameters):
    """``--set task.NAME=VALUE`` for ``parquet:PATH``."""

    image: str | None = Field(
        None, description="column of the images; by default the only one that holds images"
    )
    label: str | None = Field(
        None, description="column of the classes; by default the only one that holds labels"
    )
    split_column: str | None = Field(
        None,
        description="column that says train, test or validation, where no file's name does; "
        "none takes no notice of it",
    )


@dataclass(frozen=True)
class Files:
    """The parquet files below a path.

    Attributes:
        root: names are relative to it.
        splits: ``train``, ``test``, ``val``, ``unlabelled``, or ``""`` where no name says so -> files.
        digest: changes when one of them does.
        others: what else lies there.
    """

    root: Path
    splits: Mapping[str, tuple[str, ...]]
    digest: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Columns:
    """Where image and label stand in every file.

    Attributes:
        image, label: names of the columns.
        class_names: of the labels 0, 1, ..., where Hugging Face's description gives them.
        texts: names of the other columns that hold texts.
    """

    image: str
    label: str
    class_names: tuple[str, ...] | None
    texts: tuple[str, ...] = field(default=(), compare=False)  # files may have more than others


class Parquet(OwnImages):
    """Images in parquet files, as Hugging Face ships them: parquet:PATH with train and test files.

    A column ``image`` holds encoded images (``{bytes, path}``, or bytes), a column ``label`` the classes,
    whose names are taken from Hugging Face's description in the files. Without test files the
    validation files are the test set; without either, a seeded share of the train files. The notes say so.
    """

    Parameters = ParquetParameters
    parameters: ParquetParameters
    source = "parquet files of images on this machine"
    kept_as = "parquet"
    _looked: tuple[ParquetRows, Rows, dict[str, tuple[int, int]]] | None = None

    def open_cache(self, locations: DataLocations, progress: Progress = silent) -> ImageCache:
        files = find_files(self.path)
        origin = {self.path.name: files.digest}
        return self.converted(
            origin, lambda: self._plan(files, origin, progress), locations, progress
        )

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        data = super().load(locations, progress)
        if not self.parameters.wants_blanks:
            return data
        _, rows, _ = self._seen(find_files(self.path))
        return replace(data, pool_names=self._divided(rows).named_pool(rows.items))

    def original(self, name: str) -> bytes:
        if self._looked is None:
            self._looked = self._seen(find_files(self.path))  # kept: a person looks at many
        images, _, places = self._looked
        return images.content(*places[name])

    def _divided(self, rows: Rows) -> Divided:
        return divided(rows, self.parameters, shown(str(self.path)))

    def _seen(self, files: Files) -> tuple[ParquetRows, Rows, dict[str, tuple[int, int]]]:
        """The images, what is said of them, and file and row of each by its name; none is opened."""
        where = shown(str(self.path))
        names = [name for split_names in files.splits.values() for name in split_names]
        columns = find_columns(files.root, names, self.parameters)
        paths = tuple(files.root / name for name in names)
        images = ParquetRows(
            paths, tuple(tuple(group_starts(path)) for path in paths), columns.image, files.root
        )
        splits = [split for split, split_names in files.splits.items() for _ in split_names]
        rows, places = _read(images, splits, columns, self.parameters, where)
        return images, rows, places

    def _plan(self, files: Files, origin: Mapping[str, str], progress: Progress) -> Conversion:
        images, rows, places = self._seen(files)
        names = [name for split_names in files.splits.values() for name in split_names]
        notes = {"source": "parquet files of images"}
        if files.others:
            notes[LEFT_OUT] = f"{len(files.others):,} other files ({suffixes(files.others)})"
        if any("partial" in re.split(r"[^a-z]+", name.lower()) for name in names):
            notes["partial"] = "the hub converted the beginning of this data set only"
        return plan_of(
            rows,
            self._divided(replace(rows, notes=notes)),
            lambda name: images.content(*places[name]),
            lambda chosen, fit: ParquetImages(
                images, np.array([places[name] for name in chosen]), fit
            ),
            shown(str(self.path)),
            self.parameters,
            origin,
            progress,
        )


def find_files(path: Path) -> Files:
    """All parquet files at a path, by the split that their names say.

    Raises:
        UserError: nothing there, several data sets side by side, missing shards, or names of which some
            say a split and some do not.
    """
    where = shown(str(path))
    if path.is_file():
        digest = hashlib.sha256(repr(file_facts(path.stat())).encode()).hexdigest()[:16]
        return Files(path.parent, {"": (path.name,)}, digest)
    if not path.is_dir():
        raise UserError(f"Nothing is at {where}. Expected {EXPECTED}.")
    listing = FileTree(path).listing()
    found = sorted(name for name in listing.files if PurePosixPath(name).suffix in SUFFIXES)
    others = tuple(sorted(set(listing.files) - set(found)))
    if not found:
        raise UserError(f"No parquet files in {where}. Expected {EXPECTED}.")
    splits: dict[str, list[str]] = {}
    sets: dict[str, list[str]] = {}
    for name in found:
        role, around = _role_of(name)
        splits.setdefault(role or "", []).append(name)
        sets.setdefault(around, []).append(name)
    # Two data sets side by side are not one with more images: nobody would see it in the figures.
    if len(sets) > 1:
        example = shown(next(folder for folder in sorted(sets) if folder))
        told = listed([folder or "." for folder in sorted(sets)])
        raise UserError(
            f"{where} holds several data sets side by side ({told}). Name one of them, for instance "
            f"parquet:{where}/{example}."
        )
    # What says nothing could be either part, and a guess may put test images into the pool.
    if "" in splits and len(splits) > 1:
        raise UserError(
            f"The names of some files in {where} say no split: {listed(splits[''])}. Call them train-... "
            "or test-..., or take them out of there."
        )
    _refuse_missing_shards(found, where)
    ordered = {role: tuple(names) for role, names in sorted(splits.items())}
    return Files(path, ordered, listing.digest(found), others)


def _role_of(name: str) -> tuple[str | None, str]:
    """The split that a file's name or its nearest folder says, and the folders around them."""
    *folders, file = PurePosixPath(name).parts
    role = split_of(PurePosixPath(file).stem)
    while folders and role is None and (role := split_of(folders[-1])) is not None:
        folders.pop()
        break
    return role, "/".join(folders)


def _refuse_missing_shards(names: Sequence[str], where: str) -> None:
    """``train-00000-of-00003.parquet`` says how many there are."""
    present: dict[tuple[str, int], set[int]] = {}
    for name in names:
        matched = re.fullmatch(r"(.*?)-?(\d{5})-of-(\d{5})(.*)", name)
        if matched:
            key = matched[1], int(matched[3])
            present.setdefault(key, set()).add(int(matched[2]))
    for (stem, total), numbers_there in present.items():
        missing = sorted(set(range(total)) - numbers_there)
        if missing:
            raise UserError(
                f"{where} lacks {len(missing)} of the {total} files of {shown(stem)}, the first "
                f"{shown(stem)}-{missing[0]:05d}-of-{total:05d}. Fetch the rest."
            )


def find_columns(root: Path, names: Sequence[str], parameters: ParquetParameters) -> Columns:
    """Image and label, the same ones in all files.

    Raises:
        UserError: none or several columns could be meant, or files that differ.
    """
    found = {name: _columns_of(root / name, parameters) for name in names}
    first = found[names[0]]
    for name, columns in found.items():
        # With their classes: the same names in another order would shuffle the labels.
        if columns != first:
            raise UserError(
                f"{shown(str(root / name))} has other columns or class names than {shown(names[0])}: "
                f"{_in_words(columns)} against {_in_words(first)}. Give files of one data set."
            )
    return first


def _in_words(columns: Columns) -> str:
    n = "no" if columns.class_names is None else len(columns.class_names)
    return f"'{columns.image}' and '{columns.label}' with {n} names"


def _columns_of(path: Path, parameters: ParquetParameters) -> Columns:
    from pyarrow import types

    schema = opened_parquet(path).schema_arrow
    features = _features(schema.metadata or {}, path)

    def holds_images(name: str) -> bool:
        kind = schema.field(name).type
        if types.is_struct(kind):
            return any(_is_binary(part.type) for part in kind if part.name == "bytes")
        return bool(_is_binary(kind))

    def _is_binary(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def holds_texts(name: str) -> bool:
        kind = schema.field(name).type
        return bool(
            types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind)
        )

    def holds_labels(name: str) -> bool:
        kind = schema.field(name).type
        return bool(types.is_integer(kind) or types.is_boolean(kind)) or holds_texts(name)

    images = [name for name in schema.names if holds_images(name)]
    named = [name for name in schema.names if _kind_of(features, name) == "ClassLabel"]
    # What Hugging Face describes as classes goes before names that people often use.
    labels = named or [name for name in LABELS if name in schema.names and holds_labels(name)]
    if parameters.image is None and not images:
        raise UserError(
            f"{shown(str(path))} has no column of encoded images; there are {', '.join(schema.names)}. "
            f"Rows of numbers, texts or vectors are table:{shown(str(path))} with task.target=COLUMN."
        )
    image = _one("image", parameters.image, images, schema.names, path)
    if parameters.wants_blanks and parameters.label is None and not labels:
        label = ""  # nothing is labelled
    else:
        label = _one("label", parameters.label, labels, schema.names, path)
    if image not in images or (label and not holds_labels(label)):
        raise UserError(
            f"{shown(str(path))}: expected encoded images in '{image}' and whole numbers or texts in "
            f"'{label}'; found {schema.field(image).type} and {schema.field(label or image).type}. Name "
            "other columns with task.image and task.label."
        )
    names = features.get(label, {}).get("names") if _kind_of(features, label) else None
    rest = [name for name in schema.names if name not in (image, label)]
    # A flag of 0 and 1 may be the author's split: such columns are looked at as texts are.
    texts = [name for name in rest if holds_texts(name) or (is_flag(name) and holds_labels(name))]
    split_column = parameters.split_column
    if split_column not in (None, NO_SPLIT, *texts):
        raise unknown_name(f"column of texts of {shown(str(path))}", split_column or "", texts)
    return Columns(image, label, tuple(map(str, names)) if names else None, tuple(texts))


def _kind_of(features: Mapping[str, Any], name: str) -> str:
    described = features.get(name)
    return str(described.get("_type", "")) if isinstance(described, Mapping) else ""


def _features(metadata: Mapping[bytes, bytes], path: Path) -> Mapping[str, Any]:
    """Hugging Face's description of the columns; empty where there is none."""
    text = metadata.get(b"huggingface")
    if text is None:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
        return features if isinstance(features, dict) else {}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{shown(str(path))}: Hugging Face's description of the columns is damaged ({error}). Write the "
            "file again, for instance with Dataset.to_parquet."
        ) from error


def _one(what: str, given: str | None, found: Sequence[str], names: list[str], path: Path) -> str:
    if given is not None:
        if given not in names:
            raise unknown_name(f"column of {shown(str(path))}", given, names)
        return given
    if len(found) != 1:
        told = f"any of {', '.join(found)}" if found else "none that is known"
        raise UserError(
            f"Which column of {shown(str(path))} holds the {what}? It may be {told}; there are "
            f"{', '.join(names)}. Set task.{what}."
        )
    return found[0]


def _read(
    images: ParquetRows,
    splits: Sequence[str],
    columns: Columns,
    parameters: ParquetParameters,
    where: str,
) -> tuple[Rows, dict[str, tuple[int, int]]]:
    """The images, in the order of the files, and file and row of each by its name.

    Args:
        splits: what each file's name says.
    """
    places: dict[str, tuple[int, int]] = {}
    labels: list[NDArray[Any]] = []
    has_label: list[NDArray[np.bool_]] = []
    parts: list[str] = []
    # Names of files say more than a column: it is asked only where they say nothing.
    by_column = splits[0] == "" and parameters.split_column != NO_SPLIT
    said: dict[str, list[str]] = {name: [] for name in columns.texts if by_column}
    for file, split in enumerate(splits):
        n_rows = images.starts[file][-1]
        places.update((images.name(file, row), (file, row)) for row in range(n_rows))
        parts += [split] * n_rows
        table = _columns_in(images.paths[file], [*filter(None, [columns.label]), *said])
        if split == "unlabelled" or not columns.label:  # whatever stands there
            values, known = np.empty(0, np.int64), np.zeros(n_rows, dtype=bool)
        else:
            column = table.column(columns.label)
            values, known = _labels_of(column, images.paths[file], columns, where)
        has_label.append(known)
        if known.any():
            check_labels(values, f"'{columns.label}' of {where}")
            labels.append(values)
        for name, texts in said.items():
            cells = table.column(name).to_pylist()
            texts += ["" if value is None else str(value) for value in cells]
    # Put together, numpy would make texts of the numbers without a word.
    if len({part.dtype.kind for part in labels}) > 1:
        raise UserError(f"The labels of {where} are numbers in one file and texts in another.")
    of_known = np.concatenate(labels) if labels else np.empty(0, np.int64)
    known = np.concatenate(has_label)
    together = np.zeros(len(known), dtype=of_known.dtype)
    together[known] = of_known
    rows_found = Rows(
        items=np.array(list(places), dtype=object),
        labels=together,
        known=known,
        split=np.array(parts) if splits[0] else _said_by_column(said, known, parameters, where),
        names=columns.class_names if together.dtype.kind in "iu" else None,
        spelled={"val": "validation"},
    )
    return rows_found, places


def _columns_in(path: Path, names: Sequence[str]) -> Any:
    with reading(path):
        return opened_parquet(path).read(columns=list(names))


def _labels_of(
    column: Any, path: Path, columns: Columns, where: str
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Labels of the rows of a file that have one, and which these are, bool ``[N]``."""
    known = ~np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)
    values = np.array([value for value in column.to_pylist() if value is not None])
    if values.dtype.kind in "iu" and (values == -1).any():
        # How Hugging Face marks what has no label; a class of a file that is not described so.
        if columns.class_names is None:
            raise UserError(
                f"'{columns.label}' of {where} has labels of -1, which means 'no label' where it is "
                f"described as Hugging Face's ClassLabel; {shown(path.name)} does not say so. Make them "
                "null where there is no label, or number the classes from 0."
            )
        of_known = np.flatnonzero(known)
        known[of_known[values == -1]] = False
        values = values[values != -1]
    return values, known


def _said_by_column(
    said: Mapping[str, Sequence[str]],
    known: NDArray[np.bool_],
    parameters: ParquetParameters,
    where: str,
) -> NDArray[np.str_] | None:
    """The part of each image that a column of splits says; None where there is no such column.

    Raises:
        UserError: a column says splits, and nothing said what to do with it; or it says something else.
    """
    wanted = said if parameters.split_column is None else (parameters.split_column,)
    for name in wanted if said else ():
        # Of what has no label nothing need be said.
        asked = known if known.any() else np.ones(len(known), dtype=bool)
        texts = sorted(set(np.array(said[name], dtype=object)[asked]))
        roles = roles_in(name, texts)
        told = ", ".join(f"'{text}'" for text in texts[:3])
        if parameters.split_column is None:
            if len(texts) < 2 or roles is None:
                continue
            raise UserError(
                f"Column '{name}' of {where} says {told}: the author's split, it seems. Take it with "
                f"task.split_column={name}, or have a split drawn with task.split_column={NO_SPLIT}."
            )
        if roles is None:
            raise UserError(
                f"Column '{name}' of {where} must say train, test or validation; found {told}."
            )
        # A text that stands beside no label may still say a part: test items without labels are no pool.
        everywhere = roles_in(name, set(said[name])) or roles
        return np.array([everywhere.get(text, "unlabelled") for text in said[name]])
    return None
