"""Images sorted into class folders: the users' own (``folder:PATH``) and imported data sets.

Two layouts: ``{train,test}/CLASS/*.png``, or ``CLASS/*.png`` alone. Folders around them do not
matter, and a zip archive of them is as good as the folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from alharness.errors import UserError
from alharness.tasks.originals.conversion import Plan
from alharness.tasks.originals.readers import FileTree, Fit, ImageFiles, is_image

#: Folder names that mean a split.
SPLITS = {"train": "train", "training": "train", "test": "test", "val": "test", "valid": "test"}


@dataclass(frozen=True)
class ClassFolders:
    """What lies in class folders.

    Attributes:
        tree: the folder or archive.
        members: split -> class -> image names, all sorted; the split is ``""`` without split folders.
    """

    tree: FileTree
    members: Mapping[str, Mapping[str, Sequence[str]]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes, sorted."""
        return tuple(sorted({name for split in self.members.values() for name in split}))

    def all_names(self) -> list[str]:
        """All images, sorted."""
        return sorted(
            name for split in self.members.values() for part in split.values() for name in part
        )


def scan(path: Path) -> ClassFolders:
    """Look at a folder or archive of class folders.

    Raises:
        UserError: nothing there, no images, images outside class folders, or empty classes.
    """
    tree = FileTree(path)
    names = tree.names()
    images = [name for name in names if is_image(name)]
    if not images:
        raise UserError(
            f"No images in {path}: expected train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png "
            f"(also jpg, bmp, gif, tiff, webp); found {len(names)} other files."
        )
    parts = [PurePosixPath(name).parts for name in images]
    depth = _depth_of_classes(parts)
    members: dict[str, dict[str, list[str]]] = {}
    for name, part in zip(images, parts, strict=True):
        if len(part) != depth + 2:
            raise UserError(
                f"{path}/{name} does not lie in a class folder like the others: expected "
                f"{'/'.join(part[:depth])}{'/' if depth else ''}CLASS/IMAGE. Move or remove it."
            )
        split = SPLITS.get(part[depth - 1].lower(), "") if depth else ""
        members.setdefault(split, {}).setdefault(part[depth], []).append(name)
    if "" in members and len(members) > 1:
        raise UserError(f"{path} has images both inside and outside train and test. Sort them.")
    _refuse_empty_classes(tree, members)
    return ClassFolders(tree, members)


def _depth_of_classes(parts: Sequence[tuple[str, ...]]) -> int:
    """How many folders stand above the class folders: those that all images share, and the split."""
    depth = 0
    shortest = min(len(part) for part in parts)
    while depth < shortest - 1:
        level = {part[depth] for part in parts}
        if {name.lower() for name in level} <= set(SPLITS):
            return depth + 1
        # A lone folder is a wrapper as long as more than one level of folders follows.
        if len(level) > 1 or depth + 2 >= shortest:
            return depth
        depth += 1
    return depth


def _refuse_empty_classes(
    tree: FileTree, members: Mapping[str, Mapping[str, Sequence[str]]]
) -> None:
    if not tree.is_archive:
        split = next(iter(members.values()))
        first = next(iter(split.values()))[0]
        classes = (tree.path / first).parent.parent
        for folder in classes.iterdir():
            if folder.is_dir() and not folder.name.startswith(".") and folder.name not in split:
                raise UserError(
                    f"Class folder {folder} has no image; expected at least one in each class. "
                    "Add images or remove the folder."
                )
    if len(members) > 1:
        (one, first_classes), (other, other_classes) = members.items()
        if set(first_classes) != set(other_classes):
            odd = sorted(set(first_classes) ^ set(other_classes))
            raise UserError(
                f"{tree.path}: '{one}' and '{other}' must have the same classes; only one of them "
                f"has {', '.join(odd)}. Add the missing images or remove the folder."
            )


def plan_images(
    folders: ClassFolders,
    ordered: Mapping[str, Sequence[tuple[str, int]]],
    fit: Fit,
    label_names: tuple[str, ...],
    *,
    origin: Mapping[str, str],
    notes: Mapping[str, str],
    partial: bool = False,
) -> Plan:
    """The conversion of chosen images.

    Args:
        folders: where they lie.
        ordered: split -> (image name, label), in the order of the cache.
        fit: how they become items.
        label_names: names of the classes.
        origin, notes, partial: as in ``Plan``.
    """
    pairs = [pair for split in ordered.values() for pair in split]
    names = tuple(name for name, _ in pairs)
    return Plan(
        shape=(len(names), fit.channels, *fit.size),
        read=ImageFiles(folders.tree, names, fit),
        labels=np.array([label for _, label in pairs], dtype=np.int64),
        label_names=label_names,
        splits={split: len(members) for split, members in ordered.items()},
        origin=origin,
        notes=notes,
        parallel=True,
        partial=partial,
    )


def plan_import(
    title: str,
    path: Path,
    class_names: tuple[str, ...],
    class_counts: Mapping[str, Sequence[int]],
    fit: Fit,
    *,
    partial: bool,
) -> Plan:
    """A known data set from class folders of images, named by class or by class number.

    A class may be missing as a whole (CIFAR-10's automobile and horse are enough for
    ``cifar10-two``); one that is there must be complete.

    Args:
        title: the data set's name for people.
        path: folder or zip archive.
        class_names: official classes, in the order of the labels.
        class_counts: official images per class in ``train`` and ``test``.
        fit: how images become items.
        partial: accept incomplete classes.

    Raises:
        UserError: unknown or incomplete classes, no train and test folders.
    """
    folders = scan(path)
    if set(folders.members) != {"train", "test"}:
        raise UserError(
            f"{title} as images needs train/CLASS/* and test/CLASS/*; {path} has "
            f"{', '.join(sorted(folders.members)) or 'neither'} only."
        )
    known = {name.lower(): label for label, name in enumerate(class_names)}
    known |= {str(label): label for label in range(len(class_names))}
    ordered: dict[str, list[tuple[str, int]]] = {}
    incomplete = False
    for split in ("train", "test"):
        ordered[split] = []
        for name, members in folders.members[split].items():
            if name.lower() not in known:
                raise UserError(
                    f"{title} has no class '{name}' (folder in {path}); expected some of "
                    f"{', '.join(class_names)}. Rename the folder."
                )
            label = known[name.lower()]
            if len(members) != class_counts[split][label]:
                incomplete = True
                if not partial:
                    raise UserError(
                        f"{title} in {path}: class '{name}' must have "
                        f"{class_counts[split][label]:,} {split} images; found {len(members):,}. "
                        "Complete it; --partial accepts it and says so in every record."
                    )
            ordered[split] += [(member, label) for member in members]
    present = ", ".join(class_names[known[name.lower()]] for name in folders.class_names)
    return plan_images(
        folders,
        ordered,
        fit,
        class_names,
        origin={path.name: folders.tree.listing_digest(folders.all_names())},
        notes={"source": f"{title}, imported from image files", "classes": present},
        partial=incomplete,
    )
