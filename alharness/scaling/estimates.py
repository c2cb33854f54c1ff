"""What a timing study says: medians, slopes with intervals, transition points, and the tables of them.

Functions of measurements. A slope is the exponent b of ``value ~ n^b``: 1 is linear, 0 constant.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alharness import seeds
from alharness.comparison.verdicts import Estimate
from alharness.pictures.charts import Cell
from alharness.scaling.study import NOT_SELECTION, Measurement, Study

Array = NDArray[np.float64]

N_RESAMPLES = 1000
LEVEL = 0.95
#: Below so many sizes a slope is two points and a hope.
MIN_SIZES = 3


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

    def resampled(self, n: int, rng: np.random.Generator) -> Array:
        """Median seconds of bootstrap samples at size n, ``[N_RESAMPLES]``."""
        return _resampled_medians(self.seconds(n), rng)

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
    # Percentiles: medians of so few repeats take few values, and no shape can be assumed.
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
    # A slope of least squares is a weighted sum: so are those of all resampled medians, at once.
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
            # Nothing saved in a cycle: never; a preparation no dearer than the scan's: at once.
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
    # By what it did, not by its name: strategies are anybody's.
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
