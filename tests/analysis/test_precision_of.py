"""The average precision says which class it is of, and no spelling of names decides it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from alharness.api.running import places_of
from alharness.cli import call
from alharness.comparison.comparison import comparisons
from alharness.engine.evaluation import decide_precision, figures_of
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.records import read_run, read_runs
from alharness.spec import resolve

ROWS = 400


def table(path: Path, rare: str, common: str) -> Path:
    """One table, whatever its classes are called: 15 % of the rare one."""
    rng = np.random.default_rng(0)
    lines = ["a,b,target"]
    for i in range(ROWS):
        is_rare = i % 20 < 3
        a, b = rng.normal(0.8 * is_rare, 1), rng.normal(0, 1)
        lines.append(f"{a:.4f},{b:.4f},{rare if is_rare else common}")
    path.write_text("\n".join(lines) + "\n")
    return path


def settings_of(file: Path, **more: Any) -> dict[str, Any]:
    task = {"name": f"table:{file}", "target": "target", **more}
    return {
        "task": task, "strategy": "random", "device": "cpu", "learner": {"kind": "linear"},
        "initial_size": 40, "budget": 60, "query_size": 10,
    }  # fmt: skip


def run(folder: Path, file: Path, **more: Any) -> Any:
    return read_run(execute(resolve(settings_of(file, **more)), places_of(folder, None)).path)


@pytest.mark.filterwarnings("ignore")
def test_the_figure_does_not_depend_on_the_spelling_of_the_classes(tmp_path: Path) -> None:
    """churn/stay and yes/no: the rare class comes first in one alphabet and second in the other."""
    found = {}
    for rare, common in (("churn", "stay"), ("yes", "no")):
        made = run(tmp_path / rare, table(tmp_path / f"{rare}.csv", rare, common))
        assert made.precision_of == f"class {rare}"
        found[rare] = made.y("average_precision")
    # Of the class of 85 % it would be near 1. (Names also decide how the rows are split: no equality.)
    assert max(found["churn"].max(), found["yes"].max()) < 0.7


@pytest.mark.filterwarnings("ignore")
def test_the_user_names_the_class_and_all_other_keys_stay(tmp_path: Path) -> None:
    file = table(tmp_path / "t.csv", "churn", "stay")
    plain = resolve(settings_of(file))
    named = resolve(settings_of(file, positive="stay"))
    assert plain.run_key != named.run_key
    assert "positive" not in plain.to_toml()
    assert resolve(settings_of(file, positive=None)).run_key == plain.run_key
    made = run(tmp_path / "runs", file, positive="stay")
    assert made.precision_of == "class stay"
    assert made.y("average_precision").min() > 0.8
    with pytest.raises(UserError, match="Did you mean 'churn'"):
        run(tmp_path / "runs", file, positive="chrun")


def test_without_a_rare_class_it_is_the_mean_over_classes() -> None:
    assert decide_precision(["a", "b"], [41, 59], None).told == "macro"
    assert decide_precision(["a", "b"], [39, 61], None).told == "class a"
    assert decide_precision(["a", "b", "c"], [1, 50, 50], None).told == "macro"
    assert decide_precision(["a", "b", "c"], [1, 50, 50], "c").positive == 2
    rng = np.random.default_rng(1)
    scores = torch.from_numpy(rng.normal(0, 1, (60, 2))).log_softmax(dim=1)
    targets = rng.integers(0, 2, 60)
    each = [average_precision_score(targets == c, scores[:, c].numpy()) for c in (0, 1)]
    found = figures_of(scores, targets, decide_precision(["a", "b"], [30, 30], None))
    assert found.average_precision == pytest.approx(np.mean(each))
    assert figures_of(scores, targets).average_precision == pytest.approx(
        each[1]
    )  # as before 0.3.0


@pytest.mark.filterwarnings("ignore")
def test_a_stopped_run_goes_on_with_its_own_definition(tmp_path: Path) -> None:
    """A run that was begun before there was a choice: class 1, and records as they were."""
    spec = resolve(settings_of(table(tmp_path / "t.csv", "churn", "stay")))
    folder = execute(spec, places_of(tmp_path / "runs", None), max_cycles=1)
    lines = folder.cycles.read_text().splitlines()
    first = json.loads(lines[0])
    del first["test"]["average_precision_of"], first["chain"]
    folder.cycles.write_text(json.dumps(first) + "\n")
    assert read_run(folder.path).precision_of == "class stay"
    execute(spec, places_of(tmp_path / "runs", None))
    made = read_run(folder.path)
    assert made.finished
    assert "average_precision_of" not in folder.cycles.read_text()
    assert made.y("average_precision")[1:].min() > 0.8  # of 'stay', as in its first cycle


def test_a_mix_of_definitions_is_refused_and_each_is_named(make_run: Any, capsys: Any) -> None:
    for seed in range(2):
        make_run("random", seed)
        make_run("margin", seed, precision_of="macro")
    assert call(["compare", str(make_run.root)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'average_precision' is class one in 2 runs" in line
    assert "macro in 2" in line
    assert "--split-by average_precision" in line
    assert call(["compare", str(make_run.root), "--split-by", "average_precision"]) == 0


def test_the_class_stands_in_columns_axes_and_files(make_run: Any) -> None:
    from alharness.comparison.formats import as_json, merit_csv
    from alharness.comparison.report import build

    for strategy in ("random", "margin"):
        make_run(strategy, precision_of="class one", task_facts={"test_counts": [95, 5]})
    found = comparisons(read_runs(make_run.root))
    made = build(found, heading="x", metric="average_precision")
    (section,) = made.sections
    assert found[0].words("average_precision") == "average precision on the test set (of class one)"
    table = section.by_name["results"]
    assert "final average precision on the test set (of class one)" in table.header
    assert "of class one" in section.by_name["curve_average_precision"].caption
    assert any("average precision on the test set (of class one)" in t for t in section.warnings)
    assert json.loads(as_json(made))["comparisons"][0]["average_precision_of"] == "class one"
    assert merit_csv(made).splitlines()[1].endswith(",class one,average_precision")
