"""The initial set: drawn, or chosen by a strategy; the same for every run that shares its settings (R1).

Whatever finds it follows from ``data_seed`` and never from the strategy that goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from alharness import seeds
from alharness.artefacts import Supply
from alharness.availability import Availability
from alharness.border.guard import Guard
from alharness.engine.loop import History, Sizes
from alharness.engine.seat import Seat
from alharness.engine.stage import Networks, Problem, Stage, set_stage
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.learner import FitReport, Learner
from alharness.oracle import Oracle
from alharness.pool import Pool
from alharness.queries import PoolQuery
from alharness.records import INITIAL
from alharness.records.facts import StartFacts
from alharness.spec import STARTS
from alharness.strategy import CycleView, Strategy

#: Finds the indices of an initial set of so many items, int64, in the order in which they are labelled.
Choose = Callable[[Sizes], torch.Tensor]


def start(
    strategy: Strategy, n: int, oracle: Oracle, sizes: Sizes, choose: Choose | None = None
) -> History:
    """The annotated initial set of a new run on a pool of n items.

    Args:
        choose: finds the initial set; by default it is drawn uniformly.

    Raises:
        UserError: the pool is smaller than what is to be asked.
    """
    if sizes.budget > n and not strategy.asks_synthetic:
        raise UserError(
            f"The budget ({sizes.budget}) is larger than the pool ({n} items). Lower --budget."
        )
    if sizes.initial_size > n:
        raise UserError(
            f"The initial set ({sizes.initial_size}) is larger than the pool ({n} items). "
            "Lower --initial-size."
        )
    if strategy.labels_everything:
        indices = torch.arange(n)
    else:
        # What has a class where others have none is the start; only what it lacks is chosen and asked about.
        given = oracle.given()
        indices = given
        if (lacking := sizes.initial_size - len(given)) > 0:
            chosen = initial_indices(n, sizes) if choose is None else choose(sizes)
            indices = torch.cat([given, chosen[~torch.isin(chosen, given)][:lacking]])
    return History(oracle.annotate(PoolQuery(indices), cycle=INITIAL), indices)


def initial_indices(n: int, sizes: Sizes) -> torch.Tensor:
    """A uniform draw: the same for every strategy at equal ``data_seed``; int64, in drawn order."""
    drawn = seeds.rng(sizes.data_seed, "initial").choice(n, size=sizes.initial_size, replace=False)
    return torch.from_numpy(drawn.astype(np.int64))


def stratified_indices(targets: NDArray[np.int64], n_classes: int, sizes: Sizes) -> torch.Tensor:
    """A draw that has each class by its share of the pool, and at least once where there is room.

    It knows the labels of the whole pool, which no annotator does: it takes luck out of a comparison.

    Args:
        targets: classes of the pool, int64 ``[N]``.

    Raises:
        UserError: items without a class.
    """
    if (targets < 0).any():
        raise UserError(
            f"A stratified start draws from each class, and {int((targets < 0).sum()):,} items of the pool "
            "have no label. Use --initial random, or a strategy that needs no classifier."
        )
    counts = np.bincount(targets, minlength=n_classes)
    wanted = _shares(counts, sizes.initial_size)
    rng = seeds.rng(sizes.data_seed, "initial", "stratified")
    of_class = [
        rng.choice(np.flatnonzero(targets == c), size=size, replace=False)
        for c, size in enumerate(wanted)
    ]
    # Mixed: the order of labels is the order of batches, and nobody labels class by class.
    return torch.from_numpy(rng.permutation(np.concatenate(of_class)).astype(np.int64))


def _shares(counts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """How many of each class, int64 ``[C]``: one each while it lasts, the rest by largest remainders.

    Where there is room for some classes only, the most frequent ones come first.
    """
    present = np.flatnonzero(counts)
    wanted = np.zeros(len(counts), dtype=np.int64)
    first = present[np.argsort(-counts[present], kind="stable")][:size]
    wanted[first] = 1
    # One at a time to the class that is furthest below its share: no class gets more than it has.
    for _ in range(size - len(first)):
        lacking = np.where(wanted < counts, counts * size / counts.sum() - wanted, -np.inf)
        wanted[int(lacking.argmax())] += 1
    return wanted


@dataclass(frozen=True)
class Chosen:
    """An initial set that a strategy chose, and what that cost.

    Attributes:
        indices: pool indices in the order of the query, int64.
        facts: for the run's ``env.json``.
    """

    indices: torch.Tensor
    facts: StartFacts


def choose_by(
    starter: Strategy,
    name: str,
    problem: Problem,
    networks: Networks,
    supply: Supply,
    oracle: Oracle,
    sizes: Sizes,
    *,
    distribution: str = "?",
    select_timeout: float = 0.0,
) -> Chosen:
    """The initial set as a strategy chooses it: one query, before there is a label or a classifier.

    It is prepared and asked under guard, as in a cycle, with targets sealed. All its randomness follows from
    the data seed: every run that shares it, the settings and the pool begins with the same items.

    Args:
        starter: not yet prepared.
        name: as its user typed it.
        supply: with a ledger of its own: what is prepared here is no cost of the run's own strategy.

    Raises:
        UserError: it asks for a classifier, moves the problem elsewhere, or asks about other items than the
            pool's.
        PluginError: it breaks the contract.
    """
    seed = seeds.derive(sizes.data_seed, "initial", "strategy")
    with oracle.vault.sealed(), supply.ledger.entry("start"):
        stage = set_stage(
            starter,
            replace(problem, seed=seed),
            networks,
            supply,
            name=name,
            select_timeout=select_timeout,
        )
    if stage.adapted:
        raise _refusal(name, "it moves the problem into a space of its own")
    pool = stage.problem.pool
    guard = Guard(stage.author, pool, stage.problem.test, oracle.vault)
    seat = _ColdSeat(
        stage,
        LabelledSet(),
        _Unasked(pool.item_shape, problem.n_classes, pool.device),
        Availability(pool.n, torch.empty(0, dtype=torch.int64)),
    )
    view, query = guard.ask(seat, sizes.initial_size, cycle=0, seed=seed)
    guard.conclude(0)
    if not isinstance(query, PoolQuery):
        raise _refusal(name, "it asks about items that are not in the pool")
    facts = StartFacts(
        distribution=distribution,
        select_s=sum(view.stopwatch.seconds.values()),
        prepare_s=supply.ledger.entries[-1].seconds,
    )
    if starter.caveat:
        facts = facts.model_copy(update={"caveat": str(starter.caveat)})
    return Chosen(query.indices, facts)


def _refusal(name: str, reason: str) -> UserError:
    return UserError(f"'{name}' cannot choose the initial set: {reason}. {STARTS}")


@dataclass
class _ColdSeat(Seat):
    """Where a strategy is asked for the initial set; what it sees as classifier refuses to be asked."""

    def view(self, *, cycle: int = 0, seed: int | None = None) -> CycleView:
        view = super().view(cycle=cycle, seed=seed)
        view.learner = _NoClassifier(self.stage, self.pool)
        return view


class _Unasked(Learner):
    """What the guard compares where there is no classifier: nothing, before and after."""

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        raise NotImplementedError("there is nothing to be trained on yet")

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        return items.new_zeros(len(items), self.n_classes)

    def features(self, items: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("the guard asks for predictions alone")

    def state(self) -> dict[str, torch.Tensor]:
        return {}


class _NoClassifier(Learner):
    """Stands in a view before the first labels: whoever asks it cannot choose them."""

    def __init__(self, stage: Stage, pool: Pool) -> None:
        super().__init__(pool.item_shape, stage.problem.n_classes, pool.device)
        self._name = stage.name

    def _refuse(self, what: str) -> UserError:
        return _refusal(
            self._name,
            f"it asks the classifier for {what}, and before the first labels there is none",
        )

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        raise self._refuse("a fit")

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        raise self._refuse("predictions")

    def features(self, items: torch.Tensor) -> torch.Tensor:
        raise self._refuse("features")

    def state(self) -> dict[str, torch.Tensor]:
        raise self._refuse("parameters")

    def sample_log_probs(self, items: torch.Tensor, n: int, rng: torch.Generator) -> torch.Tensor:
        raise self._refuse("predictions")

    def head_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        raise self._refuse("its last layer")
