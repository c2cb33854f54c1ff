"""What every figure is made of: a chart with its numbers, drawn when asked for, in one style.

Colours are told apart by people who do not see red and green alike (Okabe and Ito), and line styles
with markers by everybody on a grey print-out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

#: Okabe and Ito's palette, without its yellow, which vanishes on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.2)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")

STYLE: dict[str, Any] = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # looks the same where a font is missing
    "svg.hashsalt": "alharness",  # the same numbers give the same file
}

#: Inches: fills the page of the report and an A4 page alike.
WIDTH = 9.4

Cell = str | float | int


@dataclass(frozen=True)
class Chart:
    """One figure with its numbers; pictures are drawn when they are asked for.

    Attributes:
        name: file name without ending.
        caption: what is shown, in a sentence.
        header, rows: the numbers.
        draw: draws into an empty figure.
        size: width and height in inches.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    draw: Callable[[Figure], None]
    size: tuple[float, float]

    @cached_property
    def svg(self) -> str:
        """The picture as an SVG element."""
        text = self._drawn("svg", metadata={"Date": None, "Creator": None}).decode()
        # What stands before <svg> (XML declaration, document type) has no place inside a page.
        text = text[text.index("<svg") :]
        return re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)

    @cached_property
    def png(self) -> bytes:
        """The picture for slides and mails, 200 dots per inch."""
        return self._drawn("png", dpi=200)

    def _drawn(self, kind: str, **options: Any) -> bytes:
        """Draw without pyplot: no global state, no window system."""
        with rc_context(STYLE):  # type: ignore[arg-type] # keys are checked by matplotlib itself
            figure = Figure(figsize=self.size, layout="constrained")
            FigureCanvasAgg(figure)
            self.draw(figure)
            target = io.BytesIO()
            figure.savefig(target, format=kind, **options)
        return target.getvalue()

    @property
    def csv(self) -> str:
        return as_csv(self.header, self.rows)

    def write(self, folder: Path) -> list[Path]:
        """Write NAME.svg, NAME.png and NAME.csv, beside and renamed."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for ending, content in (
            ("svg", self.svg.encode()),
            ("png", self.png),
            ("csv", self.csv.encode()),
        ):
            path = folder / f"{self.name}.{ending}"
            partial = path.with_name(path.name + ".partial")
            partial.write_bytes(content)
            partial.replace(path)
            written.append(path)
        return written


def as_csv(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table as CSV, numbers in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def make_chart(
    name: str,
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    draw: Callable[[Figure], None],
    *,
    size: tuple[float, float],
) -> Chart:
    """A chart of any sequences."""
    return Chart(name, caption, tuple(header), tuple(tuple(row) for row in rows), draw, size)


def legend(axes: Axes) -> None:
    """Beside the axes: a legend inside hides curves that saturate."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, handlelength=3.2)
