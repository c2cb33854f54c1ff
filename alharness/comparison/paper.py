"""The figure for a paper: learning curves and paired differences, readable at the width of a column.

Report figures (``figures``) show everything; this one shows what a reader must tell apart: the strategies
that were asked for, the first of them on top and alone with its interval, no colour twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alharness.comparison.comparison import Comparison
from alharness.comparison.figures import capital
from alharness.comparison.intervals import interval
from alharness.comparison.series import Series, gains_over
from alharness.errors import UserError
from alharness.pictures.canvas import Axes, Figure
from alharness.pictures.charts import (
    COLOURS,
    MARKERS,
    STYLES,
    Cell,
    Chart,
    entry,
    legend,
    make_chart,
    short,
)
from alharness.pictures.styles import BASELINE_COLOUR, line_styles
from alharness.records.metrics import AXES
from alharness.records.runs import Array

#: Inches: a column of a two-column page, and the narrowest figure whose words can be read.
COLUMN, NARROWEST = 3.3, 2.0

#: Points: words of a figure that is printed at its own size.
SMALL = 7


def paper_figure(
    comparison: Comparison,
    *,
    only: Sequence[str] = (),
    width: float = COLUMN,
    axis: str = "queries",
    metric: str = "accuracy",
) -> Chart:
    """Learning curves above paired differences to the baseline, with 95 % intervals of the mean.

    Args:
        only: labels or names of the strategies to show, the most important first; all by default. The
            baseline is always there.
        width: of the figure, inches.
        axis, metric: as for ``compare``.

    Returns:
        A chart whose CSV holds mean and interval of every strategy at every position.

    Raises:
        UserError: an unknown strategy, a figure that is not defined here, or a width below two inches.
    """
    if width < NARROWEST:
        raise UserError(
            f"A figure is at least {NARROWEST:g} inches wide; found {width:g}. A column is about {COLUMN:g}."
        )
    comparison.require_defined(metric)
    shown = _chosen(comparison, only)
    base = comparison.baseline
    styles = _styles(shown, base)
    curves = {series.label: series.curves(axis, metric) for series in shown}
    gains = gains_over(base, shown, axis, metric)
    bound = comparison.bound(metric)
    # The first that is no baseline: whose figure it is, and the only one with a band.
    own = next((series.label for series in shown if series is not base), None)

    names = [*curves, *(["all labels"] if bound is not None else [])]
    n_columns = _columns(names, width)

    def draw(figure: Figure) -> None:
        top, *rest = figure.subplots(
            2 if gains else 1,
            1,
            sharex=True,
            squeeze=False,
            gridspec_kw={"height_ratios": [2, 1.3] if gains else [1]},
        )[:, 0]
        for place, label in enumerate(curves):
            _line(top, *curves[label], styles[label], name=label, band=label == own, place=place)
        if bound is not None:
            line = {"color": "black", "linewidth": 0.8, "linestyle": (0, (2, 2))}
            top.axhline(bound, label=entry("all labels"), **line)
        top.set_ylabel(comparison.words(metric), fontsize=SMALL)
        for axes in rest:
            assert base is not None
            axes.axhline(0, color=BASELINE_COLOUR, linewidth=1)
            for place, label in enumerate(gains):
                _line(axes, *gains[label], styles[label], band=label == own, place=place)
            axes.set_ylabel(f"minus {short(base.label, 18)}", fontsize=SMALL)
        bottom = rest[-1] if rest else top
        bottom.set_xlabel(AXES[axis][1], fontsize=SMALL)
        for axes in (top, *rest):
            axes.tick_params(labelsize=SMALL)
        legend(
            top,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=n_columns,
            fontsize=SMALL,
            borderaxespad=0.2,
            columnspacing=1.0,
        )

    rows: list[tuple[Cell, ...]] = [
        *_rows("value", curves),
        *_rows("difference", gains),
    ]
    # The legend stands above: its rows are added to the height, so that curves keep theirs.
    n_rows = -(-len(names) // n_columns)
    # A column is as high as it is wide; a page is lower than that.
    height = 0.16 * n_rows + (1.6 + 0.5 * width if gains else 1.0 + 0.4 * width)
    return make_chart(
        f"figure_{metric}",
        f"{capital(comparison.words(metric))} against {AXES[axis][1]}, and paired differences to "
        f"{base.label if base else 'nothing'}: means over seeds; band: 95 % interval of the mean of {own}.",
        ("quantity", "strategy", AXES[axis][0], "mean", "low", "high", "runs"),
        rows,
        draw,
        size=(width, height),
    )


def _columns(names: Sequence[str], width: float) -> int:
    """Columns of the legend, as many as its names leave room for, of some 1.5 inches at least."""
    for n in range(int(width / 1.5), 1, -1):
        n_rows = -(-len(names) // n)
        columns = [names[at : at + n_rows] for at in range(0, len(names), n_rows)]
        # Inches at 7 points: a line and its gaps, then the letters; the axis at the left takes the rest.
        needed = sum(0.45 + 0.056 * max(map(len, column)) for column in columns)
        if needed <= width - 0.65:
            return n
    return 1


def _chosen(comparison: Comparison, only: Sequence[str]) -> list[Series]:
    """The strategies to show in the order asked for, with the baseline at the end."""
    base = comparison.baseline
    if not only:
        return [*(s for s in comparison.series if s is not base), *([base] if base else [])]
    shown = []
    for name in dict.fromkeys(only):
        # A name of one setting is that one: a strategy's plain name stands for all where none has it.
        exact = [s for s in comparison.series if name in (s.label, s.name)]
        by_name = exact or [s for s in comparison.series if s.strategy == name]
        shown += by_name or [comparison.find(name)]  # which says what there is
    shown = list({series.label: series for series in shown}.values())
    if base is None or any(series is base for series in shown):
        return shown
    return [*shown, base]


def _styles(shown: Sequence[Series], base: Series | None) -> dict[str, dict[str, Any]]:
    """How each is drawn: as in every report, but where two look alike the later one takes a free look."""
    usual = line_styles((s.name for s in shown), baseline=base.name if base else "")
    taken: set[Any] = set()
    styles: dict[str, dict[str, Any]] = {}
    for number, series in enumerate(shown):
        style = usual[series.name]
        if series is not base:
            free = [colour for colour in COLOURS if colour not in taken]
            if style["color"] in taken and free:
                style = {**style, "color": free[0]}
            taken.add(style["color"])
            # Told apart on a grey print-out, too: no two of the same dashes and marker.
            style = {
                **style,
                "linestyle": STYLES[number % len(STYLES)],
                "marker": MARKERS[number % len(MARKERS)],
            }
        styles[series.label] = style
    return styles


def _line(
    axes: Axes,
    x: Array,
    rows: Array,
    style: Mapping[str, Any],
    *,
    name: str = "",
    band: bool,
    place: int,
) -> None:
    mean, low, high = _intervals(rows)
    if band and np.isfinite(low).all():
        axes.fill_between(x, low, high, color=style["color"], alpha=0.18, linewidth=0)
    every = max(1, len(x) // 5)
    axes.plot(
        x,
        mean,
        label=entry(name) if name else "",
        linewidth=1.6 if band else 1.0,
        markersize=3,
        markevery=(every // 2, every),
        zorder=20 - place,  # the first one lies on top
        **style,
    )


def _intervals(rows: Array) -> tuple[Array, Array, Array]:
    """Mean and ends of its 95 % interval at every position; NaN where one run is all there is."""
    found = [interval(column) for column in rows.T]
    return (
        rows.mean(axis=0),
        np.array([low for low, _ in found]),
        np.array([high for _, high in found]),
    )


def _rows(quantity: str, curves: Mapping[str, tuple[Array, Array]]) -> list[tuple[Cell, ...]]:
    return [
        (quantity, label, float(at), float(mean), float(low), float(high), len(rows))
        for label, (x, rows) in curves.items()
        for at, mean, low, high in zip(x, *_intervals(rows), strict=True)
    ]
