"""The records of one run as its readers take them: cycle by cycle, or field by field.

A field over all cycles is a *column*, under the dotted name that ``load_runs`` gives it
(``test.accuracy``, ``work.COUNTER``). Columns are what is kept of runs that were read before
(``records/parsed.py``): a list of numbers is read in a fraction of the time of as many records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, overload

from pydantic import BaseModel

from alharness.artefacts.ledger import LedgerEntry
from alharness.lazily import numpy as np
from alharness.records.records import CycleRecord, timed_places

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Dotted name of a field -> its value in every cycle, ``[K]``; None where a cycle has none.
Columns = dict[str, list[Any]]

Model = TypeVar("Model", bound=BaseModel)

#: Fields that stand in a column as they are, although they hold mappings.
_WHOLE = ("files", "time.preparation")


class Cycles(Sequence[CycleRecord]):
    """Records of a run, in the order of its cycles.

    Records and columns are made from each other when they are first asked for. Equal to any sequence of
    equal records.

    Args:
        records: the records; or
        read: what gives their columns when they are needed.
    """

    def __init__(
        self,
        records: Sequence[CycleRecord] = (),
        *,
        read: Callable[[], Columns] | None = None,
    ) -> None:
        self._read = read
        self._arrays: dict[str, NDArray[np.float64]] = {}
        if read is None:
            self.__dict__["_records"] = tuple(records)

    @classmethod
    def of(cls, records: Sequence[CycleRecord]) -> Cycles:
        """Any records as these; those that are already are given back."""
        return records if isinstance(records, cls) else cls(records)

    @cached_property
    def _records(self) -> tuple[CycleRecord, ...]:
        return records_of(self._columns)

    @cached_property
    def _columns(self) -> Columns:
        return self.columns()

    def columns(self) -> Columns:
        """All columns; worked out for the caller, who may let them go."""
        if "_columns" in self.__dict__:
            return self._columns
        return self._read() if self._read is not None else columns_of(self._records)

    def column(self, name: str) -> list[Any]:
        """One field in every cycle, ``[K]``; None where it is not there."""
        if self._read is None:
            return [_value(record, name) for record in self._records]
        return self._columns.get(name) or [None] * len(self)

    def array(self, name: str) -> NDArray[np.float64]:
        """One field in every cycle, ``[K]``, read-only; NaN where it is not there."""
        found = self._arrays.get(name)
        if found is None:
            found = self._arrays[name] = np.array(self.column(name), dtype=np.float64)
            found.flags.writeable = False
        return found

    @cached_property
    def timed(self) -> tuple[int, ...]:
        """Which cycles have a selection that says what one takes: ``timed_selections``."""
        names = ("cycle", "time.select_s", "time.paused_s", "time.cold")
        return tuple(timed_places(*map(self.column, names)))

    def by_name(self, field: str) -> Columns:
        """The columns of a field that holds values by name (``work``, ``time.phases``), by these names."""
        if self._read is not None:
            return _with_prefix(self._columns, f"{field}.")
        found = [_value(record, field) or {} for record in self._records]
        names = dict.fromkeys(name for values in found for name in values)
        return {name: [values.get(name) for values in found] for name in names}

    @overload
    def __getitem__(self, place: int) -> CycleRecord: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[CycleRecord, ...]: ...

    def __getitem__(self, place: int | slice) -> CycleRecord | tuple[CycleRecord, ...]:
        return self._records[place]

    def __len__(self) -> int:
        if "_records" in self.__dict__:
            return len(self._records)
        return len(self._columns["cycle"])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return self._records == tuple(other)

    __hash__ = None  # type: ignore[assignment] # as a list has none

    def __repr__(self) -> str:
        return f"Cycles({list(self._records)!r})"


def columns_of(records: Sequence[CycleRecord]) -> Columns:
    """The columns of some records; a field that no cycle has is none."""
    n = len(records)
    found: Columns = {}

    def put(name: str, row: int, value: Any) -> None:
        column = found.get(name)
        if column is None:
            column = found[name] = [None] * n
        column[row] = value

    def put_all(prefix: str, row: int, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if isinstance(value, BaseModel):
                put_all(f"{name}.", row, value.__dict__)
            elif name in _WHOLE:
                put(name, row, value and _plain(value))
            elif isinstance(value, dict):
                put_all(f"{name}.", row, value)
            # A section that is None has no columns: its absence says so.
            elif name not in _SECTIONS:
                put(name, row, value)

    for row, record in enumerate(records):
        put_all("", row, record.__dict__)
    return found


def records_of(columns: Columns) -> tuple[CycleRecord, ...]:
    """The records behind columns. What was checked when it was read first is not checked again."""
    return tuple(_rows(CycleRecord, columns, ""))


def _value(record: CycleRecord, name: str) -> Any:
    """A field of a record by its dotted name; None where it is not there."""
    section, _, rest = name.partition(".")
    value = getattr(record, section)
    if not rest or value is None:
        return value
    if section in _MAPS[CycleRecord]:
        return value.get(rest)
    inner, _, key = rest.partition(".")
    found = getattr(value, inner)
    return found.get(key) if key else found


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, list):
        return [item.model_dump() for item in value]
    return dict(value)


def _sections() -> dict[str, type[BaseModel]]:
    """The parts of a record that are models: field -> model."""
    found = {}
    for name, field in CycleRecord.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = kind
    return found


def _maps(model: type[BaseModel], prefix: str) -> set[str]:
    """Fields of a model that hold a value by name, each of which is a column."""
    return {
        name
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is dict and f"{prefix}{name}" not in _WHOLE
    }


_SECTIONS = _sections()
_MAPS: dict[type[BaseModel], set[str]] = {CycleRecord: _maps(CycleRecord, "")}
_MAPS |= {model: _maps(model, f"{name}.") for name, model in _SECTIONS.items()}
#: All models that a record consists of.
MODELS: tuple[type[BaseModel], ...] = (*_MAPS, LedgerEntry)

#: Sections that the last record of a run has not, and a field that they always have.
_OPTIONAL = {
    name: next(iter(_SECTIONS[name].model_fields))
    for name, field in CycleRecord.model_fields.items()
    if name in _SECTIONS and NoneType in get_args(field.annotation)
}


def _rows(model: type[Model], columns: Columns, prefix: str) -> list[Model]:
    """One value of ``model`` for every cycle."""
    n = len(columns["cycle"])
    fields = model.model_fields
    lists: list[list[Any]] = []
    for name in fields:
        whole = f"{prefix}{name}"
        if not prefix and name in _SECTIONS:
            made: list[Any] = _rows(_SECTIONS[name], columns, f"{name}.")
            if name in _OPTIONAL:
                # A section is None in a cycle where the field is that it always has.
                there = columns.get(f"{name}.{_OPTIONAL[name]}") or [None] * n
                made = [
                    item if sign is not None else None
                    for item, sign in zip(made, there, strict=True)
                ]
            lists.append(made)
        elif name in _MAPS[model]:
            own = _with_prefix(columns, f"{whole}.").items()
            # What a cycle does not count is no entry of it, and no None.
            lists.append([{k: c[row] for k, c in own if c[row] is not None} for row in range(n)])
        elif whole == "time.preparation":
            lists.append([_entries(value) for value in columns.get(whole) or [None] * n])
        else:
            lists.append(columns.get(whole) or [None] * n)
    names = set(fields)
    return [
        _made(model, dict(zip(fields, row, strict=True)), names) for row in zip(*lists, strict=True)
    ]


def _with_prefix(columns: Columns, prefix: str) -> Columns:
    """The columns of a field that holds values by name, by these names."""
    return {
        name.removeprefix(prefix): column
        for name, column in columns.items()
        if name.startswith(prefix)
    }


def _entries(values: list[dict[str, Any]] | None) -> list[LedgerEntry] | None:
    return None if values is None else [LedgerEntry.model_validate(value) for value in values]


#: Sets what models keep beside their fields, which are frozen.
_set = object.__setattr__


def _made(model: type[Model], values: dict[str, Any], names: set[str]) -> Model:
    """``model.model_construct`` for a model without aliases whose fields are all given: half its time."""
    made = model.__new__(model)
    _set(made, "__dict__", values)
    _set(made, "__pydantic_fields_set__", names)
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made
