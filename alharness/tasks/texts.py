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
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise, repeat
from operator import attrgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from alharness.errors import UserError
from alharness.tasks.originals.tree import in_words

if TYPE_CHECKING:
    import pyarrow

#: Rows held as Python texts before they are packed: 10 million of them would be gigabytes, and 20,000 already
#: lie too far apart to be gathered into columns quickly (twice the time of packing).
CHUNK = 2_000
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
    table = _Table(form, where)
    with _decoded(path, form, where) as stream, _uncollected():
        try:
            table.read(stream)
        except UnicodeDecodeError as error:
            raise _undecodable(
                error, max(table.last, table.reader.line_num), form, where
            ) from error
        except csv.Error as error:
            raise UserError(
                f"{where}: a quotation mark that begins in line {table.last + 1} is not closed as it should "
                f"be ({in_words(error)}). Mend the line, or set task.quote=none if quotation marks are plain "
                "characters."
            ) from error
    return table.finished()


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


class _Table:
    """Rows packed into columns, held against the first line.

    Attributes:
        head: the first row.
        last: line that the last row that was read ends in.
        reader: of rows that csv reads: it counts lines within a row, too.
        notes: what was passed over.
    """

    def __init__(self, form: Form, where: str) -> None:
        self.form, self.where = form, where
        self.head: list[str] = []
        self.last = 0
        self.reader = csv.reader(())
        self.notes: list[str] = []
        self.rows: list[list[str]] = []
        self.packed: list[list[pyarrow.Array]] = []
        self.n_rows = 0
        self.lengths: Counter[int] = Counter()  # of rows that are not as long as the head
        self.uneven: tuple[list[str], int] | None = None  # the first of them, and its line
        self.repeated: int | None = None

    def read(self, stream: IO[str]) -> None:
        """All rows of a file.

        Raises:
            UserError: there is none, or one that seems to have swallowed others.
            csv.Error: a quotation mark that begins behind line ``last`` is not closed.
        """
        rows = self._rows(self._announced(stream))
        before = 0
        while not self.head:
            before, (self.head, self.last) = self.last, next(rows, ([], 0))
            if not self.last:
                raise UserError(
                    f"{self.where} is empty; expected a line of names and rows below them."
                )
        if self.form.header == "none":  # a row like all others
            rows, self.last = chain([(self.head, self.last)], rows), before
        head, width, before = self.head, len(self.head), self.last
        try:
            for fields, last in rows:
                first, before = before + 1, last
                # Of millions of rows only those are looked at that are not as usual.
                if len(fields) != width or last > first or fields == head:
                    if not fields:
                        continue
                    self._look_at(fields, first, last)
                self.rows.append(fields)
                if len(self.rows) >= CHUNK:
                    self._pack()
        finally:
            self.last = before
        self._pack()

    def _announced(self, stream: IO[str]) -> Iterator[str]:
        """All lines; Excel's first line ``sep=;`` says the separator and is no row."""
        first = next(stream, "")
        matched = re.fullmatch(r"sep=(.)", first.rstrip("\r\n"))
        if matched is not None:
            self.notes.append(f"the first line says that '{matched[1]}' separates")
            self.form = replace(self.form, separator=matched[1])
            first = "\n"  # a blank line in its place: the lines below keep their numbers
        return chain([first], stream)

    def _rows(self, lines: Iterator[str]) -> Iterator[tuple[list[str], int]]:
        """The fields of each row, none for a blank line, and the last line that it stands in."""
        separator = self.form.separator
        if len(separator) != 1:
            between = None if separator == RUNS_OF_BLANKS else separator
            texts = (line.rstrip("\r\n") for line in lines)
            return (
                (text.split(between) if text.strip() else [], n) for n, text in enumerate(texts, 1)
            )
        quoting: Literal[0, 3] = csv.QUOTE_NONE if self.form.quote == "none" else csv.QUOTE_MINIMAL
        self.reader = csv.reader(lines, delimiter=separator, quoting=quoting, strict=True)
        # As a generator would, without a frame of Python for each of millions of rows.
        return zip(self.reader, map(attrgetter("line_num"), repeat(self.reader)), strict=False)

    def _look_at(self, fields: list[str], first: int, last: int) -> None:
        if len(fields) != len(self.head):
            self.lengths[len(fields)] += 1
            self.uneven = self.uneven or (fields, first)
        elif fields == self.head and self.repeated is None:
            self.repeated = first
        if last > first and self.form.quote == "auto":
            self._refuse_swallowed(fields, first, last)

    def _pack(self) -> None:
        import pyarrow as pa

        self.n_rows += len(self.rows)
        # Uneven rows cannot be turned into columns; they are refused when it is known how many there are.
        if len(set(map(len, self.rows))) == 1:
            # Chunk by chunk: as lists of Python's texts the rows take several times the room.
            columns = zip(*self.rows, strict=True)
            self.packed.append([pa.array(column, pa.large_string()) for column in columns])
        self.rows = []

    def _refuse_swallowed(self, fields: list[str], first: int, last: int) -> None:
        """A field of as many separators as the lines that it covers have is most likely no text."""
        for text in fields:
            breaks = len(re.findall(r"\r\n|\r|\n", text))
            inside = text.count(self.form.separator)
            if breaks and inside and inside == breaks * (len(self.head) - 1):
                raise UserError(
                    f"{self.where}: lines {first} to {last} are one row, because a field in "
                    f"quotation marks goes on: {text[:30]!r}. An open quotation mark, it seems. Mend "
                    "it, set task.quote=none if quotation marks are plain characters, or "
                    "task.quote=double if this is one text."
                )

    def finished(self) -> Texts:
        """The columns with their names.

        Raises:
            UserError: lines of more or fewer fields, or a first line that is no line of names.
        """
        names = list(self.head)
        if self.form.header == "none":
            names = [str(number) for number in range(len(names))]
        if self.n_rows == 0:
            raise UserError(
                f"{self.where} has names of columns and no rows; expected rows below them."
            )
        # Before rows are counted: one column is another separator, and not a file of uneven rows.
        if len(names) < 2 and max(self.lengths, default=0) < 2:
            raise self._one_column()
        # All rows are read by now: an uneven one is told with how many there are of its kind.
        names, without_last = self._evened(names)
        import pyarrow as pa

        width = len(names) + without_last
        columns = [pa.chunked_array([part[at] for part in self.packed]) for at in range(width)]
        columns = columns[: len(names)]
        keep = list(range(len(names)))
        if self.form.header != "none":
            for at in [at for at, name in enumerate(names) if not name.strip()]:
                if _is_blank(columns[at]):  # a separator at the end of each line
                    keep.remove(at)
                    self.notes.append(f"column {at + 1} has no name and nothing in it: left out")
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
        return Texts(tuple(names), tuple(columns), tuple(self.notes))

    def _evened(self, names: list[str]) -> tuple[list[str], int]:
        """The names, and whether all rows have one more field at the end that is blank."""
        expected = len(names)
        if self.uneven is None:
            return names, 0
        if expected == 1 and self._other_separator(below=self.uneven[0]):
            raise self._one_column()
        if self.lengths.total() == self.n_rows and len(self.lengths) == 1:
            (n,) = self.lengths
            # All rows alike and unlike the first line: a separator at their ends, or a name too few.
            if n == expected + 1 and all(_is_blank(part[-1]) for part in self.packed):
                self.notes.append("each row ends with a separator: left out")
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
        fields, line = self.uneven
        n_uneven = self.lengths.total()
        text = self.form.separator.join(fields)
        if n_uneven > self.n_rows / 2 and len(fields) > expected:
            above = self.form.separator.join(self.head)
            raise UserError(
                f"{self.where} has lines above its table, it seems: the first one ({above[:60]!r}) has "
                f"{expected} field{'s' * (expected > 1)}, and {n_uneven:,} of {self.n_rows:,} rows from line "
                f"{line} on have {len(fields)}: {text[:60]!r}. Take out the lines above, so that "
                "the file begins with its line of names."
            )
        raise UserError(
            f"{self.where}: {n_uneven:,} of {self.n_rows:,} rows have another number of fields than the "
            f"first line ({expected}), the first in line {line} ({len(fields)}): {text[:60]!r}. "
            "Mend or remove them; a separator within a text must stand in quotation marks."
        )

    def _other_separator(self, below: Sequence[str] | None = None) -> str | None:
        """What seems to part the first line, which has one field, as it is typed in a setting.

        Args:
            below: a row that it must part into as many fields; a remark above a table has blanks, too.
        """
        line = self.head[0].strip()
        for sign, typed in OTHERS:
            parts = re.split(_as_regex(sign), line)
            if sign == self.form.separator or len(parts) < 2:
                continue
            if below is not None:
                row = self.form.separator.join(below).strip()
                if len(re.split(_as_regex(sign), row)) != len(parts):
                    continue
            # Every other part is empty: the sign stands doubled.
            if sign == "|" and parts[1::2] == [""] * (len(parts) // 2):
                return "'||'"
            return typed
        return None

    def _one_column(self) -> UserError:
        line = self.head[0]
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
            said = self.form.separator.join(self.head)
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
            # Every other byte is zero in UTF-16 of Latin letters; which half it is tells the order.
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
