"""A user's own table: ``table:PATH``, CSV or parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from alharness.errors import UserError, unknown_name
from alharness.progress import Progress, silent
from alharness.tasks.arrays import (
    Arrays,
    OwnFile,
    SplitParameters,
    data_of,
    defaults_for,
    encode,
    numbers,
    split,
)
from alharness.tasks.base import DataLocations, Profile, TaskData, TaskDefaults

if TYPE_CHECKING:
    from pandas import DataFrame, Series

#: Columns that are taken for the target when none is named.
TARGETS = ("target", "label", "class", "y")
#: More categories than this are names or numbers of rows and tell nothing.
MAX_CATEGORIES = 100
#: What a split column calls its parts, and what else such a column may say.
POOL_NAMES, TEST_NAMES = frozenset({"pool", "train"}), frozenset({"test"})
OTHER_PARTS = frozenset({"training", "testing", "val", "valid", "validation", "dev", "eval"})


class TableParameters(SplitParameters):
    """``--set task.NAME=VALUE`` for ``table:PATH``."""

    target: str | None = Field(
        None, description="column of the classes; by default target, label, class or y"
    )
    drop: str = Field("", description="columns to leave out, with commas between")
    split_column: str | None = Field(
        None, description="column that says train (or pool) and test; by default a seeded split"
    )
    separator: str | None = Field(
        None, description="between the columns of a CSV file; by default a comma, a tab for .tsv"
    )


class Table(OwnFile):
    """Your own table: table:PATH, CSV or parquet, with a column of classes.

    Numbers are scaled to mean 0 and deviation 1 on the pool; texts, categories and bools become one
    column per category. Values that are missing are refused, not filled.
    """

    Parameters = TableParameters
    parameters: TableParameters
    source = "a CSV or parquet file on this machine"
    expected = "table:PATH with a CSV or parquet file"

    def defaults(self, profile: Profile) -> TaskDefaults:
        return defaults_for(profile, None)

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        where = self.where
        frame = self._read(where)
        target = self._target(frame, where)
        is_test = self._split_column(frame, where)
        left_out = [name.strip() for name in self.parameters.drop.split(",") if name.strip()]
        for name in left_out:
            if name not in frame.columns:
                raise unknown_name(f"column of {where}", name, map(str, frame.columns))
        left_out += [target, *filter(None, [self.parameters.split_column])]
        columns = [name for name in frame.columns if name not in left_out]
        if not columns:
            raise UserError(f"{where} has no column beside '{target}'; expected features.")
        if is_test is None:
            _refuse_splits(frame[columns], where)
        _refuse_missing(frame[target], where, "or name another column with task.target")
        for name in columns:
            _refuse_missing(frame[name], where, f"or leave the column out with task.drop={name}")
        labels = _labels(frame[target], where)
        classes = encode(labels, None, f"column '{target}' of {where}")
        targets = numbers(labels, classes, named=False)
        positions = np.arange(len(frame))
        notes = {"source": f"table {self.path.name}", "target": target, "split": "the file's own"}
        if is_test is None:
            _, test = split(Arrays(positions, targets), classes, self.parameters, where)
            is_test = np.isin(positions, test.items)
            notes["split"] = f"seed {self.parameters.split_seed}, stratified"
        rows = np.concatenate(
            [_encoded(frame[name], ~is_test, where) for name in columns], axis=1
        ).astype(np.float32)
        return data_of(
            Arrays(rows[~is_test], targets[~is_test]),
            Arrays(rows[is_test], targets[is_test]),
            classes,
            where,
            notes,
        )

    def _read(self, where: str) -> DataFrame:
        import pandas

        self.identity()  # refuses a file that is not there
        try:
            if self.path.suffix in (".parquet", ".pq"):
                frame = pandas.read_parquet(self.path)
            else:
                usual = "\t" if self.path.suffix == ".tsv" else ","
                frame = pandas.read_csv(self.path, sep=self.parameters.separator or usual)
        except (ValueError, OSError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"{where} cannot be read as a table: {first}. Expected a CSV file with a line of names, "
                "or parquet."
            ) from error
        frame.columns = frame.columns.map(str)
        if len(frame.columns) < 2:
            raise UserError(
                f"{where} has the one column '{', '.join(frame.columns)}'; expected features and a target. "
                "Set task.separator if it is not a comma."
            )
        return frame

    def _target(self, frame: DataFrame, where: str) -> str:
        if self.parameters.target is not None:
            if self.parameters.target not in frame.columns:
                raise unknown_name(
                    f"column of {where}", self.parameters.target, list(frame.columns)
                )
            return self.parameters.target
        found = [name for name in TARGETS if name in frame.columns]
        if len(found) != 1:
            listed = ", ".join(frame.columns)
            raise UserError(
                f"Which column of {where} holds the classes? Set task.target to one of: {listed}."
            )
        return found[0]

    def _split_column(self, frame: DataFrame, where: str) -> NDArray[np.bool_] | None:
        name = self.parameters.split_column
        if name is None:
            return None
        if name not in frame.columns:
            raise unknown_name(f"column of {where}", name, list(frame.columns))
        values = frame[name].astype(str)
        foreign = sorted(set(values) - POOL_NAMES - TEST_NAMES)
        if foreign:
            raise UserError(
                f"Column '{name}' of {where} must say train (or pool) and test; found '{foreign[0]}'."
            )
        is_test: NDArray[np.bool_] = values.isin(TEST_NAMES).to_numpy()
        return is_test


def _refuse_splits(columns: DataFrame, where: str) -> None:
    """A column of "train" and "test" is the author's split, not a feature, and is not passed over.

    Raises:
        UserError: there is one, and nothing said what to do with it.
    """
    for name, column in columns.items():
        if not isinstance(column.iloc[0], str):  # numbers, dates, pictures
            continue
        said = {text.strip().lower() for text in column.astype(str).unique()}
        if len(said) > 1 and said <= POOL_NAMES | TEST_NAMES | OTHER_PARTS:
            raise UserError(
                f"Column '{name}' of {where} says {', '.join(sorted(said))}: the author's split, it seems. "
                f"Take it with task.split_column={name} (train or pool, and test), or leave it out with "
                f"task.drop={name}."
            )


def _refuse_missing(column: Series[Any], where: str, otherwise: str) -> None:
    missing = column.isna().to_numpy()
    if missing.any():
        raise UserError(
            f"Column '{column.name}' of {where} has {int(missing.sum())} missing values, the first in row "
            f"{int(missing.argmax()) + 1}. Fill or drop those rows, {otherwise}."
        )


def _labels(column: Series[Any], where: str) -> NDArray[Any]:
    """Integers, bools or texts."""
    from pandas.api import types

    if types.is_bool_dtype(column) or types.is_integer_dtype(column):
        whole: NDArray[np.int64] = column.to_numpy(dtype=np.int64)
        return whole
    if types.is_numeric_dtype(column):
        raise UserError(
            f"Column '{column.name}' of {where} holds {column.dtype} numbers, which are no classes. Name "
            "another one with task.target, or make classes of it."
        )
    texts: NDArray[np.str_] = column.astype(str).to_numpy(dtype=np.str_)
    return texts


def _encoded(column: Series[Any], in_pool: NDArray[np.bool_], where: str) -> NDArray[np.float64]:
    """One column as numbers ``[N, K]``: scaled, or one of K categories.

    Categories are those of the whole table; what scales a number is taken from the pool alone.

    Raises:
        UserError: dates and the like, infinite numbers, or too many categories.
    """
    from pandas.api import types

    name = column.name
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        values = column.to_numpy(dtype=np.float64)
        if not np.isfinite(values).all():
            raise UserError(
                f"Column '{name}' of {where} is infinite in row "
                f"{int((~np.isfinite(values)).argmax()) + 1}. Mend it, or set task.drop={name}."
            )
        deviation = values[in_pool].std()
        scaled: NDArray[np.float64] = (values - values[in_pool].mean()) / (deviation or 1.0)
        return scaled[:, None]
    if types.is_datetime64_any_dtype(column) or types.is_timedelta64_dtype(column):
        raise UserError(
            f"Column '{name}' of {where} holds dates. Make numbers of them, or set task.drop={name}."
        )
    first: object = column.iloc[0]
    if isinstance(first, bytes | dict):
        raise UserError(
            f"Column '{name}' of {where} holds neither numbers nor texts (images?). Give images in parquet "
            f"files as parquet:PATH, or set task.drop={name}."
        )
    texts = column.astype(str).to_numpy(dtype=np.str_)
    categories, which = np.unique(texts, return_inverse=True)
    if len(categories) > MAX_CATEGORIES:
        raise UserError(
            f"Column '{name}' of {where} has {len(categories):,} different texts; expected at most "
            f"{MAX_CATEGORIES} categories. Leave it out with task.drop={name}, or group them."
        )
    return np.eye(len(categories))[which.reshape(-1)]
