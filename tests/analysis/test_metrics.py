"""Figures of curves, on curves whose figures are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alharness.comparison import metrics
from alharness.comparison.comparison import comparisons
from alharness.comparison.series import area
from alharness.records import read_runs

Make = Callable[..., Path]


def test_area_is_the_mean_height() -> None:
    x = np.array([50.0, 60.0, 80.0])
    assert area(x, np.array([0.9, 0.9, 0.9])) == pytest.approx(0.9)
    assert area(x, np.array([0.0, 1.0, 1.0])) == pytest.approx((5 + 20) / 30)
    assert area(np.array([50.0]), np.array([0.7])) == 0.7


def test_first_reached_is_an_evaluated_position_or_never() -> None:
    x, y = np.array([50.0, 60.0, 70.0]), np.array([0.8, 0.95, 0.93])
    assert metrics.first_reached(x, y, 0.9) == 60
    assert metrics.first_reached(x, y, 0.96) == float("inf")


def test_the_table_of_a_small_comparison(make_run: Any) -> None:
    for seed in range(3):
        make_run("random", seed, [0.5, 0.6, 0.7])
        make_run("margin", seed, [0.5, 0.7, 0.7 + seed / 10])
    make_run("full", 0, [0.72] * 3, bound=True)
    comparison = comparisons(read_runs(make_run.root))[0]
    margin, random = metrics.table(comparison)
    assert (margin.label, margin.rank, random.label, random.rank) == ("margin", 1, "random", 2)
    assert random["aubc"] == pytest.approx(0.6)
    assert margin["aubc"] == pytest.approx(0.675)
    assert margin["final"] == pytest.approx(0.8)
    assert margin["balanced_accuracy"] == pytest.approx(0.7)
    assert margin["reached_95"] == 60  # 0.95 x 0.72 = 0.684
    assert random["reached_95"] == 70
    assert margin["efficiency_95"] == pytest.approx(70 / 60)
    assert margin.against is not None
    assert margin.against.n == 3
    assert margin.against.mean == pytest.approx(0.075)
    assert not margin.against.significant
    assert random.against is None


def test_never_reached_in_half_of_the_seeds_is_never(make_run: Any) -> None:
    make_run("random", 0, [0.5, 0.9])
    make_run("random", 1, [0.5, 0.5])
    series = comparisons(read_runs(make_run.root))[0].series[0]
    assert metrics.median_reached(series, "queries", "accuracy", 0.8) == float("inf")


def test_log_loss_ranks_small_first(make_run: Any) -> None:
    make_run("random", 0, [0.5, 0.6])
    make_run("margin", 0, [0.5, 0.9])
    make_run("full", 0, [0.95, 0.95], bound=True)
    comparison = comparisons(read_runs(make_run.root))[0]
    assert metrics.table(comparison, metric="log_loss")[0].label == "margin"


def test_areas_are_taken_over_the_range_that_all_runs_cover(make_run: Any) -> None:
    make_run("random", 0, [0.5, 0.6, 0.7])
    make_run("adba", 0, [0.5, 0.6, 0.7], labels_per_query=11)
    comparison = comparisons(read_runs(make_run.root))[0]
    by_query = comparison.areas("queries", "accuracy")
    assert len({round(value, 9) for value in by_query.values()}) == 1
    by_label = {
        s.label: comparison.areas("labels", "accuracy")[id(s.runs[0])] for s in comparison.series
    }
    # On 50..70 labels ADBA has made a fifth of a step: 0.5 -> 0.5 + 0.1 * 20/110.
    assert by_label["adba"] == pytest.approx(0.5 + 0.1 * 10 / 110)


def test_without_a_range_that_all_runs_cover_there_is_no_area(make_run: Any) -> None:
    """One run whose annotator rejects everything stays at its 50 labels: no height there is an area."""
    for seed in range(6):
        make_run("random", seed, [0.5, 0.6, 0.7])
        make_run("margin", seed, [0.5, 0.7, 0.8])
        make_run("gaal", seed, [0.5, 0.5, 0.5], labels_per_query=0 if seed == 3 else 1)
    make_run("full", 0, [0.72] * 3, bound=True)
    comparison = comparisons(read_runs(make_run.root))[0]
    for row in metrics.table(comparison, axis="labels"):
        assert np.isnan(row["aubc"])
        assert np.isnan(row["aubc_low"])
        assert (row.rank, row.against, row["aubc_from"], row["aubc_to"]) == (None, None, 50, 50)
        assert row.values()["aubc"] == ""
    assert metrics.scores_over_tasks([comparison], axis="labels") == ([], {})
    by_query = {row.label: row for row in metrics.table(comparison)}
    assert [by_query[name].rank for name in ("margin", "random", "gaal")] == [1, 2, 3]
    assert (by_query["gaal"]["aubc_from"], by_query["gaal"]["aubc_to"]) == (50, 70)
    assert (by_query["gaal"]["pairs_above"], by_query["gaal"]["pairs_below"]) == (0, 6)


def test_strategies_of_equal_areas_share_their_place(make_run: Any) -> None:
    """Also where their areas, summed in another order, differ in the last bit."""
    for seed in range(6):
        make_run("random", seed, [0.4, 0.5, 0.4])
        make_run("margin", seed, [0.4, 0.8, 0.4])  # 0.6000000000000001
        make_run("least-confidence", seed, [0.4, 0.8, 0.4])
        make_run("max-entropy", seed, [0.4, 0.55, 0.9])  # 0.6
        make_run("core-set", seed, [0.4, 0.9, 0.4])
    make_run("full", 0, [0.72] * 3, bound=True)
    comparison = comparisons(read_runs(make_run.root))[0]
    areas = comparison.areas("queries", "accuracy").values()
    assert len(set(areas)) == 4  # not three
    rows = metrics.table(comparison, against="margin")
    assert [(row.label, row.rank) for row in rows] == [
        ("core-set", 1),
        ("least-confidence", 2),
        ("margin", 2),
        ("max-entropy", 2),
        ("random", 5),
    ]
    tests = {row.label: row.against for row in rows if row.against is not None}
    assert (tests["max-entropy"].mean, tests["max-entropy"].p) == (0.0, 1.0)
    assert metrics.beats(np.array([[1e-17], [1e-17], [2e-17]])).tolist() == [0]


def test_break_even_is_where_the_saved_seconds_pay_the_preparation(make_run: Any) -> None:
    entry = {"name": "generator", "seconds": 9.0, "cached": True, "load_s": 0.1, "details": {}}
    make_run("asal-gray", 0, [0.5, 0.6, 0.7], select_s=1.0, preparation=[entry])
    make_run("max-entropy", 0, [0.5, 0.6, 0.7], select_s=3.0)
    comparison = comparisons(read_runs(make_run.root))[0]
    asal, entropy = comparison.series
    assert metrics.break_even(asal, entropy) == 5  # ceil(9 / 2)
    assert np.isnan(metrics.break_even(entropy, asal))  # cheaper at first, dearer later
    assert metrics.break_even(asal, asal) == 0
    seconds = metrics.total_seconds(asal.runs[0], preparation_s=9.0)
    assert seconds == pytest.approx([9.1, 10.2, 11.3])


def test_each_sessions_first_selection_is_left_out_of_seconds_and_phases(make_run: Any) -> None:
    path = make_run("random", 0, [0.5, 0.6, 0.7, 0.8, 0.9], select_s=1.0)
    lines = [json.loads(line) for line in (path / "cycles.jsonl").read_text().splitlines()]
    for line, cold in zip(lines, [True, False, True, False], strict=False):
        line["time"] |= {"cold": cold}
        if cold:
            line["time"] |= {"select_s": 50.0, "phases": {"score": 50.0}}
    (path / "cycles.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    series = comparisons(read_runs(make_run.root))[0].series[0]
    assert metrics.select_seconds(series) == 1.0
    assert metrics.phase_seconds(series) == {"score": 1.0}


def test_the_penalty_matrix_counts_positions_won(make_sweep: Make) -> None:
    root = make_sweep({"random": 0.0, "margin": 0.03, "max-entropy": 0.03}, n_seeds=8)
    comparison = comparisons(read_runs(root))[0]
    found = metrics.penalties(comparison)
    assert found is not None
    index = {label: i for i, label in enumerate(found.labels)}
    assert found.matrix[index["margin"], index["random"]] > 0.9
    assert found.matrix[index["random"], index["margin"]] == 0
    assert found.matrix[index["margin"], index["max-entropy"]] < 0.3
    assert np.argmax(found.losses) == index["random"]


def test_there_is_no_penalty_matrix_below_six_pairs(make_sweep: Make) -> None:
    root = make_sweep({"random": 0.0, "margin": 0.03}, n_seeds=5)
    assert metrics.penalties(comparisons(read_runs(root))[0]) is None


def test_beats_by_a_paired_t_test() -> None:
    gaps = np.array([[1.0, 1.0, 0.0], [1.1, -1.0, 0.0], [0.9, 1.0, 0.0], [1.0, -1.0, 0.0]])
    assert metrics.beats(gaps).tolist() == [1, 0, 0]


def test_imbalance_is_seen_in_the_test_set(make_run: Any) -> None:
    make_run("random", 0, task="digits-two")
    make_run("random", 0, task="rare", task_facts={"test_counts": [95, 5]})
    balanced, rare = comparisons(read_runs(make_run.root))
    assert not metrics.is_imbalanced(balanced)
    assert metrics.is_imbalanced(rare)
    assert metrics.majority_accuracy(rare) == pytest.approx(0.95)


def test_entropy_and_class_shares_of_the_queries(make_run: Any) -> None:
    make_run("random", 0, entropy=0.1)
    make_run("random", 1, entropy=0.3)
    series = comparisons(read_runs(make_run.root))[0].series[0]
    assert metrics.mean_entropy(series) == pytest.approx(0.2)
    assert metrics.class_shares(series).tolist() == [0.5, 0.5]
    assert metrics.phase_seconds(series) == {"score": pytest.approx(0.01)}
    assert metrics.work_per_query(series) == {"pool_items_scored": 100.0}
