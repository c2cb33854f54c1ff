"""What strategies are compared by: figures of a cycle's classifier, and what they are drawn over."""

from __future__ import annotations

from collections.abc import Mapping

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
