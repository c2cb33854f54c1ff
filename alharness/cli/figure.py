"""``alharness figure``: learning curves and paired differences at the width of a column."""

from __future__ import annotations

from pathlib import Path

import click

from alharness.cli.options import path_option
from alharness.cli.selection import Compared, comparing, tell_unreadable


@click.command()
@comparing()
@click.option(
    "--only", default="", metavar="A,B", help="Strategies to show, the most important first."
)
@click.option(
    "--width", default=3.3, show_default=True, help="Inches; 3.3 is a column, 6.8 a page."
)
@path_option(
    "--out",
    default=Path("figure.pdf"),
    metavar="FILE",
    help="A .pdf, .svg, .png or .csv file; with several data sets, each gets its name in it.",
)
def figure(compared: Compared, only: str, width: float, out: Path) -> int:
    """Draw a figure for a paper from finished runs.

    Learning curves above paired differences to the baseline; the first strategy of --only lies on top,
    with the 95 % interval of its mean. TARGETS as for 'alharness compare'.

    \b
    alharness figure --only margin,max-entropy --out curves.pdf
    alharness figure benchmarks/specs/fig3a.toml --width 6.8 --out fig3a.svg
    """
    found = compared.find()
    chosen = [part.strip() for part in only.split(",") if part.strip()]
    result = compared.result(found)
    for path in result.figure(out, only=chosen, width=width).files:
        click.echo(f"wrote {path}")
    return tell_unreadable(found)
