"""Learning loss: the order of losses, and a classifier that otherwise stays what it was."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from alharness.labelled import LabelledSet
from alharness.learners.learner import LearnerSettings, LinearLearner
from alharness.learners.loss_prediction import (
    CUT_AT,
    LearningLossLearner,
    LearningLossNetwork,
    learning_loss_factory,
    ranking_loss,
)
from alharness.pool import ArrayPool

DEVICE = torch.device("cpu")


def problem() -> tuple[ArrayPool, LabelledSet]:
    """Two classes; the items of a bright corner have labels drawn at random."""
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(240, 1, 8, 8, generator=rng) * 0.4
    targets = torch.randint(0, 2, (240,), generator=rng)
    images[:, :, :, :3] += 0.4 * targets.view(-1, 1, 1, 1)
    images[120:, :, 6:, 6:] = 1.0
    targets[120:] = torch.randint(0, 2, (120,), generator=rng)
    pool = ArrayPool((images * 255).round().to(torch.uint8))
    return pool, LabelledSet(indices=torch.arange(240), targets=targets, n_asked=240)


def fitted(kind: str) -> LearningLossLearner:
    settings = LearnerSettings(kind=kind, width=16, min_steps=300, epochs=1, batch_size=48)
    pool, labelled = problem()
    learner = learning_loss_factory(settings)(pool.item_shape, 2, DEVICE)
    learner.fit(labelled, pool, seed=0)
    assert isinstance(learner, LearningLossLearner)
    return learner


def test_the_ranking_loss_of_known_pairs() -> None:
    losses = torch.tensor([1.0, 2.0, 3.0, 0.0])
    assert float(ranking_loss(torch.zeros(4), losses)) == 1.0
    assert float(ranking_loss(10 * losses, losses)) == 0.0
    # pairs (0, 3) and (1, 2): gaps 0.5 the right way round, 0.25 the wrong way
    predicted = torch.tensor([0.5, 0.25, 0.0, 0.0])
    assert float(ranking_loss(predicted, losses)) == pytest.approx((0.5 + 1.25) / 2)
    assert float(ranking_loss(torch.tensor([9.0]), torch.tensor([1.0]))) == 0.0


def test_the_middle_of_an_odd_batch_has_no_pair() -> None:
    losses = torch.tensor([1.0, 50.0, 0.0])
    first = ranking_loss(torch.tensor([0.3, 7.0, 0.0]), losses)
    assert float(first) == pytest.approx(0.7)


@pytest.mark.parametrize("kind", ["linear", "mlp", "strided-cnn"])
def test_items_that_nobody_can_predict_get_the_larger_predicted_loss(kind: str) -> None:
    learner = fitted(kind)
    pool, _ = problem()
    predicted = learner.predicted_loss(pool.gather(torch.arange(240)))
    assert predicted.shape == (240,)
    clear, noisy = predicted[:120], predicted[120:]
    assert float((noisy[:, None] > clear).float().mean()) > 0.7  # .5 is chance


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_predicted_loss_can_be_climbed(kind: str) -> None:
    learner = fitted(kind)
    images = torch.rand(3, 1, 8, 8, requires_grad=True)
    learner.predicted_loss(images).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0


def test_the_linear_classifier_stays_what_it_was() -> None:
    pool, labelled = problem()
    plain = LinearLearner(pool.item_shape, 2, DEVICE)
    plain.fit(labelled, pool, seed=0)
    learner = fitted("linear")
    assert isinstance(learner, LinearLearner)
    assert torch.equal(plain.weight, learner.weight)
    assert learner.digest() != plain.digest()  # the module belongs to its state


def test_the_module_stops_moving_the_classifier_late_in_the_training() -> None:
    settings = LearnerSettings(kind="mlp", width=16, min_steps=1, epochs=1)
    learner = LearningLossNetwork((1, 8, 8), 2, DEVICE, settings)
    learner.network = learner.build()
    rng = torch.Generator().manual_seed(0)
    items, targets = torch.rand(8, 1, 8, 8, generator=rng), torch.randint(0, 2, (8,), generator=rng)

    def gradient(step: int, *, plain: bool = False) -> torch.Tensor:
        learner.network.zero_grad()
        if plain:
            functional.cross_entropy(learner.network(items), targets).backward()
        else:
            learner.loss(items, targets, step, 100).backward()
        found = next(learner.network.parameters()).grad
        assert found is not None
        return found.clone()

    alone = gradient(0, plain=True)
    assert torch.allclose(gradient(int(100 * CUT_AT)), alone, atol=1e-7)
    assert not torch.allclose(gradient(int(100 * CUT_AT) - 1), alone, atol=1e-5)


def test_the_same_seed_gives_the_same_learner() -> None:
    for kind in ("linear", "mlp"):
        assert fitted(kind).digest() == fitted(kind).digest()
