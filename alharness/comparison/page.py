"""One self-contained HTML file from a report, with figures and tables beside it as files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from alharness import __version__
from alharness.comparison.metrics import Row
from alharness.comparison.report import Report, Section
from alharness.files import write_text
from alharness.pictures.charts import Cell, Chart, as_csv


def render(report: Report) -> str:
    """The report as one HTML page without any reference to the outside."""
    environment = Environment(
        loader=PackageLoader("alharness.comparison"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = lambda chart: Markup(_labelled_svg(chart))
    return environment.get_template("report.html.jinja").render(report=report, version=__version__)


def _labelled_svg(chart: Chart) -> str:
    """The picture with a name for screen readers; it scales with the page."""
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", chart.svg, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    width = re.search(r'viewBox="0 0 ([\d.]+)', chart.svg)
    style = f'style="max-width:{float(width[1]) * 4 / 3:.0f}px"' if width else ""
    return text.replace("<svg", f'<svg role="img" aria-label="{chart.name}" {style}', 1)


def write(report: Report, folder: Path) -> Path:
    """Write ``report.html``, ``figures/`` and ``tables/``; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for section in report.sections:
        sub = _safe(section.comparison.title) if len(report.sections) > 1 else ""
        for chart in section.charts:
            chart.write(folder / "figures" / sub)
        write_text(folder / "tables" / sub / "figures_of_merit.csv", merit_csv([section]))
        for table in section.tables:
            write_text(
                folder / "tables" / sub / f"{table.name}.csv", as_csv(table.header, table.rows)
            )
    for item in report.across:
        if isinstance(item, Chart):
            item.write(folder / "figures")
        else:
            write_text(folder / "tables" / f"{item.name}.csv", as_csv(item.header, item.rows))
    if report.claims:
        write_text(
            folder / "claims.json",
            json.dumps(
                [verdict.as_dict() for verdict in report.claims], indent=2, ensure_ascii=False
            )
            + "\n",
        )
    page = folder / "report.html"
    write_text(page, render(report))
    return page


def merit_csv(sections: Sequence[Section]) -> str:
    """All figures of merit of all comparisons in full precision, one line per strategy."""
    header = ["comparison", *Row.columns()]
    lines: list[list[Cell]] = []
    for section in sections:
        for row in section.rows:
            values = row.values()
            lines.append([section.comparison.title, *(values[name] for name in header[1:])])
    return as_csv(header, lines)


def _safe(title: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in title).strip("-.")
