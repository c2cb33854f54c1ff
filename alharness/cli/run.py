"""``alharness run``: one strategy on one data set, or the rest of a run that was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.options import (
    default_of,
    named,
    naming_options,
    oracle_option,
    overrides,
    places_options,
    runs_dir_typed,
    spec_options,
    tracked,
    tracking_options,
    typed,
)
from alharness.errors import UserError

if TYPE_CHECKING:
    from alharness.records import CycleRecord, RunFolder
    from alharness.spec import RunSpec


@click.command()
@naming_options
@oracle_option
@spec_options
@places_options
@tracking_options
@click.option("--no-tracking", is_flag=True, help="Keep records only, without MLflow.")
@click.option("--fresh", is_flag=True, help="Throw away what exists of this run and start over.")
@click.option(
    "--select-timeout",
    type=click.FloatRange(min=0),
    default=default_of("run", "select_timeout"),
    metavar="SECONDS",
    help="End a selection that takes longer, as a fault of the strategy (default: none).",
)
@click.option("--quiet", is_flag=True, help="Show nothing but errors.")
def run(
    names: tuple[str, ...],
    strategy: str | None,
    dataset: str | None,
    data_root: Path | None,
    runs_dir: Path,
    tracking_uri: str | None,
    experiment: str,
    no_tracking: bool,
    download: bool,
    fresh: bool,
    select_timeout: float,
    quiet: bool,
    **options: Any,
) -> None:
    """Run one strategy on one data set, or continue where it stopped.

    The same command again continues a stopped run and does not repeat a finished one. Records lie
    in RUNS/DATASET/STRATEGY/KEY/cycles.jsonl; MLflow shows a copy of them.

    \b
    alharness run asal-auto digits-ten
    alharness run --strategy max-entropy --dataset mnist-two --seed 3 --set learner.c=0.1
    """
    if not names and not any((strategy, dataset, options["config"])):
        raise UserError(
            "Name a strategy and a data set: alharness run margin digits-ten ('alharness list strategies', "
            "'alharness list datasets' show the names)."
        )
    strategy, dataset = named(names, strategy, dataset)

    from alharness.api.running import execute_tracked, places_of
    from alharness.cli.display import make_display
    from alharness.engine.watching import watched
    from alharness.spec import bind

    bound = bind(overrides(strategy=strategy, task=dataset, **options), watched)
    with closing(make_display(quiet=quiet)) as display:
        folder, store = execute_tracked(
            bound,
            places_of(runs_dir, data_root, download=download),
            observers=[display],
            progress=display.progress,
            warn=display.warn,
            tracking=tracked(tracking_uri, no_tracking),
            experiment=experiment,
            fresh=fresh,
            select_timeout=select_timeout,
        )
    if not quiet:
        _summary(bound.spec, folder, folder.records())
        if store is not None:
            _how_to_open(store, runs_dir)


def _summary(spec: RunSpec, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
    from alharness.cli.display import duration

    last = records[-1]
    preparation = records[0].time.prepared
    paid = sum(entry.load_s for entry in preparation)
    built = sum(entry.seconds for entry in preparation)
    # The last record asked nothing: no time, and no entropy.
    select = sum(record.time.select_s or 0.0 for record in records)
    entropies = [record.query.entropy_mean for record in records if record.query is not None]
    click.echo()
    click.echo(f"{spec.strategy.name} on {spec.task.name}, seed {spec.seed}")
    _row("accuracy", f"{last.test.as_text('accuracy')} with {last.n_labelled} labels")
    if last.stopped is not None:
        _row("stopped", f"at {last.n_asked} of {spec.budget} annotations by {last.stopped}")
    # Where classes are even the two say the same.
    if abs(last.test.balanced_accuracy - last.test.accuracy) > 0.01:
        _row("balanced accuracy", f"{last.test.balanced_accuracy:.4f}")
    if spec.oracle.mode == "human":
        wrong = sum(record.annotation.n_wrong or 0 for record in records if record.annotation)
        _row("answers", f"{wrong} differ from the data's own classes")
    loose = sum(not record.fit.converged for record in records)
    if loose:
        how = "learner.c, learner.max_iterations" if spec.learner.kind == "linear" else "learner.lr"
        _row("training", f"did not converge in {loose} of {len(records)} cycles: see {how}")
    if entropies:
        cycles = "cycle" if len(entropies) == 1 else "cycles"
        _row("entropy of queries", f"{sum(entropies) / len(entropies):.3f} nats (mean)")
        _row("selection", f"{duration(select)} in {len(entropies)} {cycles}")
    if preparation:
        # Nearly all paid here means built here; loading an artefact costs a little, too.
        cached = "" if paid > 0.9 * built else f" (built earlier; {duration(paid)} here)"
        _row("preparation", f"{duration(built)}{cached}")
    quality = [
        f"{entry.name}: {key} {value:.3g}"
        for entry in preparation
        for key, value in (entry.details.get("quality") or {}).items()
        if isinstance(value, float)
    ]
    for line in quality:
        _row("quality", line)
    if folder.facts().task.synthetic:
        _row("data", "synthetic (drawn, not photographed)")
    _row("records", str(folder.path))
    for path in sorted(folder.path.glob("*.png")):
        _row("picture", str(path))


def _row(name: str, value: str) -> None:
    click.echo(f"  {name:<19} {value}")


def _how_to_open(uri: str, runs_dir: Path) -> None:
    from alharness.tracking.stores import default_uri, shown

    if uri == default_uri(runs_dir):
        _row("watch", typed("ui", *runs_dir_typed(runs_dir)))
    else:
        _row("MLflow", shown(uri))
