"""Where a search by images loses its gain, and what its generator is worth: read off records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alharness.comparison.comparison import Comparison, comparisons
from alharness.comparison.generators import gain_by_quality
from alharness.comparison.losses import chart, losses, table
from alharness.records import read_runs

SEARCHED = {"synthetic_entropy": 0.6, "match_depth_mean": 1.5}


def comparison_of(root: Path) -> Comparison:
    (found,) = comparisons(read_runs(root))
    return found


def test_the_chain_from_images_to_queries_between_both_ends(make_run: Any) -> None:
    make_run("random", entropy=0.1)
    make_run("max-entropy", entropy=0.65)
    make_run("margin", entropy=0.5)
    make_run(
        "asal-gray",
        entropy=0.3,
        diagnostics=SEARCHED,
        rows={"array.synthetic_label": [0, 1, 1, 0], "targets": [0, 1, 0, 0]},
    )
    comparison = comparison_of(make_run.root)
    found = losses(comparison)
    assert found is not None
    (loss,) = found.found
    assert (loss.synthetic, loss.asked, loss.depth) == pytest.approx((0.6, 0.3, 1.5))
    assert loss.agreement == pytest.approx(0.75)
    assert (found.floor, found.ceiling) == (
        pytest.approx(0.1),
        (pytest.approx(0.65), "max-entropy"),
    )
    rows = {row[0]: row for row in table(comparison, found).rows}
    assert rows["asal-gray"][1:] == (
        "0.600",
        "0.300",
        "0.40",
        "1.50",
        "0.75",
    )  # (.3 - .1) / (.6 - .1)
    assert [row[0] for row in chart(comparison, found).rows] == ["asal-gray"]
    assert len(chart(comparison, found).png) > 1000


def test_queries_count_by_their_size_and_seeds_alike(make_run: Any) -> None:
    make_run("asal-gray", 0, diagnostics=SEARCHED, entropy=0.2)
    make_run("asal-gray", 1, diagnostics={**SEARCHED, "synthetic_entropy": 0.4}, entropy=0.4)
    found = losses(comparison_of(make_run.root))
    assert found is not None
    assert (found.found[0].synthetic, found.found[0].asked) == pytest.approx((0.5, 0.3))
    # Neither a baseline nor another strategy, and no classes on record: not known, rather than 0.
    assert math.isnan(found.floor)
    assert math.isnan(found.ceiling[0])
    assert math.isnan(found.found[0].agreement)


def test_items_without_a_label_have_no_image_to_agree_with(make_run: Any) -> None:
    rows = {"array.synthetic_label": [0, 1, 1], "targets": [0, 1]}  # somebody skipped one of three
    make_run("asal-gray", diagnostics=SEARCHED, rows=rows)
    found = losses(comparison_of(make_run.root))
    assert found is not None
    assert math.isnan(found.found[0].agreement)


def test_nothing_is_said_where_nobody_searches(make_run: Any) -> None:
    make_run("random")
    make_run("max-entropy")
    assert losses(comparison_of(make_run.root)) is None


def test_what_a_better_generator_is_worth(make_run: Any) -> None:
    def built(key: str) -> list[dict[str, Any]]:
        entry = {"name": "generator", "seconds": 3.0, "cached": False, "load_s": 0.1}
        return [{**entry, "details": {"key": key}}]

    rng = np.random.default_rng(0)
    for seed in range(6):
        noise = rng.normal(0, 0.001, 2)
        make_run("random", seed, (0.7, 0.8, 0.9))
        for key, width, gain in (("good", 32, 0.04), ("poor", 16, 0.01)):
            accuracy = (0.7, 0.8 + gain + noise[0], 0.9 + gain + noise[1])
            spec = {"generator": {"width": width}}
            make_run("asal-gray", seed, accuracy, preparation=built(key), spec=spec)
    inspections = {"good": {"frechet_auto": 0.3}, "poor": {"frechet_auto": 0.9}}
    drawn = gain_by_quality(comparison_of(make_run.root), inspections)
    assert drawn is not None
    rows = [dict(zip(drawn.header, row, strict=True)) for row in drawn.rows]
    assert [(row["generator"], row["frechet_auto"]) for row in rows] == [
        ("good", 0.3),
        ("poor", 0.9),
    ]
    # Of three positions the first is equal, so that the area gains three quarters of it.
    assert [row["gain"] for row in rows] == pytest.approx([0.03, 0.0075], abs=0.001)
    assert all(row["low"] <= row["gain"] <= row["high"] and row["pairs"] == 6 for row in rows)
    assert len(drawn.png) > 1000
    only_one = {"good": {"frechet_auto": 0.3}}
    assert gain_by_quality(comparison_of(make_run.root), only_one) is None
