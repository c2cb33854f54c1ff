"""Figures of a comparison: curves as the paper draws them, the mean over seeds as a line, minimum to
maximum as a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alharness.comparison import metrics
from alharness.comparison.comparison import Comparison
from alharness.comparison.levels import ROUNDING
from alharness.comparison.rank_test import RankTest
from alharness.comparison.series import UPPER, Series, gains_over
from alharness.pictures.canvas import Axes, Figure
from alharness.pictures.charts import (
    WIDTH,
    Cell,
    Chart,
    entry,
    legend,
    logarithmic,
    make_chart,
    name_bars,
    short,
    stacked_bars,
)
from alharness.pictures.styles import BASELINE_COLOUR, line_styles
from alharness.records.metrics import AXES, METRICS
from alharness.records.runs import Array


def capital(words: str) -> str:
    """Words at the beginning of a sentence."""
    return words[:1].upper() + words[1:]  # the rest may hold the name of a class


def styles_of(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """How every strategy is drawn, by label: by its name, whatever it is called here."""
    base = comparison.baseline
    styles = line_styles((s.name for s in comparison.series), baseline=base.name if base else "")
    return {series.label: styles[series.name] for series in comparison.series}


def _curves(
    axes: Axes,
    curves: Mapping[str, tuple[Array, Array]],
    styles: Mapping[str, Mapping[str, Any]],
    *,
    bands: bool = True,
) -> None:
    """Mean line and min-max band of every strategy, the highest at the end first in the legend."""
    for alike in _alike(curves):
        x, rows = curves[alike[0]]
        style = styles[alike[0]]
        if bands:
            axes.fill_between(
                x, rows.min(axis=0), rows.max(axis=0), color=style["color"], alpha=0.12, linewidth=0
            )
        every = max(1, len(x) // 8)
        axes.plot(
            x,
            rows.mean(axis=0),
            # One would hide the other: what lies on top of each other is named together.
            label=entry("\n= ".join(alike)),
            linewidth=1.5,
            markersize=4,
            markevery=(every // 2, every),
            **style,
        )


def _alike(curves: Mapping[str, tuple[Array, Array]]) -> list[list[str]]:
    """Strategies by curve, the highest at the end first; those of equal curves together."""
    groups: list[list[str]] = []
    # The legend's order is that of the curves at their right end, where the eye comes from.
    for label in sorted(curves, key=lambda label: -curves[label][1][:, -1].mean()):
        x, mean = curves[label][0], curves[label][1].mean(axis=0)
        for group in groups:
            other_x, other = curves[group[0]][0], curves[group[0]][1].mean(axis=0)
            if np.array_equal(x, other_x) and np.allclose(mean, other, rtol=0, atol=ROUNDING):
                group.append(label)
                break
        else:
            groups.append([label])
    return groups


def _cut_outliers(axes: Axes, curves: Mapping[str, tuple[Array, Array]]) -> None:
    """Let a curve that runs far below all others leave the figure rather than flatten them."""
    lows = {
        label: float(rows.min(axis=0)[1:].min(initial=np.inf))
        for label, (_, rows) in curves.items()
    }
    top = max(float(rows.max()) for _, rows in curves.values())
    # Against the typical strategy: one collapse must not set the scale.
    middle = float(np.median([low for low in lows.values() if np.isfinite(low)] or [top]))
    kept = [low for low in lows.values() if low >= middle - 2 * (top - middle)]
    if not kept or len(kept) == len(lows) or min(kept) == top:
        return
    margin = 0.05 * (top - min(kept))
    axes.set_ylim(min(kept) - margin, top + margin)


def _curve_rows(curves: Mapping[str, tuple[Array, Array]]) -> list[tuple[Cell, ...]]:
    return [
        (label, float(position), float(v.mean()), float(v.min()), float(v.max()), len(v))
        for label, (x, rows) in curves.items()
        for position, v in zip(x, rows.T, strict=True)
    ]


def learning_curves(
    comparison: Comparison, *, axis: str = "queries", metric: str = "accuracy"
) -> Chart | None:
    """Test figure against annotations, as the paper draws it, with the bound; None where undefined."""
    if not comparison.defines(metric):
        return None
    curves = {s.label: s.curves(axis, metric) for s in comparison.series}
    bound = comparison.bound(metric)
    majority = metrics.majority_accuracy(comparison) if metric == "accuracy" else None
    imbalanced = metrics.is_imbalanced(comparison)
    rows = _curve_rows(curves)
    if bound is not None:
        rows.append(("fully supervised", "", bound, bound, bound, len(comparison.bounds)))
    upper = {f"{s.label} {UPPER}": s.curves(axis, metric) for s in comparison.upper}
    rows += _curve_rows(upper)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _curves(axes, curves, styles_of(comparison))
        if bound is not None:
            axes.axhline(
                bound,
                color="black",
                linewidth=1,
                linestyle=(0, (2, 2)),
                label=entry("fully supervised"),
            )
        for label, (x, values) in upper.items():
            axes.plot(
                x,
                values.mean(axis=0),
                color="black",
                linewidth=1,
                linestyle=(0, (4, 1, 1, 1)),
                label=entry(label.replace(" (", "\n(")),
            )
        if majority is not None and imbalanced:
            axes.axhline(
                majority, color="#999999", linewidth=1, linestyle=":", label=entry("majority class")
            )
        if METRICS[metric].better == "more":
            _cut_outliers(axes, curves)
        axes.set_xlabel(AXES[axis][1])
        axes.set_ylabel(comparison.words(metric))
        legend(axes)

    return make_chart(
        f"curve_{metric}",
        f"{capital(comparison.words(metric))} against {AXES[axis][1]}: mean over seeds, band "
        "from minimum to maximum. What lies far below is cut off; its numbers are in the CSV.",
        ("strategy", AXES[axis][0], "mean", "min", "max", "runs"),
        rows,
        draw,
        size=(WIDTH, 4.9),
    )


def gain_curves(
    comparison: Comparison,
    reference: Series | None,
    *,
    axis: str = "queries",
    metric: str = "accuracy",
) -> Chart | None:
    """Paired difference to the reference along the budget: what the learning curves hide by their range."""
    if reference is None or not comparison.defines(metric):
        return None
    gains = gains_over(reference, comparison.series, axis, metric)
    if not gains:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _curves(axes, gains, styles_of(comparison), bands=False)
        axes.axhline(0, color=BASELINE_COLOUR, linewidth=1.5, label=entry(reference.label))
        finals = [rows.mean(axis=0) for _, rows in gains.values()]
        low = min(0.0, *(float(np.min(mean)) for mean in finals))
        high = max(0.0, *(float(np.max(mean)) for mean in finals))
        if low < -3 * high and high > 0:  # one far below must not flatten all others
            axes.set_ylim(bottom=-3 * high)
        axes.set_xlabel(AXES[axis][1])
        axes.set_ylabel(f"difference to {short(reference.label)}")
        legend(axes)

    return make_chart(
        "gain",
        f"Difference of {comparison.words(metric)} to {reference.label} at equal seeds: mean over seeds. "
        "What lies far below is cut off; its numbers are in the CSV.",
        ("strategy", AXES[axis][0], "mean", "min", "max", "pairs"),
        _curve_rows(gains),
        draw,
        size=(WIDTH, 4.3),
    )


def entropy_curves(comparison: Comparison, *, axis: str = "queries") -> Chart | None:
    """Entropy of what was asked, per query (Fig. 3b); None when nothing was asked."""
    curves: dict[str, tuple[Array, Array]] = {}
    for series in comparison.series:
        each = [
            (
                run.x(axis)[np.isfinite(entropies)],
                entropies[np.isfinite(entropies)],
            )
            for run in series.runs
            for entropies in [
                run.records.array("query.entropy_mean")
            ]  # the last cycle asks nothing
        ]
        each = [(x, y) for x, y in each if len(x)]
        if not each:
            continue
        low, high = max(x[0] for x, _ in each), min(x[-1] for x, _ in each)
        grid = np.unique(np.concatenate([x for x, _ in each]))
        grid = grid[(grid >= low) & (grid <= high)]
        curves[series.label] = grid, np.array([np.interp(grid, x, y) for x, y in each])
    if not curves:
        return None

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _curves(axes, curves, styles_of(comparison))
        axes.set_xlabel(AXES[axis][1])
        axes.set_ylabel("mean entropy of the query (nats)")
        axes.set_ylim(bottom=0)
        legend(axes)

    return make_chart(
        "entropy",
        "Entropy of the queried items under the classifier that asked for them: mean over seeds, band "
        "from minimum to maximum.",
        ("strategy", AXES[axis][0], "mean", "min", "max", "runs"),
        _curve_rows(curves),
        draw,
        size=(WIDTH, 4.3),
    )


def selection_times(comparison: Comparison) -> Chart | None:
    """Mean seconds per selection, split into phases; None when nothing was selected."""
    phases = {s.label: metrics.phase_seconds(s) for s in comparison.series}
    phases = {label: found for label, found in phases.items() if found}
    if not phases:
        return None
    names = sorted({name for found in phases.values() for name in found})
    labels = sorted(phases, key=lambda label: sum(phases[label].values()))
    rows = [(label, name, phases[label].get(name, 0.0)) for label in labels for name in names]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        lengths = {
            name: [1000 * phases[label].get(name, 0.0) for label in labels] for name in names
        }
        totals = stacked_bars(axes, labels, lengths)
        for i, total in enumerate(totals):
            told = f"{total:,.0f}" if total >= 100 else f"{total:.3g}"
            axes.annotate(f" {told} ms", (total, i), va="center", fontsize=8)
        axes.set_xlabel("milliseconds per selection")
        axes.set_xlim(0, 1.16 * max(totals))  # room for the numbers

    return make_chart(
        "selection_time",
        "Time of one selection, split into phases: mean over cycles (the first of each session, a warm-up, "
        "left out) and seeds. Preparation and training are not in it.",
        ("strategy", "phase", "seconds"),
        rows,
        draw,
        size=(WIDTH, 0.9 + 0.32 * len(labels)),
    )


def accuracy_against_time(comparison: Comparison, *, metric: str = "accuracy") -> Chart | None:
    """Test figure against all machine time, preparation included: who is ahead after a minute."""
    if not comparison.defines(metric):
        return None
    rows: list[tuple[Cell, ...]] = []
    curves: dict[str, tuple[Array, Array]] = {}
    for series in comparison.series:
        # Runs whose oracle rejects may end some cycles apart.
        n = min(len(run.records) for run in series.runs)
        # In full for every run: whoever found it ready made had it paid by another.
        prepared = float(np.mean([run.preparation_s for run in series.runs]))
        seconds = np.mean(
            [metrics.total_seconds(run, preparation_s=prepared)[:n] for run in series.runs], axis=0
        )
        values = np.array([run.y(metric)[:n] for run in series.runs])
        curves[series.label] = seconds, values
    rows = _curve_rows(curves)

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _curves(axes, curves, styles_of(comparison))
        logarithmic(axes, "x")
        if METRICS[metric].better == "more":
            _cut_outliers(axes, curves)
        axes.set_xlabel("seconds of preparation, training and selection")
        axes.set_ylabel(comparison.words(metric))
        legend(axes)

    return make_chart(
        "accuracy_time",
        f"{capital(comparison.words(metric))} against machine time: building what the strategy "
        "needs (in full, also where it was found ready made), training and selecting; "
        "annotation and evaluation left out.",
        ("strategy", "seconds", "mean", "min", "max", "runs"),
        rows,
        draw,
        size=(WIDTH, 4.3),
    )


def differences(rows: Sequence[metrics.ResultRow], reference: str) -> Chart | None:
    """Gain in area over the baseline, per strategy, with intervals."""
    tested = [row for row in rows if row.against is not None and row.against.n > 0]
    if not tested:
        return None
    tested = sorted(tested, key=lambda row: row.against.mean if row.against else 0.0)
    table: list[tuple[Cell, ...]] = [
        (row.label, t.mean, t.low, t.high, t.n) for row in tested if (t := row.against) is not None
    ]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for i, row in enumerate(tested):
            test = row.against
            assert test is not None
            if np.isfinite(test.low):
                axes.plot([test.low, test.high], [i, i], color="#0072B2", linewidth=2)
            face = "#0072B2" if test.significant else "white"
            axes.plot(test.mean, i, "o", markersize=6, color="#0072B2", markerfacecolor=face)
        axes.axvline(0, color="black", linewidth=1)
        name_bars(axes, [row.label for row in tested])
        axes.set_ylim(-0.6, len(tested) - 0.4)
        axes.set_xlabel(f"difference of the area under the curve to {short(reference)}")

    return make_chart(
        "differences",
        f"Paired difference to {reference} of the area under the learning curve, with 95 % interval "
        "over seeds (Student's t, from six seeds on). A filled dot: significant after Holm's correction.",
        ("strategy", "difference", "low", "high", "pairs"),
        table,
        draw,
        size=(WIDTH, 1.0 + 0.3 * len(tested)),
    )


def penalty_matrix(found: metrics.Penalties | None) -> Chart | None:
    """Heat map of how often the row beats the column."""
    if found is None:
        return None
    k = len(found.labels)
    rows = [
        (row, column, float(found.matrix[i, j]))
        for i, row in enumerate(found.labels)
        for j, column in enumerate(found.labels)
        if i != j
    ]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        axes.imshow(found.matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i in range(k):
            for j in range(k):
                value = found.matrix[i, j]
                axes.text(
                    j, i, "" if i == j else f"{value:.2f}", ha="center", va="center", fontsize=7,
                    color="white" if value > 0.6 else "black",
                )  # fmt: skip
        names = [short(label, 28) for label in found.labels]
        axes.set_xticks(range(k), names, rotation=35, ha="right")
        axes.set_yticks(range(k), names)
        axes.set_xlabel("... beats this one")
        axes.set_ylabel("how often this one ...")

    return make_chart(
        "penalties",
        "Pairwise penalties: share of the evaluated positions at which the row is ahead of the column by a "
        f"paired t-test over {found.n_pairs} seeds at the 5 % level (about 2.5 % by chance alone).",
        ("winner", "loser", "share"),
        rows,
        draw,
        size=(2.6 + 0.5 * k, 1.7 + 0.36 * k),
    )


def class_balance(comparison: Comparison) -> Chart | None:
    """Share of every class among the labels asked for (R7); None when nothing was labelled."""
    shares = {s.label: metrics.class_shares(s) for s in comparison.series}
    shares = {label: found for label, found in shares.items() if len(found)}
    if not shares:
        return None
    task = comparison.runs[0].facts.task
    n_classes = max(len(found) for found in shares.values())
    names = task.class_names[:n_classes]
    names += [f"class {i}" for i in range(len(names), n_classes)]
    counts = task.test_counts
    if counts:
        shares = {**shares, "(test set)": np.array(counts, dtype=float) / max(sum(counts), 1)}
    # Bars are drawn from below: the first one is to stand on top.
    labels = list(reversed(shares))
    rows = [
        (label, names[i], float(share)) for label in shares for i, share in enumerate(shares[label])
    ]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        greys = [0.25 + 0.65 * i / max(n_classes - 1, 1) for i in range(n_classes)]
        lengths = {
            name: [shares[label][i] if i < len(shares[label]) else 0 for label in labels]
            for i, name in enumerate(names)
        }
        # Classes have an order and no meaning of their own: one scale from dark to light.
        colours = [(0.9 * grey, 0.25 + 0.7 * grey, 0.45 + 0.5 * grey) for grey in greys]
        stacked_bars(axes, labels, lengths, colours=colours)
        axes.set_xlim(0, 1)
        axes.set_xlabel("share of the labels asked for")

    return make_chart(
        "class_balance",
        "Classes of what was asked for, over all queries and seeds, beside those of the test set.",
        ("strategy", "class", "share"),
        rows,
        draw,
        size=(WIDTH, 1.0 + 0.3 * len(labels)),
    )


def critical_difference(test: RankTest) -> Chart:
    """Mean ranks over data sets with Nemenyi's critical difference (Demsar 2006)."""
    k = len(test.names)
    table = list(zip(test.names, test.ranks, strict=True))

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        # The better half is named at the left, the rest at the right (Demsar's layout).
        half = (k + 1) // 2
        depth = half + 1 + 0.5 * len(test.groups)
        axes.set_ylim(depth + 0.4, -1.8)
        axes.set_xlim(1 - 0.6 * (k - 1) - 0.2, k + 0.6 * (k - 1) + 0.2)
        axes.axis("off")
        axes.plot([1, k], [0, 0], color="black", linewidth=1.2)
        for tick in range(1, k + 1):
            axes.plot([tick, tick], [0, -0.15], color="black", linewidth=1.2)
            axes.text(tick, -0.3, str(tick), ha="center", va="bottom", fontsize=8)
        # On few data sets the critical difference is longer than the axis.
        end = min(1 + test.critical, 2 * k)
        axes.plot([1, end], [-1.25, -1.25], color="black", linewidth=1.2)
        axes.text(
            (1 + end) / 2, -1.35, f"CD = {test.critical:.2f}", ha="center", va="bottom", fontsize=8
        )
        for i, (name, rank) in enumerate(table):
            best = i < half
            level = 0.5 * len(test.groups) + 0.8 + (i if best else k - 1 - i)
            edge = 1 - 0.12 if best else k + 0.12
            axes.plot([rank, rank, edge], [0, level, level], color="black", linewidth=0.8)
            axes.text(
                edge - 0.05 if best else edge + 0.05, level, f"{short(name, 34)} ({rank:.2f})",
                ha="right" if best else "left", va="center", fontsize=8,
            )  # fmt: skip
        for i, (first, last) in enumerate(test.groups):
            y = 0.35 + 0.45 * i
            axes.plot(
                [test.ranks[first] - 0.04, test.ranks[last] + 0.04], [y, y],
                color="#0072B2", linewidth=3.5, solid_capstyle="round",
            )  # fmt: skip

    return make_chart(
        "critical_difference",
        f"Mean ranks over {test.n_sets} data sets (1 is best). Strategies joined by a bar cannot be told "
        f"apart at the 5 % level (Nemenyi); Friedman's test: p = {test.p:.3g}.",
        ("strategy", "mean_rank"),
        table,
        draw,
        size=(WIDTH, 1.5 + 0.26 * k),
    )
