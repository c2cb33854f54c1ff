"""The table at chosen numbers of labels as text: for a terminal, Markdown, LaTeX (one float), CSV, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from alharness.comparison.formats import (
    columns_of,
    md,
    md_table,
    on_one_line,
    plain,
    tex,
    tex_row,
    tex_table,
    wrapped,
)
from alharness.comparison.levels import ALPHA
from alharness.comparison.points import Point, Points
from alharness.comparison.tables import TextTable
from alharness.pictures.charts import Cell, as_csv
from alharness.records.metrics import AXES

#: What stands in the first column for the fully supervised classifier.
ALL_LABELS = "all labels (bound)"

#: One line of CSV: everything of one point.
COLUMNS = (
    "comparison", "metric", "axis", "strategy", "at", "runs", "mean", "deviation", "best",
    "reference", "pairs", "difference", "difference_low", "difference_high", "p", "p_holm", "mark",
)  # fmt: skip


def as_table(parts: Sequence[Points], status: str, width: int | None = None) -> str:
    """Columns for a terminal, a block for each data set; ``*`` marks the best mean of a column."""
    lines = wrapped(status, "", width)
    for part in parts:
        lines += ["", *wrapped(part.title, "", width)]
        lines += wrapped(part.headline, "  ", width) if part.headline else []
        for text in part.remarks:
            lines += wrapped(text, "  ! ", width)
        lines += ["", *columns_of(shown(part), width)]
    return "\n".join(lines) + "\n"


def shown(part: Points) -> TextTable:
    """One data set's part as cells; the best mean of a column between stars."""
    cells = [
        (label, *(_cell(point, "*{}*", "{}") for point in row)) for label, row in part.rows.items()
    ]
    if part.bound is not None:
        cells.append((ALL_LABELS, f"{part.bound:.3f}", *[""] * (len(part.at) - 1)))
    header = ("strategy", *(f"{at:.12g}" for at in part.at))
    return TextTable("points", legend([part], best="*stars*"), header, tuple(cells))


def as_markdown(parts: Sequence[Points], status: str) -> str:
    """One table for all data sets, best means bold."""
    lines = [md(status), ""]
    for part in parts:
        lines += [f"- **{md(part.title)}**: {md(part.headline)}"] if part.headline else []
        lines += [f"- {md(part.title)}: {md(text)}" for text in part.remarks]
    header = ["strategy", *(f"{part.title}, {at:.12g}" for part in parts for at in part.at)]
    # Behind the escaping: these stars are the only ones that mean something.
    lines += ["", md(legend(parts, best="bold")).replace("bold", "**bold**", 1), ""]
    rows = [
        [
            md(label),
            *(_cell(point, "**{}**", "{}") for part in parts for point in _row(part, label)),
        ]
        for label in _labels(parts)
    ]
    if any(part.bound is not None for part in parts):
        cells = [_bound(part) if i == 0 else "" for part in parts for i in range(len(part.at))]
        rows.append([ALL_LABELS, *cells])
    lines += md_table(map(md, header), rows, 1)
    return "\n".join(lines) + "\n"


def as_latex(parts: Sequence[Points], status: str) -> str:
    """One float for all data sets, with booktabs; what it is to be read with stands in comments."""
    lines = [f"% {on_one_line(status)}", "% needs \\usepackage{booktabs}"]
    for part in parts:
        said = [text for text in (part.headline, *part.remarks) if text]
        lines += [f"% {on_one_line(f'{part.title}: {text}')}" for text in said]
    groups, rules, place = [], [], 2
    for part in parts:
        n = len(part.at)
        groups.append(f"\\multicolumn{{{n}}}{{c}}{{{tex(part.title)}}}")
        rules.append(f"\\cmidrule(lr){{{place}-{place + n - 1}}}")
        place += n
    header = [tex(_axis_words(parts)), *(f"{at:.12g}" for part in parts for at in part.at)]
    # Behind the escaping, which would take these dollars for text.
    caption = tex(legend(parts, best="bold")).replace("+/-", "$^{+}$/$^{-}$", 1)
    body = [
        tex_row([tex(label), *(_tex_cell(point) for part in parts for point in _row(part, label))])
        for label in _labels(parts)
    ]
    if any(part.bound is not None for part in parts):
        cells = [f"\\multicolumn{{{len(part.at)}}}{{c}}{{{tex(_bound(part))}}}" for part in parts]
        body += ["\\midrule", tex_row([ALL_LABELS, *cells])]
    head = [f"& {tex_row(groups)}", " ".join(rules), tex_row(header)]
    lines += tex_table(caption, f"l{'r' * (place - 2)}", head, body)
    return "\n".join(lines) + "\n"


def as_rows(parts: Sequence[Points]) -> list[tuple[Any, ...]]:
    """One row per point, with ``COLUMNS``; NaN where there is no number."""
    rows = []
    for part in parts:
        for row in part.rows.values():
            for point in row:
                test = point.test
                tested = (
                    (test.n, test.mean, test.low, test.high, _nan(test.p), _nan(test.p_holm))
                    if test is not None
                    else (0, *[float("nan")] * 5)
                )
                rows.append(
                    (
                        part.title, part.metric, part.axis, point.strategy, point.at, point.runs,
                        point.mean, point.deviation, point.best, part.reference, *tested, point.mark,
                    )
                )  # fmt: skip
    return rows


def as_points_csv(parts: Sequence[Points], status: str) -> str:
    """Everything in full precision, one line per data set, strategy and number of labels."""
    lines: list[list[Cell]] = [
        ["" if isinstance(v, float) and math.isnan(v) else v for v in row] for row in as_rows(parts)
    ]
    return as_csv(COLUMNS, lines)


def as_json(parts: Sequence[Points], status: str) -> str:
    """Everything for programs; what does not exist is null."""
    content = {
        "status": status,
        "comparisons": [
            {
                "title": part.title,
                "metric": part.metric,
                "axis": part.axis,
                "at": list(part.at),
                "headline": part.headline,
                "remarks": list(part.remarks),
                "reference": part.reference or None,
                "comparisons_corrected_for": part.n_tests,
                "bound": plain(part.bound),
                "points": [
                    {
                        key: plain(value) if isinstance(value, float) else value
                        for key, value in zip(COLUMNS[3:], row[3:], strict=True)
                    }
                    for row in as_rows([part])
                ],
            }
            for part in parts
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


#: What ``alharness compare --at ... --format`` may be.
FORMATS: Mapping[str, Callable[[Sequence[Points], str], str]] = {
    "table": as_table,
    "csv": as_points_csv,
    "md": as_markdown,
    "latex": as_latex,
    "json": as_json,
}


def legend(parts: Sequence[Points], *, best: str) -> str:
    """What the cells are, for a caption."""
    words = list(dict.fromkeys(part.words for part in parts))
    # A cell without a run says nothing of how many seeds there were.
    runs = sorted(
        {point.runs for part in parts for row in part.rows.values() for point in row} - {0}
    )
    seeds = f"{runs[0]} to {runs[-1]} seeds" if len(runs) > 1 else _seeds(runs[0] if runs else 0)
    what = f"{' / '.join(words)} by {_axis_words(parts)}, mean ± standard deviation over {seeds}"
    told = [what[:1].upper() + what[1:], f"{best}: best mean of a column"]
    references = list(dict.fromkeys(part.reference for part in parts if part.reference))
    tests = sorted({part.n_tests for part in parts if part.n_tests})
    if references and tests:
        n = str(tests[0]) if len(tests) == 1 else f"{tests[0]} to {tests[-1]}"
        many = "comparison" if tests[-1] == 1 else "comparisons"
        told.append(
            f"+/-: significantly above/below {' / '.join(references)} on paired seeds (exact Wilcoxon test, "
            f"p at most {ALPHA:g} by Holm's correction over the {n} {many} of a column)"
        )
    return "; ".join(told)


def _seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds"


def _axis_words(parts: Sequence[Points]) -> str:
    return AXES[parts[0].axis][1] if parts else ""


def _labels(parts: Sequence[Points]) -> list[str]:
    """All strategies: the references first, then in the order of the data sets."""
    references = [part.reference for part in parts if part.reference]
    rest = sorted({label for part in parts for label in part.rows} - set(references))
    return [*dict.fromkeys(references), *rest]


def _row(part: Points, label: str) -> Sequence[Point | None]:
    return part.rows.get(label, [None] * len(part.at))


def _bound(part: Points) -> str:
    return "–" if part.bound is None else f"{part.bound:.3f}"


def _number(point: Point) -> str:
    spread = "" if math.isnan(point.deviation) else f" ± {point.deviation:.3f}"
    return f"{point.mean:.3f}{spread}"


def _cell(point: Point | None, best: str, other: str) -> str:
    if point is None or not point.runs:
        return "–"
    told = (best if point.best else other).format(_number(point))
    return f"{told} {point.mark}".rstrip()


def _tex_cell(point: Point | None) -> str:
    if point is None or not point.runs:
        return "--"
    mean = f"{point.mean:.3f}"
    mean = f"\\textbf{{{mean}}}" if point.best else mean
    spread = "" if math.isnan(point.deviation) else f" $\\pm$ {point.deviation:.3f}"
    return f"{mean}{spread}" + (f"$^{{{point.mark}}}$" if point.mark else "")


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
