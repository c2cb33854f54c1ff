"""Generators and auto-encoders of every recipe on the pretended device, stopped and continued."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretended_cuda import PretendedDevice
from tiny import images

from alharness.generative.autoencoder import AutoencoderTraining
from alharness.generative.settings import (
    AUTOENCODER_RECIPES,
    GENERATOR_RECIPES,
    WRITTEN_FOR,
    AutoencoderRecipe,
    GeneratorRecipe,
)
from alharness.generative.wgan import GeneratorTraining
from alharness.pool import ArrayPool

#: One recipe of each network is fast enough; the others differ in sizes that are made small here.
FAST = ("fc-8", "conv-narrow", "resnet-32-ct")


def recipe(name: str) -> GeneratorRecipe:
    small = {"steps": 6, "batch_size": 2, "width": 2, "critic_steps": 2, "latent_dim": 4}
    return GENERATOR_RECIPES[name].model_copy(update=small)


def pool(name: str, place: str = "cuda") -> ArrayPool:
    return ArrayPool(images(12, WRITTEN_FOR[name]), place)


def weights(training: GeneratorTraining) -> dict[str, torch.Tensor]:
    found = {f"G.{name}": value for name, value in training.generator.state_dict().items()}
    found |= {f"D.{name}": value for name, value in training.critic.state_dict().items()}
    return {name: value.cpu() for name, value in found.items()}


def in_chunks(training: GeneratorTraining, n_steps: int) -> None:
    """So many steps, two at a time, under the arithmetic of a training."""
    training.chunk_steps = lambda: 2  # type: ignore[method-assign]
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        while training.step < n_steps:
            training.run_chunk()


#: Torch composes a layer norm's second derivative of operations that the pretence gets right from 2.12 on.
NORMALISED = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 12),
    reason="before torch 2.12 torch's own layer norm is not differentiated twice on the pretended device",
)
RECIPES = [
    name
    if name in FAST
    else pytest.param(
        name, marks=[pytest.mark.slow, *([NORMALISED] if name == "resnet-64" else [])]
    )
    for name in GENERATOR_RECIPES
]


@pytest.mark.parametrize("name", RECIPES)
def test_a_generators_training_goes_on_where_it_stopped(
    name: str, device: PretendedDevice, tmp_path: Path
) -> None:
    whole = GeneratorTraining(pool(name), recipe(name))
    in_chunks(whole, 6)
    assert device.counts.captures == 2  # the critic's step and the generator's
    stopped = GeneratorTraining(pool(name), recipe(name))
    in_chunks(stopped, 4)
    stopped.save(tmp_path / "checkpoint")
    continued = GeneratorTraining(pool(name), recipe(name))
    continued.restore(tmp_path / "checkpoint")
    in_chunks(continued, 6)
    expected = weights(whole)
    for key, value in weights(continued).items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("name", RECIPES)
def test_a_generator_learns_there_what_it_learns_on_the_cpu(
    name: str, device: PretendedDevice
) -> None:
    small = recipe(name).model_copy(update={"dropout": False, "dequantise": False})
    there = GeneratorTraining(pool(name), small)
    on_cpu = GeneratorTraining(pool(name, "cpu"), small)
    for training in (there, on_cpu):
        in_chunks(training, 2)
    for ours, theirs in zip(on_cpu.curve, there.curve, strict=True):
        assert ours == pytest.approx(theirs, rel=0.02, abs=2e-3)


def test_a_folded_training_learns_there_what_the_plain_one_learns(device: PretendedDevice) -> None:
    """With a layer norm whose second derivative is ours, on CUDA alone; under every version of torch."""
    folded = recipe("resnet-64").model_copy(update={"folded": True, "critic_steps": 1})
    there = GeneratorTraining(pool("resnet-64"), folded)
    eager = GeneratorTraining(pool("resnet-64"), folded, capture=False)
    plain = GeneratorTraining(pool("resnet-64", "cpu"), folded.model_copy(update={"folded": False}))
    for training in (there, eager, plain):
        in_chunks(training, 4)
    assert device.counts.captures == 2
    expected = weights(eager)
    assert all(torch.equal(value, expected[key]) for key, value in weights(there).items())
    for ours, theirs in zip(plain.curve, there.curve, strict=True):
        assert ours == pytest.approx(theirs, rel=0.02, abs=2e-3)


def test_a_training_in_bfloat16_is_captured_and_learns_nearly_the_same(
    device: PretendedDevice,
) -> None:
    plain = recipe("fc-8").model_copy(update={"consistency": 2.0, "width": 8})
    stored = plain.model_copy(update={"precision": "bf16-all"})
    there = GeneratorTraining(pool("fc-8"), stored)
    eager = GeneratorTraining(pool("fc-8"), stored, capture=False)
    exact = GeneratorTraining(pool("fc-8"), plain, capture=False)
    for training in (there, eager, exact):
        in_chunks(training, 4)
    assert device.counts.captures == 2
    expected = weights(eager)
    assert all(torch.equal(value, expected[key]) for key, value in weights(there).items())
    assert not torch.equal(exact.critic.head.weight, eager.critic.head.weight)
    for ours, theirs in zip(exact.curve, there.curve, strict=True):
        assert ours == pytest.approx(theirs, rel=0.05, abs=0.01)


@pytest.mark.parametrize("name", RECIPES)
def test_captured_steps_are_the_eager_steps(name: str, device: PretendedDevice) -> None:
    captured = GeneratorTraining(pool(name), recipe(name))
    eager = GeneratorTraining(pool(name), recipe(name), capture=False)
    for training in (captured, eager):
        in_chunks(training, 4)
    expected = weights(eager)
    for key, value in weights(captured).items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize(
    "name",
    [
        "conv-narrow",  # strides of two: issue 13 A.11
        "resnet-32-ct",  # strides of one only
        pytest.param("conv-32", marks=pytest.mark.slow),
        pytest.param("conv-64", marks=pytest.mark.slow),
    ],
)
def test_no_convolution_of_a_training_is_one_that_cudnn_refuses(
    name: str, device: PretendedDevice
) -> None:
    in_chunks(GeneratorTraining(pool(name), recipe(name)), 2)
    assert device.counts.slow_convolutions == 0


def test_a_chunk_of_steps_is_read_once(device: PretendedDevice) -> None:
    training = GeneratorTraining(pool("fc-8"), recipe("fc-8").model_copy(update={"steps": 20}))
    in_chunks(training, 4)  # what comes first is drawn up and captured
    with device.counting() as counts:
        in_chunks(training, 6)
    assert counts.host_reads == 1, counts.reads_at
    assert counts.replays == 2 * (2 + 1)  # two steps of two critic steps and one of the generator
    with device.counting() as longer:
        training.chunk_steps = lambda: 8  # type: ignore[method-assign]
        training.run_chunk()
    assert longer.host_reads == 1
    assert longer.launches < counts.launches * 8 / 2


def autoencoder_recipe(name: str) -> AutoencoderRecipe:
    small = {"steps": 6, "batch_size": 4, "width": 2, "code_dim": 4}
    return AUTOENCODER_RECIPES[name].model_copy(update=small)


@pytest.mark.parametrize("name", AUTOENCODER_RECIPES)
def test_an_autoencoders_training_goes_on_where_it_stopped(
    name: str, device: PretendedDevice, tmp_path: Path
) -> None:
    shape = {"fc-8": (1, 8, 8), "fc": (1, 28, 28), "conv-28": (1, 28, 28)}.get(
        name, (3, 64, 64) if name in ("conv-64", "conv-small") else (3, 32, 32)
    )
    items = ArrayPool(images(40, shape), "cuda")

    def started() -> AutoencoderTraining:
        training = AutoencoderTraining(items, autoencoder_recipe(name))
        training.chunk_steps = lambda: 2  # type: ignore[method-assign]
        return training

    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        whole, stopped, continued = started(), started(), started()
        whole.run_chunk()
        whole.run_chunk()
        stopped.run_chunk()
        stopped.save(tmp_path / "checkpoint")
        continued.restore(tmp_path / "checkpoint")
        continued.run_chunk()
    expected = whole.networks.state_dict()
    for key, value in continued.networks.state_dict().items():
        assert torch.equal(value.cpu(), expected[key].cpu()), key
