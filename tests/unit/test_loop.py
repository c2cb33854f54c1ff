"""Algorithm 1: equal starts, exact resume, checked answers, no look at hidden targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from alharness.errors import UserError
from alharness.labelled import Annotation
from alharness.learners.learner import LearnerSettings, learner_factory
from alharness.oracle import Oracle
from alharness.pool import ArrayPool
from alharness.records import CycleRecord, Ledger
from alharness.registry import resolve_strategy
from alharness.run.loop import Cycle, History, Problem, Sizes, run, start
from alharness.strategy import CycleView, PoolQuery, Preparation, Strategy

SIZES = Sizes(seed=0, data_seed=0, budget=50, query_size=10, initial_size=20)


def preparation(problem: Problem, **changes: Any) -> Preparation:
    """A preparation for strategies that prepare nothing."""
    values: dict[str, Any] = {
        "task": "blobs",
        "n_classes": problem.n_classes,
        "class_names": ("a", "b"),
        "pool": problem.pool,
        "test": problem.test,
        "device": problem.pool.device,
        "seed": 0,
        "profile": "quick",
        "fingerprint": "f",
        "learner_factory": problem.learner_factory,
        "learner_settings": LearnerSettings(),
        "artefacts": None,
        "ledger": Ledger(),
        "generator_settings": None,
        "autoencoder_settings": None,
    }
    return Preparation(**{**values, **changes})


def cycles(problem: Problem, strategy: Strategy, sizes: Sizes = SIZES, **more: Any) -> list[Cycle]:
    return list(run(problem, strategy, sizes, preparation(problem), **more))


def test_a_run_spends_its_budget_and_counts_what_it_did(blobs: Problem) -> None:
    records = [cycle.record for cycle in cycles(blobs, resolve_strategy("max-entropy"))]
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


def test_sizes_that_do_not_divide_end_on_the_budget(blobs: Problem) -> None:
    records = [
        c.record for c in cycles(blobs, resolve_strategy("random"), replace(SIZES, budget=45))
    ]
    assert [record.n_labelled for record in records] == [20, 30, 40, 45]


def test_cycle_0_is_equal_to_the_last_bit_for_all_strategies(blobs: Problem) -> None:
    first = [
        next(run(blobs, resolve_strategy(name), SIZES, preparation(blobs))).record
        for name in ("random", "max-entropy", "margin", "subset:50:max-entropy")
    ]
    starts = {
        (record.labelled_digest, record.learner_digest, record.test.model_dump_json())
        for record in first
    }
    assert len(starts) == 1
    assert len({record.query.digest for record in first if record.query}) > 1


def test_the_two_seeds_vary_apart(blobs: Problem) -> None:
    settings = LearnerSettings(kind="mlp", width=8, min_steps=5, epochs=0, batch_size=8)
    problem = replace(blobs, learner_factory=learner_factory(settings))

    def first(seed: int, data_seed: int) -> CycleRecord:
        sizes = replace(SIZES, seed=seed, data_seed=data_seed)
        return next(run(problem, resolve_strategy("random"), sizes, preparation(problem))).record

    base, other_model, other_data = first(0, 0), first(1, 0), first(0, 1)
    assert base.labelled_digest == other_model.labelled_digest != other_data.labelled_digest
    assert base.learner_digest != other_model.learner_digest


def continued(problem: Problem, done: list[Cycle]) -> History:
    """What a run that stopped after ``done`` knows."""
    begin = start(problem, resolve_strategy("random"), SIZES)
    annotations = tuple(c.annotation for c in done if c.annotation is not None)
    asked = torch.cat([begin.asked, *(annotation.indices for annotation in annotations)])
    return History(begin.initial, asked, annotations)


@pytest.mark.parametrize("name", ["random", "max-entropy", "subset:60:max-entropy"])
@pytest.mark.parametrize("stop", [1, 2])
def test_a_continued_run_equals_an_uninterrupted_one(blobs: Problem, name: str, stop: int) -> None:
    whole = cycles(blobs, resolve_strategy(name))
    rest = cycles(blobs, resolve_strategy(name), history=continued(blobs, whole[:stop]))
    assert [c.record.without_times() for c in rest] == [
        c.record.without_times() for c in whole[stop:]
    ]


def test_hidden_targets_never_reach_the_strategy(blobs: Problem) -> None:
    """Other targets for all items that are not labelled yet: the same query."""
    sizes = replace(SIZES, budget=30)
    targets = blobs.oracle._targets.numpy()
    initial = start(blobs, resolve_strategy("random"), sizes).asked.numpy()
    poisoned = 1 - targets
    poisoned[initial] = targets[initial]
    other = replace(blobs, oracle=Oracle(poisoned, 2))
    for name in ("random", "max-entropy"):
        honest = next(run(blobs, resolve_strategy(name), sizes, preparation(blobs)))
        peeking = next(run(other, resolve_strategy(name), sizes, preparation(other)))
        assert honest.record.query == peeking.record.query
        assert honest.annotation is not None
        assert peeking.annotation is not None
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
def test_a_wrong_answer_is_refused_by_name(blobs: Problem, answer: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"'_Wrong' broke the contract.*{message}"):
        cycles(blobs, _Wrong(answer))


def test_the_bound_labels_everything_once(blobs: Problem) -> None:
    records = [c.record for c in cycles(blobs, resolve_strategy("full"))]
    assert len(records) == 1
    assert records[0].final
    assert records[0].n_labelled == 300


def test_impossible_sizes_are_told_before_anything_is_trained(blobs: Problem) -> None:
    with pytest.raises(UserError, match=r"budget \(301\) is larger than the pool \(300"):
        cycles(blobs, resolve_strategy("random"), replace(SIZES, budget=301))


def test_a_whole_pool_can_be_asked(blobs: Problem) -> None:
    records = [
        c.record
        for c in cycles(
            blobs, resolve_strategy("random"), replace(SIZES, budget=300, query_size=140)
        )
    ]
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


def test_a_rejected_item_is_paid_for_and_not_asked_again(blobs: Problem) -> None:
    problem = replace(blobs, oracle=_Rejecting(blobs.oracle._targets, 2))
    found = cycles(problem, resolve_strategy("max-entropy"))
    asked = [c.query.indices for c in found if isinstance(c.query, PoolQuery)]
    assert len(torch.cat(asked).unique()) == 30
    assert [c.record.n_asked for c in found] == [20, 30, 40, 50]
    assert found[-1].record.n_labelled == 14 + 3 * 7


def test_nothing_beyond_what_is_consumed_is_computed(blobs: Problem) -> None:
    asked: list[int] = []

    class Spy(Oracle):
        def annotate(self, query: Any, *, cycle: int) -> Annotation:
            asked.append(cycle)
            return super().annotate(query, cycle=cycle)

    problem = replace(blobs, oracle=Spy(blobs.oracle._targets, 2))
    going: Iterator[Cycle] = run(problem, resolve_strategy("random"), SIZES, preparation(problem))
    next(going)
    assert asked == [-1, 0]


def test_float_rows_work_as_well_as_images() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(80, 5)).astype(np.float32)
    targets = (rows[:, 0] > 0).astype(np.int64)
    problem = Problem(
        ArrayPool(rows[:60]), ArrayPool(rows[60:]), targets[60:], Oracle(targets[:60], 2), 2,
        learner_factory(LearnerSettings()),
    )  # fmt: skip
    records = [c.record for c in cycles(problem, resolve_strategy("max-entropy"))]
    assert records[-1].test.accuracy > 0.8
