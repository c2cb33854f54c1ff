"""``alharness tune``: a classifier's settings, chosen once on the starting labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from alharness.cli.options import (
    default_of,
    oracle_option,
    out_option,
    overrides,
    places_options,
    spec_options,
)
from alharness.errors import UserError


@click.command()
@click.argument("dataset", required=False)
@click.option("--learner", default=None, metavar="KIND", help="Classifier (learner.kind).")
@click.option(
    "--grid",
    multiple=True,
    metavar="KEY=A,B",
    help="Values to try, for instance learner.lr=0.001,0.01 (repeatable; default: a few by kind).",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    default=default_of("tune", "folds"),
    show_default=True,
    help="Parts of the labels, each held out once.",
)
@out_option("Write the settings to this TOML file (default: show them).")
@oracle_option
@spec_options
@places_options
def tune(
    dataset: str | None,
    learner: str | None,
    grid: tuple[str, ...],
    folds: int,
    out: Path | None,
    data_root: Path | None,
    runs_dir: Path,
    download: bool,
    settings: tuple[str, ...],
    **options: Any,
) -> None:
    """Choose a classifier's settings on the starting labels, once, for all strategies.

    By cross-validated log loss on the labels that all runs of the data seed begin with; neither other
    labels nor the test set are looked at. What is written is a file for 'alharness run --config'.

    \b
    alharness tune digits-ten --initial-size 100 --out tuned.toml
    alharness run margin digits-ten --initial-size 100 --config tuned.toml
    """
    from alharness.api.running import places_of
    from alharness.api.tuning import tuned
    from alharness.cli.display import make_display
    from alharness.files import write_text

    if dataset is None and options["config"] is None:
        raise UserError("Name a data set: alharness tune digits-two ('alharness list datasets').")
    if learner is not None:  # before the others, which may say more of it
        settings = (f"learner.kind={learner}", *settings)
    given = overrides(task=dataset, settings=settings, **options)
    # Without a file the settings are all that is shown: they can be redirected.
    with closing(make_display(quiet=out is None)) as display:
        result = tuned(
            given,
            places_of(runs_dir, data_root, download=download),
            grid=_grid(grid) or None,
            folds=folds,
            progress=display.progress,
        )
    if out is None:
        click.echo(result.text, nl=False)
        return
    write_text(out, result.text)
    chosen = ", ".join(f"learner.{name}={value}" for name, value in result.best.settings.items())
    click.echo(f"{chosen}: log loss {result.best.log_loss:.6f}, the best of {len(result.tried)}")
    click.echo(f"written: {out}")


def _grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """``learner.lr=0.001,0.01`` -> ``{"learner.lr": [0.001, 0.01]}``.

    Raises:
        UserError: no values, or one setting twice.
    """
    from alharness.files import flatten
    from alharness.spec import parse_set

    found: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not equals or not all(value.strip() for value in values.split(",")):
            raise UserError(f"--grid takes KEY=A,B, for instance learner.c=0.1,1; found '{text}'.")
        if key in found:
            raise UserError(f"--grid {key} is given twice. Give all of its values at once.")
        found[key] = [flatten(parse_set(f"{key}={value}"))[key] for value in values.split(",")]
    return found
