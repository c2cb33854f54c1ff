"""``long-tail:RHO:NAME``: classes thinned by a rule, the test set as it is, and figures that see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import alharness
from alharness import UserError
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations, load_data
from alharness.tasks.long_tail import thinned


@pytest.fixture
def locations(tmp_path: Path) -> DataLocations:
    return DataLocations(tmp_path / "data", tmp_path / "cache")


def test_classes_are_thinned_exponentially_and_the_same_way_each_time() -> None:
    targets = np.arange(4000) % 4
    kept = thinned(targets, 4, 100, 0)
    assert np.bincount(targets[kept]).tolist() == [1000, 215, 46, 10]
    assert (np.diff(kept) > 0).all(), "in the pool's order"
    assert np.array_equal(kept, thinned(targets, 4, 100, 0))
    assert not np.array_equal(kept, thinned(targets, 4, 100, 1))
    assert np.isin(kept, thinned(targets, 4, 10, 0)).all(), "a longer tail is part of a shorter one"
    assert np.bincount(targets[thinned(targets, 4, 1e9, 0)]).min() == 1, "never none of a class"


def test_a_long_tail_is_other_data_with_the_same_test_set(locations: DataLocations) -> None:
    plain, tail, longer, other = (
        load_data(resolve_task(name, **parameters), locations)
        for name, parameters in (
            ("digits-ten", {}),
            ("long-tail:20:digits-ten", {}),
            ("long-tail:50:digits-ten", {}),
            ("long-tail:20:digits-ten", {"seed": 1}),
        )
    )
    assert len({d.fingerprint for d in (plain, tail, longer, other)}) == 4
    assert len({d.pool_fingerprint for d in (plain, tail, longer, other)}) == 4
    assert np.array_equal(plain.test_images, tail.test_images)
    assert np.array_equal(plain.test_targets, tail.test_targets)
    counts = np.bincount(tail.pool_targets)
    assert counts[0] == (plain.pool_targets == 0).sum()
    assert counts[9] == round((plain.pool_targets == 9).sum() / 20)
    assert len(tail.pool_images) == len(tail.pool_targets) == counts.sum()
    assert tail.notes["long tail"] == (
        f"{counts.sum():,} of {len(plain.pool_targets):,} items of the pool, {counts[0]:,} of the largest "
        f"class and {counts[9]:,} of the smallest; the test set as it is"
    )


@pytest.mark.parametrize("argument", ["digits-ten", "1:digits-ten", "x:digits-ten", "nan:a", "50:"])
def test_long_tail_says_what_it_expects(argument: str) -> None:
    with pytest.raises(UserError, match=r"Expected long-tail:RHO:NAME|needs an argument"):
        resolve_task(f"long-tail:{argument}")


def test_what_is_computed_is_thinned_first(locations: DataLocations) -> None:
    with pytest.raises(UserError, match="Thin first"):
        load_data(resolve_task("long-tail:10:augmented:digits-two:100"), locations)
    made = load_data(resolve_task("augmented:long-tail:10:digits-two:100"), locations)
    assert made.pool_images.shape[0] == 100


def test_balanced_accuracy_is_the_headline_although_the_test_set_is_even(tmp_path: Path) -> None:
    def compared(task: str) -> alharness.ComparisonResult:
        for strategy in ("random", "margin"):
            alharness.run(
                strategy,
                task,
                runs_dir=tmp_path / task.replace(":", "-"),
                tracking=False,
                budget=30,
                query_size=10,
                initial_size=20,
                learner={"kind": "linear"},
            )
        return alharness.compare(tmp_path / task.replace(":", "-"))

    (even,) = compared("digits-ten").report.sections
    (tail,) = compared("long-tail:20:digits-ten").report.sections
    assert (even.metric, tail.metric) == ("accuracy", "balanced_accuracy")
