"""``alharness report``: figures, statistics and one HTML file; also beside the sweep in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from alharness.cli.options import runs_dir_option
from alharness.cli.selection import comparison_options, find_comparisons, sweep_options


@click.command()
@click.argument("targets", nargs=-1, type=click.Path(path_type=Path))
@runs_dir_option
@comparison_options
@sweep_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("report"),
    show_default=True,
    help="Where report.html, figures/ and tables/ go.",
)
@click.option("--paper", is_flag=True, help="Put the paper's claims beside what was measured.")
def report(
    targets: tuple[Path, ...],
    runs_dir: Path,
    axis: str,
    metric: str,
    against: str | None,
    split_by: tuple[str, ...],
    out: Path,
    paper: bool,
    **options: Any,
) -> None:
    """Write figures, statistics and one HTML report.

    TARGETS are directories of runs, or one sweep file; without any, all of --runs-dir. A sweep file
    also tells which runs are missing.

    \b
    alharness report benchmarks/specs/fig3a.toml --out fig3a
    alharness report --paper
    """
    from alharness.analysis.paper import check_paper
    from alharness.analysis.report import build, write

    heading, note, found = find_comparisons(targets, runs_dir, split_by, options)
    claims = check_paper(found) if paper else []
    made = build(
        found,
        heading=heading,
        note=note,
        axis=axis,
        metric=metric,
        against=against,
        claims=claims,
    )
    page = write(made, out)
    click.echo(made.status)
    for verdict in claims:
        if verdict.verdict != "not run":
            click.echo(f"  {verdict.verdict:<10} {verdict.where}: {verdict.claim}")
    click.echo(f"Report:  {page}")
