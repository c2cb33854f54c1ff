"""What lies beside images and says their classes or their split: ``metadata.csv``, ``train_test_split.txt``.

Hugging Face's imagefolder has ``file_name`` and ``label`` in ``metadata.csv``; Kaggle has ``id,label``;
CUB-200 numbers its images in ``images.txt`` and says 0 or 1 of each number in ``train_test_split.txt``. They
are told of when seen, and taken when asked (``task.table=FILE``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alharness.errors import UserError
from alharness.tasks.originals.images import is_image
from alharness.tasks.originals.tree import listed, shown
from alharness.tasks.splits import roles_in
from alharness.tasks.texts import Form, Texts, read_texts

#: Columns that name an image, that name its class, and files that are looked for.
NAMES = (
    "file_name",
    "filename",
    "file",
    "image",
    "image_name",
    "path",
    "filepath",
    "image_id",
    "img",
    "id",
    "name",
)
LABELS = ("label", "class", "target", "category", "class_name", "y", "species", "breed")
FILES = re.compile(
    r"(metadata|labels?|annotations?|train|classes)\.(csv|tsv)|train_test_split\.(txt|csv)"
)
_SPLIT = "train_test_split"


@dataclass(frozen=True)
class ImageTable:
    """What a table says, by the names of images as it writes them.

    Attributes:
        labels: class of each; empty where it says none.
        splits: ``train``, ``test``, ``val`` or ``unlabelled`` of each; empty where it says none.
    """

    labels: Mapping[str, str]
    splits: Mapping[str, str]

    def by_image(self, images: Sequence[str], where: str) -> dict[str, str]:
        """The image of each name in the table: the same path, the same end of it, or the same file name.

        Raises:
            UserError: a name that no image has, or that several have.
        """
        ends: dict[str, list[str]] = {}
        for image in images:
            path = PurePosixPath(image)
            # Tables write a file's name, or any end of its path.
            for parts in range(len(path.parts)):
                end = PurePosixPath(*path.parts[parts:])
                ends.setdefault(str(end), []).append(image)
                ends.setdefault(str(end.with_suffix("")), []).append(image)  # Kaggle's ids
        found, missing = {}, []
        for name in self.labels or self.splits:
            there = sorted(set(ends.get(name.removeprefix("./"), ())))
            if len(there) > 1:
                raise UserError(
                    f"{where}: '{shown(name)}' is the name of several images: {listed(there)}."
                )
            if there:
                found[name] = there[0]
            else:
                missing.append(name)
        if missing:
            raise UserError(
                f"{where} names {len(missing):,} images that are not there: {listed(missing)}. "
                "Fetch them, or take "
                "their lines out."
            )
        return found


def seen_beside(root: Path, others: Sequence[str]) -> list[str]:
    """Files at a folder of images, or beside it, that seem to say classes or splits; relative to it."""
    inside = [name for name in others if FILES.fullmatch(PurePosixPath(name).name)]
    beside = [] if not root.is_dir() else sorted(
        f"../{path.name}" for path in root.parent.glob(f"{_SPLIT}.*") if path.is_file()
    )  # fmt: skip
    return [*inside, *beside]


def classes_in_names(images: Sequence[str]) -> list[str]:
    """Words that the names of images begin with (``cat.0.jpg``), where these seem to be classes."""
    matched = [re.fullmatch(r"([a-zA-Z]+)[ ._-]*\d+", PurePosixPath(name).stem) for name in images]
    words = sorted({found[1] for found in matched if found})
    return words if all(matched) and 1 < len(words) <= max(2, len(images) / 5) else []


def read_image_table(path: Path, where: str) -> ImageTable:
    """Read a table that lies beside images.

    Raises:
        UserError: no such file, or columns that name no images, classes or splits.
    """
    if not path.is_file():
        raise UserError(f"task.table: {path} does not exist. Expected a table that names images.")
    # Numbers and flags alone: which image a number is stands in the other file.
    if path.stem == _SPLIT and (path.parent / "images.txt").is_file():
        return _cub(path, where)
    separator = {".tsv": "\t", ".txt": r"\s+"}.get(path.suffix.lower(), ",")
    texts = read_texts(path, Form(separator, header="first"), f"task.table={path.name}")
    columns = dict(zip(texts.names, (column.to_pylist() for column in texts.columns), strict=True))
    lower = {name.strip().lower(): name for name in columns}
    # By the names that people use; else what looks like files of images is taken for them.
    name = next((lower[word] for word in NAMES if word in lower), None)
    if name is None:
        name = next((key for key, cells in columns.items() if all(map(is_image, cells[:50]))), None)
    if name is None:
        raise UserError(
            f"task.table={path.name} of {where} has no column that names images; expected one of "
            f"{', '.join(NAMES[:4])}, found {', '.join(columns)}. Rename it."
        )
    label = next((lower[word] for word in LABELS if word in lower and lower[word] != name), None)
    # Classes may be called train and test, too: their column says no split.
    rest = [key for key in columns if key not in (name, label)]
    split = next((key for key in rest if roles_in(key, set(columns[key]))), None)
    if label is None and split is None:
        raise UserError(
            f"task.table={path.name} of {where} says neither classes nor a split; expected a column "
            f"{', '.join(LABELS[:4])} or split, found {', '.join(columns)}. Rename it."
        )
    roles = roles_in(split, set(columns[split])) or {} if split is not None else {}
    return ImageTable(
        dict(zip(columns[name], columns[label], strict=True)) if label is not None else {},
        {image: roles[said] for image, said in zip(columns[name], columns[split], strict=True)}
        if split is not None
        else {},
    )


def _cub(path: Path, where: str) -> ImageTable:
    """CUB-200-2011: numbers of images and 1 for those to train with."""

    def pairs(file: Path) -> dict[str, str]:
        texts: Texts = read_texts(file, Form(r"\s+", header="none"), f"{file.name} of {where}")
        number, value = (column.to_pylist() for column in texts.columns)
        return dict(zip(number, value, strict=True))

    names, flags = pairs(path.parent / "images.txt"), pairs(path)
    if set(names) != set(flags) or not set(flags.values()) <= {"0", "1"}:
        raise UserError(
            f"{path} does not say 0 or 1 of each image in images.txt. Fetch both again."
        )
    return ImageTable(
        {}, {names[key]: "train" if flag == "1" else "test" for key, flag in flags.items()}
    )
