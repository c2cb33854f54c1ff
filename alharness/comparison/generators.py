"""Generators that a comparison rests on, and what their quality is worth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from alharness.comparison import metrics
from alharness.comparison.comparison import BASELINE, Comparison
from alharness.comparison.intervals import difference_interval, nested_interval
from alharness.comparison.series import Series, paired
from alharness.comparison.tables import TextTable, number, signed
from alharness.pictures.canvas import Figure
from alharness.pictures.charts import WIDTH, Chart, entry, legend, make_chart
from alharness.pictures.styles import line_styles

#: Figures of a generator's inspection that results are read beside: name, heading.
INSPECTED = {
    "frechet_auto": "Fréchet, auto-encoder",
    "frechet_cls": "Fréchet, classifier",
    "frechet_floor_cls": "real against real",
    "coverage_cls": "coverage",
    "nearest_ratio_auto": "nearest",
    "entropy_before": "entropy at random",
    "entropy_after": "attainable entropy",
    "entropy_of_matches": "entropy of matches",
    "agreement_searched": "label agreement",
}


def table(
    comparison: Comparison, inspections: Mapping[str, Mapping[str, float]]
) -> list[TextTable]:
    """The generators that runs rest on, as their inspections found them."""
    users: dict[str, list[str]] = defaultdict(list)
    for series in comparison.series:
        for run in series.runs:
            for item in run.preparation:
                key = item.key
                if item.name == "generator" and key and series.label not in users[key]:
                    users[key].append(series.label)
    if not users:
        return []
    cells = []
    for key, labels in users.items():
        figures = inspections.get(key, {})
        told = (number(figures.get(name), 3) for name in INSPECTED)
        cells.append((key, ", ".join(labels), *told))
    caption = (
        "Generators, inspected with a reference classifier trained on all labels (entropies are shares "
        "of log C; nearest: well below 1 means memorised)"
    )
    if not users.keys() <= inspections.keys():
        caption += ". Dashes: not inspected yet, see 'alharness generator inspect --help'"
    return [
        TextTable(
            "generators", caption, ("generator", "used by", *INSPECTED.values()), tuple(cells)
        )
    ]


#: The figure of quality that gains are drawn against: in the space that the auto-encoder spans, which
#: belongs to no strategy of the paper's default and to no classifier.
QUALITY = "frechet_auto"


def gain_by_quality(
    comparison: Comparison,
    inspections: Mapping[str, Mapping[str, float]],
    *,
    axis: str = "queries",
    metric: str = "accuracy",
) -> Chart | None:
    """Gain over the baseline against the Fréchet distance of the generator that a strategy rests on.

    None unless some strategy was run on two generators that were inspected.
    """
    base = comparison.baseline
    if base is None or not comparison.has_areas(axis, metric):
        return None
    areas = comparison.areas(axis, metric)
    points: dict[str, list[tuple[float, str, float, float, float, int]]] = defaultdict(list)
    for series in comparison.series:
        key = _key(series)
        # Without an inspection there is no place on the axis.
        quality = inspections.get(key, {}).get(QUALITY) if key else None
        if quality is None or key is None:
            continue
        gains = metrics.differences(series, base, areas)
        if len(gains) < 2:
            continue
        low, high = difference_interval(gains)
        points[series.strategy].append((quality, key, float(gains.mean()), low, high, len(gains)))
    # One generator gives a point and no trend.
    points = {name: sorted(found) for name, found in points.items() if len(found) > 1}
    if not points:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.axhline(0, color="#444444", lw=1)
        styles = line_styles(points, baseline=BASELINE)
        for name, found in points.items():
            x = [point[0] for point in found]
            gain = np.array([point[2] for point in found])
            reach = np.array([[point[2] - point[3], point[4] - point[2]] for point in found]).T
            axes.errorbar(
                x, gain, yerr=np.abs(reach), capsize=3, label=entry(name), **styles[name]
            )  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_xlabel("Fréchet distance of the generator, auto-encoder features (left: better)")
        axes.set_ylabel(f"gain over {base.label}")
        legend(axes)

    return make_chart(
        "gain_by_generator",
        "What the generator is worth: mean gain over the baseline, with its 95 % interval over "
        "paired seeds, against the quality of the generator that the runs rest on.",
        ("strategy", "frechet_auto", "generator", "gain", "low", "high", "pairs"),
        [(name, *point) for name, found in points.items() for point in found],
        draw,
        size=(WIDTH, 4.0),
    )


#: Settings that train another generator or auto-encoder from the same recipe.
NESTED = ("generator.seed", "autoencoder.seed")


def over_generators(comparison: Comparison, axis: str, metric: str) -> list[TextTable]:
    """Gains over the baseline with the generator as a factor, where it was trained from several seeds.

    Ten seeds on one generator are no ten generators: the interval is for other generators and other seeds.
    """
    base = comparison.baseline
    if base is None or not comparison.has_areas(axis, metric):
        return []
    areas = comparison.areas(axis, metric)
    groups: dict[str, list[Series]] = defaultdict(list)
    for series in comparison.series:
        rest = {
            k: v
            for k, v in series.runs[0].spec.settings.items()
            if k not in (*NESTED, "seed", "data_seed")
        }
        # Alike in everything but the seeds of their networks: levels of one factor.
        groups[str(sorted(rest.items(), key=lambda item: item[0]))].append(series)
    cells = []
    for members in groups.values():
        # Crossed: the seeds that all of its generators, and the baseline, share.
        shared = sorted(set.intersection(*(set(paired(s, base)) for s in members)))
        if len(members) < 2 or len(shared) < 2:
            continue
        values = [
            [areas[id(s.by_pair[pair])] - areas[id(base.by_pair[pair])] for pair in shared]
            for s in members
        ]
        found = nested_interval(values)
        cells.append(
            (
                members[0].strategy,
                str(found.n_outer),
                str(found.n_inner),
                signed(found.mean),
                f"{found.low:+.4f} to {found.high:+.4f}",
                number(found.outer_deviation),
            )
        )
    header = (
        "strategy",
        "generators",
        "seeds of each",
        "mean gain",
        "95 % interval",
        "deviation between",
    )
    caption = (
        f"Gain over {base.label} for other generators and other seeds: the generator's seed as a factor "
        "of its own (two-way random effects)"
    )
    return [TextTable("over_generators", caption, header, tuple(cells))] if cells else []


def _key(series: Series) -> str | None:
    """The one generator of all runs; None where they have none, or several."""
    keys = {item.key for run in series.runs for item in run.preparation if item.name == "generator"}
    return keys.pop() if len(keys) == 1 else None
