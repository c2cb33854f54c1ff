"""Networks that compute in bfloat16 for weights in float32: what arrives, and how far rounding moves it."""

from __future__ import annotations

import copy

import torch
from torch import nn

from alharness.generative.networks import build_critic
from alharness.generative.rounding import rounded
from alharness.generative.settings import GENERATOR_RECIPES
from alharness.generative.wgan import gradient_penalty

#: Largest relative error of a number with eight bits.
UNIT = 2.0**-8


def filled(network: nn.Module, low: int, high: int) -> nn.Module:
    """Small whole numbers as weights, which eight bits hold, and so are their sums and products here."""
    rng = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        weight.data = torch.randint(low, high, weight.shape, generator=rng).float()
    return network


def test_where_nothing_is_rounded_values_and_both_derivatives_are_the_networks_own() -> None:
    network = filled(
        nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1)), -1, 2
    )
    found = []
    for run in (network, rounded(network)):
        x = torch.arange(9.0).sub(4).view(1, 1, 3, 3).requires_grad_()
        y = run(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        by = torch.autograd.grad(slope.square().sum() + y.float().sum(), list(network.parameters()))
        found.append([y.float(), slope, *by])
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == torch.float32  # gradients of the weights that the optimiser moves
        assert torch.equal(ours, theirs)
    assert float(found[0][2].abs().sum()) > 0


def test_a_slope_is_as_near_as_eight_bits_of_weights_and_activations_allow() -> None:
    """A product of n rounded factors is off by n u of itself, so a sum by that of its terms' sizes."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 1))
    sizes = copy.deepcopy(network)
    for weight in sizes.parameters():
        weight.data.abs_()
    x = torch.randn(2, 3, 8, 8).requires_grad_()
    exact, found, limit = (
        torch.autograd.grad(run(x).sum(), x)[0] for run in (network, rounded(network), sizes)
    )
    # Three weights and the two gradients that are stored between them, and the one by the rounded image.
    error = (found - exact).abs() / limit
    assert 0 < float(error.max()) <= 6 * UNIT * (1 + 6 * UNIT)


def test_a_critics_step_in_eight_bits_goes_the_way_of_float32s() -> None:
    """Its penalty's second derivatives too; half a hundred roundings, which are not all of one sign."""
    changes = {"width": 4, "batch_size": 4, "folded": True}
    recipe = GENERATOR_RECIPES["resnet-64"].model_copy(update=changes)
    torch.manual_seed(0)
    critic = build_critic(recipe, (3, 16, 16))
    real, fake, mix = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16), torch.rand(4)
    found = []
    for run in (critic, rounded(critic)):
        scores = run(torch.cat([real, fake])).float()
        loss = 10 * gradient_penalty(run, real, fake, mix) - scores[:4].mean() + scores[4:].mean()
        slopes = torch.autograd.grad(loss, list(critic.parameters()))
        found.append(torch.cat([slope.flatten() for slope in slopes]))
    exact, eight_bits = found
    assert float((eight_bits - exact).norm() / exact.norm()) < 0.1
    assert not torch.equal(exact, eight_bits)


def test_batch_normalisation_keeps_its_statistics_in_float32() -> None:
    norm = nn.BatchNorm2d(2)
    y = rounded(nn.Sequential(nn.Conv2d(1, 2, 1), norm))(torch.randn(4, 1, 3, 3))
    assert y.dtype == torch.bfloat16
    assert norm.running_var is not None
    assert norm.running_var.dtype == torch.float32
    assert not torch.equal(norm.running_var, torch.ones(2))
