"""Classifiers: the linear one against scikit-learn, the networks by what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from alharness.errors import UserError
from alharness.labelled import Annotation, LabelledSet
from alharness.learners.batches import draw_moves, flip_crop
from alharness.learners.factory import learner_factory
from alharness.learners.learner import LearnerSettings, LinearLearner, NetworkLearner
from alharness.pool import ArrayPool

CPU = torch.device("cpu")


def digits(
    classes: tuple[int, ...], n: int
) -> tuple[ArrayPool, LabelledSet, np.ndarray, np.ndarray]:
    data = load_digits()
    mask = np.isin(data.target, classes)
    images = data.images[mask].astype(np.uint8)[:, None]
    targets = np.searchsorted(classes, data.target[mask])
    pool = ArrayPool(images, pixel_max=16)
    index = torch.arange(n)
    labelled = LabelledSet().extended(Annotation(index, torch.from_numpy(targets[:n])))
    return pool, labelled, images.reshape(len(images), -1) / 16.0, targets


@pytest.mark.parametrize(("classes", "n"), [((5, 7), 30), (tuple(range(10)), 200)])
@pytest.mark.parametrize("c", [1.0, 0.01])
def test_the_linear_model_is_scikit_learns(classes: tuple[int, ...], n: int, c: float) -> None:
    pool, labelled, x, targets = digits(classes, n)
    learner = LinearLearner((1, 8, 8), len(classes), CPU, LearnerSettings(c=c))
    report = learner.fit(labelled, pool, seed=0)
    assert report.converged
    reference = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x[:n], targets[:n])
    expected = reference.predict_proba(x)
    found = learner.log_probs(pool.gather(torch.arange(pool.n))).exp().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_one_class_only_is_not_a_crash() -> None:
    pool, _, _, _ = digits((5, 7), 1)
    index = torch.arange(6)
    labelled = LabelledSet().extended(Annotation(index, torch.ones_like(index)))
    learner = LinearLearner((1, 8, 8), 2, CPU)
    learner.fit(labelled, pool, seed=0)
    log_p = learner.log_probs(pool.gather(index))
    assert bool(log_p.isfinite().all())
    assert log_p.argmax(dim=1).tolist() == [1] * 6


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_log_probabilities_of_the_linear_model_are_those_of_its_logits(n_classes: int) -> None:
    """They are computed class by class, which must not change what they are, however large."""
    rng = torch.Generator().manual_seed(0)
    learner = LinearLearner((1, 8, 8), n_classes, CPU)
    learner.weight = 30 * torch.randn(learner.weight.shape, generator=rng)
    learner.bias = torch.randn(learner.bias.shape, generator=rng)
    items = torch.rand(333, 1, 8, 8, generator=rng)
    expected = torch.log_softmax(learner.logits(items).double(), dim=1)
    found = learner.log_probs(items)
    assert found.shape == (333, n_classes)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


SMALL = LearnerSettings(kind="mlp", width=16, min_steps=40, epochs=2, batch_size=16)


def test_a_network_is_a_function_of_its_seed() -> None:
    pool, labelled, _, _ = digits(tuple(range(10)), 100)
    digests = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed + len(digests))  # whatever others did to the global state
        learner = NetworkLearner((1, 8, 8), 10, CPU, SMALL)
        learner.fit(labelled, pool, seed=seed)
        digests.append(learner.digest())
    assert digests[0] == digests[1] != digests[2]


def test_fitting_leaves_the_global_random_state_alone() -> None:
    pool, labelled, _, _ = digits(tuple(range(10)), 50)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    NetworkLearner((1, 8, 8), 10, CPU, SMALL).fit(labelled, pool, seed=0)
    assert torch.equal(torch.rand(2), expected)


def test_few_labels_do_not_mean_few_steps() -> None:
    pool, labelled, _, _ = digits(tuple(range(10)), 20)
    report = NetworkLearner((1, 8, 8), 10, CPU, SMALL).fit(labelled, pool, seed=0)
    assert report.steps == 40
    many = SMALL.model_copy(update={"epochs": 30})
    report = NetworkLearner((1, 8, 8), 10, CPU, many).fit(labelled, pool, seed=0)
    assert report.steps == 60


def test_logits_carry_gradients_to_the_items_but_the_learner_does_not_change() -> None:
    pool, labelled, _, _ = digits(tuple(range(10)), 50)
    for settings in (SMALL, LearnerSettings(kind="linear")):
        learner = learner_factory(settings)((1, 8, 8), 10, CPU)
        learner.fit(labelled, pool, seed=0)
        before = learner.digest()
        items = pool.gather(torch.arange(4)).clone().requires_grad_(True)
        learner.logits(items).square().sum().backward()
        assert items.grad is not None
        assert float(items.grad.abs().sum()) > 0
        assert learner.digest() == before
        assert not learner.log_probs(items).requires_grad


@pytest.mark.parametrize("kind", ["all-cnn", "mlp", "mnist-cnn", "strided-cnn"])
def test_every_network_gives_features_and_logits_and_no_dropout_outside_fit(kind: str) -> None:
    settings = LearnerSettings(kind=kind, width=8, min_steps=2, epochs=0, batch_size=4)
    pool = ArrayPool(np.random.default_rng(0).integers(0, 255, (8, 3, 16, 16)).astype(np.uint8))
    index = torch.arange(8)
    labelled = LabelledSet().extended(Annotation(index, index % 3))
    learner = learner_factory(settings)((3, 16, 16), 3, CPU)
    learner.fit(labelled, pool, seed=0)
    items = pool.gather(index)
    logits = learner.logits(items)
    assert logits.shape == (8, 3)
    assert torch.equal(logits, learner.logits(items))
    features = learner.features(items)
    assert features.ndim == 2
    head = dict(learner.network.named_modules())["head"]  # type: ignore[attr-defined]
    torch.testing.assert_close(head(features), logits)


def test_an_image_network_on_rows_is_refused_with_a_way_out() -> None:
    with pytest.raises(UserError, match=r"needs images.*learner.kind=mlp"):
        learner_factory(LearnerSettings(kind="all-cnn"))((12,), 2, CPU)
    with pytest.raises(UserError, match="Did you mean 'mnist-cnn'"):
        learner_factory(LearnerSettings(kind="mnist-cn"))((1, 8, 8), 2, CPU)


def test_flip_crop_moves_whole_images() -> None:
    images = torch.arange(2 * 3 * 64, dtype=torch.float32).reshape(2, 3, 8, 8)
    moved = flip_crop(images, draw_moves(2, torch.Generator().manual_seed(0), pad=2), pad=2)
    assert moved.shape == images.shape
    for before, after in zip(images, moved, strict=True):
        padded = torch.nn.functional.pad(before[None], (2, 2, 2, 2), mode="replicate")[0]
        shifted = [padded[:, i : i + 8, j : j + 8] for i in range(5) for j in range(5)]
        candidates = shifted + [image.flip(-1) for image in shifted]
        assert any(torch.equal(after, candidate) for candidate in candidates)
