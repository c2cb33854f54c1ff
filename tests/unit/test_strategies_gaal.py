"""GAAL: what its search maximises, and where its images end up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from alharness.availability import Availability
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import LearnerSettings, LinearLearner
from alharness.pool import ArrayPool
from alharness.strategy import CycleView
from alharness_strategies.gaal import Gaal, SimpleGan


class Stretch:
    """A generator whose images are sigmoids of four latent coordinates."""

    latent_dim = 4

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(z).view(-1, 1, 2, 2)


def view_of(kind: str = "linear", n_classes: int = 2, seed: int = 0) -> CycleView:
    rng = torch.Generator().manual_seed(1)
    images = (torch.rand(60, 1, 2, 2, generator=rng) * 255).to(torch.uint8)
    targets = (images.view(60, 4).float() / 255 @ torch.tensor([1.0, -1.0, 0.5, 0.0])) * 3
    labels = targets.round().long().remainder(n_classes)
    pool = ArrayPool(images)
    labelled = LabelledSet(indices=torch.arange(60), targets=labels, n_asked=60)
    settings = LearnerSettings(kind=kind, width=8, min_steps=50, epochs=1)
    learner = learner_factory(settings)((1, 2, 2), n_classes, torch.device("cpu"))
    learner.fit(labelled, pool, seed=0)
    return CycleView(
        pool=pool,
        labelled=labelled,
        available=Availability(60),
        learner=learner,
        n_classes=n_classes,
        cycle=0,
        seed=seed,
    )


def gaal(**parameters: object) -> Gaal:
    strategy = Gaal(**parameters)
    strategy.prepare(SimpleNamespace(generator=Stretch))  # type: ignore[arg-type]
    return strategy


def test_images_end_up_next_to_the_hyperplane() -> None:
    view = view_of()
    learner = view.learner
    assert isinstance(learner, LinearLearner)
    query = gaal(latent_lr=0.1).select(view, 20)
    distance = (query.items.flatten(1) @ learner.weight[0] + learner.bias).abs()
    assert query.items.shape == (20, 1, 2, 2)
    assert float(distance.max()) < 0.05
    assert query.diagnostics["score_after"] > query.diagnostics["score_before"]
    assert view.work.counts["images_generated"] == 20 * 101


def test_distance_and_entropy_have_the_same_optima_for_a_linear_model() -> None:
    by_distance = gaal(latent_lr=0.1, score="distance").select(view_of(), 20)
    by_entropy = gaal(latent_lr=0.1, score="entropy").select(view_of(), 20)
    learner = view_of().learner
    for query in (by_distance, by_entropy):
        p = learner.log_probs(query.items).exp()
        assert torch.allclose(p, torch.full_like(p, 0.5), atol=0.02)


@pytest.mark.parametrize(("kind", "n_classes"), [("linear", 3), ("mlp", 2)])
def test_other_classifiers_are_asked_for_their_entropy(kind: str, n_classes: int) -> None:
    view = view_of(kind, n_classes)
    score = gaal().score(view.learner)
    images = torch.rand(5, 1, 2, 2)
    log_p = view.learner.log_probs(images)
    assert torch.allclose(score(images), -(log_p.exp() * log_p).sum(dim=1), atol=1e-6)


def test_simple_gan_draws_and_does_not_search() -> None:
    strategy = SimpleGan()
    strategy.prepare(SimpleNamespace(generator=Stretch))  # type: ignore[arg-type]
    view = view_of()
    query = strategy.select(view, 7)
    expected = Stretch().decode(torch.randn(7, 4, generator=view.torch_rng("latent")))
    assert torch.equal(query.items, expected)
    assert view.work.counts == {"images_generated": 7}


def test_two_cycles_or_seeds_start_from_other_latents() -> None:
    strategy = SimpleGan()
    strategy.prepare(SimpleNamespace(generator=Stretch))  # type: ignore[arg-type]
    first, second = (strategy.select(view_of(seed=seed), 3).items for seed in (0, 1))
    assert not torch.equal(first, second)
