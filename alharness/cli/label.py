"""``alharness label`` and ``alharness labels``: labels by a person, on a page or a sheet."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.options import (
    named,
    naming_options,
    out_option,
    overrides,
    places_options,
    runs_dir_option,
    spec_options,
)

if TYPE_CHECKING:
    from alharness.engine.labelling import LabelSession


@click.command()
@naming_options
@click.option("--classes", default="", metavar="A,B", help="Classes, where the data do not say.")
@out_option("Keep the labels in this file, too: CSV, or Label Studio's form of FILE.json.")
@click.option("--page/--sheet", default=True, help="In a browser (default), or in a CSV file.")
@click.option("--who", default=None, help="Who answers (default: the user of this machine).")
@click.option("--port", type=int, default=0, help="Port of the page (default: a free one).")
@spec_options
@places_options
@click.option("--fresh", is_flag=True, help="Throw away the records of this run and start over.")
@click.option("--quiet", is_flag=True, help="Show nothing but the page's address, and errors.")
def label(
    names: tuple[str, ...],
    strategy: str | None,
    dataset: str | None,
    classes: str,
    out: Path | None,
    page: bool,
    who: str | None,
    port: int,
    data_root: Path | None,
    runs_dir: Path,
    download: bool,
    fresh: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Label data of your own, in the order that a strategy chooses.

    The strategy asks, you answer on a page of this machine (or in a CSV file), the classifier learns, the
    strategy asks again. Stop at any moment: the same command goes on, and no answer is lost.

    \b
    alharness label margin folder:pictures --classes cat,dog --out labels.csv
    alharness label --strategy entropy --dataset table:rows.csv --sheet --out labels.csv
    """
    strategy, dataset = named(names, strategy, dataset)

    from alharness.api.labelling import HUMAN, labelled_data
    from alharness.api.running import places_of
    from alharness.cli.display import make_display
    from alharness.engine.labelling import LabelSession
    from alharness.engine.watching import watched
    from alharness.files import merge
    from alharness.spec import bind
    from alharness.tracking import RunView

    given = merge(HUMAN, overrides(strategy=strategy, task=dataset, **options))
    if "task" in given:
        told = [name.strip() for name in classes.split(",") if name.strip()]
        given["task"] = labelled_data(given["task"], told)
    with closing(make_display(quiet=quiet)) as display:
        session = LabelSession(
            bind(given, watched),
            places_of(runs_dir, data_root, download=download),
            who=who,
            fresh=fresh,
            sheets=not page,
            observers=[display, RunView(None, "alharness", display.warn)],
            warn=display.warn,
            progress=display.progress,
        )
        with session:
            try:
                _on_page(session, port, out) if page else session.next()
            finally:
                # Also after Ctrl-C: what was answered must not wait for the next call to reach the file.
                n = _written(session, out)
            _summary(session, n, out, runs_dir, page=page)


def _on_page(session: LabelSession, port: int, out: Path | None) -> None:
    from alharness.live.labelling import LabelPage
    from alharness.stopping import all_rules

    shown = LabelPage(session, rules=all_rules(), port=port)
    click.echo(shown.server.address)
    shown.run(lambda: _written(session, out))


def _written(session: LabelSession, out: Path | None) -> int:
    """Bring ``--out`` up to date; returns how many answers there are."""
    from alharness.api.labelling import export_labels
    from alharness.oracle.exchange import labelled
    from alharness.oracle.questions import read_questions

    if not read_questions(session.answers):  # it failed before anything was asked
        return 0
    rows = labelled(session.answers, session.folder.facts().task.class_names)
    if out is not None:
        export_labels(session.folder.path, out)
    return len(rows)


def _summary(
    session: LabelSession, n: int, out: Path | None, runs_dir: Path, *, page: bool
) -> None:
    told = f"{n} answers in '{session.answers}'" + (f" and '{out}'" if out is not None else "")
    if (n_differing := session.n_differing) is not None:
        told += f"; {n_differing} of them differ from the data's own classes"
    if session.finished:
        click.echo(f"finished: {told}")
        return
    click.echo(told)
    waiting = session.waiting
    if not page and waiting is not None and waiting.table is not None:
        look = f"look at '{waiting.picture}', " if waiting.picture is not None else ""
        click.echo(
            f"{waiting.n_missing} of {len(waiting.question.items)} are asked: {look}fill in "
            f"'{waiting.table}', and give the same command again"
        )


@click.group()
def labels() -> None:
    """Take labels out of a run that a person answered, and answers in.

    RUN is the run's folder, or the beginning of its key.
    """


@labels.command("export")
@click.argument("run")
@runs_dir_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "label-studio"]),
    default=None,
    help="Default: as FILE ends (.json: Label Studio), else CSV.",
)
@out_option("Write it there instead of showing it.")
@click.option("--open", "also_open", is_flag=True, help="Also what is asked and not answered yet.")
@click.option("--prefix", default="", help="Before the file's name in Label Studio's addresses.")
def export_(
    run: str, runs_dir: Path, form: Any, out: Path | None, also_open: bool, prefix: str
) -> None:
    """File or row number, class, who and when of each answer.

    \b
    alharness labels export runs/folder/margin/3f2a --out labels.csv
    alharness labels export 3f2a --format label-studio --open --out tasks.json
    """
    from alharness.api.labelling import export_labels

    text = export_labels(run, out, form, runs_dir=runs_dir, also_open=also_open, prefix=prefix)
    click.echo(text.rstrip("\n") if out is None else f"wrote {out}")


@labels.command("import")
@click.argument("run")
@click.argument("file", type=click.Path(path_type=Path))
@runs_dir_option
@click.option("--who", default=None, help="Who gave the answers that do not say.")
def import_(run: str, file: Path, runs_dir: Path, who: str | None) -> None:
    """Take the answers of a file that 'labels export' or Label Studio wrote, all or none.

    An item that was not asked about, an unknown class, or another class than that of a cycle that is over is
    refused by its line.
    """
    from alharness.api.labelling import import_labels

    taken = import_labels(run, file, runs_dir=runs_dir, who=who)
    more = [f"{taken.known} were there already"] if taken.known else []
    more += [f"{taken.empty} rows are empty"] if taken.empty else []
    click.echo(f"{taken.new} answers taken" + "".join(f", {text}" for text in more))
