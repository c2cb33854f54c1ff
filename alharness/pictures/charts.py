"""What every figure is made of: a chart with its numbers, drawn when asked for, in one style.

Colours are told apart by people who do not see red and green alike (Okabe and Ito), and line styles
with markers by everybody on a grey print-out.
"""

from __future__ import annotations

import csv
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from alharness.errors import UserError
from alharness.files import beside
from alharness.pictures.canvas import (
    Axes,
    Axis,
    Figure,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    new_figure,
    style,
)

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
    "text.parse_math": False,  # a name may hold dollar signs; nothing here is a formula
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
    "pdf.fonttype": 42,  # letters that a publisher's tools can read
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
        # Neither date nor version: the same numbers give the same bytes.
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
        with style(STYLE), warnings.catch_warnings():
            # A name in a script that the font lacks is drawn as boxes; the numbers have it whole.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure = new_figure(*self.size)
            self.draw(figure)
            target = io.BytesIO()
            figure.savefig(target, format=kind, **options)
        return target.getvalue()

    @property
    def csv(self) -> str:
        return as_csv(self.header, self.rows)

    def __repr__(self) -> str:
        """What a prompt shows; the numbers would fill its screen."""
        return f"<figure '{self.name}': {self.caption} Write it with .save('{self.name}.pdf')>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.svg

    def _repr_png_(self) -> bytes:
        """What a notebook becomes in print, and where SVG is not shown."""
        return self.png

    def save(self, path: Path | str) -> Path:
        """Write one file; its ending says what: .pdf, .svg, .png or .csv (the numbers).

        Raises:
            UserError: another ending, or a file that cannot be written.
        """
        path = Path(path).expanduser()
        kind = path.suffix.lower().removeprefix(".")
        made: dict[str, Callable[[], bytes]] = {
            "pdf": lambda: self._drawn("pdf", metadata={"CreationDate": None, "Producer": None}),
            "svg": lambda: self._drawn("svg", metadata={"Date": None, "Creator": None}),
            "png": lambda: self._drawn("png", dpi=300),
            "csv": self.csv.encode,
        }
        if kind not in made:
            raise UserError(f"A figure is a .pdf, .svg, .png or .csv file; found '{path}'.")
        with beside(path) as partial:
            partial.write_bytes(made[kind]())
        return path

    def write(self, folder: Path) -> list[Path]:
        """Write NAME.svg, NAME.png and NAME.csv, beside and renamed."""
        written = []
        for ending, content in (
            ("svg", self.svg.encode()),
            ("png", self.png),
            ("csv", self.csv.encode()),
        ):
            path = folder / f"{self.name}.{ending}"
            with beside(path) as partial:
                partial.write_bytes(content)
            written.append(path)
        return written


def as_csv(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table as CSV, numbers in full precision; what is not defined (NaN) is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(
        ["" if isinstance(cell, float) and cell != cell else cell for cell in row] for row in rows
    )
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


#: Marks the labels that ``legend`` shows: matplotlib leaves out names that begin with an underscore.
_SHOWN = "="

#: Longest name inside a picture; its CSV has the whole of it.
LONGEST = 42


def entry(name: str) -> str:
    """The label of what is to stand in the legend, whatever its name is made of."""
    return _SHOWN + name


def legend(axes: Axes, **place: Any) -> None:
    """All that was labelled by ``entry``, beside the axes: a legend inside hides curves that saturate."""
    outside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    handles, labels = axes.get_legend_handles_labels()
    found = [(h, name) for h, name in zip(handles, labels, strict=True) if name[:1] == _SHOWN]
    if not found:
        return
    options = {**(place or {**outside, "borderaxespad": 0.0}), "handlelength": 3.2}
    made = axes.legend(
        [handle for handle, _ in found], [str(i) for i in range(len(found))], **options
    )
    for text, (_, name) in zip(made.get_texts(), found, strict=True):
        text.set_text("\n".join(short(line) for line in name[1:].split("\n")))


def short(name: str, longest: int = LONGEST) -> str:
    """A name on one line that leaves room for the picture: of a long one, beginning and end."""
    line = "".join(c if c.isprintable() else " " for c in name)
    if len(line) <= longest:
        return line
    end = longest // 2
    return f"{line[: longest - end - 1]}…{line[-end:]}"


def name_bars(axes: Axes, names: Sequence[str]) -> None:
    """Names beside horizontal bars at 0, 1, ...: two of equal sound stay two bars."""
    axes.set_yticks(range(len(names)), [short(name) for name in names])


#: Told apart without colour: by the pattern of a bar.
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "ooo", "---", "+++")


def stacked_bars(
    axes: Axes,
    labels: Sequence[str],
    lengths: Mapping[str, Sequence[float]],
    *,
    colours: Sequence[Any] | None = None,
) -> list[float]:
    """Horizontal bars made of parts, with their names and a legend.

    Args:
        labels: one for each bar, from below.
        lengths: name of a part -> its length in each bar.
        colours: of the parts, without patterns; the palette with patterns by default.

    Returns:
        length of each bar.
    """
    left = [0.0] * len(labels)
    for i, (name, widths) in enumerate(lengths.items()):
        axes.barh(
            range(len(labels)), widths, left=left, label=entry(name), edgecolor="white", linewidth=0.4,
            color=COLOURS[i % len(COLOURS)] if colours is None else colours[i],
            hatch=HATCHES[i % len(HATCHES)] if colours is None else "",
        )  # fmt: skip
        left = [start + width for start, width in zip(left, widths, strict=True)]
    name_bars(axes, labels)
    axes.grid(axis="y", visible=False)
    legend(axes)
    return left


def logarithmic(axes: Axes, *which: Literal["x", "y"]) -> None:
    """Logarithmic axes, once all is drawn: few plain ticks, the more to a decade the fewer there are."""
    for name in which:
        axes.set(**{f"{name}scale": "log"})
        axis: Axis = getattr(axes, f"{name}axis")
        low, high = axis.get_data_interval()
        decades = math.log10(high / low) if 0 < low < high else 0.0
        subs = (1.0, 2.0, 5.0) if decades < 1.5 else (1.0, 3.0) if decades < 3 else (1.0,)
        axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=8))
        axis.set_major_formatter(FuncFormatter(lambda value, place: plain_number(value)))
        axis.set_minor_formatter(NullFormatter())


def plain_number(value: float) -> str:
    """``0.003``, ``50``, ``30,000``, ``10⁶``: a tick without a formula."""
    exponent = round(math.log10(value)) if value > 0 else 0
    if value > 0 and not -4 < exponent < 6:
        factor = value / 10.0**exponent
        raised = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"10{raised}" if abs(factor - 1) < 1e-9 else f"{factor:.3g}·10{raised}"
    return f"{value:,.10g}"
