"""One self-contained HTML file from a report, with figures and tables beside it as files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from alharness import __version__
from alharness.comparison.formats import sections_csv
from alharness.comparison.report import Report
from alharness.files import write_json, write_text
from alharness.pictures.charts import Chart, as_csv


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
    # Points become pixels: 72 to 96 to the inch.
    width = re.search(r'viewBox="0 0 ([\d.]+)', chart.svg)
    natural = f"{float(width[1]) * 4 / 3:.0f}px" if width else "100%"
    style = f'style="max-width:{natural};--natural:{natural}"'
    return text.replace("<svg", f'<svg role="img" aria-label="{chart.name}" {style}', 1)


def write(report: Report, folder: Path) -> Path:
    """Write ``report.html``, ``figures/`` and ``tables/``; returns the page's path.

    Raises:
        UserError: the system refuses to write there.
    """
    folders = safe_names([section.comparison.title for section in report.sections])
    for section, name in zip(report.sections, folders, strict=True):
        sub = name if len(report.sections) > 1 else ""
        for chart in section.charts:
            chart.write(folder / "figures" / sub)
        write_text(folder / "tables" / sub / "figures_of_merit.csv", sections_csv([section]))
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
        write_json(folder / "claims.json", [verdict.as_dict() for verdict in report.claims])
    page = folder / "report.html"
    write_text(page, render(report))
    return page


#: Longest name of a comparison's folder; file systems allow 255 bytes.
LONGEST = 80


def safe_names(titles: Sequence[str]) -> list[str]:
    """A folder's name for every title: readable, safe on any system, and no two alike.

    What is the same once made safe (``a b`` and ``a-b``), too long or empty has a digest of its title.
    """
    plain = [
        "".join(c if c.isalnum() or c in "._-" else "-" for c in t).strip("-.") for t in titles
    ]
    folded = [name.casefold() for name in plain]  # some systems do not tell A from a
    names = []
    for title, name, alike in zip(titles, plain, folded, strict=True):
        if name and folded.count(alike) == 1 and len(name.encode()) <= LONGEST:
            names.append(name)
            continue
        digest = hashlib.sha256(title.encode()).hexdigest()[:8]
        kept = name.encode()[: LONGEST - 9].decode(errors="ignore")
        names.append(f"{kept}-{digest}" if kept else digest)
    return names
