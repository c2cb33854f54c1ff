"""What a table's file holds: columns of texts, or of values that parquet has types for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.tasks.rows import LEFT_OUT
from alharness.tasks.splits import MAX_ROLES
from alharness.tasks.texts import SPELLED, Form, read_texts
from alharness.tasks.words import Column

if TYPE_CHECKING:
    from pandas import Series


class Columns(Mapping[str, "Column | Series[Any]"]):
    """Columns by name, in their order; those of texts are looked through when they are asked for.

    A million different texts take several times the room of the file's own bytes: never those of all
    columns at once.
    """

    def __init__(self, packed: Mapping[str, Any]) -> None:
        self._packed = packed

    def __getitem__(self, name: str) -> Column | Series[Any]:
        found = self._packed[name]
        return Column(name, found) if _is_texts(found) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, name: object) -> bool:
        return name in self._packed

    def is_varied(self, name: str) -> bool:
        """Whether its first rows say more than parts of a split could."""
        found = self._packed[name]
        return _is_texts(found) and len(found.slice(0, 1000).unique()) > MAX_ROLES + 1

    def cells(self, row: int) -> dict[str, str]:
        """A row by its columns, as the file has it; what is not there is blank."""
        values = {
            name: found[row].as_py() if _is_texts(found) else found.iloc[row]
            for name, found in self._packed.items()
        }
        return {name: "" if value is None else str(value) for name, value in values.items()}


def _is_texts(packed: Any) -> bool:
    """Whether a column is pyarrow's array of texts, and not a series of parquet's own types."""
    return hasattr(packed, "type")


@dataclass(frozen=True)
class Held:
    """What a file holds: columns of texts, or of values that parquet has types for.

    Attributes:
        columns: by name, in their order.
        notes: of the reader.
        n_rows: of all.
    """

    columns: Columns
    notes: Mapping[str, str]
    n_rows: int

    @property
    def names(self) -> list[str]:
        return list(self.columns)


def read_table(
    path: Path,
    where: str,
    *,
    separator: str | None = None,
    quote: str = "auto",
    encoding: str | None = None,
    header: str = "auto",
) -> Held:
    """The columns of a file of separated texts, or of a parquet file.

    Args:
        path: of the file; it is there.
        where: the table, for messages.
        separator, quote, encoding, header: of texts, as settings spell them (``TableParameters``).

    Raises:
        UserError: it cannot be read, or two columns have one name.
    """
    if path.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(path, where)
    plain = path.name.lower().removesuffix(".gz").removesuffix(".zip")
    usual = "\t" if plain.endswith((".tsv", ".tab")) else ","
    spelled = SPELLED.get(separator, separator) if separator else usual
    return _read_texts(path, Form(spelled, quote, encoding, header), where)


def _read_texts(path: Path, form: Form, where: str) -> Held:
    """Columns of a file of separated texts."""
    texts = read_texts(path, form, where)
    _refuse_twice(texts.names, where)
    columns = Columns(dict(zip(texts.names, texts.columns, strict=True)))
    notes = {"file": "; ".join(texts.notes)} if texts.notes else {}
    return Held(columns, notes, len(texts.columns[0]))


def _read_parquet(path: Path, where: str) -> Held:
    """Columns of a parquet file: texts, or values of the file's own types."""
    import pandas
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # Before pandas reads it: a name that stands twice would give two columns for one.
        _refuse_twice(parquet.read_schema(path).names, where)
        frame = pandas.read_parquet(path)
    except (ValueError, OSError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{where} cannot be read as a table: {first}. Expected a CSV file with a line of names, "
            "or parquet."
        ) from error
    index = ", ".join(str(name) for name in frame.index.names if name is not None)
    frame = frame.reset_index(drop=True)
    frame.columns = frame.columns.map(str)
    if len(frame.columns) < 2:
        raise UserError(
            f"{where} has the one column '{', '.join(frame.columns)}'; expected features "
            "and a target."
        )
    if len(frame) == 0:
        raise UserError(f"{where} has names of columns and no rows; expected rows below them.")
    columns: dict[str, Any] = {}
    for name in frame.columns:
        column = frame[name]
        values = column.cat.categories if hasattr(column, "cat") else column
        # Texts are read as those of a CSV file are, whatever type the file keeps them under.
        if pandas.api.types.infer_dtype(values, skipna=True) == "string":
            column = pa.array(column.astype(object), pa.large_string(), from_pandas=True)
        columns[name] = column
    return Held(Columns(columns), {LEFT_OUT: f"the index ({index})"} if index else {}, len(frame))


def _refuse_twice(names: Sequence[str], where: str) -> None:
    """Two columns of one name: which of them is the class, and is the other one a feature?"""
    twice = [name for name in names if list(names).count(name) > 1]
    if twice:
        raise UserError(
            f"{where} has {list(names).count(twice[0])} columns named '{twice[0]}'; "
            "expected a name for "
            "each. Rename or remove all but one, or set task.header=none if the first line is a row."
        )
