"""The report says what it rests on, and no more than the runs show."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from alharness.cli import call
from alharness.comparison import tables
from alharness.comparison.claims import _would_decide, check_paper, claims
from alharness.comparison.comparison import comparisons
from alharness.comparison.evidence import Gain
from alharness.comparison.formats import as_markdown, as_table
from alharness.comparison.metrics import ResultRow, pools, scores_over_tasks
from alharness.comparison.page import render, write
from alharness.comparison.paired_tests import paired_tests
from alharness.comparison.report import Report, build
from alharness.comparison.sentences import sentence
from alharness.records import read_runs

Make = Callable[..., Path]
GAINS = {"random": 0.0, "max-entropy": 0.02, "asal-gray": 0.008}


def report_on(root: Path, **options: Any) -> Report:
    return build(comparisons(read_runs(root)), heading="A comparison", **options)


class Written(NamedTuple):
    root: Path
    report: Report
    folder: Path


@pytest.fixture(scope="module")
def written(
    sweep_maker: Callable[[Path], Make], tmp_path_factory: pytest.TempPathFactory
) -> Written:
    """A complete report, drawn once for the stories below."""
    folder = tmp_path_factory.mktemp("written")
    root = sweep_maker(folder / "runs")(GAINS, 8)
    made = report_on(root)
    write(made, folder / "report")
    return Written(root, made, folder / "report")


def test_a_complete_report_is_one_page_without_a_link_to_the_outside(written: Written) -> None:
    text = (written.folder / "report.html").read_text()
    assert "Complete: all 25 runs are finished." in text
    assert "ranked by area over the 8 seeds that all share" in text
    assert text.count("<svg") >= 6
    addresses = set(re.findall(r"https?://[^\s\"'<>)]+", text))
    assert {address.split("/")[2] for address in addresses} <= {"www.w3.org"}  # names, not links
    assert not re.search(r"<(script|link|img)\b|@import|url\((?!#)", text)
    assert not re.findall(r"\bnan\b|\binf\b|None", re.sub(r"<svg.*?</svg>", "", text, flags=re.S))


def test_every_figure_has_its_picture_for_print_and_its_numbers(written: Written) -> None:
    names = {chart.name for chart in written.report.sections[0].charts}
    assert names == {
        "curve_accuracy",
        "gain",
        "differences",
        "entropy",
        "class_balance",
        "penalties",
        "accuracy_time",
        "selection_time",
    }
    for name in names:
        for ending in ("svg", "png", "csv"):
            assert (written.folder / "figures" / f"{name}.{ending}").stat().st_size > 0
    with (written.folder / "figures" / "curve_accuracy.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = next(row for row in rows if row["strategy"] == "max-entropy")
    assert float(first["n_asked"]) == 50
    assert float(first["min"]) <= float(first["mean"]) <= float(first["max"])
    assert first["runs"] == "8"
    with (written.folder / "tables" / "figures_of_merit.csv").open() as file:
        merit = {row["strategy"]: row for row in csv.DictReader(file)}
    assert merit["max-entropy"]["rank"] == "1"
    assert float(merit["max-entropy"]["difference"]) == pytest.approx(0.02, abs=0.005)


def test_the_same_records_give_the_same_files(written: Written) -> None:
    assert render(report_on(written.root)) == (written.folder / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_half_finished_sweep_and_failed_runs_are_said_first(
    make_sweep: Make, make_run: Any
) -> None:
    root = make_sweep(GAINS, 6)
    budget = {"spec": {"budget": 130}, "protocol": {"budget": "130"}}
    make_run("margin", 0, [0.7, 0.8], finished=False, **budget)
    make_run("margin", 1, [0.7], finished=False, failure="MemoryError: <too> big", **budget)
    made = report_on(root)
    assert not made.complete
    assert made.status.startswith("Incomplete: 19 of 21 runs are finished; 1 failed, 1 unfinished.")
    text = render(made)
    assert text.index("Incomplete: 19 of 21") < text.index("<h2>")
    assert "MemoryError: &lt;too&gt; big" in text
    assert "60 of 130 annotations" in text


@pytest.mark.usefixtures("undrawn")
def test_without_random_or_bound_nothing_is_ranked(make_run: Any) -> None:
    for seed in range(6):
        make_run("max-entropy", seed)
        make_run("margin", seed, [0.7, 0.85, 0.95])
    text = render(report_on(make_run.root))
    assert "No ranking:" in text
    assert "random baseline" in text
    assert "in alphabetical order" in text
    assert ">rank<" not in text


@pytest.mark.usefixtures("undrawn")
def test_nothing_is_significant_below_six_seeds(make_sweep: Make) -> None:
    five = render(report_on(make_sweep({"random": 0.0, "max-entropy": 0.1}, 5)))
    assert "nothing can be called significant here" in five
    assert "significantly" not in five
    assert "too few pairs" in five


def test_sentences_claim_no_more_than_the_test_shows() -> None:
    def told(values: list[float], n_tests: int = 1) -> str:
        family = {"x": values, **{f"other{i}": values for i in range(n_tests - 1)}}
        return sentence("x", "random", paired_tests(family)["x"])

    clear = [0.010, 0.011, 0.012, 0.013, 0.009, 0.014]
    assert "x is above random by 0.0115" in told(clear)
    assert "as many other seeds would say so again with probability 0.9" in told(clear)
    assert told(clear).endswith("significant.")
    assert "is below random" in told([-v for v in clear])
    assert "could not reach the level" in told(clear, n_tests=3)
    assert told([0.0] * 6) == "x and random are equal on 6 pairs."
    assert told([0.0]) == "x and random are equal on 1 pair."
    assert told([*clear[:5], float("nan")]).endswith("is not a number, and nothing is tested.")
    assert "one more seed would decide" in told(clear, n_tests=3)
    assert "too few pairs to decide anything" in told(clear[:5])
    mixed = told([0.01, -0.012, 0.013, -0.008, 0.011, -0.009, 0.012, 0.003])
    assert "not decided" in mixed
    assert "would have been found" in mixed
    assert "shares no seed" in told([])
    assert "equal means over 8 pairs that differ: not decided" in told([0.01, -0.01] * 4)


def test_it_is_said_how_many_labels_do_what_the_reference_does_with_all_of_its_own(
    make_run: Any,
) -> None:
    """The question that people bring; it needs no bound."""
    for seed in range(3):
        make_run("random", seed, [0.7, 0.75, 0.8, 0.85, 0.9])
        make_run("margin", seed, [0.7, 0.85, 0.91, 0.92, 0.93])
        make_run("slow", seed, [0.7, 0.71, 0.72, 0.73, 0.74])
    (section,) = report_on(make_run.root).sections
    assert section.sentences[-1] == (
        "For the test accuracy that random has at 90 annotations (0.9000), others need (median over "
        "seeds; no test): margin 70."
    )


ONE_FAR_ABOVE = [-0.001 - i / 10_000 for i in range(11)] + [0.06]


def test_ranks_and_mean_that_disagree_are_no_result() -> None:
    test = paired_tests({"x": ONE_FAR_ABOVE})["x"]
    told = sentence("x", "random", test)
    assert told.startswith(
        "The mean of x is above random's by 0.0036, but 11 of 12 pairs are below"
    )
    assert "nothing is significant" in told
    (table,) = tables.tests([ResultRow("x", {}, test)], "random", "accuracy", 1)
    assert table.rows[0][table.header.index("verdict")] == "mean and ranks disagree"
    assert sentence("x", "random", paired_tests({"x": ONE_FAR_ABOVE[:-1]})["x"]).startswith(
        "x is below random"
    )


@pytest.mark.parametrize(
    ("one_far_above", "word"), [(True, "undecided"), (False, "fails")]
)  # fmt: skip
def test_no_claim_holds_by_a_mean_that_the_ranks_contradict(
    make_run: Any, one_far_above: bool, word: str
) -> None:
    """Twelve seeds: ASAL is below random in eleven of them, and far above in the last one."""
    for seed, gap in enumerate(ONE_FAR_ABOVE if one_far_above else ONE_FAR_ABOVE[:-1]):
        for name, gain in (("random", 0.0), ("asal-auto", gap)):
            make_run(name, seed, (0.8 + gain, 0.8 + gain), task="cifar10-two")
    found, told = evidence(make_run.root, "cifar10-two-auto-above-random")
    assert found == word
    assert ("but 11 of 12 pairs are below: mean and ranks disagree" in told) == one_far_above


def test_times_of_different_machines_are_not_shown(make_run: Any) -> None:
    for seed in range(2):
        make_run("random", seed)
        make_run("margin", seed, hardware={"cpu": "another"})
    made = report_on(make_run.root)
    assert any("Times are not shown" in text for text in made.sections[0].warnings)
    assert "times" not in made.sections[0].by_name
    assert "selection_time" not in made.sections[0].by_name


@pytest.mark.usefixtures("undrawn")
def test_uneven_classes_bring_their_own_figures(make_sweep: Make) -> None:
    root = make_sweep(GAINS, 6, task="rare", task_facts={"test_counts": [95, 5]})
    made = report_on(root)
    assert {"curve_balanced_accuracy", "curve_average_precision"} <= set(made.sections[0].by_name)
    assert "final average precision" in render(made)


def test_ranks_over_data_sets_need_three_of_them(make_sweep: Make) -> None:
    make_sweep(GAINS, 6, task="a")
    root = make_sweep(GAINS, 6, task="bb")
    assert report_on(root).across == ()
    make_sweep(GAINS, 6, task="ccc")
    made = report_on(root)
    assert [item.name for item in made.across] == ["critical_difference", "across"]
    assert made.across[0].rows[0][0] == "max-entropy"  # the best mean rank first
    assert "Friedman's test: p = " in as_markdown(made)
    assert "| max-entropy | 1.00 |" in as_markdown(made)
    assert "max-entropy       1.00" in as_table(made)


def test_settings_and_targets_of_one_pool_are_one_data_set(make_sweep: Make, make_run: Any) -> None:
    """Three query sizes of one task, and four attributes of one set of faces, are no seven data sets."""
    for query_size in (10, 20, 40):
        root = make_sweep(GAINS, 6, query_size=query_size)
    for task in ("faces-a", "faces-b", "faces-c", "faces-d"):
        make_sweep(GAINS, 6, task=task, task_facts={"pool_fingerprint": "the faces"})
    found = comparisons(read_runs(root), split_by=["query_size", "budget"])
    titles, scores = scores_over_tasks(found)
    assert len(titles) == 2
    assert {len(values) for values in scores.values()} == {2}
    assert build(found, heading="").across == ()


def test_runs_of_before_are_one_pool_where_they_share_a_generator(make_run: Any) -> None:
    entry = {"name": "generator", "seconds": 3.0, "cached": True, "load_s": 0.1}
    for task in ("faces-a", "faces-b", "other"):
        key = "of other" if task == "other" else "of the faces"
        make_run("asal-gray", task=task, preparation=[{**entry, "details": {"key": key}}])
    groups = pools(comparisons(read_runs(make_run.root)))
    assert [[c.task for c in group] for group in groups] == [["faces-a", "faces-b"], ["other"]]


@pytest.mark.usefixtures("undrawn")
def test_generator_quality_stands_beside_generative_results(make_sweep: Make) -> None:
    text = render(report_on(make_sweep(GAINS, 6)))
    assert "frechet_distance 12.5" in text
    assert "5 of 6" in text  # found ready made by all but the first run


@pytest.mark.usefixtures("undrawn")
def test_inspected_generators_stand_beside_the_runs_that_rest_on_them(make_run: Any) -> None:
    entry = {"name": "generator", "seconds": 3.0, "cached": True, "load_s": 0.1}
    for name, key in (("asal-gray", "aaa"), ("asal-auto", "aaa"), ("gaal", "bbb")):
        make_run(name, preparation=[{**entry, "details": {"key": key}}])
    make_run("random")
    made = report_on(make_run.root, inspections={"aaa": {"entropy_after": 0.83}, "other": {}})
    (table,) = (shown for shown in made.sections[0].tables if shown.name == "generators")
    first, second = table.rows
    assert (first[0], set(first[1].split(", "))) == ("aaa", {"asal-gray", "asal-auto"})
    assert first[table.header.index("attainable entropy")] == "0.830"
    assert second[:2] == ("bbb", "gaal")
    assert set(second[2:]) == {"–"}
    assert "alharness generator inspect" in table.caption
    page = render(made)
    for section in made.sections:
        for name in section.by_name:  # the template names what it shows
            assert section.by_name[name].caption.split("(")[0] in unescape(page), name


@pytest.mark.parametrize(("right", "warned"), [(0.69, True), (0.96, False)])
def test_a_weak_annotator_is_told(make_run: Any, right: float, warned: bool) -> None:
    entry = {"name": "annotator", "seconds": 3.0, "cached": True, "load_s": 0.1}
    make_run("gaal", preparation=[{**entry, "details": {"key": "a", "test_accuracy": right}}])
    make_run("random", accuracy=(0.7, 0.8, 0.9))
    warnings = " ".join(report_on(make_run.root).sections[0].warnings)
    assert ("right in 69.0% of the test images" in warnings) == warned


def test_paper_claims_are_held_against_runs(make_sweep: Make) -> None:
    gains = {"random": 0.0, "asal-gray": 0.02, "asal-disc": 0.02, "asal-auto": 0.02, "adba": -0.1}
    root = make_sweep(gains, 8, task="mnist-two", n_cycles=45)
    verdicts = {v.claim.text: v for v in check_paper(comparisons(read_runs(root)))}
    assert len(verdicts) == len(claims())
    assert verdicts["ASAL outperforms random sampling on MNIST two classes"].word == "holds"
    assert verdicts["ADBA achieves worse performance than random sampling"].word == "holds"
    equal = verdicts["The three feature spaces perform equally well"]
    assert (equal.word, "to gain is not registered" in equal.evidence) == ("undecided", True)
    gain = {"task": "mnist-two", "value": 0.04, "low": 0.03, "high": 0.05, "seeds": (100, 101)}
    again = check_paper(comparisons(read_runs(root)), gains=[Gain(**gain)])
    assert next(v for v in again if v.claim.id == "mnist-two-spaces-equal").word == "holds"
    reach = verdicts["All three ASAL variants reach 98.5 % with 200 labels on MNIST 5 against 7"]
    assert reach.word == "fails"
    assert re.search(r"asal-gray: 0\.9\d+ \[0\.9\d+, 0\.9\d+\] at 200 \(8 seeds\)", reach.evidence)
    assert verdicts["ASAL outperforms random sampling on SVHN"].word == "not measured"
    gaal = verdicts["GAAL drops after more than 350 samples"]
    assert (gaal.word, gaal.evidence) == ("not measured", "no finished run of gaal")
    eight = verdicts["ASAL outperforms random sampling on eight of ten benchmarks"]
    assert eight.word == "undecided"
    assert (
        "above on 1, not above on 0, undecided on 9 of 10 tasks (9 of them not run)"
        in eight.evidence
    )


def test_a_claim_is_held_against_the_papers_setting_only(make_run: Any) -> None:
    """Not against whichever of several comes first by its name."""
    for seed in range(10):  # six variants are one family: six pairs would decide nothing
        make_run("random", seed, (0.7, 0.80, 0.9 + seed / 1000), task="mnist-two")
        for steps, gain in ((200, -0.05), (None, 0.05)):
            spec = {"oracle": {"mode": "hard"}, "generator": {"recipe": "auto", "seed": 0}}
            if steps is not None:
                spec["generator"]["steps"] = steps
            for name in ("asal-gray", "asal-disc", "asal-auto"):
                accuracy = (0.7, 0.8 + gain, 0.9 + gain + seed / 900)
                make_run(name, seed, accuracy, task="mnist-two", spec=spec)
    text = "ASAL outperforms random sampling on MNIST two classes"

    def verdict() -> Any:
        found = check_paper(comparisons(read_runs(make_run.root)))
        return next(v for v in found if v.claim.text == text)

    assert verdict().word == "holds"
    for path in make_run.root.rglob("spec.toml"):  # now none has the profile's own generator
        path.write_text(path.read_text().replace('recipe = "auto"', 'recipe = "fc"'))
    assert (verdict().word, "several settings" in verdict().evidence) == ("not measured", True)


def test_paper_claims_decide_nothing_on_five_seeds(make_sweep: Make) -> None:
    root = make_sweep({"random": 0.0, "asal-auto": 0.05}, 5, task="cifar10-two", n_cycles=95)
    verdicts = check_paper(comparisons(read_runs(root)))
    assert {v.word for v in verdicts} == {"not measured", "undecided"}


def test_copies_of_a_run_are_not_seeds(make_run: Any) -> None:
    """A fixed initial set, a strategy and a classifier without chance: eight times the same run."""
    for seed in range(8):
        for name, gain in (("margin", 0.05), ("random", 0.0), ("other", 0.0)):
            value = 0.8 + gain + (seed / 1000 if name == "random" else 0)
            make_run(
                name,
                seed,
                (0.7, value, value),
                start="same",
                learner="same" if name != "random" else None,
                spec={"data_seed": 0},
            )
    report = report_on(make_run.root)
    section = report.sections[0]
    counts = {series.label: len(series.runs) for series in section.comparison.series}
    assert counts == {"margin": 1, "other": 1, "random": 8}
    assert "14 repeated runs count once" in report.status
    repeated = {item.reason.split(" '")[0] for item in section.comparison.left_out}
    assert repeated == {"cycle by cycle the same as"}
    assert not any("significant." in text for text in section.sentences)
    assert any("begin from one initial set only" in text for text in section.warnings)


def test_seeds_and_data_seeds_are_counted_apart(make_run: Any) -> None:
    for seed in range(3):
        for data_seed in range(2):
            for name, gain in (("margin", 0.05), ("random", 0.0)):
                accuracy = (0.7, 0.8 + gain + seed / 100, 0.9 + data_seed / 100)
                spec = {"data_seed": data_seed}
                make_run(name, seed, accuracy, start=f"start {data_seed}", spec=spec)
                if seed == data_seed == 0 and name == "random":
                    make_run("full", 0, (0.99, 0.99, 0.99), bound=True, spec=spec)
    section = report_on(make_run.root).sections[0]
    assert dict(section.facts)["seeds"] == "3 (0, 1, 2), data seeds 2 (0, 1), 6 pairs"
    assert any("begin from 2 initial sets only" in text for text in section.warnings)
    captions = [table.caption for table in section.tables if table.name == "results"]
    assert captions == ["Results, ranked by area over the 6 pairs of seeds that all share"]


def evidence(root: Path, claim: str) -> tuple[str, str]:
    found = check_paper(comparisons(read_runs(root)))
    return next((v.word, v.evidence) for v in found if v.claim.id == claim)


@pytest.mark.usefixtures("undrawn")
def test_a_claim_is_judged_on_every_setting_that_was_split(
    make_sweep: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten per query: ASAL is above; five per query: below. The first of them decides nothing alone."""
    for query_size, gain in ((5, -0.03), (10, 0.03)):
        gains = {"random": 0.0, "asal-auto": gain}
        root = make_sweep(gains, 8, task="cifar10-two", query_size=query_size)
    split = ["query_size", "budget"]
    found = check_paper(comparisons(read_runs(root), split_by=split))
    judged = {v.subject: v.word for v in found if v.claim.id == "cifar10-two-auto-above-random"}
    assert judged == {
        "query_size 5, budget 90": "fails",
        "query_size 10, budget 130": "holds",
    }  # fmt: skip
    gaal = [v for v in found if v.claim.id == "cifar10-two-gaal-below-random"]
    both = "query_size 5, budget 90; query_size 10, budget 130"
    assert [(v.subject, v.evidence) for v in gaal] == [(both, "no finished run of gaal")]
    eight = [v for v in found if v.claim.id == "eight-of-ten"]
    assert [(v.subject[:12], v.evidence[:22]) for v in eight] == [
        ("query_size 5", "asal-auto is above on "),
        ("query_size 1", "asal-auto is above on "),
    ]
    assert "on 0, not above on 1, undecided on 9" in eight[0].evidence
    assert "on 1, not above on 0, undecided on 9" in eight[1].evidence
    assert {v.subject for v in found if v.claim.task == "svhn"} == {""}  # not run at all

    out = tmp_path / "out"
    options = [f"--split-by={name}" for name in split]
    assert call(["report", str(root), "--out", str(out), "--paper", *options]) == 0
    told = capsys.readouterr().out
    assert re.search(r"fails .*CIFAR-10 two classes \(query_size 5, budget 90\)", told)
    assert re.search(r"holds .*CIFAR-10 two classes \(query_size 10, budget 130\)", told)
    assert "query_size 10, budget 130: asal-auto: +0.0" in unescape(
        (out / "report.html").read_text()
    )
    plain = json.loads((out / "claims.json").read_text())
    assert {v.get("settings") for v in plain if v["id"] == "cifar10-two-auto-above-random"} == set(
        judged
    )


@pytest.mark.parametrize(("n_cycles", "seen"), [(5, True), (80, False)])
def test_a_verdict_says_how_far_the_claimed_range_was_seen(
    make_sweep: Make, n_cycles: int, seen: bool
) -> None:
    """Quick runs end at 200 labels, and the claim is about the first 750."""
    root = make_sweep(
        {"random": 0.0, "asal-auto": 0.05}, 8, task="faces-eyeglasses", n_cycles=n_cycles
    )
    word, told = evidence(root, "faces-eyeglasses-begins")
    assert word == "holds"
    assert ("seen up to 100 of 750 annotations" in told) == seen


@pytest.mark.parametrize(("random", "merit"), [(0.001, False), (-0.05, True)])
def test_equality_is_no_merit_where_random_sampling_is_as_near(
    make_sweep: Make, random: float, merit: bool
) -> None:
    gains = {"random": random, "asal-cls": 0.002, "max-entropy": 0.0}
    root = make_sweep(gains, 8, task="faces-eyeglasses")
    gain = {"task": "faces-eyeglasses", "value": 0.02, "low": 0.01, "high": 0.03, "seeds": (100,)}
    found = check_paper(comparisons(read_runs(root)), gains=[Gain(**gain)])
    word, told = next(
        (v.word, v.evidence) for v in found if v.claim.id == "faces-eyeglasses-cls-equals-entropy"
    )
    assert word == "holds"
    assert ("but so is random" in told) != merit


@pytest.mark.parametrize(
    ("gaps", "told"),
    [
        ([0.02, -0.01, 0.03, -0.01, 0.02, -0.01], ", about 68 seeds would decide"),
        ([0.02, -0.02, 0.02, -0.0199, 0.02, -0.02], ", no reachable number of seeds would decide"),
    ],
)
def test_an_undecided_claim_says_what_would_decide_it(gaps: list[float], told: str) -> None:
    assert _would_decide("undecided", np.array(gaps)).startswith(told)


def test_the_claims_file_names_installed_strategies_and_tasks() -> None:
    from alharness.comparison.runs import display_label
    from alharness.registry import STRATEGIES, TASKS, find_strategy, names

    for claim in claims():
        others = [claim.other] if claim.other else []
        for name in {*claim.strategies, *claim.others, *others}:
            plain, _, parameters = name.removesuffix(")").partition("(")
            assert plain in names(STRATEGIES)
            chosen = dict(part.split("=") for part in parameters.split(", ") if part)
            # The name of a series, so that runs with these parameters are found under it.
            made = find_strategy(plain).parameters(**chosen).model_dump()
            assert display_label(plain, {key: made[key] for key in chosen}) == name
        assert {claim.task, *claim.tasks} - {""} <= set(names(TASKS))


@pytest.mark.usefixtures("undrawn")
def test_report_and_compare_as_typed(
    make_sweep: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_sweep(GAINS, 6, task="mnist-two")
    out = tmp_path / "out"
    assert call(["report", str(root), "--out", str(out), "--paper", "--x", "labels"]) == 0
    assert "Complete: all 19 runs" in capsys.readouterr().out
    assert json.loads((out / "claims.json").read_text())[0]["verdict"] == "not measured"
    path = tmp_path / "table.csv"
    assert call(["compare", str(root), "--out", str(path), "--against", "max-entropy"]) == 0
    printed = capsys.readouterr().out
    assert "random is below max-entropy by" in printed
    assert path.read_text().startswith("comparison,strategy,runs,rank,aubc")
    for wrong, message in (
        (["compare", str(root), "--x", "lables"], "Did you mean 'labels'"),
        (["compare", str(root), "--metric", "f1"], "Unknown metric"),
        (["compare", str(root), "--against", "max-entrop"], "Did you mean 'max-entropy'"),
        (["compare", str(root), "--seeds", "0"], "--seeds belongs to a sweep"),
        (["report", str(tmp_path / "nowhere")], "no directory"),
    ):
        assert call(wrong) == 2
        assert message in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_file_tells_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(
        'title = "Mine"\n[base]\ntask = "digits-two"\nbudget = 30\n'
        '[[runs]]\nstrategy = ["random", "margin"]\nseed = "0-1"\n'
    )
    assert call(["report", "s.toml"]) == 2
    assert "None of the 4 runs of 's' exists" in capsys.readouterr().err
    run = [
        "run",
        "--strategy",
        "random",
        "--dataset",
        "digits-two",
        "--budget",
        "30",
        "--no-tracking",
    ]
    assert call([*run, "--quiet"]) == 0
    assert call(["report", "s.toml"]) == 0
    assert "Incomplete: 1 of 4 runs are finished; 3 not started." in capsys.readouterr().out
    text = Path("report/report.html").read_text()
    assert "<h1>Mine</h1>" in text
    assert "digits-two / margin / seed 1" in text
