"""Where classes and splits stand in the paths of images, as people lay them out.

Known are ``SPLIT/CLASS/IMAGE`` and ``CLASS/IMAGE``, with any folders around them (also within a
split: ``seg_train/seg_train/CLASS``). Splits have the names of torchvision, Hugging Face and Kaggle.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
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
        blank: images without a class, sorted: in a folder ``unlabelled`` (or ``pred``, beside splits); where
            items without a class are wanted, also those that lie beside class folders and not in one.
        blank_tests: how many more lie in a folder of tests, of no use to anybody.
    """

    members: dict[str, dict[str, list[str]]]
    class_parents: frozenset[str]
    split_folders: dict[str, list[str]] = field(default_factory=dict)
    blank: tuple[str, ...] = ()
    blank_tests: int = 0


def split_of(folder: str) -> str | None:
    """The split that a folder's name means, or None."""
    found = {WORDS[word] for word in re.split(r"[^a-z]+", folder.lower()) if word in WORDS}
    return found.pop() if len(found) == 1 else None


def is_split_alone(folder: str) -> bool:
    """Whether the name means a split and nothing else: not ``train_station``."""
    words = set(re.split(r"[^a-z]+", folder.lower()))
    return split_of(folder) is not None and words <= FILLERS | set(WORDS)


def says_unlabelled(folder: str) -> bool:
    """Whether a folder beside class folders holds what has no class; ``pred`` may be the name of a class."""
    words = set(re.split(r"[^a-z]+", folder.lower()))
    return bool(words & {"unlabeled", "unlabelled"}) and is_split_alone(folder)


def recognise(images: Sequence[str], where: str, *, blanks: bool = False) -> Layout:
    """Find classes and splits in the names of images.

    Args:
        images: names of all.
        where: they lie, for messages.
        blanks: items without a class are wanted, so that an image need not lie in a class folder.

    Raises:
        UserError: images that lie elsewhere than the others, folders beside the splits that are
            none, class names that differ where nobody sees it; each by name.
    """
    apart = [name for name in images if any(map(says_unlabelled, _folders(name)))]
    if not blanks and len(apart) == len(images):
        apart = []  # a name around all classes, as archives have one, sets nothing apart
    without = _without_class(images, set(apart)) if blanks else apart
    rest = sorted(set(images) - set(without))
    tests = {name for name in set(without) - set(apart) if _is_of_tests(name)}
    if not rest and len(tests) == len(without):
        tests = set()  # all that there is, whatever its folder is called
    blank = set(without) - tests
    if not rest:
        return Layout({}, frozenset(), blank=tuple(sorted(blank)), blank_tests=len(tests))
    found = _recognised(rest, where)
    return replace(found, blank=tuple(sorted({*found.blank, *blank})), blank_tests=len(tests))


def _without_class(images: Sequence[str], apart: set[str]) -> list[str]:
    """Images that lie in no class folder, which is one that holds images and no folder of images."""
    parents = {PurePosixPath(name).parent for name in images}
    above = {folder for parent in parents for folder in parent.parents}
    # One folder alone, whatever it is called, sorts nothing.
    above |= parents if len(parents) == 1 else set()
    beside: dict[PurePosixPath, set[str]] = {}
    for folder in (parents | above) - {PurePosixPath(".")}:
        beside.setdefault(folder.parent, set()).add(folder.name)
    # A class may be called train; where all folders are called by splits, none of them is a class.
    splits = {above for above, names in beside.items() if all(map(is_split_alone, names))}
    return [
        name
        for name in images
        if name in apart
        or (parent := PurePosixPath(name).parent) in above
        or (parent.parent in splits and parent != PurePosixPath("."))
    ]


def _folders(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts[:-1]


def _is_of_tests(name: str) -> bool:
    return any(
        is_split_alone(folder) and split_of(folder) in ("test", "val") for folder in _folders(name)
    )


def _recognised(images: Sequence[str], where: str) -> Layout:
    parts = {name: PurePosixPath(name).parts for name in images}
    # Where most images lie shows the layout; those that lie otherwise are named by what follows.
    usual = _usual_depth(parts.values())
    typical = [part for part in parts.values() if len(part) == usual]
    if usual < 2:
        raise _astray([name for name, part in parts.items() if len(part) == usual], "", where)
    level = 0
    # A lone folder around all classes says nothing (an archive's own name), unless it names a split.
    while usual - level > 2 and len(names := {part[level] for part in typical}) == 1:
        if split_of(next(iter(names))):
            break
        level += 1
    wrapper = typical[0][:level]
    names = {part[level] for part in typical}
    kinds = {name: split_of(name) for name in names}
    # Only where every folder of the level is a split: a stranger among them would be lost without a word.
    if usual - level > 2 and all(kinds.values()):
        return _with_splits(parts, wrapper, where)
    known = {kind for kind in kinds.values() if kind}
    alone = all(is_split_alone(name) for name in names)
    # train/ and test/ that hold images themselves: sorted by split, and not by class.
    if usual - level == 2 and alone and "train" in known and len(known) > 1:
        raise UserError(
            f"{where}: {listed(sorted(names))} hold images without class folders; expected "
            f"{shown(sorted(names)[-1])}/CLASS/IMAGE. Sort the images into one folder per class."
        )
    if usual - level > 2 and "train" in known and len(known) > 1:
        # As classes, folders called train and test would put the test set into the pool.
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
    blank: list[str] = []
    for folder, inside in sorted(by_folder.items()):
        split = split_of(folder)
        assert split is not None
        if split == "unlabelled":
            blank += inside
            continue
        if split in folders:
            raise UserError(
                f"{where}: the folders {shown(folders[split][0])} and {shown(folder)} both mean the "
                f"{split} split. Put their images together, or remove one."
            )
        # Each part by itself: one may have folders around its classes that another one lacks.
        wrapper = _wrapper(list(inside.values()), level + 1)
        members[split] = _by_class(inside, wrapper, where)
        folders[split] = [folder]
        parents.add("/".join(wrapper))
    return Layout(members, frozenset(parents), folders, tuple(sorted(blank)))


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
        f"{shown(above)}{'/' if above else ''}CLASS/IMAGE. Move or remove what is named, or "
        "label it: 'alharness label' takes images without a class."
    )
