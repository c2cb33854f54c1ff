"""Two runs of one process: what a plug-in's class keeps from the first is not there in the second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import alharness

HOARDERS = {
    "strategy": '''
from alharness.strategy import PoolQuery, Strategy


class Hoards(Strategy):
    """Asks what it asked first in this process."""

    kept = {}

    def select(self, view, query_size):
        drawn = view.unlabelled[view.rng("draw").permutation(len(view.unlabelled))[:query_size]]
        return PoolQuery(self.kept.setdefault(len(view.labelled.indices), drawn))
''',
    "classifier": '''
import torch

from alharness.learners.learner import FitReport, Learner

KEPT = {}


class Hoards(Learner):
    """The means of the classes, of the first labels of this process that were as many."""

    seeded = False

    def fit(self, labelled, pool, *, seed):
        items = pool.gather(labelled.indices).flatten(1)
        means = torch.stack([items[labelled.targets == c].mean(dim=0) for c in range(2)])
        self.means = KEPT.setdefault(len(items), means)
        return FitReport(1, 0.5, True)

    def logits(self, items):
        return -(torch.cdist(items.flatten(1), self.means) ** 2)

    def features(self, items):
        return items.flatten(1).detach()

    def state(self):
        return {"means": self.means}
''',
}


def records(tmp_path: Path, name: str, kind: str, plugin: Path, seed: int) -> list[dict[str, Any]]:
    strategy, settings = "random", {}
    if kind == "strategy":
        strategy = f"{plugin}:Hoards"
    else:
        settings = {"learner": {"kind": f"{plugin}:Hoards"}}
    result = alharness.run(
        strategy, "digits-two", seed=seed, budget=20, query_size=4, initial_size=12, device="cpu",
        runs_dir=tmp_path / name, tracking=False, **settings,
    )  # fmt: skip
    return [record.test.model_dump() for record in result.records]


@pytest.mark.parametrize("kind", list(HOARDERS))
def test_the_second_run_is_the_one_that_it_would_be_alone(kind: str, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(HOARDERS[kind])
    alone = records(tmp_path, "alone", kind, plugin, seed=1)
    other = records(tmp_path, "first", kind, plugin, seed=0)
    assert records(tmp_path, "second", kind, plugin, seed=1) == alone != other
