"""The classifier on the test set, and on the query before it is annotated. Evaluation mode only.

Everything is computed where the predictions lie and read once: a confusion matrix, one average precision
per class, the loss.

Shape letters: N items, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from alharness import acquisition
from alharness.errors import unknown_name
from alharness.learners.learner import Learner
from alharness.pool import Pool, scan
from alharness.records import TestFigures
from alharness.records.metrics import MACRO, OF_CLASS


def predict(learner: Learner, pool: Pool) -> torch.Tensor:
    """Log probabilities of all items of a pool, float32 ``[N, C]`` on the pool's device."""
    return torch.cat([log_p_NC for _, log_p_NC in scan(pool, learner.log_probs)])


@dataclass(frozen=True)
class PrecisionOf:
    """Which class the average precision is of: decided once per task, and kept in each record.

    Attributes:
        positive: number of the class; None for the mean over classes, each against the rest.
        told: as records write it; None where they write nothing, as before 0.3.0.
    """

    positive: int | None
    told: str | None


#: Of two classes, one with a smaller share of the pool than this is the one to be found.
RARE = 0.4


def decide_precision(
    class_names: Sequence[str], pool_counts: Sequence[int], positive: str | None
) -> PrecisionOf:
    """What the average precision of a task is of.

    Args:
        class_names: one per class.
        pool_counts: items of the pool per class.
        positive: the class that the user names (``task.positive``), if any.

    Raises:
        UserError: no class is called that.
    """
    if positive is not None:
        if positive not in class_names:
            raise unknown_name("class for task.positive", positive, class_names)
        number = list(class_names).index(positive)
    elif len(class_names) == 2 and min(pool_counts) < RARE * sum(pool_counts):
        number = int(np.argmin(pool_counts))
    else:
        # By no order of names: "yes" would be found or not for coming after "no".
        return PrecisionOf(None, MACRO)
    return PrecisionOf(number, f"{OF_CLASS}{class_names[number]}")


def precision_of_before(class_names: Sequence[str], told: str | None) -> PrecisionOf:
    """What the records of a stopped run say that it was: the run goes on with that."""
    if told is None:
        return PrecisionOf(1 if len(class_names) == 2 else None, None)
    if told == MACRO:
        return PrecisionOf(None, told)
    return PrecisionOf(list(class_names).index(told.removeprefix(OF_CLASS)), told)


def evaluate(
    learner: Learner,
    test: Pool,
    targets: NDArray[np.int64],
    precision: PrecisionOf | None = None,
) -> TestFigures:
    """All test figures of one cycle; none where the test set is empty."""
    if len(targets) == 0:
        return TestFigures.without_test_set(precision.told if precision is not None else None)
    return figures_of(predict(learner, test), targets, precision)


def figures_of(
    log_p_NC: torch.Tensor, targets: NDArray[np.int64], precision: PrecisionOf | None = None
) -> TestFigures:
    """Test figures of predictions. Classes absent from the test set take part in no mean over classes.

    The average precision of a class is None where the test set has no item of it: there is nothing to be
    found and none of the values 0 to 1 would say so.

    Args:
        log_p_NC: log probabilities.
        targets: int64 ``[N]``.
        precision: what the average precision is of; by default as before 0.3.0, class 1 of two.
    """
    n_classes = log_p_NC.shape[1]
    true_N = torch.from_numpy(targets).to(log_p_NC.device, torch.int64)  # cells of uint8 would wrap
    found = _read_at_once(
        confusion=_confusion(log_p_NC.argmax(dim=1), true_N, n_classes),
        precisions=_average_precisions(log_p_NC, true_N),
        loss=functional.nll_loss(log_p_NC.double(), true_N),
    )
    confusion, precisions = found["confusion"].astype(np.int64), found["precisions"]
    hits = confusion.diagonal()
    of_class, as_class = confusion.sum(axis=1), confusion.sum(axis=0)
    present = of_class > 0
    recall = hits[present] / of_class[present]
    f1 = 2 * hits[present] / (of_class + as_class)[present]
    of = precision or PrecisionOf(1 if n_classes == 2 else None, None)
    counted = precisions[present] if of.positive is None else precisions[[of.positive]]
    counted = counted[np.isfinite(counted)]
    return TestFigures(
        accuracy=float(hits.sum() / len(targets)),
        balanced_accuracy=float(recall.mean()),
        macro_f1=float(f1.mean()),
        average_precision=float(counted.mean()) if len(counted) else None,
        log_loss=float(found["loss"]),
        average_precision_of=of.told,
    )


def _read_at_once(**parts: torch.Tensor) -> dict[str, NDArray[np.float64]]:
    """Small tensors as arrays of their shapes, by name."""
    packed = torch.cat([part.flatten().double() for part in parts.values()])
    values = packed.cpu().numpy()  # each read waits for the device: one for all of an evaluation
    ends = np.cumsum([part.numel() for part in parts.values()])[:-1]
    return {
        name: value.reshape(part.shape)
        for (name, part), value in zip(parts.items(), np.split(values, ends), strict=True)
    }


def _confusion(predicted_N: torch.Tensor, true_N: torch.Tensor, n_classes: int) -> torch.Tensor:
    """How often class i was taken for class j, int64 ``[C, C]``."""
    counts = torch.zeros(n_classes**2, dtype=torch.int64, device=true_N.device)
    cells_N = true_N * n_classes + predicted_N
    return counts.scatter_add_(0, cells_N, torch.ones_like(cells_N)).view(n_classes, n_classes)


def _average_precisions(log_p_NC: torch.Tensor, true_N: torch.Tensor) -> torch.Tensor:
    """Average precision of each class against the rest, float64 ``[C]``; NaN for an absent one.

    Of two classes the difference of log probabilities orders the items: it orders them as the
    probability does and does not saturate at 1.
    """
    scores_NC = log_p_NC
    if log_p_NC.shape[1] == 2:
        difference_N = log_p_NC[:, 1] - log_p_NC[:, 0]
        scores_NC = torch.stack([-difference_N, difference_N], dim=1)
    is_class_NC = true_N[:, None] == torch.arange(log_p_NC.shape[1], device=true_N.device)
    return average_precision(scores_NC, is_class_NC)


def average_precision(scores_NC: torch.Tensor, positive_NC: torch.Tensor) -> torch.Tensor:
    """``sum_k (R_k - R_(k-1)) P_k`` of every column over its thresholds k, from the highest on.

    Items of equal scores pass a threshold together. One sort, no host read.

    Args:
        scores_NC: scores, larger for what is more likely positive.
        positive_NC: bool ``[N, C]``.

    Returns:
        float64 ``[C]``; NaN where no item is positive.
    """
    n_items = len(scores_NC)
    scores_NC, order_NC = scores_NC.sort(dim=0, descending=True)
    found_NC = positive_NC.gather(0, order_NC).cumsum(dim=0)  # positives so far, int64
    ends_NC = torch.ones_like(positive_NC)  # the last of several equal scores
    ends_NC[:-1] = scores_NC[1:] != scores_NC[:-1]
    # Positives at the end of the group before: counts rise, so the largest seen is the last one.
    at_ends_NC = torch.where(ends_NC, found_NC, 0).cummax(dim=0).values
    before_NC = torch.zeros_like(found_NC)
    before_NC[1:] = at_ends_NC[:-1]
    ranks_N1 = torch.arange(1, n_items + 1, device=scores_NC.device)[:, None]
    gained_NC = torch.where(ends_NC, found_NC - before_NC, 0) * (found_NC.double() / ranks_N1)
    return gained_NC.sum(dim=0) / found_NC[-1]


def query_entropy(learner: Learner, items: torch.Tensor, block_size: int) -> NDArray[np.float32]:
    """Entropy (nats) of each queried item under the classifier that asked for it, ``[N]``."""
    parts = [
        acquisition.entropy(learner.log_probs(items[start : start + block_size]))
        for start in range(0, len(items), block_size)
    ]
    return torch.cat(parts).cpu().numpy().astype(np.float32)
