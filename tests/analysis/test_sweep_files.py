"""What a sweep file expands to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alharness.api.sweeping import asked
from alharness.errors import UserError
from alharness.executors.sweep_files import Sweep, read_sweep
from alharness.executors.sweeps import Choices, expand, parse_seeds, retitled, standing

SPECS = Path(__file__).parents[2] / "benchmarks" / "specs"


def jobs(runs: list[dict[str, Any]], choices: Choices = Choices(), **rest: Any) -> list[str]:  # noqa: B008
    sweep = Sweep(runs=runs, **{"base": {"task": "digits-two"}, **rest})
    return [job.name for job in expand(sweep, choices, Path("runs"))]


def test_seeds_are_numbers_and_ranges() -> None:
    assert parse_seeds("0-4,7") == [0, 1, 2, 3, 4, 7]
    assert parse_seeds(3) == [3]
    assert parse_seeds("2,0-2") == [2, 0, 1]
    for wrong in ("a", "", "3-1", "1;2", "-1"):
        with pytest.raises(UserError):
            parse_seeds(wrong)


def test_a_block_is_a_product_with_all_strategies_of_a_seed_together() -> None:
    assert jobs([{"strategy": ["random", "margin"], "seed": "0-1"}]) == [
        "digits-two / random / seed 0",
        "digits-two / margin / seed 0",
        "digits-two / random / seed 1",
        "digits-two / margin / seed 1",
    ]


def test_blocks_that_overlap_give_each_run_once() -> None:
    assert (
        len(jobs([{"strategy": ["random"], "seed": "0-3"}, {"strategy": "random", "seed": 2}])) == 4
    )


def test_parameters_and_settings_are_axes_too() -> None:
    runs = [
        {
            "strategy": [{"name": "asal-gray", "pca_dims": [10, 50]}, "random"],
            "learner": {"c": [0.5, 1.0]},
            "seed": 0,
        }
    ]
    found = expand(Sweep(base={"task": "digits-two"}, runs=runs), Choices(), Path("runs"))
    assert [(j.spec.strategy.parameters.get("pca_dims"), j.spec.learner.c) for j in found] == [
        (10, 0.5),
        (10, 1.0),
        (50, 0.5),
        (50, 1.0),
        (None, 0.5),
        (None, 1.0),
    ]
    assert found[0].name == "digits-two / asal-gray(pca_dims=10) / seed 0"
    assert found[2].name == "digits-two / asal-gray / seed 0"


def test_a_sweep_without_a_run_is_refused() -> None:
    with pytest.raises(UserError, match=r"'strategy' of a \[\[runs\]\] block is an empty list"):
        jobs([{"strategy": [], "seed": 0}])
    with pytest.raises(UserError, match="no run under the profile 'quick'"):
        jobs([{"strategy": "random", "seed": 0, "profile": "paper"}])


def test_dotted_names_are_sections_as_with_set() -> None:
    base = {"task": "digits-two", "learner": {"c": 0.5}, "strategy.pca_dims": 10}
    runs = [{"strategy": "asal-gray", "learner.c": [0.25, 1.0], "seed": 0}]
    found = expand(Sweep(base=base, runs=runs), Choices(), Path("runs"))
    assert [job.spec.learner.c for job in found] == [0.25, 1.0]
    assert {job.spec.strategy.parameters["pca_dims"] for job in found} == {10}


def test_what_belongs_to_the_file_is_said_to(tmp_path: Path) -> None:
    sweep = Sweep(
        base={"task": "digits-two", "split_by": ["budget"]}, runs=[{"strategy": "random"}]
    )
    with pytest.raises(UserError, match=r"'split_by' belongs at the top .* found it in \[base\]"):
        expand(sweep, Choices(), Path("runs"))
    path = tmp_path / "f.toml"
    path.write_text('titel = "x"\n[[runs]]\nstrategy = "random"\n')
    with pytest.raises(UserError, match=r"f.toml': Unknown setting 'titel'. Did you mean 'title'"):
        read_sweep(path)


def test_two_seed_axes_may_vary_apart() -> None:
    assert jobs([{"strategy": "random", "seed": "0-1", "data_seed": 5}]) == [
        "digits-two / random / seed 0, data seed 5",
        "digits-two / random / seed 1, data seed 5",
    ]


def test_options_filter_strategies_and_replace_seeds_and_data_sets() -> None:
    runs = [{"strategy": ["random", "margin"], "seed": "0-9"}, {"strategy": "full", "seed": 0}]
    assert jobs(runs, Choices(strategies=("margin", "full"), seeds=(3, 4))) == [
        "digits-two / margin / seed 3",
        "digits-two / margin / seed 4",
        "digits-two / full / seed 0",  # a block with one seed keeps it
    ]
    assert jobs(runs, Choices(("margin",), ("digits-ten",), (1,))) == [
        "digits-ten / margin / seed 1"
    ]
    with pytest.raises(UserError, match=r"Did you mean 'margin'"):
        jobs(runs, Choices(strategies=("margn",)))


@pytest.mark.parametrize(
    ("base", "chosen", "title"),
    [
        ({"task": "digits-two"}, (), "Fig. 1"),
        ({"task": "digits-two"}, ("digits-two",), "Fig. 1"),
        ({"task": {"name": ["digits-two", "digits-ten"]}}, ("digits-ten",), "Fig. 1"),
        ({"task": "digits-two"}, ("digits-ten",), "Fig. 1 (on other data: digits-ten)"),
        ({}, ("digits-two", "digits-ten"), "Fig. 1 (on other data: digits-two, digits-ten)"),
    ],
)
def test_a_title_does_not_stand_above_other_data(
    base: dict[str, Any], chosen: tuple[str, ...], title: str
) -> None:
    sweep = Sweep(title="Fig. 1", base=base, runs=[{"strategy": "random", "seed": 0}])
    assert retitled(sweep, Choices(datasets=chosen)).heading == title


def test_profiles_change_settings_and_may_own_blocks() -> None:
    runs = [
        {"strategy": "random", "seed": 0},
        {"strategy": "margin", "seed": 0, "profile": "paper"},
    ]
    sweep = Sweep(base={"task": "digits-two"}, runs=runs, profiles={"paper": {"query_size": 7}})
    quick = expand(sweep, Choices(), Path("runs"))
    paper = expand(sweep, Choices(settings={"profile": "paper"}), Path("runs"))
    assert [job.spec.strategy.name for job in quick] == ["random"]
    assert [(j.spec.strategy.name, j.spec.query_size) for j in paper] == [
        ("random", 7),
        ("margin", 7),
    ]


def test_anything_wrong_is_said_before_anything_starts() -> None:
    for wrong, message in (
        ({"strategy": "randm"}, "Did you mean 'random'"),
        ({"strategy": "random", "budgt": 3}, "Did you mean 'budget'"),
        ({"strategy": "random", "budget": 3}, "budget"),
        ({"seed": 0}, "No strategy given"),
    ):
        with pytest.raises(UserError, match=message):
            jobs([wrong])
    with pytest.raises(UserError, match="profile"):
        jobs([{"strategy": "random"}], Choices(settings={"profile": "fast"}))
    with pytest.raises(UserError, match="Expected strategies and data sets, or a sweep's file"):
        asked(["random"], [], None, None, {})


def test_a_file_that_is_no_sweep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('task = "digits-two"\n')
    with pytest.raises(UserError, match=r"no \[\[runs\]\] block"):
        read_sweep(path)
    path.write_text('titel = "x"\n[[runs]]\nstrategy = "random"\n')
    with pytest.raises(UserError, match="titel"):
        read_sweep(path)


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.toml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_every_spec_of_the_paper_resolves(path: Path, profile: str) -> None:
    sweep = read_sweep(path)
    settings = {"profile": profile, "device": "cpu"}
    found = expand(sweep, Choices(seeds=(0,), settings=settings), Path("runs"))
    assert sweep.title
    assert len(found) >= 2
    assert {job.spec.profile for job in found} == {profile}


def test_there_is_a_spec_for_every_figure_and_table() -> None:
    figures = ["3a", "3b", "3c", "3d", "4a", "4b", "4c", "4d", "5a", "5b", "5c", "5d", "6a", "6b"]
    expected = {f"fig{name}" for name in figures} | {"table2", "smoke"}
    assert {path.stem for path in SPECS.glob("*.toml")} == expected


@pytest.mark.parametrize(
    ("name", "budget", "query_size", "initial_size", "n_cycles"),
    [
        ("fig3a", 500, 10, 50, 45),
        ("fig4a", 1000, 10, 50, 95),
        ("fig3c", 10_000, 50, 100, 198),
        ("fig4b", 30_000, 1000, 1000, 29),
        ("fig5a", 2000, 10, 100, 190),
        ("fig4c", 50_000, 1000, 1000, 49),
        ("fig4d", 30_000, 1000, 1000, 29),
    ],
)
def test_the_paper_profile_is_table_1(
    name: str, budget: int, query_size: int, initial_size: int, n_cycles: int
) -> None:
    sweep = read_sweep(SPECS / f"{name}.toml")
    choices = Choices(strategies=("random",), seeds=(0, 1), settings={"profile": "paper"})
    spec = expand(sweep, choices, Path("runs"))[0].spec
    assert (spec.budget, spec.query_size, spec.initial_size, spec.n_cycles) == (
        budget,
        query_size,
        initial_size,
        n_cycles,
    )


def test_standing_counts_and_estimates(make_run: Any) -> None:
    sweep = Sweep(
        base={"task": "digits-two"}, runs=[{"strategy": ["random", "margin"], "seed": "0-1"}]
    )
    found = expand(sweep, Choices(), make_run.root)
    for job, finished in ((found[0], True), (found[2], False)):
        source = make_run("random", job.spec.seed, finished=finished)
        job.folder.path.mkdir(parents=True)
        for file in source.iterdir():
            file.rename(job.folder.path / file.name)
        job.folder.spec.write_text(job.spec.to_toml())
    state = standing(found)
    assert [len(group) for group in (state.finished, state.unfinished, state.open)] == [1, 1, 2]
    # Three trainings and evaluations, two selections, of the finished run of the same strategy.
    assert state.expected_s == pytest.approx(3 * 0.11 + 2 * 0.01)
    assert state.measured == 1
    assert len(standing(found, fresh=True).left) == 4
