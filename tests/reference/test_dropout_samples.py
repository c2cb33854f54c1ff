"""Samples of a network with dropout: as the whole network gives them, at the price of its last part."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alharness import seeds
from alharness.labelled import LabelledSet
from alharness.learners.headed import HeadedNetwork
from alharness.learners.learner import LearnerSettings, NetworkLearner
from alharness.learners.network import dropout_layers
from alharness.pool import ArrayPool

N, SAMPLES = 150, 4  # images: more than one piece of a pass on the CPU
SHORT = {"width": 12, "min_steps": 2, "epochs": 1}


def fitted(**settings: object) -> tuple[NetworkLearner, torch.Tensor]:
    """A network after two steps, and images."""
    images = seeds.rng(0, "dropout samples").integers(0, 256, size=(N, 3, 16, 16), dtype="uint8")
    pool = ArrayPool(images)
    learner = NetworkLearner(
        (3, 16, 16), 3, torch.device("cpu"), LearnerSettings(**{**SHORT, **settings})
    )
    indices = torch.arange(20)
    learner.fit(LabelledSet(indices, indices % 3, n_asked=20), pool, seed=0)
    return learner, pool.gather(torch.arange(N))


def plain(learner: NetworkLearner, items: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The slow obvious way: the whole network with each set of masks, drawn layer by layer."""
    network, samples = learner.network, []
    for _ in range(SAMPLES):
        handles, masks = [], {}

        def drop(
            module: nn.Module,
            given: tuple[torch.Tensor, ...],
            output: torch.Tensor,
            masks: dict[nn.Module, torch.Tensor] = masks,
        ) -> torch.Tensor:
            if module not in masks:
                masks[module] = torch.rand(1, *given[0].shape[1:], generator=rng) >= module.p
            return given[0] * masks[module].float() / (1 - module.p)

        for layer in dropout_layers(network):
            handles.append(layer.register_forward_hook(drop))
        pieces = items.split(max(learner.CPU_ITEMS, learner.CPU_VALUES // items[0].numel()))
        with torch.no_grad():
            samples.append(torch.cat([network(piece).log_softmax(dim=1) for piece in pieces]))
        for handle in handles:
            handle.remove()
    return torch.stack(samples)  # fmt: skip


KINDS = [
    pytest.param({"kind": "mnist-cnn"}, id="dropout-at-the-end"),
    pytest.param({"kind": "all-cnn"}, id="dropout-on-the-image"),
    pytest.param({"kind": "strided-cnn", "dropout": 0.3}, id="the-settings-dropout"),
    pytest.param({"kind": "resnet18", "dropout": 0.3}, id="a-network-that-was-adopted"),
]


@pytest.mark.parametrize("settings", KINDS)
def test_samples_are_those_of_the_whole_network_bit_for_bit(settings: dict[str, object]) -> None:
    learner, items = fitted(**settings)
    rng = seeds.torch_rng(0, "masks")
    found = learner.sample_log_probs(items, SAMPLES, rng)
    assert tuple(found.shape) == (SAMPLES, N, 3)
    assert torch.equal(found, plain(learner, items, seeds.torch_rng(0, "masks")))
    assert not torch.equal(found[0], found[1])
    # Blocks of any size meet the same sets of parameters, and rng is left as it was.
    blocks = [learner.sample_log_probs(part, SAMPLES, rng) for part in items.split(101)]
    assert torch.allclose(torch.cat(blocks, dim=1), found, atol=1e-5)


def count_calls(network: HeadedNetwork) -> list[int]:
    """Images that the first convolution is given, call by call."""
    seen: list[int] = []
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda module, given, output: seen.append(len(given[0])))
    return seen


@pytest.mark.parametrize(
    ("settings", "passes"),
    [
        ({"kind": "mnist-cnn"}, 1),
        ({"kind": "strided-cnn", "dropout": 0.3}, 1),
        ({"kind": "resnet18", "dropout": 0.3}, 1),
        ({"kind": "all-cnn"}, SAMPLES),  # drops pixels: nothing comes before it
    ],
)
def test_what_comes_before_the_first_dropout_is_computed_once(
    settings: dict[str, object], passes: int
) -> None:
    learner, items = fitted(**settings)
    seen = count_calls(learner.network)
    learner.sample_log_probs(items, SAMPLES, seeds.torch_rng(0, "masks"))
    assert sum(seen) == passes * N
