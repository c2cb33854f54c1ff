"""Figures of a timing study, and all that it writes beside itself."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alharness.comparison.comparison import BASELINE
from alharness.comparison.verdicts import Estimate
from alharness.files import write_text
from alharness.pictures.canvas import Axes, Figure
from alharness.pictures.charts import (
    MARKERS,
    Chart,
    as_csv,
    entry,
    legend,
    logarithmic,
    make_chart,
    stacked_bars,
)
from alharness.pictures.styles import line_styles
from alharness.scaling.estimates import (
    HEADER,
    SLOPE_HEADER,
    Line,
    lines,
    slopes,
    table,
    time_slope,
    transitions,
)
from alharness.scaling.study import Study


def charts(study: Study) -> list[Chart]:
    """All figures that the measurements allow."""
    found = lines(study)
    drawn: list[Chart] = []
    for kind, title in (("select", "one selection"), ("match", "one search for matches")):
        of_kind = [line for line in found if line.kind == kind]
        if not of_kind:
            continue
        drawn.append(_time_chart(kind, title, of_kind))
        drawn.append(_work_chart(kind, title, of_kind))
    selections = [line for line in found if line.kind == "select"]
    if selections:
        drawn.append(_phase_chart(selections))
    # What never pays has no place on a logarithmic axis.
    points = [row for row in transitions(study) if math.isfinite(row[4].value)]
    if points:
        drawn.append(_transition_chart(points))
    return drawn


def _label(line: Line, many_query_sizes: bool) -> str:
    return f"{line.name}, {line.query_size} items" if many_query_sizes else line.name


def _styles_of(found: Sequence[Line]) -> list[dict[str, Any]]:
    """How each line is drawn: as in reports of accuracy; query sizes of one name differ by marker."""
    by_name = line_styles((line.name for line in found), baseline=BASELINE)
    sizes = sorted({line.query_size for line in found})
    styles = [{**by_name[line.name], "markersize": 5, "linewidth": 1.5} for line in found]
    if len(sizes) > 1:
        for line, style in zip(found, styles, strict=True):
            style["marker"] = MARKERS[sizes.index(line.query_size) % len(MARKERS)]
    return styles


def _both_logarithmic(axes: Axes, x: str, y: str) -> None:
    logarithmic(axes, "x", "y")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _with_intervals(
    axes: Axes,
    sizes: Sequence[int],
    found: Sequence[Estimate],
    label: str,
    style: Mapping[str, Any],
) -> None:
    """A curve of estimates with their intervals."""
    middle, low, high = np.array([(e.value, e.low, e.high) for e in found]).T
    # An interval up to infinity ("never") has an arrow in the place of its upper half.
    open_above = np.isinf(high)
    # Error bars are lengths, and a bound may lie on the wrong side of the median by rounding.
    below, above = (
        np.maximum(middle - low, 0),
        np.maximum(np.where(open_above, 0, high - middle), 0),
    )
    axes.errorbar(sizes, middle, yerr=[below, above], label=label, capsize=2, **style)
    if open_above.any():
        reach = np.where(open_above, middle, 0.0)
        colour = style["color"]
        axes.errorbar(sizes, middle, yerr=reach, lolims=open_above, fmt="none", color=colour)


def _time_chart(kind: str, title: str, found: Sequence[Line]) -> Chart:
    many = len({line.query_size for line in found}) > 1
    rows = [
        (_label(line, many), n, e.value, e.low, e.high)
        for line in found
        for n in line.sizes
        for e in [line.time(n)]
    ]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for line, style in zip(found, _styles_of(found), strict=True):
            spent = [line.time(n) for n in line.sizes]
            exponent = time_slope(line)
            label = _label(line, many) + (f"\n  time ~ n^b, b = {exponent}" if exponent else "")
            _with_intervals(axes, line.sizes, spent, entry(label), style)
        _both_logarithmic(axes, "pool size" if kind == "select" else "feature rows", "seconds")
        legend(axes)

    return make_chart(
        f"{kind}_time",
        f"Time of {title} against size: medians with 95 % bootstrap intervals (of three repeats: their "
        "range), fitted exponents beside "
        "(Fig. 6a).",
        ("name", "n", "seconds", "low", "high"),
        rows,
        draw,
        size=(9.4, 4.6),
    )


def _work_chart(kind: str, title: str, found: Sequence[Line]) -> Chart:
    """One panel per counter, each with its own legend: counters of several strategies coincide."""
    many = len({line.query_size for line in found}) > 1
    panels: dict[str, dict[int, list[float]]] = defaultdict(dict)  # by counter and place in found
    for place, line in enumerate(found):
        for name in line.work(line.sizes[-1]):
            if name != "bytes_read":
                panels[name][place] = [line.work(n).get(name, 0.0) for n in line.sizes]
    rows = [
        (f"{_label(found[place], many)}: {name}", n, count)
        for name, curves in panels.items()
        for place, counts in curves.items()
        for n, count in zip(found[place].sizes, counts, strict=True)
    ]
    # Two panels to a row, rounded up.
    n_rows = max(1, -(-len(panels) // 2))

    def draw(figure: Figure) -> None:
        styles = _styles_of(found)
        grid = figure.subplots(n_rows, 2, squeeze=False).flat
        for axes, (name, curves) in zip(grid, panels.items(), strict=False):
            for place, counts in curves.items():
                label = _label(found[place], many)
                axes.plot(found[place].sizes, counts, label=entry(label), **styles[place])
            axes.set_title(name.replace("_", " "), fontsize=10)
            _both_logarithmic(axes, "", "count")
            legend(axes, fontsize=7, loc="best")
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        figure.supxlabel("pool size" if kind == "select" else "feature rows", fontsize=10)

    return make_chart(
        f"{kind}_work",
        f"Work of {title} against size: exact counters.",
        ("what", "n", "count"),
        rows,
        draw,
        size=(9.4, 0.6 + 3.0 * n_rows),
    )


def _phase_chart(found: Sequence[Line]) -> Chart:
    many = len({line.query_size for line in found}) > 1
    bars = [(f"{_label(line, many)}, {n:,}", line.phases(n)) for line in found for n in line.sizes]
    names = list(dict.fromkeys(name for _, phases in bars for name in phases))
    rows = [(label, name, phases.get(name, 0.0)) for label, phases in bars for name in names]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        # Bars are drawn from below: turned round, the first one stands on top.
        labels = [label for label, _ in bars][::-1]
        shares = {
            name: [100 * p.get(name, 0.0) / max(sum(p.values()), 1e-12) for _, p in bars[::-1]]
            for name in names
        }
        stacked_bars(axes, labels, shares)
        axes.set_xlabel("share of the selection's time in %")
        axes.set_xlim(0, 100)
        axes.set_ylim(-0.6, len(bars) - 0.4)
        axes.tick_params(axis="y", labelsize=8)

    return make_chart(
        "select_phases",
        "Where the time of one selection goes, by pool size: medians of the phases.",
        ("what", "phase", "seconds"),
        rows,
        draw,
        size=(9.4, 1.0 + 0.22 * len(bars)),
    )


def _transition_chart(points: Sequence[tuple[str, str, int, int, Estimate]]) -> Chart:
    curves: dict[str, list[tuple[int, Estimate]]] = defaultdict(list)
    for prepared, scan, query_size, n, cycles in points:
        curves[f"{prepared} instead of {scan}, {query_size} items"].append((n, cycles))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        styles = line_styles(curves, baseline="")  # a curve is of two strategies
        for label, curve in curves.items():
            sizes, cycles = zip(*curve, strict=True)
            _with_intervals(axes, sizes, cycles, entry(label), styles[label])
        _both_logarithmic(axes, "pool size", "cycles until the preparation has paid")
        legend(axes)

    return make_chart(
        "transition",
        "Transition point (Fig. 6b): cycles after which generator, features and index have paid for "
        "themselves, with 95 % intervals; sizes at which they never do are left out.",
        ("prepared", "instead of", "query size", "n", "cycles", "low", "high"),
        [(*row[:4], row[4].value, row[4].low, row[4].high) for row in points],
        draw,
        size=(9.4, 4.0),
    )


def write(study: Study, folder: Path) -> None:
    """``table.csv``, ``slopes.csv`` (exponents), and each figure as PNG, SVG and CSV."""
    write_text(folder / "table.csv", as_csv(HEADER, table(study)))
    write_text(folder / "slopes.csv", as_csv(SLOPE_HEADER, slopes(study)))
    for chart in charts(study):
        chart.write(folder)
