"""Torch's first optimiser costs a second and more of imports: paid before what is timed, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import alharness
from alharness import plugins, registry
from alharness.strategy import FeatureStrategy

#: Every strategy of ours that needs nothing behind its name.
OWN = [
    name
    for name in plugins.names(plugins.STRATEGIES)
    if not plugins.load("", plugins.STRATEGIES, name).takes
]
IDLE = [name for name in OWN if not registry.find_strategy(name).cls.optimises]


def run(tmp_path: Path, strategy: str, **settings: Any) -> None:
    cls = registry.find_strategy(strategy).cls
    chosen: dict[str, Any] = {"name": strategy}
    if issubclass(cls, FeatureStrategy):
        chosen["features"] = "items"  # an auto-encoder's codes are trained when it is prepared
    members = 3 if "samples" in cls.learner_needs else 1
    alharness.run(
        chosen, "digits-two", budget=28, query_size=4, initial_size=20, device="cpu",
        learner={"kind": "linear", "members": members}, runs_dir=tmp_path, tracking=False, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("strategy", IDLE)
def test_who_says_that_it_makes_no_optimiser_makes_none(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError(f"{strategy} makes an optimiser in a run that has paid for none")

    monkeypatch.setattr(torch.optim.Optimizer, "__init__", refuse)
    run(tmp_path, strategy)


def test_scores_distances_and_chance_are_among_them() -> None:
    assert {"random", "margin", "max-entropy", "core-set", "bald", "full"} <= set(IDLE)
    assert not {"asal-gray", "gaal", "adba", "vaal", "learning-loss"} & set(IDLE)


def test_who_may_make_one_finds_it_paid_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign strategy says nothing, and a network's fit makes one."""
    from alharness.engine import runner

    paid: list[torch.device] = []
    monkeypatch.setattr(runner, "_warm_up", paid.append)
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from alharness.strategy import PoolQuery, Strategy\n\n\n"
        "class Mine(Strategy):\n"
        '    """The first."""\n\n'
        "    def select(self, view, query_size):\n"
        "        return PoolQuery(view.unlabelled[:query_size])\n"
    )
    run(tmp_path, "random")
    assert not paid
    run(tmp_path, f"{plugin}:Mine")
    assert len(paid) == 1
    alharness.run(
        "random", "digits-two", budget=24, query_size=4, initial_size=20, device="cpu",
        learner={"kind": "mlp", "min_steps": 1, "epochs": 1}, runs_dir=tmp_path, tracking=False,
    )  # fmt: skip
    assert len(paid) == 2
