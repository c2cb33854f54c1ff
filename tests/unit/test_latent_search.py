"""Eq. 1: the search climbs as Adam does, keeps the best, and treats every latent by itself."""

from __future__ import annotations

import pytest
import torch

from alharness import acquisition
from alharness.generative.latent_search import ClassifierSearch, LatentSearch, search
from alharness.learners.learner import Learner, LinearLearner
from alharness.timing import WorkCounters


def decode(z_BL: torch.Tensor) -> torch.Tensor:
    """A smooth generator of 2x2 images."""
    mix = torch.linspace(-1.0, 1.0, 5 * 4).reshape(5, 4)
    return torch.sigmoid(z_BL @ mix).reshape(-1, 1, 2, 2)


def score(images: torch.Tensor) -> torch.Tensor:
    """Entropy of a two-class linear model."""
    logit = 6 * images.flatten(1).sum(dim=1) - 10
    return acquisition.entropy(torch.stack([torch.zeros_like(logit), logit], 1).log_softmax(1))


def start(n: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prior_weight", [0.0, 0.01])
def test_the_iterates_are_those_of_torch_adam(prior_weight: float) -> None:
    z = start().requires_grad_()
    adam = torch.optim.Adam([z], lr=0.05, betas=(0.8, 0.99), maximize=True)
    for _ in range(25):
        adam.zero_grad()
        (score(decode(z)).sum() - 0.5 * prior_weight * z.square().sum()).backward()
        adam.step()
    found = search(
        decode,
        score,
        start(),
        steps=25,
        lr=0.05,
        betas=(0.8, 0.99),
        prior_weight=prior_weight,
        keep_best=False,
    )
    torch.testing.assert_close(found.z, z.detach(), rtol=1e-4, atol=1e-5)
    assert found.best_step.tolist() == [25] * 7


def test_scores_belong_to_the_images_and_images_to_the_latents() -> None:
    z0 = start()
    found = search(decode, score, z0, steps=40, lr=0.02)
    torch.testing.assert_close(found.images, decode(found.z))
    torch.testing.assert_close(found.score_before, score(decode(z0)))
    torch.testing.assert_close(found.score_after, score(found.images))
    assert bool((found.score_after >= found.score_before).all())
    assert found.score_after.mean() > found.score_before.mean() + 0.05
    assert torch.equal(z0, start()), "the starting points were changed"


def test_a_step_size_that_overshoots_does_not_lose_the_best_point() -> None:
    last = search(decode, score, start(), steps=30, lr=3.0, keep_best=False)
    best = search(decode, score, start(), steps=30, lr=3.0)
    assert bool((best.score_after >= last.score_after).all())
    assert bool((best.score_after >= best.score_before).all())
    assert bool((last.score_after < last.score_before).any()), "the test needs an overshoot"


def test_no_steps_decodes_the_starting_points_without_gradients() -> None:
    found = search(decode, score, start(), steps=0)
    assert torch.equal(found.z, start())
    assert torch.equal(found.images, decode(start()))
    assert found.best_step.tolist() == [0] * 7
    assert not found.images.requires_grad


def test_a_latent_does_not_depend_on_its_batch_mates() -> None:
    together = search(decode, score, start(), steps=30, lr=0.05)
    alone = search(decode, score, start()[3:4], steps=30, lr=0.05)
    in_chunks = search(decode, score, start(), steps=30, lr=0.05, chunk=2)
    torch.testing.assert_close(together.z[3:4], alone.z)
    torch.testing.assert_close(together.z, in_chunks.z)


def test_every_decoded_image_is_counted() -> None:
    work = WorkCounters()
    seen = 0

    def counting(z: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += len(z)
        return decode(z)

    search(counting, score, start(), steps=12, work=work)
    assert work.counts == {"images_generated": seen} == {"images_generated": 7 * 13}


def test_a_search_that_is_repeated_starts_anew_each_time() -> None:
    repeated = LatentSearch(decode, score, steps=20)
    for seed in (0, 1, 0):
        once, again = search(decode, score, start(seed=seed), steps=20), repeated(start(seed=seed))
        for found, expected in zip(vars(again).values(), vars(once).values(), strict=True):
            assert torch.equal(found, expected)


def test_the_score_may_compare_with_what_is_given_for_each_latent() -> None:
    """ADBA's codes: each block of images is another input of the same search."""

    def nearness(decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return -(decoded - images).square().flatten(1).sum(dim=1)

    images = decode(start(seed=3))
    together = LatentSearch(decode, nearness, steps=200, lr=0.05)(start(), images)
    in_chunks = LatentSearch(decode, nearness, steps=200, lr=0.05, chunk=3)(start(), images)
    assert float(together.score_after.min()) > -1e-3
    assert float(together.score_before.max()) < -1e-3
    torch.testing.assert_close(together.z, in_chunks.z, atol=1e-4, rtol=1e-4)


class Recorded(torch.Tensor):
    """A tensor that says it lies on a CUDA device: its graphs are 'captured' by the fake below."""

    is_cuda = property(lambda self: True)  # type: ignore[assignment]


class FakeCapture:
    """Runs the step and counts the captures: what a graph computes, on the memory it was made for."""

    made = 0

    def __init__(self, function: object, *, or_eagerly: str) -> None:
        type(self).made += 1
        self.function = function

    def __call__(self) -> None:
        self.function()  # type: ignore[operator]


def classifier(weight: float) -> Learner:
    learner = LinearLearner((1, 2, 2), 2, torch.device("cpu"))
    learner.weight = torch.full((1, 4), weight)
    learner.bias = torch.tensor([-10.0])
    return learner


def uncertainty(learner: Learner) -> LatentSearch:
    def of(images: torch.Tensor) -> torch.Tensor:
        return acquisition.entropy(learner.logits(images).log_softmax(1))

    return LatentSearch(decode, of, steps=5)


def test_one_capture_serves_the_classifiers_of_all_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alharness.learners.capture.CapturedStep", FakeCapture)
    monkeypatch.setattr(FakeCapture, "made", 0)
    kept = ClassifierSearch(uncertainty)
    seen = []
    for cycle, weight in enumerate((6.0, 5.0, 7.0)):
        learner = classifier(weight)
        before = learner.digest()
        found = kept(learner, start(seed=cycle).as_subclass(Recorded))
        expected = uncertainty(classifier(weight))(start(seed=cycle))
        torch.testing.assert_close(found.z.as_subclass(torch.Tensor), expected.z)
        assert torch.equal(found.best_step.as_subclass(torch.Tensor), expected.best_step)
        assert learner.digest() == before
        seen.append((found, expected))
    assert FakeCapture.made == 1
    for found, expected in seen:  # an answer lies in memory of its own
        torch.testing.assert_close(found.images.as_subclass(torch.Tensor), expected.images)


def test_a_classifier_of_another_shape_or_kind_gets_a_capture_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Hidden(LinearLearner):
        def state(self) -> dict[str, torch.Tensor]:
            return {"weight": self.weight.clone(), "bias": self.bias.clone()}

    monkeypatch.setattr("alharness.learners.capture.CapturedStep", FakeCapture)
    monkeypatch.setattr(FakeCapture, "made", 0)
    kept = ClassifierSearch(uncertainty)
    hidden = [Hidden((1, 2, 2), 2, torch.device("cpu")) for _ in range(2)]
    for number, learner in enumerate([classifier(6.0), *hidden]):
        for at in ("weight", "bias"):
            setattr(learner, at, getattr(classifier(6.0 + number), at))
        found = kept(learner, start().as_subclass(Recorded))
        expected = uncertainty(classifier(6.0 + number))(start())
        torch.testing.assert_close(found.z.as_subclass(torch.Tensor), expected.z)
    # Weights that a classifier only shows copies of cannot be written: it is captured each time.
    assert FakeCapture.made == 3


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        search(decode, lambda images: images.flatten(1).sum(1) * torch.nan, start(), steps=2)


def test_two_class_entropy_and_distance_to_the_boundary_have_the_same_maximiser() -> None:
    """ASAL's and GAAL's objectives differ for a linear model in the gradient's size only."""

    def logit(images: torch.Tensor) -> torch.Tensor:
        return 6 * images.flatten(1).sum(dim=1) - 10

    by_entropy = search(decode, score, start(), steps=600, lr=0.02)
    by_distance = search(decode, lambda images: -logit(images).abs(), start(), steps=600, lr=0.02)
    assert float(logit(by_entropy.images).abs().max()) < 0.05
    assert float(logit(by_distance.images).abs().max()) < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_search_equals_an_eager_one() -> None:
    device = torch.device("cuda")
    mix = torch.linspace(-1.0, 1.0, 5 * 4, device=device).reshape(5, 4)

    def decode_there(z: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(z @ mix).reshape(-1, 1, 2, 2)

    eager = search(decode_there, score, start().to(device), steps=50, cuda_graph=False)
    captured = search(decode_there, score, start().to(device), steps=50)
    torch.testing.assert_close(eager.z, captured.z)
    torch.testing.assert_close(eager.score_after, captured.score_after)
    assert torch.equal(eager.best_step, captured.best_step)
