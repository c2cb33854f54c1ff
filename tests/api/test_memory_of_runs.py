"""A run lets go of its data: the next one in the process finds the memory free."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import alharness
from alharness.pool import ArrayPool, Pool
from alharness.queries import PoolQuery
from alharness.strategy import CycleView, Strategy


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[weakref.ref[Pool]]]:
    """A look at every pool that is made; Python does not look for circles by itself meanwhile."""
    made: list[weakref.ref[Pool]] = []
    usual = ArrayPool.__init__

    def tracked(self: ArrayPool, *arguments: Any, **options: Any) -> None:
        usual(self, *arguments, **options)
        made.append(weakref.ref(self))

    monkeypatch.setattr(ArrayPool, "__init__", tracked)
    gc.collect()
    gc.disable()
    yield made
    gc.enable()


class Circle(Strategy):
    """Holds the pool, and itself."""

    source = "a test"

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        self.pool, self.myself = view.pool, self
        return PoolQuery(view.unlabelled[:query_size])


@pytest.mark.parametrize(
    "strategy",
    [
        "random",
        {"name": "asal-auto", "latent_steps": 5},
        {"name": "adba", "encoder_steps": 5, "refine_steps": 2},
        Circle,
    ],
    ids=["random", "asal-auto", "adba", "Circle"],
)
def test_no_pool_outlives_its_run(
    tmp_path: Path, pools: list[weakref.ref[Pool]], strategy: Any
) -> None:
    for seed in range(2):
        alharness.run(
            strategy,
            "digits-two",
            seed=seed,
            budget=50,
            query_size=5,
            learner={"max_iterations": 5},
            generator={"steps": 5},
            autoencoder={"steps": 5},
            runs_dir=tmp_path,
            tracking=False,
        )
        assert len(pools) >= 2
        assert [pool() for pool in pools if pool() is not None] == []


def test_a_run_of_the_harness_itself_makes_no_circle(
    tmp_path: Path, pools: list[weakref.ref[Pool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking for circles takes a quarter of a second: it is for others' code."""
    # Torch's first optimiser imports a quarter of torch, and what is imported keeps who asked for it.
    optimiser = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    optimiser.step()
    looked: list[int] = []
    monkeypatch.setattr(gc, "collect", lambda *generation: looked.append(1))
    for strategy in ("random", "max-entropy", "asal-gray"):
        alharness.run(
            strategy,
            "digits-two",
            budget=50,
            generator={"steps": 5},
            runs_dir=tmp_path,
            tracking=False,
        )
    assert looked == []
    assert [pool() for pool in pools if pool() is not None] == []
