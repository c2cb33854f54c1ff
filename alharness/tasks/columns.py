"""A table's columns as numbers: what is a number, what a category, and what is neither and refused.

A file of text does not say what its columns are. pandas takes a column for numbers only where every field
reads as one; a single ``?`` among ages makes texts of them all. Such columns are not guessed at.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.tasks.originals.layout import is_split_alone

if TYPE_CHECKING:
    from pandas import DataFrame, Series

#: More categories than this are names or numbers of rows and tell nothing.
MAX_CATEGORIES = 100
#: What a split column calls its parts.
POOL_NAMES, TEST_NAMES = frozenset({"pool", "train"}), frozenset({"test"})
#: A number as people write it: decimal commas, thousands, per cent.
_NUMBER = re.compile(
    r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+|\d{1,3}(?:[,' ]\d{3})+(?:[.,]\d+)?)(?:[eE][+-]?\d+)?\s*%?"
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[ T].*)?")
#: A column whose values differ by less is constant: its deviation is rounding, and dividing by it noise.
_CONSTANT = 8 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Encoded:
    """A column as numbers.

    Attributes:
        values: float64 ``[N, K]``.
        said: what it is, for the notes; what is constant in the pool says nothing and is 0 everywhere.
    """

    values: NDArray[np.float64]
    said: str


def encoded(
    column: Series[Any], in_pool: NDArray[np.bool_], where: str, *, as_category: bool
) -> Encoded:
    """One column as numbers: scaled, or one of K categories.

    Categories are those of the whole table; what scales a number is taken from the pool alone.

    Args:
        in_pool: bool ``[N]``.
        where: the table, for messages.
        as_category: whatever its values look like.

    Raises:
        UserError: dates and the like, infinite numbers, texts that are mostly numbers, or too many
            categories.
    """
    from pandas.api import types

    column = _plain(column, where)
    is_number = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    if is_number and not as_category:
        return _scaled(column, in_pool, where)
    texts = column.astype(str).to_numpy(dtype=np.str_)
    if not (as_category or types.is_bool_dtype(column)):
        _refuse_numbers(texts, str(column.name), where)
    categories, which = np.unique(texts, return_inverse=True)
    if len(categories) > MAX_CATEGORIES:
        raise UserError(
            f"Column '{column.name}' of {where} has {len(categories):,} different texts; expected at most "
            f"{MAX_CATEGORIES} categories. Leave it out with task.drop={column.name}, or group them."
        )
    return Encoded(np.eye(len(categories))[which.reshape(-1)], f"{len(categories)} categories")


def labels_of(column: Series[Any], where: str) -> NDArray[Any]:
    """A column of classes: integers, bools (as 0 and 1) or texts ``[N]``.

    Raises:
        UserError: fractions, dates, lists and whatever else names no class.
    """
    from pandas.api import types

    if types.is_unsigned_integer_dtype(column):
        unsigned: NDArray[np.uint64] = column.to_numpy(dtype=np.uint64)
        return unsigned
    if types.is_bool_dtype(column) or types.is_integer_dtype(column):
        whole: NDArray[np.int64] = column.to_numpy(dtype=np.int64)
        return whole
    kinds = _kinds(column)
    if types.is_numeric_dtype(column) or types.is_datetime64_any_dtype(column) or kinds - {"str"}:
        what = f"{column.dtype} numbers" if types.is_numeric_dtype(column) else None
        raise UserError(
            f"Column '{column.name}' of {where} holds {what or ' and '.join(sorted(kinds))}, which are no "
            "classes. Name another one with task.target, or make classes of it."
        )
    texts: NDArray[np.str_] = column.astype(str).to_numpy(dtype=np.str_)
    plain = np.strings.strip(texts)
    if (plain == "").any():
        row = int((plain == "").argmax()) + 1
        raise UserError(
            f"Column '{column.name}' of {where} is blank in row {row}; expected a class. Fill or drop such "
            "rows."
        )
    distinct, bare = np.unique(texts), np.unique(plain)
    if len(bare) < len(distinct):
        padded = next(text for text in distinct if text != text.strip())
        raise UserError(
            f"Column '{column.name}' of {where} has classes that differ by blanks only: '{padded}' and "
            f"'{padded.strip()}'. Strip them."
        )
    return texts


def refuse_missing(column: Series[Any], where: str, otherwise: str) -> None:
    """Values that are not there are not filled.

    Raises:
        UserError: with their number and the first row.
    """
    missing = column.isna().to_numpy()
    if missing.any():
        raise UserError(
            f"Column '{column.name}' of {where} has {int(missing.sum())} missing values, the first in row "
            f"{int(missing.argmax()) + 1}. Fill or drop those rows, {otherwise}."
        )


def refuse_splits(names: Sequence[str], columns: DataFrame, where: str) -> None:
    """A column of "train" and "test" is the author's split, not a feature, and is not passed over.

    Raises:
        UserError: one of ``names`` is, and nothing said what to do with it.
    """
    for name in names:
        column = columns[name]
        if len(column) == 0 or not isinstance(column.iloc[0], str):  # numbers, dates, pictures
            continue
        said = {text.strip().lower() for text in column.astype(str).unique()}
        if len(said) > 1 and all(text in POOL_NAMES or is_split_alone(text) for text in said):
            raise UserError(
                f"Column '{name}' of {where} says {', '.join(sorted(said))}: the author's split, it seems. "
                f"Take it with task.split_column={name} (train or pool, and test), or leave it out with "
                f"task.drop={name}."
            )


def split_mask(column: Series[Any], where: str) -> NDArray[np.bool_]:
    """What a split column says is the test set, bool ``[N]``.

    Raises:
        UserError: it says something else than train (or pool) and test, or only one of them.
    """
    values = column.astype(str)
    foreign = sorted(set(values) - POOL_NAMES - TEST_NAMES)
    is_test: NDArray[np.bool_] = values.isin(TEST_NAMES).to_numpy()
    if foreign or is_test.all() or not is_test.any():
        found = f"'{foreign[0]}'" if foreign else f"'{values.iloc[0]}' everywhere"
        raise UserError(
            f"Column '{column.name}' of {where} must say train (or pool) and test; found {found}."
        )
    return is_test


def counts_rows(column: Series[Any]) -> bool:
    """Whether a column numbers the rows, up or down: a table sorted by class tells the class by it."""
    from pandas.api import types

    if not types.is_integer_dtype(column) or len(column) < 2:
        return False
    steps = np.diff(column.to_numpy().astype(np.float64))
    return bool((steps == 1).all() or (steps == -1).all())


def _plain(column: Series[Any], where: str) -> Series[Any]:
    """Numbers, bools or texts; decimals as floats.

    Raises:
        UserError: whatever else a column may hold.
    """
    from pandas.api import types

    kinds = _kinds(column)
    if kinds in ({"Decimal"}, {"int"}):  # integers beyond 64 bits
        return column.astype(float)
    is_time = types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column)
    times = (datetime.date, datetime.datetime, datetime.time, datetime.timedelta)
    if is_time or kinds & {kind.__name__ for kind in times}:
        raise UserError(
            f"Column '{column.name}' of {where} holds dates or times. Make numbers of them, or set "
            f"task.drop={column.name}."
        )
    if foreign := sorted(kinds - {"str", "bool"}):
        raise UserError(
            f"Column '{column.name}' of {where} holds neither numbers nor texts ({', '.join(foreign)}). "
            "Give images in parquet files as parquet:PATH and lists as columns of their own, or set "
            f"task.drop={column.name}."
        )
    return column


def _kinds(column: Series[Any]) -> set[str]:
    """Types of the values of a column that is not of one type by itself: a category's, an object's."""
    from pandas.api import types

    if isinstance(column.dtype, types.CategoricalDtype):
        column = column.cat.categories.to_series()
    if not types.is_object_dtype(column):
        return set()
    return {type(value).__name__ for value in column}


def _scaled(column: Series[Any], in_pool: NDArray[np.bool_], where: str) -> Encoded:
    """Mean 0 and deviation 1 on the pool; 0 where the pool has one value: it tells nothing."""
    name = column.name
    values = column.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise UserError(
            f"Column '{name}' of {where} is infinite in row "
            f"{int((~np.isfinite(values)).argmax()) + 1}. Mend it, or set task.drop={name}."
        )
    pool = values[in_pool]
    with np.errstate(over="ignore", invalid="ignore"):
        if np.ptp(pool) <= _CONSTANT * np.abs(pool).max():
            return Encoded(np.zeros((len(values), 1)), "constant")
        scaled = (values - pool.mean()) / pool.std()
        fits = np.isfinite(scaled.astype(np.float32)).all()
    if not fits:
        raise UserError(
            f"Column '{name}' of {where} reaches from {values.min():.3g} to {values.max():.3g}, which cannot "
            f"be scaled to float32. Mend it, or set task.drop={name}."
        )
    return Encoded(scaled[:, None], "number")


def _refuse_numbers(texts: NDArray[np.str_], name: str, where: str) -> None:
    """Texts of which half or more read as numbers, or as dates, are no categories unless somebody says so.

    Raises:
        UserError: with the first row that is in the way.
    """
    distinct, which = np.unique(texts, return_inverse=True)
    which = which.reshape(-1)
    said = f"set task.categories={name} if they are categories, or task.drop={name}."
    for pattern, kind, remedy in (
        (_NUMBER, "a number", "Make numbers of the whole column (1.5 for 1,5; .12 for 12%)"),
        (_DATE, "a date", "Make numbers of them"),
    ):
        fits = np.array([bool(pattern.fullmatch(text.strip())) for text in distinct])[which]
        if 2 * fits.sum() < len(fits):
            continue
        at = int((~fits).argmax()) if not fits.all() else 0
        other = f"; row {at + 1} says {str(texts[at])!r:.60}"
        raise UserError(
            f"Column '{name}' of {where} reads as {kind} in {fits.sum():,} of {len(fits):,} rows, but not as "
            f"a column of them{other}. {remedy}, fill what is missing, {said}"
        )
