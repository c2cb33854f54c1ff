"""A table's columns as numbers: scaled, as categories, as vectors; what is neither is refused."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.tasks.meaning import MAX_CATEGORIES, Meaning
from alharness.tasks.words import typed_name

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import Series

#: A column whose values differ by less is constant: its deviation is rounding, and dividing by it noise.
_CONSTANT = 8 * sys.float_info.epsilon
#: The category of what is not there.
NOTHING = "(nothing)"


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
        UserError: dates and the like, infinite numbers, or too many categories.
    """
    from pandas.api import types

    kinds = _kinds(column)
    if kinds and kinds <= {"ndarray", "list"}:
        return _vector(column, in_pool, where)
    column = _plain(column, kinds, where)
    is_number = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
    if is_number and not as_category:
        return _scaled(column, in_pool, where)
    texts = column.astype(str).to_numpy(dtype=np.str_)
    categories, which = np.unique(texts, return_inverse=True)
    if len(categories) > MAX_CATEGORIES:
        raise UserError(
            f"Column '{column.name}' of {where} has {len(categories):,} different texts; expected at most "
            f"{MAX_CATEGORIES} categories. Leave it out with "
            f"task.drop={typed_name(str(column.name))}, or group them."
        )
    return Encoded(np.eye(len(categories))[which.reshape(-1)], f"{len(categories)} categories")


def labels_of(column: Series[Any], where: str) -> NDArray[Any]:
    """A column of classes that are no texts: integers, bools (as 0 and 1), or categories' names ``[N]``.

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
    # Numbers that the file calls categories; texts are read by ``meaning.classes_of``.
    texts: NDArray[np.str_] = column.astype(str).to_numpy(dtype=np.str_)
    return texts


def filled(
    meaning: Meaning, in_pool: NDArray[np.bool_], how: str
) -> tuple[Series[Any], NDArray[np.float64] | None]:
    """A column without gaps.

    Args:
        meaning: of the column.
        in_pool: bool ``[N]``: what fills a gap is taken from the pool alone.
        how: ``median``, ``category`` or ``keep``; nothing else leaves gaps until here.

    Returns:
        The values, with NaN for a number that was not there and is kept so; and a column ``[N, 1]`` that is
        1 where a number was not there, for ``category``.
    """
    from pandas.api import types

    values, gaps = meaning.values, meaning.gaps
    if not gaps.any():
        return values, None
    of_pool = values[in_pool & ~gaps]
    if types.is_numeric_dtype(values) and not types.is_bool_dtype(values):
        if how == "keep":
            return values.astype(float).mask(gaps), None
        middle = (
            float(of_pool.median() if how == "median" else of_pool.mean()) if len(of_pool) else 0.0
        )
        # The pool's own middle: a test set must not tell the pool anything.
        numbers = values.astype(float).where(~gaps, middle)
        return numbers, gaps[:, None].astype(np.float64) if how == "category" else None
    texts = values.astype(object)
    usual = NOTHING if how != "median" or not len(of_pool) else of_pool.mode().iloc[0]
    return texts.where(~gaps, usual), None


def counts_rows(column: Series[Any]) -> bool:
    """Whether a column numbers the rows, up or down: a table sorted by class tells the class by it."""
    from pandas.api import types

    if not types.is_integer_dtype(column) or len(column) < 2:
        return False
    steps = np.diff(column.to_numpy().astype(np.float64))
    return bool((steps == 1).all() or (steps == -1).all())


def tells_class(meaning: Meaning, targets: NDArray[np.int64]) -> bool:
    """Whether each value of a column stands beside one class only, and stands often enough to say so."""
    import pandas

    used = (targets >= 0) & ~meaning.gaps
    try:
        codes, values = pandas.factorize(meaning.values[used])
    except TypeError:  # vectors
        return False
    if not 1 < len(values) <= len(codes) / 3:
        return False
    # One class beside each value: as many pairs of both as there are values.
    pairs = pandas.unique(
        pandas.Series(codes.astype(np.int64) * (targets.max() + 1) + targets[used])
    )
    return len(pairs) == len(values)


def _plain(column: Series[Any], kinds: set[str], where: str) -> Series[Any]:
    """Numbers, bools or texts; decimals as floats.

    Raises:
        UserError: whatever else a column may hold.
    """
    from pandas.api import types

    if kinds in ({"Decimal"}, {"int"}):  # integers beyond 64 bits
        return column.astype(float)
    is_time = types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column)
    if is_time or kinds & {"date", "datetime", "time", "timedelta"}:
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
    if np.isinf(values).any():
        raise UserError(
            f"Column '{name}' of {where} is infinite in row "
            f"{int(np.isinf(values).argmax()) + 1}. Mend it, or set task.drop={name}."
        )
    gaps = np.isnan(values)  # kept, for a classifier that takes them
    pool = values[in_pool & ~gaps]
    if not len(pool):
        return Encoded(np.where(gaps, np.nan, 0.0)[:, None], "constant")
    with np.errstate(over="ignore", invalid="ignore"):
        if np.ptp(pool) <= _CONSTANT * np.abs(pool).max():
            return Encoded(np.where(gaps, np.nan, 0.0)[:, None], "constant")
        scaled = (values - pool.mean()) / pool.std()
        fits = (np.isfinite(scaled.astype(np.float32)) | gaps).all()
    if not fits:
        raise UserError(
            f"Column '{name}' of {where} reaches from {np.nanmin(values):.3g} to {np.nanmax(values):.3g}, "
            f"which cannot be scaled to float32. Mend it, or set task.drop={name}."
        )
    return Encoded(scaled[:, None], "number")


def _vector(column: Series[Any], in_pool: NDArray[np.bool_], where: str) -> Encoded:
    """Lists of as many numbers each, for instance embeddings: each place is scaled as a column is."""
    name = typed_name(str(column.name))
    lengths = {np.size(value) for value in column}
    try:
        table = np.stack([np.asarray(value, dtype=np.float64).reshape(-1) for value in column])
    except (ValueError, TypeError) as error:
        found = (
            f"lengths {sorted(lengths)[:5]}" if len(lengths) > 1 else "other things than numbers"
        )
        raise UserError(
            f"Column '{column.name}' of {where} holds lists that are no vectors: expected as many numbers in "
            f"each, found {found}. Mend it, or set task.drop={name}."
        ) from error
    if not np.isfinite(table).all():
        at = int((~np.isfinite(table).all(axis=1)).argmax()) + 1
        raise UserError(
            f"Column '{column.name}' of {where} has a vector with a gap in row {at}. Mend it, or set "
            f"task.drop={name}."
        )
    pool = table[in_pool]
    # Scaled by the pool alone, as single columns are.
    deviation = pool.std(axis=0)
    constant = deviation <= _CONSTANT * np.abs(pool).max(axis=0)
    scaled = (table - pool.mean(axis=0)) / np.where(constant, 1, deviation)
    scaled[:, constant] = 0
    return Encoded(scaled, f"vector of {table.shape[1]}")
