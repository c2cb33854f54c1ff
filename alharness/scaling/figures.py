"""What a scaling study says: slopes with intervals, transition points, the table and the figures.

Functions of measurements. A slope is the exponent b of ``value ~ n^b``: 1 is linear, 0 constant.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alharness import seeds
from alharness.files import write_text
from alharness.pictures.charts import (
    COLOURS,
    MARKERS,
    STYLES,
    Cell,
    Chart,
    as_csv,
    legend,
    make_chart,
)
from alharness.scaling.measure import NOT_SELECTION, Measurement, Study

Array = NDArray[np.float64]

N_RESAMPLES = 1000
LEVEL = 0.95
#: Below so many sizes a slope is two points and a hope.
MIN_SIZES = 3


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: the estimate.
        low, high: 95 % bootstrap interval over repeats; equal to the value for exact counts. Of three
            repeats it is their range, which holds the true median in three cases of four; of five
            it is right in 94 of 100.
        n: numbers that it rests on.
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.value:.3g}"
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Line:
    """What one strategy or index did at one query size, by pool size.

    Attributes:
        kind, name, query_size: what was measured.
        repeats: measurements by pool size, ascending.
        preparation: seconds of everything prepared, by pool size.
    """

    kind: str
    name: str
    query_size: int
    repeats: Mapping[int, tuple[Measurement, ...]]
    preparation: Mapping[int, float]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.repeats)

    def seconds(self, n: int) -> Array:
        """Seconds of every repeat at size n."""
        return np.array([found.seconds for found in self.repeats[n]])

    def time(self, n: int) -> Estimate:
        """Median seconds at size n."""
        values = self.seconds(n)
        low, high = _interval(_resampled_medians(values, seeds.rng(0, "scaling bootstrap")))
        return Estimate(float(np.median(values)), low, high, len(values))

    def work(self, n: int) -> dict[str, float]:
        """Mean of each counter at size n."""
        names = sorted({name for found in self.repeats[n] for name in found.work})
        return {
            name: float(np.mean([found.work.get(name, 0) for found in self.repeats[n]]))
            for name in names
        }

    def phases(self, n: int) -> dict[str, float]:
        """Median seconds of each phase of the selection at size n."""
        names = dict.fromkeys(name for found in self.repeats[n] for name in found.phases)
        return {
            name: float(np.median([found.phases.get(name, 0.0) for found in self.repeats[n]]))
            for name in names
            if name not in NOT_SELECTION
        }

    def peak_bytes(self, n: int) -> int | None:
        """Largest growth of memory seen at size n: of the device where there is one, else of the host."""
        found = [m.peak_device_bytes or m.peak_host_bytes for m in self.repeats[n]]
        known = [value for value in found if value is not None]
        return max(known) if known else None


def lines(study: Study) -> list[Line]:
    """The study's measurements, put in order."""
    grouped: dict[tuple[str, str, int], dict[int, list[Measurement]]] = defaultdict(
        lambda: defaultdict(list)
    )
    preparation: dict[str, dict[int, float]] = defaultdict(dict)
    for found in study.measurements:
        if found.kind == "prepare":
            preparation[found.name][found.n] = found.seconds
        else:
            grouped[found.kind, found.name, found.query_size][found.n].append(found)
    return [
        Line(
            kind,
            name,
            query_size,
            {n: tuple(by_size[n]) for n in sorted(by_size)},
            preparation.get(name, {}),
        )
        for (kind, name, query_size), by_size in grouped.items()
    ]


def _resampled_medians(values: Array, rng: np.random.Generator) -> Array:
    """Medians of bootstrap samples, ``[N_RESAMPLES]``; of independent ones for each call on one rng."""
    at = rng.integers(len(values), size=(N_RESAMPLES, len(values)))
    medians: Array = np.median(values[at], axis=1)
    return medians


def _interval(samples: Array) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def slope(values: Mapping[int, Array]) -> Estimate | None:
    """Exponent of the medians against size, by least squares in logarithms.

    Args:
        values: repeats by size.

    Returns:
        None with fewer than three sizes, or where a value is not above 0.
    """
    sizes = sorted(values)
    if len(sizes) < MIN_SIZES or any(values[n].min() <= 0 for n in sizes):
        return None
    x = np.log([float(n) for n in sizes])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    middle = float(weights @ np.log([np.median(values[n]) for n in sizes]))
    rng = seeds.rng(0, "scaling slope")
    resampled = np.stack([_resampled_medians(values[n], rng) for n in sizes])
    low, high = _interval(weights @ np.log(resampled))
    found = Estimate(middle, min(low, middle), max(high, middle), sum(map(len, values.values())))
    # Constant counts leave a few 1e-16 of arithmetic, which are no slope.
    return replace(
        found, **{name: round(getattr(found, name), 12) for name in ("value", "low", "high")}
    )


def time_slope(line: Line, phase: str | None = None, smallest: int = 0) -> Estimate | None:
    """Exponent of the time, or of one phase, over the sizes from ``smallest`` on."""
    return slope(
        {
            n: np.array([m.seconds if phase is None else m.phases.get(phase, 0.0) for m in repeats])
            for n, repeats in line.repeats.items()
            if n >= smallest
        }
    )


def work_slope(line: Line, counter: str) -> Estimate | None:
    """Exponent of a counter; 0 where it is constant, None where it does not occur.

    Work that depends on the query (a tree's) has an interval, work that does not is a point.
    """
    return slope(
        {
            n: np.array([float(found.work.get(counter, 0)) for found in repeats])
            for n, repeats in line.repeats.items()
        }
    )


def ratio(first: Line, second: Line, n: int) -> Estimate:
    """How many times as long the first takes as the second at size n."""
    rng = seeds.rng(0, "scaling ratio")
    a, b = (_resampled_medians(line.seconds(n), rng) for line in (first, second))
    value = float(np.median(first.seconds(n)) / np.median(second.seconds(n)))
    low, high = _interval(a / b)
    n_repeats = min(len(first.repeats[n]), len(second.repeats[n]))
    return Estimate(value, min(low, value), max(high, value), n_repeats)


def transition(prepared: Line, exhaustive: Line, n: int) -> Estimate:
    """Cycles after which the preparation has paid at size n (Fig. 6b); infinite when it never does.

    The interval is that of the selections' times: a preparation is measured once.
    """
    extra = prepared.preparation.get(n, 0.0) - exhaustive.preparation.get(n, 0.0)

    def cycles(saved: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(saved > 0, max(0.0, extra) / np.maximum(saved, 0.0), math.inf)

    rng = seeds.rng(0, "scaling transition")
    a, b = (_resampled_medians(line.seconds(n), rng) for line in (exhaustive, prepared))
    saved = np.median(exhaustive.seconds(n)) - np.median(prepared.seconds(n))
    value = cycles(np.asarray(saved)).item()
    # Ranks, not interpolation: between a finite number and infinity there is nothing.
    ranked = np.sort(cycles(a - b))
    tail = (1 - LEVEL) / 2
    low, high = ranked[int(tail * len(ranked))], ranked[math.ceil((1 - tail) * len(ranked)) - 1]
    n_repeats = min(len(prepared.repeats[n]), len(exhaustive.repeats[n]))
    return Estimate(value, min(float(low), value), max(float(high), value), n_repeats)


def transitions(study: Study) -> list[tuple[str, str, int, int, Estimate]]:
    """(prepared, exhaustive, query size, n, cycles) for all that prepare against all that scan."""
    found = [line for line in lines(study) if line.kind == "select"]
    rows = []
    for scan in found:
        if not _scans(scan):
            continue
        for line in found:
            if line.query_size != scan.query_size or not _prepares(line):
                continue
            for n in sorted(set(line.sizes) & set(scan.sizes)):
                rows.append((line.name, scan.name, line.query_size, n, transition(line, scan, n)))
    return rows


def _scans(line: Line) -> bool:
    """Scores the whole pool and prepares nothing."""
    largest = line.sizes[-1]
    scored = line.work(largest).get("pool_items_scored", 0)
    return scored > largest / 2 and not _prepares(line)


def _prepares(line: Line) -> bool:
    return any(seconds > 0 for seconds in line.preparation.values())


HEADER = (
    "kind", "name", "query size", "n", "seconds", "low", "high", "work", "peak MB", "prepared s",
)  # fmt: skip


def table(study: Study) -> list[tuple[Cell, ...]]:
    """One row per strategy or index, query size and pool size."""
    rows: list[tuple[Cell, ...]] = []
    for line in lines(study):
        for n in line.sizes:
            spent = line.time(n)
            work = ", ".join(f"{name}={count:.0f}" for name, count in line.work(n).items())
            peak = line.peak_bytes(n)
            rows.append(
                (
                    line.kind,
                    line.name,
                    line.query_size,
                    n,
                    spent.value,
                    spent.low,
                    spent.high,
                    work,
                    "" if peak is None else peak / 1e6,
                    line.preparation.get(n, 0.0),
                )
            )
    return rows


SLOPE_HEADER = ("kind", "name", "query size", "what", "exponent", "low", "high", "sizes")


def slopes(study: Study) -> list[tuple[Cell, ...]]:
    """Exponents of the time, of each phase and of each counter."""
    rows: list[tuple[Cell, ...]] = []
    for line in lines(study):
        largest = line.sizes[-1]
        found = {"time": time_slope(line)}
        found |= {f"time of {name}": time_slope(line, name) for name in line.phases(largest)}
        found |= {name: work_slope(line, name) for name in line.work(largest)}
        rows += [
            (line.kind, line.name, line.query_size, what, e.value, e.low, e.high, len(line.sizes))
            for what, e in found.items()
            if e is not None
        ]
    return rows


TABLE_2_HEADER = (
    "strategy", "query size", "features per cycle", "selection per cycle", "n", "seconds",
)  # fmt: skip


def table_2(study: Study) -> list[tuple[Cell, ...]]:
    """Table 2 as measured: growth of the work in each cycle, seconds at the largest size."""
    rows: list[tuple[Cell, ...]] = []
    for line in lines(study):
        if line.kind != "select":
            continue
        n = line.sizes[-1]
        work = line.work(n)
        of_features = "pool_items_featurised" if "pool_items_featurised" in work else ""
        counters = [name for name in ("pool_items_scored", "distances") if name in work]
        growth = [
            f"{name} ~ n^{e.value:.2f}"
            for name in counters
            if (e := work_slope(line, name)) is not None
        ]
        featurised = work_slope(line, of_features) if of_features else None
        rows.append(
            (
                line.name,
                line.query_size,
                "none" if featurised is None else f"n^{featurised.value:.2f}",
                "; ".join(growth) or "no pool item",
                n,
                line.time(n).value,
            )
        )
    return rows


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
    points = [row for row in transitions(study) if math.isfinite(row[4].value)]
    if points:
        drawn.append(_transition_chart(points))
    return drawn


def _label(line: Line, many_query_sizes: bool) -> str:
    return f"{line.name}, {line.query_size} items" if many_query_sizes else line.name


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _style(place: int) -> dict[str, Any]:
    return {
        "color": _colour(place),
        "linestyle": STYLES[place % len(STYLES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 5,
        "linewidth": 1.5,
    }


def _both_logarithmic(axes: Axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


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
        for place, line in enumerate(found):
            spent = [line.time(n) for n in line.sizes]
            exponent = time_slope(line)
            label = _label(line, many) + (f"\n  $n^b$, b = {exponent}" if exponent else "")
            middle = np.array([e.value for e in spent])
            reach = np.array([[e.value - e.low, e.high - e.value] for e in spent]).T
            axes.errorbar(
                line.sizes,
                middle,
                yerr=np.maximum(reach, 0),
                label=label,
                capsize=2,
                **_style(place),
            )
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
    n_rows = max(1, -(-len(panels) // 2))

    def draw(figure: Figure) -> None:
        grid = figure.subplots(n_rows, 2, squeeze=False).flat
        for axes, (name, curves) in zip(grid, panels.items(), strict=False):
            for place, counts in curves.items():
                label = _label(found[place], many)
                axes.plot(found[place].sizes, counts, label=label, **_style(place))
            axes.set_title(name.replace("_", " "), fontsize=10)
            _both_logarithmic(axes, "", "count")
            axes.legend(fontsize=7, handlelength=3.2)
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
        labels = [label for label, _ in bars][::-1]
        left = np.zeros(len(bars))
        for place, name in enumerate(names):
            shares = np.array(
                [100 * p.get(name, 0.0) / max(sum(p.values()), 1e-12) for _, p in bars][::-1]
            )
            axes.barh(
                labels,
                shares,
                left=left,
                label=name,
                color=COLOURS[place % len(COLOURS)],
                hatch="///" * (place // len(COLOURS)),
                edgecolor="white",
                linewidth=0.4,
            )
            left += shares
        axes.set_xlabel("share of the selection's time in %")
        axes.set_xlim(0, 100)
        axes.set_ylim(-0.6, len(bars) - 0.4)
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(axis="y", visible=False)
        legend(axes)

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
        for place, (label, curve) in enumerate(curves.items()):
            sizes, cycles = zip(*curve, strict=True)
            middle = np.array([e.value for e in cycles])
            below = middle - np.array([e.low for e in cycles])
            # An interval up to infinity ("never") has an arrow in the place of its upper half.
            open_above = np.array([math.isinf(e.high) for e in cycles])
            above = np.where(open_above, 0.0, np.array([e.high for e in cycles]) - middle)
            axes.errorbar(
                sizes, middle, yerr=[below, above], label=label, capsize=2, **_style(place)
            )
            reach = np.where(open_above, middle, 0.0)
            axes.errorbar(
                sizes, middle, yerr=reach, lolims=open_above, fmt="none", ecolor=_colour(place)
            )
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
