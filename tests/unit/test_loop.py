"""Algorithm 1: equal starts, exact resume, checked answers, no look at hidden targets."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from alharness.artefacts import Supply
from alharness.engine.initial import initial_indices, start
from alharness.engine.loop import Cycle, History, Sizes, run
from alharness.engine.recording import record_of
from alharness.engine.stage import Problem, set_stage
from alharness.errors import UserError
from alharness.labelled import Annotation
from alharness.learners.learner import LearnerSettings
from alharness.oracle import Oracle
from alharness.pool import ArrayPool
from alharness.records import CycleRecord, Ledger
from alharness.registry import resolve_strategy
from alharness.strategy import CycleView, PoolQuery, Strategy

#: As the fixture of the same name.
Blobs = namedtuple("Blobs", ["problem", "oracle", "test_targets"])
SIZES = Sizes(seed=0, data_seed=0, budget=50, query_size=10, initial_size=20)


def going(
    blobs: Any, strategy: Strategy, sizes: Sizes = SIZES, history: History | None = None
) -> Iterator[Cycle]:
    """A run of a strategy that prepares nothing."""
    supply = Supply(None)  # type: ignore[arg-type]
    begin = history or start(strategy, blobs.problem.pool.n, blobs.oracle, sizes)
    stage = set_stage(strategy, blobs.problem, None, supply)  # type: ignore[arg-type]
    return run(stage, blobs.oracle, blobs.test_targets, sizes, begin)


def cycles(blobs: Any, strategy: Strategy, *more: Any, **options: Any) -> list[Cycle]:
    return list(going(blobs, strategy, *more, **options))


def records_of(found: Iterable[Cycle]) -> list[CycleRecord]:
    return [record_of(cycle, Ledger()) for cycle in found]


def first_of(blobs: Any, name: str, sizes: Sizes = SIZES) -> CycleRecord:
    return record_of(next(going(blobs, resolve_strategy(name), sizes)), Ledger())


def test_a_run_spends_its_budget_and_counts_what_it_did(blobs: Any) -> None:
    records = records_of(cycles(blobs, resolve_strategy("max-entropy")))
    assert [record.n_labelled for record in records] == [20, 30, 40, 50]
    assert [record.final for record in records] == [False, False, False, True]
    assert [record.work.get("pool_items_scored") for record in records] == [280, 270, 260, None]
    last = records[-1]
    assert last.query is None
    assert last.time.select_s is None
    for record in records[:-1]:
        assert record.query is not None
        assert record.annotation is not None
        assert sum(record.annotation.class_histogram) == record.annotation.n_labels == 10
        phases = record.time.phases
        assert record.time.select_s == pytest.approx(sum(phases.values()))
        assert {"score", "top_k"} <= set(phases)
        assert "bookkeeping" not in phases


def test_sizes_that_do_not_divide_end_on_the_budget(blobs: Any) -> None:
    records = records_of(cycles(blobs, resolve_strategy("random"), replace(SIZES, budget=45)))
    assert [record.n_labelled for record in records] == [20, 30, 40, 45]


def test_cycle_0_is_equal_to_the_last_bit_for_all_strategies(blobs: Any) -> None:
    first = [
        first_of(blobs, name)
        for name in ("random", "max-entropy", "margin", "subset:50:max-entropy")
    ]
    starts = {
        (record.labelled_digest, record.learner_digest, record.test.model_dump_json())
        for record in first
    }
    assert len(starts) == 1
    assert len({record.query.digest for record in first if record.query}) > 1


def test_the_two_seeds_vary_apart(blobs: Any) -> None:
    settings = LearnerSettings(kind="mlp", width=8, min_steps=5, epochs=0, batch_size=8)
    networked = blobs._replace(problem=replace(blobs.problem, learner=settings))

    def first(seed: int, data_seed: int) -> CycleRecord:
        sizes = replace(SIZES, seed=seed, data_seed=data_seed)
        return first_of(networked, "random", sizes)

    base, other_model, other_data = first(0, 0), first(1, 0), first(0, 1)
    assert base.labelled_digest == other_model.labelled_digest != other_data.labelled_digest
    assert base.learner_digest != other_model.learner_digest


def continued(blobs: Any, done: list[Cycle]) -> History:
    """What a run that stopped after ``done`` knows."""
    begin = start(resolve_strategy("random"), blobs.problem.pool.n, blobs.oracle, SIZES)
    annotations = tuple(c.asked.annotation for c in done if c.asked is not None)
    asked = torch.cat([begin.asked, *(annotation.indices for annotation in annotations)])
    return History(begin.initial, asked, annotations)


@pytest.mark.parametrize("name", ["random", "max-entropy", "subset:60:max-entropy"])
@pytest.mark.parametrize("stop", [1, 2])
def test_a_continued_run_equals_an_uninterrupted_one(blobs: Any, name: str, stop: int) -> None:
    whole = cycles(blobs, resolve_strategy(name))
    rest = cycles(blobs, resolve_strategy(name), history=continued(blobs, whole[:stop]))
    assert [record.without_times() for record in records_of(rest)] == [
        record.without_times() for record in records_of(whole[stop:])
    ]


def test_hidden_targets_never_reach_the_strategy(blobs: Any) -> None:
    """Other targets for all items that are not labelled yet: the same query."""
    sizes = replace(SIZES, budget=30)
    targets = blobs.oracle.vault.reveal().numpy()
    initial = initial_indices(blobs.problem.pool.n, sizes).numpy()
    poisoned = 1 - targets
    poisoned[initial] = targets[initial]
    other = blobs._replace(oracle=Oracle(poisoned, 2))
    for name in ("random", "max-entropy"):
        honest = next(going(blobs, resolve_strategy(name), sizes)).asked
        peeking = next(going(other, resolve_strategy(name), sizes)).asked
        assert honest is not None
        assert peeking is not None
        assert honest.query.digest() == peeking.query.digest()
        assert (honest.annotation.targets == 1 - peeking.annotation.targets).all()


class _Wrong(Strategy):
    """Answers with whatever it was given."""

    source = "test"

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def select(self, view: CycleView, query_size: int) -> Any:
        return self.answer(view)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda view: [1, 2, 3], "expected a PoolQuery.*found a list"),
        (lambda view: PoolQuery(view.unlabelled[:9]), "expected 10 items, found 9"),
        (lambda view: PoolQuery(view.unlabelled[:10].float()), "int64.*found torch.float32"),
        (lambda view: PoolQuery(view.unlabelled[:1].repeat(10)), "distinct"),
        (lambda view: PoolQuery(torch.arange(295, 305)), r"0 \.\. 299"),
        (lambda view: PoolQuery(torch.arange(-1, 9)), r"0 \.\. 299"),
        (lambda view: PoolQuery(view.labelled.indices[:10]), "items already asked about"),
    ],
)
def test_a_wrong_answer_is_refused_by_name(blobs: Any, answer: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"'_Wrong' broke the contract.*{message}"):
        cycles(blobs, _Wrong(answer))


def test_the_bound_labels_everything_once(blobs: Any) -> None:
    records = records_of(cycles(blobs, resolve_strategy("full")))
    assert len(records) == 1
    assert records[0].final
    assert records[0].n_labelled == 300


def test_impossible_sizes_are_told_before_anything_is_trained(blobs: Any) -> None:
    with pytest.raises(UserError, match=r"budget \(301\) is larger than the pool \(300"):
        cycles(blobs, resolve_strategy("random"), replace(SIZES, budget=301))


def test_a_whole_pool_can_be_asked(blobs: Any) -> None:
    sizes = replace(SIZES, budget=300, query_size=140)
    records = records_of(cycles(blobs, resolve_strategy("random"), sizes))
    assert [record.n_labelled for record in records] == [20, 160, 300]


class _Rejecting(Oracle):
    """Rejects every third item: asked, paid for, not labelled."""

    def annotate(self, query: Any, *, cycle: int) -> Annotation:
        answer = super().annotate(query, cycle=cycle)
        keep = torch.arange(len(answer.indices)) % 3 != 2
        return replace(
            answer,
            indices=answer.indices[keep],
            targets=answer.targets[keep],
            n_rejected=int((~keep).sum()),
        )


def test_a_rejected_item_is_paid_for_and_not_asked_again(blobs: Any) -> None:
    rejecting = blobs._replace(oracle=_Rejecting(blobs.oracle.vault.reveal(), 2))
    found = cycles(rejecting, resolve_strategy("max-entropy"))
    asked = [c.asked.query.touched for c in found if c.asked is not None]
    assert len(torch.cat(asked).unique()) == 30
    records = records_of(found)
    assert [record.n_asked for record in records] == [20, 30, 40, 50]
    assert records[-1].n_labelled == 14 + 3 * 7


def test_nothing_beyond_what_is_consumed_is_computed(blobs: Any) -> None:
    asked: list[int] = []

    class Spy(Oracle):
        def annotate(self, query: Any, *, cycle: int) -> Annotation:
            asked.append(cycle)
            return super().annotate(query, cycle=cycle)

    watched = blobs._replace(oracle=Spy(blobs.oracle.vault.reveal(), 2))
    next(going(watched, resolve_strategy("random")))
    assert asked == [-1, 0]


def test_float_rows_work_as_well_as_images() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 5)).astype(np.float32)
    targets = (rows[:, 0] > 0).astype(np.int64)
    problem = Problem("rows", ArrayPool(rows[:60]), ArrayPool(rows[60:]), 2, LearnerSettings())
    found = Blobs(problem, Oracle(targets[:60], 2), targets[60:])
    records = records_of(cycles(found, resolve_strategy("max-entropy")))
    assert records[-1].test.accuracy > 0.8
