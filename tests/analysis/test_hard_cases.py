"""What real collections of runs hold: damaged runs, odd names, figures that do not exist."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from alharness.cli import call
from alharness.comparison.comparison import comparisons
from alharness.comparison.figures import class_balance, selection_times
from alharness.comparison.page import safe_names, write
from alharness.comparison.report import Report, build
from alharness.pictures.charts import plain_number, short
from alharness.records import read_runs

Make = Callable[..., Path]


def report_on(root: Path, **options: Any) -> Report:
    return build(comparisons(read_runs(root)), heading="A comparison", **options)


# --- damaged runs ----------------------------------------------------------------------------------

DAMAGE: dict[str, tuple[str, bytes | None]] = {
    "a spec of nothing": ("spec.toml", b""),
    "a spec that is no TOML": ("spec.toml", b"= broken"),
    "a spec of other bytes": ("spec.toml", b"\xff\xfe\x00"),
    "a spec with a list for a task": ("spec.toml", b'task = [1]\nstrategy = "random"\n'),
    "no spec": ("spec.toml", None),
    "an environment of nothing": ("env.json", b""),
    "half an environment": ("env.json", b'{"protocol": {'),
    "an environment that is a list": ("env.json", b"[1, 2]"),
    "facts that are no facts": ("env.json", b'{"task": {"test_counts": "many"}}'),
    "a record that is none": ("cycles.jsonl", b"{}\n{}\n"),
    "records of other bytes": ("cycles.jsonl", b"\x00\xff\n"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_named_and_left_out_and_stops_no_other(
    damage: str, make_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content = DAMAGE[damage]
    make_run("random", 0)
    make_run("margin", 0)
    broken = make_run("margin", 1)
    if content is None:
        (broken / name).unlink()
    else:
        (broken / name).write_bytes(content)
    assert call(["compare", str(make_run.root)]) == 1
    printed = capsys.readouterr()
    assert "Incomplete: 2 of 3 runs are finished; 1 unreadable." in printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith("alharness: left out: ")
    assert str(broken / name) in line


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_file_names_its_damaged_run(
    make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(
        '[base]\ntask = "digits-two"\nbudget = 30\n[[runs]]\nstrategy = ["random"]\nseed = "0-1"\n'
    )
    for seed in ("0", "1"):
        run = f"run --strategy random --dataset digits-two --budget 30 --seed {seed} --quiet"
        assert call([*run.split(), "--no-tracking"]) == 0
    broken = sorted(Path("runs").glob("*/*/*/cycles.jsonl"))[0]
    broken.write_text("{}\n")
    assert call(["report", "s.toml", "--no-tracking"]) == 1
    printed = capsys.readouterr()
    assert "1 of 2 runs are finished; 1 unreadable" in printed.out
    assert str(broken) in printed.err
    assert "digits-two / random / seed" in Path("report/report.html").read_text()


def test_where_no_run_can_be_read_there_is_nothing_to_show(make_run: Any, capsys: Any) -> None:
    for seed in (0, 1):
        (make_run("random", seed) / "env.json").write_text("{")
    assert call(["compare", str(make_run.root)]) == 2
    assert "None of the 2 runs" in capsys.readouterr().err


def test_a_damaged_run_alone_in_its_task_is_named_too(make_run: Any) -> None:
    make_run("random", 0)
    (make_run("random", 0, task="mnist-two") / "spec.toml").write_text("")
    found = comparisons(read_runs(make_run.root))
    assert [(c.task, [item.state for item in c.left_out]) for c in found] == [
        ("digits-two", []),
        ("mnist-two", ["unreadable"]),
    ]


def test_a_damaged_list_of_checks_stops_no_report(make_run: Any, capsys: Any) -> None:
    make_run("random", 0)
    for damage in ("{", "[]", '{"random": {}}', '{"random": 3}'):
        (make_run.root / "conformance.json").write_text(damage)
        assert "'conformance.json' is damaged" in str(report_on(make_run.root).provenance)


def test_a_run_is_compared_from_inside_its_folder(
    make_run: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(make_run("random", 0))
    assert call(["compare", "."]) == 0
    assert "Complete: all 1 runs" in capsys.readouterr().out


# --- figures that do not exist ---------------------------------------------------------------------


@pytest.mark.usefixtures("undrawn")
def test_what_is_not_defined_is_empty_and_nobody_is_sent_to_read_it(
    make_sweep: Make, tmp_path: Path, capsys: Any
) -> None:
    facts = {"test_counts": [100, 0], "class_names": ["bare", "hat"]}
    root = make_sweep({"random": 0.0, "margin": 0.02}, 6, task="hats", task_facts=facts)
    section = report_on(root).sections[0]
    told = " ".join(section.warnings)
    assert "balanced accuracy" not in told
    assert "no item of 'hat'" in told
    assert "curve_average_precision" not in section.by_name
    assert section.rows[0].values()["average_precision"] == ""
    results = section.by_name["results"]
    place = results.header.index("final average precision (class hat)")
    assert {row[place] for row in results.rows} == {"–"}
    # Asked for by name it is refused in words, and nothing is ranked by it.
    csv_path = tmp_path / "all.csv"
    asked = ["compare", str(root), "--metric", "average_precision", "--out", str(csv_path)]
    assert call(asked) == 0
    assert (
        "average precision on the test set (of class hat) is not defined here"
        in capsys.readouterr().out
    )
    with csv_path.open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["rank"], row["aubc"], row["final"]) for row in rows} == {("", "", "")}
    written = write(report_on(root, metric="average_precision"), tmp_path / "report")
    assert "nan" not in written.read_text().split("<svg")[0]


def test_a_figure_that_the_record_leaves_open_is_not_zero(make_run: Any) -> None:
    make_run("random", 0, undefined=["average_precision"])
    row = report_on(make_run.root).sections[0].rows[0]
    assert row.values()["average_precision"] == ""
    assert row["accuracy"] == 0.9
    # Where class 1 is there and class 0 is not, there is something to rank.
    facts = {"test_counts": [0, 10]}
    make_run("random", 0, task="ones", task_facts=facts)
    assert report_on(make_run.root).sections[1].rows[0]["average_precision"] == pytest.approx(0.7)


@pytest.mark.usefixtures("undrawn")
def test_no_number_in_a_csv_is_nan(make_sweep: Make, tmp_path: Path) -> None:
    write(report_on(make_sweep({"random": 0.0, "margin": 0.02}, 2)), tmp_path / "report")
    files = list((tmp_path / "report").rglob("*.csv"))
    assert files
    assert not [path.name for path in files if re.search(r"\bnan\b", path.read_text())]


# --- names -----------------------------------------------------------------------------------------

NAMES = (
    "$1_to_$5", "_other", "[red]x[/red]", "it's \"quoted\"", "{{ 7 * 7 }}", "<b>&amp;", "a|b",
    "$\\frac{", "100 %", "x" * 300, "two\nlines", "Äpfel", "\u732b",
)  # fmt: skip


def test_any_name_goes_through_tables_figures_and_pages(
    make_run: Any, tmp_path: Path, capsys: Any
) -> None:
    facts = {"class_names": list(NAMES), "notes": {name: name for name in NAMES}}
    for name in NAMES:
        parameters = {"rule": name}
        path = make_run(
            "margin", 0, task="pics", parameters=parameters, task_facts=facts, n_classes=len(NAMES)
        )
        _rename(path, NAMES[0])
    root = make_run.root
    page = unescape(write(report_on(root), tmp_path / "report").read_text())
    for name in NAMES:
        assert f"margin(rule={name})" in page
    assert ">49<" not in page
    with (tmp_path / "report" / "figures" / "class_balance.csv").open(newline="") as file:
        assert set(NAMES) <= {row["class"] for row in csv.DictReader(file)}
    assert call(["compare", str(root)]) == 0
    printed = capsys.readouterr().out
    assert all(f"margin(rule={name})" in printed for name in NAMES if "\n" not in name)


def _rename(path: Path, name: str) -> None:
    """Give a run's task a name that is no name of a folder."""
    import tomli_w

    spec = path / "spec.toml"
    text = spec.read_text().replace(
        'name = "pics"', tomli_w.dumps({"name": f"folder:{name}"}).strip()
    )
    spec.write_text(text)


def test_a_class_with_an_underscore_stands_in_the_legend(make_run: Any) -> None:
    def drawn(name: str) -> list[str]:
        make_run.root = make_run.root.parent / name
        make_run("random", 0, task_facts={"class_names": [name, "other"]})
        chart = class_balance(comparisons(read_runs(make_run.root))[0])
        assert chart is not None
        figure = Figure()
        chart.draw(figure)
        return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]

    assert drawn("_hidden") == ["_hidden", "other"]
    assert drawn("shown") == ["shown", "other"]


def test_bars_of_names_that_look_alike_stay_apart(make_run: Any) -> None:
    rule = "x" * 200
    make_run("margin", 0, parameters={"rule": f"{rule}a{rule}"})
    make_run("margin", 0, parameters={"rule": f"{rule}b{rule}"})
    chart = selection_times(comparisons(read_runs(make_run.root))[0])
    assert chart is not None
    figure = Figure()
    chart.draw(figure)
    assert len({bar.get_y() for bar in figure.axes[0].patches}) == len(chart.rows) == 2


@pytest.mark.usefixtures("undrawn")
def test_two_data_sets_with_one_safe_name_keep_their_own_files(
    make_run: Any, tmp_path: Path
) -> None:
    for task in ("a b", "a-b", "A-b"):
        make_run("random", 0, [0.5, 0.6], task=task)
    write(report_on(make_run.root), tmp_path / "report")
    written = list((tmp_path / "report").rglob("figures_of_merit.csv"))
    with_titles = {next(csv.DictReader(path.open()))["comparison"] for path in written}
    assert with_titles == {"a b", "a-b", "A-b"}


def test_folder_names_are_safe_short_and_apart() -> None:
    titles = ["mnist-two", "a b", "a-b", "$$$", "..", "x" * 500, "x" * 501, "\u732b" * 100]
    names = safe_names(titles)
    assert names[0] == "mnist-two"
    assert len({name.casefold() for name in names}) == len(titles)
    assert all(name and name[0] != "." and len(name.encode()) <= 80 for name in names)


def test_long_names_keep_beginning_and_end() -> None:
    assert short("plain") == "plain"
    assert short("a" * 50 + "z" * 50, 11) == "aaaaa…zzzzz"
    assert short("two\nlines\t") == "two lines "


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.003, "0.003"), (1, "1"), (30_000, "30,000"), (1e6, "10⁶"), (3e-7, "3·10⁻⁷"), (0, "0")],
)
def test_ticks_are_plain_numbers(value: float, text: str) -> None:
    assert plain_number(value) == text


# --- several protocols -----------------------------------------------------------------------------


def test_runs_of_several_budgets_are_explained_and_the_offered_split_works(
    make_run: Any, capsys: Any
) -> None:
    learners = [json.dumps({"kind": kind, "c": 1.0}) for kind in ("linear", "mlp")]
    for learner in learners:
        for query_size in (5, 10):
            make_run(
                "random", 0, query_size=query_size, protocol={"learner": learner},
                spec={"learner": json.loads(learner)},
            )  # fmt: skip
    assert call(["compare", str(make_run.root)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'budget' is 60 in 2 runs" in line
    assert "'learner' is kind=linear in 2 runs" in line
    offered = line.split(": add ")[1].split()
    assert len(offered) == 4, "budget and query size go together: one of them is enough"
    assert call(["compare", str(make_run.root), *offered]) == 0
    printed = capsys.readouterr().out
    assert "digits-two, budget 60, learner kind=linear" in printed


def test_a_split_by_nothing_is_refused(make_run: Any, capsys: Any) -> None:
    make_run("random", 0)
    assert call(["compare", str(make_run.root), "--split-by", "budgte"]) == 2
    assert "Did you mean 'budget'" in capsys.readouterr().err


@pytest.mark.parametrize(("slow", "told"), [(0.26, False), (0.27, True)])
def test_unlike_times_for_equal_work_are_told(make_run: Any, slow: float, told: bool) -> None:
    """Ten timed selections of .02 s, and the same counted work a third longer, or more."""
    make_run("random", 0, select_s=0.2)
    make_run("random", 1, select_s=slow)
    (found,) = comparisons(read_runs(make_run.root))
    assert any("Times are not comparable" in note for note in found.notes) is told


def test_unlike_times_for_unlike_work_say_nothing(make_run: Any) -> None:
    from alharness.comparison.remarks import _ends_of_equal_work

    make_run("random", 0, select_s=0.2)
    make_run("random", 1, select_s=2.0)
    runs = read_runs(make_run.root)
    records = [
        tuple(r.model_copy(update={"work": {"pool_items_scored": n}}) for r in run.records)
        for n, run in enumerate(runs)
    ]
    other = [replace(run, records=found) for run, found in zip(runs, records, strict=True)]
    assert _ends_of_equal_work(runs)[1] > 1.0
    assert _ends_of_equal_work(other) == (0.0, 0.0)
