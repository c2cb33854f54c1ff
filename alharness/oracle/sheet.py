"""The sheet: a query as a table to fill in with any editor, beside a picture of its images.

The table is written once and never again, so nothing that was filled in is lost. It is read each time the run
looks for answers: a cell that says something else than when it was last read is an answer.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from alharness.errors import UserError
from alharness.files import beside
from alharness.oracle.answers import Choices, plain
from alharness.oracle.questions import Question, other_query
from alharness.pictures.sheets import Row, as_uint8, contact_sheet, save

#: Images per row of the picture.
N_COLUMNS = 10
#: Signs of a cell of the data that are shown.
LONGEST_CELL = 300

#: What a row says: number of the class (-1: cannot tell) and, of lines, where it changes.
Cells = tuple[int, int | None]


@dataclass(frozen=True)
class Sheet:
    """The table of a question.

    Attributes:
        folder: ``annotations`` in the run's folder.
        question: what is asked.
        choices: what may be answered.
    """

    folder: Path
    question: Question
    choices: Choices

    @property
    def table(self) -> Path:
        """The CSV file to fill in."""
        return self.folder / f"{self.question.stem}.csv"

    @property
    def picture(self) -> Path | None:
        """The PNG file to look at; None for rows of numbers."""
        path = self.table.with_suffix(".png")
        return path if path.exists() else None

    @property
    def when_ms(self) -> int:
        """When the table was saved, milliseconds since 1970."""
        return self.table.stat().st_mtime_ns // 1_000_000

    @property
    def _is_lines(self) -> bool:
        return self.question.kind == "lines"

    @property
    def _columns(self) -> tuple[str, ...]:
        """Those with the number and the answer, as they were before there were others."""
        return ("line", "first_label", "changes_at") if self._is_lines else ("image", "label")

    @property
    def _mark(self) -> str:
        return f"# query {self.question.digest}"

    def write(self, items: torch.Tensor) -> None:
        """Draw the picture, then write the table: whoever sees the table can look at the picture.

        Args:
            items: images ``[Q, C, H, W]``, lines of them ``[Q, P, C, H, W]``, or rows ``[Q, D]``.
        """
        if rows := self._pictures(items):
            save(contact_sheet(rows), self.table.with_suffix(".png"))
        names = list(dict.fromkeys(name for i in self.question.items for name in i.cells or ()))
        # A column of the data may have the name of one of ours.
        told = [
            name if name not in (*self._columns, self.question.unit) else f"{name} (data)"
            for name in names
        ]
        known = any(item.index is not None for item in self.question.items)
        with (
            beside(self.table) as partial,
            partial.open("w", encoding="utf-8", newline="") as file,
        ):
            file.write(f"{self._mark}\n# {self._help}\n")
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow([*self._columns, *([self.question.unit] if known else []), *told])
            for item in self.question.items:
                cells = item.cells or {}
                writer.writerow(
                    [item.number]
                    + [""] * (len(self._columns) - 1)
                    + ([_one_line(item.name)] if known else [])
                    + [_one_line(cells.get(name, "")) for name in names]
                )

    @property
    def _help(self) -> str:
        if self._is_lines:
            return (
                f"first_label: class of image 1, {self.choices}, or {self.choices.skip}; "
                "changes_at: number of the first image of the other class, 0 when there is none"
            )
        return f"label: {self.choices}, or {self.choices.skip} when you cannot tell"

    def _pictures(self, items: torch.Tensor) -> list[Row]:
        if items.ndim <= 2:
            return []
        shown = as_uint8(items)
        if self._is_lines:
            captions = [str(i + 1) for i in range(items.shape[1])]
            return [Row(f"line {n + 1}", list(line), captions) for n, line in enumerate(shown)]
        return [
            Row(
                f"{start + 1} ...",
                list(shown[start : start + N_COLUMNS]),
                [f"{start + offset + 1}" for offset in range(N_COLUMNS)],
            )
            for start in range(0, len(shown), N_COLUMNS)
        ]

    def read(self) -> Mapping[int, Cells | None]:
        """What each row says by its number; None where it is empty.

        Raises:
            UserError: a row holds something else than a class, or the table is of another query.
        """
        lines = decoded(self.table).splitlines()
        # A spreadsheet may quote the line or fill it up with separators.
        if self._mark not in (line.strip().strip('",;\t') for line in lines):
            raise other_query(self.table)
        head, *numbered = [
            (number, line)
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.lstrip().lstrip('"').startswith("#")
        ] or [(0, "")]
        if len(numbered) != len(self.question.items):
            raise UserError(
                f"'{self.table}' has {len(numbered)} rows where {len(self.question.items)} were asked about. "
                "Put the missing rows back, or delete the file to start the cycle's table anew."
            )
        n_cells = max(len(self._columns), len(_cells(head[1])))
        found = {}
        for expected, (number, line) in enumerate(numbered, start=1):
            cells = _cells(line)
            where = f"'{self.table}' line {number}"
            if cells[0] != str(expected):
                raise UserError(
                    f"{where}: expected {self._columns[0]} {expected}, found '{cells[0]}'. "
                    "Keep the rows in their order."
                )
            if any(surplus := cells[n_cells:]):
                raise UserError(
                    f"{where}: expected {n_cells} cells, found more: "
                    f"'{', '.join(filter(None, surplus))}'. Put an answer that holds a comma in quotes."
                )
            wanted = [*cells, "", ""][1 : len(self._columns)]
            found[expected] = self.parsed(wanted, where)
        return found

    def parsed(self, cells: Sequence[str], where: str) -> Cells | None:
        """An answer as it was typed; None where it is not whole yet."""
        skipped = plain(cells[0]) == self.choices.skip
        if not (skipped or all(cells)):
            return None
        number = self.choices.number(cells[0], where)
        if not self._is_lines:
            return number, None
        if skipped:
            return -1, None
        at, n_points = cells[1], self.question.n_points
        if not at.isdecimal() or not (int(at) == 0 or 2 <= int(at) <= n_points):
            raise UserError(f"{where}: changes_at must be 0 or 2 .. {n_points}; found '{at}'.")
        return number, int(at)


def _cells(line: str) -> list[str]:
    # What a spreadsheet may make of it: the sign behind the row's number, or behind the first name.
    behind = re.match(r'\s*"?\w+"?([,;\t])', line)
    delimiter = behind.group(1) if behind else ","
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [""])]


def _one_line(text: str) -> str:
    """A cell of the data in one line: rows of the sheet are its lines."""
    joined = " ".join(text.split())
    return joined if len(joined) <= LONGEST_CELL else f"{joined[: LONGEST_CELL - 3]}..."


def decoded(table: Path) -> str:
    """A table as a spreadsheet may have saved it: UTF-8, UTF-16 ("Unicode text"), or Windows' own."""
    content = table.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    else:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError:
            encoding = "cp1252"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"'{table}' is neither UTF-8 nor UTF-16 nor Windows-1252 text ({error.reason}). Save it as "
            "CSV in UTF-8."
        ) from error
