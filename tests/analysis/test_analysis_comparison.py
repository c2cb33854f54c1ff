"""Which runs may stand beside each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alharness.comparison.comparison import comparisons
from alharness.comparison.grouping import intended
from alharness.comparison.report import build
from alharness.comparison.runs import display_label
from alharness.comparison.series import paired
from alharness.errors import UserError
from alharness.records import Run, RunFolder, SpecFacts, read_run, read_runs
from alharness.records.facts import Choice


def test_runs_of_two_protocols_are_refused_and_the_field_is_named(make_run: Any) -> None:
    make_run("random", 0)
    make_run("margin", 0, protocol={"learner": "other"})
    make_run("random", 1, protocol={"learner": "other"})
    with pytest.raises(UserError, match=r"'learner' is .*not recorded.*other.*--split-by learner"):
        comparisons(read_runs(make_run.root))


def test_a_protocol_field_can_be_an_axis(make_run: Any) -> None:
    make_run("random", 0, query_size=10)
    make_run("random", 0, query_size=5)
    with pytest.raises(UserError, match="'budget'"):
        comparisons(read_runs(make_run.root))
    found = comparisons(read_runs(make_run.root), split_by=["query_size", "budget"])
    assert [c.title for c in found] == [
        "digits-two, query_size 5, budget 60",
        "digits-two, query_size 10, budget 70",
    ]


def test_a_field_of_one_value_parts_nothing(make_run: Any) -> None:
    make_run("random")
    (one,) = comparisons(read_runs(make_run.root), split_by=["query_size"])
    assert (one.title, one.split) == ("digits-two", {})


def test_tasks_are_compared_apart(make_run: Any) -> None:
    for task in ("b", "a-16", "a-4"):
        make_run("random", 0, task=task)
    assert [c.task for c in comparisons(read_runs(make_run.root))] == ["a-4", "a-16", "b"]


def test_no_ranking_without_random_and_bound(make_run: Any) -> None:
    make_run("margin", 0)
    make_run("max-entropy", 0)
    found = comparisons(read_runs(make_run.root))[0]
    assert not found.can_rank
    assert "random baseline" in found.why_no_ranking()
    assert "fully supervised bound" in found.why_no_ranking()
    make_run("random", 0)
    make_run("full", 0, bound=True)
    found = comparisons(read_runs(make_run.root))[0]
    assert found.can_rank
    assert found.bound("accuracy") == 0.7
    assert [s.label for s in found.series] == ["margin", "max-entropy", "random"]


def test_unfinished_and_failed_runs_are_named_and_take_no_part(make_run: Any) -> None:
    make_run("random", 0)
    make_run("random", 1, [0.7, 0.8], finished=False, spec={"budget": 70})
    failed = make_run("margin", 0, [0.7], finished=False, spec={"budget": 70})
    RunFolder(failed).write_failure("out of memory")
    found = comparisons(read_runs(make_run.root))[0]
    assert [len(s.runs) for s in found.series] == [1]
    told = {(item.run, item.state): item.reason for item in found.left_out}
    assert told[("digits-two / margin / seed 0", "failed")] == "out of memory"
    assert "60 of 70" in told[("digits-two / random / seed 1", "unfinished")]


def test_runs_without_a_test_set_measured_nothing_and_take_no_part(make_run: Any) -> None:
    make_run("random", 0)
    figures = ("accuracy", "balanced_accuracy", "macro_f1", "average_precision", "log_loss")
    make_run("margin", 0, undefined=figures, task_facts={"n_test": 0, "test_counts": [0, 0]})
    found = comparisons(read_runs(make_run.root))[0]
    assert [series.name for series in found.series] == ["random"]
    (left_out,) = found.left_out
    assert left_out.reason.startswith("no test set: nothing was measured")
    status = build([found], heading="", note="").status
    assert status == "Complete: all 1 runs are finished. 1 more without a test set take no part."


def test_expected_runs_that_do_not_exist_are_missing(make_run: Any, tmp_path: Path) -> None:
    make_run("random", 0)
    absent = read_run(tmp_path / "runs" / "digits-two" / "random" / "absent")
    spec = SpecFacts(task=Choice(name="digits-two"), strategy=Choice(name="random"), seed=7)
    absent = Run(absent.folder, spec)
    found = comparisons(read_runs(make_run.root), expected=[absent])[0]
    assert [(item.run, item.state) for item in found.left_out] == [
        ("digits-two / random / seed 7", "not started")
    ]


def test_runs_that_began_elsewhere_are_not_paired(make_run: Any) -> None:
    for seed in range(2):
        make_run("random", seed)
        make_run("margin", seed)
        make_run("max-entropy", seed, start="elsewhere" if seed else None)
    found = comparisons(read_runs(make_run.root))[0]
    assert paired(found.find("max-entropy"), found.find("random")) == [(0, 0)]
    assert paired(found.find("margin"), found.find("random")) == [(0, 0), (1, 1)]
    assert any("Seed 1: max-entropy began with another" in note for note in found.notes)


def test_a_strategy_with_its_own_classifier_is_marked(make_run: Any) -> None:
    for seed in range(2):
        make_run("random", seed)
        make_run("margin", seed)
        make_run("learning-loss", seed, learner="its own")
    found = comparisons(read_runs(make_run.root))[0]
    assert len(paired(found.find("learning-loss"), found.find("random"))) == 2
    assert any("another classifier for learning-loss" in note for note in found.notes)


def test_labels_show_what_is_not_at_its_default(make_run: Any) -> None:
    assert display_label("random", {}) == "random"
    assert (
        display_label("not-installed", {"steps": 5, "lr": 0.02})
        == "not-installed(lr=0.02, steps=5)"
    )


def test_strategies_that_differ_elsewhere_get_labels_of_their_own(make_run: Any) -> None:
    make_run("margin", 0, spec={"generator": {"steps": 100}})
    make_run("margin", 0, (0.7, 0.8, 0.91), spec={"generator": {"steps": 200}})
    make_run("random", 0, spec={"generator": {"steps": 100}})
    found = comparisons(read_runs(make_run.root))[0]
    assert [s.label for s in found.series] == [
        "margin [generator.steps=100]",
        "margin [generator.steps=200]",
        "random",
    ]


def test_a_setting_that_a_strategy_does_not_use_makes_no_group_of_it(make_run: Any) -> None:
    """Two sweeps, one with another generator: random sampling has none, and stays the one baseline."""
    for seed in range(3):
        for steps in (100, 200):
            spec = {"generator": {"steps": steps}}
            value = 0.8 + seed / 100
            make_run("random", seed, (0.7, value, 0.9), spec=spec)
            make_run("asal-gray", seed, (0.7, value + steps / 1e4, 0.9), spec=spec)
            make_run("full", seed, bound=True, spec=spec)
    make_run("random", 5, spec={"generator": {"steps": 200}})  # the larger group is kept
    report = build(comparisons(read_runs(make_run.root)), heading="")
    (section,) = report.sections
    counts = {series.label: len(series.runs) for series in section.comparison.series}
    assert counts == {
        "asal-gray [generator.steps=100]": 3,
        "asal-gray [generator.steps=200]": 3,
        "random": 4,
    }
    assert len(section.comparison.bounds) == 3
    assert section.comparison.can_rank
    assert len(section.sentences) == 2
    assert report.status == "Complete: all 13 runs are finished. 6 repeated runs count once."
    assert {item.reason.partition("': ")[2] for item in section.comparison.left_out} == {
        "the strategy does not use what differs"
    }


def test_what_is_planned_has_the_groups_of_what_was_run(make_run: Any) -> None:
    """Before the hours are spent a sweep is sorted as its runs will be."""
    for seed in range(3):
        for steps in (100, 200):
            spec = {"generator": {"steps": steps}}
            for strategy in ("random", "subset:50:margin", "core-set"):
                make_run(strategy, seed, spec=spec)
            make_run("asal-gray", seed, (0.7, 0.8 + steps / 1e4, 0.9), spec=spec)
        for threshold in (0.8, 0.9):
            spec = {"generator": {"steps": 100}, "oracle": {"threshold": threshold}}
            make_run("badge", seed, spec=spec)
            make_run("gaal", seed, (0.7, threshold, 0.9), spec=spec)
    runs = read_runs(make_run.root)
    (found,) = comparisons(runs)
    planned = intended([replace(run, records=()) for run in runs])
    assert sorted(planned) == [series.name for series in found.series]
    assert {name: len(members) for name, members in planned.items()} == {
        series.name: len(series.runs) for series in found.series
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"spec": {"generator": {"steps": 1}}}, {"spec": {"pool": {"residency": "memmap"}}}),
        (
            {"spec": {"generator": {"steps": 1}}, "preparation": "a"},
            {"spec": {"generator": {"steps": 2}}, "preparation": "b"},
        ),
    ],
)
def test_what_a_run_uses_tells_groups_apart_whatever_comes_of_it(
    make_run: Any, first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Where the pool lives is a matter of time, and so is the generator that was built."""
    for settings in (first, second):
        entry = {"name": "generator", "seconds": 1.0, "cached": False, "load_s": 0.0}
        keys = settings.pop("preparation", "")
        make_run(
            "margin", 0, preparation=[{**entry, "details": {"key": k}} for k in keys], **settings
        )
    (found,) = comparisons(read_runs(make_run.root))
    assert len(found.series) == 2
    assert found.left_out == ()


def test_a_baseline_under_several_settings_is_not_called_missing(make_run: Any) -> None:
    """Half of the seeds were run with the one, half with the other: nothing shows that they are alike."""
    for seed in range(4):
        make_run("random", seed, spec={"generator": {"steps": 100 if seed < 2 else 200}})
        make_run("margin", seed)
    make_run("full", 0, bound=True)
    (found,) = comparisons(read_runs(make_run.root))
    why = found.why_no_ranking()
    assert "is missing" not in why
    assert "random [generator.steps=100], random [generator.steps=200]" in why
    assert "--split-by" in why
    section = build([found], heading="").sections[0]
    assert why in section.warnings
    assert not any(head.endswith(" needs") for head in section.by_name["labels_to_target"].header)
    apart = comparisons(read_runs(make_run.root), split_by=["generator.steps"])
    assert [c.baseline is not None for c in apart] == [True, True, False]  # as the message says


def test_copies_of_the_bound_count_once(make_run: Any, tmp_path: Path) -> None:
    """Seeds of a classifier without chance are all alike, and still no copies."""
    for root in ("runs", "copy"):
        make_run.root = tmp_path / root
        for seed in range(2):
            make_run("random", seed)
            make_run("full", seed, bound=True, start="whole pool", learner="the same")
    runs = [*read_runs(tmp_path / "runs"), *read_runs(tmp_path / "copy")]
    report = build(comparisons(runs), heading="")
    assert len(report.sections[0].comparison.bounds) == 2
    assert report.status == "Complete: all 4 runs are finished. 4 repeated runs count once."


def test_repeated_runs_count_once(make_run: Any, tmp_path: Path) -> None:
    make_run("random", 0)
    make_run.root = tmp_path / "copy"
    make_run("random", 0)
    runs = [*read_runs(tmp_path / "runs"), *read_runs(tmp_path / "copy")]
    found = comparisons(runs)[0]
    assert len(found.series[0].runs) == 1
    assert [item.state for item in found.left_out] == ["repeated"]


def test_seconds_of_runs_that_shared_a_card_are_no_times_of_a_strategy(make_run: Any) -> None:
    make_run("random", 0)
    assert not any(
        "shared a card" in note for note in comparisons(read_runs(make_run.root))[0].notes
    )
    make_run("margin", 0, hardware={"runs_on_card": 2})
    found = comparisons(read_runs(make_run.root))[0]
    assert found.hardware_differences() == {"runs_on_card": ["1", "2"]}
    (note,) = [note for note in found.notes if "shared a card" in note]
    assert "1 or 2 at once" in note


def test_hardware_that_differs_is_named(make_run: Any) -> None:
    make_run("random", 0)
    make_run("margin", 0, hardware={"cpu": "another"})
    found = comparisons(read_runs(make_run.root))[0]
    assert found.hardware_differences() == {"cpu": ["a processor", "another"]}


def test_a_run_that_went_on_elsewhere_is_not_its_first_session(make_run: Any) -> None:
    """Three cycles: one on a thread and torch 1, one on two threads, the last with torch 2."""
    first = {"hardware": {"cpu": "a processor", "threads": 1}, "versions": {"torch": "1"}}
    second = {**first, "hardware": {"cpu": "a processor", "threads": 2}}
    third = {**second, "versions": {"torch": "2"}, "git_commit": "0123456789abcdef+changes"}
    never = {"hardware": {"threads": 64}}  # ended before its first cycle
    sessions = [
        {"first_cycle": cycle, **facts}
        for cycle, facts in enumerate((first, second, third))
        for facts in ([never] if cycle == 1 else []) + [facts]
    ]
    make_run("random", 0)
    path = make_run("margin", 0, sessions=sessions)
    found = comparisons(read_runs(make_run.root))[0]
    assert found.hardware_differences() == {"threads": ["1", "2"]}
    (note,) = [note for note in found.notes if "continued" in note]
    assert note.startswith("One run was continued on other hardware, or with other versions")
    assert (
        "(digits-two / margin / seed 0: threads 1, then 2, torch 1, then 2, "
        "commit , then 0123456789ab with changes)" in note
    )
    (section,) = (report := build([found], heading="x")).sections
    assert any("Times are not shown" in text for text in section.warnings)
    assert not {"times", "selection_time", "accuracy_time"} & set(section.by_name)
    machines, origins = report.provenance
    assert [row[0].removeprefix("cpu a processor, ") for row in machines.rows] == [
        "threads 1",
        "threads 1",
        "threads 2",
        "threads 2",
    ]
    assert "1 run, begun on one and continued on another" in machines.caption
    assert ("margin", "alharness 0.1.0", "0123456789ab with changes", "not checked") in origins.rows
    (path / "env.json").write_text(
        (path / "env.json").read_text().replace('"first_cycle": 0', '"first_cycle": "x"')
    )
    with pytest.raises(UserError, match=r"env.json.*damaged.*sessions.0.first_cycle"):
        read_run(path)


def test_a_run_continued_where_it_was_begun_is_like_any_other(make_run: Any) -> None:
    make_run("random", 0, sessions=[{"first_cycle": 0}, {"first_cycle": 2}])
    make_run("margin", 0)
    found = comparisons(read_runs(make_run.root))[0]
    assert found.hardware_differences() == {}
    assert found.notes == ()


def test_reading_says_what_is_wrong(make_run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no directory"):
        read_runs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no runs in"):
        read_runs(tmp_path / "empty")
    path = make_run("random", 0)
    (path / "spec.toml").write_text("= broken")
    with pytest.raises(UserError, match="damaged"):
        read_runs(tmp_path / "runs")


def test_an_artefact_asked_for_twice_counts_once(make_run: Any) -> None:
    entry = {"name": "generator", "seconds": 9.0, "cached": True, "load_s": 0.1}
    same, other = {**entry, "details": {"key": "k"}}, {**entry, "details": {"key": "other"}}
    path = make_run(
        "asal-gray", 0, preparation=[same, same, {**entry, "name": "pca", "details": {}}]
    )
    run = read_run(path)
    assert run.preparation_s == 18
    assert [entry.name for entry in run.preparation] == ["generator", "pca"]
    make_run("asal-gray", 1, preparation=[other])
    notes = comparisons(read_runs(make_run.root))[0].notes
    assert any(
        "asal-gray do not rest on the same generator (k in 1, other in 1)" in n for n in notes
    )


def test_every_figure_counts_a_double_entry_alike(make_run: Any) -> None:
    entry = {"name": "generator", "seconds": 9.0, "cached": True, "load_s": 0.1}
    entry["details"] = {"key": "k"}
    make_run("asal-gray", 0, preparation=[entry, entry])
    make_run("random", 0)
    section = build(comparisons(read_runs(make_run.root)), heading="").sections[0]
    row = next(row for row in section.rows if row.label == "asal-gray")
    assert row["preparation_s"] == 9
    assert section.by_name["preparation"].rows == (
        ("asal-gray", "generator", "9 s", "1 of 1", "key k"),
    )
    assert section.by_name["times"].rows[0][3] == "9 s"
    assert section.by_name["accuracy_time"].rows[0][1] == pytest.approx(9.1)


def test_doubts_about_the_data_stand_beside_every_figure(make_run: Any) -> None:
    notes = {"source": "MNIST", "partial": "600 images: not the complete data set"}
    for seed in (0, 1):
        make_run("random", seed, task_facts={"notes": notes})
    (found,) = comparisons(read_runs(make_run.root))
    told = [note for note in found.notes if "not the complete data set" in note]
    assert told == ["The data of these runs: partial: 600 images: not the complete data set"]
    (section,) = build([found], heading="x").sections
    assert told[0] in section.warnings


@pytest.mark.parametrize("drawn", [(False, False), (True, False), (False, True), (True, True)])
def test_drawn_data_are_said_where_any_run_rests_on_them(
    make_run: Any, drawn: tuple[bool, bool]
) -> None:
    for seed, synthetic in enumerate(drawn):
        make_run("random", seed, task_facts={"synthetic": synthetic})
    (found,) = comparisons(read_runs(make_run.root))
    assert any("drawn or generated" in note for note in found.notes) == any(drawn)
