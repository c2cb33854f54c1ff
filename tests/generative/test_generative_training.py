"""Training: the loss is the paper's, a stop is not seen in the result, and nothing global is touched."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from alharness.artefacts import ArtefactStore, Supply, read_notes, read_tensors
from alharness.errors import UserError
from alharness.generative import (
    AutoencoderSettings,
    Generator,
    GeneratorSettings,
    obtain_autoencoder,
    obtain_generator,
    wgan,
)
from alharness.generative.autoencoder import AutoencoderTraining
from alharness.generative.checkpoint import CHECKPOINT, write_checkpoint
from alharness.generative.networks import use_rng
from alharness.generative.settings import (
    AUTOENCODER_RECIPES,
    GENERATOR_RECIPES,
    GeneratorRecipe,
)
from alharness.generative.training import Training
from alharness.generative.training import train as train_on
from alharness.generative.wgan import GeneratorTraining, gradient_penalty
from alharness.pool import ArrayPool
from alharness.progress import Progress, silent
from alharness.records import Ledger


class KilledError(Exception):
    """Stands for a kill -9: nothing of the program runs after it."""


def digits(residency: str = "device") -> ArrayPool:
    bunch = load_digits()
    images = bunch.images[np.isin(bunch.target, (5, 7))].astype(np.uint8)[:, None]
    return ArrayPool(images, "cpu", pixel_max=16, residency=residency)


def recipe(name: str = "fc-8", **changes: object) -> GeneratorRecipe:
    small = {"steps": 12, "batch_size": 8, "width": 8, "critic_steps": 2, "latent_dim": 4}
    return GENERATOR_RECIPES[name].model_copy(update={**small, **changes})


def train(
    pool: ArrayPool, recipe: GeneratorRecipe, folder: Path, progress: Progress, **how: float
) -> GeneratorTraining:
    return train_on(GeneratorTraining(pool, recipe), folder, progress, **how)


def every_weight(training: GeneratorTraining) -> dict[str, torch.Tensor]:
    found = {f"G.{k}": v for k, v in training.generator.state_dict().items()}
    found |= {f"D.{k}": v for k, v in training.critic.state_dict().items()}
    if training.average is not None:
        found |= {f"A.{k}": v for k, v in training.average.state_dict().items()}
    return found


def assert_same_bits(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> None:
    assert set(a) == set(b)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_penalty_is_that_of_a_linear_critic() -> None:
    # The gradient of w.x is w everywhere, so the penalty is (|w| - 1)^2 whatever the images.
    critic = nn.Sequential(nn.Flatten(), nn.Linear(6, 1), nn.Flatten(0))
    with torch.no_grad():
        critic[1].weight.copy_(torch.tensor([[1.0, -2.0, 2.0, 0.0, 4.0, 0.0]]))  # |w| = 5
    real, fake = torch.rand(3, 1, 2, 3), torch.rand(3, 1, 2, 3)
    penalty = gradient_penalty(critic, real, fake, torch.rand(3))
    assert float(penalty.detach()) == pytest.approx(16.0)
    penalty.backward()
    expected = 2 * 4.0 * critic[1].weight.detach() / 5.0  # d(|w| - 1)^2 / dw
    torch.testing.assert_close(critic[1].weight.grad, expected)


def test_the_penalty_of_a_dead_critic_has_a_gradient_without_nan() -> None:
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Flatten(0))
    nn.init.zeros_(critic[1].weight)
    penalty = gradient_penalty(
        critic, torch.rand(2, 1, 2, 2), torch.rand(2, 1, 2, 2), torch.rand(2)
    )
    penalty.backward()
    assert float(penalty.detach()) == 1.0
    assert bool(critic[1].weight.grad.isfinite().all())


def test_the_consistency_term_against_the_obvious_computation() -> None:
    training = GeneratorTraining(
        digits(), recipe(consistency=2.0, dropout=True, consistency_margin=0.01)
    )
    critic = training.critic
    real = torch.rand(8, 1, 8, 8)
    use_rng(critic, torch.Generator().manual_seed(5))
    found = training._consistency(critic, real)
    use_rng(critic, torch.Generator().manual_seed(5))
    with torch.no_grad():
        features = critic.features(torch.cat([real, real]))
        scores = critic.head(features)
    total = 0.0
    for i in range(8):
        one, two = features[i], features[8 + i]
        score = float(scores[i] - scores[8 + i]) ** 2
        apart = score + 0.1 * float(((one - two) ** 2).mean())
        total += max(0.0, 2.0 * apart - 0.01)
    assert float(found.detach()) == pytest.approx(total / 8, rel=1e-5)
    assert total > 0


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"consistency": 2.0, "dropout": True, "dequantise": True},
        {"name": "conv-28", "batch_norm": True, "signed": True, "width": 2, "ema": 0.9},
        {"lr_decay": True, "generator_batch_factor": 2},
    ],
    ids=["gp", "ct", "batch-norm-ema", "decay"],
)
def test_a_stopped_training_continues_to_the_same_bits(
    tmp_path: Path, how: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe(**how)  # type: ignore[arg-type]
    (tmp_path / "whole").mkdir()
    monkeypatch.setattr(wgan, "CHUNK_STEPS", 4)
    whole = train(digits(), chosen, tmp_path / "whole", silent, checkpoint_s=0.0)

    stopped = tmp_path / "stopped"
    stopped.mkdir()

    def kill_in_the_middle(*report: object) -> None:
        if report[1] == 8:  # the chunk after the checkpoint at step 4 is lost
            raise KilledError

    with pytest.raises(KilledError):
        train(digits(), chosen, stopped, kill_in_the_middle, checkpoint_s=0.0)
    # Other chunks than before, another random state of the process: neither may matter.
    monkeypatch.setattr(wgan, "CHUNK_STEPS", 3)
    torch.rand(3)
    seen: list[int] = []
    continued = train(digits(), chosen, stopped, lambda s, d, t, n=None: seen.append(d))
    assert seen[0] == 7, "the training did not start from its checkpoint"
    assert_same_bits(every_weight(whole), every_weight(continued))
    assert_same_bits(
        whole.finished_generator().state_dict(), continued.finished_generator().state_dict()
    )


def test_kill_9_in_the_middle_of_a_step_or_of_a_checkpoint(
    tmp_path: Path, copies: Callable[..., Any]
) -> None:
    """A real process, killed for real, at no chosen moment; then 40 more steps."""
    stopped = tmp_path / "stopped"
    stopped.mkdir()

    def train_until_killed() -> None:
        endless = GeneratorTraining(digits(), recipe(steps=10**6))
        train_on(endless, stopped, silent, checkpoint_s=0.0)

    process = copies(train_until_killed)
    deadline = time.monotonic() + 200
    while not (stopped / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.1)
    process.kill()

    training = GeneratorTraining(digits(), recipe(steps=10**6))
    training.restore(stopped / CHECKPOINT)
    reached = training.step
    assert reached >= wgan.CHUNK_STEPS
    while training.step < reached + 40:
        training.run_chunk()
    uninterrupted = GeneratorTraining(digits(), recipe(steps=10**6))
    while uninterrupted.step < training.step:
        uninterrupted.run_chunk()
    assert_same_bits(every_weight(training), every_weight(uninterrupted))


def test_training_learns_and_leaves_the_random_state_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    chosen = recipe(steps=100, width=32, lr=2e-3)
    training = train(digits(), chosen, tmp_path, silent)
    assert torch.equal(torch.get_rng_state(), state)
    assert training.curve[-1][0] == 100
    fresh = GeneratorTraining(digits(), chosen).generator
    z = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    mean = digits().gather(torch.arange(120)).mean(dim=0)
    with torch.no_grad():
        before, after = (fresh(z).mean(0) - mean), (training.generator(z).mean(0) - mean)
    assert float(after.square().mean()) < 0.5 * float(before.square().mean())


def test_the_pool_may_live_elsewhere(tmp_path: Path) -> None:
    chosen = recipe(steps=3)
    for place in ("device", "host"):
        (tmp_path / place).mkdir()
    device = train(digits("device"), chosen, tmp_path / "device", silent)
    host = train(digits("host"), chosen, tmp_path / "host", silent)
    assert_same_bits(every_weight(device), every_weight(host))


def test_the_average_follows_the_generator(tmp_path: Path) -> None:
    training = train(digits(), recipe(steps=1, ema=0.75), tmp_path, silent)
    start = GeneratorTraining(digits(), recipe(steps=1, ema=0.75))
    assert training.average is not None
    for held, before, now in zip(
        training.average.parameters(),
        start.generator.parameters(),
        training.generator.parameters(),
        strict=True,
    ):
        torch.testing.assert_close(held, 0.75 * before.detach() + 0.25 * now.detach())


def obtained(pool: ArrayPool, settings: GeneratorSettings, supply: Supply) -> Generator:
    """The generator of these settings for the quick profile."""
    recipe = settings.resolve("quick", pool.item_shape)
    return obtain_generator(pool, recipe, supply, task="digits-two")


def test_a_diverged_training_is_said_and_not_stored(tmp_path: Path) -> None:
    store = ArtefactStore(tmp_path)
    settings = GeneratorSettings(recipe="fc-8", steps=30, lr=1e20, width=8)
    with pytest.raises(UserError, match=r"diverged before step .*generator\.lr"):
        obtained(digits(), settings, Supply(store))
    assert store.finished() == []


def test_a_jump_of_the_critic_is_a_warning() -> None:
    training = GeneratorTraining(digits(), recipe())
    training.curve = [[float(i), 2.0 - 0.1 * i, 0.0, 0.0, 0.0] for i in range(12)]
    training.watch([1.5])
    assert training.warnings == []
    training.watch([-50.0])
    assert "diverging" in training.warnings[0]


def test_a_checkpoint_of_another_recipe_or_a_torn_one_is_refused(tmp_path: Path) -> None:
    training = GeneratorTraining(digits(), recipe())
    training.run_chunk()
    training.save(tmp_path / CHECKPOINT)
    with pytest.raises(UserError, match="another recipe"):
        train(digits(), recipe(lr=1e-3), tmp_path, silent)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="safetensors"):
        train(digits(), recipe(), tmp_path, silent)


def test_no_turned_bit_of_a_checkpoint_goes_unseen(tmp_path: Path) -> None:
    """It is refused, or (in a file's own padding) changes nothing."""
    training = GeneratorTraining(digits(), recipe())
    training.run_chunk()
    training.save(tmp_path / CHECKPOINT)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for at in rng.integers(len(whole), size=60):
        changed = bytearray(whole)
        changed[at] ^= 1 << rng.integers(8)
        (tmp_path / CHECKPOINT).write_bytes(changed)
        again = GeneratorTraining(digits(), recipe())
        try:
            again.restore(tmp_path / CHECKPOINT)
        except UserError:
            refused += 1
        else:
            assert (again.step, again.curve) == (training.step, training.curve)
            assert_same_bits(every_weight(again), every_weight(training))
    assert refused > 50


def test_a_generator_is_trained_once_and_found_again(tmp_path: Path) -> None:
    store, ledger = ArtefactStore(tmp_path), Ledger()
    settings = GeneratorSettings(steps=5, width=8, batch_size=8)
    seen: list[str] = []

    def obtain(pool: ArrayPool, settings: GeneratorSettings) -> wgan.Any:
        return obtained(
            pool, settings, Supply(store, ledger, lambda stage, *rest: seen.append(stage))
        )

    built = obtain(digits(), settings)
    assert "train generator" in seen
    seen.clear()
    found = obtain(digits("host"), settings)  # where the pool lives is no part of the identity
    assert seen == []
    assert [entry.cached for entry in ledger.entries] == [False, True]
    assert ledger.entries[0].seconds == ledger.entries[1].seconds > ledger.entries[1].load_s
    z = torch.randn(3, built.latent_dim)
    assert torch.equal(built.decode(z), found.decode(z))
    images = digits().gather(torch.arange(3))
    assert torch.equal(built.critic_features(images), found.critic_features(images))
    assert found.quality == built.quality
    assert {"frechet_pixels", "coverage_pixels"} <= set(found.quality)
    assert not any(p.requires_grad for p in found.network.parameters())
    artefact = store.find(found.artefact_key)
    assert (artefact.path / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert not (artefact.path / CHECKPOINT).exists()
    other = obtain(digits(), settings.model_copy(update={"seed": 1}))
    assert other.artefact_key != found.artefact_key


def test_a_generator_with_consistency_term_is_stored_without_its_dropout(tmp_path: Path) -> None:
    pool = digits()
    settings = GeneratorSettings(recipe="fc-8", consistency=2.0, steps=3, width=8)
    made = obtained(pool, settings, Supply(ArtefactStore(tmp_path)))
    images = pool.gather(torch.arange(4))
    assert made.recipe.dropout
    assert torch.equal(made.critic_features(images), made.critic_features(images))


def test_quick_digits_look_like_digits_to_the_figures(tmp_path: Path) -> None:
    """The real thing as a stranger gets it: seconds, and far better than an untrained generator."""
    pool, supply = digits(), Supply(ArtefactStore(tmp_path))
    short = obtained(pool, GeneratorSettings(steps=1), supply)
    trained = obtained(pool, GeneratorSettings(steps=200), supply)
    assert trained.quality["frechet_pixels"] < 0.3 * short.quality["frechet_pixels"]
    assert trained.quality["coverage_pixels"] > 0.5 > short.quality["coverage_pixels"]


def test_an_auto_encoder_learns_and_continues_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"steps": 60, "width": 32, "code_dim": 16}
    chosen = AUTOENCODER_RECIPES["fc-8"].model_copy(update=changes)
    pool = digits()
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    whole = train_on(AutoencoderTraining(pool, chosen), tmp_path / "whole", silent)

    def kill_in_the_middle(*report: object) -> None:
        if report[1] == 30:
            raise KilledError

    with pytest.raises(KilledError):
        train_on(
            AutoencoderTraining(pool, chosen),
            tmp_path / "stopped",
            kill_in_the_middle,
            checkpoint_s=0.0,
        )
    continued = train_on(AutoencoderTraining(pool, chosen), tmp_path / "stopped", silent)
    assert_same_bits(whole.best.state_dict(), continued.best.state_dict())
    assert whole.curve == continued.curve
    assert whole.best_error < 0.7 * whole.curve[0][2]
    assert whole.best_error == min(row[2] for row in whole.curve)
    held_out = set(whole.held_out.tolist())
    assert held_out
    assert held_out.isdisjoint(whole.training.tolist())


@pytest.mark.parametrize(
    "training",
    [
        GeneratorTraining(digits(), recipe(lr=1e20, steps=60)),
        AutoencoderTraining(
            digits(), AUTOENCODER_RECIPES["fc-8"].model_copy(update={"lr": 1e20, "steps": 60})
        ),
    ],
    ids=lambda training: training.section,
)
def test_who_diverges_is_told_which_setting_to_lower(
    training: Training[GeneratorRecipe], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"of 60 .*Lower {training.section}\.lr"):
        train_on(training, tmp_path, silent)


def test_an_auto_encoders_checkpoint_of_0_2_is_continued(tmp_path: Path) -> None:
    """It named its best error, which the curve has, and no warnings."""
    chosen = AUTOENCODER_RECIPES["fc-8"].model_copy(update={"steps": 40, "width": 8})
    training = AutoencoderTraining(digits(), chosen)
    training.run_chunk()
    training.save(tmp_path / "now")
    tensors, notes = read_tensors(tmp_path / "now"), read_notes(tmp_path / "now")
    of_then = {name: json.loads(notes[name]) for name in ("recipe", "step", "curve")}
    write_checkpoint(tmp_path / "then", tensors, {**of_then, "best_error": training.best_error})
    continued = AutoencoderTraining(digits(), chosen)
    continued.restore(tmp_path / "then")
    assert (continued.step, continued.best_error) == (training.step, training.best_error)
    for each in (training, continued):
        each.run_chunk()
    assert_same_bits(training.best.state_dict(), continued.best.state_dict())


def test_an_auto_encoder_is_trained_once_and_found_again(tmp_path: Path) -> None:
    store, pool = ArtefactStore(tmp_path), digits()
    recipe = AutoencoderSettings(steps=200).resolve("quick", pool.item_shape)
    built = obtain_autoencoder(pool, recipe, Supply(store), task="digits-two")
    found = obtain_autoencoder(pool, recipe, Supply(store), task="digits-two")
    images = pool.gather(torch.arange(40))
    codes = built.encode(images)
    assert codes.shape == (40, built.code_dim)
    assert torch.equal(codes, found.encode(images))
    error = float((built.decode(codes) - images).square().mean())
    assert error < 2 * built.quality["mse"] < built.quality["mse_of_mean"]
    weights = read_tensors(store.find(built.artefact_key).path / "autoencoder.safetensors")
    assert all(name.startswith(("encoder.", "decoder.")) for name in weights)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_cuda_trains_like_the_cpu_with_its_steps_captured(tmp_path: Path, precision: str) -> None:
    chosen = recipe(steps=20, width=32, precision=precision)
    cpu = train(digits(), chosen, tmp_path, silent)
    on_cuda = ArrayPool(digits()._raw.numpy(), "cuda", pixel_max=16)
    cuda = train(on_cuda, chosen, tmp_path, silent)
    tolerance = 0.02 if precision == "float32" else 0.2
    np.testing.assert_allclose(cuda.curve, cpu.curve, rtol=tolerance, atol=tolerance)
