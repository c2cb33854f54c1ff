"""Which series a claim of the paper is about, where one strategy ran under several oracles."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from alharness.comparison.claims import _by_name


def series(label: str, strategy: str, mode: str) -> Any:
    run = SimpleNamespace(spec=SimpleNamespace(oracle={"mode": mode}, generator={}, autoencoder={}))
    return SimpleNamespace(name=label, strategy=strategy, runs=(run,))


def test_the_oracle_that_labels_everything_is_the_papers() -> None:
    noisy = series("gaal [oracle.mode=noisy]", "gaal", "noisy")
    hard = series("gaal [oracle.mode=hard]", "gaal", "hard")
    random = series("random", "random", "hard")
    other = series("random [budget=20]", "random", "hard")
    comparison: Any = SimpleNamespace(series=(noisy, hard, random, other))
    named = _by_name(comparison)
    assert named["gaal"] is hard
    assert named["random"] is random
    assert named["gaal [oracle.mode=noisy]"] is noisy
