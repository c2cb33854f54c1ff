"""A labelling session: a run whose oracle is a person, one query after the other.

It is the run of ``alharness run --oracle human`` with the same settings: same strategies, records and folder.
The page, the sheet and callers in Python all stand on this one class.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alharness.engine.places import Places
from alharness.engine.runner import Observer, let_go, steps
from alharness.errors import PendingError, UserError
from alharness.oracle.answers import Answer, Choices
from alharness.oracle.desk import AnnotationPendingError
from alharness.oracle.originals import Originals
from alharness.oracle.questions import Asking, Question, read_questions
from alharness.progress import Progress, silent
from alharness.records import CycleRecord, RunFolder
from alharness.spec import Bound, RunSpec
from alharness.tasks.rows import UNLABELLED


@dataclass(frozen=True)
class Asked:
    """A query to a person: Q items to be told the classes of.

    Attributes:
        cycle: of the run; -1 is the initial set.
        kind: ``items`` of the pool; ``images`` that a strategy made; ``lines`` of such images.
        indices: pool indices, int64 ``[Q]``; None where the items are not in the pool.
        names: the items' files, rows (from 1) or pool indices, ``[Q]``; what these are says ``unit``.
        rows: the texts of each item's row by column, ``[Q]``; None for items that are no rows of a table.
        items: what the classifier learns from, float32: images ``[Q, C, H, W]`` in [0, 1], rows ``[Q, D]``,
            lines of images ``[Q, P, C, H, W]``.
        class_names: what may be told.
        told: names of classes so far, ``[Q]``, ``skip`` for who cannot tell; None where nothing was.
    """

    cycle: int
    kind: str
    unit: str
    indices: NDArray[np.int64] | None
    names: tuple[str, ...]
    rows: tuple[Mapping[str, str] | None, ...]
    items: NDArray[np.float32]
    class_names: tuple[str, ...]
    told: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def open(self) -> tuple[int, ...]:
        """Positions in this query that nothing was told of."""
        return tuple(at for at, label in enumerate(self.told) if label is None)


class LabelSession:
    """Ask and tell: ``next`` gives the items to label, ``tell`` takes their classes.

    Every answer is on the disk when ``tell`` returns. A process may end at any moment: a session with the
    same settings goes on where this one stood. While it is open no other process can write the run; ``close``
    (or a ``with`` block) lets go of it.

    Attributes:
        spec: the run's settings.
        folder: where its records, questions and answers lie.
        records: of all complete cycles.
        waiting: what is asked now; None before ``next`` and when the budget is spent.
        finished: whether the budget is spent.
        progress: told of long work.
    """

    def __init__(
        self,
        bound: Bound,
        places: Places,
        *,
        who: str | None = None,
        fresh: bool = False,
        sheets: bool = False,
        observers: Sequence[Observer] = (),
        progress: Progress = silent,
        **watching: Any,
    ) -> None:
        """``watching``: warn and select_timeout, as for ``execute``.

        Raises:
            UserError: the settings are not those of a run that a person answers.
        """
        if bound.spec.oracle.mode != "human":
            raise UserError(
                f"A person answers with oracle.mode=human; this run has "
                f"oracle.mode={bound.spec.oracle.mode}. Leave oracle.mode out."
            )
        self.spec: RunSpec = bound.spec
        self.folder = RunFolder(bound.spec.folder(places.runs_dir))
        self.records: list[CycleRecord] = []
        self.waiting: AnnotationPendingError | None = None
        self.finished = False
        self._bound, self._places, self._fresh = bound, places, fresh
        self._asking = Asking(sheets, who)
        self._observers, self._watching = [_Records(self), *observers], watching
        self.progress = progress
        self._carried: Generator[PendingError] | None = None

    def next(self) -> Asked | None:
        """The items of the query that is open; where all were told, of the next one, after a training.

        Returns:
            the query, the same one again as long as answers are missing; None when the budget is spent.

        Raises:
            UserError: as ``alharness.run``; a row of a sheet that holds no class.
        """
        if self.finished:
            return None
        if self._carried is None:
            self._carried = steps(
                self._bound,
                self._places,
                fresh=self._fresh,
                asking=self._asking,
                observers=self._observers,
                # Looked up at each call: a page may come to listen, too.
                progress=lambda *told: self.progress(*told),
                **self._watching,
            )
            self._fresh = False  # what is told from now on is kept
        # From here on the answers are the run's: nothing can be corrected any more.
        self.waiting = None
        try:
            waiting = next(self._carried, None)
        except BaseException:
            # A generator that raised is over; the next call begins again at the last complete cycle.
            self.close()
            raise
        if waiting is None:
            self.close()
            self.finished = True
            let_go()
            return None
        assert isinstance(waiting, AnnotationPendingError)
        self.waiting = waiting
        return self.asked()

    def asked(self) -> Asked:
        """The query that is open, with what was told of it so far.

        Raises:
            UserError: there is none.
        """
        waiting = self._open()
        question = waiting.question
        given = waiting.desk.given(question)
        skip = self.choices.skip
        indices = [item.index for item in question.items]
        return Asked(
            question.cycle,
            question.kind,
            question.unit,
            None if question.kind != "items" else np.array(indices, dtype=np.int64),
            tuple(item.name for item in question.items),
            tuple(item.cells for item in question.items),
            waiting.items.numpy(),
            self.choices.class_names,
            tuple(_told(given.get(item.number), skip) for item in question.items),
        )

    @property
    def n_asked(self) -> int:
        """Annotations spent before the query that is open: what the budget counts."""
        if self.records:
            last = self.records[-1]
            return last.n_asked + (last.annotation.n_asked if last.annotation is not None else 0)
        if self.waiting is None or self.waiting.question.cycle < 0:
            return 0
        # Of the first query only those items were spent that were asked about; the data gave the others.
        first = read_questions(self.answers)[0]
        if first.cycle < 0:
            return len(first.items)
        return 0 if UNLABELLED in self.folder.facts().task.notes else self.spec.initial_size

    @property
    def n_differing(self) -> int | None:
        """Answers that are not the data's own class; None where the data have none to hold them against."""
        found = [record.annotation.n_wrong for record in self.records if record.annotation]
        facts = self.folder.facts().task
        if UNLABELLED in facts.notes or not found:
            return None
        return sum(n or 0 for n in found)

    @property
    def choices(self) -> Choices:
        """What may be told, while a query is open."""
        return self._open().desk.choices

    @property
    def originals(self) -> Originals:
        """Files and rows that the items of the pool were made from, while a query is open."""
        return self._open().desk.originals

    def tell(
        self,
        labels: Mapping[Any, Any] | Sequence[Any] | NDArray[Any],
        *,
        who: str | None = None,
        via: str = "python",
    ) -> int:
        """Take answers to the open query, all or none; they are on the disk when this returns.

        An item can be told again while its query is open: the last answer counts.

        Args:
            labels: classes in the order of the query; or by pool index or name of the item, for some of
                them. A class is its name, or its number where no name is a number; None: cannot tell.
                For a line: ``(class of its first image, number of the first one of the other class or 0)``.
            who: gave them.
            via: which way they came.

        Returns:
            how many items of the query are still open.

        Raises:
            UserError: items that were not asked about, no classes, or no query is open.
        """
        if self.waiting is None and not self.finished:
            self.next()
        waiting = self._open()
        question = waiting.question
        answers = {number: _cells(label) for number, label in _numbered(labels, question).items()}
        waiting.desk.take(question, answers, who=who, via=via)
        return len(question.items) - len(waiting.desk.given(question))

    def undo(self, *, via: str = "python") -> str:
        """Take the last answer to the open query back.

        Returns:
            name of its item.

        Raises:
            UserError: nothing was answered.
        """
        waiting = self._open()
        given = waiting.desk.given(waiting.question)
        if not given:
            raise UserError("Nothing was answered in this query: there is nothing to take back.")
        last = list(given)[-1]
        waiting.desk.take(waiting.question, {last: None}, via=via)
        return waiting.question.items[last - 1].name

    def close(self) -> None:
        """Let go of the run's folder and of the pool; what was told is kept. ``next`` opens it again."""
        carried, self._carried, self.waiting = self._carried, None, None
        if carried is not None:
            carried.close()

    def __enter__(self) -> LabelSession:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        spec = self.spec
        return (
            f"<labelling {spec.task.name} by {spec.strategy.name}, seed {spec.seed}; "
            f"answers in '{self.answers}'>"
        )

    @property
    def answers(self) -> Path:
        """The folder of questions and answers."""
        return self.folder.path / "annotations"

    def _open(self) -> AnnotationPendingError:
        if self.waiting is None:
            why = "the budget is spent" if self.finished else "next() asks the next one"
            raise UserError(f"No query is open: {why}.")
        return self.waiting


@dataclass
class _Records:
    """The observer that keeps a session's records."""

    session: LabelSession

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        self.session.records[:] = done

    def cycle(self, record: CycleRecord) -> None:
        self.session.records.append(record)

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        self.session.records[:] = records


def _told(answer: Answer | None, skip: str) -> str | None:
    if answer is None:
        return None
    return skip if answer.label is None else answer.label


def _cells(label: Any) -> tuple[Any, ...]:
    """An answer as it would be typed."""
    if isinstance(label, tuple | list):
        return tuple(_plain(part) for part in label)
    return (_plain(label),)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _numbered(labels: Any, question: Question) -> dict[int, Any]:
    """Answers by the numbers of their items.

    Raises:
        UserError: not as many as were asked, or of items that were not asked about.
    """
    items = question.items
    if not isinstance(labels, Mapping):
        given = list(labels)
        if isinstance(labels, str) or len(given) != len(items):
            raise UserError(
                f"Expected {len(items)} classes in the order of the query, or a mapping from pool index or "
                f"name to class; found {len(given)}. Nothing was taken."
            )
        return {item.number: label for item, label in zip(items, given, strict=True)}
    known: dict[Any, int] = {item.name: item.number for item in items}
    # An index is a number, a name is a text: they never meet.
    known |= {item.index: item.number for item in items if item.index is not None}
    strange = [key for key in labels if _plain(key) not in known]
    if strange:
        shown = ", ".join(repr(_plain(key)) for key in strange[:5])
        raise UserError(
            f"{len(strange)} of {len(labels)} answers are to items that this query does not ask about: "
            f"{shown}. Expected pool indices or names of the query. Nothing was taken."
        )
    return {known[_plain(key)]: label for key, label in labels.items()}
