"""Fits of networks on the pretended device: what is replayed is what would have been launched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended_cuda import PretendedDevice
from tiny import images
from torch.nn import functional

from alharness.labelled import LabelledSet
from alharness.learners.learner import LearnerSettings, NetworkLearner
from alharness.learners.loss_prediction import LearningLossNetwork
from alharness.pool import ArrayPool

FOREIGN = '''
import random
import torch
from torch import nn

def lucky(item_shape, n_classes):
    """A network whose Python decides something in each step."""
    return Lucky(nn.Flatten(), nn.Linear(64, n_classes))

class Lucky(nn.Sequential):
    def forward(self, items):
        return super().forward(items * (1 + (random.random() < 0.5)))
'''


@pytest.fixture(autouse=True)
def _arithmetic_of_a_run() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        yield


def fitted(
    cls: type[NetworkLearner], n: int, *, capture: bool = True, **settings: Any
) -> NetworkLearner:
    shape = (3, 8, 8) if settings["kind"] != "mlp" else (1, 8, 8)
    recipe = LearnerSettings(**{"width": 4, "batch_size": 10, "epochs": 1, **settings})
    learner = cls(shape, 2, torch.device("cuda"), recipe, capture=capture)
    pool = ArrayPool(images(40, shape), "cuda")
    learner.fit(LabelledSet(torch.arange(n), torch.arange(n) % 2, n_asked=n), pool, seed=5)
    return learner


@pytest.mark.parametrize(
    ("cls", "n", "settings", "captures"),
    [
        (NetworkLearner, 20, {"kind": "mlp", "dropout": 0.3}, 1),
        (NetworkLearner, 23, {"kind": "strided-cnn", "augment": "flip-crop"}, 2),  # 10, 10, 3
        (
            NetworkLearner,
            4,
            {"kind": "resnet18", "batch_size": 3, "min_steps": 16},
            2,
        ),  # 3, and 1 + 1
        (NetworkLearner, 23, {"kind": "mlp", "min_steps": 12}, 1),  # four short batches: launched
        (LearningLossNetwork, 20, {"kind": "mlp"}, 2),  # until the cut, and after it
    ],
    ids=["dropout", "flip-crop", "lone-item", "few-short-ones", "learning-loss"],
)
def test_captured_steps_are_the_eager_steps(
    cls: type[NetworkLearner],
    n: int,
    settings: dict[str, Any],
    captures: int,
    device: PretendedDevice,
) -> None:
    settings = {"min_steps": 26, **settings}
    with device.counting() as counts:
        replayed = fitted(cls, n, **settings)
    assert counts.captures == captures
    with device.counting() as counts:
        eager = fitted(cls, n, capture=False, **settings)
    assert counts.captures == 0
    expected = eager.state()
    for name, value in replayed.state().items():
        assert torch.equal(value, expected[name]), name


def test_a_foreign_networks_python_is_not_frozen_in_a_graph(
    device: PretendedDevice, tmp_path: Path
) -> None:
    (tmp_path / "foreign.py").write_text(FOREIGN)
    kind = f"{tmp_path / 'foreign.py'}:lucky"
    recipe = LearnerSettings(kind=kind, min_steps=20, batch_size=10)
    learner = NetworkLearner((1, 8, 8), 2, torch.device("cuda"), recipe)
    pool = ArrayPool(images(40, (1, 8, 8)), "cuda")
    learner.fit(LabelledSet(torch.arange(20), torch.arange(20) % 2, n_asked=20), pool, seed=0)
    assert device.counts.captures == 0
    assert device.counts.sent_pageable > 0


def reading(*args: Any) -> torch.Tensor:
    """A loss that the host looks at, which no graph can hold."""
    found = functional.cross_entropy(args[0].network(args[1]), args[2])
    float(found.detach())
    return found


def test_a_step_that_no_graph_can_hold_is_launched_and_said(
    device: PretendedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout: a capture that fails would leave the device's generator unusable."""
    recipe = {"kind": "mlp", "dropout": 0.3, "min_steps": 12}
    eager = fitted(NetworkLearner, 20, capture=False, **recipe)
    with monkeypatch.context() as patch:
        patch.setattr(NetworkLearner, "loss", reading)
        patch.setattr(NetworkLearner, "kind_of_step", lambda learner, step, steps: ())
        with pytest.warns(UserWarning, match="without a CUDA graph, slower but the same: the host"):
            learner = fitted(NetworkLearner, 20, **recipe)
    assert device.counts.captures == 0
    expected = eager.state()
    assert all(torch.equal(value, expected[name]) for name, value in learner.state().items())
    with device.counting() as counts:
        again = fitted(NetworkLearner, 20, **recipe)  # the device is as it was
    assert counts.captures == 1
    assert all(torch.equal(value, expected[name]) for name, value in again.state().items())
