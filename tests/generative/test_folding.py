"""Residual blocks by fewer operations: equal to the plain ones in values and in both derivatives."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from alharness.generative.folding import NormedRelu, _pooled, _spread
from alharness.generative.networks import (
    FirstCriticBlock,
    ResidualBlock,
    build_critic,
    build_generator,
)
from alharness.generative.normed_relu import normed_relu
from alharness.generative.settings import (
    GENERATOR_RECIPES,
    WRITTEN_FOR,
    GeneratorRecipe,
    GeneratorSettings,
    recipe_of,
    recipe_values,
)
from alharness.generative.wgan import gradient_penalty

RESNETS = [name for name, recipe in GENERATOR_RECIPES.items() if "resnet" in recipe.network]


def both(make: type[nn.Module], *arguments: int, **options: str) -> list[nn.Module]:
    """The plain block and the folded one, in float64, with the same weights."""
    plain, folded = (make(*arguments, folded=how, **options).double() for how in (False, True))
    for weight in plain.parameters():
        nn.init.normal_(weight, generator=torch.Generator().manual_seed(weight.numel()))
    folded.load_state_dict(plain.state_dict())
    return [plain, folded]


def derivatives(block: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Value, gradient by the input, and gradients of a function of that one by all weights and the input."""
    x = x.clone().requires_grad_()
    y = block(x)
    (slope,) = torch.autograd.grad(y.pow(2).sum(), x, create_graph=True)
    by = [x, *(weight for weight in block.parameters() if weight.requires_grad)]
    second = torch.autograd.grad(slope.pow(3).sum(), by, retain_graph=True, allow_unused=True)
    first = torch.autograd.grad(y.pow(2).sum(), by)
    found = [y, slope, *first, *(one for one in second if one is not None)]
    return [values.detach() for values in found]


def assert_equal_but_for_rounding(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    assert len(ours) == len(theirs)
    scale = max(float(expected.abs().max()) for expected in theirs)  # some are 0 but for rounding
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("resample", ["up", "down", "none"])
@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_a_folded_block_has_the_plain_ones_derivatives(resample: str, norm: str) -> None:
    into, out = (6, 6) if resample == "none" else (6, 4)
    plain, folded = (
        block.eval() for block in both(ResidualBlock, into, out, resample=resample, norm=norm)
    )
    x = torch.randn(3, into, 8, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert_equal_but_for_rounding(derivatives(folded, x), derivatives(plain, x))


def test_the_first_block_has_them_too() -> None:
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, folded = both(FirstCriticBlock, 3, 5)
    assert_equal_but_for_rounding(derivatives(folded, x), derivatives(plain, x))


@pytest.mark.parametrize("divisor", [1, 4])
def test_cuda_spreads_a_kernel_by_one_pooling_that_gives_the_same(divisor: int) -> None:
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 2, 3, 3, dtype=torch.float64, generator=rng).requires_grad_()
    found, expected = _pooled(weight, divisor), _spread(weight, divisor)
    cotangent = torch.randn(5, 2, 4, 4, dtype=torch.float64, generator=rng)
    slopes = [torch.autograd.grad(y, weight, cotangent)[0] for y in (found, expected)]
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(*slopes, rtol=1e-14, atol=1e-14)


class OnCuda(NormedRelu):
    """As it computes on CUDA, by torch's operations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return normed_relu(x, self.weight, self.bias, self.eps)


def norms() -> tuple[nn.Module, nn.Module]:
    """Ours and torch's, in float64, with the same weights."""
    ours, torchs = OnCuda(4).double(), nn.GroupNorm(1, 4).double()
    for weight in ours.parameters():
        nn.init.normal_(weight, generator=torch.Generator().manual_seed(1))
    torchs.load_state_dict(ours.state_dict())
    return ours, nn.Sequential(torchs, nn.ReLU())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layer_norms_derivatives_are_torchs(layout: torch.memory_format) -> None:
    rng = torch.Generator().manual_seed(0)
    x = 3 + 2 * torch.randn(2, 4, 3, 5, dtype=torch.float64, generator=rng)
    ours, torchs = norms()
    x = x.contiguous(memory_format=layout)
    assert_equal_but_for_rounding(derivatives(ours, x), derivatives(torchs, x))


def test_they_are_the_slopes_of_what_they_are_derivatives_of() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 1, 2, dtype=torch.float64, generator=rng).requires_grad_()
    ours, _ = norms()
    assert torch.autograd.gradcheck(ours, x)
    assert torch.autograd.gradgradcheck(ours, x)


def test_a_norm_of_numbers_far_from_zero_loses_nothing_by_it() -> None:
    """Squares of what is left of the image's first number do not cancel."""
    x = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    ones, zeros = torch.ones(4), torch.zeros(4)
    near, far = (normed_relu(x + shift, ones, zeros, 0.0) for shift in (0.0, 1024.0))
    torch.testing.assert_close(far, near, rtol=0, atol=1e-3)  # x + 1024 is rounded by 6e-5


def test_cudas_layer_norm_of_numbers_with_eight_bits_gives_such_numbers() -> None:
    """Rounded weights stand beside rounded images there (``rounding``); only autocast widens them."""
    exact, _ = norms()
    norm = copy.deepcopy(exact).bfloat16()
    x = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)).bfloat16()
    found, expected = derivatives(norm, x), derivatives(exact, x.double())
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.bfloat16
        assert float((ours - theirs).norm()) < 0.1 * float(theirs.norm())


def tiny(name: str, *, folded: bool) -> GeneratorRecipe:
    small = {"width": 2, "latent_dim": 4, "folded": folded}
    return GENERATOR_RECIPES[name].model_copy(update=small)


@pytest.mark.parametrize("name", RESNETS)
def test_folded_networks_hold_the_plain_ones_weights_and_give_their_penalty(name: str) -> None:
    shape = WRITTEN_FOR[name]
    found = []
    for folded in (False, True):
        recipe = tiny(name, folded=folded)
        torch.manual_seed(0)
        critic, generator = build_critic(recipe, shape).double(), build_generator(recipe, shape)
        generator = generator.double()
        rng = torch.Generator().manual_seed(0)
        real = torch.rand(2, *shape, dtype=torch.float64, generator=rng)
        fake = generator(torch.randn(2, 4, dtype=torch.float64, generator=rng))
        gradient_penalty(critic.eval(), real, fake, torch.tensor([0.3, 0.8]).double()).backward()
        weights = [*critic.parameters(), *generator.parameters()]
        # Torch gives zeros to a bias that a slope does not depend on, or nothing.
        slopes = [w.new_zeros(w.shape) if w.grad is None else w.grad for w in weights]
        found.append([fake.detach(), *slopes])
    assert_equal_but_for_rounding(*found)


def test_the_recipe_is_named_where_it_is_folded_and_nowhere_else() -> None:
    """Artefacts from before there was the choice keep their names: without a word, a recipe is plain."""
    plain = GeneratorSettings(recipe="resnet-32").resolve("paper", (3, 32, 32))
    folded = GeneratorSettings(recipe="resnet-32", folded=True).resolve("paper", (3, 32, 32))
    assert "folded" not in recipe_values(plain)
    assert recipe_values(folded) == {**recipe_values(plain), "folded": True}
    for recipe in (plain, folded):
        assert recipe_of(recipe_values(recipe)) == recipe


def test_what_has_no_derivative_is_not_taken_for_a_constant() -> None:
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    weight, bias = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    y = normed_relu(x, weight, bias, 1e-5)
    (by_weight,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    with pytest.raises(NotImplementedError, match="has no derivative"):
        torch.autograd.grad(by_weight.sum(), x)
