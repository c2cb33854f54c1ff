"""``alharness figure``: learning curves and paired differences at the width of a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from alharness.cli.options import runs_dir_option
from alharness.cli.selection import (
    comparison_options,
    find_comparisons,
    published_option,
    sweep_options,
    tell_unreadable,
)


@click.command()
@click.argument("targets", nargs=-1, type=click.Path(path_type=Path))
@runs_dir_option
@click.option(
    "--only", default="", metavar="A,B", help="Strategies to show, the most important first."
)
@click.option(
    "--width", default=3.3, show_default=True, help="Inches; 3.3 is a column, 6.8 a page."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("figure.pdf"),
    show_default=True,
    metavar="FILE",
    help="A .pdf, .svg, .png or .csv file; with several data sets, each gets its name in it.",
)
@published_option
@comparison_options
@sweep_options
def figure(
    targets: tuple[Path, ...],
    runs_dir: Path,
    only: str,
    width: float,
    out: Path,
    published: Path | None,
    axis: str,
    metric: str | None,
    against: str | None,
    split_by: tuple[str, ...],
    labels: tuple[str, ...],
    **options: Any,
) -> int:
    """Draw a figure for a paper from finished runs.

    Learning curves above paired differences to the baseline; the first strategy of --only lies on top,
    with the 95 % interval of its mean. TARGETS as for 'alharness compare'.

    \b
    alharness figure --only margin,max-entropy --out curves.pdf
    alharness figure benchmarks/specs/fig3a.toml --width 6.8 --out fig3a.svg
    """
    from alharness.api.comparing import result_of

    found = find_comparisons(targets, runs_dir, split_by, labels, options, published)
    chosen = [part.strip() for part in only.split(",") if part.strip()]
    result = result_of(found, axis=axis, metric=metric, against=against)
    for path in result.figure(out, only=chosen, width=width).files:
        click.echo(f"wrote {path}")
    return tell_unreadable(found)
