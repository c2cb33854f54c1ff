"""Where the seconds and the money of a cycle go: a clock that moves when told to, an oracle that rejects.

Each step of a cycle takes a power of two of seconds, so that a second in a wrong column shows in every sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from alharness import timing
from alharness.artefacts import Supply
from alharness.engine import loop, stage
from alharness.engine.initial import start
from alharness.engine.loop import Cycle, Sizes, run
from alharness.engine.recording import record_of
from alharness.engine.stage import Stage, set_stage
from alharness.errors import PluginError
from alharness.labelled import Annotation
from alharness.oracle import Oracle
from alharness.oracle.settings import OracleSettings
from alharness.records import CycleRecord, Ledger
from alharness.strategy import CycleView, ImageQuery, LineQuery, PoolQuery, Strategy

SIZES = Sizes(seed=0, data_seed=0, budget=24, query_size=8, initial_size=8)
FIT, EVALUATE, SCORE, UNNAMED, ASIDE, ANNOTATE, RECORD = (2.0**k for k in range(7))


class Hands:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """The harness's clock, and steps that take what the table above says."""
    moved = Hands()
    for module in (timing, stage):
        monkeypatch.setattr(module, "perf_counter", moved)

    def takes(seconds: float, function: Any) -> Any:
        def later(*arguments: Any, **options: Any) -> Any:
            moved.at += seconds
            return function(*arguments, **options)

        return later

    monkeypatch.setattr(Stage, "fit", takes(FIT, Stage.fit))
    monkeypatch.setattr(loop, "evaluate", takes(EVALUATE, loop.evaluate))
    monkeypatch.setattr(Oracle, "annotate", takes(ANNOTATE, Oracle.annotate))
    monkeypatch.setattr(CycleView, "unlabelled", property(_looked_up(moved)))
    return moved


def _looked_up(moved: Hands) -> Any:
    usual = CycleView.unlabelled.fget  # type: ignore[attr-defined]

    def unlabelled(view: CycleView) -> torch.Tensor:
        with view.stopwatch._inside(view.stopwatch._apart, "bookkeeping"):
            moved.at += ASIDE
        return usual(view)  # type: ignore[no-any-return]

    return unlabelled


class Slow(Strategy):
    """Takes its time in a phase with a name, and some outside of it."""

    def __init__(self, moved: Hands) -> None:
        super().__init__()
        self.moved = moved

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        with view.stopwatch.phase("score"):
            self.moved.at += SCORE
        self.moved.at += UNNAMED
        return PoolQuery(view.unlabelled[:query_size])


def recorded(blobs: Any, strategy: Strategy, oracle: Oracle, moved: Hands) -> Iterator[CycleRecord]:
    return (record for _, record in kept(blobs, strategy, oracle, moved))


def kept(
    blobs: Any, strategy: Strategy, oracle: Oracle, moved: Hands
) -> Iterator[tuple[Cycle, CycleRecord]]:
    set_up = set_stage(strategy, blobs.problem, None, Supply(None))  # type: ignore[arg-type]
    begin = start(strategy, blobs.problem.pool.n, oracle, SIZES)
    for cycle in run(set_up, oracle, blobs.test_targets, SIZES, begin):
        moved.at += RECORD
        yield cycle, record_of(cycle, Ledger())


def test_every_second_of_a_cycle_is_in_one_column(blobs: Any, hands: Hands) -> None:
    *asking, last = recorded(blobs, Slow(hands), blobs.oracle, hands)
    assert len(asking) == 2
    for record in asking:
        spent = record.time
        assert spent.fit_s == FIT
        assert spent.evaluate_s == EVALUATE
        assert spent.phases["score"] == SCORE
        assert spent.phases["other"] == UNNAMED
        assert spent.select_s == SCORE + UNNAMED
        assert spent.bookkeeping_s == ASIDE
        assert spent.annotate_s == ANNOTATE
        assert spent.harness_s == ASIDE + RECORD
    assert (last.time.fit_s, last.time.evaluate_s) == (FIT, EVALUATE)
    assert (last.time.select_s, last.time.annotate_s) == (None, None)
    assert last.time.harness_s == RECORD
    assert last.time.phases == {}
    assert {record.time.paused_s for record in (*asking, last)} == {None}
    assert [record.time.preparation for record in (*asking, last)] == [[], None, None]
    assert last.time.select_cpu_s is None
    assert all(record.time.fit_cpu_s is not None for record in (*asking, last))


def test_pauses_of_fit_and_selection_add_up(blobs: Any, hands: Hands) -> None:
    *_, (cycle, record), (last_cycle, _) = kept(blobs, Slow(hands), blobs.oracle, hands)
    assert cycle.asked is not None
    assert cycle.asked.view.stopwatch.effort is not None
    assert record.time.paused_s is None
    cycle.clock.efforts["fit"].paused_s = last_cycle.clock.efforts["fit"].paused_s = 2.0
    cycle.asked.view.stopwatch.effort.paused_s = 3.0
    assert record_of(cycle, Ledger()).time.paused_s == 5.0
    assert record_of(last_cycle, Ledger()).time.paused_s == 2.0


def test_the_next_cycle_starts_at_nought(blobs: Any, hands: Hands) -> None:
    """What passes between two cycles, as writing a record does, belongs to neither."""
    found = recorded(blobs, Slow(hands), blobs.oracle, hands)
    first = next(found)
    hands.at += 1000.0
    second = next(found)
    assert second.time.harness_s == first.time.harness_s


class Rejecting(Oracle):
    """Rejects every fourth item; an item costs half of what one does by default."""

    def __init__(self, targets: Any) -> None:
        super().__init__(targets, 2, settings=OracleSettings(image_cost=0.5))

    def annotate(self, query: Any, *, cycle: int) -> Annotation:
        answer = super().annotate(query, cycle=cycle)
        keep = torch.arange(len(answer.indices)) % 4 != 3
        return replace(
            answer, indices=answer.indices[keep], targets=answer.targets[keep], n_rejected=2
        )


def test_who_rejects_is_paid_all_the_same(blobs: Any, hands: Hands) -> None:
    oracle = Rejecting(blobs.oracle.vault.reveal())
    records = list(recorded(blobs, Slow(hands), oracle, hands))
    assert [record.n_asked for record in records] == [8, 16, 24]
    assert [record.cost for record in records] == [4.0, 8.0, 12.0]
    assert [record.n_labelled for record in records] == [6, 12, 18]
    for before, after in pairwise(records):
        assert before.annotation is not None
        assert before.annotation.n_asked == after.n_asked - before.n_asked
        assert before.annotation.cost == after.cost - before.cost
        assert before.annotation.n_labels == after.n_labelled - before.n_labelled
        assert before.annotation.n_labels + before.annotation.n_rejected == 8


class Unsure:
    """An annotator that is sure of the first image of three only."""

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        sure = torch.arange(len(images)) % 3 == 0
        return torch.where(sure[:, None], torch.tensor([0.05, 0.95]), torch.tensor([0.4, 0.6]))


def test_abstained_images_and_lines_cost_what_they_are_worth() -> None:
    settings = OracleSettings(mode="abstain", threshold=0.9, image_cost=0.25, line_cost=3.0)
    oracle = Oracle(np.zeros(10, np.int64), 2, settings=settings, annotator=lambda vault: Unsure())  # type: ignore[arg-type, return-value]
    images = oracle.annotate(ImageQuery(items=torch.rand(6, 1, 4, 4)), cycle=0)
    assert (images.n_asked, images.n_rejected, images.cost) == (6, 4, 6 * 0.25)
    # Of two points each, images 0 and 3 of six are labelled: none of the third line's.
    points, pictures = torch.rand(3, 2, 5), torch.rand(3, 2, 1, 4, 4)
    lines = LineQuery(points=points, images=pictures, pool_indices=torch.arange(3))
    answer = oracle.annotate(lines, cycle=0)
    assert (answer.n_asked, answer.n_rejected, answer.cost) == (3, 1, 3 * 3.0)


def test_a_threshold_that_is_met_exactly_is_met() -> None:
    settings = OracleSettings(mode="abstain", threshold=0.75)

    class Exact:
        def probabilities(self, images: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.25, 0.75], [0.375, 0.625]])[: len(images)]

    oracle = Oracle(np.zeros(4, np.int64), 2, settings=settings, annotator=lambda vault: Exact())  # type: ignore[arg-type, return-value]
    answer = oracle.annotate(ImageQuery(items=torch.rand(2, 1, 4, 4)), cycle=0)
    assert answer.item_targets is not None
    assert (answer.item_targets.tolist(), answer.n_rejected) == ([1], 1)


@pytest.mark.parametrize(
    ("limit", "is_late"),
    [(0.0, False), (SCORE + UNNAMED + ASIDE + 1, False), (SCORE + UNNAMED + ASIDE - 1, True)],
)
def test_a_selection_is_late_by_its_own_time_and_by_nothing_before_it(
    blobs: Any, hands: Hands, limit: float, is_late: bool
) -> None:
    hands.at = 5_000.0
    strategy = Slow(hands)
    set_up = set_stage(strategy, blobs.problem, None, Supply(None), select_timeout=limit)  # type: ignore[arg-type]
    begin = start(strategy, blobs.problem.pool.n, blobs.oracle, SIZES)
    cycles = run(set_up, blobs.oracle, blobs.test_targets, SIZES, begin)
    if not is_late:
        assert len(list(cycles)) == 3
        return
    with pytest.raises(PluginError, match="27"):
        list(cycles)
