"""A stopped run whose labels are not all in the pool continues to the same records."""

from __future__ import annotations

from pathlib import Path

import pytest

from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.records import RunFolder
from alharness.spec import resolve
from alharness.tasks.base import DataLocations
from alharness_strategies.adba import BoundaryLearner

SHORT = {
    "task": "digits-two",
    "device": "cpu",
    "budget": 40,
    "query_size": 5,
    "initial_size": 20,
    "generator": {"steps": 10},
}


@pytest.mark.parametrize(
    ("strategy", "mode"),
    [
        ({"name": "gaal", "latent_steps": 5}, "abstain"),
        ({"name": "gaal", "latent_steps": 5}, "noisy"),
        ({"name": "adba", "encoder_steps": 10, "refine_steps": 3}, "hard"),
        ({"name": "adba-boundary", "encoder_steps": 10, "refine_steps": 3}, "hard"),
    ],
    ids=["gaal-abstain", "gaal-noisy", "adba", "adba-boundary"],
)
def test_synthetic_labels_survive_a_stop(
    tmp_path: Path, strategy: dict[str, object], mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundaryLearner, "STEPS", 20)
    spec = resolve({**SHORT, "strategy": strategy, "oracle": {"mode": mode}})
    store = tmp_path / "store"

    def finish(runs: str, *stops: int) -> RunFolder:
        places = Places(tmp_path / runs, DataLocations.resolve(), store)
        for stop in stops:
            execute(spec, places, max_cycles=stop)
        return execute(spec, places)

    whole, parts = finish("whole"), finish("parts", 1, 2)
    records = whole.records()
    assert len(records) == 5
    assert records[-1].n_asked == 40
    assert [r.without_times() for r in records] == [r.without_times() for r in parts.records()]
    kinds = {r.query.kind for r in records if r.query is not None}
    assert kinds == ({"image"} if strategy["name"] == "gaal" else {"line"})
    if strategy["name"] == "adba":
        assert records[-1].n_synthetic == 20 * 11
    if strategy["name"] == "adba-boundary":
        assert records[-1].n_labelled == 40
