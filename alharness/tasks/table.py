"""A user's own table: ``table:PATH``, a file of separated texts or parquet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from alharness.errors import UserError, unknown_name
from alharness.lazily import numpy as np
from alharness.progress import Progress, silent
from alharness.tasks.arrays import OwnFile, data_of, defaults_for
from alharness.tasks.base import DataLocations, Profile, TaskData, TaskDefaults
from alharness.tasks.columns import counts_rows, encoded, filled, labels_of, tells_class
from alharness.tasks.meaning import (
    Classes,
    Meaning,
    Wishes,
    classes_of,
    meaning_of,
)
from alharness.tasks.originals.row_cache import obtain_rows
from alharness.tasks.rows import Rows, SplitParameters, divided, leave_out, leave_out_blank
from alharness.tasks.splits import MAX_ROLES, NO_SPLIT, roles_in
from alharness.tasks.table_file import Held, read_table
from alharness.tasks.words import Column, names_in, typed_name

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pandas import Series

#: Where ``alharness list`` shows it.
FAMILY = "Your own data (needs a path)"

#: Columns that are taken for the target when none is named.
TARGETS = ("target", "label", "class", "y")
#: Names of columns in a note, at most.
LISTED = 30
#: Files from this size on are kept as they were understood: a million rows are read once, not in each run.
CACHED_FROM = 4 << 20
#: How tables are read; in the key of a run where an earlier reading gave something else.
READING = "2"
#: The note under which it is said that alharness 0.2 read the table otherwise.
READ_ANEW = "reading"

_ADDED: Any = {"added": "0.3.0"}


class TableParameters(SplitParameters):
    """``--set task.NAME=VALUE`` for ``table:PATH``."""

    target: str | None = Field(
        None, description="column of the classes; by default target, label, class or y"
    )
    drop: str = Field("", description="columns to leave out, with commas between")
    split_column: str | None = Field(
        None,
        description="column that says train (or pool) and test, or a flag like is_test; by default a seeded "
        "split; none takes a column that looks like one for a feature",
    )
    categories: str = Field(
        "", description="columns whose numbers or texts are categories, with commas between"
    )
    separator: str | None = Field(
        None,
        description="between the columns of a file: a sign, several, tab or space; by default a comma, a tab "
        "for .tsv and .tab",
    )
    numbers: str = Field(
        "",
        json_schema_extra=_ADDED,
        description="columns that are numbers although they are not written so ($39, 36 months, 12 %, 007)",
    )
    gaps: str = Field(
        "",
        json_schema_extra=_ADDED,
        description="texts that mean that nothing is there, for instance ?,NA",
    )
    missing: Literal["refuse", "drop", "category", "median", "keep"] = Field(
        "refuse",
        json_schema_extra=_ADDED,
        description="what is not there: drop leaves rows out; category makes it a category (numbers: the "
        "pool's mean, and a column that says so); median takes the pool's (texts: the most frequent); keep "
        "leaves NaN to classifiers that take it (texts: a category)",
    )
    decimal: Literal[".", ","] = Field(
        ".", json_schema_extra=_ADDED, description="the sign before decimals"
    )
    header: Literal["auto", "first", "none"] = Field(
        "auto",
        json_schema_extra=_ADDED,
        description="auto refuses a first line that looks like a row; first: it has the names; "
        "none: there is "
        "no line of names, columns are called 0, 1, ...",
    )
    quote: Literal["auto", "double", "none"] = Field(
        "auto",
        json_schema_extra=_ADDED,
        description="auto refuses quotation marks that seem to swallow rows; double trusts them; none takes "
        "them for plain characters",
    )
    encoding: str | None = Field(
        None,
        json_schema_extra=_ADDED,
        description="of the file; by default UTF-8, or what its mark says",
    )


class Table(OwnFile):
    """Your own table: table:PATH, CSV or parquet, with a column of classes.

    Numbers are scaled to mean 0 and deviation 1 on the pool; texts, categories and bools become one
    column per category, lists of numbers one per number. Gaps are refused unless task.missing says what
    becomes of them, and so is what reads as numbers but is not written as they are. 'alharness data preview'
    shows what each column is taken for.
    """

    Parameters = TableParameters
    parameters: TableParameters
    source = "a CSV or parquet file on this machine"
    expected = "table:PATH with a CSV or parquet file"
    _held: Held | None = None

    def identity(self) -> dict[str, str]:
        """The file's content; and how it is read, where alharness 0.2 read it otherwise.

        Raises:
            UserError: there is no such file.
        """
        found = super().identity()
        status = self.path.stat()
        parameters = self.parameters.model_dump_json()
        # All other tables keep the keys that runs of 0.2 have.
        if _was_read_otherwise(
            self.name, self.argument or "", parameters, status.st_mtime_ns, status.st_size
        ):
            found["table"] = f"reading {READING}"
        return found

    def defaults(self, profile: Profile) -> TaskDefaults:
        return defaults_for(profile, None)

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        content = super().identity()[self.argument or ""]
        if self.path.stat().st_size < CACHED_FROM:
            return self._understood()
        return obtain_rows(
            locations.kept("table", self.path, self.parameters.model_dump_json()),
            {"content": content, "reading": READING},
            self._understood,
            progress,
            rebuild=locations.rebuild,
        )

    def preview(self, locations: DataLocations) -> list[str]:
        """One line per column: what it is taken for, an example, and what is doubtful.

        Raises:
            UserError: the file cannot be read at all.
        """
        held = self._read()
        wishes = self._wishes(held)
        wanted = self.parameters.target
        targets = [wanted] if wanted in held.columns else [n for n in TARGETS if n in held.columns]
        features, wishes = self._meanings(held, held.names, wishes)
        lines = []
        for name, column in held.columns.items():
            # A column of parquet's own types has no texts that could be doubted.
            if not isinstance(column, Column):
                lines.append(f"{name}: {column.dtype} of parquet")
                continue
            n_different = int((column.there & ~column.blank).sum())
            shown = ", ".join(f"{text!r:.30}" for text in column.some(3))
            if name in targets[:1]:
                classes = classes_of(column, wishes)
                found = f"{n_different:,} classes"
                said, gaps = classes.trouble or classes.doubt, classes.gaps
            else:
                meaning = features[name]
                found = meaning.kind
                said, gaps = meaning.trouble or meaning.doubt, meaning.gaps
                roles = self._roles(name, column)
                if roles:
                    said = f"says which rows are for what: task.split_column={typed_name(name)}"
            n_gaps = f", {int(gaps.sum()):,} gaps" if gaps.any() else ""
            lines.append(
                f"{name}: {found} ({n_different:,} different: {shown}{n_gaps})"
                + (f". {said[0].upper()}{said[1:]}" if said else "")
            )
        return lines

    def _understood(self) -> TaskData:
        where = self.where
        held = self._read()
        target = self._target(held)
        split_column = self.parameters.split_column
        if split_column == NO_SPLIT and NO_SPLIT not in held.columns:
            split_column = None
        elif split_column is not None:
            self._known(held, split_column)
        left_out = {*self._named(held, self.parameters.drop), target, *filter(None, [split_column])}
        columns = [name for name in held.columns if name not in left_out]
        if not columns:
            raise UserError(
                f"{where} has no column beside '{target or split_column}'; expected features."
            )
        self._refuse_nameless(columns)
        if self.parameters.split_column is None:
            self._refuse_splits(held, columns)
        wishes = self._wishes(held)
        features, wishes = self._meanings(held, columns, wishes)
        classes = self._classes(held, target, wishes)
        # Before any row is dropped: a column that is misread would drop the wrong ones.
        self._refuse_troubles(target, classes, features)
        notes = {"source": f"table {self.path.name}", "target": target, **held.notes}
        roles = self._split(held, split_column) if split_column is not None else None
        # Which rows stay is known when it is known what is a gap, and what the author's parts are.
        kept = self._kept(target, classes, features, roles, notes)
        rows = Rows(
            items=np.flatnonzero(kept),
            labels=classes.labels[kept],
            known=~classes.gaps[kept],
            split=None if roles is None else roles[kept],
            names=classes.names,
            notes=notes,
        )
        found = divided(rows, self.parameters, f"column '{target}' of {where}" if target else where)
        in_pool = np.zeros(len(rows.items), dtype=bool)
        in_pool[found.pool] = True
        # What scales a number is taken from the pool alone: so it is known first what the pool is.
        numbers, more = self._numbers(
            {
                name: replace(m, values=m.values[kept].reset_index(drop=True), gaps=m.gaps[kept])
                for name, m in features.items()
            },
            in_pool,
            found.targets,
            {name for name in columns if name in wishes.categories},
        )
        changed = [name for name, m in features.items() if m.changed] + [target] * classes.changed
        if changed:
            more[READ_ANEW] = f"alharness 0.2 read {', '.join(changed)} otherwise"
        doubts = [f"'{name}': {m.doubt}" for name, m in features.items() if m.doubt]
        doubts += [f"'{target}': {classes.doubt}"] if classes.doubt else []
        if nowhere := self._unseen_gaps(held):
            doubts.append(f"task.gaps says {', '.join(map(repr, nowhere))}, which no cell says")
        if doubts:
            more["columns"] = "; ".join(doubts[:LISTED])
        # From 1 and of the file, not of what was kept: a person looks the row up there.
        names = (rows.items + 1).astype(np.str_) if self.parameters.wants_blanks else None
        return data_of(replace(found, notes={**found.notes, **more}), numbers, names)

    def original(self, name: str) -> Mapping[str, str]:
        """The cells of a row, by its number from 1, as the file has them; without its class."""
        if self._held is None:
            self._held = self._read()  # kept: a person looks at many rows
        cells = self._held.columns.cells(int(name) - 1)
        cells.pop(self._target(self._held), None)
        return cells

    # ---------------------------------------------------------------------------------- reading

    def _read(self) -> Held:
        super().identity()  # refuses a file that is not there
        given = self.parameters
        return read_table(
            self.path,
            self.where,
            separator=given.separator,
            quote=given.quote,
            encoding=given.encoding,
            header=given.header,
        )

    def _refuse_nameless(self, columns: Sequence[str]) -> None:
        """Row numbers that a data frame was written with: rows sorted by class tell it by them."""
        nameless = [
            name for name in columns if re.fullmatch(r"Unnamed: \d+|__index_level_\d+__", name)
        ]
        if nameless:
            raise UserError(
                f"{self.where} has a column without a name: row numbers, it seems. Write the file "
                "without them "
                f"(to_csv with index=False), name the column, or leave it out with task.drop='{nameless[0]}'."
            )

    def _target(self, held: Held) -> str:
        """The column of classes; an empty name where the rows are to be labelled and there is none."""
        if self.parameters.target is not None:
            return self._known(held, self.parameters.target)
        found = [name for name in TARGETS if name in held.columns]
        if self.parameters.wants_blanks and not set(found) - set(names_in(self.parameters.drop)):
            return ""
        if len(found) != 1:
            raise UserError(
                f"Which column of {self.where} holds the classes? Set task.target to one of: "
                f"{', '.join(held.names)}."
            )
        return found[0]

    def _named(self, held: Held, listed: str) -> list[str]:
        """Names of columns out of a setting, with commas between."""
        return [self._known(held, name) for name in names_in(listed)]

    def _known(self, held: Held, name: str) -> str:
        if name not in held.columns:
            raise unknown_name(f"column of {self.where}", name, held.names)
        return name

    def _unseen_gaps(self, held: Held) -> list[str]:
        """Words of ``task.gaps`` that stand nowhere: what they were meant for is still a value."""
        unseen = frozenset(names_in(self.parameters.gaps))
        texts = (column for column in held.columns.values() if isinstance(column, Column))
        for column in texts if unseen else ():
            said = {word.lower() for word in column.said(column.among(unseen))}
            unseen = frozenset(word for word in unseen if word.lower() not in said)
        return sorted(unseen)

    def _wishes(self, held: Held) -> Wishes:
        return Wishes(
            frozenset(self._named(held, self.parameters.categories)),
            frozenset(self._named(held, self.parameters.numbers)),
            frozenset(names_in(self.parameters.gaps)),
            self.parameters.decimal,
        )

    # ----------------------------------------------------------------------------------- splits

    def _roles(self, name: str, column: Column | Series[Any]) -> Mapping[str, str] | None:
        """What a column's texts say of splits; None where it says nothing of them."""
        if isinstance(column, Column):
            texts = column.some(MAX_ROLES + 1)
        else:
            try:
                texts = [str(value) for value in column.dropna().unique()[: MAX_ROLES + 1]]
            except TypeError:  # lists and the like
                return None
        return roles_in(name, texts) if 1 < len(texts) <= MAX_ROLES else None

    def _refuse_splits(self, held: Held, columns: Sequence[str]) -> None:
        """A column of "train" and "test" is the author's split, not a feature, and is not passed over."""
        for name in columns:
            if held.columns.is_varied(name):
                continue
            roles = self._roles(name, held.columns[name])
            if roles is not None:
                typed = typed_name(name)
                raise UserError(
                    f"Column '{name}' of {self.where} says "
                    f"{', '.join(sorted(roles, key=str.lower))}: the author's "
                    f"split, it seems. Take it with task.split_column={typed}, leave it out with "
                    f"task.drop={typed}, or keep it as a feature with task.split_column={NO_SPLIT}."
                )

    def _split(self, held: Held, name: str) -> NDArray[np.str_]:
        """``train``, ``test``, ``val`` or ``unlabelled`` of each row, as a column says."""
        column = held.columns[name]
        values = column.texts(column.blank) if isinstance(column, Column) else column
        missing = values.isna().to_numpy()
        if missing.any():
            raise UserError(
                f"Column '{name}' of {self.where} has {_gaps_in_words(missing)}; it must say of each "
                "row what it is for. Fill them, or leave the column out with "
                f"task.drop={typed_name(name)}."
            )
        texts = values.astype(str)
        roles = roles_in(name, texts.unique().tolist()[: MAX_ROLES + 1])
        found = set(roles.values()) if roles else set()
        # Where items are to be labelled a part to learn from is enough: a test set is no must.
        to_learn = {"train", "unlabelled"} if self.parameters.wants_blanks else {"train"}
        is_whole = found & to_learn and (found & {"test", "val"} or self.parameters.wants_blanks)
        if not is_whole or roles is None:
            said = sorted(set(texts))
            odd = [text for text in said if roles_in(name, [text]) is None] or said
            more = " everywhere" if len(said) == 1 else ""
            raise UserError(
                f"Column '{name}' of {self.where} must say train (or pool) and test; found '{odd[0]}'{more}."
            )
        return np.array([roles[text] for text in texts], dtype=np.str_)

    # ---------------------------------------------------------------------------- what they mean

    def _meanings(
        self, held: Held, columns: Sequence[str], wishes: Wishes
    ) -> tuple[dict[str, Meaning], Wishes]:
        """What columns mean; what means a gap among numbers means one in all columns of the file."""
        features = {name: self._meaning(held.columns[name], wishes) for name in columns}
        implied = frozenset[str]().union(*(meaning.absent for meaning in features.values()))
        wishes = replace(wishes, implied=implied)
        if implied:
            asked = [name for name, meaning in features.items() if meaning.trouble is not None]
            features |= {name: self._meaning(held.columns[name], wishes) for name in asked}
        return features, wishes

    def _meaning(self, column: Column | Series[Any], wishes: Wishes) -> Meaning:
        if isinstance(column, Column):
            return meaning_of(column, wishes)
        return Meaning(column, str(column.dtype), column.isna().to_numpy())

    def _classes(self, held: Held, target: str, wishes: Wishes) -> Classes:
        if not target:
            return Classes(np.zeros(held.n_rows, dtype=np.int64), np.ones(held.n_rows, dtype=bool))
        column = held.columns[target]
        if isinstance(column, Column):
            return classes_of(column, wishes)
        gaps = column.isna().to_numpy()
        if not gaps.any():
            return Classes(labels_of(column, self.where), gaps)
        # As whole numbers again: a gap makes floats of them.
        there = labels_of(column[~gaps].convert_dtypes(), self.where)
        labels = np.zeros(len(column), dtype=there.dtype)
        labels[~gaps] = there
        return Classes(labels, gaps)

    def _refuse_troubles(
        self, target: str, classes: Classes, features: Mapping[str, Meaning]
    ) -> None:
        """All columns' troubles at once: who mends one wants to know of the next."""
        troubles = [(target, classes.trouble)] if classes.trouble else []
        troubles += [(name, m.trouble) for name, m in features.items() if m.trouble]
        if troubles:
            first = f"Column '{troubles[0][0]}' of {self.where} {troubles[0][1]}."
            more = [f"Column '{name}' {text}." for name, text in troubles[1:4]]
            rest = [f"{len(troubles) - 4} more columns."] if len(troubles) > 4 else []
            raise UserError(" ".join([first, *more, *rest]))

    def _kept(
        self,
        target: str,
        classes: Classes,
        features: Mapping[str, Meaning],
        roles: NDArray[np.str_] | None,
        notes: dict[str, str],
    ) -> NDArray[np.bool_]:
        """The rows that are used, bool ``[N]``.

        Raises:
            UserError: there are gaps, and nothing said what becomes of them.
        """
        used = np.ones(len(classes.gaps), dtype=bool)
        if roles is not None and not self.parameters.wants_blanks:
            used = roles != "unlabelled"
            leave_out_blank(notes, int((~used).sum()))
        gaps = {name: m.gaps & used for name, m in features.items() if (m.gaps & used).any()}
        # A row without a class is what is to be labelled.
        in_target = classes.gaps & used & (not self.parameters.wants_blanks)
        missing = self.parameters.missing
        # Nothing can be filled from nothing, and dropping would leave no row.
        empty = [name for name, found in gaps.items() if found[used].all()]
        if empty and missing != "refuse":
            raise UserError(
                f"Column '{empty[0]}' of {self.where} has nothing in it. Leave it out with "
                f"task.drop={typed_name(empty[0])}."
            )
        if missing == "drop" and (gaps or in_target.any()):
            without: NDArray[np.bool_] = np.logical_or.reduce([in_target, *gaps.values()])
            leave_out(notes, f"{int(without.sum()):,} of {len(used):,} rows with gaps")
            used &= ~without
            return used
        refused = {
            **({target: in_target} if in_target.any() else {}),
            **(gaps if missing == "refuse" else {}),
        }
        if refused:
            told = [
                f"'{name}' {'' if at else f'of {self.where} '}has {_gaps_in_words(found)}"
                for at, (name, found) in enumerate(refused.items())
            ]
            n_rows = int(np.logical_or.reduce(list(refused.values())).sum())
            how = (
                f"Fill or drop those rows, set task.missing=drop ({n_rows:,} of {len(used):,} rows)"
            )
            names = [name for name in refused if name != target]
            if names:
                listed_names = ",".join(typed_name(name) for name in names)
                how += f", median, category or keep, or leave the column out with task.drop={listed_names}"
            if not target:  # rows to be labelled: the gaps may be what is to be labelled
                how += ", or name the column of classes with task.target"
            if target in refused:
                how += ", or name another column with task.target, or label the rows with 'alharness label'"
            raise UserError(f"Column {'; '.join(told)}. {how}.")
        if gaps:
            notes["gaps"] = f"{', '.join(gaps)}: {missing}"
        return used

    def _numbers(
        self,
        features: Mapping[str, Meaning],
        in_pool: NDArray[np.bool_],
        targets: NDArray[np.int64],
        categories: set[str],
    ) -> tuple[NDArray[np.float32], dict[str, str]]:
        """All features, float32 ``[N, D]``, and notes on what each column was taken for."""
        found = {}
        for name, meaning in features.items():
            values, gap = filled(meaning, in_pool, self.parameters.missing)
            column = encoded(values, in_pool, self.where, as_category=name in categories)
            if gap is not None:
                column = replace(column, values=np.concatenate([column.values, gap], axis=1))
            found[name] = column
        said = [f"{name} ({column.said})" for name, column in found.items()]
        more = [f"{len(said) - LISTED} more"] if len(said) > LISTED else []
        notes = {"features": ", ".join(said[:LISTED] + more)}
        counting = [name for name, m in features.items() if counts_rows(m.values)]
        if counting:
            notes["row numbers"] = (
                f"column '{counting[0]}' numbers the rows and is a feature; task.drop={counting[0]} leaves "
                "it out"
            )
        # Said, not refused: a perfect predictor may be what the data are about.
        telling = [name for name, m in features.items() if tells_class(m, targets)]
        if telling:
            notes["leak"] = (
                f"column '{telling[0]}' tells the class: each of its values stands beside one class only; "
                f"task.drop={typed_name(telling[0])} leaves it out"
            )
        rows: NDArray[np.float32] = np.concatenate(
            [column.values for column in found.values()],
            axis=1,
            dtype=np.float32,
            casting="same_kind",
        )
        return rows, notes


def _gaps_in_words(missing: NDArray[np.bool_]) -> str:
    """How many cells of a column are blank and where the first is, in rows from 1."""
    n, row = int(missing.sum()), int(missing.argmax()) + 1
    return (
        f"1 missing value, in row {row}"
        if n == 1
        else f"{n} missing values, the first in row {row}"
    )


@lru_cache(maxsize=64)  # a sweep resolves many runs on one file
def _was_read_otherwise(
    name: str, argument: str, parameters: str, mtime_ns: int, size: int
) -> bool:
    """Whether alharness 0.2 read a table otherwise; not where it cannot be read: loading says why."""
    plugin = Table(name, argument, **TableParameters.model_validate_json(parameters).model_dump())
    try:
        return READ_ANEW in plugin.load(DataLocations.resolve()).notes
    except UserError:
        return False
