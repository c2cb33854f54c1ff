"""The latent search: its cost is the passes through generator and classifier, and does not know the pool."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from alharness import acquisition
from alharness.generative.latent_search import search
from alharness.scaling.gates import gate_ratio

STEPS = 20


def networks(device: torch.device) -> tuple[nn.Module, nn.Module]:
    """A generator and a classifier of 28x28 images, fully connected."""
    generator = nn.Sequential(
        nn.Linear(128, 512),
        nn.ReLU(),
        nn.Linear(512, 512),
        nn.ReLU(),
        nn.Linear(512, 784),
        nn.Sigmoid(),
    )
    classifier = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    for network in (generator, classifier):
        network.to(device).eval().requires_grad_(False)
    return generator, classifier


def score_of(classifier: nn.Module) -> Any:
    return lambda images: acquisition.entropy(classifier(images).log_softmax(dim=-1))


@pytest.mark.parametrize("n", [10, 100])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_search(benchmark: Any, n: int, cuda_graph: bool, device: torch.device) -> None:
    if cuda_graph and device.type == "cpu":
        pytest.skip("a CUDA graph needs a CUDA device")
    generator, classifier = networks(device)
    z0 = torch.randn(n, 128, device=device)
    benchmark(search, generator, score_of(classifier), z0, steps=STEPS, cuda_graph=cuda_graph)


@pytest.mark.regress
def test_search_costs_its_passes(device: torch.device) -> None:
    """Against the same number of forward and backward passes without Adam and book-keeping."""
    generator, classifier = networks(device)
    score = score_of(classifier)
    z0 = torch.randn(100, 128, device=device)

    def passes() -> None:
        for _ in range(STEPS):
            z = z0.clone().requires_grad_()
            torch.autograd.grad(score(generator(z)).sum(), z)
        with torch.no_grad():
            score(generator(z0))

    gate_ratio(
        lambda: search(generator, score, z0, steps=STEPS), passes, at_most=1.8, device=device
    )
