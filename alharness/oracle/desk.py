"""A person as the oracle: a picture to look at and a table to fill in, cycle by cycle.

Each query puts two files into the run's ``annotations`` folder: ``cycle_0007.png``, numbered images,
and ``cycle_0007.csv``, one row per image. While a row is empty, the run stops with a message; the
same command goes on as soon as the table is complete. The table is never written twice, so nothing
that was filled in is lost.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from unicodedata import normalize

import torch

from alharness.errors import PendingError, UserError
from alharness.files import beside
from alharness.pictures.sheets import Row, as_uint8, contact_sheet, save

#: Images per row of the picture.
N_COLUMNS = 10
#: What a person writes who cannot tell: the first of these that is no class.
SKIPS = ("skip", "?", "cannot tell")


class AnnotationPendingError(PendingError):
    """The run waits for a person.

    Attributes:
        table: the CSV file to fill in.
        picture: the PNG file to look at.
        n_missing: rows without an answer.
    """

    def __init__(self, table: Path, picture: Path, n_missing: int, n_rows: int) -> None:
        super().__init__(
            f"{n_missing} of {n_rows} annotations are missing. Look at '{picture}', fill in "
            f"'{table}', and give the same command again: the run goes on from there."
        )
        self.table = table
        self.picture = picture
        self.n_missing = n_missing


class Desk:
    """Where a person finds the questions of a run.

    Args:
        folder: ``annotations`` in the run's folder.
        class_names: what may be answered, by name, or by number where no name is a number.
    """

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.folder = folder
        self.class_names = tuple(class_names)
        # Classes 5 and 7 must not be answered by 0 and 1, nor 2.0 by what a spreadsheet makes of 1.0.
        self.by_number = all(_number(name) is None for name in class_names)
        taken = {_plain(name) for name in class_names}
        self.skip = next(word for word in (*SKIPS, "-") if word not in taken)

    def labels(self, images: torch.Tensor, cycle: int) -> torch.Tensor:
        """Class per image, int64 ``[Q]``; -1 where the person skipped.

        Args:
            images: float32 ``[Q, C, H, W]`` in [0, 1], on the CPU.

        Raises:
            AnnotationPendingError: rows are empty.
            UserError: a row holds something else than a class, or the table is of another query.
        """
        shown = as_uint8(images)
        rows = [
            Row(
                f"{start + 1} ...",
                list(shown[start : start + N_COLUMNS]),
                [f"{start + offset + 1}" for offset in range(N_COLUMNS)],
            )
            for start in range(0, len(shown), N_COLUMNS)
        ]
        answers = self._answers(
            images,
            cycle,
            rows,
            columns=("image", "label"),
            help_=f"label: {self._choices()}, or {self.skip} when you cannot tell",
            parse=lambda cells, where: [self._label(cells[0], where)],
        )
        return torch.tensor(answers).squeeze(1)

    def changes(self, images: torch.Tensor, cycle: int) -> torch.Tensor:
        """Per line the class of its first image and where it changes, int64 ``[Q, 2]``.

        Args:
            images: float32 ``[Q, P, C, H, W]`` in [0, 1], on the CPU.

        Raises:
            AnnotationPendingError, UserError: as ``labels``.
        """
        n_points = images.shape[1]
        rows = [
            Row(f"line {number + 1}", list(as_uint8(line)), [str(i + 1) for i in range(n_points)])
            for number, line in enumerate(images)
        ]

        def parse(cells: list[str], where: str) -> list[int]:
            first = self._label(cells[0], where)
            if first < 0:
                return [-1, -1]
            at = cells[1]
            if not at.isdecimal() or not (int(at) == 0 or 2 <= int(at) <= n_points):
                raise UserError(f"{where}: changes_at must be 0 or 2 .. {n_points}; found '{at}'.")
            return [first, n_points if int(at) == 0 else int(at) - 1]

        answers = self._answers(
            images,
            cycle,
            rows,
            columns=("line", "first_label", "changes_at"),
            help_=(
                f"first_label: class of image 1, {self._choices()}, or {self.skip}; "
                "changes_at: number of the first image of the other class, 0 when there is none"
            ),
            parse=parse,
        )
        return torch.tensor(answers)

    def _choices(self) -> str:
        if not self.by_number:
            return ", ".join(self.class_names)
        return ", ".join(f"{name} ({label})" for label, name in enumerate(self.class_names))

    def _label(self, cell: str, where: str) -> int:
        """Class by name or number, -1 for who cannot tell.

        Capitals do not matter where no two classes differ by them alone.
        """
        text = normalize("NFC", cell.strip())
        if _plain(text) == self.skip:
            return -1
        names = [normalize("NFC", name) for name in self.class_names]
        if text in names:
            return names.index(text)
        alike = [label for label, name in enumerate(names) if _plain(name) == _plain(text)]
        if len(alike) == 1:
            return alike[0]
        if (number := _number(text)) is not None:
            equal = [label for label, name in enumerate(names) if _number(name) == number]
            if len(equal) == 1:  # 1 for the class 1.0
                return equal[0]
        if self.by_number and text.isdecimal() and int(text) < len(self.class_names):
            return int(text)
        raise UserError(f"{where}: expected {self._choices()} or {self.skip}; found '{cell}'.")

    def _answers(
        self,
        images: torch.Tensor,
        cycle: int,
        rows: Sequence[Row],
        *,
        columns: Sequence[str],
        help_: str,
        parse: Callable[[list[str], str], list[int]],
    ) -> list[list[int]]:
        """What ``parse`` makes of every row's cells; it also gets the place to name in an error."""
        table = self.folder / f"cycle_{cycle:04d}.csv"
        picture = table.with_suffix(".png")
        mark = f"# query {_digest(images)}"
        if not table.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            save(contact_sheet(rows), picture)
            with beside(table) as partial, partial.open("w", encoding="utf-8", newline="") as file:
                _write_table(file, mark, help_, columns, len(images))
        lines = _decoded(table).splitlines()
        # A spreadsheet may quote the line or fill it up with separators.
        if mark not in (line.strip().strip('",;\t') for line in lines):
            raise UserError(
                f"'{table}' belongs to another query than this run asks now. Move the folder "
                f"'{self.folder}' away, or go back to the settings that it was made with."
            )
        numbered = [
            (number, line)
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.lstrip().lstrip('"').startswith("#")
        ][1:]  # without the columns' names
        if len(numbered) != len(images):
            raise UserError(
                f"'{table}' has {len(numbered)} rows where {len(images)} were asked about. "
                "Put the missing rows back, or delete the file to start the cycle's table anew."
            )
        answers = []
        n_missing = 0
        for expected, (number, line) in enumerate(numbered, start=1):
            # What a spreadsheet may make of it: the sign behind the row's number.
            behind = re.match(r'\s*"?\d+"?([,;\t])', line)
            delimiter = behind.group(1) if behind else ","
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
            cells += [""] * (len(columns) - len(cells))
            where = f"'{table}' line {number}"
            if cells[0] != str(expected):
                raise UserError(
                    f"{where}: expected {columns[0]} {expected}, found '{cells[0]}'. "
                    "Keep the rows in their order."
                )
            if any(surplus := cells[len(columns) :]):
                raise UserError(
                    f"{where}: expected {len(columns)} cells, found more: "
                    f"'{', '.join(filter(None, surplus))}'. Put an answer that holds a comma in quotes."
                )
            wanted = cells[1 : len(columns)]
            skipped = _plain(wanted[0]) == self.skip
            if skipped or all(wanted):
                answers.append(parse(wanted, where))
            else:
                n_missing += 1
        if n_missing:
            raise AnnotationPendingError(table, picture, n_missing, len(images))
        return answers


def _number(text: str) -> float | None:
    """What a spreadsheet would take for a number."""
    try:
        return float(text)
    except ValueError:
        return None


def _plain(text: str) -> str:
    """Without the differences that a person does not mean."""
    return normalize("NFC", text.strip()).casefold()


def _decoded(table: Path) -> str:
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


def _write_table(
    file: io.TextIOBase, mark: str, help_: str, columns: Sequence[str], n_rows: int
) -> None:
    file.write(f"{mark}\n# {help_}\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for number in range(1, n_rows + 1):
        writer.writerow([number, *[""] * (len(columns) - 1)])


def _digest(images: torch.Tensor) -> str:
    """Names a query by what is shown."""
    return hashlib.sha256(as_uint8(images).tobytes()).hexdigest()[:16]
