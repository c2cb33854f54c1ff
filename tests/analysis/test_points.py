"""What a reader wants first: one line in words, and a table at chosen numbers of labels."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import alharness
from alharness.cli import call
from alharness.comparison.comparison import comparisons
from alharness.comparison.formats import as_table
from alharness.comparison.report import build
from alharness.errors import UserError
from alharness.records import read_runs
from alharness.records.published import publish

Make = Callable[..., Path]


def headline_of(root: Path, **options: Any) -> str:
    report = build(comparisons(read_runs(root)), heading="runs", **options)
    return report.sections[0].headline


def seven(make_run: Any, strategy: str, gain: float, n_seeds: int = 7, **options: Any) -> None:
    """Runs of 50 to 90 annotations: the random ones reach .9 at the end."""
    for seed in range(n_seeds):
        more = gain + 0.001 * seed * (gain > 0)
        make_run(strategy, seed, [0.7, *(v + more for v in (0.75, 0.8, 0.85, 0.9))], **options)


def test_the_first_line_says_who_needs_how_many_labels_and_whether_it_is_decided(
    make_run: Any,
) -> None:
    seven(make_run, "random", 0.0)
    seven(make_run, "margin", 0.1)
    assert headline_of(make_run.root) == (
        "margin needs 70 annotations where random needs 90 (test accuracy 0.9000; medians over 7 seeds); its "
        "curve is significantly above that of random."
    )


def test_the_first_line_tells_how_many_seeds_would_decide(make_run: Any) -> None:
    for seed, middle in enumerate((0.95, 0.94, 0.93, 0.92, 0.75, 0.74, 0.91)):
        make_run("random", seed, [0.7, 0.8, 0.9])
        make_run("margin", seed, [0.7, middle, 0.93])
    told = headline_of(make_run.root)
    assert told.startswith("margin needs 60 annotations where random needs 70")
    assert "not decided; about " in told
    assert "more seeds would decide a difference of this size." in told


def test_three_seeds_decide_nothing_in_the_first_line(make_run: Any) -> None:
    seven(make_run, "random", 0.0, 3)
    seven(make_run, "margin", 0.1, 3)
    assert "3 pairs of seeds decide nothing, 6 are the fewest that can." in headline_of(
        make_run.root
    )


def test_where_nobody_saves_labels_the_first_line_says_so(make_run: Any) -> None:
    seven(make_run, "random", 0.0)
    seven(make_run, "margin", -0.05)
    assert headline_of(make_run.root) == (
        "No strategy is ahead of random in test accuracy over the whole range."
    )


def test_at_uneven_classes_nothing_is_headed_by_accuracy(make_sweep: Make) -> None:
    root = make_sweep({"random": 0.0, "margin": 0.02}, 6, task_facts={"test_counts": [95, 5]})
    found = alharness.compare(root)
    (section,) = found.report.sections
    assert section.metric == "balanced_accuracy"
    assert "balanced test accuracy" in found.headline
    shown = as_table(found.report)
    before, _, _ = shown.partition("Results")
    assert "final balanced test accuracy" in shown
    assert "this is about balanced test accuracy, not accuracy" in before
    # Who asks for accuracy gets it, with a word.
    asked = as_table(alharness.compare(root, metric="accuracy").report)
    assert "uneven: read balanced accuracy and average precision" in asked
    rows = list(csv.DictReader(io.StringIO(found.text("csv"))))
    assert {row["metric"] for row in rows} == {"balanced_accuracy"}


def test_a_missing_bound_is_told_with_the_command_that_adds_it(make_run: Any) -> None:
    seven(make_run, "random", 0.0)
    seven(make_run, "margin", 0.1)
    (comparison,) = comparisons(read_runs(make_run.root))
    why = comparison.why_no_ranking()
    words = shlex.split(why[why.index("alharness run") :].rstrip("."))
    assert words[:3] == ["alharness", "run", "--config"]
    assert Path(words[3]).is_file()
    assert words[4:] == ["--strategy", "full", "--runs-dir", str(make_run.root)]


def test_the_command_that_adds_the_bound_adds_it(tmp_path: Path, capsys: Any) -> None:
    """Run as it is printed: the comparison has its bound and a ranking, under one protocol."""
    runs = tmp_path / "runs"
    for name in ("random", "margin"):
        alharness.run(name, "digits-two", budget=40, min_steps=5, runs_dir=runs, tracking=False)
    why = alharness.compare(runs).report.sections[0].comparison.why_no_ranking()
    words = shlex.split(why[why.index("alharness run") :].rstrip("."))
    assert call([*words[1:], "--no-tracking"]) == 0
    (section,) = alharness.compare(runs).report.sections
    assert section.comparison.can_rank


def test_the_table_at_labels_has_mean_spread_best_and_tests_of_scipy(make_run: Any) -> None:
    rng = np.random.default_rng(1)
    values: dict[str, list[list[float]]] = {"random": [], "margin": [], "badge": []}
    for seed in range(10):
        for gain, (strategy, kept) in enumerate(values.items()):
            curve = [0.7, 0.8 + 0.01 * gain, 0.9]
            kept.append([float(v) for v in curve + 0.005 * rng.standard_normal(3)])
            make_run(strategy, seed, kept[-1])
    table = alharness.compare(make_run.root).at(60, 70).table
    assert list(table["strategy"].unique()) == ["random", "badge", "margin"]
    for place, at in enumerate((60, 70), 1):
        column = table[table["at"] == at].set_index("strategy")
        each = {name: np.array(rows)[:, place] for name, rows in values.items()}
        for name, own in each.items():
            assert column.loc[name, "mean"] == pytest.approx(own.mean())
            assert column.loc[name, "deviation"] == pytest.approx(own.std(ddof=1))
        best = max(each, key=lambda name: each[name].mean())
        assert list(column.index[column["best"]]) == [best]
        p = {
            name: stats.wilcoxon(each[name] - each["random"], method="exact").pvalue
            for name in ("badge", "margin")
        }
        small, large = sorted(p, key=lambda name: p[name])
        assert column.loc[small, "p_holm"] == pytest.approx(min(1.0, 2 * p[small]))
        assert column.loc[large, "p_holm"] == pytest.approx(max(2 * p[small], p[large]))
        marked = {n for n in p if column.loc[n, "p_holm"] <= 0.05}
        assert set(column.index[column["mark"] == "+"]) == marked
        assert column.loc["random", "mark"] == ""


def test_between_two_classifiers_the_one_with_fewer_labels_counts_and_it_is_said(
    make_run: Any,
) -> None:
    seven(make_run, "random", 0.0)
    seven(make_run, "margin", 0.1)
    (part,) = alharness.compare(make_run.root).at(75).parts
    assert part.rows["random"][0].mean == pytest.approx(0.8)  # that of 70
    assert any("exactly 75" in text and "(70)" in text for text in part.remarks)


@pytest.mark.parametrize("at", [49, 91, 0, -5, math.nan, math.inf])
def test_a_position_that_no_run_reaches_is_refused_with_the_range(make_run: Any, at: float) -> None:
    seven(make_run, "random", 0.0)
    with pytest.raises(UserError, match=r"50 to 90|above 0"):
        alharness.compare(make_run.root).at(70, at)


def test_several_data_sets_are_one_float_in_latex(make_sweep: Make) -> None:
    make_sweep({"random": 0.0, "margin": 0.02}, 6, task="a_b")
    root = make_sweep({"random": 0.0, "badge": 0.02}, 6, task="ccc")
    found = alharness.compare(root).at(60, 100)
    text = found.text("latex")
    assert text.count("\\begin{table}") == text.count("\\begin{tabular}{lrrrr}") == 1
    assert "\\multicolumn{2}{c}{a\\_b} & \\multicolumn{2}{c}{ccc}" in text
    rows = [line.strip() for line in text.splitlines() if line.strip().startswith("badge")]
    assert len(rows) == 1
    assert rows[0].count("&") == 4
    assert rows[0].startswith("badge & -- & -- & \\textbf{")
    assert "all labels (bound) & \\multicolumn{2}{c}{" in text
    assert "$\\pm$" in text
    assert "±" not in text
    # The same numbers everywhere.
    mean = found.table.query("strategy == 'badge' and at == 100")["mean"].item()
    for form in ("table", "md", "latex"):
        assert f"{mean:.3f}" in found.text(form), form
    content = json.loads(found.text("json"))
    assert [c["title"] for c in content["comparisons"]] == ["a_b", "ccc"]
    assert len(list(csv.DictReader(io.StringIO(found.text("csv"))))) == 8


def test_the_command_writes_the_table(make_sweep: Make, tmp_path: Path, capsys: Any) -> None:
    root = make_sweep({"random": 0.0, "margin": 0.02}, 6)
    assert call(["compare", str(root), "--at", "60,100", "--out", str(tmp_path / "t.tex")]) == 0
    assert "margin needs" in capsys.readouterr().out
    assert "\\begin{table}" in (tmp_path / "t.tex").read_text()
    assert call(["compare", str(root), "--at", "60,many"]) == 2
    assert "100,200,500; found '60,many'" in capsys.readouterr().err


def test_every_line_fits_a_terminal_of_80_columns(make_sweep: Make) -> None:
    root = make_sweep({"random": 0.0, "margin": 0.02, "./mine.py:Gini": 0.01}, 6)
    found = alharness.compare(root)
    for text in (as_table(found.report, 80), found.at(60, 70, 80, 90, 100).text("table", 80)):
        assert max(map(len, text.splitlines())) <= 80
    # A mean and its interval stand side by side, under heads of three lines at most.
    lines = as_table(found.report, 80).splitlines()
    heads = [line for line in lines if "95 % interval" in line]
    assert heads
    assert all(line.split("95 % interval")[0].strip().split("  ")[-1] for line in heads)


def test_published_studies_are_judged_apart_and_nothing_names_where_they_were_unpacked(
    make_run: Any, tmp_path: Path, capsys: Any
) -> None:
    """Two studies of one task under two protocols: in one file they are refused, as two they are not."""
    seven(make_run, "random", 0.0)
    seven(make_run, "margin", 0.1)
    first = read_runs(make_run.root)
    seven(make_run, "random", 0.0, protocol={"learner": "other"}, spec={"note": 1})
    both = read_runs(make_run.root)
    paths = {run.folder for run in first}
    records = tmp_path / "records"
    records.mkdir()
    publish(first, records / "one.tar.xz")
    publish([run for run in both if run.folder not in paths], records / "two.tar.xz")
    found = alharness.compare(published=records)
    titles = [section.comparison.title for section in found.report.sections]
    assert titles == ["digits-two, study one", "digits-two, study two"]
    publish(both, tmp_path / "all.tar.xz")
    for command in (
        ["compare", "--published", str(tmp_path / "all.tar.xz")],
        ["report", "--published", str(tmp_path / "all.tar.xz"), "--out", str(tmp_path / "r")],
        ["compare", str(tmp_path / "all.tar.xz")],
    ):
        assert call(command) == 2
        told = capsys.readouterr().err
        assert f"'{tmp_path / 'all.tar.xz'}/digits-two/" in told
        assert "/alharness-" not in told  # the folder that is gone by now


def test_published_records_that_are_not_there_are_told_in_a_line(
    tmp_path: Path, capsys: Any
) -> None:
    assert call(["compare", "--published", str(tmp_path)]) == 2
    assert "no published records" in capsys.readouterr().err
    assert call(["compare", "--published", str(tmp_path / "no.tar.xz")]) == 2
    assert "no file" in capsys.readouterr().err
    assert call(["compare", str(tmp_path), "--published", str(tmp_path)]) == 2
    assert "Give one" in capsys.readouterr().err
    assert call(["compare", "--published", str(tmp_path), "--seeds", "0-3"]) == 2
    assert "--seeds belongs to a sweep" in capsys.readouterr().err


def test_a_figure_is_shown_in_a_notebook_and_written_where_a_path_is_given(
    make_sweep: Make, tmp_path: Path
) -> None:
    found = alharness.compare(make_sweep({"random": 0.0, "margin": 0.02}, 6))
    shown = found.figure(only=["margin"])
    assert shown.files == ()
    assert shown._repr_html_().startswith("<svg")
    assert (shown._repr_png_() or b"").startswith(b"\x89PNG")
    assert (
        repr(shown)
        == "<1 figure; to write one: figure('curves.pdf'), or .charts[0].save('curves.pdf')>"
    )
    assert found.figure(tmp_path / "f.svg").files == (tmp_path / "f.svg",)
    assert found.at(60)._repr_html_().count("<table>") == 1
