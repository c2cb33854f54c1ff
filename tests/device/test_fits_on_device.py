"""Fits of networks on the pretended device: what is replayed is what would have been launched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from pretended_cuda import PretendedDevice
from tiny import images
from torch import nn
from torch.nn import functional

from alharness.generative.autoencoder import AutoencoderTraining
from alharness.generative.generator import Generator
from alharness.generative.networks import build_critic, build_generator
from alharness.generative.settings import AUTOENCODER_RECIPES, GENERATOR_RECIPES
from alharness.labelled import LabelledSet
from alharness.learners.capture import CapturedStep
from alharness.learners.learner import LearnerSettings, NetworkLearner
from alharness.learners.loss_prediction import LearningLossNetwork, learning_loss_factory
from alharness.oracle import annotator as oracle_annotator
from alharness.pool import ArrayPool
from alharness.progress import silent
from alharness_strategies import inversion
from alharness_strategies.adba import BoundaryLearner

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


# -- trainings whose steps differ in their inputs alone --------------------------------------------------


def annotator(device: PretendedDevice) -> dict[str, torch.Tensor]:
    """Batches of 20, and a last one of 7."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.2), nn.Linear(8, 2)).to(
        "cuda"
    )
    torch.cuda.manual_seed(0)
    with mock.patch.multiple(oracle_annotator, BATCH_SIZE=20, MIN_STEPS=20):
        pool = ArrayPool(images(47, (1, 8, 8)), "cuda")
        oracle_annotator.train(network, pool, torch.arange(47) % 2, 1, silent)
    return dict(network.state_dict())


def boundary(device: PretendedDevice) -> dict[str, torch.Tensor]:
    learner = BoundaryLearner((12,), 2, torch.device("cuda"))  # of codes
    pool = ArrayPool(torch.rand(40, 12, generator=torch.Generator().manual_seed(0)), "cuda")
    learner.fit(LabelledSet(torch.arange(20), torch.arange(20) % 2, n_asked=20), pool, seed=0)
    return dict(learner.state())


def learning_loss(device: PretendedDevice) -> dict[str, torch.Tensor]:
    settings = LearnerSettings(kind="linear", batch_size=10, min_steps=20, epochs=1)
    learner = learning_loss_factory(settings)((1, 8, 8), 2, torch.device("cuda"))
    pool = ArrayPool(images(40, (1, 8, 8)), "cuda")
    learner.fit(LabelledSet(torch.arange(20), torch.arange(20) % 2, n_asked=20), pool, seed=0)
    return dict(learner.state())


def encoder(device: PretendedDevice) -> dict[str, torch.Tensor]:
    recipe = GENERATOR_RECIPES["fc-8"].model_copy(update={"width": 4, "latent_dim": 4})
    torch.manual_seed(0)
    networks = build_generator(recipe, (1, 8, 8)), build_critic(recipe, (1, 8, 8))
    generator = Generator(*networks, recipe, (1, 8, 8), torch.device("cuda"))
    return dict(inversion.train_encoder(generator, 20, silent).state_dict())


def autoencoder(device: PretendedDevice) -> dict[str, torch.Tensor]:
    recipe = AUTOENCODER_RECIPES["fc-8"].model_copy(
        update={"steps": 20, "batch_size": 4, "width": 2, "code_dim": 4, "denoise_sigma": 0.1}
    )
    training = AutoencoderTraining(ArrayPool(images(40, (1, 8, 8)), "cuda"), recipe)
    training.chunk_steps = lambda: 20  # type: ignore[method-assign]
    training.run_chunk()
    return dict(training.networks.state_dict())


@pytest.mark.parametrize("train", [annotator, boundary, learning_loss, encoder, autoencoder])
def test_a_training_that_differs_in_its_inputs_alone_is_replayed(
    train: Callable[[PretendedDevice], dict[str, torch.Tensor]],
    device: PretendedDevice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BoundaryLearner, "STEPS", 20)
    with device.counting() as counts:
        replayed = train(device)
    assert counts.replays >= 10
    with monkeypatch.context() as patch:
        patch.setattr(CapturedStep, "__call__", lambda step, *given: step._function(*given))
        with device.counting() as counts:
            eager = train(device)
    assert counts.captures == 0
    assert replayed.keys() == eager.keys()
    for name, value in replayed.items():
        assert torch.equal(value, eager[name]), name
