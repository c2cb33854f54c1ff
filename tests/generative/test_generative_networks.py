"""Networks of every recipe: shapes, ranges, sizes of the scripts, and images that stand alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from alharness.errors import UserError
from alharness.generative.generator import Generator
from alharness.generative.networks import (
    Dropout,
    build_critic,
    build_decoder,
    build_encoder,
    build_generator,
    stages,
)
from alharness.generative.settings import (
    AUTOENCODER_RECIPES,
    GENERATOR_RECIPES,
    WRITTEN_FOR,
    AutoencoderSettings,
    GeneratorSettings,
)
from alharness.generative.wgan import GeneratorTraining, renew_batch_norm
from alharness.pool import ArrayPool

SHAPES = {**WRITTEN_FOR, "conv-small": (3, 64, 64)}  # the last one is an auto-encoder


def small(name: str) -> Generator:
    """The recipe's networks with few channels, statistics renewed as after a training."""
    recipe = GENERATOR_RECIPES[name].model_copy(update={"width": 4})
    shape = SHAPES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build_generator(recipe, shape)
        critic = build_critic(recipe, shape)
        renew_batch_norm(
            network, torch.randn(32, recipe.latent_dim), batch_size=16, device=torch.device("cpu")
        )
    return Generator(network, critic, recipe, shape, torch.device("cpu"))


@pytest.mark.parametrize("name", GENERATOR_RECIPES)
def test_an_image_does_not_depend_on_its_batch_mates(name: str) -> None:
    generator = small(name)
    z = torch.randn(5, generator.latent_dim, generator=torch.Generator().manual_seed(1))
    together = generator.decode(z)
    alone = torch.cat([generator.decode(one[None]) for one in z])
    assert together.shape == (5, *SHAPES[name])
    assert 0.0 <= float(together.min()) <= float(together.max()) <= 1.0
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert float((together[0] - together[1]).abs().max()) > 1e-3  # latents do matter


@pytest.mark.parametrize("name", GENERATOR_RECIPES)
def test_critic_features_are_the_input_of_the_last_layer_without_dropout(name: str) -> None:
    generator = small(name)
    images = torch.rand(3, *SHAPES[name], generator=torch.Generator().manual_seed(2))
    features = generator.critic_features(images)
    assert features.shape == (3, generator.critic.n_features)
    torch.testing.assert_close(features, generator.critic_features(images), rtol=0, atol=0)
    alone = torch.cat([generator.critic_features(one[None]) for one in images])
    torch.testing.assert_close(features, alone, rtol=1e-4, atol=1e-5)
    pixels = images * 2 - 1 if generator.recipe.signed else images
    torch.testing.assert_close(
        generator.critic(pixels), generator.critic.head(features).squeeze(1), rtol=0, atol=0
    )


@pytest.mark.parametrize("name", GENERATOR_RECIPES)
def test_gradients_reach_the_latents(name: str) -> None:
    generator = small(name)
    z = torch.randn(2, generator.latent_dim, requires_grad=True)
    generator.decode(z).square().sum().backward()
    assert z.grad is not None
    assert float(z.grad.abs().min(dim=0).values.max()) > 0


@pytest.mark.parametrize(
    ("name", "n_features"),
    [("conv-28", 4096), ("conv-32", 4096), ("resnet-32", 128), ("resnet-64", 8192)],
)
def test_feature_counts_of_the_scripts(name: str, n_features: int) -> None:
    # decisions 1.4; conv-32 has DIM 64 (decision list), half of the script's 8192.
    recipe = GENERATOR_RECIPES[name]
    with torch.random.fork_rng():
        assert build_critic(recipe, SHAPES[name]).n_features == n_features


def test_weights_of_the_mnist_script() -> None:
    # gan_mnist.py with DIM 64: linear 128 -> 4096, 5x5 kernels 256-128-64-1, biases; and back.
    recipe = GENERATOR_RECIPES["conv-28"]
    with torch.random.fork_rng():
        generator = build_generator(recipe, SHAPES["conv-28"])
        critic = build_critic(recipe, SHAPES["conv-28"])
    count = sum(p.numel() for p in generator.parameters())
    kernels = 25 * (256 * 128 + 128 * 64 + 64 * 1)
    assert count == 128 * 4096 + 4096 + kernels + 128 + 64 + 1
    assert sum(p.numel() for p in critic.parameters()) == kernels + 64 + 128 + 256 + 4096 + 1


def test_stages_halve_down_to_four() -> None:
    assert stages(28) == [28, 14, 7, 4]
    assert stages(32) == [32, 16, 8, 4]
    assert stages(64) == [64, 32, 16, 8, 4]
    assert stages(8) == [8, 4]


def test_odd_images_work_with_convolutions() -> None:
    recipe = GENERATOR_RECIPES["conv-28"].model_copy(update={"width": 2})
    for shape in ((1, 9, 9), (3, 20, 33), (1, 48, 30)):
        with torch.random.fork_rng():
            images = build_generator(recipe, shape)(torch.randn(2, recipe.latent_dim))
            assert images.shape == (2, *shape)
            assert build_critic(recipe, shape)(images).shape == (2,)


def test_a_resnet_refuses_images_that_do_not_halve() -> None:
    with pytest.raises(UserError, match="conv recipe"):
        build_generator(GENERATOR_RECIPES["resnet-32"], (3, 28, 28))
    with pytest.raises(UserError, match="recipe=fc"):
        build_generator(GENERATOR_RECIPES["conv-28"], (1, 4, 4))


@pytest.mark.parametrize("name", AUTOENCODER_RECIPES)
def test_auto_encoders_encode_and_decode(name: str) -> None:
    recipe = AUTOENCODER_RECIPES[name].model_copy(update={"width": 4})
    images = torch.rand(3, *SHAPES[name])
    with torch.random.fork_rng(), torch.no_grad():
        codes = build_encoder(recipe, SHAPES[name])(images)
        rebuilt = build_decoder(recipe, SHAPES[name])(codes)
    assert codes.shape == (3, recipe.code_dim)
    assert rebuilt.shape == images.shape
    assert float(codes.min()) < 0 < float(codes.max())  # the code is linear, not rectified


def test_dropout_draws_from_its_own_generator_and_is_off_in_evaluation() -> None:
    layer = Dropout(0.5)
    layer.rng = torch.Generator().manual_seed(3)
    x = torch.ones(1000)
    state = torch.get_rng_state()
    dropped = layer(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert set(dropped.tolist()) == {0.0, 2.0}
    assert 0.4 < float((dropped == 0).float().mean()) < 0.6
    assert torch.equal(layer.eval()(x), x)


def test_recipes_follow_profile_and_image_size() -> None:
    open_settings = GeneratorSettings()
    assert open_settings.resolve("quick", (1, 8, 8)).recipe == "fc-8"
    assert open_settings.resolve("quick", (1, 28, 28)).recipe == "conv-narrow"
    assert open_settings.resolve("paper", (1, 28, 28)).recipe == "conv-28"
    assert open_settings.resolve("paper", (3, 32, 32)).recipe == "conv-32"
    assert open_settings.resolve("paper", (3, 32, 32), "cifar10-ten").recipe == "resnet-32-ct"
    assert open_settings.resolve("paper", (3, 64, 64)).recipe == "resnet-64"
    changed = GeneratorSettings(steps=7).resolve("paper", (1, 28, 28))
    assert (changed.steps, changed.batch_size, changed.lr) == (7, 50, 1e-4)
    with pytest.raises(UserError, match="Did you mean 'conv-28'"):
        GeneratorSettings(recipe="conv28").resolve("quick", (1, 28, 28))
    with pytest.raises(UserError, match="needs images"):
        open_settings.resolve("quick", (50,))


def test_a_consistency_term_brings_dropout_with_it() -> None:
    recipe = GeneratorSettings(consistency=2.0).resolve("paper", (1, 28, 28))
    assert recipe.dropout
    with torch.random.fork_rng():
        critic = build_critic(recipe, (1, 28, 28))
    assert sum(isinstance(layer, Dropout) for layer in critic.modules()) == 3


def test_auto_encoder_settings_resolve_alike() -> None:
    settings = AutoencoderSettings(code_dim=5)
    assert settings.resolve("quick", (1, 8, 8)).recipe == "fc-8"
    assert settings.resolve("paper", (3, 64, 64)).recipe == "conv-64"
    filled = settings.resolve("paper", (1, 28, 28))
    assert (filled.recipe, filled.code_dim) == ("conv-28", 5)


@pytest.mark.parametrize("name", GENERATOR_RECIPES)
def test_every_recipe_takes_a_step_of_training(name: str) -> None:
    changes = {"width": 2, "batch_size": 4, "critic_steps": 1, "steps": 2}
    recipe = GENERATOR_RECIPES[name].model_copy(update=changes)
    rng = np.random.default_rng(0)
    pool = ArrayPool(rng.integers(0, 256, size=(8, *SHAPES[name]), dtype=np.uint8), "cpu")
    training = GeneratorTraining(pool, recipe)
    before = [
        {key: value.clone() for key, value in module.named_parameters()}
        for module in (training.generator, training.critic)
    ]
    figures = training.run_chunk()
    assert all(np.isfinite(list(figures.values())))
    assert (figures["consistency"] > 0) == (recipe.consistency > 0)
    for module, held in zip((training.generator, training.critic), before, strict=True):
        moved = [
            key for key, value in module.named_parameters() if not torch.equal(value, held[key])
        ]
        still = set(held) - set(moved)
        # A bias in front of a normalisation, and the critic's last one, have no gradient.
        assert all(key.endswith("bias") for key in still), still
