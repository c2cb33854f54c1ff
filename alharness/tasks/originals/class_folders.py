"""Images sorted into class folders: the users' own (``folder:PATH``) and imported data sets.

Folders around the classes do not matter, and a zip archive of them is as good as the folder. What is
left out is counted, and what was used for what is said in the notes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.tasks.originals.conversion import Conversion
from alharness.tasks.originals.images import Fit, ImageFiles, is_image
from alharness.tasks.originals.layout import Layout, recognise, says_unlabelled
from alharness.tasks.originals.tree import NAMED, Contents, FileTree, shown
from alharness.tasks.rows import LEFT_OUT, SPLITS, held_out_part

Members = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class ClassFolders:
    """What lies in class folders.

    Attributes:
        tree: the folder or archive.
        listing: all that lies there.
        members: class -> image names, all sorted: ``train`` and ``test``, or ``""`` without splits.
        notes: what was used for what, and what was left out.
        blank: images without a class, sorted; empty unless they are wanted.
    """

    tree: FileTree
    listing: Contents
    members: Mapping[str, Members]
    notes: Mapping[str, str]
    blank: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes, sorted."""
        return tuple(sorted({name for split in self.members.values() for name in split}))

    def all_names(self) -> list[str]:
        """All images that are used, sorted."""
        with_class = (
            name for split in self.members.values() for part in split.values() for name in part
        )
        return sorted((*with_class, *self.blank))

    def digest(self) -> str:
        """Changes when an image does."""
        return self.listing.digest(self.all_names())


def scan(path: Path, *, blanks: bool = False, listing: Contents | None = None) -> ClassFolders:
    """Look at a folder or archive of class folders.

    Args:
        path: of it.
        blanks: images without a class are wanted, and there may be no others.
        listing: what lies there, where that is known: a walk of a million files takes seconds.

    Raises:
        UserError: nothing there, no images, images outside class folders, empty classes, splits
            that do not fit together; by name.
    """
    tree = FileTree(path)
    listing = listing or tree.listing()
    where = shown(str(path))
    images = sorted(name for name in listing.files if is_image(name))
    others = [name for name in listing.files if not is_image(name)]
    if not images:
        kinds = f" ({suffixes(others)})" if others else ""
        # The likeliest reason why nothing here is an image: a data set as the hub ships it.
        if any(name.endswith(".parquet") for name in others):
            kinds += f"; for images in parquet files: parquet:{where}"
        raise UserError(
            f"No images in {where}: expected train/CLASS/*.png and test/CLASS/*.png, or CLASS/*.png "
            f"(or any other format that Pillow reads); found {len(others):,} other files{kinds}."
        )
    layout = recognise(images, where, blanks=blanks)
    _refuse_empty_classes(layout, listing, where)
    members, splits = (
        _pool_and_test(layout, where) if not blanks else (_with_blanks(layout, where), "")
    )
    notes = {}
    if splits:
        notes[SPLITS] = splits
    n_blank = layout.blank_tests + (0 if blanks else len(layout.blank))
    left_out = _left_out(others, n_blank, listing)
    if left_out:
        notes[LEFT_OUT] = left_out
    return ClassFolders(tree, listing, members, notes, layout.blank if blanks else ())


def _with_blanks(layout: Layout, where: str) -> Mapping[str, Members]:
    """Classes by part, where few or none of the images need have one."""
    parts = dict(layout.members)
    if "" not in parts and parts and "train" not in parts and not layout.blank:
        raise UserError(
            f"{where} has images to test with and none to learn from or to label. Add them in a folder train "
            "or unlabelled."
        )
    return parts


def _pool_and_test(layout: Layout, where: str) -> tuple[Mapping[str, Members], str]:
    """What the pool and the test set are, and how to say it."""
    splits = layout.members
    if "" in splits:
        return splits, ""
    spelled = {split: shown(names[0]) for split, names in layout.split_folders.items()}
    if "train" not in splits or not {"test", "val"} & set(splits):
        raise UserError(
            f"{where} has a train or a test folder but not both ({', '.join(spelled.values())}). Add the "
            "other one, or put the class folders side by side to have them split."
        )
    # Folders are the author's split: which part is what is decided where all readers decide it.
    counts = {split: sum(map(len, members.values())) for split, members in splits.items()}
    held_out, said = held_out_part(counts, spelled, where)
    assert held_out is not None
    _refuse_other_classes(
        splits["train"], splits[held_out], spelled["train"], spelled[held_out], where
    )
    return {"train": splits["train"], "test": splits[held_out]}, said


def _refuse_other_classes(
    one: Members, other: Members, name: str, other_name: str, where: str
) -> None:
    if set(one) == set(other):
        return
    for class_name in sorted(set(one) - set(other)):
        for like in sorted(set(other) - set(one)):
            if class_name.casefold() == like.casefold():
                raise UserError(
                    f"{where}: {name} has the class '{class_name}' and {other_name} has '{like}': "
                    "they differ in upper and lower case only. Rename one of them."
                )
    only = [
        f"{split} alone has {', '.join(sorted(rest))}"
        for split, rest in ((name, set(one) - set(other)), (other_name, set(other) - set(one)))
        if rest
    ]
    raise UserError(
        f"{where}: '{name}' and '{other_name}' must have the same classes; {'; '.join(only)}. "
        "Add the missing images or remove the folder."
    )


def _refuse_empty_classes(layout: Layout, listing: Contents, where: str) -> None:
    used = {
        str(PurePosixPath(name).parent)
        for split in layout.members.values()
        for names in split.values()
        for name in names
    }
    for folder in listing.folders:
        parent = str(PurePosixPath(folder).parent)
        if says_unlabelled(PurePosixPath(folder).name):
            continue
        if ("" if parent == "." else parent) in layout.class_parents and folder not in used:
            raise UserError(
                f"Class folder {where}/{shown(folder)} has no image; expected at least one in each "
                "class. Add images or remove the folder."
            )


def _left_out(others: Sequence[str], n_blank: int, listing: Contents) -> str:
    said = []
    if others:
        said.append(f"{len(others):,} files that are no images ({suffixes(others)})")
    if n_blank:
        said.append(f"{n_blank:,} images without labels")
    if listing.passed_over:
        said.append(f"the system's own {', '.join(map(shown, listing.passed_over[:NAMED]))}")
    if listing.doubled:
        said.append(f"{listing.doubled:,} members that stand in the archive twice")
    if listing.hidden:
        said.append(f"{listing.hidden:,} hidden members of the archive (names with a dot in front)")
    return "; ".join(said)


def suffixes(names: Sequence[str]) -> str:
    """How many files of each kind, the most first."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in names)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    more = ", ..." if len(ordered) > NAMED else ""
    return ", ".join(f"{n:,} {shown(suffix)}" for suffix, n in ordered[:NAMED]) + more


def plan_import(
    title: str,
    path: Path,
    class_names: tuple[str, ...],
    class_counts: Mapping[str, Sequence[int]],
    fit: Fit,
    *,
    partial: bool,
) -> Conversion:
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
            f"{title} as images needs train/CLASS/* and test/CLASS/*; {path} has class folders only."
        )
    # People export classes by name, in any case, or by number.
    known = {name.lower(): label for label, name in enumerate(class_names)}
    known |= {str(label): label for label in range(len(class_names))}
    names: list[str] = []
    labels: list[int] = []
    splits: dict[str, int] = {}
    incomplete = False
    for split, by_class in folders.members.items():
        for name, members in by_class.items():
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
            names += members
            labels += [label] * len(members)
        splits[split] = len(names) - sum(splits.values())
    present = ", ".join(class_names[known[name.lower()]] for name in folders.class_names)
    return Conversion(
        shape=(len(names), fit.channels, *fit.size),
        read=ImageFiles(folders.tree, tuple(names), fit),
        labels=np.array(labels, dtype=np.int64),
        label_names=class_names,
        splits=splits,
        origin={path.name: folders.digest()},
        notes={
            "source": f"{title}, imported from image files",
            "imported": shown(path.name),
            "classes": present,
            **folders.notes,
        },
        parallel=True,
        standing="partial" if incomplete else "imported",
    )
