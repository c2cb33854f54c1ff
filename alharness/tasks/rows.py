"""Data of somebody's own: what every reader gives, and the one place that makes a task of it.

A reader (class folders, npz, parquet, tables, torchvision) says what the items are, which label each has
and which part the author put it in. Here classes get their numbers, pool and test set are told apart or
drawn, and what was done is noted. A drawn test set is stratified and follows a seed of its own, never the
run's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from alharness import seeds
from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.tasks.base import TaskParameters
from alharness.tasks.soundness import BLANK
from alharness.tasks.words import names_in

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Notes under which it is said what was not used, what the parts were used for, and what has no class.
LEFT_OUT, SPLITS, UNLABELLED = "left out", "splits", "unlabelled"

#: What is said where the data have no test set and none is drawn.
NO_TEST = "no test set: accuracy is not measured"
HOW_TO_NAME = "--set task.classes=cat,dog"


class SplitParameters(TaskParameters):
    """``--set task.NAME=VALUE`` for data that may come without a test set."""

    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the test set, where the data have none"
    )
    split_seed: int = Field(0, ge=0, description="seed of that split, apart from the run's seeds")
    classes: str = Field(
        "",
        json_schema_extra={"added": "0.3.0"},
        description="names of the classes, with commas between; by default those that occur",
    )
    blank: Literal["out", "pool"] = Field(
        "out",
        json_schema_extra={"added": "0.3.0"},
        description="items without a class: out of the pool, as a run with a simulated oracle needs it; or "
        "in it, to be labelled, and then no test set is drawn",
    )

    @property
    def wants_blanks(self) -> bool:
        """Whether items without a class belong to the pool, to be labelled."""
        return self.blank == "pool"


@dataclass(frozen=True)
class Rows:
    """What a reader gives.

    Attributes:
        items: N items: images, rows of numbers, or the names or places of images.
        labels: the data's own, ``[N]``: whole numbers, bools or texts; anything where there is none.
        known: bool ``[N]``, which items have a label; None: all of them.
        split: ``train``, ``test`` or ``val`` of each item, or ``unlabelled``, ``[N]``; None where the data
            have no parts.
        names: of the classes 0, 1, ... where labels are their numbers.
        spelled: what the data call their parts, where that is another word.
        notes: facts for the record: the source, what a reader did.
    """

    items: Any
    labels: NDArray[Any]
    known: NDArray[np.bool_] | None = None
    split: NDArray[np.str_] | None = None
    names: Sequence[str] | None = None
    spelled: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Divided:
    """Rows as a task: positions of pool and test items, both in the order of the data.

    Attributes:
        pool, test: int64 ``[P]``, ``[T]``.
        targets: int64 ``[N]``, numbers of classes; -1 for what has none (``BLANK``) or is not used.
        class_names: one per class, in the order of the targets.
        notes: the reader's, and what was done here.
    """

    pool: NDArray[np.int64]
    test: NDArray[np.int64]
    targets: NDArray[np.int64]
    class_names: tuple[str, ...]
    notes: Mapping[str, str]

    @property
    def order(self) -> NDArray[np.int64]:
        """The pool's positions, then those of the test set: how caches are laid out."""
        return np.concatenate([self.pool, self.test])

    def named_pool(self, names: Sequence[str]) -> NDArray[np.str_]:
        """Names of the pool's items, out of those of all, ``[P]``."""
        return np.array([names[at] for at in self.pool.tolist()], dtype=np.str_)


def divided(
    rows: Rows,
    parameters: SplitParameters,
    where: str,
    draw: Literal["split", "folder"] = "split",
) -> Divided:
    """Classes, pool and test set.

    Args:
        rows: what was read.
        parameters: how a test set is drawn where the data have none.
        where: the data, for messages.
        draw: by which recipe; each is as old as the readers that use it, and their results.

    Raises:
        UserError: labels that name no classes, fewer than two classes, a class of too few items or without
            a pool item, or a test part without a part to learn from.
    """
    check_labels(rows.labels, f"of {where}")
    notes = dict(rows.notes)
    known = np.ones(len(rows.labels), dtype=bool) if rows.known is None else rows.known.copy()
    split = rows.split
    if split is not None:
        # A part of that name has no labels, whatever stands there; it is a part to learn from.
        known &= split != "unlabelled"
        split = np.where(split == "unlabelled", "train", split)
    wanted = parameters.wants_blanks
    # Blanks of the author's test part are of no use: nothing can be measured on them.
    used = known | (wanted & (True if split is None else split == "train"))
    held_out = None
    if split is None:
        pool, said = np.flatnonzero(used), ""
    else:
        found, counts = np.unique(split[used], return_counts=True)
        held_out, said = held_out_part(
            dict(zip(found.tolist(), counts.tolist(), strict=True)), rows.spelled, where
        )
        pool = np.flatnonzero(used & (split == "train"))
    test = np.flatnonzero(used & (split == held_out)) if held_out is not None else pool[:0]
    with_class = np.concatenate([pool, test])
    with_class = with_class[known[with_class]]
    class_names, numbers = _classes(rows, with_class, parameters, where, draw)
    if rows.names is not None and len(class_names) < len(rows.names):
        unused = [name for name in rows.names if name not in class_names]
        notes["names without an item"] = ", ".join(unused)
    # Validation items keep their place and have no class: positions stay those of the data.
    targets = np.full(len(rows.labels), BLANK)
    targets[with_class] = numbers
    if held_out is None and not wanted:
        said = _drawn_said(parameters)
        test = _drawn(targets, class_names, parameters, where, draw)
        # Sorted, as the test set is: the order of the data, whatever was drawn first.
        pool = np.setdiff1d(pool, test)
    notes[SPLITS] = said or NO_TEST
    # With blanks in the pool a class may still be waiting for its first label.
    for number in [] if wanted else np.setdiff1d(targets[test], targets[pool]).tolist():
        raise UserError(
            f"Class '{class_names[number]}' of {where} has no item in the pool, only in the test set. "
            "Leave it out, or move items to the pool."
        )
    if wanted:
        n_blank = int((targets[pool] == BLANK).sum())
        notes[UNLABELLED] = f"{n_blank:,} of {len(pool):,} pool items have no class yet"
    leave_out_blank(notes, int((~known & ~used).sum()))
    return Divided(pool, test, targets, class_names, notes)


def leave_out(notes: dict[str, str], said: str) -> None:
    """Note what else was not used."""
    notes[LEFT_OUT] = "; ".join(filter(None, [notes.get(LEFT_OUT), said]))


def leave_out_blank(notes: dict[str, str], n: int) -> None:
    """Note how many items were not used because they have no label, where there are such."""
    if n:
        leave_out(notes, f"{n:,} items without labels")


def held_out_part(
    counts: Mapping[str, int], spelled: Mapping[str, str], where: str
) -> tuple[str | None, str]:
    """Which of the author's parts the test set is, and how to say it.

    Test items are never joined by validation items; without test items these take their place.

    Args:
        counts: items in ``train``, ``test`` and ``val``, as far as they are there.
        spelled: what the data call them.
        where: the data, for messages.

    Returns:
        ``test``, ``val`` or None: a share of the training items, to be drawn; and words, if not.

    Raises:
        UserError: nothing to learn from.
    """
    if "train" not in counts:
        there = " and ".join(spelled.get(name, name) for name in sorted(counts))
        raise UserError(
            f"{where} has {there or 'nothing'} and no train items with labels. Add them, or give the items "
            "without that split to have one drawn."
        )
    # A test part of its own comes first: validation items chose somebody's model already.
    held_out = next((name for name in ("test", "val") if name in counts), None)
    if held_out is None:
        return None, ""
    said = f"pool: {spelled.get('train', 'train')}; test: {spelled.get(held_out, held_out)}"
    if held_out == "test" and "val" in counts:
        said += f"; {spelled.get('val', 'val')}: {counts['val']:,} items, not used"
    return held_out, said


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
        remedy = "Give one class per item"
        if labels.dtype.kind == "f":
            remedy = "Regression is not supported; make classes of them"
        raise UserError(
            f"The labels {where} must be whole numbers or texts; found {labels.dtype}. {remedy}."
        )


def _classes(
    rows: Rows, with_class: NDArray[np.int64], parameters: SplitParameters, where: str, draw: str
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the classes, and the number of each label's.

    Those that occur, in the order of the labels; where items are to be labelled, all that have a name; where
    the user names classes, these, in this order.

    Args:
        with_class: positions of the items that are used and have a label.
    """
    labels, names = rows.labels[with_class], rows.names
    wanted = tuple(names_in(parameters.classes))
    if len(labels) == 0 and not wanted and (names is None or not parameters.wants_blanks):
        how = (
            f"Name the classes: {HOW_TO_NAME}"
            if parameters.wants_blanks
            else "A label of -1 or none at all is no label. To label the items: 'alharness label', with "
            + HOW_TO_NAME
        )
        raise UserError(f"{where} has no item with a label; expected two classes or more. {how}.")
    # Sorted, so that the numbers do not depend on the order of the items.
    found, numbers = np.unique(labels, return_inverse=True)
    numbers = numbers.reshape(-1).astype(np.int64)
    if names is None:
        class_names = tuple(str(label) for label in found)
    # Names are by number: a text or a number beyond them has none.
    elif len(found) and (
        labels.dtype.kind == "U" or int(found[0]) < 0 or int(found[-1]) >= len(names)
    ):
        raise UserError(
            f"With class names the labels of {where} must be numbers 0 .. {len(names) - 1}; found "
            f"{found[0]} .. {found[-1]}. Give a name for each class, or none."
        )
    else:
        class_names = tuple(str(names[int(label)]) for label in found)
    # A class that nobody has labelled yet is one all the same.
    if names is not None and parameters.wants_blanks and not wanted:
        wanted = tuple(map(str, names))
    if wanted:
        further = [name for name in class_names if name not in wanted]
        # A slip in a label, or in the setting: left out it would take its items out of the pool.
        if further:
            raise UserError(
                f"{where} has the class '{further[0]}', which task.classes does not name "
                f"({', '.join(wanted)}). Add it, or mend the label"
                + (
                    "; pictures without a class may lie in a folder unlabelled."
                    if draw == "folder"
                    else "."
                )
            )
        absent = [name for name in wanted if name not in class_names]
        # Of blanks in the pool some may be of this class.
        if absent and not parameters.wants_blanks:
            raise UserError(
                f"task.classes names '{absent[0]}', which no item of {where} has. Leave it out, or add items."
            )
        at = np.array([wanted.index(name) for name in class_names], dtype=np.int64)
        numbers, class_names = at[numbers] if len(numbers) else numbers, wanted
    if parameters.classes and len(set(class_names)) < len(class_names):
        raise UserError(
            f"task.classes names a class twice: {', '.join(class_names)}. Name each once."
        )
    if len(class_names) < 2:
        told = f"Name all: {HOW_TO_NAME}" if parameters.wants_blanks else "Add another one"
        raise UserError(
            f"{where} has one class only ({class_names[0]}); expected at least two. {told}."
        )
    return class_names, numbers


def _drawn_said(parameters: SplitParameters) -> str:
    return (
        f"test: {parameters.test_fraction:g} of each class, drawn with seed {parameters.split_seed}"
    )


def _drawn(
    targets: NDArray[np.int64],
    class_names: Sequence[str],
    parameters: SplitParameters,
    where: str,
    draw: str,
) -> NDArray[np.int64]:
    """Positions of the test set: a seeded share of each class."""
    chosen = []
    for number, name in enumerate(class_names):
        members = np.flatnonzero(targets == number)
        n_test = round(len(members) * parameters.test_fraction)
        if n_test == 0 or n_test == len(members):
            raise UserError(
                f"Class '{name}' of {where} has {len(members)} items: too few to split off a test "
                f"share of {parameters.test_fraction}. Add items or set task.test_fraction."
            )
        rng = seeds.rng(parameters.split_seed, draw, name)
        if draw == "folder":  # another draw would be other data under the run keys of 0.1.0
            chosen.append(members[rng.choice(len(members), n_test, replace=False)])
        else:
            chosen.append(rng.permutation(members)[:n_test])
    return np.sort(np.concatenate(chosen))
