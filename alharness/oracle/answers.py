"""Answers of a person: what may be answered, and the file that no answer is lost from.

``annotations/answers.jsonl`` in a run's folder grows by a line for each answer, whichever way it came (the
page, a sheet, Python, a file). A line is on the disk before anybody is told that it was taken, and is
never changed: a correction is another line, and so is taking an answer back. The last line of an item
counts.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from unicodedata import normalize

from pydantic import TypeAdapter, ValidationError

from alharness.errors import DamagedError, UserError
from alharness.files import append_line, drop_torn_line, explained
from alharness.records.facts import first_fault

#: The file, in the folder ``annotations`` of a run.
ANSWERS = "answers.jsonl"
#: What a person writes who cannot tell: the first of these that is no class.
SKIPS = ("skip", "?", "cannot tell", "-")


@dataclass(frozen=True)
class Answer:
    """One line of ``answers.jsonl``.

    Attributes:
        query: digest of the query that it belongs to; the same number of a cycle may ask another one after
            a run was started over.
        cycle: of the query; -1 is the initial set.
        item: number of the item in its query, from 1.
        index: pool index of the item; None for synthetic ones.
        label: name of the class, of a line's first image; None where the person cannot tell.
        changes_at: of a line: number of the first image of the other class, 0 where there is none.
        who: gave it.
        when_ms: milliseconds since 1970.
        via: ``page``, ``sheet``, ``python`` or ``file``.
        taken_back: an earlier answer to the item no longer counts.
    """

    query: str
    cycle: int
    item: int
    index: int | None
    label: str | None
    who: str
    when_ms: int
    via: str
    changes_at: int | None = None
    taken_back: bool = False

    @property
    def when(self) -> str:
        """Date and time in UTC, ISO 8601."""
        return datetime.fromtimestamp(self.when_ms / 1000, UTC).isoformat(timespec="seconds")


class AnswerFile:
    """``answers.jsonl`` of one run, which one process at a time writes: it holds the run's lock."""

    def __init__(self, folder: Path) -> None:
        """``folder``: ``annotations`` in the run's folder."""
        self.path = folder / ANSWERS

    def read(self) -> list[Answer]:
        """All answers in the order in which they came; what a kill left of a last line is passed over.

        Raises:
            DamagedError: a line that was not written so.
        """
        if not self.path.exists():
            return []
        with explained(self.path, "read"):
            *lines, _ = self.path.read_bytes().split(b"\n")
        found = []
        for number, line in enumerate(lines, start=1):
            try:
                found.append(_CHECKED.validate_json(line, strict=True))
            except ValidationError as error:
                raise DamagedError(
                    f"'{self.path}' line {number} is no answer ({first_fault(error)}): the file is damaged. "
                    "Restore it, or take the line out; its item is asked about again."
                ) from error
        return found

    def append(self, answers: Sequence[Answer]) -> None:
        """Append answers, and wait until they are on the disk.

        Raises:
            UserError: the system refuses; what was there before is whole.
        """
        if not answers:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Before anything is appended: a new line behind half of one would be half of a line, too.
        drop_torn_line(self.path)
        append_line(self.path, "\n".join(_line(answer) for answer in answers))


def _line(answer: Answer) -> str:
    values = asdict(answer)
    # Of most answers there is nothing to say here.
    if answer.changes_at is None:
        del values["changes_at"]
    if not answer.taken_back:
        del values["taken_back"]
    return json.dumps(values, ensure_ascii=False)


#: Holds the values of a line against the types above.
_CHECKED = TypeAdapter(Answer)


def standing(answers: Iterable[Answer], query: str) -> dict[int, Answer]:
    """What counts of the answers to a query: the last one of each item, by the item's number."""
    found: dict[int, Answer] = {}
    for answer in answers:
        if answer.query == query:
            found.pop(answer.item, None)  # its place is that of its last answer
            if not answer.taken_back:
                found[answer.item] = answer
    return found


class Choices:
    """What may be answered: classes by name, or by number where no name is a number; or that nobody can tell.

    Attributes:
        class_names: in the order of their numbers.
        by_number: whether numbers of classes are taken.
        skip: the word of who cannot tell.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        # Classes 5 and 7 must not be answered by 0 and 1, nor 2.0 by what a spreadsheet makes of 1.0.
        self.by_number = all(_number(name) is None for name in class_names)
        taken = {plain(name) for name in class_names}
        self.skip = next(word for word in SKIPS if word not in taken)

    def __str__(self) -> str:
        if not self.by_number:
            return ", ".join(self.class_names)
        return ", ".join(f"{name} ({label})" for label, name in enumerate(self.class_names))

    def number(self, cell: str, where: str) -> int:
        """Number of a class, -1 for who cannot tell.

        Capitals do not matter where no two classes differ by them alone.

        Args:
            cell: what was answered.
            where: it was, for the message.

        Raises:
            UserError: no class.
        """
        text = normalize("NFC", cell.strip())
        if plain(text) == self.skip:
            return -1
        names = [normalize("NFC", name) for name in self.class_names]
        if text in names:
            return names.index(text)
        alike = [label for label, name in enumerate(names) if plain(name) == plain(text)]
        if len(alike) == 1:
            return alike[0]
        if (number := _number(text)) is not None:
            equal = [label for label, name in enumerate(names) if _number(name) == number]
            if len(equal) == 1:  # 1 for the class 1.0
                return equal[0]
        if self.by_number and text.isdecimal() and int(text) < len(self.class_names):
            return int(text)
        raise UserError(f"{where}: expected {self} or {self.skip}; found '{cell}'.")

    def name(self, number: int) -> str | None:
        """The class of a number; None for -1."""
        return self.class_names[number] if number >= 0 else None


def user() -> str:
    """Who answers, where nobody says: the user of this machine."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name for the number, as in some containers
        return "unknown"


def plain(text: str) -> str:
    """Without the differences that a person does not mean."""
    return normalize("NFC", text.strip()).casefold()


def _number(text: str) -> float | None:
    """What a spreadsheet would take for a number."""
    try:
        return float(text)
    except ValueError:
        return None
