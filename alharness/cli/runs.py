"""``alharness runs``: the runs of a folder: what there is, what to throw away, what to publish."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alharness.cli.options import path_option, runs_dir_option
from alharness.errors import UserError

if TYPE_CHECKING:
    from alharness.records import Run

STATES = ("finished", "unfinished", "failed", "not started", "unreadable")


def _state_option(function: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--state", "states", multiple=True, type=click.Choice(STATES), help="Only runs in it."
    )(function)


@click.group()
def runs() -> None:
    """See, remove and publish finished and stopped runs.

    FOLDERS are directories of runs, or parts of one; without any, all of --runs-dir.
    """


@runs.command("list")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@runs_dir_option
@_state_option
def list_runs(folders: tuple[Path, ...], runs_dir: Path, states: tuple[str, ...]) -> None:
    """A line for every run: state, data set, strategy, seed, labels, accuracy, key."""
    found = _read(folders, runs_dir, states)
    # Not by key, which says nothing to a reader.
    for run in sorted(found, key=lambda run: (run.task, run.strategy, run.pair, run.folder.name)):
        last = run.records[-1] if run.records else None
        told = (
            f"{last.n_labelled:>7} labels  {last.test.as_text('accuracy'):>6}"
            if last
            else f"{'':>22}"
        )
        name = f"{run.task} / {run.strategy} / seed {run.pair[0]}"
        click.echo(f"{run.state():<11}  {told}  {name}  {run.folder.name}")
    counts = Counter(run.state() for run in found)
    click.echo(", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "none")


@runs.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@runs_dir_option
@_state_option
@click.option("--yes", is_flag=True, help="Remove without asking.")
def remove(folders: tuple[Path, ...], runs_dir: Path, states: tuple[str, ...], yes: bool) -> None:
    """Delete runs with all they recorded: those of FOLDERS, or those in a state.

    \b
    alharness runs remove --state failed
    alharness runs remove runs/digits-two/margin
    """
    from alharness.files import locked
    from alharness.records import RunFolder

    if not folders and not states:
        raise UserError(
            "Say which: a folder of runs, or --state. 'alharness runs list' shows them."
        )
    found = _read(folders, runs_dir, states)
    if not found:
        click.echo("nothing to remove")
        return
    if not yes:
        click.confirm(f"Remove {len(found)} runs and what they recorded?", abort=True)
    for run in found:
        busy = f"'{run.folder}' is being written by another process. Stop it first."
        with locked(RunFolder(run.folder).lock, 0, busy=busy):
            for path in run.folder.iterdir():
                if path.name != "lock":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.rmtree(run.folder)
        click.echo(f"removed {run.folder}")


@runs.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@runs_dir_option
@path_option("--out", required=True, metavar="FILE", help="A .tar.xz file.")
def publish(folders: tuple[Path, ...], runs_dir: Path, out: Path) -> None:
    """Write the records of finished runs into one small file that anybody can judge again.

    Specs, facts and cycles; no images, weights or queries. 'alharness compare FILE', 'figure FILE' and
    'report FILE' read it.

    \b
    alharness runs publish --out study.tar.xz
    alharness compare study.tar.xz
    """
    from alharness.records.published import publish as write

    found = _read(folders, runs_dir, ())
    n = write(found, out)
    left = f"; {len(found) - n} are not finished and left out" if n < len(found) else ""
    click.echo(f"wrote {out}: {n} runs, {out.stat().st_size / 1e3:,.0f} kB{left}")


def _read(folders: Sequence[Path], runs_dir: Path, states: Sequence[str]) -> list[Run]:
    from alharness.records import read_runs

    found = [run for folder in (folders or [runs_dir]) for run in read_runs(folder)]
    return [run for run in found if not states or run.state() in states]
