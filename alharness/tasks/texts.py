"""A file of separated texts, as its author wrote it: every field a text, every line accounted for.

Nothing is guessed here: no field is a number, a date or "missing" yet, and no line is dropped, joined or
filled up. What a field means is decided in ``columns``, with all texts of its column in view.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gc
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from alharness.errors import UserError
from alharness.tasks.originals.tree import in_words

if TYPE_CHECKING:
    import pyarrow

#: Rows that are held as Python's texts before they are packed: 10 million of them would be gigabytes.
CHUNK = 20_000
#: Rows by which it is seen whether the first line is one.
LOOKED_AT = 500
#: Marks at the beginning of a file that tell its encoding; UTF-32's begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: How a separator may be typed in a shell -> what it is.
SPELLED = {"\\t": "\t", "tab": "\t", "space": r"\s+", "comma": ",", "semicolon": ";"}
RUNS_OF_BLANKS = r"\s+"
#: Separators that are looked for where the one that was expected is not there.
OTHERS = ((";", "';'"), ("\t", "tab"), ("|", "'|'"), (",", "','"), (RUNS_OF_BLANKS, "space"))
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Form:
    """How a file is written.

    Attributes:
        separator: one character, several, or ``\\s+`` for runs of blanks.
        quote: ``auto``: fields may stand in quotation marks, and what looks like swallowed rows is
            refused; ``double``: they may, whatever it looks like; ``none``: quotation marks are characters.
        encoding: None: told by a mark at the beginning, or UTF-8.
        header: ``first``: the first line has the names; ``none``: it is a row, and columns are called 0, 1,
            ...; ``auto``: the first line has the names, and what looks like a row is refused.
    """

    separator: str
    quote: str = "auto"
    encoding: str | None = None
    header: str = "auto"


@dataclass(frozen=True)
class Texts:
    """The columns of a file.

    Attributes:
        names: of the columns.
        columns: texts ``[N]`` of each.
        notes: what was passed over, and what is doubtful.
    """

    names: tuple[str, ...]
    columns: tuple[pyarrow.ChunkedArray, ...]
    notes: tuple[str, ...] = field(default=())


def read_texts(path: Path, form: Form, where: str) -> Texts:
    """All fields of a file.

    Raises:
        UserError: unreadable, another encoding or separator, lines that do not have as many fields as
            the others, quotation marks that are never closed, no line of names; with the line.
    """
    notes: list[str] = []
    table = _quickly(path, form, where)
    if table is None:
        with _decoded(path, form, where) as stream:
            lines = _Lines(stream)
            try:
                form = _announced(lines, form, notes)
                rows = _fields(lines, form, where)
                head = next(rows, None)
                if head is None:
                    raise UserError(
                        f"{where} is empty; expected a line of names and rows below them."
                    )
                table = _Table(head, form, where)
                for row in rows:
                    table.add(row)
            except UnicodeDecodeError as error:
                raise _undecodable(error, lines.number, form, where) from error
    return table.finished(notes)


def _quickly(path: Path, form: Form, where: str) -> _Table | None:
    """The whole file by thousands of rows, where each line is one of them; None where that is not so.

    A million rows are looked at one by one in half a minute, and by thousands in a few seconds.
    """
    if len(form.separator) != 1:
        return None
    quoting: Literal[0, 3] = csv.QUOTE_NONE if form.quote == "none" else csv.QUOTE_MINIMAL
    with _decoded(path, form, where) as stream, _uncollected():
        reader = csv.reader(stream, delimiter=form.separator, quoting=quoting, strict=True)
        try:
            head = next(reader, [])
            if len(head) < 2:
                return None
            table = _Table(_Row(head, 1, 1), form, where)
            lines = 1
            while chunk := list(islice(reader, CHUNK)):
                lines += len(chunk)
                if reader.line_num != lines:
                    return None
                rows = [fields for fields in chunk if fields]
                if set(map(len, rows)) - {len(head)}:
                    return None
                if table.repeated is None and head in rows:
                    table.repeated = lines - len(chunk) + 1 + chunk.index(head)
                table.extend(rows)
        except (csv.Error, UnicodeDecodeError):
            return None
    return table


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collector of circles: it would look at each of millions of lists, again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@dataclass(frozen=True)
class _Row:
    """The fields of a row, and the lines that it stands in, counted from 1."""

    fields: list[str]
    first: int
    last: int


class _Lines:
    """Lines of a stream, counted."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.number = 0
        self.waiting: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.waiting.pop() if self.waiting else next(self.stream)
        self.number += 1
        return line

    def push(self, line: str) -> None:
        self.waiting.append(line)
        self.number -= 1


def _announced(lines: _Lines, form: Form, notes: list[str]) -> Form:
    """Excel's first line ``sep=;``, which is no row."""
    line = next(lines, None)
    matched = re.fullmatch(r"sep=(.)", line.rstrip("\r\n")) if line is not None else None
    if matched is None:
        if line is not None:
            lines.push(line)
        return form
    notes.append(f"the first line says that '{matched[1]}' separates")
    return replace(form, separator=matched[1])


def _fields(lines: _Lines, form: Form, where: str) -> Iterator[_Row]:
    """Rows of fields; blank lines are none."""
    if len(form.separator) != 1:
        for line in lines:
            text = line.rstrip("\r\n")
            if text.strip():
                runs = form.separator == RUNS_OF_BLANKS
                found = text.split() if runs else text.split(form.separator)
                yield _Row(found, lines.number, lines.number)
        return
    quoting: Literal[0, 3] = csv.QUOTE_NONE if form.quote == "none" else csv.QUOTE_MINIMAL
    reader = csv.reader(lines, delimiter=form.separator, quoting=quoting, strict=True)
    first = 1
    while True:
        try:
            first = lines.number + 1
            found = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{where}: a quotation mark that begins in line {first} is not closed as it should be "
                f"({in_words(error)}). Mend the line, or set task.quote=none if quotation marks are plain "
                "characters."
            ) from error
        if found:
            yield _Row(found, first, lines.number)


class _Table:
    """Rows packed into columns, held against the first line."""

    def __init__(self, head: _Row, form: Form, where: str) -> None:
        self.form, self.where, self.head = form, where, head
        self.rows: list[list[str]] = []
        self.packed: list[list[pyarrow.Array]] = []
        self.lengths: dict[int, int] = {}
        self.uneven: _Row | None = None
        self.repeated: int | None = None
        self.n_rows = 0
        if form.header == "none":
            self.add(head)

    def add(self, row: _Row) -> None:
        n = len(row.fields)
        self.lengths[n] = self.lengths.get(n, 0) + 1
        expected = len(self.head.fields)
        if n != expected:
            self.uneven = self.uneven or row
        if row.fields == self.head.fields and row is not self.head and self.repeated is None:
            self.repeated = row.first
        if row.last > row.first and self.form.quote == "auto":
            self._refuse_swallowed(row)
        self.n_rows += 1
        self.rows.append(row.fields)
        if len(self.rows) >= CHUNK:
            self._pack()

    def extend(self, rows: list[list[str]]) -> None:
        """Rows of as many fields as the first line, each in a line of its own."""
        self.lengths[len(self.head.fields)] = self.n_rows = self.n_rows + len(rows)
        self.rows += rows
        self._pack()

    def _pack(self) -> None:
        import pyarrow as pa

        # Uneven rows cannot be turned into columns; they are counted and refused together.
        if not self.rows or len(set(map(len, self.rows))) != 1:
            self.rows = []  # refused at the end, when it is known how many lines are like this
            return
        columns = zip(*self.rows, strict=True)
        self.packed.append([pa.array(column, pa.large_string()) for column in columns])
        self.rows = []

    def _refuse_swallowed(self, row: _Row) -> None:
        """A field of as many separators as the lines that it covers have is most likely no text."""
        for text in row.fields:
            breaks = len(re.findall(r"\r\n|\r|\n", text))
            inside = text.count(self.form.separator)
            if breaks and inside and inside == breaks * (len(self.head.fields) - 1):
                raise UserError(
                    f"{self.where}: lines {row.first} to {row.last} are one row, because a field in "
                    f"quotation marks goes on: {text[:30]!r}. An open quotation mark, it seems. Mend "
                    "it, set task.quote=none if quotation marks are plain characters, or "
                    "task.quote=double if this is one text."
                )

    def finished(self, notes: list[str]) -> Texts:
        """The columns with their names.

        Raises:
            UserError: lines of more or fewer fields, or a first line that is no line of names.
        """
        self._pack()
        names = list(self.head.fields)
        if self.form.header == "none":
            names = [str(number) for number in range(len(names))]
        if self.n_rows == 0:
            raise UserError(
                f"{self.where} has names of columns and no rows; expected rows below them."
            )
        if len(names) < 2 and max(self.lengths) < 2:
            raise self._one_column()
        names, without_last = self._evened(names, notes)
        import pyarrow as pa

        width = len(names) + without_last
        columns = [pa.chunked_array([part[at] for part in self.packed]) for at in range(width)]
        columns = columns[: len(names)]
        keep = list(range(len(names)))
        if self.form.header != "none":
            for at in [at for at, name in enumerate(names) if not name.strip()]:
                if _is_blank(columns[at]):  # a separator at the end of each line
                    keep.remove(at)
                    notes.append(f"column {at + 1} has no name and nothing in it: left out")
                else:
                    names[at] = f"Unnamed: {at}"
        names, columns = [names[at] for at in keep], [columns[at] for at in keep]
        if self.form.header == "auto":
            self._refuse_a_row(names, columns)
        if self.repeated is not None and self.form.header != "none":
            raise UserError(
                f"{self.where} repeats its line of names in line {self.repeated}: tables put together? Take "
                "the line out."
            )
        if len(names) < 2:
            raise self._one_column()
        return Texts(tuple(names), tuple(columns), tuple(notes))

    def _evened(self, names: list[str], notes: list[str]) -> tuple[list[str], int]:
        """The names, and whether all rows have one more field at the end that is blank."""
        expected = len(names)
        if self.uneven is None:
            return names, 0
        if expected == 1 and self._other_separator(below=self.uneven):
            raise self._one_column()
        if len(self.lengths) == 1:
            (n,) = self.lengths
            if n == expected + 1 and all(_is_blank(part[-1]) for part in self.packed):
                notes.append("each row ends with a separator: left out")
                return names, 1
            if n == expected - 1 and not names[-1].strip():
                return names[:-1], 0
            if n > expected > 1:
                more = n - expected
                raise UserError(
                    f"The rows of {self.where} have {more} more field{'s' * (more > 1)} than its line of "
                    f"names, which has {expected}: decimal commas, a comma at the end, or row numbers "
                    "without a name? Write 1.5 for 1,5 (or set task.separator), and name each column."
                )
        n_uneven = sum(count for n, count in self.lengths.items() if n != expected)
        row = self.uneven
        text = self.form.separator.join(row.fields)
        if n_uneven > self.n_rows / 2 and len(row.fields) > expected:
            first = self.form.separator.join(self.head.fields)
            raise UserError(
                f"{self.where} has lines above its table, it seems: the first one ({first[:60]!r}) has "
                f"{expected} field{'s' * (expected > 1)}, and {n_uneven:,} of {self.n_rows:,} rows from line "
                f"{row.first} on have {len(row.fields)}: {text[:60]!r}. Take out the lines above, so that "
                "the file begins with its line of names."
            )
        raise UserError(
            f"{self.where}: {n_uneven:,} of {self.n_rows:,} rows have another number of fields than the "
            f"first line ({expected}), the first in line {row.first} ({len(row.fields)}): {text[:60]!r}. "
            "Mend or remove them; a separator within a text must stand in quotation marks."
        )

    def _other_separator(self, below: _Row | None = None) -> str | None:
        """What seems to part the first line, which has one field, as it is typed in a setting.

        Args:
            below: a row that it must part into as many fields; a remark above a table has blanks, too.
        """
        line = self.head.fields[0].strip() if self.head.fields else ""
        for sign, typed in OTHERS:
            parts = re.split(_as_regex(sign), line)
            if sign == self.form.separator or len(parts) < 2:
                continue
            if below is not None:
                row = self.form.separator.join(below.fields).strip()
                if len(re.split(_as_regex(sign), row)) != len(parts):
                    continue
            if sign == "|" and parts[1::2] == [""] * (len(parts) // 2):
                return "'||'"
            return typed
        return None

    def _one_column(self) -> UserError:
        line = self.head.fields[0] if self.head.fields else ""
        other = self._other_separator()
        commas = ", and task.decimal=, if a comma is the decimal sign" if self.uneven else ""
        return UserError(
            f"{self.where} has the one column '{line[:60]}'; expected features and a target. "
            + (
                f"Set task.separator={other}{commas}."
                if other
                else "Set task.separator if it is not a comma."
            )
        )

    def _refuse_a_row(self, names: Sequence[str], columns: Sequence[Any]) -> None:
        """Whether the first line reads like those below: a person sees at once that names are not there."""
        numeric, texts_known = [], []
        some = zip(*(column.slice(0, LOOKED_AT).to_pylist() for column in columns), strict=True)
        below = [row for row in some if row != tuple(names)]  # a repeated line proves nothing
        if not below:
            return
        for name, column in zip(names, zip(*below, strict=True), strict=True):
            there = {text.strip() for text in column} - {""}
            if there and all(_NUMBER.fullmatch(text) for text in there):
                numeric.append(name.strip())
            else:
                texts_known.append(name.strip() in there)
        if not all(_NUMBER.fullmatch(name) for name in numeric):
            return  # a number's column with a word above it
        whole = [int(name) for name in numeric if re.fullmatch(r"\d+", name)]
        # Columns may be called 0, 1, 2 or 2001, 2002: whole numbers that count up. Rows seldom do.
        counts_up = {after - before for before, after in pairwise(whole)} == {1}
        if len(numeric) > 1:
            looks = not (counts_up and len(whole) == len(numeric))
        else:
            looks = all(texts_known) or any("." in name for name in numeric)
        if looks:
            said = self.form.separator.join(self.head.fields)
            raise UserError(
                f"The first line of {self.where} looks like a row, not like names of columns: {said[:60]!r}. "
                "Set task.header=none if it is one (columns are then called 0, 1, ...), or task.header=first "
                "if these are names."
            )


def _as_regex(sign: str) -> str:
    return sign if sign == RUNS_OF_BLANKS else re.escape(sign)


def _is_blank(column: Any) -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(column)), 0)).as_py())


@contextmanager
def _decoded(path: Path, form: Form, where: str) -> Iterator[IO[str]]:
    """The file as text, unpacked where its name says that it is packed."""
    try:
        with _unpacked(path) as raw:
            head = raw.read(4096)
            raw.seek(0)
            encoding = form.encoding or next(
                (name for mark, name in MARKS if head.startswith(mark)), "utf-8"
            )
            if form.encoding is None and encoding == "utf-8" and b"\x00" in head:
                little = head[1::2].count(0) > head[::2].count(0)
                raise UserError(
                    f"{where} is not UTF-8: it holds zero bytes, as UTF-16 without a mark does. Set "
                    f"task.encoding=utf-16-{'le' if little else 'be'}."
                )
            yield io.TextIOWrapper(raw, encoding=encoding, errors="strict", newline="")
    except LookupError as error:
        raise UserError(
            f"Unknown encoding '{form.encoding}'. Expected for instance utf-8, utf-16, cp1252 or latin-1."
        ) from error
    except UnicodeDecodeError:
        raise
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{where} cannot be read as a table: {in_words(error)}. Expected a file of separated texts with "
            "a line of names, or parquet."
        ) from error


def _unpacked(path: Path) -> Any:
    match path.suffix.lower():
        case ".gz":
            return gzip.open(path)
        case ".bz2":
            return bz2.open(path)
        case ".xz":
            return lzma.open(path)
        case ".zip":
            archive = zipfile.ZipFile(path)
            inside = [name for name in archive.namelist() if not name.endswith("/")]
            if len(inside) != 1:
                raise OSError(f"the archive holds {len(inside)} files, not one")
            return archive.open(inside[0])
        case _:
            return path.open("rb")


def _undecodable(error: UnicodeDecodeError, line: int, form: Form, where: str) -> UserError:
    said = form.encoding or "UTF-8"
    line += error.object[: error.start].count(b"\n") + 1
    found = error.object[max(0, error.start - 20) : error.start + 20]
    near = bytes(found).decode("cp1252", "replace")
    return UserError(
        f"{where} is not {said}: line {line:,} says {near!r}. Set task.encoding to what wrote the "
        "file: cp1252 (Excel in western Europe), utf-16, latin-1, shift_jis, ..."
    )
