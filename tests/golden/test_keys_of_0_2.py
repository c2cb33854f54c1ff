"""Keys of 0.2.0 (bfe3db1), written down before the rooms moved: every task by every strategy and classifier.

``keys-of-0.2.0.json`` holds run keys, artefact keys and fingerprints as that version made them. Where the
arithmetic changed on purpose the recipe is recorded (``MOVED``): a new run has another key, which
``keys-of-0.3.0.json`` holds, and whoever names the old recipe gets the old one.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alharness.artefacts import artefact_key
from alharness.errors import UserError
from alharness.generative.making import networks_identity
from alharness.spec import RunSpec, protocol_fields, rebind, resolve

FILE = Path(__file__).parent / "keys-of-0.2.0.json"
NEW_FILE = Path(__file__).parent / "keys-of-0.3.0.json"
#: What names the recipe of 0.2.0, and for which specs that is another than today's.
MOVED: dict[str, tuple[dict[str, Any], Callable[[RunSpec], bool]]] = {
    # Newton's method, to the optimum, in place of L-BFGS.
    "learner": ({"solver": "lbfgs"}, lambda spec: spec.learner.kind == "linear"),
    # The rule of the authors' code.
    "strategy": ({"rule": "0.2"}, lambda spec: spec.strategy.name.endswith("typiclust")),
}
STRATEGIES = (
    "random",
    "full",
    "max-entropy",
    "margin",
    "least-confidence",
    "core-set",
    "badge",
    "typiclust",
    "bald",
    "batch-bald",
    "qbc",
    "prob-cover",
    "cluster-margin",
    "seals",
    "vaal",
    "learning-loss",
    "gaal",
    "simple-gan",
    "adba",
    "adba-boundary",
    "asal-gray",
    "asal-rgb",
    "asal-auto",
    "asal-disc",
    "asal-cls",
    "asal-gray-rerank",
    "asal-rgb-rerank",
    "asal-auto-rerank",
    "asal-disc-rerank",
    "asal-gray-random-latent",
    "asal-rgb-random-latent",
    "asal-auto-random-latent",
    "asal-disc-random-latent",
    "subset:500:max-entropy",
    "subset:50:core-set",
)
TASKS = (
    "digits-two",
    "digits-ten",
    "mnist-two",
    "mnist-ten",
    "cifar10-two",
    "cifar10-ten",
    "svhn",
    "celeba-blond-hair",
    "celeba-wearing-hat",
    "celeba-bangs",
    "celeba-eyeglasses",
    "lsun",
    "faces-blond-hair",
    "faces-wearing-hat",
    "faces-bangs",
    "faces-eyeglasses",
    "augmented:mnist-two:1000",
)
LEARNERS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"kind": "linear", "c": 0.5},
    "mlp": {"kind": "mlp", "dropout": 0.25},
    "mnist-cnn": {"kind": "mnist-cnn", "min_steps": 77},
    "all-cnn": {"kind": "all-cnn"},
    "strided-cnn": {"kind": "strided-cnn", "lr": 0.002},
    "ensemble": {"kind": "mlp", "members": 3},
}


def shape_of(task: str) -> tuple[int, ...]:
    """Item shapes of the tasks."""
    if task.startswith("digits"):
        return (1, 8, 8)
    if "mnist" in task:
        return (1, 28, 28)
    return (3, 32, 32) if task.startswith(("cifar", "svhn")) else (3, 64, 64)


def specs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of a spec, and what a user says to get it."""
    for task in TASKS:
        for strategy in STRATEGIES:
            for profile in ("quick", "paper"):
                given = {"task": task, "strategy": strategy, "profile": profile}
                yield f"{task} {strategy} {profile}", given
    for task in ("digits-two", "mnist-ten", "cifar10-two"):
        for strategy in ("random", "badge", "asal-auto"):
            for name, learner in LEARNERS.items():
                given = {"task": task, "strategy": strategy, "learner": learner}
                yield f"{task} {strategy} {name}", given


def run_keys() -> Iterator[tuple[str, str, str | None]]:
    """Name of a spec -> its key by the recipes of 0.2.0 and, where that is another, by today's."""
    for name, given in specs():
        given = {"device": "cpu", "seed": 3, **given}
        try:
            spec = resolve(given)
        except UserError:
            yield name, "refused", None
            continue
        olden = dict(given)
        for section, (recipe, has_moved) in MOVED.items():
            if has_moved(spec):
                said = olden.get(section, {})
                said = {"name": said} if isinstance(said, str) else said
                olden[section] = {**said, **recipe}
        moved = olden != given
        yield (
            name,
            resolve(olden).run_key if moved else spec.run_key,
            spec.run_key if moved else None,
        )


def artefact_keys() -> Iterator[tuple[str, str]]:
    """Generators and auto-encoders of every task."""
    for task in TASKS:
        shape = shape_of(task)
        for profile in ("quick", "paper"):
            spec = resolve(
                {"task": task, "strategy": "random", "profile": profile, "device": "cpu"}
            )
            recipe = spec.generator.resolve(profile, shape, task)
            made = networks_identity(recipe, shape, "fingerprint")
            yield f"{task} generator {profile}", artefact_key("generator", made)
            other = spec.autoencoder.resolve(profile, shape, task)
            made = networks_identity(other, shape, "fingerprint")
            yield f"{task} autoencoder {profile}", artefact_key("autoencoder", made)


def compared(path: Path, keys: dict[str, str]) -> None:
    if os.environ.get("ALHARNESS_GOLDEN") == "write":
        path.write_text(json.dumps(keys, indent=0) + "\n", encoding="utf-8")
    golden = json.loads(path.read_text(encoding="utf-8"))
    moved = {
        name: (golden.get(name), keys.get(name))
        for name in {**golden, **keys}
        if keys.get(name) != golden.get(name)
    }
    assert not moved, f"{len(moved)} of {len(golden)} keys moved: {list(moved.items())[:5]}"


def test_keys_stay_and_where_a_recipe_changed_the_old_one_has_the_old_key() -> None:
    keys = list(run_keys())
    compared(FILE, {**{name: old for name, old, _ in keys}, **dict(artefact_keys())})
    new = {name: new for name, _, new in keys if new is not None}
    compared(NEW_FILE, new)
    assert not set(new.values()) & {old for _, old, _ in keys}


def test_a_spec_that_was_recorded_before_there_was_a_recipe_has_the_old_one() -> None:
    """As a folder, a plan or ``--config`` of a recorded ``spec.toml`` gives it back."""
    asked = {"task": "digits-two", "strategy": "typiclust", "device": "cpu", "seed": 3}
    olden = {
        **asked,
        "learner": {"solver": "lbfgs"},
        "strategy": {"name": "typiclust", "rule": "0.2"},
    }
    key = resolve(olden).run_key
    recorded = tomllib.loads(resolve(olden).to_toml())
    del recorded["learner"]["solver"]
    assert "rule" not in recorded["strategy"]
    assert RunSpec.model_validate(recorded).run_key == resolve(recorded).run_key == key
    assert rebind(RunSpec.model_validate(recorded)).strategy.parameters.rule == "0.2"
    new = resolve(asked)
    assert (new.learner.solver, new.strategy.parameters["rule"]) == ("newton", "published")
    assert resolve(tomllib.loads(new.to_toml())) == RunSpec.model_validate(
        tomllib.loads(new.to_toml())
    )


def test_a_frozen_networks_head_is_solved_by_newtons_method(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self, item_shape, n_classes):\n"
        "        super().__init__()\n"
        "        self.fc = torch.nn.Linear(64, n_classes)\n\n"
        "    def forward(self, x):\n"
        "        return self.fc(x.flatten(1))\n"
    )
    given = {"task": "digits-two", "strategy": "random", "device": "cpu"}
    learner = {"kind": f"{net}:Net", "freeze": True}
    new = resolve({**given, "learner": learner})
    old = resolve({**given, "learner": {**learner, "solver": "lbfgs"}})
    assert new.learner.solver == "newton"
    assert new.run_key != old.run_key
    whole = resolve({**given, "learner": {"kind": f"{net}:Net"}})
    assert whole.learner.solver == "lbfgs"  # the field that its key leaves out


def test_runs_of_two_solvers_are_of_two_protocols() -> None:
    given = {"task": "digits-two", "strategy": "random", "device": "cpu"}
    fields = [
        protocol_fields(resolve({**given, **more}), "print")
        for more in ({}, {"learner": {"solver": "lbfgs"}})
    ]
    differing = {name for name in fields[0] if fields[0][name] != fields[1][name]}
    assert differing == {"learner"}


def test_a_solver_is_named_for_the_linear_model_only() -> None:
    given = {"task": "digits-two", "strategy": "random", "device": "cpu"}
    with pytest.raises(UserError, match=r"learner\.solver is for the linear model"):
        resolve({**given, "learner": {"kind": "mlp", "solver": "newton"}})
    plain = resolve({**given, "learner": {"kind": "mlp"}})
    assert resolve({**given, "learner": {"kind": "mlp", "solver": "lbfgs"}}) == plain
