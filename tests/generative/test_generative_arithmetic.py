"""What a GPU computes with while networks are trained, shown where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from alharness import numerics
from alharness.artefacts import ArtefactStore, Supply, artefact_key
from alharness.generative import GeneratorSettings, obtain_autoencoder
from alharness.generative.autoencoder import AutoencoderTraining
from alharness.generative.checkpoint import CHECKPOINT
from alharness.generative.convolution import Conv2d, convolution, inputs_only
from alharness.generative.generator import obtain_generator
from alharness.generative.making import networks_identity
from alharness.generative.networks import build_critic
from alharness.generative.settings import (
    AUTOENCODER_RECIPES,
    GENERATOR_RECIPES,
    WRITTEN_FOR,
    GeneratorRecipe,
    recipe_of,
    recipe_values,
)
from alharness.generative.training import Training, train
from alharness.generative.wgan import GeneratorTraining, gradient_penalty
from alharness.pool import ArrayPool
from alharness.progress import silent

CONVOLUTIONAL = [name for name, recipe in GENERATOR_RECIPES.items() if recipe.network != "fc"]


def tiny(name: str, **changes: object) -> GeneratorRecipe:
    small = {"width": 2, "latent_dim": 4, "batch_size": 2, "critic_steps": 1, "steps": 2}
    return GENERATOR_RECIPES[name].model_copy(update={**small, **changes})


def images(shape: tuple[int, ...], n: int = 6) -> ArrayPool:
    rng = np.random.default_rng(0)
    return ArrayPool(rng.integers(0, 256, (n, *shape)).astype(np.uint8))


# ------------------------------------------------------------------ stop and continue, as on CUDA


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_restored_moments_lie_in_memory_as_their_weights_do(name: str, tmp_path: Path) -> None:
    """On CUDA weights are channels last, and a fused step wants the same of all of a weight's tensors."""
    pool, recipe = images(WRITTEN_FOR[name]), tiny(name)
    stopped = GeneratorTraining(pool, recipe)
    stopped.run_chunk()
    stopped.save(tmp_path / CHECKPOINT)
    continued = GeneratorTraining(pool, recipe)
    for network in (continued.generator, continued.critic):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    continued.restore(tmp_path / CHECKPOINT)

    kernels_elsewhere = 0
    for name in ("generator_optimiser", "critic_optimiser"):
        optimiser, whole = getattr(continued, name), getattr(stopped, name)
        for weight, there in zip(
            *(o.param_groups[0]["params"] for o in (optimiser, whole)), strict=True
        ):
            kernels_elsewhere += not weight.is_contiguous()
            for moment in ("exp_avg", "exp_avg_sq"):
                found = optimiser.state[weight][moment]
                assert found.stride() == weight.stride(), (moment, tuple(weight.shape))
                assert torch.equal(found, whole.state[there][moment])
    assert kernels_elsewhere >= 4, "the test needs weights in another memory format"


# ---------------------------------------------------------------------- the gradient of a gradient


def penalty_gradients(
    name: str, *, own: bool, monkeypatch: pytest.MonkeyPatch
) -> list[torch.Tensor]:
    """Gradients of the penalty by all weights of a critic, in float64."""

    def with_own_derivatives(
        self: Conv2d, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        assert not isinstance(self.padding, str)
        return convolution(input, weight, bias, self.stride, self.padding)

    with monkeypatch.context() as patch, torch.random.fork_rng():
        if own:
            patch.setattr(Conv2d, "_conv_forward", with_own_derivatives)
        torch.manual_seed(0)
        shape = WRITTEN_FOR[name]
        critic = build_critic(tiny(name), shape).double()
        real, fake = torch.rand(2, *shape).double(), torch.rand(2, *shape).double()
        gradient_penalty(critic, real, fake, torch.rand(2).double()).backward()
    return [p.grad for p in critic.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_the_penalty_has_the_gradients_that_torch_gives_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second derivative as an ordinary weight gradient, which cuDNN computes deterministically."""
    ours = penalty_gradients(name, own=True, monkeypatch=monkeypatch)
    torchs = penalty_gradients(name, own=False, monkeypatch=monkeypatch)
    assert len(ours) == len(torchs) > 4
    for found, expected in zip(ours, torchs, strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 2), (2, 0)])
def test_a_convolution_of_our_own_is_torchs(stride: int, padding: int) -> None:
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()

    x, weight, bias = draw(2, 3, 7, 8), draw(4, 3, 3, 3), draw(4)
    ours = convolution(x, weight, bias, (stride, stride), (padding, padding))
    torchs = functional.conv2d(x, weight, bias, stride, padding)
    assert torch.equal(ours, torchs)
    given = torch.randn(ours.shape, generator=rng, dtype=torch.float64)
    for found, expected in zip(
        torch.autograd.grad(ours, (x, weight, bias), given),
        torch.autograd.grad(torchs, (x, weight, bias), given),
        strict=True,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_what_cannot_be_differentiated_is_said() -> None:
    x, weight = torch.rand(1, 1, 4, 4), torch.rand(1, 1, 3, 3, requires_grad=True)
    y = convolution(x, weight, None, (1, 1), (0, 0))
    (slope,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    with pytest.raises(NotImplementedError, match="weight gradient"):
        slope.sum().backward()


def test_the_inner_gradient_computes_no_weight_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    from alharness.generative import convolution as module

    asked: list[list[bool]] = []
    original = module._gradients

    def counted(*arguments: Any) -> Any:
        asked.append(list(arguments[5]))
        return original(*arguments)

    monkeypatch.setattr(module, "_gradients", counted)
    x = torch.rand(1, 1, 4, 4, requires_grad=True)
    weight = torch.rand(1, 1, 3, 3, requires_grad=True)
    with inputs_only():
        y = convolution(x, weight, None, (1, 1), (0, 0))
        torch.autograd.grad(y.sum(), x, create_graph=True)
    assert asked == [[True, False, False]]


# --------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize(("precision", "product"), [("float32", "float32"), ("tf32", "tf32")])
def test_both_trainings_obey_their_recipes_precision(
    precision: str, product: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = images((1, 8, 8), n=40)
    seen: set[tuple[str, str, bool]] = set()
    original = Training.run_chunk

    def noting(self: Training[GeneratorRecipe]) -> dict[str, float]:
        told = numerics.describe()
        seen.add((told["matmul"], told["convolution"], told["cudnn"]))
        return original(self)

    monkeypatch.setattr(Training, "run_chunk", noting)
    changes = {"steps": 2, "width": 8, "code_dim": 4, "precision": precision}
    recipe = AUTOENCODER_RECIPES["fc-8"].model_copy(update=changes)
    train(AutoencoderTraining(pool, recipe), tmp_path, silent)
    assert seen == {(product, product, True)}
    seen.clear()
    train(GeneratorTraining(pool, tiny("fc-8", precision=precision)), tmp_path / "g", silent)
    assert seen == {(product, product, True)}


def test_what_is_measured_of_a_training_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out error and figures are computed as a run will use the networks, whatever was trained with."""
    pool = images((1, 8, 8), n=40)
    told: list[dict[str, Any]] = []
    original = ArrayPool.blocks

    def noting(self: ArrayPool, *arguments: Any, **named: Any) -> Any:
        told.append(numerics.describe())
        return original(self, *arguments, **named)

    monkeypatch.setattr(ArrayPool, "blocks", noting)
    changes = {"steps": 2, "width": 8, "code_dim": 4, "precision": "tf32"}
    recipe = AUTOENCODER_RECIPES["fc-8"].model_copy(update=changes)
    obtain_autoencoder(pool, recipe, Supply(ArtefactStore(tmp_path)), task="t")
    assert told
    assert {entry["matmul"] for entry in told} == {"float32"}
    assert all(entry["deterministic"] for entry in told)


def test_large_recipes_use_tf32_and_keep_the_names_of_their_artefacts() -> None:
    """On a CPU the two are one; ``float32`` in an identity stands for the recipe's own precision."""
    for name in ("conv-32", "conv-64", "resnet-32", "resnet-32-ct", "resnet-64"):
        own = GENERATOR_RECIPES[name]
        assert own.precision == "tf32"
        assert not own.folded  # which stands in no identity: those of before know no such word
        values = recipe_values(own)
        assert values == {**own.model_dump(mode="json", exclude={"folded"}), "precision": "float32"}
    keys = set()
    for precision in ("float32", "tf32", "bf16", "bf16-all", None):
        settings = GeneratorSettings(recipe="conv-32", precision=precision)
        recipe = settings.resolve("paper", (3, 32, 32))
        assert recipe_of(recipe_values(recipe)) == recipe
        keys.add(artefact_key("generator", networks_identity(recipe, (3, 32, 32), "f")))
    assert len(keys) == 4  # the recipe's own, and three others
    small = GeneratorSettings(recipe="conv-28", precision="float32").resolve("paper", (1, 28, 28))
    assert recipe_values(small) == small.model_dump(mode="json", exclude={"folded"})


def test_an_artefact_knows_how_it_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alharness.generative.wgan.BATCH_NORM_LATENTS", 4)
    recipe, store = tiny("conv-32", steps=1), ArtefactStore(tmp_path)
    made = obtain_generator(images((3, 16, 16)), recipe, Supply(store), task="t")
    assert made.recipe.precision == "tf32"
    stored = store.find(made.artefact_key)
    assert stored.identity["recipe"]["precision"] == "float32"
    assert stored.details["precision"] == "float32"  # it was trained on a CPU
