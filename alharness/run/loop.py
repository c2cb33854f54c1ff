"""Algorithm 1 of the paper, and nothing else: train, evaluate, select, annotate, extend, repeat.

``run`` is a generator of cycles. It opens no file, writes no log and prints nothing; whoever calls
it keeps the records. It names no strategy.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from alharness import seeds
from alharness.errors import UserError
from alharness.labelled import Annotation, LabelledSet
from alharness.learners.learner import FitReport, Learner, LearnerFactory
from alharness.oracle import Oracle
from alharness.pool import Pool
from alharness.queries import ImageQuery, LineQuery, PoolQuery, Query
from alharness.records import (
    INITIAL,
    AnnotationFigures,
    CycleRecord,
    FitFigures,
    Ledger,
    QueryFigures,
    TestFigures,
    Times,
)
from alharness.run.evaluation import evaluate, query_entropy
from alharness.strategy import CycleView, Preparation, Strategy, check_query
from alharness.timing import synchronise


@dataclass(frozen=True)
class Problem:
    """A task opened on a device: what the loop works on.

    Attributes:
        pool, test: items without targets.
        test_targets: classes of the test set, int64 ``[T]``: for evaluation only.
        oracle: the sole holder of the pool's targets.
        n_classes: number of classes.
        learner_factory: makes a fresh classifier.
    """

    pool: Pool
    test: Pool
    test_targets: NDArray[np.int64]
    oracle: Oracle
    n_classes: int
    learner_factory: LearnerFactory


@dataclass(frozen=True)
class Sizes:
    """Table 1's numbers and the two seeds of a run."""

    seed: int
    data_seed: int
    budget: int
    query_size: int
    initial_size: int


@dataclass(frozen=True)
class Cycle:
    """What one cycle produced; the last one of a run has no query.

    Attributes:
        record: the line of truth.
        query, annotation: what was asked and what came back.
        entropy: entropy (nats) of each queried item before annotation, ``[Q]``; lines: of their images.
    """

    record: CycleRecord
    query: Query | None = None
    annotation: Annotation | None = None
    entropy: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class History:
    """Where a stopped run goes on.

    Attributes:
        initial: the annotation of the initial set.
        asked: pool indices asked about so far, int64, the initial set included.
        annotations: one per complete cycle.
    """

    initial: Annotation
    asked: torch.Tensor
    annotations: tuple[Annotation, ...]


def initial_indices(n: int, sizes: Sizes) -> torch.Tensor:
    """The initial set: the same for every strategy at equal ``data_seed``; int64, in drawn order."""
    drawn = seeds.rng(sizes.data_seed, "initial").choice(n, size=sizes.initial_size, replace=False)
    return torch.from_numpy(drawn.astype(np.int64))


def start(problem: Problem, strategy: Strategy, sizes: Sizes) -> History:
    """The annotated initial set of a new run."""
    n = problem.pool.n
    if sizes.budget > n and not strategy.asks_synthetic:
        raise UserError(
            f"The budget ({sizes.budget}) is larger than the pool ({n} items). Lower --budget."
        )
    if sizes.initial_size > n:
        raise UserError(
            f"The initial set ({sizes.initial_size}) is larger than the pool ({n} items). "
            "Lower --initial-size."
        )
    everything = strategy.labels_everything
    indices = torch.arange(n) if everything else initial_indices(n, sizes)
    initial = problem.oracle.annotate(PoolQuery(indices), cycle=INITIAL)
    return History(initial, indices, ())


def run(
    problem: Problem,
    strategy: Strategy,
    sizes: Sizes,
    preparation: Preparation,
    history: History | None = None,
) -> Iterator[Cycle]:
    """Active learning until the budget is spent (Algorithm 1).

    Args:
        problem: the opened task.
        strategy: what selects.
        sizes: budget, sizes, seeds.
        preparation: what the strategy may see before cycle 0.
        history: complete cycles of a stopped run; the rest follows as if it had not been stopped.

    Yields:
        one ``Cycle`` after another; what is not consumed is not computed.
    """
    reason = strategy.unsuitable(problem.n_classes, problem.pool.item_shape)
    if reason is not None:
        raise UserError(f"This strategy cannot serve the data set '{preparation.task}': {reason}.")
    history = history or start(problem, strategy, sizes)
    name, device = type(strategy).__name__, problem.pool.device
    adaptation = strategy.prepare(preparation)
    pool, test, factory = problem.pool, problem.test, problem.learner_factory
    if adaptation is not None:
        pool = adaptation.pool or pool
        test = adaptation.test or test
        factory = adaptation.learner_factory or factory

    labelled = LabelledSet().extended(history.initial)
    for annotation in history.annotations:
        labelled = labelled.extended(annotation)
    asked, is_asked = history.asked, torch.zeros(pool.n, dtype=torch.bool)
    is_asked[asked] = True
    cycle = len(history.annotations)
    ledger: Ledger | None = preparation.ledger if cycle == 0 else None

    while True:
        clock = _Clock(device)
        with clock.span("fit"):  # step 1
            learner = factory(pool.item_shape, problem.n_classes, device)
            report = learner.fit(labelled, pool, seed=seeds.derive(sizes.seed, "fit", cycle))
        with clock.span("evaluate"):
            figures = evaluate(learner, test, problem.test_targets)

        remaining = sizes.budget - labelled.n_asked
        n_left = pool.n - len(asked)
        if remaining <= 0 or strategy.labels_everything or n_left == 0:
            yield Cycle(_record(cycle, labelled, learner, report, figures, clock, ledger))
            return

        view = CycleView(
            pool=pool,
            labelled=labelled,
            is_labelled=is_asked,
            asked=asked,
            learner=learner,
            n_classes=problem.n_classes,
            cycle=cycle,
            seed=sizes.seed,
        )
        query_size = min(sizes.query_size, remaining, n_left)
        with view.stopwatch.phase("other"):  # steps 2-4: what a strategy leaves unnamed
            query = strategy.select(view, query_size)
        check_query(query, view, query_size, name)
        entropy = query_entropy(learner, _items(query, pool), pool.block_size())
        with clock.span("annotate"):  # step 5
            annotation = problem.oracle.annotate(query, cycle=cycle)

        record = _record(
            cycle, labelled, learner, report, figures, clock, ledger,
            view=view, query=query, annotation=annotation, entropy=entropy,
        )  # fmt: skip
        yield Cycle(record, query, annotation, entropy)

        labelled = labelled.extended(annotation)  # step 6
        is_asked[asked_indices(query)] = True
        asked = torch.cat([asked, asked_indices(query)])
        cycle, ledger = cycle + 1, None


def asked_indices(query: Query) -> torch.Tensor:
    """Pool items that a query makes unavailable: those asked about, and those that lines run through."""
    if isinstance(query, PoolQuery):
        return query.indices
    if isinstance(query, LineQuery):
        return query.pool_indices
    return torch.empty(0, dtype=torch.int64)


def _items(query: Query, pool: Pool) -> torch.Tensor:
    """What was asked about, as the classifier sees it."""
    if isinstance(query, PoolQuery):
        return pool.gather(query.indices)
    if isinstance(query, ImageQuery):
        return query.items.to(pool.device)
    assert isinstance(query, LineQuery)
    return query.points.flatten(0, 1).to(pool.device)


class _Clock:
    """Seconds of the harness's own steps, and of the cycle as a whole."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._start = self._now()

    def _now(self) -> float:
        synchronise(self.device)
        return time.perf_counter()

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        start = self._now()
        yield
        self.seconds[name] = self._now() - start

    def elapsed(self) -> float:
        return self._now() - self._start


def _record(
    cycle: int,
    labelled: LabelledSet,
    learner: Learner,
    report: FitReport,
    figures: TestFigures,
    clock: _Clock,
    ledger: Ledger | None,
    *,
    view: CycleView | None = None,
    query: Query | None = None,
    annotation: Annotation | None = None,
    entropy: NDArray[np.float32] | None = None,
) -> CycleRecord:
    phases = dict(view.stopwatch.seconds) if view is not None else {}
    bookkeeping = phases.pop("bookkeeping", 0.0)
    select_s = sum(phases.values()) if view is not None else None
    labelled_digest, learner_digest = labelled.digest(), learner.digest()
    known = sum(clock.seconds.values()) + (select_s or 0.0)
    return CycleRecord(
        cycle=cycle,
        n_labelled=len(labelled),
        n_asked=labelled.n_asked,
        n_synthetic=labelled.n_synthetic,
        cost=labelled.cost,
        labelled_digest=labelled_digest,
        learner_digest=learner_digest,
        fit=FitFigures(
            steps=report.steps, train_loss=report.train_loss, converged=report.converged
        ),
        test=figures,
        query=_query_figures(query, entropy),
        annotation=_annotation_figures(annotation, learner.n_classes),
        work=dict(sorted(view.work.counts.items())) if view is not None else {},
        time=Times(
            fit_s=clock.seconds["fit"],
            evaluate_s=clock.seconds["evaluate"],
            select_s=select_s,
            annotate_s=clock.seconds.get("annotate"),
            bookkeeping_s=bookkeeping,
            harness_s=clock.elapsed() - known,
            phases=phases,
            preparation=[entry.as_dict() for entry in ledger.entries] if ledger else None,
        ),
        ts_ms=time.time_ns() // 1_000_000,
        final=query is None,
    )


def _query_figures(query: Query | None, entropy: NDArray[np.float32] | None) -> QueryFigures | None:
    if query is None or entropy is None:
        return None
    if isinstance(query, PoolQuery):
        kind, values = "pool", query.indices
    elif isinstance(query, ImageQuery):
        kind, values = "image", query.items.cpu()
    else:
        assert isinstance(query, LineQuery)
        kind, values = "line", query.points.cpu()
    return QueryFigures(
        kind=kind,
        size=len(query),
        entropy_mean=float(entropy.mean()),
        entropy_median=float(np.median(entropy)),
        digest=hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16],
        diagnostics={key: float(value) for key, value in sorted(query.diagnostics.items())},
    )


def _annotation_figures(annotation: Annotation | None, n_classes: int) -> AnnotationFigures | None:
    if annotation is None:
        return None
    targets = annotation.targets
    if annotation.item_targets is not None:
        targets = torch.cat([targets, annotation.item_targets])
    return AnnotationFigures(
        n_asked=annotation.n_asked,
        n_rejected=annotation.n_rejected,
        n_labels=len(targets),
        cost=annotation.cost,
        class_histogram=torch.bincount(targets, minlength=n_classes).tolist(),
    )
