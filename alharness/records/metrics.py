"""What strategies are compared by: figures of a cycle's classifier, and what they are drawn over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alharness.errors import unknown_name
from alharness.records.records import Metric, TestFigures

#: name of an x-axis -> (field of the record, words for the figure)
AXES = {
    "queries": ("n_asked", "annotations"),
    "labels": ("n_labelled", "labelled samples"),
    "cost": ("cost", "cost of annotation"),
}


#: What strategies can be compared by: field of ``TestFigures`` -> what is said of it.
METRICS: Mapping[str, Metric] = {
    name: metric
    for name, field in TestFigures.model_fields.items()
    for metric in field.metadata
    if isinstance(metric, Metric)
}


#: A class with a smaller share than this of an even split makes a set uneven.
IMBALANCE = 0.6


def is_uneven(counts: Sequence[int]) -> bool:
    """Whether items per class are so uneven that accuracy alone would hide something (R7)."""
    return bool(counts) and min(counts) < IMBALANCE * sum(counts) / len(counts)


#: What ``average_precision_of`` says: the mean over classes, or one of them by its name.
MACRO, OF_CLASS = "macro", "class "


def in_words(metric: str, precision_of: str) -> str:
    """A test figure in words; of the average precision, what it is of (empty where nobody can tell)."""
    told = find_metric(metric).description
    if metric != "average_precision" or not precision_of:
        return told
    return f"{told} ({'mean over classes' if precision_of == MACRO else f'of {precision_of}'})"


def as_column(metric: str, precision_of: str) -> str:
    """The same in short, for the head of a column."""
    name = metric.replace("_", " ")
    return f"{name} ({precision_of})" if metric == "average_precision" and precision_of else name


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
