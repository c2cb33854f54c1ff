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
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from alharness.errors import UserError, unknown_name
from alharness.progress import Progress, silent
from alharness.tasks.arrays import Arrays, SplitParameters, check_labels, encode, numbers, split
from alharness.tasks.base import DataLocations, Profile, TaskDefaults
from alharness.tasks.fitting import FitParameters, defaults_for_images, fit_of
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.class_folders import LEFT_OUT, SPLITS, suffixes
from alharness.tasks.originals.conversion import Plan
from alharness.tasks.originals.layout import is_split_alone, split_of
from alharness.tasks.originals.parquet_files import (
    ParquetImages,
    ParquetRows,
    group_starts,
    opened_parquet,
    reading,
)
from alharness.tasks.originals.tree import FileTree, file_facts, listed, shown
from alharness.tasks.selection import CachedTask, Selection

#: Columns that are taken for the label when nothing says which one is.
LABELS = ("label", "labels", "target", "class", "y")
SUFFIXES = (".parquet", ".pq")
#: What ``split_column`` says where there is one that shall be passed over.
NO_SPLIT = "none"
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


@dataclass
class Labelled:
    """Rows with a label: file and row ``[N, 2]`` int64, and their labels ``[N]``; others are counted."""

    places: NDArray[np.int64]
    labels: NDArray[Any]
    n_unlabelled: int = 0


class Parquet(CachedTask):
    """Images in parquet files, as Hugging Face ships them: parquet:PATH with train and test files.

    A column ``image`` holds encoded images (``{bytes, path}``, or bytes), a column ``label`` the classes,
    whose names are taken from Hugging Face's description in the files. Without test files the
    validation files are the test set; without either, a seeded share of the train files. The notes say so.
    """

    Parameters = ParquetParameters
    parameters: ParquetParameters
    source = "parquet files of images on this machine"
    takes_argument = True

    @property
    def path(self) -> Path:
        """Folder or file."""
        return Path(self.argument or "").expanduser().resolve()

    def identity(self) -> dict[str, str]:
        """The folder itself: one name means another folder in another place."""
        return {self.argument or "": str(self.path)}

    def defaults(self, profile: Profile) -> TaskDefaults:
        return defaults_for_images(profile)

    def open_cache(self, locations: DataLocations, progress: Progress = silent) -> ImageCache:
        files = find_files(self.path)
        origin = {self.path.name: files.digest}
        return self.own_cache(
            "parquet",
            self.path,
            self.parameters,
            origin,
            lambda: self._plan(files, origin, progress),
            locations,
            progress,
        )

    def selection(self, cache: ImageCache) -> Selection:
        return Selection(pool=["pool"], test="test", class_names=cache.label_names)

    def _plan(self, files: Files, origin: Mapping[str, str], progress: Progress) -> Plan:
        where = shown(str(self.path))
        names = [name for split_names in files.splits.values() for name in split_names]
        columns = find_columns(files.root, names, self.parameters)
        paths = tuple(files.root / name for name in names)
        rows = ParquetRows(
            paths, tuple(tuple(group_starts(path)) for path in paths), columns.image, files.root
        )
        parts = {
            name: _labelled(rows, [names.index(file) for file in split_files], columns, where)
            for name, split_files in files.splits.items()
            if name != "unlabelled"
        }
        if "" in parts:
            parts = _by_column(parts[""], rows, columns, self.parameters, where)
        unlabelled = sum(part.n_unlabelled for part in parts.values())
        unlabelled += sum(
            rows.starts[names.index(file)][-1] for file in files.splits.get("unlabelled", ())
        )
        pool, test, said = self._pool_and_test(parts, where)
        used = [part for part in (pool, test) if part is not None]
        classes, targets = _classes(used, columns, where)
        chosen = [Arrays(part.places, target) for part, target in zip(used, targets, strict=True)]
        if test is None:
            chosen = list(split(chosen[0], classes, self.parameters, where))
        _refuse_missing_classes(chosen[0], classes, where)
        places = np.concatenate([part.items for part in chosen])
        named = {rows.name(*place): place for place in map(tuple, places.tolist())}
        fit, how = fit_of(
            list(named), lambda name: rows.content(*named[name]), where, self.parameters, progress
        )
        notes = {"source": "parquet files of images", "fit": how, SPLITS: said}
        left_out = _left_out(files, unlabelled)
        if left_out:
            notes[LEFT_OUT] = left_out
        if any("partial" in re.split(r"[^a-z]+", name.lower()) for name in names):
            notes["partial"] = "the hub converted the beginning of this data set only"
        return Plan(
            shape=(len(places), fit.channels, *fit.size),
            read=ParquetImages(rows, places, fit),
            labels=np.concatenate([part.targets for part in chosen]),
            label_names=classes,
            splits={
                name: len(part.items) for name, part in zip(("pool", "test"), chosen, strict=True)
            },
            origin=origin,
            notes=notes,
            parallel=True,
        )

    def _pool_and_test(
        self, parts: Mapping[str, Labelled], where: str
    ) -> tuple[Labelled, Labelled | None, str]:
        """What the pool and the test set are, and how to say it; None: a share of the pool's rows."""
        there = {name: part for name, part in parts.items() if len(part.labels)}
        if not there:
            raise UserError(
                f"{where} has no image with a label. Give files whose labels are there; a label of -1 or "
                "none at all is no label."
            )
        seeded = (
            f"test: {self.parameters.test_fraction:g} of each class, drawn with seed "
            f"{self.parameters.split_seed}"
        )
        if "" in there:
            return there[""], None, seeded
        if "train" not in there:
            raise UserError(
                f"{where} has {' and '.join(sorted(there))} files with labels and no train files. Add "
                "them, or name one file (parquet:FILE) to have it split."
            )
        held_out = "test" if "test" in there else "val"
        if held_out not in there:
            return there["train"], None, seeded
        said = f"pool: train; test: {'validation' if held_out == 'val' else 'test'}"
        if held_out == "test" and "val" in there:
            said += f"; validation: {len(there['val'].labels):,} images, not used"
        return there["train"], there[held_out], said


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
    if len(sets) > 1:
        example = shown(next(folder for folder in sorted(sets) if folder))
        told = listed([folder or "." for folder in sorted(sets)])
        raise UserError(
            f"{where} holds several data sets side by side ({told}). Name one of them, for instance "
            f"parquet:{where}/{example}."
        )
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
    labels = named or [name for name in LABELS if name in schema.names and holds_labels(name)]
    image = _one("image", parameters.image, images, schema.names, path)
    label = _one("label", parameters.label, labels, schema.names, path)
    if image not in images or not holds_labels(label):
        raise UserError(
            f"{shown(str(path))}: expected encoded images in '{image}' and whole numbers or texts in "
            f"'{label}'; found {schema.field(image).type} and {schema.field(label).type}. Name other "
            "columns with task.image and task.label."
        )
    names = features.get(label, {}).get("names") if _kind_of(features, label) else None
    texts = [name for name in schema.names if name not in (image, label) and holds_texts(name)]
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


def _labelled(rows: ParquetRows, files: Sequence[int], columns: Columns, where: str) -> Labelled:
    """The rows of some files that have a label, in their order."""
    places, labels = [], []
    n_unlabelled = 0
    for file in files:
        path = rows.paths[file]
        with reading(path):
            column = opened_parquet(path).read(columns=[columns.label]).column(columns.label)
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
        n_unlabelled += int((~known).sum())
        if len(values):
            check_labels(values, f"'{columns.label}' of {where}")
            at = np.flatnonzero(known)
            places.append(np.stack([np.full(len(at), file), at], axis=1))
            labels.append(values)
    if len({part.dtype.kind for part in labels}) > 1:
        raise UserError(f"The labels of {where} are numbers in one file and texts in another.")
    if not places:
        return _nothing(n_unlabelled)
    return Labelled(np.concatenate(places).astype(np.int64), np.concatenate(labels), n_unlabelled)


def _nothing(n_unlabelled: int) -> Labelled:
    """No row with a label, and so many without."""
    return Labelled(np.empty((0, 2), dtype=np.int64), np.empty(0, np.int64), n_unlabelled)


def _by_column(
    part: Labelled, rows: ParquetRows, columns: Columns, parameters: ParquetParameters, where: str
) -> dict[str, Labelled]:
    """The parts that a column of splits says; everything under no name where there is none.

    Raises:
        UserError: a column says splits, and nothing said what to do with it; or it says something else.
    """
    if parameters.split_column == NO_SPLIT:
        return {"": part}
    wanted = columns.texts if parameters.split_column is None else (parameters.split_column,)
    for name in wanted:
        said = _texts_of(part, rows, name)
        roles = {text: split_of(text) for text in np.unique(said).tolist()}
        told = ", ".join(f"'{text}'" for text in list(roles)[:3])
        are_splits = all(is_split_alone(text) for text in roles)
        if parameters.split_column is None:
            if len(roles) < 2 or not are_splits:
                continue
            raise UserError(
                f"Column '{name}' of {where} says {told}: the author's split, it seems. Take it with "
                f"task.split_column={name}, or have a split drawn with task.split_column={NO_SPLIT}."
            )
        if not are_splits:
            raise UserError(
                f"Column '{name}' of {where} must say train, test or validation; found {told}."
            )
        role_of = np.array([roles[text] for text in said.tolist()])
        parts = {
            role: Labelled(part.places[role_of == role], part.labels[role_of == role])
            for role in sorted(set(role_of.tolist()))
        }
        unlabelled = parts.pop(
            "unlabelled", None
        )  # as files of that name: counted, whatever they hold
        n_unlabelled = part.n_unlabelled + (len(unlabelled.labels) if unlabelled else 0)
        return {**parts, "unlabelled": _nothing(n_unlabelled)}
    return {"": part}


def _texts_of(part: Labelled, rows: ParquetRows, name: str) -> NDArray[np.str_]:
    """A column's texts for the rows of a part ``[N]``; what is not there is blank."""
    texts = np.empty(len(part.places), dtype=object)
    for file in np.unique(part.places[:, 0]).tolist():
        path = rows.paths[file]
        with reading(path):
            values = opened_parquet(path).read(columns=[name]).column(name).to_pylist()
        mine = part.places[:, 0] == file
        texts[mine] = [values[row] or "" for row in part.places[mine, 1].tolist()]
    return texts.astype(str)


def _classes(
    used: Sequence[Labelled], columns: Columns, where: str
) -> tuple[tuple[str, ...], list[NDArray[np.int64]]]:
    """Names of the classes that occur, and the targets of each part."""
    together = np.concatenate([part.labels for part in used])
    given = columns.class_names if together.dtype.kind in "iu" else None
    names = encode(together, given, where)
    targets = [numbers(part.labels, names, named=given is not None) for part in used]
    occurring = np.unique(np.concatenate(targets))
    if len(occurring) < 2:
        raise UserError(
            f"{where} has one class only ({names[int(occurring[0])]}); expected at least two."
        )
    order = np.full(len(names), -1)
    order[occurring] = np.arange(len(occurring))  # names that no image has are no classes
    return tuple(names[int(number)] for number in occurring), [order[t] for t in targets]


def _refuse_missing_classes(pool: Arrays, classes: Sequence[str], where: str) -> None:
    counts = np.bincount(pool.targets, minlength=len(classes))
    absent = [name for name, count in zip(classes, counts, strict=True) if count == 0]
    if absent:
        raise UserError(
            f"The train files of {where} have no image of {listed(absent)}, which the test files have. "
            "Give files of one data set."
        )


def _left_out(files: Files, n_unlabelled: int) -> str:
    said = []
    if files.others:
        said.append(f"{len(files.others):,} other files ({suffixes(files.others)})")
    if n_unlabelled:
        said.append(f"{n_unlabelled:,} images without labels")
    return "; ".join(said)
