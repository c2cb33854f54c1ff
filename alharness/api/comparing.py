"""``alharness.compare``: finished runs beside each other, with the tables of the command."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alharness.api.running import AnyPath, RunResult, places_of
from alharness.errors import UserError, unknown_name

if TYPE_CHECKING:
    from pandas import DataFrame

    from alharness.comparison.comparison import Comparison
    from alharness.comparison.points import Points
    from alharness.comparison.report import Report
    from alharness.comparison.tables import TextTable
    from alharness.executors.targets import Found
    from alharness.pictures.charts import Chart
    from alharness.records import Run
    from alharness.stopping import NamedRule

LOG = logging.getLogger("alharness")


class Tables(ABC):
    """Tables in every format that ``alharness compare`` writes; ``print`` shows them as a terminal does."""

    def text(self, form: str = "table", width: int | None = None) -> str:
        """The tables as ``table``, ``csv``, ``md``, ``latex`` or ``json``.

        Args:
            form: which of them.
            width: columns of the terminal that a ``table`` has to fit; any without it.

        Raises:
            UserError: another format.
        """
        from alharness.comparison.formats import format_of

        return self._as(format_of(None, form), width)

    def save(self, path: AnyPath) -> Path:
        """Write the tables to a file whose ending says the format: .csv, .md, .tex, .json or .txt.

        Raises:
            UserError: another ending, or a file that cannot be written.
        """
        from alharness.comparison.formats import format_of
        from alharness.files import write_text

        file = Path(path).expanduser()
        write_text(file, self.text(format_of(file, None)))
        return file

    @abstractmethod
    def _as(self, form: str, width: int | None) -> str:
        """The tables in a format that exists."""

    def __str__(self) -> str:
        return self.text()


@dataclass(frozen=True)
class ComparisonResult(Tables):
    """A comparison, worked out; a notebook shows its tables and curves, ``print`` the tables.

    Attributes:
        report: sections, tables and charts, as ``alharness report`` lays them out.
    """

    report: Report

    @property
    def headline(self) -> str:
        """What a reader wants to know first, a line for each comparison."""
        told = [(s.comparison.title, s.headline) for s in self.report.sections if s.headline]
        return "\n".join(text if len(told) == 1 else f"{title}: {text}" for title, text in told)

    def at(self, *positions: float) -> PointsResult:
        """Test figures at chosen numbers of labels: mean, spread, best, and who differs significantly.

        Args:
            positions: numbers of labels, as in ``comparison.at(100, 200, 500)``; of annotations or cost where
                the comparison is along another axis.

        Returns:
            strategies x (data set, number of labels), with a DataFrame and every format of ``compare``.

        Raises:
            UserError: a position that no run reaches, or that is no number.
        """
        from alharness.comparison.points import points

        return PointsResult(tuple(points(self.report, positions)), self.report.status)

    @property
    def table(self) -> DataFrame:
        """One row per task and strategy with all figures of merit; NaN where one is not defined.

        The columns are those of ``alharness compare --format csv``, which its JSON describes.
        """
        import pandas

        from alharness.comparison.metrics import MERITS

        rows = [
            [section.comparison.title, row.label, *(row.merits[name] for name in MERITS)]
            for section in self.report.sections
            for row in section.rows
        ]
        return pandas.DataFrame(rows, columns=["comparison", "strategy", *MERITS])

    @property
    def charts(self) -> dict[str, Chart]:
        """All that is drawn, by ``COMPARISON/NAME``; each has ``svg``, ``png`` and ``csv``."""
        return {
            f"{section.comparison.title}/{chart.name}": chart
            for section in self.report.sections
            for chart in section.charts
        }

    def figure(
        self, path: AnyPath | None = None, *, only: Sequence[str] = (), width: float = 3.3
    ) -> PaperFigure:
        """A figure for a paper: learning curves above paired differences (``alharness figure``).

        Args:
            path: where to write it: a .pdf, .svg, .png or .csv file; with several comparisons each gets its
                title in its name. Without it nothing is written, and a notebook shows the figure.
            only: strategies to show, the most important first; all by default. A comparison without one
                of them is drawn without it, one with none of them is left out; a warning says so.
            width: inches.

        Returns:
            the charts, one per comparison, and the files that were written.

        Raises:
            UserError: an unknown strategy or ending, or a file that cannot be written.
        """
        from alharness.comparison.paper import paper_figure

        chosen = _chosen([section.comparison for section in self.report.sections], only)
        sections = [
            section
            for section, names in zip(self.report.sections, chosen, strict=True)
            if names or not only
        ]
        shown = [names for names in chosen if names or not only]
        charts, files = [], []
        for section, names in zip(sections, shown, strict=True):
            chart = paper_figure(
                section.comparison,
                only=names,
                width=width,
                axis=self.report.axis,
                metric=section.metric,
            )
            charts.append(chart)
            if path is None:
                continue
            file = Path(path).expanduser()
            name = re.sub(r"[^\w.-]+", "-", section.comparison.title).strip("-")
            place = file if len(sections) == 1 else file.with_stem(f"{file.stem}-{name}")
            files.append(chart.save(place))
        return PaperFigure(tuple(charts), tuple(files))

    def _as(self, form: str, width: int | None) -> str:
        from alharness.comparison.formats import FORMATS, as_table

        return as_table(self.report, width) if form == "table" else FORMATS[form](self.report)

    def __repr__(self) -> str:
        return f"<{self.report.heading}. {self.report.status}>"

    def _repr_html_(self) -> str:
        from alharness.comparison.formats import SHOWN

        parts = [f"<p>{escape(self.report.heading)}. {escape(self.report.status)}</p>"]
        for section in self.report.sections:
            parts += _opening(section.comparison.title, section.headline, section.warnings)
            parts += [_html(table) for table in section.tables if table.name in SHOWN]
            parts += [chart.svg for chart in section.charts[:1]]
            parts += [f"<p>{escape(text)}</p>" for text in section.sentences]
        return "".join(parts)


@dataclass(frozen=True)
class PaperFigure:
    """What ``ComparisonResult.figure`` drew; a notebook shows it.

    Attributes:
        charts: one per comparison; each has ``svg``, ``png``, ``csv`` and ``save``.
        files: what was written.
    """

    charts: tuple[Chart, ...]
    files: tuple[Path, ...]

    def _repr_html_(self) -> str:
        return "".join(chart.svg for chart in self.charts)

    def _repr_png_(self) -> bytes | None:
        """For print, and where SVG is not shown; of several charts no single one is the picture."""
        return self.charts[0].png if len(self.charts) == 1 else None

    def __repr__(self) -> str:
        how = "to write one: figure('curves.pdf'), or .charts[0].save('curves.pdf')"
        written = f"written to {', '.join(map(str, self.files))}" if self.files else how
        return f"<{len(self.charts)} {'figure' if len(self.charts) == 1 else 'figures'}; {written}>"


@dataclass(frozen=True)
class PointsResult(Tables):
    """Test figures at chosen numbers of labels; a notebook shows the table, ``print`` the text.

    Attributes:
        parts: one per comparison, with every point and its paired test.
        status: how complete the runs are.
    """

    parts: tuple[Points, ...]
    status: str

    @property
    def table(self) -> DataFrame:
        """One row per comparison, strategy and number of labels; NaN where there is no number.

        The columns are those of ``alharness compare --at ... --format csv``.
        """
        import pandas

        from alharness.comparison.points_text import COLUMNS, as_rows

        return pandas.DataFrame(as_rows(self.parts), columns=list(COLUMNS))

    def _as(self, form: str, width: int | None) -> str:
        from alharness.comparison.points_text import FORMATS, as_table

        if form == "table":
            return as_table(self.parts, self.status, width)
        return FORMATS[form](self.parts, self.status)

    def __repr__(self) -> str:
        return f"<figures at chosen numbers of labels. {self.status}>"

    def _repr_html_(self) -> str:
        from alharness.comparison.points_text import shown

        parts = [f"<p>{escape(self.status)}</p>"]
        for part in self.parts:
            parts += _opening(part.title, part.headline, part.remarks)
            parts.append(_html(shown(part)))
        return "".join(parts)


def _opening(title: str, headline: str, warnings: Sequence[str]) -> list[str]:
    told = [f"<p><b>{escape(headline)}</b></p>"] if headline else []
    return [f"<h3>{escape(title)}</h3>", *told, *(f"<p>! {escape(text)}</p>" for text in warnings)]


def _html(table: TextTable) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows
    )
    caption = f"<caption>{escape(table.caption)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def compare(
    *targets: AnyPath | RunResult,
    runs_dir: AnyPath | None = None,
    axis: str = "queries",
    metric: str | None = None,
    against: str | None = None,
    split_by: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
    looks: int = 1,
    published: AnyPath | None = None,
    stopping: Sequence[str] = (),
) -> ComparisonResult:
    """Compare finished runs: the tables of ``alharness compare``.

    Runs of equal seeds that began alike are pairs; runs of different protocols are refused.

    Args:
        targets: directories of runs, or one sweep file, or results of ``alharness.run``; nothing means
            all of ``runs_dir``.
        runs_dir: root of all runs; ``ALHARNESS_RUNS``, else ``runs``.
        axis: ``queries`` (annotations asked for), ``labels`` or ``cost``.
        metric: a figure of the test set by its name in the record, such as ``accuracy``;
            ``alharness.records.METRICS`` holds all of them. By default accuracy, and balanced accuracy where
            the classes of the test set are uneven.
        against: strategy to test the others against; the random baseline by default.
        split_by: settings whose values make comparisons of their own, for instance ``query_size``.
        labels: what strategies are called, for instance ``{"./mine.py:Gini": "Gini"}``.
        looks: how often results were looked at while seeds were added; every p is multiplied by it.
        published: judge records as they were published, in place of ``targets``: a ``.tar.xz`` file, or a
            folder with some, such as ``benchmarks/results`` of the repository.
        stopping: stopping rules to judge on these runs, as ``alharness run --stop`` names them; ``all``
            stands for all installed ones that need no parameter.

    Returns:
        tables, sentences and charts. A run that cannot be read is left out, logged as a warning, and
        named in the tables.

    Raises:
        UserError: nothing there, a mixture of kinds of targets, protocols that differ, unknown names.
    """
    root = places_of(runs_dir, None).runs_dir
    found = found_of(targets, root, split_by, labels or {}, published)
    log_unreadable(found)
    return result_of(
        found, axis=axis, metric=metric, against=against, looks=looks, stopping=stopping
    )


def result_of(
    found: Found,
    *,
    axis: str = "queries",
    metric: str | None = None,
    against: str | None = None,
    looks: int = 1,
    stopping: Sequence[str] = (),
    **more: Any,
) -> ComparisonResult:
    """What ``compare`` gives for runs that were found already; ``more``: as for ``report.build``."""
    from alharness.comparison.report import build

    report = build(
        found.comparisons,
        heading=found.heading,
        note=found.note,
        axis=axis,
        metric=metric,
        against=against,
        looks=looks,
        rules=rules_of(stopping),
        **more,
    )
    return ComparisonResult(report)


def rules_of(given: Sequence[str]) -> list[NamedRule]:
    """Stopping rules by name; ``all`` stands for those that need no parameter.

    Raises:
        UserError: no such rule, or a wrong parameter.
    """
    if not given:
        return []
    from alharness.stopping import all_rules, named

    wanted = [given] if isinstance(given, str) else given
    rules = [rule for name in wanted for rule in (all_rules() if name == "all" else [named(name)])]
    return list({rule.label: rule for rule in rules}.values())


def log_unreadable(found: Found) -> None:
    """Say which runs are left out."""
    for item in found.unreadable:
        LOG.warning("left out: %s", item.reason)


def found_of(
    targets: Sequence[AnyPath | RunResult],
    runs_dir: Path,
    split_by: Sequence[str],
    labels: Mapping[str, str],
    published: AnyPath | None = None,
) -> Found:
    """The runs behind what a user named, sorted out for comparison.

    Args:
        targets: directories of runs, or one sweep's file, or results of ``alharness.run``; nothing means
            all of ``runs_dir``.
        runs_dir, split_by, labels, published: as for ``compare``.

    Raises:
        UserError: as ``compare``.
    """
    from alharness.comparison.comparison import comparisons
    from alharness.executors.sweep_files import read_sweep
    from alharness.executors.sweeps import Choices, expand
    from alharness.executors.targets import (
        Found,
        found_below,
        found_of_sweep,
        found_published,
    )

    if published is not None:
        if targets:
            raise UserError(
                f"Published records take the place of other runs; found '{targets[0]}', too. Give one."
            )
        return found_published(Path(published).expanduser(), split_by=split_by, labels=labels)
    results: list[Run] = [item.run for item in targets if isinstance(item, RunResult)]
    paths = [Path(item).expanduser() for item in targets if isinstance(item, str | PathLike)]
    if len(results) + len(paths) < len(targets):
        odd = next(item for item in targets if not isinstance(item, str | PathLike | RunResult))
        raise UserError(
            f"Compare takes directories, a sweep file or results of alharness.run; found {odd!r}."
        )
    files = [path for path in paths if path.suffix == ".toml"]
    # Each kind by itself: a run that is held and one in a folder may be the same.
    if (results and paths) or (files and len(targets) > 1):
        raise UserError(
            "Expected one sweep file, or directories of runs, or results of alharness.run; found a "
            "mixture. Compare each kind by itself."
        )
    if results:
        heading = f"{len(results)} runs"
        return Found(heading, "", "", comparisons(results, split_by=split_by, labels=labels))
    if files:
        sweep = read_sweep(files[0])
        # Another machine may have made them, on a device that this one lacks.
        jobs = expand(sweep, Choices(), runs_dir, elsewhere=True)
        return found_of_sweep(sweep, jobs, split_by=split_by, labels=labels)
    return found_below(paths or [runs_dir], split_by=split_by, labels=labels)


def _chosen(comparisons: Sequence[Comparison], only: Sequence[str]) -> list[list[str]]:
    """Which of the strategies asked for each comparison has; what one lacks is told.

    Raises:
        UserError: no comparison has one of them.
    """
    known = [
        {name for s in c.series for name in (s.label, s.name, s.strategy)} for c in comparisons
    ]
    for name in only:
        if not any(name in names for names in known):
            labels = {series.label for c in comparisons for series in c.series}
            raise unknown_name("strategy in the comparison", name, labels)
    for comparison, names in zip(comparisons, known, strict=True):
        if lacking := [name for name in only if name not in names]:
            what = "no figure is drawn" if len(lacking) == len(only) else "left out"
            LOG.warning("%s has no runs of %s: %s.", comparison.title, ", ".join(lacking), what)
    return [[name for name in only if name in names] for names in known]
