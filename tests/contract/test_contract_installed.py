"""Every installed strategy keeps the contract; a check that fails names itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from alharness import registry
from alharness.conformance import CHECKS
from alharness.conformance.outcomes import outcomes
from alharness.conformance.scene import Bench
from alharness.learners.learner import Learner

#: Controls that differ from a strategy that is checked by their feature extractor alone.
_SIBLINGS = {
    f"asal-{space}-{control}"
    for space in ("rgb", "auto", "disc")
    for control in ("rerank", "random-latent")
}

#: The contract does not depend on how long something is trained or searched.
_SHORT = {
    "latent_steps": 5,
    "encoder_steps": 20,
    "refine_steps": 2,
    "train_steps": 5,
    "blocks": 1,
}
#: What tests/contract/test_settings_and_seeds.py asks of each parameter once, and with less to do.
_ASKED_THERE = {"parameters"}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a network of torchvision that nobody trained: its first block."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"0": (64, 3, 3, 3), "2": (64, 64, 3, 3)}
    tensors = {
        f"features.{n}.weight": torch.randn(s, generator=generator) for n, s in shapes.items()
    }
    tensors |= {f"features.{number}.bias": torch.zeros(64) for number in shapes}
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(tensors, path)
    return str(path)


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks of the same settings are trained once for all strategies."""
    return tmp_path_factory.mktemp("artefacts")


@pytest.fixture(scope="module")
def classifiers() -> dict[object, Learner]:
    """So are classifiers of the same labels."""
    return {}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in _SIBLINGS else [])
        for name in registry.names(registry.STRATEGIES)
    ],
)
def test_an_installed_strategy_passes_every_check(
    name: str, weights: str, artefacts: Path, classifiers: dict[object, Learner]
) -> None:
    cls = registry.strategy_class(name)
    if hasattr(cls, "module"):  # a published strategy of another library
        pytest.importorskip(cls.module.split(".")[0])
    plugin = registry.find_strategy(f"{name}:{cls.example}" if cls.takes else name)
    short = {
        key: value
        for key, value in (_SHORT | {"weights": weights}).items()
        if key in plugin.parameters.model_fields and not name.endswith("random-latent")
    }
    checks = {n: c for n, c in CHECKS.items() if n not in _ASKED_THERE}
    results = outcomes(checks, Bench(plugin.cls, plugin.keywords(**short), artefacts, classifiers))
    failed = {result.name: result.detail for result in results if result.outcome == "fail"}
    assert not failed
    # A strategy to which hardly any check applies is not proven.
    assert sum(result.outcome == "pass" for result in results) >= 18
