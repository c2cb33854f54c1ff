"""The figure for a paper: what it shows, that it can be told apart, and the files that it becomes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alharness.cli import call
from alharness.comparison import paper
from alharness.comparison.comparison import Comparison, comparisons
from alharness.comparison.intervals import interval
from alharness.errors import UserError
from alharness.records import read_runs


@pytest.fixture
def study(make_run: Any) -> Comparison:
    for seed in range(6):
        make_run("random", seed)
        for name in ("margin", "asal-gray", "gaal", "mine"):
            make_run(name, seed)
    (found,) = comparisons(read_runs(make_run.root))
    return found


def numbers(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_holds_mean_and_interval_at_every_position(study: Comparison) -> None:
    chart = paper.paper_figure(study, only=["margin"])
    rows = [row for row in numbers(chart.csv) if row["quantity"] == "value"]
    assert {row["strategy"] for row in rows} == {"margin", "random"}  # the baseline is always there
    x, values = study.find("margin").curves("queries", "accuracy")
    of_margin = [row for row in rows if row["strategy"] == "margin"]
    for at, column, row in zip(x, values.T, of_margin, strict=True):
        low, high = interval(column)
        assert float(row["n_asked"]) == at
        assert float(row["mean"]) == pytest.approx(column.mean())
        assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high))
        assert int(row["runs"]) == 6


def test_the_baseline_is_drawn_once_wherever_it_is_named(study: Comparison) -> None:
    for only, shown in (
        (["margin"], ["margin", "random"]),
        (["random", "margin"], ["random", "margin"]),
        (["margin", "random", "gaal"], ["margin", "random", "gaal"]),
        (["random"], ["random"]),
    ):
        assert [series.label for series in paper._chosen(study, only)] == shown


def test_a_name_is_the_plain_setting_where_there_is_one_and_else_all_settings(
    make_run: Any,
) -> None:
    make_run("random", 0)
    make_run("asal-gray", 0)
    for steps in (0, 3):
        make_run("asal-gray", 0, parameters={"latent_steps": steps})
        make_run("gaal", 0, parameters={"latent_steps": steps})
    (found,) = comparisons(read_runs(make_run.root), labels={"asal-gray": "ours"})
    shown = [
        s.label for s in paper._chosen(found, ["asal-gray", "asal-gray(latent_steps=3)", "gaal"])
    ]
    one, other = "gaal(latent_steps=0)", "gaal(latent_steps=3)"
    assert shown == ["ours", "ours(latent_steps=3)", one, other, "random"]


def test_differences_are_of_pairs_with_equal_seeds(study: Comparison) -> None:
    chart = paper.paper_figure(study, only=["mine"])
    rows = [row for row in numbers(chart.csv) if row["quantity"] == "difference"]
    first, base = study.find("mine"), study.find("random")
    expected = np.mean(
        [first.by_pair[p].y("accuracy") - base.by_pair[p].y("accuracy") for p in base.by_pair],
        axis=0,
    )
    assert [float(row["mean"]) for row in rows] == pytest.approx(list(expected))


def test_no_two_strategies_of_a_figure_look_alike(study: Comparison) -> None:
    shown = paper._chosen(study, [])
    styles = paper._styles(shown, study.baseline)
    coloured = [style["color"] for style in styles.values()]
    assert len(set(coloured)) == len(coloured)
    grey = [(str(style["linestyle"]), style["marker"]) for style in styles.values()]
    assert len(set(grey)) == len(grey)


def test_the_first_one_lies_on_top_and_has_the_band(study: Comparison) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.3, 3.3))
    paper.paper_figure(study, only=["mine", "margin"]).draw(figure)
    top = figure.axes[0]
    heights = {str(line.get_label())[1:]: line.get_zorder() for line in top.lines}
    assert heights["mine"] > heights["margin"] > heights["random"]
    assert len(top.collections) == 1


@pytest.mark.parametrize(
    ("ending", "begins"),
    [("pdf", b"%PDF"), ("png", b"\x89PNG"), ("svg", b"<?xml"), ("csv", b"quan")],
)
def test_the_ending_says_the_format(
    study: Comparison, ending: str, begins: bytes, tmp_path: Path
) -> None:
    path = paper.paper_figure(study).save(tmp_path / f"a.{ending}")
    assert path.read_bytes().startswith(begins)
    again = paper.paper_figure(study).save(tmp_path / f"b.{ending}")
    assert again.read_bytes() == path.read_bytes()  # no date, no chance


def test_the_command_draws_what_was_asked_for(
    make_run: Any, study: Comparison, tmp_path: Path
) -> None:
    out = tmp_path / "curves.svg"
    asked = ["figure", str(make_run.root), "--only", "mine,margin", "--out", str(out)]
    assert call(asked) == 0
    assert out.stat().st_size > 1000


def test_a_data_set_without_the_strategy_is_left_out_with_a_word(
    make_run: Any, study: Comparison, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_run("max-entropy", 0, task="mnist-two")
    out = tmp_path / "curves.svg"
    assert call(["figure", str(make_run.root), "--only", "margin", "--out", str(out)]) == 0
    assert [path.name for path in tmp_path.glob("*.svg")] == ["curves.svg"]
    assert "mnist-two has no runs of margin: no figure is drawn." in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "margn"], "margin"),
        (["--out", "f.jpg"], "a .pdf, .svg, .png or .csv file"),
        (["--width", "0.5"], "at least 2 inches"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    make_run: Any, study: Comparison, options: list[str], message: str, capsys: Any
) -> None:
    assert call(["figure", str(make_run.root), *options]) == 2
    assert message in capsys.readouterr().err


def test_an_undefined_figure_is_refused(study: Comparison) -> None:
    with pytest.raises(UserError, match="Unknown metric"):
        paper.paper_figure(study, metric="nothing")


def test_a_long_name_is_not_cut_off_by_the_edge() -> None:
    """At a column's width two columns of names hold short ones only."""
    assert paper._columns(["margin", "badge", "random", "core-set"], 3.3) == 2
    assert paper._columns(["badge", "max-entropy", "subset:500:max-entropy", "random"], 3.3) == 1
    assert paper._columns(["badge", "max-entropy", "subset:500:max-entropy", "random"], 6.8) >= 2
