"""Where a search by images loses its gain: Sec. 5.4, assumption by assumption.

A strategy that searches for images assumes that (i) images of high entropy are found, (ii) an item of the
pool lies near each of them and (iii) what is near an image has its entropy. Read off records: the entropy
of the synthetic images, of the items that were asked about for their sake, and how deep the matching had to
go; and, where the images' classes were recorded, how often the annotator gave an item the class for which
the classifier took its image. Random queries are the floor, the most uncertain queries of the comparison
the ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alharness.comparison import metrics
from alharness.comparison.comparison import Comparison
from alharness.comparison.series import Series
from alharness.comparison.tables import TextTable, number
from alharness.errors import UserError
from alharness.pictures.canvas import Figure
from alharness.pictures.charts import WIDTH, Chart, entry, legend, make_chart, name_bars
from alharness.records import Run, RunFolder
from alharness.records.query_log import QueryLog

#: What a strategy calls the entropy of its images, the depth of their matches, and the images' classes.
SYNTHETIC, DEPTH, CLASSES = "synthetic_entropy", "match_depth_mean", "array.synthetic_label"


@dataclass(frozen=True)
class Loss:
    """One strategy's chain from images to queries, means over all queries of all runs.

    Attributes:
        label: of the strategy.
        synthetic: entropy of its images, nats.
        asked: entropy of the items asked about in their place, nats.
        depth: items of the pool that had been taken before, per match; 0 takes the nearest.
        agreement: share of items whose class is the one that the classifier gave their image; NaN
            where that was not recorded.
    """

    label: str
    synthetic: float
    asked: float
    depth: float
    agreement: float


@dataclass(frozen=True)
class Losses:
    """All of them, between the two ends.

    Attributes:
        found: one per strategy that searches for images, the largest entropy asked first.
        floor: entropy of the baseline's queries; NaN without a baseline.
        ceiling: largest mean entropy of any other strategy's queries, and whose it is.
    """

    found: tuple[Loss, ...]
    floor: float
    ceiling: tuple[float, str]


def losses(comparison: Comparison) -> Losses | None:
    """Work the losses out; None when no strategy matches images to items."""
    found: list[Loss] = []
    rest: list[Series] = []
    for series in comparison.series:
        loss = _loss(series)
        (rest.append(series) if loss is None else found.append(loss))
    if not found:
        return None
    base = comparison.baseline
    entropies = [
        (metrics.mean_entropy(series), series.label) for series in rest if series is not base
    ]
    known = [item for item in entropies if np.isfinite(item[0])]
    return Losses(
        tuple(sorted(found, key=lambda loss: -loss.asked)),
        metrics.mean_entropy(base) if base is not None else float("nan"),
        max(known, default=(float("nan"), "")),
    )


def items(comparison: Comparison) -> tuple[TextTable | Chart, ...]:
    """Table and chart of them; nothing where no strategy matches images to items."""
    found = losses(comparison)
    return () if found is None else (table(comparison, found), chart(comparison, found))


def _loss(series: Series) -> Loss | None:
    # By what was recorded, not by name: any strategy that searches for images may say so.
    searched = [r for r in series.runs if any(r.records.column(f"query.diagnostics.{SYNTHETIC}"))]
    fields = ("kind", f"diagnostics.{SYNTHETIC}", "size", "entropy_mean", f"diagnostics.{DEPTH}")
    names = [f"query.{field}" for field in fields]
    # A row for each query of pool items that were matched to images.
    told = [
        row
        for run in searched
        for kind, *row in zip(*map(run.records.column, names), strict=True)
        if kind == "pool" and row[0] is not None
    ]
    if not told:
        return None
    synthetic, sizes, asked, depths = zip(*told, strict=True)

    def mean(values: Sequence[float]) -> float:
        # The last query of a budget may be smaller: each item counts once.
        return float(np.average(values, weights=np.array(sizes, dtype=np.float64)))

    return Loss(
        series.label,
        mean(synthetic),
        mean(asked),
        mean([float("nan") if depth is None else depth for depth in depths]),
        _agreement(series.runs),
    )


def _agreement(runs: Sequence[Run]) -> float:
    """Of items that got a label; queries of which some items got none are left out, for want of an order."""
    same = n = 0
    for run in runs:
        try:
            log = QueryLog.read(RunFolder(run.folder).queries)
        except UserError:
            continue  # the reading of the run has said it already
        for cycle in log.cycles(CLASSES):
            images, items = log.rows(CLASSES, cycle), log.rows("targets", cycle)
            # Items without a label are left out of the log's rows: then rows and images do not match up.
            if images is not None and items is not None and len(images) == len(items):
                same += int((images == items).sum())
                n += len(items)
    return same / n if n else float("nan")


def table(comparison: Comparison, found: Losses) -> TextTable:
    """The chain in numbers, with both ends."""
    rows = [
        (
            loss.label,
            number(loss.synthetic, 3),
            number(loss.asked, 3),
            number(_kept(loss, found), 2),
            number(loss.depth, 2),
            number(loss.agreement, 2),
        )
        for loss in found.found
    ]
    dash = number(None)
    if np.isfinite(found.ceiling[0]):
        rows.append((found.ceiling[1], dash, number(found.ceiling[0], 3), dash, dash, dash))
    if comparison.baseline is not None:
        rows.append((comparison.baseline.label, dash, number(found.floor, 3), dash, dash, dash))
    return TextTable(
        "losses",
        "Where the gain is lost (Sec. 5.4): mean entropies in nats under the classifier that asked. Kept: "
        "share of the way from random queries to the synthetic images' entropy that is left in the items "
        "asked about. Depth: items already taken before the match. Agreement: how often the annotator "
        "gave an item the class for which the classifier took its image (no more than chance is expected of "
        "images on the boundary, as they should be)",
        ("strategy", "synthetic images", "items asked", "kept", "depth", "label agreement"),
        tuple(rows),
    )


def _kept(loss: Loss, found: Losses) -> float:
    # From random queries' entropy: what random sampling has is no merit of the search.
    way = loss.synthetic - found.floor
    return (loss.asked - found.floor) / way if way > 0 else float("nan")


def chart(comparison: Comparison, found: Losses) -> Chart:
    """From each strategy's images to what it asked about, between random and the most uncertain queries."""
    ends = [("random queries", found.floor), (f"queries of {found.ceiling[1]}", found.ceiling[0])]
    rows = [
        (loss.label, loss.synthetic, loss.asked, loss.depth, loss.agreement) for loss in found.found
    ]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        places = range(len(found.found))
        for place, loss in enumerate(found.found):
            axes.annotate(
                "",
                (loss.asked, place),
                (loss.synthetic, place),
                arrowprops={"arrowstyle": "->", "color": "#777777", "lw": 1.2},
            )
        images = [loss.synthetic for loss in found.found]
        asked = [loss.asked for loss in found.found]
        axes.plot(images, places, "o", color="#D55E00", label=entry("synthetic images (i)"))
        axes.plot(
            asked, places, "D", color="#0072B2", label=entry("items asked for them (ii, iii)")
        )
        for style, (name, value) in zip((":", "--"), ends, strict=True):
            if np.isfinite(value):
                axes.axvline(value, color="#444444", linestyle=style, lw=1.2, label=entry(name))
        for place, loss in enumerate(found.found):
            if np.isfinite(loss.agreement):
                axes.annotate(
                    f"labels agree in {100 * loss.agreement:.0f} %",
                    ((loss.asked + loss.synthetic) / 2, place),
                    (0, 5),
                    textcoords="offset points",
                    ha="center",
                    fontsize=7.5,
                )
        name_bars(axes, [loss.label for loss in found.found])
        axes.set_ylim(-0.6, len(found.found) - 0.2)
        axes.set_xlim(left=0)
        axes.set_xlabel("mean entropy under the classifier that asked (nats)")
        axes.grid(axis="y", visible=False)
        legend(axes)

    return make_chart(
        "losses",
        "Where the gain is lost: from the entropy of the synthetic images (what the search reaches) to that "
        "of the items asked about in their place (what the matching keeps), between random queries and "
        "the most uncertain queries of any other strategy.",
        ("strategy", "synthetic_entropy", "entropy_asked", "match_depth", "label_agreement"),
        rows,
        draw,
        size=(WIDTH, 1.2 + 0.42 * len(rows)),
    )
