"""A strategy is asked under guard: what it must leave alone is compared, and it is asked twice at times.

Marks that cost microseconds are compared in every cycle. The classifier's predictions are compared in a
session's first cycles and by sample, drawn where no plug-in can foresee it. Reading the pool and the test
set, and asking again with the same view, is done in the first cycle, and later as far as it stays a small
share of the time that went by. All of it stands in ``harness_s`` of the record.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

# By name: see timing.
from time import perf_counter
from typing import Protocol, TypeVar

import torch

from alharness.availability import Availability
from alharness.border.author import Author
from alharness.border.call import as_before, settled
from alharness.border.marks import (
    Classifier,
    contents,
    label_marks,
    learner_marks,
    pool_marks,
    probe_of,
    reseeded,
    same_predictions,
)
from alharness.border.state import Marks, changed, global_marks
from alharness.border.threads import Begun, running
from alharness.border.vault import Vault
from alharness.labelled import LabelledSet
from alharness.pool import Pool
from alharness.queries import PoolQuery, Query
from alharness.timing import Stopwatch

#: Looks of a session that are taken in any case, at its first cycle, unless a selection takes longer than
#: ``LONG_S``: what doubles a selection of minutes is left to 'alharness check'. One look is one more
#: selection: about 1 % of a run of forty cycles that does little but select (measured on mnist-two).
FIRST_LOOKS = 1
LONG_S = 2.0
#: Share of the time gone by that costly looks may take after that.
SHARE = 0.002
#: Cycles of a session in which predictions are compared in any case, and one in how many after them: two
#: forward passes are a quarter of what a cycle's guard costs.
FIRST_PROBES = 3
PROBE_ONE_IN = 4
#: Selections whose threads are watched after them.
N_WATCHED = 4
#: Query's share that must agree on a GPU, whose sums may differ in their last bits from call to call.
AGREEMENT = 0.5


class View(Protocol):
    """What a strategy sees, as far as the guard asks: its stopwatch."""

    stopwatch: Stopwatch


AView = TypeVar("AView", bound=View)


class Seat(Protocol[AView]):
    """Where a strategy is asked (``engine.seat``), as far as the guard asks."""

    @property
    def labelled(self) -> LabelledSet: ...

    @property
    def learner(self) -> Classifier: ...

    @property
    def available(self) -> Availability: ...

    def view(self, *, cycle: int, seed: int | None) -> AView:
        """What the strategy may see; the same one each time."""

    def select(self, view: AView, size: int) -> Query:
        """The strategy's query, checked."""


class Guard:
    """Asks one strategy, cycle by cycle.

    Args:
        author: whom messages name.
        pool, test: the problem as the strategy wants it.
        vault: sealed while the strategy chooses.
    """

    def __init__(self, author: Author, pool: Pool, test: Pool, vault: Vault) -> None:
        self.author, self.pool, self.test, self.vault = author, pool, test, vault
        self._shapes: dict[str, tuple[object, ...]] = {}
        self._began = perf_counter()
        self._spent = 0.0
        self._n_looks = 0
        self._n_asked = 0
        self._items = self._contents()
        self._probe = probe_of(test)
        self._begun: list[Begun] = []

    def ask(
        self, seat: Seat[AView], size: int, *, cycle: int, seed: int | None = None
    ) -> tuple[AView, Query]:
        """What the strategy saw, and its query of ``size`` items.

        Raises:
            PluginError: the answer breaks the contract, or what must be left alone has changed.
        """

        def view() -> AView:
            return seat.view(cycle=cycle, seed=seed)

        def select(view: AView) -> Query:
            return seat.select(view, size)

        self._refuse_work(cycle)  # of threads that the last selection left behind
        # Taken once: the view that is asked is the one whose times are recorded.
        shown, learner = view(), seat.learner
        own, before, threads = self._marks(seat), global_marks(), running()
        attempts = Vault.attempts
        self._n_asked += 1
        predicted = learner.log_probs(self._probe) if self._probes() else None

        def again() -> None:
            with self.vault.sealed():
                self._require_equal(query, select(view()), cycle)

        with as_before(before):
            with self.vault.sealed():
                query = select(shown)
            self._begun.append(Begun(threads))
            self._refuse_changes(changed(own, self._marks(seat)), cycle)
            self._refuse_changes(settled(before, threads, again), cycle)
        self._refuse_work(cycle, at_once=True)
        if predicted is not None and not same_predictions(
            predicted, learner.log_probs(self._probe)
        ):
            self._refuse_change("the classifier's predictions", cycle)
        if Vault.attempts > attempts:
            self.author.refuse("no look at hidden targets", "the oracle asked", cycle=cycle)
        self._same_arrays(query, cycle)
        if self._may_look(sum(shown.stopwatch.seconds.values())):
            with self._look():
                self._compare_items(cycle)
                self._ask_again(view, select, query, cycle)
        return shown, query

    def conclude(self, cycle: int) -> None:
        """The last look of a run, before its last record is written.

        Raises:
            PluginError: the pool or the test set is not what it was.
        """
        self._compare_items(cycle)
        self._refuse_work(cycle)

    def _marks(self, seat: Seat[AView]) -> Marks:
        return {
            **pool_marks("the pool", self.pool),
            **pool_marks("the test set", self.test),
            **label_marks(seat.labelled, seat.available),
            **learner_marks(seat.learner),
        }

    def _refuse_changes(self, touched: list[str], cycle: int) -> None:
        if touched:
            self._refuse_change(touched[0], cycle)

    def _refuse_work(self, cycle: int, *, at_once: bool = False) -> None:
        """Refuse threads of a selection that compute after it: their time is in no record."""
        for begun in self._begun:
            at_work = begun.watch() if at_once else begun.at_work()
            if at_work is not None:
                self.author.refuse("select to end its work with its answer", at_work, cycle=cycle)
        # Idle threads stay watched once more, for the sake of those that begin later.
        self._begun = [begun for begun in self._begun if begun][-N_WATCHED:]

    def _refuse_change(self, what: str, cycle: int) -> None:
        self.author.refuse(
            "select to leave all as it is", f"changed {what}; start over with --fresh", cycle=cycle
        )

    def _contents(self) -> Marks:
        return {
            "the pool's items": contents(self.pool),
            "the test set's items": contents(self.test),
        }

    def _compare_items(self, cycle: int) -> None:
        self._refuse_changes(changed(self._items, self._contents()), cycle)

    def _same_arrays(self, query: Query, cycle: int) -> None:
        """Arrays of a name are rows of one table over all cycles."""
        for name, values in query.arrays.items():
            found = (values.dtype.str, *values.shape[1:])
            known = self._shapes.setdefault(name, found)
            if found != known:
                self.author.refuse(
                    f"rows of {known} in the array '{name}', as in earlier cycles",
                    f"{found}",
                    cycle=cycle,
                )

    def _probes(self) -> bool:
        """Whether predictions are compared in this cycle."""
        return self._n_asked <= FIRST_PROBES or secrets.randbelow(PROBE_ONE_IN) == 0

    def _may_look(self, select_s: float) -> bool:
        """Whether a look, which takes about as long as the selection, may be taken now."""
        gone = perf_counter() - self._began
        at_first = self._n_looks < FIRST_LOOKS and select_s < LONG_S
        return at_first or self._spent + select_s < SHARE * gone

    @contextmanager
    def _look(self) -> Iterator[None]:
        start = perf_counter()
        yield
        self._n_looks += 1
        self._spent += perf_counter() - start

    def _ask_again(
        self,
        view: Callable[[], AView],
        select: Callable[[AView], Query],
        query: Query,
        cycle: int,
    ) -> None:
        """With the same view, other decoys for targets and other global random states."""
        vault, author = self.vault, self.author

        def once_more(*, otherwise: bool) -> Query:
            vault.deal(int(otherwise))
            with vault.sealed(), reseeded() if otherwise else nullcontext():
                return select(view())

        try:
            # First with all else changed that could be looked at: whoever agrees follows the view alone.
            other = once_more(otherwise=True)
            if self._agree(query, other):
                return
            # It differs: by what was changed, or by itself? The same call without the changes tells.
            again = once_more(otherwise=False)
        finally:
            vault.deal(0)
        if self._agree(again, query):
            author.refuse(
                "a query that follows from the view",
                "one that follows what looks like hidden targets, or the global random state",
                cycle=cycle,
            )
        self._refuse_state(cycle)

    def _require_equal(self, query: Query, other: Query, cycle: int) -> None:
        if not self._agree(query, other):
            self._refuse_state(cycle)

    def _refuse_state(self, cycle: int) -> None:
        self.author.refuse(
            "the same query for the same view",
            "another one when asked again: select carries state from call to call, or is not "
            "deterministic (draw from view.rng)",
            cycle=cycle,
        )

    def _agree(self, one: Query, other: Query) -> bool:
        if self.pool.device.type == "cpu":
            return all(map(torch.equal, one.content(), other.content()))
        if isinstance(one, PoolQuery) and isinstance(other, PoolQuery):
            shared = torch.isin(one.indices, other.indices).float().mean()
            return float(shared) >= AGREEMENT
        return True  # synthetic items from a GPU: the check of the plug-in compares them
