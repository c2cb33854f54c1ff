"""``alharness.tune``: settings by cross-validation on the starting labels, and by nothing else."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

import alharness
from alharness.api.tuning import default_grid
from alharness.cli import call
from alharness.engine import opening
from alharness.engine.tuning import folds_of
from alharness.errors import UserError
from alharness.records import INITIAL, QueryLog, RunFolder
from alharness.registry import resolve_task
from alharness.spec import bind
from alharness.tasks.base import DataLocations, TaskData, load_data

GRID = {"learner.c": [0.01, 1.0, 100.0]}
FOLDS = 3


def tune(tmp_path: Path, **given: Any) -> Any:
    given = {"grid": GRID, "folds": FOLDS, "budget": 30, **given}
    return alharness.tune("digits-two", runs_dir=tmp_path / "runs", **given)


def starting(tmp_path: Path, **given: Any) -> np.ndarray[Any, Any]:
    """Pool indices that a run with these settings begins with, from its own records."""
    run = alharness.run(
        "random", "digits-two", runs_dir=tmp_path / "runs", tracking=False, budget=30, **given
    )
    return QueryLog.read(RunFolder(run.folder).queries).rows("asked", INITIAL)


def test_the_setting_is_the_best_of_a_brute_force_loop_over_a_runs_starting_labels(
    tmp_path: Path,
) -> None:
    data = load_data(resolve_task("digits-two"), DataLocations.resolve(None))
    indices = starting(tmp_path, seed=4)
    x = np.asarray(data.pool_images)[indices].reshape(len(indices), -1) / data.pixel_max
    y = data.pool_targets[indices]
    fold = folds_of(y, data.class_names, FOLDS, seed=4)
    losses = []
    for c in GRID["learner.c"]:
        p = np.empty((len(y), 2))
        for held in (fold == number for number in range(FOLDS)):
            model = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(x[~held], y[~held])
            p[held] = model.predict_proba(x[held])
        losses.append(log_loss(y, p))
    result = tune(tmp_path, seed=4)
    assert [each.log_loss for each in result.tried] == pytest.approx(losses, abs=1e-4)
    assert result.best.settings == {"c": GRID["learner.c"][int(np.argmin(losses))]}


class Untouchable:
    """A test set that may be let go of, and nothing else."""

    def __init__(self, values: np.ndarray[Any, Any]) -> None:
        self._none = values[:0]

    def __getitem__(self, key: object) -> np.ndarray[Any, Any]:
        assert key == slice(None, 0), "somebody reads the test set"
        return self._none

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"somebody asks the test set for {name}")


@pytest.fixture
def change_data(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[TaskData], TaskData]], None]:
    def change(how: Callable[[TaskData], TaskData]) -> None:
        monkeypatch.setattr(opening, "load_data", lambda *a, **k: how(load_data(*a, **k)))

    return change


def test_no_label_but_the_starting_ones_and_no_test_item_decides(
    tmp_path: Path, change_data: Callable[[Callable[[TaskData], TaskData]], None]
) -> None:
    indices = starting(tmp_path, seed=2)
    as_it_is = tune(tmp_path, seed=2)

    def hide(data: TaskData) -> TaskData:
        other = 1 - data.pool_targets
        other[indices] = data.pool_targets[indices]
        test: Any = (Untouchable(data.test_images), Untouchable(data.test_targets))
        return replace(data, pool_targets=other, test_images=test[0], test_targets=test[1])

    change_data(hide)
    assert tune(tmp_path, seed=2).text == as_it_is.text


def test_another_starting_label_changes_what_is_found(
    tmp_path: Path, change_data: Callable[[Callable[[TaskData], TaskData]], None]
) -> None:
    index = starting(tmp_path, seed=2)[0]
    as_it_is = tune(tmp_path, seed=2)

    def change_one(data: TaskData) -> TaskData:
        targets = data.pool_targets.copy()
        targets[index] = 1 - targets[index]
        return replace(data, pool_targets=targets)

    change_data(change_one)
    assert tune(tmp_path, seed=2).text != as_it_is.text


def test_the_same_seed_gives_the_same_file_and_networks_too(tmp_path: Path) -> None:
    given = {
        "grid": {"learner.lr": [0.001, 0.01]},
        "learner": {"kind": "mlp", "width": 16, "min_steps": 10},
    }
    texts = []
    for name in ("a.toml", "b.toml"):
        texts.append(tune(tmp_path, out=tmp_path / name, **given).text)
        assert (tmp_path / name).read_text(encoding="utf-8") == texts[-1]
    assert texts[0] == texts[1]
    assert tune(tmp_path, data_seed=1, **given).text != texts[0]


def test_the_file_holds_what_a_run_needs_and_says_what_was_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, file = ["--runs-dir", str(tmp_path / "runs")], tmp_path / "tuned.toml"
    sizes = ["--budget", "30", "--seed", "1"]
    options = ["--grid", "learner.lr=0.001,0.02", "--folds", "2", "--out", str(file)]
    kind = ["--learner", "mlp", "--set", "learner.min_steps=5", "--set", "learner.width=8"]
    assert call(["tune", "digits-two", *kind, *options, *sizes, *runs]) == 0
    text = file.read_text(encoding="utf-8")
    learner = tomllib.loads(text)
    lr = learner["learner"]["lr"]
    assert learner == {"learner": {"kind": "mlp", "lr": lr, "min_steps": 5, "width": 8}}
    assert "data seed: 1; labels: 20 (random); folds: 2" in text
    assert text.count("  lr = ") == 2
    assert f"learner.lr={lr}" in capsys.readouterr().out

    config = ["--config", str(file), "--no-tracking", "--quiet"]
    assert call(["run", "margin", "digits-two", *config, *sizes, *runs]) == 0
    (spec,) = (tmp_path / "runs").glob("digits-two/margin/*/spec.toml")
    run = tomllib.loads(spec.read_text(encoding="utf-8"))["learner"]
    assert {name: run[name] for name in learner["learner"]} == learner["learner"]


def test_without_a_file_only_the_settings_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["--grid", "learner.c=0.1,1", "--folds", "3", "--runs-dir", str(tmp_path)]
    assert call(["tune", "digits-two", *grid]) == 0
    shown = capsys.readouterr().out
    assert tomllib.loads(shown)["learner"]["kind"] == "linear"


def test_a_tie_goes_to_the_simpler_setting(tmp_path: Path) -> None:
    # The linear model reads no width.
    for widths in ([64, 16, 128], [16, 64, 128]):
        result = tune(tmp_path, grid={"learner.width": widths})
        assert len({each.log_loss for each in result.tried}) == 1
        assert result.best.settings == {"width": 16}


def test_folds_have_every_class_by_its_share() -> None:
    targets = np.array([0] * 12 + [1] * 6)
    fold = folds_of(targets, ("a", "b"), 3, seed=0)
    counts = [np.bincount(targets[fold == number]).tolist() for number in range(3)]
    assert counts == [[4, 2]] * 3


@pytest.mark.parametrize(("of_b", "told"), [(3, None), (2, "Use --folds 2"), (1, "Use a larger")])
def test_as_many_folds_as_labels_of_the_rarest_class_and_not_one_more(
    of_b: int, told: str | None
) -> None:
    targets = np.array([0] * 9 + [1] * of_b)
    if told is None:
        fold = folds_of(targets, ("a", "b"), 3, seed=1)
        assert (fold.dtype, sorted(fold[targets == 1].tolist())) == (np.int64, [0, 1, 2])
        return
    with pytest.raises(UserError, match=f"class 'b' has {of_b} of {9 + of_b}. {told}"):
        folds_of(targets, ("a", "b"), 3, seed=1)


def test_what_is_tried_by_default_follows_the_kind() -> None:
    def of(**learner: Any) -> dict[str, list[Any]]:
        return default_grid(bind({"task": "digits-two", "strategy": "random", "learner": learner}))

    assert list(of(kind="linear")) == ["c"]
    assert of(kind="mlp", width=64, lr=0.01, min_steps=300) == {
        "lr": [0.003, 0.01, 0.03],
        "min_steps": [100, 300],
        "width": [32, 64],
    }
    assert of(kind="mlp", min_steps=1, epochs=60)["epochs"] == [20, 60]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"folds": 15},
            r"15 folds need 15 starting labels of every class; class '.+' has \d+ of 20",
        ),
        ({"folds": 1}, "2 folds or more; found 1"),
        ({"grid": {"learner.depth": [1, 2]}}, "Unknown setting 'learner.depth'"),
        ({"grid": {"learner.lr": [-1.0]}}, "learner.lr"),
        ({"grid": {"budget": [30, 40]}}, "A grid is of the classifier's settings.*found 'budget'"),
        ({"grid": {"learner.c": 1.0}}, "a list of values to try; found 1.0"),
        ({"grid": {}}, "The grid is empty"),
        ({"grid": {"learner.dropout": [0.1]}}, "learner.dropout is for networks"),
        ({"oracle": {"mode": "human"}}, "starting labels are not there yet"),
        (
            {"grid": None, "learner": {"kind": "sklearn.naive_bayes:GaussianNB"}},
            "has no grid of its own",
        ),
    ],
)
def test_what_cannot_be_tuned_is_told(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        tune(tmp_path, **given)


def test_a_pool_without_labels_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "bare.csv"
    rows = [f"{number}.5,{number * 7 % 5}.25," for number in range(40)]
    table.write_text("\n".join(["x,y,answer", *rows]), encoding="utf-8")
    data = {"name": f"table:{table}", "target": "answer", "blank": "pool", "classes": "a,b"}
    with pytest.raises(UserError, match="40 of 40 items have no class"):
        alharness.tune(data, runs_dir=tmp_path / "runs", initial_size=10, budget=20)


@pytest.mark.parametrize(
    "grid", [["learner.c"], ["learner.c=1,,2"], ["learner.c=1", "learner.c=2"]]
)
def test_a_grid_that_cannot_be_read_is_a_users_error(
    grid: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["tune", "digits-two", *(word for text in grid for word in ("--grid", text))]) == 2
    assert "--grid" in capsys.readouterr().err
