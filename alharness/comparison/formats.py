"""A comparison as text: columns for a terminal, CSV, Markdown, LaTeX and JSON.

All show the same report. Names are escaped by the rules of each format; JSON and CSV have numbers in full
precision and nothing where a number does not exist.
"""

from __future__ import annotations

import json
import math
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alharness.comparison.metrics import MERITS
from alharness.comparison.report import Report, Section
from alharness.comparison.tables import Table
from alharness.errors import UserError, unknown_name
from alharness.pictures.charts import Cell, as_csv
from alharness.records.metrics import METRICS

#: Tables that a comparison in text shows.
SHOWN = ("results", "labels_to_target", "tests", "left_out")

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
    lines = _wrapped(report.status, "", width)
    for section in report.sections:
        lines += ["", *_wrapped(section.comparison.title, "", width)]
        for text in section.warnings:
            lines += _wrapped(text, "  ! ", width)
        for table in _shown(section):
            lines += ["", *_columns(table, width)]
        if section.sentences:
            lines.append("")
        for text in section.sentences:
            lines += _wrapped(text, "  ", width)
    for item in report.across:
        lines += ["", *_wrapped(item.caption, "", width)]
    return "\n".join(lines) + "\n"


def merit_csv(report: Report) -> str:
    """All figures of merit of all comparisons in full precision, one line per strategy."""
    return sections_csv(report.sections)


def sections_csv(sections: Sequence[Section]) -> str:
    """The same of some comparisons."""
    header = ["comparison", "strategy", *MERITS]
    lines: list[list[Cell]] = []
    for section in sections:
        for row in section.rows:
            values = row.values()
            lines.append([section.comparison.title, *(values[name] for name in header[1:])])
    return as_csv(header, lines)


def as_markdown(report: Report) -> str:
    """Tables as README files and issues show them."""
    lines = [f"# {_md(report.heading)}", "", _md(report.status)]
    for section in report.sections:
        lines += ["", f"## {_md(section.comparison.title)}"]
        if section.warnings:
            lines += ["", *(f"- {_md(text)}" for text in section.warnings)]
        for table in _shown(section):
            rule = ["---" if i < _n_names(table) else "---:" for i in range(len(table.header))]
            lines += ["", _md(table.caption), ""]
            lines += [f"| {' | '.join(map(_md, table.header))} |", f"| {' | '.join(rule)} |"]
            lines += [f"| {' | '.join(map(_md, row))} |" for row in table.rows]
        if section.sentences:
            lines += ["", *(f"- {_md(text)}" for text in section.sentences)]
    return "\n".join(lines) + "\n"


def as_latex(report: Report) -> str:
    """Tables for a paper, with booktabs; what they are to be read with stands in comments."""
    lines = [f"% {_line(report.heading)}: {report.status}", "% needs \\usepackage{booktabs}"]
    for section in report.sections:
        if section.warnings:
            lines += ["", *(f"% {_line(text)}" for text in section.warnings)]
        for table in _shown(section):
            n_names = _n_names(table)
            columns = "l" * n_names + "r" * (len(table.header) - n_names)
            caption = f"{section.comparison.title}: {table.caption}"
            lines += [
                "",
                "\\begin{table}",
                "  \\centering",
                f"  \\caption{{{_tex(caption)}}}",
                f"  \\begin{{tabular}}{{{columns}}}",
                "    \\toprule",
                f"    {' & '.join(map(_tex, table.header))} \\\\",
                "    \\midrule",
                *(f"    {' & '.join(map(_tex, row))} \\\\" for row in table.rows),
                "    \\bottomrule",
                "  \\end{tabular}",
                "\\end{table}",
            ]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """Everything for programs; what does not exist is null, what never happens ``"inf"``."""
    own = METRICS[report.metric].better
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
                "task": section.comparison.task,
                "facts": dict(section.facts),
                "bound": _plain(section.comparison.bound(report.metric)),
                "warnings": list(section.warnings),
                "sentences": list(section.sentences),
                "strategies": [
                    {"strategy": row.label, **{k: _plain(v) for k, v in row.merits.items()}}
                    for row in section.rows
                ],
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


def _shown(section: Section) -> Iterable[Table]:
    return (table for table in section.tables if table.name in SHOWN)


def _n_names(table: Table) -> int:
    """Columns at the left that hold words."""
    if table.name == "left_out":
        return len(table.header)
    return 2 if table.header[0] == "rank" else 1


def _columns(table: Table, width: int | None = None) -> list[str]:
    """The caption and the table; on a narrow terminal in pieces that fit, each with the names."""
    rows = [[_line(cell) for cell in row] for row in [table.header, *table.rows]]
    lines = _wrapped(table.caption, "  ", width)
    widths = [max(_width(row[i]) for row in rows) for i in range(len(table.header))]
    if width is None or _total(widths) <= width:
        return [*lines, *_aligned(rows, widths, _n_names(table))]
    if _n_names(table) == len(table.header):  # words only
        for row in rows[1:]:
            lines += _wrapped(": ".join(row), "  ", width)
        return lines
    names = list(range(_n_names(table)))
    heads = [_words(cell, rows[1:], i) for i, cell in enumerate(rows[0])]
    widths = [
        max(_width(cell) for cell in (*head, *(row[i] for row in rows[1:])))
        for i, head in enumerate(heads)
    ]
    figures = [i for i in range(len(heads)) if i not in names]
    while figures:
        n = 1
        while n < len(figures) and _total([widths[i] for i in names + figures[: n + 1]]) <= width:
            n += 1
        piece, figures = names + figures[:n], figures[n:]
        height = max(len(heads[i]) for i in piece)
        above = [[*[""] * (height - len(heads[i])), *heads[i]] for i in piece]
        body = [[row[i] for i in piece] for row in rows[1:]]
        lines += _aligned(
            [*map(list, zip(*above, strict=True)), *body], [widths[i] for i in piece], len(names)
        )
        lines += [""] if figures else []
    return lines


def _total(widths: Sequence[int]) -> int:
    """Columns of a terminal that a line of such cells takes."""
    return 2 + sum(widths) + 2 * (len(widths) - 1)


def _words(head: str, rows: Sequence[Sequence[str]], column: int) -> list[str]:
    """A column's head in lines no wider than its cells, where its words allow that."""
    widest = max((_width(row[column]) for row in rows), default=0)
    room = max(widest, 8)
    return textwrap.wrap(head, room, break_long_words=False, break_on_hyphens=False) or [""]


def _aligned(rows: Sequence[Sequence[str]], widths: Sequence[int], n_names: int) -> list[str]:
    """Lines of cells: names to the left, figures to the right."""
    lines = []
    for row in rows:
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            cells.append(cell + space if i < n_names else space + cell)
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def _wrapped(text: str, before: str, width: int | None) -> list[str]:
    """A sentence after ``before``, in lines that fit the terminal."""
    line = _line(text)
    if width is None:
        return [before + line]
    return textwrap.wrap(
        line, max(width, 40), initial_indent=before, subsequent_indent=" " * len(before),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _width(text: str) -> int:
    """Columns of a terminal: signs of East Asia take two, accents that combine none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _line(text: str) -> str:
    """On one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _md(text: str) -> str:
    escaped = "".join(f"\\{c}" if c in "\\`*_[]|#$~" else c for c in _line(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


_TEX = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}",
    "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}",
    "–": "--", **{c: f"\\{c}" for c in "&%$#_{}"},
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in _line(text))


def _plain(value: float | None) -> Any:
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
