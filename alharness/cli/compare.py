"""``alharness compare``: finished runs in a table, for a terminal, a paper or a program."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alharness.cli.options import path_option
from alharness.cli.selection import (
    Compared,
    comparing,
    looks_option,
    stopping_option,
    tell_unreadable,
)
from alharness.errors import UserError

if TYPE_CHECKING:
    from alharness.api.comparing import Tables


@click.command()
@comparing(looks_option, stopping_option)
@click.option(
    "--at",
    default=None,
    metavar="N,N,...",
    help="Figures at these numbers of labels (see --x): mean, spread, best, corrected marks.",
)
@click.option(
    "--format",
    "chosen",
    default=None,
    help="table, csv, md, latex or json (default table, or what the ending of --out tells).",
)
@path_option(
    "--out", metavar="FILE", help="Also write the results there: .csv, .md, .tex, .json or .txt."
)
def compare(compared: Compared, at: str | None, chosen: str | None, out: Path | None) -> int:
    """Compare finished runs in a table.

    TARGETS are directories of runs, files of published records (.tar.xz), or one sweep file; without
    any, all of --runs-dir. A run that cannot be read is named and left out, and the exit code is 1.

    \b
    alharness compare
    alharness compare --format md
    alharness compare --at 100,200,500 --out table.tex
    alharness compare --stopping all --stopping budget:200
    alharness compare benchmarks/specs/fig3a.toml --x labels --out fig3a.tex
    alharness compare --published benchmarks/results
    """
    from alharness.comparison.formats import format_of
    from alharness.files import write_text

    wanted = format_of(out, chosen)
    if compared.stopping and (at is not None or wanted == "csv"):
        what = (
            "--at makes a table of its own"
            if at is not None
            else "The CSV holds figures of merit alone"
        )
        raise UserError(
            f"{what}, and --stopping would be left out of it. Give --stopping without --at, in the format "
            "table, md, latex or json."
        )
    found = compared.find()
    result = compared.result(found)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    shown: Tables = result if at is None else result.at(*_positions(at))
    # What goes into a file is shown as a table beside it.
    click.echo(shown.text("table" if out is not None else wanted, width), nl=False)
    if out is not None:
        write_text(out, shown.text(wanted))
        click.echo(f"wrote {out}")
    return tell_unreadable(found)


def _positions(text: str) -> list[float]:
    """``100,200,500``.

    Raises:
        UserError: something else.
    """
    try:
        return [float(part) for part in text.replace(";", ",").split(",") if part.strip()]
    except ValueError:
        raise UserError(
            f"--at takes numbers of labels, such as 100,200,500; found '{text}'."
        ) from None
