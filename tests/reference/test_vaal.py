"""VAAL's losses against numpy, and that it asks about what the labelled items do not resemble."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from alharness import seeds
from alharness.availability import Availability
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import LearnerSettings
from alharness.pool import ArrayPool
from alharness.strategy import CycleView
from alharness_strategies.vaal import Vaal, Vae, deceit, elbo, halvings, telling


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_the_losses_are_those_of_the_paper() -> None:
    logits = [1.5, -0.25, 0.5, -2.0, 3.0]  # two labelled items, three unlabelled ones
    told = telling(torch.tensor(logits), 2)
    known = np.mean([math.log(sigmoid(value)) for value in logits[:2]])
    unknown = np.mean([math.log(1 - sigmoid(value)) for value in logits[2:]])
    assert float(told) == pytest.approx(-known - unknown, abs=1e-6)  # Eq. 4
    deceived = deceit(torch.tensor(logits))
    assert deceived.tolist() == pytest.approx(
        [-math.log(sigmoid(v)) for v in logits], abs=1e-6
    )  # Eq. 2


def test_the_bound_is_squared_error_and_divergence_per_item() -> None:
    rng = np.random.default_rng(0)
    items, seen = rng.uniform(size=(2, 4, 1, 2, 3))
    mu, log_var = rng.normal(size=(2, 4, 5))
    found = elbo(*map(torch.from_numpy, (items, seen, mu, log_var)), beta=0.7)
    for i in range(4):
        error = sum((a - b) ** 2 for a, b in zip(items[i].ravel(), seen[i].ravel(), strict=True))
        # KL(N(m, s^2) | N(0, 1)) = (m^2 + s^2 - 1) / 2 - log s, coordinate by coordinate
        divergence = sum(
            (m**2 + math.exp(v) - 1) / 2 - v / 2 for m, v in zip(mu[i], log_var[i], strict=True)
        )
        assert float(found[i]) == pytest.approx(error + 0.7 * divergence, abs=1e-9)


@pytest.mark.parametrize(
    ("shape", "times"),
    [
        ((1, 8, 8), 2), ((1, 28, 28), 2), ((3, 32, 32), 4), ((3, 64, 64), 4), ((3, 9, 9), 0), ((12,), 0),
        ((1, 4, 16), 1), ((1, 16, 4), 1),  # the shorter side stays two pixels
    ],
)  # fmt: skip
def test_the_auto_encoder_fits_items_of_any_shape(shape: tuple[int, ...], times: int) -> None:
    assert halvings(shape) == times
    vae = Vae(shape, latent_dim=4, width=2)
    mu, losses = vae.loss(torch.rand(3, *shape), torch.zeros(3, 4), beta=1.0)
    assert tuple(mu.shape) == (3, 4)
    assert tuple(losses.shape) == (3,)


def test_it_asks_about_what_the_labelled_items_do_not_resemble() -> None:
    rng = seeds.rng(0, "vaal")
    dark, bright = rng.uniform(0, 0.4, size=(60, 1, 8, 8)), rng.uniform(0.6, 1, size=(60, 1, 8, 8))
    pool = ArrayPool((np.concatenate([dark, bright]) * 255).astype(np.uint8))
    labelled = torch.arange(20)  # dark ones only
    known = LabelledSet(labelled, labelled % 2, n_asked=20)
    learner = learner_factory(LearnerSettings())((1, 8, 8), 2, torch.device("cpu"))
    learner.fit(known, pool, seed=0)
    view = CycleView(
        pool=pool, labelled=known, learner=learner, n_classes=2, cycle=0, seed=0,
        available=Availability(120, labelled),
    )  # fmt: skip
    query = Vaal(train_steps=60, batch_size=20, lr=2e-3).select(view, 10)
    assert int((query.indices >= 60).sum()) >= 9
    assert view.stopwatch.seconds["train"] > 0  # its training is the selection's time
    assert view.work.counts["pool_items_scored"] == 100
    assert view.work.counts["pool_items_featurised"] == 2 * 60 * 20
    assert query.diagnostics["telling"] < 2 * math.log(2)  # better than a guess
