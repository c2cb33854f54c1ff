"""A default recipe that changes between two sessions of a run does not slip into its later cycles."""

from __future__ import annotations

from pathlib import Path

import pytest

from alharness.errors import UserError
from alharness.generative.settings import GENERATOR_RECIPES
from alharness.runner import Places, execute
from alharness.spec import resolve
from alharness.tasks.base import DataLocations


def test_a_run_does_not_go_on_with_another_generator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve(
        {
            "task": "digits-two",
            "strategy": "asal-gray",
            "device": "cpu",
            "budget": 35,
            "query_size": 5,
            "initial_size": 20,
            "generator": {"steps": 5},
        }
    )
    places = Places(tmp_path, DataLocations.resolve(), None)
    folder = execute(spec, places, max_cycles=1)
    kept = folder.cycles.read_bytes()

    recipe = GENERATOR_RECIPES["fc-8"]
    with monkeypatch.context() as patch:
        changed = recipe.model_copy(update={"lr": 2 * recipe.lr})
        patch.setitem(GENERATOR_RECIPES, "fc-8", changed)
        with pytest.raises(UserError, match="was begun with the generator"):
            execute(spec, places)
        assert folder.cycles.read_bytes() == kept

    assert len(execute(spec, places).records()) == 4  # the recipe is back: the run goes on
