"""Where classes and splits stand in the paths of images, as people lay them out.

Known are ``SPLIT/CLASS/IMAGE`` and ``CLASS/IMAGE``, with any folders around them (also within a
split: ``seg_train/seg_train/CLASS``). Splits have the names of torchvision, Hugging Face and Kaggle.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from alharness.errors import UserError
from alharness.tasks.originals.tree import listed, shown

#: Words that name a split, alone or between separators (``seg_train``, ``training-set``).
WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "pred": "unlabelled",
    "predict": "unlabelled",
    "prediction": "unlabelled",
    "unlabeled": "unlabelled",
    "unlabelled": "unlabelled",
}


#: Words that may stand beside one of them where a folder is nothing but a split.
FILLERS = frozenset(
    {"set", "data", "dataset", "images", "image", "img", "imgs", "split", "seg", ""}
)


@dataclass(frozen=True)
class Layout:
    """Images by split and class.

    Attributes:
        members: split (``train``, ``test``, ``val``; ``""`` without split folders) -> class ->
            names, all sorted.
        class_parents: folders whose sub-folders are classes.
        split_folders: the folders that stand for each split.
        unlabelled: images of splits without labels, left out.
    """

    members: dict[str, dict[str, list[str]]]
    class_parents: frozenset[str]
    split_folders: dict[str, list[str]] = field(default_factory=dict)
    unlabelled: int = 0


def split_of(folder: str) -> str | None:
    """The split that a folder's name means, or None."""
    found = {WORDS[word] for word in re.split(r"[^a-z]+", folder.lower()) if word in WORDS}
    return found.pop() if len(found) == 1 else None


def is_split_alone(folder: str) -> bool:
    """Whether the name means a split and nothing else: not ``train_station``."""
    words = set(re.split(r"[^a-z]+", folder.lower()))
    return split_of(folder) is not None and words <= FILLERS | set(WORDS)


def recognise(images: Sequence[str], where: str) -> Layout:
    """Find classes and splits in the names of images.

    Raises:
        UserError: images that lie elsewhere than the others, folders beside the splits that are
            none, class names that differ where nobody sees it; each by name.
    """
    parts = {name: PurePosixPath(name).parts for name in images}
    usual = _usual_depth(parts.values())
    typical = [part for part in parts.values() if len(part) == usual]
    if usual < 2:
        raise _astray([name for name, part in parts.items() if len(part) == usual], "", where)
    level = 0
    while usual - level > 2 and len(names := {part[level] for part in typical}) == 1:
        if split_of(next(iter(names))):
            break
        level += 1
    wrapper = typical[0][:level]
    names = {part[level] for part in typical}
    kinds = {name: split_of(name) for name in names}
    if usual - level > 2 and all(kinds.values()):
        return _with_splits(parts, wrapper, where)
    known = {kind for kind in kinds.values() if kind}
    alone = all(is_split_alone(name) for name in names)
    if usual - level == 2 and alone and "train" in known and len(known) > 1:
        raise UserError(
            f"{where}: {listed(sorted(names))} hold images without class folders; expected "
            f"{shown(sorted(names)[-1])}/CLASS/IMAGE. Sort the images into one folder per class."
        )
    if usual - level > 2 and "train" in known and len(known) > 1:
        others = sorted(name for name, kind in kinds.items() if kind is None)
        raise UserError(
            f"{where}: {listed(others)} beside {listed(sorted(set(names) - set(others)))} is no "
            "split that is known (train, training, test, testing, val, valid, validation). Rename "
            "or move it."
        )
    members = _by_class(parts, wrapper, where)
    return Layout({"": members}, frozenset({"/".join(wrapper)}))


def _usual_depth(parts: Iterable[tuple[str, ...]]) -> int:
    """How deep most images lie, the file's own name included; the deeper of two equal ones."""
    counts = Counter(len(part) for part in parts)
    return max(counts, key=lambda depth: (counts[depth], depth))


def _with_splits(parts: dict[str, tuple[str, ...]], above: tuple[str, ...], where: str) -> Layout:
    level = len(above)
    by_folder: dict[str, dict[str, tuple[str, ...]]] = {}
    astray = []
    for name, part in parts.items():
        if part[:level] == above and len(part) > level + 1 and split_of(part[level]):
            by_folder.setdefault(part[level], {})[name] = part
        else:
            astray.append(name)
    if astray:
        raise _astray(astray, "/".join((*above, "SPLIT")), where)
    members: dict[str, dict[str, list[str]]] = {}
    folders: dict[str, list[str]] = {}
    parents = set()
    unlabelled = 0
    for folder, inside in sorted(by_folder.items()):
        split = split_of(folder)
        assert split is not None
        if split == "unlabelled":
            unlabelled += len(inside)
            continue
        if split in folders:
            raise UserError(
                f"{where}: the folders {shown(folders[split][0])} and {shown(folder)} both mean the "
                f"{split} split. Put their images together, or remove one."
            )
        wrapper = _wrapper(list(inside.values()), level + 1)
        members[split] = _by_class(inside, wrapper, where)
        folders[split] = [folder]
        parents.add("/".join(wrapper))
    return Layout(members, frozenset(parents), folders, unlabelled)


def _wrapper(parts: Sequence[tuple[str, ...]], level: int) -> tuple[str, ...]:
    """The folders above the classes of a split: it, and lone folders within it."""
    usual = _usual_depth(parts)
    typical = [part for part in parts if len(part) == usual]
    while usual - level > 2 and len({part[level] for part in typical}) == 1:
        level += 1
    return typical[0][:level]


def _by_class(
    parts: dict[str, tuple[str, ...]], above: tuple[str, ...], where: str
) -> dict[str, list[str]]:
    level = len(above)
    members: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    astray = []
    for name, part in sorted(parts.items()):
        if part[:level] != above or len(part) != level + 2:
            astray.append(name)
            continue
        written = part[level]
        if shown(written) != written:
            raise UserError(
                f"{where}: the class folder {shown(written)} has a name that is not UTF-8. Rename "
                "it (convmv -f latin1 -t utf8 does it for whole trees)."
            )
        # One text has two spellings in Unicode; macOS and Linux each write another one.
        class_name = unicodedata.normalize("NFC", written)
        if spelled.setdefault(class_name, written) != written:
            raise UserError(
                f"{where}: two class folders in {'/'.join(above) or '.'} are called {class_name}, "
                "in two spellings of Unicode (NFC and NFD). Put their images together."
            )
        members.setdefault(class_name, []).append(name)
    if astray and not members:
        raise UserError(
            f"{where}: images lie in folders within folders that are no splits: {listed(astray)}. "
            f"Expected {'/'.join((*map(shown, above), 'CLASS', 'IMAGE'))}. Move them up, one folder per "
            "class."
        )
    if astray:
        raise _astray(astray, "/".join(above), where)
    return members


def _astray(names: Sequence[str], above: str, where: str) -> UserError:
    n = f"{len(names):,} images do" if len(names) > 1 else "1 image does"
    return UserError(
        f"{where}: {n} not lie in a class folder like the others: {listed(sorted(names))}. Expected "
        f"{shown(above)}{'/' if above else ''}CLASS/IMAGE. Move or remove what is named."
    )
