"""``alharness timing``: how long one selection takes, against the size of the pool."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.options import data_root_option, path_option, runs_dir_option
from alharness.errors import UserError

if TYPE_CHECKING:
    from alharness.comparison.verdicts import Estimate
    from alharness.scaling.study import Study


def _numbers(
    context: click.Context, option: click.Parameter, text: str | None
) -> tuple[int, ...] | None:
    """``10000,1e6,16_000_000``: whole numbers above 0, ascending, each once."""
    if text is None:
        return None
    found = set()
    for part in filter(None, text.split(",")):
        try:
            number = float(part.replace("_", ""))
        except ValueError:
            number = 0.0
        if number < 1 or number != int(number):
            raise click.BadParameter(
                f"expected whole numbers above 0, such as 10000,1e6; found '{part}'"
            )
        found.add(int(number))
    return tuple(sorted(found))


def _names(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    """``a,b``: names, each once."""
    return tuple(dict.fromkeys(filter(None, text.split(","))))


@click.command()
@click.option("--dataset", default="mnist-two", show_default=True, help="Whose pool is enlarged.")
@click.option(
    "--strategies",
    callback=_names,
    default="",
    help="What selects; default: those of the claims' first study.",
)
@click.option(
    "--sizes",
    callback=_numbers,
    default=None,
    help="Pool sizes in images (default: 10^4 up to what memory holds, in half decades).",
)
@click.option(
    "--query-sizes", callback=_numbers, default="10", show_default=True, help="Items per selection."
)
@click.option(
    "--indices", callback=_names, default="exact,kdtree", show_default=True, help="What matches."
)
@click.option(
    "--rows", callback=_numbers, default="", help="Feature rows to match in (default: none)."
)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--profile", type=click.Choice(["quick", "paper"]), default="quick")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--untrained", is_flag=True, help="Generator and encoder after one step: shapes, not pictures."
)
@click.option(
    "--resident-gb",
    type=click.FloatRange(0),
    help="Images of a pool are kept in memory up to here, else computed (default: 4).",
)
@path_option("--out", default=Path("timing"), help="Folder of the study; an existing one goes on.")
@data_root_option
@runs_dir_option
@click.option("--quiet", is_flag=True, help="Show nothing but errors.")
def timing(
    dataset: str,
    strategies: tuple[str, ...],
    sizes: tuple[int, ...] | None,
    untrained: bool,
    resident_gb: float | None,
    out: Path,
    data_root: Path | None,
    runs_dir: Path,
    quiet: bool,
    **asked: Any,
) -> None:
    """Measure selection time and work against pool size (Fig. 6a, 6b, Table 2).

    Pools are random variations of the data set's own images. Everything is prepared and warmed up
    first, then all strategies and sizes take turns. Results: OUT/timing.jsonl, table.csv,
    slopes.csv and figures. The same command again goes on where it stopped.

    \b
    alharness timing --dataset mnist-two --sizes 1e4,1e5,1e6
    alharness timing --sizes "" --indices exact,kdtree --rows 1e5,1e6,16e6
    """
    from alharness.api.running import places_of
    from alharness.cli.display import make_display
    from alharness.scaling import figures
    from alharness.scaling.claims import FILE, ClaimsFile
    from alharness.scaling.measure import run_study
    from alharness.scaling.study import ScalingSpec

    spec = ScalingSpec.model_validate(
        {
            "task": dataset,
            "strategies": strategies or ClaimsFile.read(FILE).studies[0].strategies,
            "sizes": default_sizes() if sizes is None else sizes,
            **asked,  # the rest has the names of the study's own settings
            "networks": "untrained" if untrained else "trained",
            **({} if resident_gb is None else {"resident_bytes": int(resident_gb * (1 << 30))}),
        }
    )
    if not spec.sizes and not spec.rows:
        raise UserError("Nothing to measure: give --sizes (images) or --rows (feature rows).")
    with closing(make_display(quiet=quiet)) as display:
        study = run_study(spec, places_of(runs_dir, data_root), out, display.progress)
    figures.write(study, out)
    if not quiet:
        show(study, out)


def default_sizes() -> tuple[int, ...]:
    """Half decades from 10^4 while a pool of 28x28 images fits four times into free memory."""
    import torch

    from alharness.pool.residency import free_bytes

    free = free_bytes(torch.device("cpu")) or 0
    steps = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 16_000_000)
    return tuple(n for n in steps if n <= 100_000 or 4 * n * 784 <= free)


def show(study: Study, out: Path) -> None:
    """The table, the exponents, Table 2 and the transition points on the terminal."""
    from alharness.scaling import estimates

    found = estimates.lines(study)
    click.echo(f"\n{study.spec.task} on {study.hardware}")
    rows = [
        (
            line.name,
            f"{line.query_size}",
            f"{n:,}",
            _seconds(line.time(n)),
            _work(line.work(n)),
        )
        for line in found
        for n in line.sizes
    ]
    _columns(("", "items", "n", "seconds [95 %]", "work"), rows)
    exponents = [
        (line.name, f"{line.query_size}", str(exponent))
        for line in found
        if (exponent := estimates.time_slope(line)) is not None
    ]
    if exponents:
        click.echo("\nexponent of the time (1: linear, 0: constant)")
        _columns(("", "items", "exponent [95 %]"), exponents)
    if any(line.kind == "select" for line in found):
        click.echo("\nwork in each cycle (Table 2)")
        _columns(
            estimates.TABLE_2_HEADER,
            [
                tuple(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row)
                for row in estimates.table_2(study)
            ],
        )
    points = estimates.transitions(study)
    if points:
        click.echo("\ncycles until the preparation has paid (Fig. 6b)")
        _columns(
            ("", "instead of", "items", "n", "cycles [95 %]"),
            [(a, b, str(q), f"{n:,}", _cycles(found)) for a, b, q, n, found in points],
        )
    click.echo(f"\n  study    {out}\n  figures  {out}/*.png")


def _cycles(cycles: Estimate) -> str:
    import math

    def told(value: float) -> str:
        return "never" if math.isinf(value) else f"{value:.3g}" if value < 100 else f"{value:,.0f}"

    if cycles.low == cycles.high:
        return told(cycles.value)
    return f"{told(cycles.value)} [{told(cycles.low)}, {told(cycles.high)}]"


def _seconds(spent: Estimate) -> str:
    return f"{spent.value:.4g} [{spent.low:.3g}, {spent.high:.3g}]"


def _work(work: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:,.0f}" for name, count in work.items() if name != "bytes_read")


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from alharness.cli.display import table

    click.echo(textwrap.indent(table(rows, header), "  "))
