"""A default recipe that changes between two sessions of a run does not slip into its later cycles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.generative import settings
from alharness.spec import resolve
from alharness.tasks.base import DataLocations

SHORT = {
    "task": "digits-two",
    "strategy": "asal-auto",
    "device": "cpu",
    "budget": 35,
    "query_size": 5,
    "initial_size": 20,
    "generator": {"steps": 5},
    "autoencoder": {"steps": 5},
}


@pytest.mark.parametrize(
    ("kind", "recipes"),
    [
        ("generator", settings.GENERATOR_RECIPES),
        ("autoencoder", settings.AUTOENCODER_RECIPES),
    ],
)
def test_a_run_does_not_go_on_with_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, recipes: dict[str, Any]
) -> None:
    spec = resolve(SHORT)
    places = Places(tmp_path, DataLocations.resolve(), None)
    folder = execute(spec, places, max_cycles=1)
    kept = folder.cycles.read_bytes()

    changed = recipes["fc-8"].model_copy(update={"lr": 2 * recipes["fc-8"].lr})
    with monkeypatch.context() as patch:
        patch.setitem(recipes, "fc-8", changed)
        with pytest.raises(UserError, match=f"was begun with the {kind}"):
            execute(spec, places)
    assert folder.cycles.read_bytes() == kept
    assert len([*(places.store_root / kind).glob("*/meta.json")]) == 1  # refused before training

    assert len(execute(spec, places).records()) == 4  # the recipe is back: the run goes on
