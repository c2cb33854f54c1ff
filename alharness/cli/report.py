"""``alharness report``: figures, statistics and one HTML file; also beside the sweep in MLflow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alharness.cli.artefacts import open_store
from alharness.cli.options import path_option, tracking_options
from alharness.cli.selection import (
    Compared,
    comparing,
    looks_option,
    stopping_option,
    tell_unreadable,
)
from alharness.errors import UserError

if TYPE_CHECKING:
    from alharness.comparison.comparison import Comparison
    from alharness.comparison.tables import TextTable
    from alharness.pictures.charts import Chart


@click.command()
@comparing(looks_option, stopping_option)
@tracking_options
@click.option("--no-tracking", is_flag=True, help="Leave MLflow alone.")
@path_option(
    "--out",
    file_okay=False,
    default=Path("report"),
    help="Where report.html, figures/ and tables/ go.",
)
@path_option(
    "--timing",
    file_okay=False,
    help="A timing study's folder: adds accuracy against cost at 10^4, 10^6 and 10^8 images.",
)
@click.option("--paper", is_flag=True, help="Put the paper's claims beside what was measured.")
def report(
    compared: Compared,
    tracking_uri: str | None,
    experiment: str,
    no_tracking: bool,
    out: Path,
    timing: Path | None,
    paper: bool,
) -> int:
    """Write figures, statistics and one HTML report.

    TARGETS are directories of runs, files of published records (.tar.xz), or one sweep file; without
    any, all of --runs-dir. A sweep file also tells which runs are missing, and its report is laid
    beside the sweep in MLflow. A run that cannot be read is named and left out, and the exit code is 1.

    \b
    alharness report benchmarks/specs/fig3a.toml --out fig3a
    alharness report --paper
    alharness report --published benchmarks/results
    alharness report --timing timing
    alharness report --label ./mine.py:Gini=Gini
    """
    from alharness.comparison.claims import check_paper
    from alharness.comparison.page import write
    from alharness.comparison.report import nothing_more
    from alharness.generative.inspection import newest_inspections

    found = compared.find()
    claims = []
    if paper:
        claims = check_paper(found.comparisons, gains=found.gains, looks=compared.looks)
    try:
        inspections = newest_inspections(open_store(compared.runs_dir))
    except UserError as error:  # a report rests on records; it does without inspections
        click.echo(f"Inspections of generators are left out: {error}", err=True)
        inspections = {}
    made = compared.result(
        found,
        claims=claims,
        inspections=inspections,
        more=nothing_more if timing is None else _costs(timing, found.comparisons, compared.metric),
    ).report
    page = write(made, out)
    click.echo(made.status)
    for verdict in claims:
        if verdict.word != "not measured":
            which = f" ({verdict.subject})" if verdict.subject else ""
            click.echo(f"  {verdict.word:<10} {verdict.claim.where}: {verdict.claim.text}{which}")
    click.echo(f"Report:  {page}")
    if found.sweep and not no_tracking:
        _lay_beside_sweep(found.sweep, page, tracking_uri, experiment, compared.runs_dir)
    return tell_unreadable(found)


def _costs(
    timing: Path, found: Sequence[Comparison], chosen: str | None
) -> Callable[[Comparison], tuple[TextTable | Chart, ...]]:
    """Table and chart of accuracy against cost, for each comparison of the task that was timed.

    Raises:
        UserError: no study there, or one of another task.
    """
    from alharness.comparison.metrics import metric_of
    from alharness.scaling import costs
    from alharness.scaling.study import Study

    study = Study.read(timing)
    tasks = {comparison.task for comparison in found}
    if found and study.spec.task not in tasks:
        raise UserError(
            f"The timing study in '{timing}' is of '{study.spec.task}', the runs are of "
            f"{', '.join(sorted(tasks))}. Measure one with: alharness timing --dataset {min(tasks)}"
        )

    def of(comparison: Comparison) -> tuple[TextTable | Chart, ...]:
        if comparison.task != study.spec.task:
            return ()
        metric = metric_of(comparison, chosen)
        at_sizes = costs.costs(comparison, study, metric=metric)
        return costs.table(at_sizes, comparison.words(metric)), costs.chart(
            at_sizes, metric, comparison.words(metric)
        )

    return of


def _lay_beside_sweep(
    sweep: str, page: Path, uri: str | None, experiment: str, runs_dir: Path
) -> None:
    """Page and figures as artefacts of the sweep's run in MLflow, where the sweep was tracked."""
    from alharness.tracking import default_uri, open_tracking
    from alharness.tracking.stores import store_error

    if uri is None and not (runs_dir / "mlflow.db").exists():
        return  # the sweep kept records only
    uri = uri or default_uri(runs_dir)
    pictures = sorted(page.parent.glob("figures/**/*.png"))
    try:
        tracking = open_tracking(uri, experiment, mend=False)
        tracking.log_files(tracking.sweep(sweep), [page, *pictures])
    except Exception as error:  # whatever the store raises, the report is written
        told = f"{store_error(uri, error)} The report is complete; it is not laid beside the sweep there."
        click.echo(f"alharness: {told}", err=True)
