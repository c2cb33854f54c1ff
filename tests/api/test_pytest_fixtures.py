"""``alharness.pytest``: somebody's own tests gate the work and the time of their own strategy."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alharness.errors import PluginError, UserError
from alharness.pytest import Selection
from alharness.queries import PoolQuery
from alharness_strategies.margin import Margin

ROOT = Path(__file__).parents[2]
pytest_plugins = ["pytester"]


def test_a_selection_counts_what_a_run_would_record(selection: Callable[..., Selection]) -> None:
    asked = selection(Margin, n_pool=300, query_size=7).ask()
    assert isinstance(asked.query, PoolQuery)
    assert len(asked.query) == 7
    assert asked.work == {"bytes_read": 64 * 282, "pool_items_scored": 282}, "18 are labelled"
    assert asked.n_read == 282
    assert asked.select_s == sum(asked.phases.values()) > 0


def test_it_is_the_same_question_each_time(selection: Callable[..., Selection]) -> None:
    made = selection("random", n_pool=100)
    first, second = made.ask(), made.ask()
    assert torch.equal(first.query.touched, second.query.touched)
    assert (first.work, first.n_read) == ({}, 0)
    assert len(made.times(3)) == 3


def test_a_name_with_its_argument_and_a_strategy_with_a_generator_work(
    selection: Callable[..., Selection],
) -> None:
    assert selection("subset:50:margin", n_pool=200).ask().work["pool_items_scored"] == 50
    small, large = (selection("asal-gray", n_pool=n, n_classes=2).ask() for n in (60, 120))
    assert small.work["images_generated"] == large.work["images_generated"] > 0
    assert "pool_items_scored" not in large.work
    assert (small.n_read, large.n_read) == (0, 0), "its features were made before"


def test_faults_are_told_as_in_a_run(selection: Callable[..., Selection]) -> None:
    class Short(Margin):
        def select(self, view: Any, query_size: int) -> Any:
            return super().select(view, query_size - 1)

    with pytest.raises(PluginError, match="Short"):
        selection(Short).ask()
    with pytest.raises(UserError, match="at least n_pool=28"):
        selection(Margin, n_pool=20)


@pytest.fixture
def recipe(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the files of the tutorial's recipe, in which nothing of the name was imported yet."""
    folder = pytester.path
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # there nothing would be measured
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(# (\w+\.py)\n.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for block, name in blocks:
        if name in ("mine.py", "conftest.py", "test_speed.py"):
            (folder / name).write_text(block)
    return folder


def test_the_recipe_of_the_tutorial_passes_and_measures(
    recipe: Path, pytester: pytest.Pytester
) -> None:
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--benchmark-json=times.json")
    done.assert_outcomes(passed=2)
    (measured,) = json.loads((recipe / "times.json").read_text())["benchmarks"]
    assert measured["stats"]["rounds"] == 5
    assert measured["extra_info"]["work"]["pool_items_scored"] == 200


def test_the_recipe_fails_when_the_work_grows_with_the_pool(
    recipe: Path, pytester: pytest.Pytester
) -> None:
    mine = (recipe / "mine.py").read_text()
    (recipe / "mine.py").write_text(mine.replace("[: max(200, query_size)]", ""))
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-k", "work")
    done.assert_outcomes(failed=1, deselected=1)
    done.stdout.fnmatch_lines(["*bytes_read must not depend on the pool*"])
