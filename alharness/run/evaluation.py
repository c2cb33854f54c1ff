"""The classifier on the test set, and on the query before it is annotated. Evaluation mode only.

Shape letters: N items, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch.nn import functional

from alharness import acquisition
from alharness.learners.learner import Learner
from alharness.pool import Pool
from alharness.records import TestFigures


def predict(learner: Learner, pool: Pool) -> NDArray[np.float32]:
    """Log probabilities of all items of a pool, ``[N, C]``."""
    parts = [learner.log_probs(items).cpu() for _, items in pool.blocks()]
    return torch.cat(parts).numpy()


def evaluate(learner: Learner, test: Pool, targets: NDArray[np.int64]) -> TestFigures:
    """All test figures of one cycle."""
    return test_figures(predict(learner, test), targets)


def test_figures(log_p_NC: NDArray[np.float32], targets: NDArray[np.int64]) -> TestFigures:
    """Test figures of predictions. Classes absent from the test set take part in no mean over classes."""
    n_classes = log_p_NC.shape[1]
    predicted = log_p_NC.argmax(axis=1)
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(confusion, (targets, predicted), 1)
    hits = confusion.diagonal()
    of_class, as_class = confusion.sum(axis=1), confusion.sum(axis=0)
    present = of_class > 0
    recall = hits[present] / of_class[present]
    f1 = 2 * hits[present] / (of_class + as_class)[present]
    loss = functional.nll_loss(torch.from_numpy(log_p_NC).double(), torch.from_numpy(targets))
    return TestFigures(
        accuracy=float(hits.sum() / len(targets)),
        balanced_accuracy=float(recall.mean()),
        macro_f1=float(f1.mean()),
        average_precision=_average_precision(log_p_NC, targets, present),
        log_loss=float(loss),
    )


def _average_precision(
    log_p_NC: NDArray[np.float32], targets: NDArray[np.int64], present: NDArray[np.bool_]
) -> float:
    """Of class 1 for two classes (the attribute of CelebA), else the mean over classes against the rest."""
    n_classes = log_p_NC.shape[1]
    if n_classes == 2:
        if not present[1]:
            return 0.0
        # The difference orders items as the probability does and does not saturate at 1.
        return float(average_precision_score(targets == 1, log_p_NC[:, 1] - log_p_NC[:, 0]))
    return float(
        np.mean(
            [
                average_precision_score(targets == c, log_p_NC[:, c])
                for c in range(n_classes)
                if present[c]
            ]
        )
    )


def query_entropy(learner: Learner, items: torch.Tensor, block_size: int) -> NDArray[np.float32]:
    """Entropy (nats) of each queried item under the classifier that asked for it, ``[N]``."""
    parts = [
        acquisition.entropy(learner.log_probs(items[start : start + block_size])).cpu()
        for start in range(0, len(items), block_size)
    ]
    return torch.cat(parts).numpy().astype(np.float32)
