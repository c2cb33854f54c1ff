"""Two runs of one process: what a plug-in's class keeps from the first is not there in the second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import alharness
from alharness import plugins

GALLERY = Path(__file__).parents[1] / "gallery"


def figures(runs: Path, seed: int, strategy: str, settings: dict[str, Any]) -> list[Any]:
    result = alharness.run(
        strategy, "digits-two", seed=seed, budget=20, query_size=4, initial_size=12, device="cpu",
        runs_dir=runs, tracking=False, **settings,
    )  # fmt: skip
    return [record.test for record in result.records]


@pytest.mark.parametrize(
    ("strategy", "settings"),
    [
        (f"{GALLERY / 'strategies.py'}:Hoards", {}),
        ("random", {"learner": {"kind": f"{GALLERY / 'classifiers.py'}:Hoards"}}),
    ],
    ids=["strategy", "classifier"],
)
def test_the_second_run_is_the_one_that_it_would_be_alone(
    strategy: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    alone = figures(tmp_path / "alone", 1, strategy, settings)
    plugins.forget_files()  # as if this process began here
    other = figures(tmp_path / "first", 0, strategy, settings)
    assert figures(tmp_path / "second", 1, strategy, settings) == alone != other
