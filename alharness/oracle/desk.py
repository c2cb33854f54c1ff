"""A person as the oracle: where queries lie until they are answered, and answers for good.

Each query is a file in the run's folder ``annotations`` (``questions.py``), each answer a line of another one
(``answers.py``). While an answer is missing, the run waits: whoever carries it out shows the query on a page,
gives it to a caller in Python, or ends, and the same command goes on later. A sheet (``sheet.py``) that lies
beside the query is read in any case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from alharness.errors import PendingError, UserError
from alharness.oracle.answers import Answer, AnswerFile, Choices, plain, standing, user
from alharness.oracle.originals import Originals
from alharness.oracle.questions import Asking, Item, Question, agreed, digest_of
from alharness.oracle.sheet import Cells, Sheet


class AnnotationPendingError(PendingError):
    """The run waits for a person.

    Attributes:
        desk: takes the answers.
        question: what is asked.
        items: images ``[Q, C, H, W]`` in [0, 1], lines of them ``[Q, P, C, H, W]``, or rows ``[Q, D]``,
            float32 on the CPU: what the classifier learns from.
        n_missing: items without an answer.
        table: the CSV file to fill in; None where there is none.
        picture: the PNG file to look at; None where there is none.
    """

    def __init__(
        self, desk: Desk, question: Question, items: torch.Tensor, n_missing: int, sheet: Sheet
    ) -> None:
        self.desk, self.question, self.items, self.n_missing = desk, question, items, n_missing
        self.table = sheet.table if sheet.table.exists() else None
        self.picture = sheet.picture
        told = f"{n_missing} of {len(question.items)} annotations are missing."
        if self.table is not None:
            look = f"Look at '{self.picture}', fill in" if self.picture else "Fill in"
            told += f" {look} '{self.table}', and give the same command again: the run goes on from there."
        super().__init__(told)


class Desk:
    """Where a person finds the questions of a run.

    Args:
        folder: ``annotations`` in the run's folder.
        class_names: what may be answered.
        originals: what the data's owner calls the items of the pool.
        asking: how the person is asked.
    """

    def __init__(
        self,
        folder: Path,
        class_names: Sequence[str],
        *,
        originals: Originals | None = None,
        asking: Asking | None = None,
    ) -> None:
        self.folder = folder
        self.choices = Choices(class_names)
        self.originals = originals or Originals()
        self.asking = asking or Asking()
        self._file = AnswerFile(folder)
        # A page answers from a thread of its own while the run waits in another.
        self._lock = threading.Lock()

    def labels(
        self, items: torch.Tensor, cycle: int, indices: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Class per item, int64 ``[Q]``; -1 where the person cannot tell.

        Args:
            items: float32 images ``[Q, C, H, W]`` in [0, 1], or rows ``[Q, D]``, on the CPU.
            cycle: of the query.
            indices: of the pool, int64 ``[Q]``; None for items that are not in it.

        Raises:
            AnnotationPendingError: answers are missing.
            UserError: a row of the sheet holds something else than a class, or files are of another query.
        """
        if indices is None:
            kind: Literal["items", "images"] = "images"
            asked = [Item(number, f"image {number}") for number in range(1, len(items) + 1)]
            unit = "item"
        else:
            kind, unit = "items", self.originals.unit
            asked = [
                Item(number, self.originals.name(index), index, self.originals.cells(index))
                for number, index in enumerate(indices.tolist(), start=1)
            ]
        question = Question(cycle, kind, digest_of(items), unit, tuple(asked))
        found = self._answers(question, items)
        return torch.tensor([number for number, _ in found], dtype=torch.int64)

    def changes(self, images: torch.Tensor, cycle: int) -> torch.Tensor:
        """Per line the class of its first image and where it changes, int64 ``[Q, 2]``.

        Args:
            images: float32 ``[Q, P, C, H, W]`` in [0, 1], on the CPU.
            cycle: of the query.

        Raises:
            AnnotationPendingError, UserError: as ``labels``.
        """
        n_lines, n_points = images.shape[:2]
        asked = tuple(Item(number, f"line {number}") for number in range(1, n_lines + 1))
        question = Question(cycle, "lines", digest_of(images), "item", asked, n_points)
        rows = []
        for first, at in self._answers(question, images):
            # As an index: of the first image of the other class; behind the last where there is none.
            change = -1 if at is None else n_points if at == 0 else at - 1
            rows.append([first, change])
        return torch.tensor(rows, dtype=torch.int64).view(n_lines, 2)

    def _answers(self, question: Question, items: torch.Tensor) -> list[Cells]:
        """What was answered, in the order of the items; a question that is new is written down.

        Raises:
            AnnotationPendingError: answers are missing.
        """
        question = agreed(question, self.folder)
        sheet = Sheet(self.folder, question, self.choices)
        if sheet.table.exists():
            self._read(sheet)
        elif self.asking.sheets:
            sheet.write(items)
        given = self.given(question)
        if missing := len(question.items) - len(given):
            raise AnnotationPendingError(self, question, items, missing, sheet)
        found = []
        for item in question.items:
            answer = given[item.number]
            where = f"'{self._file.path}', item {item.number} of {question.stem}"
            label = -1 if answer.label is None else self.choices.number(answer.label, where)
            found.append((label, answer.changes_at))
        return found

    def given(self, question: Question) -> dict[int, Answer]:
        """The answers that count, by the item's number; the last one given stands last."""
        return standing(self._file.read(), question.digest)

    def take(
        self,
        question: Question,
        answers: Mapping[int, tuple[Any, ...] | None],
        *,
        who: str | None = None,
        via: str,
        when_ms: int | None = None,
    ) -> None:
        """Take answers, all or none; they are on the disk when this returns.

        Args:
            question: what was asked.
            answers: by the item's number, as they were typed: ``(class,)``, of a line ``(class of its first
                image, changes_at)``; None takes an answer back.
            who: gave them; by default who is asked.
            via: which way they came.
            when_ms: they were given, milliseconds since 1970; now by default.

        Raises:
            UserError: an item that was not asked about, or no class.
        """
        sheet = Sheet(self.folder, question, self.choices)
        asked = {item.number for item in question.items}
        parsed: dict[int, Cells | None] = {}
        for number, cells in answers.items():
            where = f"Answer to item {number} of {question.stem}"
            if number not in asked:
                raise UserError(
                    f"{where}: expected an item from 1 to {len(asked)}. Nothing was taken."
                )
            if cells is None:
                parsed[number] = None
                continue
            texts = [self.choices.skip if cell is None else str(cell) for cell in cells]
            # Who cannot tell the class of a line says nothing of where it changes.
            is_line = question.kind == "lines" and plain(texts[0]) != self.choices.skip
            found = sheet.parsed(texts, where) if len(texts) == 1 + is_line else None
            if found is None:
                more = " and where it changes" if question.kind == "lines" else ""
                raise UserError(
                    f"{where}: expected {self.choices} or {self.choices.skip}{more}; found "
                    f"{', '.join(texts) or 'nothing'}."
                )
            parsed[number] = found
        self._append(question, parsed, who=who, via=via, when_ms=when_ms)

    def _append(
        self,
        question: Question,
        parsed: Mapping[int, Cells | None],
        *,
        who: str | None,
        via: str,
        when_ms: int | None = None,
    ) -> None:
        items = {item.number: item for item in question.items}
        when = time.time_ns() // 1_000_000 if when_ms is None else when_ms
        with self._lock:
            self._file.append(
                [
                    Answer(
                        query=question.digest,
                        cycle=question.cycle,
                        item=number,
                        index=items[number].index,
                        label=None if cells is None else self.choices.name(cells[0]),
                        changes_at=None if cells is None else cells[1],
                        who=who or self.asking.who or user(),
                        when_ms=when,
                        via=via,
                        taken_back=cells is None,
                    )
                    for number, cells in parsed.items()
                ]
            )

    def _read(self, sheet: Sheet) -> None:
        """Take from a sheet what changed in it since it was last read.

        An answer that came another way later is not undone by a cell that still says what it said.
        """
        question = sheet.question
        before = standing(
            (answer for answer in self._file.read() if answer.via == "sheet"), question.digest
        )
        said = {
            number: (
                self.choices.class_names.index(a.label) if a.label is not None else -1,
                a.changes_at,
            )
            for number, a in before.items()
        }
        changed = {
            number: cells for number, cells in sheet.read().items() if cells != said.get(number)
        }
        self._append(question, changed, who=None, via="sheet", when_ms=sheet.when_ms)
