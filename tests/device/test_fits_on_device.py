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
from alharness.learners import packed
from alharness.learners.batches import Batches
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


# -- side by side ------------------------------------------------------------------------------------


def lane(n: int, seed: int, kind: str, device: str, **settings: Any) -> packed.Lane:
    shape = (1, 8, 8) if kind == "mlp" else (3, 16, 16)
    small = {"width": 4, "min_steps": 12, "epochs": 1, "batch_size": 10, "pack": 3}
    recipe = LearnerSettings(**{"kind": kind, **small, **settings})
    learner = NetworkLearner(shape, 2, torch.device(device), recipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = learner.build().train()
    labelled = LabelledSet(torch.arange(n), torch.arange(n) % 2, n_asked=n)
    items, targets = labelled.training_data(ArrayPool(images(40, shape), device))
    rng = torch.Generator().manual_seed(seed)
    moved = recipe.augment != "none"
    batches = Batches.draw(
        n, min(10, n), recipe.min_steps + n // 10, rng, moved=moved, in_company=False
    )
    return packed.Lane(network, items, targets, batches, seed, recipe)


def trained(*lanes: packed.Lane) -> list[list[torch.Tensor]]:
    """Losses and parameters of each lane, on the host."""
    losses = packed.train_together(lanes)
    return [
        [found.cpu(), *(parameter.detach().cpu() for parameter in one.network.parameters())]
        for one, found in zip(lanes, losses, strict=True)
    ]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("mlp", {"dropout": 0.3}),
        ("mnist-cnn", {}),  # dropout of its own
        ("strided-cnn", {"augment": "flip-crop"}),
    ],
)
def test_lanes_learn_on_the_device_what_they_learn_on_the_cpu(
    kind: str, settings: dict[str, Any], device: PretendedDevice
) -> None:
    """The same masks included; lanes with other numbers of labels and steps, and a copy as the third."""
    here, there = (
        trained(lane(23, 1, kind, where, **settings), lane(8, 2, kind, where, **settings))
        for where in ("cpu", "cuda")
    )
    for ours, theirs in zip(here, there, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_on_the_device_the_partners_make_no_difference(device: PretendedDevice) -> None:
    """With a network whose wide operations the CPU rounds alike wherever a lane lies in memory."""

    def wanted(seed: int) -> packed.Lane:
        return lane(20 + seed, seed, "mnist-cnn", "cuda")

    (alone,) = trained(wanted(1))
    for found in (trained(wanted(1), wanted(2))[0], trained(wanted(3), wanted(2), wanted(1))[2]):
        assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))


def test_a_pack_is_one_graph_and_sends_as_much_for_many_steps(device: PretendedDevice) -> None:
    found = []
    for steps in (12, 40):
        lanes = [lane(20, seed, "mlp", "cuda", min_steps=steps, dropout=0.2) for seed in range(3)]
        with device.counting() as counts:
            packed.train_together(lanes)
        found.append(counts)
    few, many = found
    assert few.captures == many.captures == 1
    assert few.sent == many.sent
    assert few.host_reads == many.host_reads == 0, many.reads_at
