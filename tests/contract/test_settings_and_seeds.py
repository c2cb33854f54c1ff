"""For every installed strategy: each parameter does something, and a seed moves what is random and only that.

Loops over the registry, so that a strategy of tomorrow is covered: a parameter without effect and a strategy
that nobody has said to be random fail here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alharness import registry
from alharness.conformance.effects import deeds, other_values
from alharness.conformance.scene import PROBLEMS, Sample, Scene

#: As short as training and searching may be.
SHORT = {"latent_steps": 3, "encoder_steps": 3, "refine_steps": 2, "train_steps": 3}
#: What a parameter needs beside it to show.
BESIDE: dict[str, dict[str, Any]] = {
    "keep_best": {"latent_lr": 3.0, "latent_steps": 30},  # steps that overshoot
    "latent_lr": {"latent_steps": 3},
    "prior_weight": {"latent_steps": 3},
    "purity": {"delta": None},
}
#: Parameters that no query of this scene can show, and what shows them.
ELSEWHERE = {
    "features": "every space of every strategy: tests/reference/test_feature_spaces.py",
    "n_samples": "an ensemble has its members: tests/reference/test_dropout_samples.py",
    "network": "other weights are another network: tests/reference/test_asal_vgg.py",
    "weights": "part of the run key: tests/reference/test_asal_vgg.py",
    "n_candidates": "a check has no test set to judge on: tests/unit/test_greedy_bound.py",
    "metric": "a check has no test set to judge on: tests/unit/test_greedy_bound.py",
    "blocks": "other weights: tests/reference/test_asal_vgg.py",
}
#: Strategies whose query follows the seed; all others ask the same whatever it is.
RANDOM = (
    "random", "badge", "typiclust", "cluster-margin", "vaal", "gaal", "simple-gan", "asal", "subset",
    "greedy-bound",
)  # fmt: skip


def strategies() -> list[str]:
    """Ours by name; those of other libraries, which have their own tests, are left out."""
    return [
        name
        for name in registry.names(registry.STRATEGIES)
        if not hasattr(registry.strategy_class(name), "module") and name != "asal-vgg"
    ]


def declared() -> Iterator[tuple[str, str]]:
    """Each parameter once, with the first strategy that has it from the class that declares it."""
    seen = set()
    for name in [*strategies(), "asal-vgg"]:
        cls = registry.strategy_class(name)
        for field in cls.Parameters.model_fields:
            home = next(base for base in reversed(cls.Parameters.__mro__) if field in _own(base))
            if (home, field) not in seen:
                seen.add((home, field))
                yield name, field


def _own(cls: type) -> Any:
    return getattr(cls, "__annotations__", {})


def scene_of(name: str, root: Path, **parameters: Any) -> Scene:
    cls = registry.strategy_class(name)
    plugin = registry.find_strategy(f"{name}:{cls.example}" if cls.takes else name)
    known = plugin.parameters.model_fields
    given = {key: value for key, value in {**SHORT, **parameters}.items() if key in known}
    if name.endswith("random-latent"):
        given.pop("latent_steps", None)
    strategy = plugin.make(**given)
    suitable = [
        problem for problem in PROBLEMS if strategy.unsuitable(problem[0], problem[1]) is None
    ]
    return Scene(strategy, Sample.usual(*suitable[0]), root)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where artefacts lie: networks of the same settings are trained once."""
    return tmp_path_factory.mktemp("artefacts")


def asked(scene: Scene, seed: int = 0) -> tuple[Any, ...]:
    return deeds(scene, scene.view(seed=seed), 8)


@pytest.mark.parametrize(("name", "field"), [pytest.param(*pair) for pair in declared()])
def test_every_parameter_changes_the_query_its_figures_or_its_work(
    name: str, field: str, root: Path
) -> None:
    if field in ELSEWHERE:
        assert (Path(__file__).parents[2] / ELSEWHERE[field].rpartition(" ")[2]).is_file()
        return
    model = registry.strategy_class(name).Parameters
    default = model.model_fields[field].default
    others = list(other_values(model, field, default))
    beside = BESIDE.get(field, {})
    usual = asked(scene_of(name, root, **beside))
    for value in others:
        if asked(scene_of(name, root, **{**beside, field: value})) != usual:
            return
    pytest.fail(f"strategy.{field} of {name} has no effect: {others} are as {default!r}")


@pytest.mark.parametrize("name", strategies())
def test_another_seed_moves_what_is_random_and_only_that(name: str, root: Path) -> None:
    torch.manual_seed(0)  # nothing may follow the global state
    # Of fifty neighbours among eighty items the classifier chooses the same, wherever they lie.
    scene = scene_of(name, root, **({"rerank": 3} if name.endswith("rerank") else {}))
    one, two = asked(scene, seed=0), asked(scene, seed=1)
    torch.manual_seed(1)
    assert asked(scene, seed=0) == one
    assert (one[0] != two[0]) == name.startswith(RANDOM)
    held_against(name, *one)


#: What each strategy does in this scene, as it did ever: a constant, a border or a setting that is wrong
#: shows here. ``ALHARNESS_GOLDEN=write`` writes it anew; a change is told in CHANGELOG.md.
DEEDS = Path(__file__).with_name("deeds.json")


def held_against(name: str, asked: Any, figures: Any, arrays: Any, work: Any) -> None:
    """Items and counts are the same everywhere; what was computed by networks is so to some digits."""
    told: dict[str, Any] = {"work": work, "arrays": sorted(arrays), "figures": figures}
    for key, value in asked.items():
        if isinstance(value, bytes) and key.endswith(("indices", "targets")):
            told[key] = np.frombuffer(value, np.int64).tolist()
        elif isinstance(value, bytes):  # pictures
            told[key] = float(np.frombuffer(value, np.float32).astype(np.float64).std())
    golden = json.loads(DEEDS.read_text()) if DEEDS.exists() else {}
    if os.environ.get("ALHARNESS_GOLDEN") == "write":
        golden[name] = told
        text = json.dumps(dict(sorted(golden.items())), indent=1)
        DEEDS.write_text(re.sub(r"\[[^][{}]*\]", lambda f: " ".join(f[0].split()), text) + "\n")
    before = golden[name]
    assert told.keys() == before.keys()
    for key, value in told.items():
        close = isinstance(value, float) or key == "figures"
        assert value == (
            pytest.approx(before[key], rel=1e-3, abs=1e-6) if close else before[key]
        ), key
