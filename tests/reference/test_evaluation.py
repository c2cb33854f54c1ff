"""Test figures on the device against scikit-learn's on the host."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics

from alharness.engine.evaluation import average_precision, evaluate, figures_of, predict
from alharness.learners.learner import LearnerSettings, LinearLearner
from alharness.pool import ArrayPool


def problem(
    n: int, n_classes: int, *, ties: bool, seed: int = 0
) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Predictions that know something of the targets; with ties many scores are equal."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(n_classes, size=n)
    logits = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[targets]
    if ties:
        logits = logits.round()
    return torch.from_numpy(logits).float().log_softmax(dim=1), targets


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("n", "n_classes"), [(1, 2), (400, 2), (400, 10), (37, 3)])
def test_the_figures_are_scikit_learns(n: int, n_classes: int, ties: bool) -> None:
    log_p, targets = problem(n, n_classes, ties=ties, seed=3)
    found = figures_of(log_p, targets)
    predicted = log_p.argmax(dim=1).numpy()
    present = np.unique(targets)
    assert found.accuracy == metrics.accuracy_score(targets, predicted)
    f1 = metrics.f1_score(targets, predicted, labels=present, average="macro")
    assert found.macro_f1 == pytest.approx(f1, abs=1e-12)
    recall = metrics.recall_score(targets, predicted, labels=present, average="macro")
    assert found.balanced_accuracy == pytest.approx(recall, abs=1e-12)
    scores = log_p.numpy()
    if n_classes == 2:
        if 1 not in present:
            assert found.average_precision is None
            return
        expected = metrics.average_precision_score(targets == 1, scores[:, 1] - scores[:, 0])
    else:
        each = [metrics.average_precision_score(targets == c, scores[:, c]) for c in present]
        expected = float(np.mean(each))
    assert found.average_precision == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 5, 10_000])
def test_equal_scores_pass_together(levels: int) -> None:
    rng = np.random.default_rng(levels)
    scores = rng.integers(levels, size=(300, 4)).astype(np.float32)
    positive = rng.random((300, 4)) < 0.2
    found = average_precision(torch.from_numpy(scores), torch.from_numpy(positive))
    for c in range(4):
        expected = metrics.average_precision_score(positive[:, c], scores[:, c])
        assert float(found[c]) == pytest.approx(expected, abs=1e-12)


def test_where_there_is_nothing_to_find_there_is_no_figure() -> None:
    log_p, _ = problem(20, 2, ties=False)
    nobody = figures_of(log_p, np.zeros(20, np.int64))
    assert nobody.average_precision is None
    assert nobody.balanced_accuracy == nobody.accuracy
    everybody = figures_of(log_p, np.ones(20, np.int64))
    assert everybody.average_precision == 1.0


def test_a_class_that_the_test_set_lacks_takes_part_in_no_mean() -> None:
    log_p, targets = problem(200, 4, ties=False)
    kept = targets != 2
    scores = log_p.numpy()[kept]
    each = [metrics.average_precision_score(targets[kept] == c, scores[:, c]) for c in (0, 1, 3)]
    found = figures_of(log_p[torch.from_numpy(kept)], targets[kept])
    assert found.average_precision == pytest.approx(np.mean(each), abs=1e-12)


def test_an_evaluation_reads_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (50, 1, 3, 3)).astype(np.uint8)
    targets = np.arange(50) % 3
    learner = LinearLearner((1, 3, 3), 3, torch.device("cpu"), LearnerSettings())
    learner.weight = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    pool = ArrayPool(images)
    reads: list[tuple[int, ...]] = []
    original = torch.Tensor.cpu

    def counted(self: torch.Tensor) -> torch.Tensor:
        reads.append(tuple(self.shape))
        return original(self)

    monkeypatch.setattr(torch.Tensor, "cpu", counted)
    found = evaluate(learner, pool, targets)
    assert len(reads) == 1
    assert found == figures_of(predict(learner, pool), targets)
