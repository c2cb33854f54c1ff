"""A query as a person is asked it: which items, what they are called, what is known of them.

``annotations/cycle_0007.json`` in a run's folder holds it, so that answers can be given, corrected and
exported without the data at hand. It is written once, before anything is asked of anybody.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from alharness.errors import UserError
from alharness.files import read_sealed, write_sealed
from alharness.pictures.sheets import as_uint8

#: The initial set, which is asked before cycle 0.
INITIAL_NAME = "initial"


@dataclass(frozen=True)
class Asking:
    """How a person is asked.

    Attributes:
        sheets: put a table to fill in into the run's folder for each query.
        who: answers; the user of this machine by default.
    """

    sheets: bool = True
    who: str | None = None


@dataclass(frozen=True)
class Item:
    """An item of a question.

    Attributes:
        number: in the question, from 1.
        name: of its file or its row, as the owner of the data knows it; ``image 3`` of synthetic ones.
        index: pool index; None for synthetic items.
        cells: of a table's row, by column.
    """

    number: int
    name: str
    index: int | None = None
    cells: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Question:
    """A query to a person.

    Attributes:
        cycle: -1 is the initial set.
        kind: ``items`` and ``images`` (synthetic ones) get a class each; ``lines`` a class and its change.
        digest: names what is shown.
        unit: what an item's name is: ``file``, ``row`` or ``item``.
        items: in the order of the query.
        n_points: images of a line; 1 of others.
    """

    cycle: int
    kind: Literal["items", "images", "lines"]
    digest: str
    unit: str
    items: tuple[Item, ...]
    n_points: int = 1

    @property
    def stem(self) -> str:
        """Name of its files, without an ending."""
        return stem_of(self.cycle)

    def write(self, folder: Path) -> None:
        """Write it beside and rename."""
        write_sealed(folder / f"{self.stem}.json", asdict(self))


def stem_of(cycle: int) -> str:
    """Name of a question's files, without an ending."""
    return INITIAL_NAME if cycle < 0 else f"cycle_{cycle:04d}"


def read_question(path: Path) -> Question:
    """A question that was written.

    Raises:
        DamagedError: the file is not what was written.
    """
    values: dict[str, Any] = read_sealed(path, "Move it away: the same command asks again.")
    items = tuple(Item(**item) for item in values.pop("items"))
    return Question(items=items, **values)


def read_questions(folder: Path) -> list[Question]:
    """All questions of a run, the first one first.

    Args:
        folder: ``annotations`` in the run's folder.
    """
    paths = sorted(folder.glob("cycle_*.json"), key=lambda path: int(re.sub(r"\D", "", path.stem)))
    first = folder / f"{INITIAL_NAME}.json"
    return [read_question(path) for path in [first, *paths] if path.exists()]


def agreed(question: Question, folder: Path) -> Question:
    """The question as it was asked before, or written now; items keep the names that they were asked by.

    Raises:
        UserError: another query was asked in this cycle.
    """
    path = folder / f"{question.stem}.json"
    if not path.exists():
        question.write(folder)
        return question
    before = read_question(path)
    if before.digest != question.digest:
        raise other_query(path)
    return before


def other_query(path: Path) -> UserError:
    """What a person was asked, and answered, is not what the run asks now."""
    return UserError(
        f"'{path}' belongs to another query than this run asks now. Move the folder "
        f"'{path.parent}' away, or go back to the settings that it was made with."
    )


def digest_of(items: torch.Tensor) -> str:
    """Names a query by what is shown: images in [0, 1], or rows of numbers."""
    shown = as_uint8(items) if items.ndim > 2 else items.contiguous().numpy()
    return hashlib.sha256(shown.tobytes()).hexdigest()[:16]
