"""How the first labels are found: drawn, by class, or chosen by a strategy; never by the one that goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris

import alharness
from alharness import UserError
from alharness.engine.initial import initial_indices, stratified_indices
from alharness.engine.loop import Sizes
from alharness.executors.local import _is_foreign
from alharness.executors.sweeps import Job
from alharness.records import INITIAL, QueryLog, RunFolder
from alharness.spec import RunSpec, protocol_fields, rebind, resolve

TINY: Mapping[str, Any] = {
    "budget": 18,
    "query_size": 6,
    "initial_size": 12,
    "learner": {"kind": "linear"},
}


@pytest.fixture(autouse=True)
def _table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``table:flowers.csv``: rows, which strategies look at as they are: no auto-encoder is trained."""
    monkeypatch.chdir(tmp_path)
    loaded = load_iris(as_frame=True)
    loaded.frame.to_csv("flowers.csv", index=False)


def sizes(n: int, data_seed: int = 0) -> Sizes:
    return Sizes(seed=0, data_seed=data_seed, budget=n, query_size=1, initial_size=n)


def began(strategy: Any, runs_dir: Path, **settings: Any) -> list[int]:
    """Pool indices of a run's initial set, in their order."""
    result = alharness.run(
        strategy, "table:flowers.csv", runs_dir=runs_dir, tracking=False, **{**TINY, **settings}
    )
    rows = QueryLog.read(RunFolder(result.folder).queries).rows("asked", INITIAL)
    assert rows is not None
    found: list[int] = rows.tolist()
    return found


@pytest.mark.parametrize(
    "start",
    [
        "stratified",
        "typiclust",
        "prob-cover",
        {"name": "core-set", "features": "items"},
        "random",
    ],
)
def test_all_strategies_that_share_a_start_begin_with_the_same_items(
    tmp_path: Path, start: Any
) -> None:
    first = began("margin", tmp_path, initial=start)
    assert first == began("core-set", tmp_path, initial=start), "the strategy that goes on"
    assert first == began("margin", tmp_path, initial=start, seed=5, data_seed=0), "its seed"
    if start in ("stratified", "typiclust", "random"):  # the others draw nothing
        assert first != began("margin", tmp_path, initial=start, data_seed=1)


def test_a_drawn_start_is_what_it_was_before_there_was_a_choice(tmp_path: Path) -> None:
    drawn = began("random", tmp_path)
    assert drawn == began("random", tmp_path, initial="random")
    assert drawn == initial_indices(120, sizes(12)).tolist()


def test_a_start_is_in_the_key_unless_it_is_random() -> None:
    base = {"task": "digits-ten", "strategy": "margin"}
    plain, said, other, tuned = (
        resolve({**base, **more})
        for more in (
            {},
            {"initial": "random"},
            {"initial": "typiclust"},
            {"initial": {"name": "typiclust", "pca_dims": 7}},
        )
    )
    assert plain.run_key == said.run_key
    assert len({plain.run_key, other.run_key, tuned.run_key}) == 3
    assert "initial" not in protocol_fields(said, "")
    assert protocol_fields(other, "")["initial"] != protocol_fields(tuned, "")["initial"]


def test_a_new_start_follows_the_recipe_of_today_and_a_recorded_one_its_own() -> None:
    spec = resolve({"task": "digits-ten", "strategy": "margin", "initial": "typiclust"})
    own = spec.model_dump(mode="json")
    assert own["initial"].pop("rule") == "published"
    for values, rule in ((spec.model_dump(mode="json"), "published"), (own, "0.2")):
        starter = rebind(RunSpec.model_validate(values)).starter
        assert starter is not None
        assert starter.parameters.rule == rule  # type: ignore[attr-defined]


def test_an_edit_of_a_foreign_start_is_another_run(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    given = {"task": "digits-ten", "strategy": "margin", "initial": f"{mine}:First"}
    keys = set()
    for first in ("", "1 + "):
        mine.write_text(
            "from alharness.strategy import PoolQuery, Strategy\n\n\nclass First(Strategy):\n"
            "    def select(self, view, query_size):\n"
            f"        return PoolQuery(view.unlabelled[{first}0:query_size])\n"
        )
        spec = resolve(given)
        keys.add(spec.run_key)
        assert _is_foreign(Job(0, spec, tmp_path)), "a process of its own in a sweep"
    assert len(keys) == 2


def test_nothing_labelled_means_that_the_start_is_a_query(tmp_path: Path) -> None:
    assert len(began("random", tmp_path, initial="typiclust", initial_size=0)) == 6
    base = {"task": "digits-ten", "strategy": "margin", "initial": "typiclust", "query_size": 20}
    asked, said = (resolve({**base, "initial_size": n}) for n in (0, 20))
    assert asked == said, "one start, one key"
    for drawn in ("random", "stratified"):
        with pytest.raises(UserError, match="leaves the first query to a strategy"):
            resolve({**base, "initial": drawn, "initial_size": 0})


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("margin", "asks the classifier, and before the first labels there is none"),
        ("subset:50:margin", "asks the classifier"),
        ("bald", "asks the classifier"),
        ("full", "labels the whole pool"),
        ("gaal", "asks the classifier"),
    ],
)
def test_a_strategy_that_needs_a_classifier_is_refused_before_data_are_loaded(
    start: str, reason: str
) -> None:
    with pytest.raises(UserError, match=f"'{start}' cannot choose the initial set: it {reason}"):
        resolve({"task": "mnist-two", "strategy": "random", "initial": start})


@pytest.mark.parametrize("start", ["badge", "core-set", "cluster-margin"])
def test_one_that_turns_out_to_need_it_is_refused_when_it_asks(tmp_path: Path, start: str) -> None:
    with pytest.raises(
        UserError, match=f"'{start}' cannot choose the initial set: it asks the"
    ) as e:
        began("random", tmp_path, initial=start)
    assert "\n" not in str(e.value)
    assert not list(tmp_path.rglob("cycles.jsonl")), "a run without its start has no record"


def test_a_drawn_start_has_no_parameters_and_a_chosen_one_its_own() -> None:
    base = {"task": "digits-ten", "strategy": "margin"}
    with pytest.raises(UserError, match=r"Unknown setting 'initial\.pca_dims'"):
        resolve({**base, "initial": {"pca_dims": 3}})
    with pytest.raises(UserError, match=r"Unknown setting 'initial\.pca_dim'. Did you mean"):
        resolve({**base, "initial": {"name": "typiclust", "pca_dim": 3}})
    with pytest.raises(UserError, match=r"Unknown strategy 'typclust'\. Did you mean 'typiclust'"):
        resolve({**base, "initial": "typclust"})


def test_a_stratified_start_has_each_class_by_its_share() -> None:
    targets = np.repeat([0, 1, 2, 3], [600, 300, 98, 2])
    found = targets[stratified_indices(targets, 4, sizes(100)).numpy()]
    assert np.bincount(found).tolist() == [60, 30, 9, 1], (
        "the rarest once, though its share is less"
    )
    assert (np.diff(found) != 0).sum() > 20, "not class by class"
    few = targets[stratified_indices(targets, 4, sizes(2)).numpy()]
    assert sorted(few) == [0, 1], "the frequent ones first where there is no room for all"
    whole = stratified_indices(targets, 4, sizes(1000)).numpy()
    assert sorted(whole) == list(range(1000)), "never more of a class than there are"


def test_a_stratified_start_needs_a_class_of_every_item() -> None:
    targets = np.array([0, 1, -1, 1])
    with pytest.raises(UserError, match="1 items of the pool have no label"):
        stratified_indices(targets, 2, sizes(2))


def test_what_a_start_cost_is_no_cost_of_the_strategy(tmp_path: Path) -> None:
    result = alharness.run(
        "random",
        "table:flowers.csv",
        runs_dir=tmp_path,
        tracking=False,
        initial="typiclust",
        **TINY,
    )
    assert result.run.facts.start.select_s is not None
    assert result.run.facts.start.select_s > 0
    assert not result.records[0].time.prepared, "random prepares nothing"
    plain = alharness.run("random", "table:flowers.csv", runs_dir=tmp_path, tracking=False, **TINY)
    assert "start" not in plain.run.facts.as_written()


def test_different_starts_are_not_compared_unsaid(tmp_path: Path) -> None:
    for start in ("random", "typiclust"):
        began("random", tmp_path, initial=start)
        began("margin", tmp_path, initial=start)
    with pytest.raises(UserError, match=r"'initial' is .*--split-by initial"):
        alharness.compare(tmp_path)
    apart = alharness.compare(tmp_path, split_by=["initial"])
    titles = {section.comparison.title for section in apart.report.sections}
    assert len(titles) == 2
    assert all("initial" in title for title in titles)


def test_a_setting_of_the_start_is_told_by_its_own_name(tmp_path: Path) -> None:
    """The strategy says ``strategy.features`` of it; there is another one, whose setting it is not."""
    np.savez(tmp_path / "short.npz", x_pool=np.zeros((3, 2), np.float32))
    for file in (
        "nowhere.npz",
        "short.npz",
    ):  # found out before the run, and when its pool is there
        chosen = {"name": "prob-cover", "features": f"npz:{tmp_path / file}"}
        with pytest.raises(UserError) as raised:
            alharness.run(
                "random", "digits-two", initial=chosen, runs_dir=tmp_path / "runs", tracking=False
            )
        assert str(raised.value).startswith(f"initial.features: '{tmp_path / file}'")
