"""A comparison as text: columns for a terminal, CSV, Markdown, LaTeX and JSON.

All show the same report. Names are escaped by the rules of each format; JSON and CSV have numbers in full
precision and nothing where a number does not exist.
"""

from __future__ import annotations

import io
import json
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import rich.table
import rich.text
from rich.cells import cell_len
from rich.console import Console

from alharness.comparison.metrics import MERITS
from alharness.comparison.report import Report, Section
from alharness.comparison.tables import TextTable, number
from alharness.errors import UserError, unknown_name
from alharness.pictures.charts import Cell, Chart, as_csv
from alharness.records.metrics import METRICS

#: Tables that a comparison in text shows.
SHOWN = ("results", "labels_to_target", "stopping", "tests", "over_generators", "left_out")

#: Head of a column that belongs to the one before it.
INTERVAL = "95 % interval"

#: Ending of a file -> format.
ENDINGS = {".txt": "table", ".csv": "csv", ".md": "md", ".tex": "latex", ".json": "json"}


def format_of(path: Path | None, chosen: str | None) -> str:
    """The format that was chosen, else the one that a file's ending tells.

    Raises:
        UserError: an ending that tells none, or a format that does not exist.
    """
    if chosen is not None:
        if chosen not in FORMATS:
            raise unknown_name("format", chosen, FORMATS)
        return chosen
    if path is None:
        return "table"
    if path.suffix.lower() not in ENDINGS:
        raise UserError(
            f"The ending of '{path}' tells no format. Expected one of {', '.join(ENDINGS)}, or "
            f"--format with one of {', '.join(FORMATS)}."
        )
    return ENDINGS[path.suffix.lower()]


def as_table(report: Report, width: int | None = None) -> str:
    """Plain columns.

    Args:
        width: of a terminal, which the lines are made to fit; None: a line for each row and sentence,
            however long, as a file or a pipe gets them.
    """
    lines = wrapped(report.status, "", width)
    for section in report.sections:
        lines += ["", *wrapped(section.comparison.title, "", width)]
        lines += wrapped(section.headline, "  ", width) if section.headline else []
        for text in section.warnings:
            lines += wrapped(text, "  ! ", width)
        for table in _shown(section):
            lines += ["", *columns_of(table, width)]
        if section.sentences:
            lines.append("")
        for text in section.sentences:
            lines += wrapped(text, "  ", width)
    for table in _ranks(report):
        lines += ["", *columns_of(table, width)]
    return "\n".join(lines) + "\n"


def merit_csv(report: Report) -> str:
    """All figures of merit of all comparisons in full precision, one line per strategy."""
    return sections_csv(report.sections)


def sections_csv(sections: Sequence[Section]) -> str:
    """The same of some comparisons."""
    names = ["strategy", *MERITS]
    header = ["comparison", *names, "average_precision_of", "metric"]
    lines: list[list[Cell]] = []
    for section in sections:
        for row in section.rows:
            values = row.values()
            of = section.comparison.precision_of
            own = [*(values[name] for name in names), of, section.metric]
            lines.append([section.comparison.title, *own])
    return as_csv(header, lines)


def as_markdown(report: Report) -> str:
    """Tables as README files and issues show them."""
    lines = [f"# {md(report.heading)}", "", md(report.status)]
    for section in report.sections:
        lines += ["", f"## {md(section.comparison.title)}"]
        lines += ["", f"**{md(section.headline)}**"] if section.headline else []
        if section.warnings:
            lines += ["", *(f"- {md(text)}" for text in section.warnings)]
        for table in _shown(section):
            rows = [map(md, row) for row in table.rows]
            lines += ["", md(table.caption), ""]
            lines += md_table(map(md, table.header), rows, _n_names(table))
        if section.sentences:
            lines += ["", *(f"- {md(text)}" for text in section.sentences)]
    for table in _ranks(report):
        lines += ["", "## All data sets", "", md(table.caption), ""]
        lines += md_table(map(md, table.header), [map(md, row) for row in table.rows], 1)
    return "\n".join(lines) + "\n"


def as_latex(report: Report) -> str:
    """Tables for a paper, with booktabs; what they are to be read with stands in comments."""
    lines = [f"% {on_one_line(report.heading)}: {report.status}", "% needs \\usepackage{booktabs}"]
    for section in report.sections:
        said = [text for text in (section.headline, *section.warnings) if text]
        lines += ["", *(f"% {on_one_line(text)}" for text in said)] if said else []
        for table in _shown(section):
            n_names = _n_names(table)
            columns = "l" * n_names + "r" * (len(table.header) - n_names)
            caption = tex(f"{section.comparison.title}: {table.caption}")
            rows = [tex_row(map(tex, row)) for row in table.rows]
            lines += tex_table(caption, columns, [tex_row(map(tex, table.header))], rows)
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """Everything for programs; what does not exist is null, what never happens ``"inf"``."""
    kinds = {METRICS[section.metric].better for section in report.sections}
    own = kinds.pop() if len(kinds) == 1 else "more"
    content = {
        "heading": report.heading,
        "status": report.status,
        "complete": report.complete,
        "axis": report.axis,
        "metric": report.metric,
        "columns": {
            name: {
                "description": merit.description,
                "better": own if merit.better == "as the metric" else merit.better,
            }
            for name, merit in MERITS.items()
        },
        "comparisons": [
            {
                "title": section.comparison.title,
                "metric": section.metric,
                "headline": section.headline,
                "task": section.comparison.task,
                "facts": dict(section.facts),
                "average_precision_of": section.comparison.precision_of or None,
                "bound": plain(section.comparison.bound(section.metric)),
                "warnings": list(section.warnings),
                "sentences": list(section.sentences),
                "strategies": [
                    {"strategy": row.label, **{k: plain(v) for k, v in row.merits.items()}}
                    for row in section.rows
                ],
                **(
                    {"stopping": [item.as_dict() for item in section.stopping.judged]}
                    if section.stopping.judged
                    else {}
                ),
                "left_out": [vars(item) for item in section.comparison.left_out],
            }
            for section in report.sections
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


#: What ``alharness compare --format`` may be.
FORMATS: Mapping[str, Callable[[Report], str]] = {
    "table": as_table,
    "csv": merit_csv,
    "md": as_markdown,
    "latex": as_latex,
    "json": as_json,
}


def _shown(section: Section) -> Iterable[TextTable]:
    return (table for table in section.tables if table.name in SHOWN)


def _ranks(report: Report) -> Iterable[TextTable]:
    """The mean ranks over data sets, which a page draws; nothing where there are too few of them."""
    for item in report.across:
        if isinstance(item, Chart):
            rows = tuple((str(name), number(float(rank), 2)) for name, rank in item.rows)
            caption = item.caption.replace("joined by a bar", "joined by a bar in the report")
            yield TextTable("mean_ranks", caption, ("strategy", "mean rank"), rows)


def _n_names(table: TextTable) -> int:
    """Columns at the left that hold words."""
    if table.name == "left_out":
        return len(table.header)
    return 2 if table.header[0] == "rank" or table.name == "stopping" else 1


def columns_of(table: TextTable, width: int | None = None) -> list[str]:
    """The caption and the table; on a narrow terminal in pieces that fit, each with the names."""
    n_names = _n_names(table)
    lines = wrapped(table.caption, "  ", width)
    rest = list(range(n_names, len(table.header)))
    if width is not None and not rest and _measured(table, range(n_names), width) > width:
        for row in table.rows:  # words only: a sentence each
            lines += wrapped(": ".join(row), "  ", width)
        return lines
    names = [*range(n_names)]
    while True:
        n = len(rest)
        # A column of figures is never folded: what does not fit goes into a piece of its own below.
        while width is not None and n > 1 and _measured(table, names + rest[:n], width) > width:
            n -= 1
        # An interval stands beside its mean.
        n -= n > 1 and n < len(rest) and table.header[rest[n]] == INTERVAL
        lines += _drawn(table, names + rest[:n], width)
        rest = rest[n:]
        if not rest:
            return lines
        lines.append("")


def _drawn(table: TextTable, columns: Sequence[int], width: int | None) -> list[str]:
    """Some columns of a table as lines: names to the left, figures to the right."""
    grid = rich.table.Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="none")
    for i in columns:
        cells = [on_one_line(row[i]) for row in table.rows]
        head = on_one_line(table.header[i])
        if (
            width is not None
        ):  # a head is folded to the width of its cells, where its words allow that
            head = _folded(head, max(8, *map(cell_len, cells)))
        left: Literal["left", "right"] = "left" if i < _n_names(table) else "right"
        grid.add_column(rich.text.Text(head), justify=left, no_wrap=True, vertical="bottom")
    for row in table.rows:
        grid.add_row(*(rich.text.Text(on_one_line(row[i])) for i in columns))
    console = Console(width=100_000, color_system=None, file=io.StringIO(), highlight=False)
    with console.capture() as capture:
        console.print(grid)
    return [f"  {line.rstrip()}" for line in capture.get().splitlines()]


#: Lines of a folded head: words one below the other are no heading that anybody reads.
HEAD_LINES = 3


def _folded(head: str, room: int) -> str:
    """A head in as few columns as its words allow on three lines, and no fewer than ``room``."""
    while True:
        lines = textwrap.wrap(head, room, break_long_words=False, break_on_hyphens=False)
        if len(lines) <= HEAD_LINES:
            return "\n".join(lines)
        room += 1


def _measured(table: TextTable, columns: Sequence[int], width: int) -> int:
    """Columns of a terminal that some columns of a table take."""
    return max(map(cell_len, _drawn(table, columns, width)), default=0)


def wrapped(text: str, before: str, width: int | None) -> list[str]:
    """A sentence after ``before``, in lines that fit the terminal."""
    line = on_one_line(text)
    if width is None:
        return [before + line]
    return textwrap.wrap(
        line, max(width, 40), initial_indent=before, subsequent_indent=" " * len(before),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def on_one_line(text: str) -> str:
    """On one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def md_table(header: Iterable[str], rows: Iterable[Iterable[str]], n_names: int) -> list[str]:
    """A table of Markdown from cells that are escaped; the first ``n_names`` columns hold words."""
    head = list(header)
    rule = ["---" if i < n_names else "---:" for i in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def tex_row(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def tex_table(caption: str, columns: str, head: Sequence[str], body: Sequence[str]) -> list[str]:
    """A float of LaTeX with booktabs, from lines that are escaped."""
    return [
        "",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{caption}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        *(f"    {line}" for line in ("\\toprule", *head, "\\midrule", *body, "\\bottomrule")),
        "  \\end{tabular}",
        "\\end{table}",
    ]


def md(text: str) -> str:
    escaped = "".join(f"\\{c}" if c in "\\`*_[]|#$~" else c for c in on_one_line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


_TEX = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
    "–": "--", "±": "$\\pm$", **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


def tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in on_one_line(text))


def plain(value: float | None) -> Any:
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
