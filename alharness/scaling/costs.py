"""Accuracy and cost in one picture: what a comparison found, at the pool sizes that one has.

A comparison says how good each strategy's labels are, a timing study how long its preparation and one
selection take by pool size. Together: the seconds that the comparison's budget would cost with 10^4, 10^6
or 10^8 images, and which strategies no other one beats in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import nnls

from alharness import seeds
from alharness.comparison.comparison import BASELINE, Comparison
from alharness.comparison.tables import TextTable, number
from alharness.errors import UserError
from alharness.pictures.canvas import Figure
from alharness.pictures.charts import (
    Chart,
    entry,
    legend,
    logarithmic,
    make_chart,
    plain_number,
)
from alharness.pictures.styles import line_styles
from alharness.records.metrics import METRICS
from alharness.scaling.estimates import MIN_SIZES, Line, lines
from alharness.scaling.study import Study

#: Pool sizes that are told.
SIZES = (10_000, 1_000_000, 100_000_000)
#: An extrapolated time is told as its interval where the ends differ by more than this factor.
UNSURE = 2.0
#: Bootstrap samples that are extrapolated.
N_DRAWN = 400


@dataclass(frozen=True)
class Cost:
    """One strategy at one pool size.

    Attributes:
        label: the strategy.
        score: its mean test figure at the end of the budget.
        prepare_s: seconds of everything prepared once.
        select_s: seconds of one selection.
        low_s, high_s: its interval over the repeats and two models of the growth; without width where
            constant work was carried over to another size.
        seconds: preparation and all selections of the budget.
        measured: whether that pool size was timed; otherwise the times are extrapolated, or NaN where
            fewer than three sizes were timed or the memory does not suffice.
        best: whether no other strategy has a better score for as many seconds or fewer.
    """

    label: str
    score: float
    prepare_s: float
    select_s: float
    low_s: float
    high_s: float
    seconds: float
    measured: bool
    best: bool


def extrapolated(seconds: Mapping[int, float], n: int) -> float:
    """Seconds at size n: as measured, else a fixed part and one per image, neither below 0.

    Least squares of relative errors. Whatever reads every item, or one row per item, grows like this; for
    what grows more slowly (a tree) it is an upper bound.
    """
    if n in seconds:
        return seconds[n]
    sizes = np.array(sorted(seconds), dtype=np.float64)
    times = np.array([seconds[int(size)] for size in sizes])
    scale = np.where(times > 0, times, 1.0)
    rows = np.stack([np.ones_like(sizes), sizes], axis=1) / scale[:, None]
    # Relative errors: the largest size would decide alone otherwise. Neither part is below 0.
    (fixed, each), _ = nnls(rows, times / scale)
    return float(fixed + each * n)


def selection(line: Line, n: int) -> tuple[float, float, float]:
    """Seconds of one selection at size n, and their 95 % interval.

    What counts the same work at every size that was timed takes as long at any other: what its times
    differ by is noise, and is not extrapolated.
    """
    # What was timed is told as it was.
    if n in line.sizes:
        found = line.time(n)
        return found.value, found.low, found.high
    work = [line.work(size) for size in line.sizes]
    if work[0] and all(counts == work[0] for counts in work):
        always = float(np.median(np.concatenate([line.seconds(size) for size in line.sizes])))
        return always, always, always
    if len(line.sizes) < MIN_SIZES:
        return UNKNOWN  # two sizes lie on a line whatever the truth is
    medians = {size: line.time(size).value for size in line.sizes}
    middle = extrapolated(medians, n)
    rng = seeds.rng(0, "costs")
    drawn = np.stack([line.resampled(size, rng)[:N_DRAWN] for size in line.sizes], axis=1)
    ends = [extrapolated(dict(zip(line.sizes, times, strict=True)), n) for times in drawn.tolist()]
    # What the repeats leave open, and what the model does: a power of the size fits as well.
    low, high = np.quantile([*ends, *[_by_power(medians, n)] * len(ends)], [0.0125, 0.9875])
    return middle, min(float(low), middle), max(float(high), middle)


#: Told in place of a number that nothing at hand supports.
UNKNOWN = (float("nan"),) * 3


def _by_power(seconds: Mapping[int, float], n: int) -> float:
    """Seconds at size n by ``a n^b``, least squares in logarithms: another model of the same times."""
    sizes = np.log([float(size) for size in seconds])
    slope, start = np.polyfit(sizes, np.log([max(s, 1e-9) for s in seconds.values()]), 1)
    return float(np.exp(start + slope * np.log(n)))


def fits(study: Study, line: Line, n: int) -> bool:
    """Whether what a strategy keeps for a pool of size n fits the memory of the machine that was timed.

    Its features, and what a selection takes at its peak, by what they took per item; true where the study
    does not know its machine's memory, as before 0.3.0.
    """
    memory = study.machine.get("memory_bytes")
    features = [
        found.feature_bytes / found.n
        for found in study.measurements
        if found.name == line.name and found.feature_bytes is not None
    ]
    largest = line.sizes[-1]
    peak = (line.peak_bytes(largest) or 0) / largest
    return memory is None or n in line.sizes or n * (max(features, default=0.0) + peak) <= memory


def costs(
    comparison: Comparison,
    study: Study,
    *,
    metric: str = "accuracy",
    sizes: Sequence[int] = SIZES,
) -> dict[int, tuple[Cost, ...]]:
    """Every strategy that was both compared and timed, by pool size; the cheapest first.

    Args:
        comparison: of the study's task.

    Raises:
        UserError: the study has none of the comparison's strategies.
    """
    query_size = comparison.runs[0].spec.query_size if comparison.runs else None
    timed = _of_size(study, query_size)
    both = [series for series in comparison.series if series.name in timed]
    if not both:
        names = ", ".join(series.name for series in comparison.series)
        raise UserError(
            f"The timing study measured none of {names}. Measure them with: alharness timing "
            f"--dataset {comparison.task} --strategies A,B"
        )
    found: dict[int, tuple[Cost, ...]] = {}
    for n in sizes:
        rows = []
        for series in both:
            line = timed[series.name]
            _, values = series.curves("queries", metric)
            # Two sizes lie on a line whatever the truth is.
            known = n in line.preparation or len(line.preparation) >= MIN_SIZES
            prepare_s = 0.0
            if line.preparation:
                prepare_s = extrapolated(line.preparation, n) if known else float("nan")
            select_s, low_s, high_s = selection(line, n) if fits(study, line, n) else UNKNOWN
            # The budget's selections: rejected items make runs ask more often.
            n_queries = np.mean([sum(r.query is not None for r in x.records) for x in series.runs])
            seconds = prepare_s + float(n_queries) * select_s
            score = float(values[:, -1].mean())
            rows.append(
                Cost(
                    series.label, score, prepare_s, select_s, low_s, high_s, seconds,
                    n in line.sizes, False,
                )
            )  # fmt: skip
        found[n] = _marked(rows, more_is_better=METRICS[metric].better == "more")
    return found


def _of_size(study: Study, query_size: int | None) -> dict[str, Line]:
    """The line of each strategy whose queries are as large as the comparison's, or nearest to it."""
    found: dict[str, Line] = {}
    for line in lines(study):
        if line.kind != "select":
            continue
        # A selection of ten costs otherwise than one of a thousand: the nearest stands for it.
        known = found.get(line.name)
        if known is None or _far(line, query_size) < _far(known, query_size):
            found[line.name] = line
    return found


def _far(line: Line, query_size: int | None) -> int:
    return 0 if query_size is None else abs(line.query_size - query_size)


def _marked(rows: Sequence[Cost], *, more_is_better: bool) -> tuple[Cost, ...]:
    """Sorted by seconds; best where the score exceeds that of all that are as cheap or cheaper."""
    marked: list[Cost] = []
    best = -np.inf
    sign = 1 if more_is_better else -1
    known = [row for row in rows if np.isfinite(row.seconds)]
    marked += [row for row in rows if row not in known]
    for row in sorted(known, key=lambda row: (row.seconds, -sign * row.score)):
        ahead = sign * row.score > best
        best = max(best, sign * row.score)
        marked.append(replace(row, best=bool(ahead)))
    return tuple(marked)


def table(found: Mapping[int, Sequence[Cost]], words: str = "test accuracy") -> TextTable:
    """Seconds by pool size; a star where no strategy is both better and cheaper."""
    by_label = {row.label: row for row in next(iter(found.values()))}
    cells = []
    for label in sorted(by_label, key=lambda label: -by_label[label].score):
        at = [next(row for row in rows if row.label == label) for rows in found.values()]
        cells.append((label, number(by_label[label].score), *map(_told, at)))
    return TextTable(
        "costs",
        "Accuracy and cost: the test figure at the end of the budget, and seconds of preparation plus one "
        "selection by pool size (* no other strategy is better for as many seconds of the whole budget or "
        "fewer; ~ extrapolated from three smaller pools or more, with its interval where repeats and model "
        "leave more than a factor of two open; unknown: fewer were timed, or it does not fit the memory)",
        ("strategy", words, *(f"{plain_number(n)} images" for n in found)),
        tuple(cells),
    )


def _told(row: Cost) -> str:
    if not np.isfinite(row.seconds):
        return "unknown"
    sign = "" if row.measured else "~"
    prepared = f"{plain_number(_digits(row.prepare_s))} + " if row.prepare_s else ""
    star = " *" if row.best else ""
    told = plain_number(_digits(row.select_s))
    if not row.measured and row.high_s > UNSURE * row.low_s:
        told = " to ".join(plain_number(_digits(end)) for end in (row.low_s, row.high_s))
    return f"{sign}{prepared}{told} s{star}"


def _digits(seconds: float) -> float:
    """Two digits: more would promise what an extrapolation cannot hold."""
    return float(f"{seconds:.2g}")


def chart(
    found: Mapping[int, Sequence[Cost]], metric: str = "accuracy", words: str = "test accuracy"
) -> Chart:
    """One panel per pool size: test figure against the seconds of the whole budget."""
    by_score = sorted({(-row.score, row.label) for rows in found.values() for row in rows})
    labels = [label for _, label in by_score]
    styles = line_styles(labels, baseline=BASELINE)

    def draw(figure: Figure) -> None:
        panels = np.atleast_1d(figure.subplots(1, len(found), sharey=True))
        for axes, (n, rows) in zip(panels, found.items(), strict=True):
            front = [row for row in rows if row.best]
            axes.step(
                [row.seconds for row in front], [row.score for row in front], where="post",
                color="#999999", lw=1,
            )  # fmt: skip
            known = [row for row in rows if np.isfinite(row.seconds)]
            for row in sorted(known, key=lambda row: labels.index(row.label)):
                colour, marker = styles[row.label]["color"], styles[row.label]["marker"]
                axes.plot(
                    row.seconds, row.score, "o" if marker == "None" else marker, ms=7, color=colour,
                    mfc=colour if row.best else "white", label=entry(row.label),
                )  # fmt: skip
            logarithmic(axes, "x")
            axes.tick_params(axis="x", labelsize=7)
            told = "" if rows[0].measured else ", extrapolated"
            axes.set_title(f"{plain_number(n)} images{told}", fontsize=9)
            axes.set_xlabel("seconds: preparation, selections")
        panels[0].set_ylabel(words)
        legend(panels[-1])

    return make_chart(
        "cost_by_size",
        "Accuracy and cost: the test figure at the end of the budget against the seconds that preparing and "
        "selecting would take with so many images (filled: no other strategy is better and cheaper).",
        ("images", "strategy", metric, "prepare_s", "select_s", "seconds", "measured", "best"),
        [
            (n, r.label, r.score, r.prepare_s, r.select_s, r.seconds, int(r.measured), int(r.best))
            for n, rows in found.items()
            for r in rows
        ],
        draw,
        size=(13.0, 3.6),
    )
