"""The latent search: its cost is the passes through generator and classifier, and does not know the pool."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from alharness import acquisition
from alharness.generative.latent_search import search
from alharness.learners.kinds import build_classifier
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


@pytest.mark.regress
def test_search_through_a_cnn_stands_at_its_floor(device: torch.device) -> None:
    """Ten latents through the network of Fig. 3c: nothing is left to gain beside the passes themselves.

    By count: a step is a forward pass and the gradient with respect to the images, about another one, of 22
    MFLOP an image each. Adam on 10 x 128 numbers and the best step so far are the rest.
    """
    generator, _ = networks(device)
    classifier = build_classifier("mnist-cnn", (1, 28, 28), 10, width=128)
    classifier = classifier.to(device).eval().requires_grad_(False)
    score = score_of(classifier)
    z0 = torch.randn(10, 128, device=device)

    def images(z: torch.Tensor) -> torch.Tensor:
        return generator(z).reshape(-1, 1, 28, 28)

    def passes() -> None:
        for _ in range(STEPS):
            z = z0.clone().requires_grad_()
            torch.autograd.grad(score(images(z)).sum(), z)
        with torch.no_grad():
            score(images(z0))

    ratio = gate_ratio(
        lambda: search(images, score, z0, steps=STEPS), passes, at_most=1.4, device=device
    )
    print(f"\nlatent search through the MNIST CNN: {ratio:.2f} times its passes (limit 1.4)")
