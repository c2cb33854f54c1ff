"""No setting takes a number that nothing can be done with, and every setting says what it is.

What is lowest is written down here, by name: a limit that is forgotten or moved fails, and so does a setting
of tomorrow that has none.
"""

from __future__ import annotations

import ast
import math
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from alharness import registry
from alharness.errors import UserError
from alharness.generative.settings import (
    AutoencoderRecipe,
    AutoencoderSettings,
    GeneratorRecipe,
    GeneratorSettings,
)
from alharness.learners.settings import LearnerSettings
from alharness.oracle.settings import OracleSettings
from alharness.scaling.study import ScalingSpec
from alharness.spec import RunSpec
from alharness.tasks.settings import PoolSettings, TaskDefaults

ROOT = Path(__file__).parents[2]
SETTINGS: tuple[type[BaseModel], ...] = (
    RunSpec, TaskDefaults, PoolSettings, LearnerSettings, OracleSettings, GeneratorSettings,
    GeneratorRecipe, AutoencoderSettings, AutoencoderRecipe, ScalingSpec,
)  # fmt: skip

#: Lowest value of a count where it is not 1, by name, or by model and name.
LOWEST = {
    **dict.fromkeys(("seed", "data_seed", "split_seed", "resident_bytes", "rerank"), 0),
    **dict.fromkeys(("n_pictures", "refine_steps", "latent_steps", "LearnerSettings.epochs"), 0),
    **dict.fromkeys(("n_samples", "n_points"), 2),
    **dict.fromkeys(("GeneratorSettings.batch_size", "GeneratorRecipe.batch_size"), 2),
    "GaalParameters.latent_steps": 1,
    "image_size": 4,
    "n_pool": 100,
    "n_test": 100,
}
#: Counts that may be anything: any number is a seed, and a protocol is a name.
ANY = ("protocol", "GeneratorSettings.seed", "GeneratorRecipe.seed", "AutoencoderSettings.seed",
       "AutoencoderRecipe.seed", "ScalingSpec.seed")  # fmt: skip
#: Highest value of a number, where there is one; True: itself is allowed.
HIGHEST = {
    **dict.fromkeys(("pseudo_labels", "threshold"), (1, True)),
    **dict.fromkeys(("dropout", "noise", "beta1", "beta2", "ema"), (1, False)),
    **dict.fromkeys(("test_fraction", "held_out", "purity"), (1, False)),
    "blocks": (5, True),
    "white": (65535, True),
}
#: Numbers that may be 0; all other ones are above it.
NOUGHT = (
    "weight_decay", "dropout", "pseudo_labels", "threshold", "image_cost", "line_cost", "noise", "penalty",
    "consistency", "consistency_margin", "ema", "beta1", "beta2", "denoise_sigma", "prior_weight",
    "VaalParameters.beta", "VaalParameters.adversary",
)  # fmt: skip


def models() -> list[type[BaseModel]]:
    found = list(SETTINGS)
    for name in registry.names(registry.STRATEGIES):
        cls = registry.strategy_class(name)
        if not hasattr(cls, "module"):  # other libraries' strategies have parameters of their own
            found.append(cls.Parameters)
    found += [registry.task_class(name).Parameters for name in registry.names(registry.TASKS)]
    return list(dict.fromkeys(found))


def numbers() -> Iterator[tuple[type[BaseModel], str, type]]:
    """(model, name, int or float) of every setting that is a number."""
    for model in models():
        for name, field in model.model_fields.items():
            if typing.get_origin(field.annotation) is tuple:
                continue
            for kind in (int, float):
                if kind in (typing.get_args(field.annotation) or (field.annotation,)):
                    yield model, name, kind


def told(table: typing.Any, model: type[BaseModel], name: str, default: typing.Any) -> typing.Any:
    return table.get(f"{model.__name__}.{name}", table.get(name, default))


def takes(model: type[BaseModel], name: str, value: float) -> bool:
    """Whether a setting may have a value, whatever else is missing."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        return all(name not in found["loc"] for found in error.errors())
    except UserError:  # said of two settings together
        return True
    return True


NUMBERS = [pytest.param(*each, id=f"{each[0].__name__}.{each[1]}") for each in numbers()]


@pytest.mark.parametrize(("model", "name", "kind"), NUMBERS)
def test_a_number_ends_where_it_makes_no_sense(
    model: type[BaseModel], name: str, kind: type
) -> None:
    every = (name, f"{model.__name__}.{name}")
    if any(one in ANY for one in every):
        assert takes(model, name, -1)
        return
    if kind is int:
        lowest = told(LOWEST, model, name, 1)
        assert takes(model, name, lowest)
        assert not takes(model, name, lowest - 1)
    else:
        assert takes(model, name, 1e-9)
        assert takes(model, name, 0.0) is any(one in NOUGHT for one in every)
        assert not takes(model, name, -1e-9)
        assert not takes(model, name, math.nan)
    highest, itself = told(HIGHEST, model, name, (None, True))
    if highest is None:
        assert takes(model, name, 10**6)
    else:
        step = 1 if kind is int else 1e-9
        assert takes(model, name, highest - step)
        assert takes(model, name, highest) is itself
        assert not takes(model, name, highest + step)


def sources() -> Iterator[tuple[str, str]]:
    for folder in ("alharness", "strategies/alharness_strategies"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


#: Fields without words: parts of a record that are dicts, and recipes, whose settings say it.
WORDLESS = {
    "alharness/records/records.py": 2,
    "alharness/artefacts/ledger.py": 1,
    "alharness/generative/settings.py": 6,
    "alharness/comparison/claims.py": 1,
}


def test_every_declared_field_says_what_it_is() -> None:
    found = {}
    for name, source in sources():
        if "Field(" not in source:
            continue
        calls = [
            node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Field"
        ]
        silent = sum(all(word.arg != "description" for word in call.keywords) for call in calls)
        if silent:
            found[name] = silent
    assert found == WORDLESS


#: Values that change while something goes on; everything else is a fact and stays what it is.
CHANGING = {
    "alharness/api/embedding.py": 1,
    "alharness/conformance/scene.py": 1,
    "alharness/engine/initial.py": 1,
    "alharness/engine/labelling.py": 1,
    "alharness/engine/seat.py": 1,
    "alharness/executors/driver.py": 1,
    "alharness/executors/local.py": 1,
    "alharness/generative/wgan.py": 1,
    "alharness/live/watch.py": 1,
    "alharness/records/parsed.py": 1,
    "alharness/scaling/measure.py": 1,
    "alharness/tasks/drawn_faces.py": 1,
    "alharness/timing.py": 1,
}


def test_what_several_hold_cannot_be_changed_by_one() -> None:
    """Facts, settings and figures are frozen, and take no field that nobody declared."""
    loose = {}
    for name, source in sources():
        classes = re.findall(r"^ *@dataclass.*$", source, re.MULTILINE)
        changing = sum("frozen=True" not in line for line in classes)
        if changing:
            loose[name] = changing
    assert loose == CHANGING
    for model in models():
        assert model.model_config.get("frozen"), model
        assert model.model_config.get("extra") == "forbid", model
