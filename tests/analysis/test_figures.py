"""Figures: the numbers behind them, and that they can be told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from alharness.comparison import figures
from alharness.comparison.comparison import comparisons
from alharness.comparison.rank_test import rank_test
from alharness.records import read_runs
from alharness.scaling import figures as scaling_figures
from alharness.scaling.estimates import Line
from alharness.scaling.study import Measurement

Make = Callable[..., Path]


def test_strategies_differ_in_print_without_colour(make_run: Any) -> None:
    for i in range(12):
        make_run(f"strategy-{i}", 0)
    make_run("random", 0)
    styles = figures.styles_of(comparisons(read_runs(make_run.root))[0])
    assert len({(str(s["linestyle"]), s["marker"]) for s in styles.values()}) == 13
    assert len({(s["color"], str(s["linestyle"])) for s in styles.values()}) == 13
    assert styles["random"]["color"] == figures.BASELINE_COLOUR


def test_a_strategy_looks_the_same_in_every_report(make_run: Any) -> None:
    def styles(*strategies: str) -> dict[str, Any]:
        make_run.root = make_run.root.parent / "-".join(strategies)
        for strategy in strategies:
            make_run(strategy, 0)
        return figures.styles_of(comparisons(read_runs(make_run.root))[0])

    few = styles("random", "asal-auto", "mine")
    many = styles("random", "asal-auto", "mine", "badge", "max-entropy", "asal-gray", "asal-disc")
    assert few == {name: many[name] for name in few}
    assert len({(style["color"], str(style["linestyle"])) for style in many.values()}) == len(many)
    label = {"mine": "My own"}
    (comparison,) = comparisons(read_runs(make_run.root), labels=label)
    assert figures.styles_of(comparison)["My own"] == few["mine"]


def test_a_strategy_has_one_colour_in_reports_of_accuracy_and_of_time(make_run: Any) -> None:
    for strategy in ("random", "asal-auto", "mine"):
        make_run(strategy, 0)
    accuracy = figures.styles_of(comparisons(read_runs(make_run.root))[0])
    spent = Measurement(kind="select", name="mine", n=10, query_size=5, repeat=0, seconds=1.0)
    lines = [
        Line("select", name, 5, {10: (spent,)}, {}) for name in ("asal-auto", "mine", "random")
    ]
    for line, style in zip(lines, scaling_figures._styles_of(lines), strict=True):
        assert style["color"] == accuracy[line.name]["color"]


def test_curves_that_hide_each_other_are_named_together(make_run: Any) -> None:
    make_run("random", 0, [0.5, 0.6])
    make_run("margin", 0, [0.5, 0.9])
    make_run("max-entropy", 0, [0.5, 0.9])
    chart = figures.learning_curves(comparisons(read_runs(make_run.root))[0])
    assert chart is not None
    figure = Figure()
    chart.draw(figure)
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["margin\n= max-entropy", "random"]
    assert {row[0] for row in chart.rows} == {"margin", "max-entropy", "random"}


def test_curves_hold_mean_minimum_and_maximum(make_run: Any) -> None:
    make_run("random", 0, [0.5, 0.6])
    make_run("random", 1, [0.5, 0.8])
    make_run("full", 0, [0.9, 0.9], bound=True)
    chart = figures.learning_curves(comparisons(read_runs(make_run.root))[0])
    assert chart is not None
    assert chart.rows == (
        ("random", 50.0, 0.5, 0.5, 0.5, 2),
        ("random", 60.0, pytest.approx(0.7), 0.6, 0.8, 2),
        ("fully supervised", "", pytest.approx(0.9), pytest.approx(0.9), pytest.approx(0.9), 1),
    )
    assert chart.csv.splitlines()[0] == "strategy,n_asked,mean,min,max,runs"


def test_a_picture_shows_something(make_sweep: Make, tmp_path: Path) -> None:
    comparison = comparisons(read_runs(make_sweep({"random": 0.0, "asal-gray": 0.02}, 6)))[0]
    _, png, _ = figures.learning_curves(comparison).write(tmp_path)
    pixels = np.asarray(Image.open(png).convert("RGB"))
    assert pixels.shape[1] > 1500
    blue = (np.abs(pixels.astype(int) - [0, 0x72, 0xB2]).sum(axis=2) < 30).mean()
    assert blue > 1e-3, "the line of the first strategy"
    assert (pixels == 255).all(axis=2).mean() > 0.6, "white paper"


def test_gain_curves_are_paired(make_run: Any) -> None:
    for seed, level in ((0, 0.5), (1, 0.7)):
        make_run("random", seed, [level, level])
        make_run("margin", seed, [level, level + 0.1])
    make_run("margin", 2, [0.1, 0.1])  # has no partner
    comparison = comparisons(read_runs(make_run.root))[0]
    chart = figures.gain_curves(comparison, comparison.find("random"))
    assert chart is not None
    assert chart.rows[1] == ("margin", 60.0, *[pytest.approx(0.1)] * 3, 2)


def test_the_critical_difference_diagram_draws_any_number_of_strategies() -> None:
    rng = np.random.default_rng(0)
    for k in (2, 5, 12):
        test = rank_test({f"strategy {i}": rng.normal(i, 1, 6) for i in range(k)})
        chart = figures.critical_difference(test)
        assert chart.rows[0] == (f"strategy {k - 1}", pytest.approx(test.ranks[0]))
        assert chart.svg.startswith("<svg")
