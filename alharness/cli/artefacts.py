"""``alharness artefacts``: what was costly and is kept (generators, auto-encoders, features, ...)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.display import duration, table
from alharness.cli.options import runs_dir_option

if TYPE_CHECKING:
    from alharness.artefacts import ArtefactStore


@click.group()
def artefacts() -> None:
    """List, show and remove artefacts.

    They lie in RUNS/artefacts, or in the folder that ALHARNESS_ARTEFACTS names. KEY may be
    shortened as long as it fits one artefact only. To take one to another machine, copy its folder
    KIND/KEY: all of its files are verified when it is used.
    """


@artefacts.command("list")
@runs_dir_option
def list_artefacts(runs_dir: Path) -> None:
    """All artefacts, with the time that making them took."""
    store = open_store(runs_dir)
    rows = [
        (
            found.kind,
            found.key,
            str(found.details.get("task", "-")),
            found.meta["built"],
            duration(found.seconds),
            size(found.size_bytes),
        )
        for found in store.finished()
    ]
    if rows:
        click.echo(table(rows, ("kind", "key", "task", "made", "took", "size")))
    else:
        click.echo(
            f"No artefacts in '{store.root}' yet; runs and 'alharness generator train' make them."
        )
    for path in store.unfinished():
        click.echo(
            f"unfinished: {path.parent.name} {path.stem} (the next run that needs it goes on)"
        )


@artefacts.command()
@click.argument("key")
@runs_dir_option
def show(key: str, runs_dir: Path) -> None:
    """All that is known of one artefact, its files verified."""
    store = open_store(runs_dir)
    found = store.find(key)
    store.load(found.kind, found.key)
    click.echo(f"{found.kind} {found.key}  in {found.path}")
    click.echo(json.dumps(found.meta, indent=2))
    click.echo("All files have their recorded SHA-256.")


@artefacts.command()
@click.argument("keys", nargs=-1, required=True)
@runs_dir_option
def remove(keys: tuple[str, ...], runs_dir: Path) -> None:
    """Delete artefacts, also unfinished ones; a run that needs one will make it anew."""
    store = open_store(runs_dir)
    chosen = [store.locate(key) for key in keys]  # all, before anything is deleted
    for kind, key in chosen:
        store.remove(kind, key)
        click.echo(f"Removed {kind} {key}.")


def open_store(runs_dir: Path) -> ArtefactStore:
    """The store that runs under ``runs_dir`` use."""
    from alharness.artefacts import ArtefactStore, default_store_root

    return ArtefactStore(default_store_root(runs_dir))


def size(n_bytes: int) -> str:
    """Bytes as a person says them."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 100_000 else f"{n_bytes / 1e3:.1f} kB"


def figures_table(figures: Mapping[str, Any]) -> str:
    """Names and values, one per line."""
    width = max(map(len, figures), default=0)
    return "\n".join(f"  {name:<{width}}  {value:.4g}" for name, value in figures.items())
