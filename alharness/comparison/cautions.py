"""What a reader of a comparison has to know before its tables: seeds, ranges, classes, machines."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from alharness.comparison import metrics
from alharness.comparison.comparison import Comparison
from alharness.comparison.levels import MIN_PAIRS
from alharness.comparison.runs import describe
from alharness.comparison.series import asked_of
from alharness.records.metrics import AXES, METRICS, as_column


def seed_warnings(comparison: Comparison) -> list[str]:
    counts = {series.label: len(series.runs) for series in comparison.series}
    warnings = []
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{label} {n}" for label, n in counts.items())
        warnings.append(
            f"Strategies have different numbers of finished runs ({told}); tests use shared seeds."
        )
    fewest = min(counts.values())
    few = [label for label, n in counts.items() if n < MIN_PAIRS]
    if few:
        which = "" if len(few) == len(counts) else f" of {', '.join(few)}"
        about = "" if not which else " about them"
        warnings.append(
            f"Fewer than {MIN_PAIRS} seeds{which}: nothing{about} can be called significant here, "
            "whatever it looks like."
        )
    elif fewest < 10:
        warnings.append("Claims should rest on ten seeds or more.")
    most = max(comparison.series, key=lambda series: len(series.runs))
    # Digests, not data seeds: two seeds may draw one set from a tiny pool.
    starts = {run.start for run in most.runs}
    if len(starts) < len(most.runs):
        sets = "one initial set" if len(starts) == 1 else f"{len(starts)} initial sets"
        warnings.append(
            f"The {len(most.runs)} runs of a strategy begin from {sets} only: intervals and tests take them "
            "as independent, and say nothing of other initial sets. Leave data_seed open, so that it "
            "follows the seed."
        )
    return warnings


def annotator_warnings(comparison: Comparison) -> list[str]:
    """Labels of synthetic images are worth what their annotator is."""
    best = max(
        accuracy
        for run in [*comparison.runs, *comparison.bounds]
        for accuracy in run.records.column("test.accuracy")
    )
    found = {
        float(entry.details["test_accuracy"])
        for run in comparison.runs
        for entry in run.preparation
        if entry.name == "annotator" and "test_accuracy" in entry.details
    }
    return [
        f"A network that is right in {accuracy:.1%} of the test images labels synthetic ones here; "
        f"classifiers of this comparison reach {best:.1%}. What is asked of it measures the annotator."
        for accuracy in sorted(found)
        if accuracy < best
    ]


def same_warnings(comparison: Comparison) -> list[str]:
    """Strategies that are one: whatever they are called, they are one comparison."""
    groups: dict[object, list[str]] = defaultdict(list)
    for series in comparison.series:
        groups[asked_of(series)].append(series.label)
    return [
        f"{' and '.join(labels)} asked the same in every cycle: they are one comparison, and count once in "
        "the correction."
        for labels in groups.values()
        if len(labels) > 1
    ]


def undefined_warnings(comparison: Comparison, metric: str) -> list[str]:
    """Figures that do not exist here, and classes that no figure speaks of."""
    warnings = []
    if not comparison.defines(metric):
        runs = [*comparison.runs, *comparison.bounds]
        without = [run for run in runs if not np.isfinite(run.y(metric)).all()]
        # Records that were written before a figure was added lack it: then some runs have it and some not.
        which = f" in {len(without)} of {len(runs)} runs ({describe(without[0])})"
        warnings.append(
            f"The {comparison.words(metric)} is not defined here"
            f"{which if len(without) < len(runs) else ''}: nothing is ranked, tested or drawn by it. "
            "Choose another one with --metric."
        )
    task = comparison.runs[0].facts.task
    counts, names = task.test_counts, task.class_names
    absent = [
        f"'{names[i]}'" if i < len(names) else f"class {i}" for i, n in enumerate(counts) if n == 0
    ]
    if absent:
        warnings.append(
            f"The test set has no item of {', '.join(absent)}: no test figure speaks of it."
        )
    return warnings


def no_room_warnings(comparison: Comparison, metric: str) -> list[str]:
    """Where nothing can be told apart: at chance level throughout, or at the bound from the start."""
    if METRICS[metric].better == "less" or not comparison.defines(metric):
        return []
    first = float(np.mean([run.y(metric)[0] for run in comparison.runs]))
    # Means over seeds: one lucky run has not learned for its strategy.
    best = max(float(np.mean([run.y(metric)[-1] for run in s.runs])) for s in comparison.series)
    name, found = comparison.words(metric), []
    majority = metrics.majority_accuracy(comparison) if metric == "accuracy" else None
    if majority is not None and best <= majority:
        found.append(
            f"No strategy has learned anything that accuracy shows: the best ends at {best:.4f}, and always "
            f"naming the largest class gives {majority:.4f}."
        )
    bound = comparison.bound(metric)
    if bound is not None and first >= metrics.TARGETS[-1] * bound:
        found.append(
            f"The first labels alone reach {first / bound:.1%} of the bound ({name}): next to nothing is "
            "left to gain, and nothing can be told apart. Begin with fewer labels, or take a harder task."
        )
    return found


def range_warnings(comparison: Comparison, axis: str) -> list[str]:
    """Where areas are taken over less than some run's curve, by how much, and which run is why."""
    found = comparison.covered(axis)
    if found.has_area and not found.shortened:
        return []
    words = AXES[axis][1]
    why = []
    if found.low > found.least:
        why.append(
            f"{describe(found.begins)} begins at {found.low:.12g}, another at {found.least:.12g}"
        )
    if found.high < found.most:
        more = f" as do {found.n_ends - 1} more," if found.n_ends > 1 else ""
        why.append(
            f"{describe(found.ends)} ends at {found.high:.12g},{more} the longest at {found.most:.12g}"
        )
    told = "; ".join(why) or f"every curve is one classifier, at {found.low:.12g}"
    if found.has_area:
        return [
            f"Areas are taken over {found.low:.12g} to {found.high:.12g} {words} only, the range that all "
            f"runs cover: {told}."
        ]
    return [
        f"There is no range of {words} that all runs cover ({told}), hence no area under the curve: nothing "
        "is ranked or tested. Choose another axis with --x, or compare without the runs that end there."
    ]


def imbalance_warnings(comparison: Comparison, metric: str) -> list[str]:
    """Which figures to read where accuracy hides something (R7)."""
    names = [
        as_column(name, comparison.precision_of)
        for name in metrics.for_uneven_classes(comparison)
        if comparison.defines(name) and name != metric
    ]
    told = " and ".join(names)
    if not told:
        return []
    if metric == metrics.USUAL:
        return [f"The classes of the test set are uneven: read {told}, not accuracy."]
    return [
        f"The classes of the test set are uneven: this is about {comparison.words(metric)}, not accuracy. "
        f"Read {told} beside it (--metric takes another figure)."
    ]


def hardware_warnings(comparison: Comparison) -> list[str]:
    different = comparison.hardware_differences()
    if not different:
        return []
    told = "; ".join(f"{key}: {', '.join(values)}" for key, values in different.items())
    return [
        f"Times are not shown, because the runs come from different machines or settings ({told})."
    ]
