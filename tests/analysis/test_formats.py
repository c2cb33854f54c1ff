"""``alharness compare`` for a terminal, a paper and a program."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from alharness.cli import call
from alharness.comparison import formats
from alharness.comparison.comparison import comparisons
from alharness.comparison.formats import FORMATS, as_table
from alharness.comparison.page import render
from alharness.comparison.report import build
from alharness.comparison.tables import TextTable
from alharness.records import read_runs

Make = Callable[..., Path]
GAINS = {"random": 0.0, "./mine.py:Gini": 0.02}


@pytest.fixture
def compare(make_sweep: Make, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What ``alharness compare`` prints."""
    root = make_sweep(GAINS, 6)

    def run(*options: str, code: int = 0) -> str:
        assert call(["compare", str(root), *options]) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    return run


def test_every_format_has_the_same_numbers(compare: Callable[..., str]) -> None:
    rows = list(csv.DictReader(io.StringIO(compare("--format", "csv"))))
    content = json.loads(compare("--format", "json"))
    (comparison,) = content["comparisons"]
    assert [row["strategy"] for row in rows] == ["./mine.py:Gini", "random"]
    for row, item in zip(rows, comparison["strategies"], strict=True):
        for name in content["columns"]:
            own = item[name]
            assert row[name] == ("" if own is None else str(own)), name
    area = f"{float(rows[0]['aubc']):.4f}"
    for form in ("table", "md", "latex"):
        text = compare("--format", form)
        assert area in text
        assert "Gini" in text
    assert content["columns"]["select_s"]["better"] == "less"
    assert content["columns"]["aubc"]["better"] == "more"
    other = json.loads(compare("--format", "json", "--metric", "log_loss"))
    assert other["columns"]["aubc"]["better"] == "less"


def text_of(root: Path, form: str) -> str:
    """The comparison by labelled samples, in a format of ``compare`` or as a page."""
    report = build(comparisons(read_runs(root)), heading="", axis="labels")
    return unescape(render(report)) if form == "html" else FORMATS[form](report)


@pytest.mark.usefixtures("undrawn")
def test_every_format_says_over_what_areas_are_taken(make_run: Any) -> None:
    for seed in range(2):
        make_run("random", seed)
        make_run("margin", seed, labels_per_query=3)  # 50 to 110 labels
    make_run("full", 0, bound=True)
    warning = (
        "Areas are taken over 50 to 70 labelled samples only, the range that all runs cover: digits-two / "
        "random / seed 0 ends at 70, as do 1 more, the longest at 110."
    )
    caption = "Results, ranked by area over the 2 seeds that all share; areas from 50 to 70 labelled samples"
    for form in ("table", "md", "latex", "html", "json"):
        assert warning in text_of(make_run.root, form), form
        assert form == "json" or caption in text_of(make_run.root, form), form
    (first, _) = csv.DictReader(io.StringIO(text_of(make_run.root, "csv")))
    assert (first["aubc_from"], first["aubc_to"]) == ("50.0", "70.0")
    plain = build(comparisons(read_runs(make_run.root)), heading="")
    assert "only, the range" not in as_table(plain)  # by annotations all runs end alike


@pytest.mark.usefixtures("undrawn")
def test_no_format_ranks_what_has_no_area(make_run: Any) -> None:
    """One run of rejections only, and all areas would be the height of cycle 0: equal, and ranked 1, 2, 3."""
    for seed in range(6):
        make_run("random", seed)
        make_run("margin", seed, (0.7, 0.85, 0.95))
        make_run("gaal", seed, (0.7, 0.7, 0.7), labels_per_query=0 if seed == 3 else 1)
    make_run("full", 0, bound=True)
    warning = (
        "There is no range of labelled samples that all runs cover (digits-two / gaal / seed 3 ends at 50, "
        "the longest at 70), hence no area under the curve: nothing is ranked or tested."
    )
    for form in ("table", "md", "latex", "html", "json"):
        text = text_of(make_run.root, form)
        assert warning in text, form
        assert "are equal on" not in text
        assert not re.search(r"ranked by|\brank\b *[|&s<]", text), form
    rows = list(csv.DictReader(io.StringIO(text_of(make_run.root, "csv"))))
    assert {(row["rank"], row["aubc"], row["p"]) for row in rows} == {("", "", "")}


def test_the_ending_decides(compare: Callable[..., str], tmp_path: Path) -> None:
    starts = {
        "csv": "comparison,strategy,", "md": "# Runs of", "tex": "% Runs of", "json": "{",
        "txt": "Complete: ",
    }  # fmt: skip
    for ending, start in starts.items():
        path = tmp_path / "new" / f"out.{ending}"
        assert compare("--out", str(path)).startswith("Complete: ")  # shown as a table all the same
        assert path.read_text().startswith(start)
    path = tmp_path / "out.tex"
    compare("--out", str(path), "--format", "md")
    assert path.read_text().startswith("# Runs of")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "x.pdf"], "ending of 'x.pdf' tells no format"),
        (["--format", "latx"], "Did you mean 'latex'"),
        (["--label", "Gini"], "takes NAME=LABEL"),
        (["--label", "./mine.py:Gin=G"], "Did you mean './mine.py:Gini'"),
        (["--label", "./mine.py:Gini=random"], "one name, 'random'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    compare: Callable[..., str], options: list[str], message: str
) -> None:
    (line,) = compare(*options, code=2).splitlines()
    assert message in line


def test_names_are_escaped_by_the_rules_of_the_format(
    make_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "50 %_$x^2$ & #1 {a|b} <i> \\input"
    make_run("mine", 0, parameters={"rule": name})
    given = ["compare", str(make_run.root), "--format"]
    assert call([*given, "latex"]) == 0
    assert (
        "50 \\%\\_\\$x\\textasciicircum{}2\\$ \\& \\#1 \\{a\\textbar{}b\\} "
        "\\textless{}i\\textgreater{} \\textbackslash{}input"
    ) in capsys.readouterr().out
    assert call([*given, "md"]) == 0
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if "50 %" in line and "1 |" in line
    ]
    assert "a\\|b" in line
    assert "&lt;i>" in line
    assert line.replace("\\|", "").count("|") == 8  # seven cells


def test_a_name_cannot_steer_the_terminal(make_run: Any, capsys: Any) -> None:
    make_run("mine", 0, parameters={"rule": "\x1b[2Jgone\nnext"})
    assert call(["compare", str(make_run.root)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "gone next" in printed


def test_columns_stand_below_each_other_in_any_script(make_run: Any, capsys: Any) -> None:
    make_run("mine", 0, parameters={"rule": "\u732b\u732b"})
    make_run("other", 0, parameters={"rule": "four"})
    assert call(["compare", str(make_run.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    wide = next(line for line in lines if line.startswith("  mine(rule="))
    plain = next(line for line in lines if line.startswith("  other(rule="))
    assert len(wide) + 2 == len(plain)  # two signs take two columns each


def test_a_label_stands_for_a_strategy_everywhere(compare: Callable[..., str]) -> None:
    text = compare("--label", "./mine.py:Gini=Gini", "--label", "random=Chance")
    assert "./mine.py" not in text
    assert "Gini is above Chance by" in text
    assert "ranked by area" in text  # random is still the baseline, whatever it is called
    assert "Chance is below Gini" in compare(
        "--label", "./mine.py:Gini=Gini", "--label", "random=Chance", "--against", "Gini"
    )


def test_an_unwritable_place_is_one_line(
    compare: Callable[..., str], make_sweep: Make, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "file").write_text("in the way")
    (line,) = compare("--out", str(tmp_path / "file" / "x.csv"), code=2).splitlines()
    assert "cannot be written" in line
    assert call(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "file" / "x")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line


@pytest.mark.parametrize("width", [80, 60, 200])
def test_a_table_fits_the_terminal_and_loses_nothing(make_sweep: Make, width: int) -> None:
    gains = {"random": 0.0, "max-entropy": 0.02, "asal-auto-random-latent": 0.01}
    report = build(comparisons(read_runs(make_sweep(gains, 8))), heading="x")
    whole, narrow = as_table(report), as_table(report, width)
    assert max(map(len, narrow.splitlines())) <= width
    assert max(map(len, whole.splitlines())) > 120
    for word in re.findall(r"\S+", whole):
        assert word in narrow
    for line in whole.splitlines():  # every figure of a row, whatever piece it stands in
        if line.startswith("  1     max-entropy"):
            row = re.split(r"\s{2,}", line.strip())
            found = [text for text in narrow.splitlines() if text.startswith("  1     max-entropy")]
            assert [
                cell for text in found for cell in re.split(r"\s{2,}", text.strip())[2:]
            ] == row[2:]


@pytest.mark.parametrize(
    ("name", "header", "n_words"),
    [
        ("results", ("rank", "strategy", "area of it", "final one"), 2),
        ("stopping", ("strategy", "rule", "cycles in all", "lost one"), 2),
        ("tests", ("strategy", "area of it", "final one"), 1),
    ],
)
def test_words_stand_at_the_left_of_each_piece_and_figures_end_below_each_other(
    name: str, header: tuple[str, ...], n_words: int
) -> None:
    rows = (("ab", "uvwx", "1.5", "20.25"), ("cdefghi", "z", "10.5", "0.25"))
    rows = tuple(row[-len(header) :] for row in rows)
    table = TextTable(name, "what it is", header, rows)
    (caption, _, *whole) = formats.columns_of(table)
    assert caption == "  what it is"
    for column in range(len(header)):
        places = [line.index(row[column], 2) for line, row in zip(whole, rows, strict=True)]
        ends = [at + len(row[column]) for at, row in zip(places, rows, strict=True)]
        assert len(set(places if column < n_words else ends)) == 1, header[column]
    narrow = formats.columns_of(table, 20)
    pieces = [line.split() for line in narrow if line.startswith(f"  {rows[0][0]} ")]
    assert [piece[:n_words] for piece in pieces] == [list(rows[0][:n_words])] * len(pieces)
    assert sum(len(piece) - n_words for piece in pieces) == len(header) - n_words
    assert len(pieces) == len(header) - n_words
