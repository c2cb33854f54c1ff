"""A strategy before a made-up problem of any size, asked again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from alharness import numerics, registry
from alharness.conformance.scene import N_INITIAL, Sample, Scene
from alharness.errors import UserError
from alharness.queries import Query
from alharness.scaling.gates import CountingPool
from alharness.strategy import CycleView, Strategy
from alharness.timing import Stopwatch


@dataclass(frozen=True)
class Asked:
    """One selection, and what it took.

    Attributes:
        query: the answer, checked as in a run.
        work: counters by name, as in the record of a cycle: exact.
        phases: seconds by phase; the harness's own book-keeping is not among them.
        n_read: items that were read of the pool, whether or not the strategy counted them.
    """

    query: Query
    work: Mapping[str, int]
    phases: Mapping[str, float]
    n_read: int

    @property
    def select_s(self) -> float:
        """Seconds of the selection, as in the record of a cycle."""
        return sum(self.phases.values())


class Selection:
    """A prepared strategy with a trained classifier before it; ``ask`` lets it select.

    Every question is the same one (cycle 0, seed 0), so counts must not differ.
    """

    def __init__(
        self,
        strategy: type[Strategy] | str,
        root: Path,
        *,
        n_pool: int = 1000,
        query_size: int = 10,
        n_classes: int = 3,
        item_shape: tuple[int, int, int] = (1, 8, 8),
        classifier: str = "mlp",
        device: str = "cpu",
        **parameters: Any,
    ) -> None:
        if n_pool < N_INITIAL + query_size:
            raise UserError(
                f"A pool of {n_pool} is too small: {N_INITIAL} items are labelled and {query_size} asked "
                f"about. Give at least n_pool={N_INITIAL + query_size}."
            )
        name = strategy if isinstance(strategy, str) else strategy.__name__
        made = (
            registry.resolve_strategy(strategy, **parameters)
            if isinstance(strategy, str)
            else strategy(**parameters)
        )
        self.name, self.query_size, self.n_pool = name, query_size, n_pool
        counting: list[CountingPool] = []

        def counted(pool: Any) -> CountingPool:
            counting.append(CountingPool(pool))
            return counting[0]

        with numerics.exact():
            self._scene = Scene(
                made,
                Sample.usual(n_classes, item_shape, n_pool),
                root,
                kind=classifier,
                device=device,
                seen_through=counted,
            )
        self._pool = counting[0]

    def ready(self) -> CycleView:
        """A fresh view, with what the harness does once per cycle already done."""
        view = self._scene.view()
        _ = view.unlabelled  # O(pool), the harness's own work
        view.stopwatch = Stopwatch(view.device)
        return view

    def select(self, view: CycleView) -> Query:
        """The strategy's query for a fresh view, checked as in a run.

        Raises:
            PluginError: the strategy breaks the contract.
        """
        with numerics.exact():
            return self._scene.select(view, self.query_size)

    def ask(self) -> Asked:
        """Let the strategy select once.

        Raises:
            PluginError: the strategy breaks the contract.
        """
        view = self.ready()
        self._pool.n_read = 0
        query = self.select(view)
        work = dict(sorted(view.work.counts.items()))
        return Asked(query, work, dict(view.stopwatch.seconds), self._pool.n_read)

    def times(self, repeats: int = 5) -> list[float]:
        """Seconds of several selections, after one that warms up."""
        self.ask()
        return [self.ask().select_s for _ in range(repeats)]


@pytest.fixture
def selection(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Selection]:
    """``selection(Mine, n_pool=1000)``: a strategy of one's own, ready to be asked.

    Args of the function that it gives:
        strategy: a class, or a name of any form.
        n_pool: items of the pool.
        query_size: items asked about.
        n_classes: classes of the made-up problem.
        item_shape: channels, height and width of its images.
        classifier: as in ``learner.kind``; it is trained for a moment on 18 labels.
        device: ``cpu`` or ``cuda``.
        parameters: of the strategy.

    Generators and auto-encoders, where a strategy asks for them, are trained for a few steps.
    """

    def make(strategy: type[Strategy] | str, **options: Any) -> Selection:
        return Selection(strategy, tmp_path_factory.mktemp("selection"), **options)

    return make


@pytest.fixture
def benchmark_selection(
    benchmark: Any, selection: Callable[..., Selection]
) -> Callable[..., Asked]:
    """``benchmark_selection(Mine, n_pool=1000)``: measured by pytest-benchmark.

    Each round is one selection; what the harness prepares is not timed. Counts of work and seconds by
    phase stand in the benchmark's ``extra_info``. Takes what ``selection`` takes, and ``rounds``; gives
    one further selection as ``Asked``.
    """

    def measure(strategy: type[Strategy] | str, *, rounds: int = 5, **options: Any) -> Asked:
        made = selection(strategy, **options)
        benchmark.pedantic(
            made.select,
            setup=lambda: ((made.ready(),), {}),
            rounds=rounds,
            warmup_rounds=1,
        )
        asked = made.ask()
        benchmark.extra_info.update(
            strategy=made.name,
            n_pool=made.n_pool,
            query_size=made.query_size,
            work=dict(asked.work),
            phases=dict(asked.phases),
        )
        return asked

    return measure
