"""Algorithm 1 of the paper, and nothing else: train, evaluate, select, annotate, extend, repeat.

``run`` is a generator of cycles. It opens no file, writes no record and prints nothing; whoever calls
it keeps what it wants (``recording.py``). It names no strategy. Where the oracle is a person, it yields what
it waits for, too, and goes on when it is asked for more.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from alharness import seeds
from alharness.availability import Availability
from alharness.border.guard import Guard
from alharness.engine.ending import Ending, Looked
from alharness.engine.evaluation import PrecisionOf, evaluate, query_entropy
from alharness.engine.judging import Judging
from alharness.engine.seat import Seat
from alharness.engine.stage import Stage, State
from alharness.errors import PendingError
from alharness.labelled import Annotation, LabelledSet
from alharness.learners.learner import FitReport, Learner
from alharness.oracle import Oracle
from alharness.queries import Query
from alharness.records import TestFigures
from alharness.strategy import CycleView
from alharness.timing import Effort, effort, now, synchronise


@dataclass(frozen=True)
class Sizes:
    """Table 1's numbers and the two seeds of a run."""

    seed: int
    data_seed: int
    budget: int
    query_size: int
    initial_size: int


class Clock:
    """Seconds of the harness's own steps, and of the cycle as a whole."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.efforts: dict[str, Effort] = {}
        self._start = self._now()

    def _now(self) -> float:
        synchronise(self.device)
        return now()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Attribute the time inside the ``with`` block to ``name``."""
        start = self._now()
        with effort() as self.efforts[name]:
            yield
        self.seconds[name] = self._now() - start

    def elapsed(self) -> float:
        """Seconds since the cycle began."""
        return self._now() - self._start


@dataclass(frozen=True)
class Asked:
    """The second half of a cycle: what was asked, and what came back.

    Attributes:
        view: what the strategy saw, with its stopwatch and counters.
        query, annotation: what was asked and what came back.
        entropy: entropy (nats) of each queried item before annotation, ``[Q]``; lines: of their images.
    """

    view: CycleView
    query: Query
    annotation: Annotation
    entropy: NDArray[np.float32]


@dataclass(frozen=True)
class Cycle:
    """What one cycle produced; the last one of a run asks nothing more.

    Attributes:
        number: of the cycle, from 0.
        labelled: what its classifier was trained on.
        learner, fit: the classifier, and how its training went.
        test: the classifier on the test set.
        clock: seconds so far.
        asked: the query and its answer; None in the last cycle.
        looked: what stopping rules know of it; None in a run that keeps no stop set.
        stopped: the rule that ended the run here, and why.
    """

    number: int
    labelled: LabelledSet
    learner: Learner
    fit: FitReport
    test: TestFigures
    clock: Clock
    asked: Asked | None = None
    looked: Looked | None = None
    stopped: str | None = None


@dataclass(frozen=True)
class History:
    """Where a stopped run goes on.

    Attributes:
        initial: the annotation of the initial set.
        asked: pool indices asked about so far, int64, the initial set included.
        annotations: one per complete cycle.
        classifier: parameters of the last complete cycle's, by name; None from scratch.
    """

    initial: Annotation
    asked: torch.Tensor
    annotations: tuple[Annotation, ...] = ()
    classifier: State | None = None


def run(
    stage: Stage,
    oracle: Oracle,
    test_targets: NDArray[np.int64],
    sizes: Sizes,
    history: History,
    precision: PrecisionOf | None = None,
    ending: Ending | None = None,
    judging: Judging | None = None,
) -> Iterator[Cycle | PendingError]:
    """Active learning until the budget is spent, or a stopping rule ends it (Algorithm 1).

    Args:
        stage: the prepared strategy before its problem.
        oracle: the sole holder of the pool's targets.
        test_targets: classes of the test set, int64 ``[T]``: for evaluation only.
        sizes: budget, sizes, seeds.
        history: what ``initial.start`` gave, or the complete cycles of a stopped run, after which the rest
            follows as if it had not been stopped.
        precision: what the average precision is of.
        judging: judges candidates on the test set, for a bound that is marked as one; None for a strategy.
        ending: the run's stop set and stopping rules, told of the cycles before; None for a run without.

    Yields:
        one ``Cycle`` after another; what is not consumed is not computed. Before a cycle that a person has
        not answered yet, what is waited for, again and again until it is there.

    Raises:
        UserError: a classifier's training diverged.
        PluginError: the strategy broke the contract.
    """
    problem = stage.problem
    labelled = LabelledSet().extended(history.initial)
    for annotation in history.annotations:
        labelled = labelled.extended(annotation)
    available = Availability(problem.pool.n, history.asked)
    number = len(history.annotations)
    before = history.classifier
    guard = Guard(stage.author, problem.pool, problem.test, oracle.vault)

    while True:
        clock = Clock(problem.pool.device)
        seed = seeds.derive(sizes.seed, "fit", number)
        with oracle.vault.sealed():
            with clock.span("fit"):  # step 1
                learner, report = stage.fit(labelled, seed=seed, before=before)
            stage.look_at(learner, labelled, seed=seed, before=before)
        classifier = stage.fits.author
        with clock.span("evaluate"), classifier.blamed("predictions of the test set"):
            test = evaluate(learner, problem.test, test_targets, precision)
        if test.were_measured and not math.isfinite(test.log_loss):
            raise stage.diverged(report)

        looked = None
        if ending is not None:
            with clock.span("stop"):
                looked = ending.look(stage, number, labelled, learner, report, seed=seed)

        remaining = min(sizes.budget - labelled.n_asked, len(available))
        if remaining <= 0 or stage.strategy.labels_everything:
            guard.conclude(number)
            yield Cycle(number, labelled, learner, report, test, clock, looked=looked)
            return
        if ending is not None:
            with clock.span("stop rules"):
                stopped = ending.reason()
            if stopped is not None:
                guard.conclude(number)
                yield Cycle(number, labelled, learner, report, test, clock, None, looked, stopped)
                return

        size = min(sizes.query_size, remaining)
        seat = Seat(stage, labelled, learner, available)
        if judging is not None:
            seat.judge = judging.of(stage, labelled, seeds.derive(sizes.seed, "fit", number + 1))
        view, query = guard.ask(seat, size, cycle=number, seed=sizes.seed)  # steps 2-4
        with classifier.blamed("predictions of the items asked about"):
            entropy = query_entropy(learner, query.seen(problem.pool), problem.pool.block_size())
        annotation = yield from _answered(oracle, query, number, clock)  # step 5

        asked = Asked(view, query, annotation, entropy)
        if ending is not None:
            ending.asked(float(entropy.mean()))
        yield Cycle(number, labelled, learner, report, test, clock, asked, looked)

        if problem.learner.warm_start:
            before = learner.state()
        labelled = labelled.extended(annotation)  # step 6
        available = available.taking(query.touched)
        number += 1


def _answered(
    oracle: Oracle, query: Query, number: int, clock: Clock
) -> Generator[PendingError, None, Annotation]:
    """The oracle's answer; the time in which a person is waited for is time of the annotation."""
    waited = 0.0
    while True:
        try:
            with clock.span("annotate"):
                annotation = oracle.annotate(query, cycle=number)
        except PendingError as waiting:
            since = clock.elapsed()
            yield waiting
            waited += clock.elapsed() - since
        else:
            clock.seconds["annotate"] += waited
            return annotation
