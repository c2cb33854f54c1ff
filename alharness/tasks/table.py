"""A user's own table: ``table:PATH``, CSV or parquet."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from alharness.errors import UserError, unknown_name
from alharness.progress import Progress, silent
from alharness.tasks.arrays import OwnFile, data_of, defaults_for
from alharness.tasks.base import DataLocations, Profile, TaskData, TaskDefaults
from alharness.tasks.columns import (
    counts_rows,
    encoded,
    labels_of,
    refuse_missing,
    refuse_splits,
    split_mask,
)
from alharness.tasks.rows import LEFT_OUT, Rows, SplitParameters, divided

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pandas import DataFrame

#: Columns that are taken for the target when none is named.
TARGETS = ("target", "label", "class", "y")
#: Names of columns in a note, at most.
LISTED = 30


class TableParameters(SplitParameters):
    """``--set task.NAME=VALUE`` for ``table:PATH``."""

    target: str | None = Field(
        None, description="column of the classes; by default target, label, class or y"
    )
    drop: str = Field("", description="columns to leave out, with commas between")
    split_column: str | None = Field(
        None, description="column that says train (or pool) and test; by default a seeded split"
    )
    categories: str = Field(
        "", description="columns whose numbers or texts are categories, with commas between"
    )
    separator: str | None = Field(
        None, description="between the columns of a CSV file; by default a comma, a tab for .tsv"
    )


class Table(OwnFile):
    """Your own table: table:PATH, CSV or parquet, with a column of classes.

    Numbers are scaled to mean 0 and deviation 1 on the pool; texts, categories and bools become one
    column per category. Values that are missing are refused, not filled, and so are texts that are
    mostly numbers: name what is a category with task.categories.
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
        split_column = self.parameters.split_column
        if split_column is not None and split_column not in frame.columns:
            raise unknown_name(f"column of {where}", split_column, list(frame.columns))
        left_out = [*self._named(frame, self.parameters.drop, where), target]
        left_out += filter(None, [split_column])
        columns = [name for name in frame.columns if name not in left_out]
        if not columns:
            raise UserError(f"{where} has no column beside '{target}'; expected features.")
        self._refuse_nameless(columns, where)
        refuse_missing(frame[target], where, "or name another column with task.target")
        # Before anything is asked of texts: pandas keeps what is missing as a float among them.
        for name in columns:
            refuse_missing(frame[name], where, f"or leave the column out with task.drop={name}")
        if split_column is None:
            refuse_splits(columns, frame, where)
        else:
            refuse_missing(frame[split_column], where, f"or set task.drop={split_column}")
        notes = {"source": f"table {self.path.name}", "target": target}
        if index := ", ".join(str(name) for name in frame.index.names if name is not None):
            notes[LEFT_OUT] = f"the index ({index})"
        split = None
        if split_column is not None:
            split = np.where(split_mask(frame[split_column], where), "test", "train")
        rows = Rows(
            items=frame[columns], labels=labels_of(frame[target], where), split=split, notes=notes
        )
        found = divided(rows, self.parameters, f"column '{target}' of {where}")
        in_pool = np.zeros(len(frame), dtype=bool)
        in_pool[found.pool] = True
        # What scales a number is taken from the pool alone: so it is known first what the pool is.
        numbers, more = self._numbers(frame, columns, in_pool, where)
        return data_of(replace(found, notes={**found.notes, **more}), numbers)

    def _numbers(
        self, frame: DataFrame, columns: Sequence[str], in_pool: NDArray[np.bool_], where: str
    ) -> tuple[NDArray[np.float32], dict[str, str]]:
        """All features, float32 ``[N, D]``, and notes on what each column was taken for."""
        categories = self._named(frame, self.parameters.categories, where)
        found = {
            name: encoded(frame[name], in_pool, where, as_category=name in categories)
            for name in columns
        }
        said = [f"{name} ({column.said})" for name, column in found.items()]
        more = [f"{len(said) - LISTED} more"] if len(said) > LISTED else []
        notes = {"features": ", ".join(said[:LISTED] + more)}
        if counting := [name for name in columns if counts_rows(frame[name])]:
            notes["row numbers"] = (
                f"column '{counting[0]}' numbers the rows and is a feature; task.drop={counting[0]} leaves "
                "it out"
            )
        rows: NDArray[np.float32] = np.concatenate(
            [column.values for column in found.values()],
            axis=1,
            dtype=np.float32,
            casting="same_kind",
        )
        return rows, notes

    def _named(self, frame: DataFrame, listed: str, where: str) -> list[str]:
        """Names of columns out of a setting, with commas between."""
        found = [name.strip() for name in listed.split(",") if name.strip()]
        for name in found:
            if name not in frame.columns:
                raise unknown_name(f"column of {where}", name, map(str, frame.columns))
        return found

    def _read(self, where: str) -> DataFrame:
        import pandas

        self.identity()  # refuses a file that is not there
        try:
            if self._is_parquet:
                from pyarrow import parquet

                _refuse_twice(parquet.read_schema(self.path).names, where)
                frame = pandas.read_parquet(self.path)
                names = list(frame.columns)
            else:
                usual = "\t" if self.path.suffix.lower() == ".tsv" else ","
                form: dict[str, Any] = {"sep": self.parameters.separator or usual}
                head = pandas.read_csv(self.path, **form, header=None, nrows=1, dtype=str)
                names = [str(name) for name in head.iloc[0] if isinstance(name, str)]
                _refuse_twice(names, where)  # pandas would number them
                # In one piece: types are a column's, not those of some thousands of its rows.
                frame = pandas.read_csv(self.path, **form, low_memory=False)
        except (ValueError, OSError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise UserError(
                f"{where} cannot be read as a table: {first}. Expected a CSV file with a line of names, "
                "or parquet."
            ) from error
        self._check_form(frame, len(names), where)
        return frame

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.lower() in (".parquet", ".pq")

    def _check_form(self, frame: DataFrame, n_names: int, where: str) -> None:
        """Names of the columns as texts, over rows of as many fields."""
        from pandas import RangeIndex

        frame.columns = frame.columns.map(str)
        if len(frame.columns) < 2:
            raise UserError(
                f"{where} has the one column '{', '.join(frame.columns)}'; expected features and a target. "
                "Set task.separator if it is not a comma."
            )
        if len(frame) == 0:
            raise UserError(f"{where} has names of columns and no rows; expected rows below them.")
        if not self._is_parquet and not isinstance(frame.index, RangeIndex):
            more = frame.index.nlevels
            raise UserError(
                f"The rows of {where} have {more} more field{'s' * (more > 1)} than its line of names, which "
                f"has {n_names}: decimal commas, a comma at the end, or row numbers without a name? Write "
                "1.5 for 1,5 (or set task.separator), and name each column."
            )

    def _refuse_nameless(self, columns: Sequence[str], where: str) -> None:
        """Row numbers that a data frame was written with: rows sorted by class tell it by them."""
        nameless = [
            name for name in columns if re.fullmatch(r"Unnamed: \d+|__index_level_\d+__", name)
        ]
        if nameless:
            raise UserError(
                f"{where} has a column without a name: row numbers, it seems. Write the file without them "
                f"(to_csv with index=False), name the column, or leave it out with task.drop='{nameless[0]}'."
            )

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


def _refuse_twice(names: Sequence[str], where: str) -> None:
    """Two columns of one name: which of them is the class, and is the other one a feature?

    Raises:
        UserError: with the name.
    """
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(
            f"{where} has {names.count(twice[0])} columns named '{twice[0]}'; expected a name for each. "
            "Rename or remove all but one."
        )
