"""``alharness compare``: finished runs in a table, and as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.options import runs_dir_option
from alharness.cli.selection import comparison_options, find_comparisons, sweep_options

if TYPE_CHECKING:
    from alharness.comparison.report import Section
    from alharness.comparison.tables import Table


@click.command()
@click.argument("targets", nargs=-1, type=click.Path(path_type=Path))
@runs_dir_option
@comparison_options
@sweep_options
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(path_type=Path),
    default=None,
    help="Also write the results there.",
)
def compare(
    targets: tuple[Path, ...],
    runs_dir: Path,
    axis: str,
    metric: str,
    against: str | None,
    split_by: tuple[str, ...],
    csv_path: Path | None,
    **options: Any,
) -> int:
    """Compare finished runs in a table.

    TARGETS are directories of runs, or one sweep file; without any, all of --runs-dir. A run that
    cannot be read is named and left out, and the exit code is 1.

    \b
    alharness compare
    alharness compare benchmarks/specs/fig3a.toml --x labels --csv fig3a.csv
    """
    from alharness.comparison.report import build

    found = find_comparisons(targets, runs_dir, split_by, options)
    report = build(
        found.comparisons, heading=found.heading, axis=axis, metric=metric, against=against
    )
    click.echo(report.status)
    for section in report.sections:
        _show(section)
    for item in report.across:
        click.echo()
        click.echo(item.caption)
    if csv_path is not None:
        _write_csv(csv_path, report.sections)
        click.echo(f"\nwrote {csv_path}")
    return found.tell_unreadable()


def _show(section: Section) -> None:
    click.echo()
    click.echo(section.comparison.title)
    for text in section.warnings:
        click.echo(f"  ! {text}")
    for table in section.tables:
        if table.name in ("results", "labels_to_target", "tests", "left_out"):
            click.echo()
            _table(table)
    if section.sentences:
        click.echo()
    for text in section.sentences:
        click.echo(f"  {text}")


def _table(table: Table) -> None:
    """Plain columns, whatever the width of the terminal: the same when piped into a file."""
    click.echo(f"  {table.caption}")
    rows = [table.header, *table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.header))]
    names = 2 if table.header[0] == "rank" else 1
    for row in rows:
        cells = [
            cell.ljust(width) if i < names or table.name == "left_out" else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  " + "  ".join(cells).rstrip())


def _write_csv(path: Path, sections: tuple[Section, ...]) -> None:
    """The figures of merit in full precision, beside and renamed."""
    from alharness.comparison.page import merit_csv
    from alharness.files import write_text

    write_text(path, merit_csv(sections))
