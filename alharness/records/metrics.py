"""What strategies are compared by: figures of a cycle's classifier, and what they are drawn over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from alharness.errors import unknown_name
from alharness.records.records import CycleRecord

#: name of an x-axis -> (field of the record, words for the figure)
AXES = {
    "queries": ("n_asked", "annotations"),
    "labels": ("n_labelled", "labelled samples"),
    "cost": ("cost", "cost of annotation"),
}


@dataclass(frozen=True)
class Metric:
    """A figure of one classifier on the test set.

    Attributes:
        description: words for tables and figures.
        function: record of a cycle -> its value; None where it is not defined.
        better: whether more or less of it is better.
        defined: whether a test set with so many items per class has such a figure.
    """

    description: str
    function: Callable[[CycleRecord], float | None]
    better: Literal["more", "less"] = "more"
    defined: Callable[[Sequence[int]], bool] = lambda counts: True


#: What strategies can be compared by.
METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("test accuracy", lambda record: record.test.accuracy),
    "balanced_accuracy": Metric(
        "balanced test accuracy", lambda record: record.test.balanced_accuracy
    ),
    "macro_f1": Metric("macro F1 on the test set", lambda record: record.test.macro_f1),
    "average_precision": Metric(
        "average precision on the test set",
        lambda record: record.test.average_precision,
        # Of class 1 where there are two; records of old hold 0 where the test set has none of it.
        defined=lambda counts: len(counts) != 2 or counts[1] > 0,
    ),
    "log_loss": Metric("test log loss (nats)", lambda record: record.test.log_loss, "less"),
}


def find_metric(name: str) -> Metric:
    """The test figure of a name."""
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


def axis_field(axis: str) -> str:
    """The record's field behind the name of an x-axis."""
    if axis not in AXES:
        raise unknown_name("x-axis", axis, AXES)
    return AXES[axis][0]
