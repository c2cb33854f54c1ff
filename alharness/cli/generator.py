"""``alharness generator``: train, inspect and compare the image generators of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alharness.cli.artefacts import figures_table, open_store
from alharness.cli.display import duration, make_display, table
from alharness.cli.options import (
    data_root_option,
    parse_settings,
    path_option,
    runs_dir_option,
    settings_option,
    stacked,
)
from alharness.errors import UserError, unknown_name

if TYPE_CHECKING:
    from alharness.artefacts import Artefact, ArtefactStore
    from alharness.engine.opening import OpenTask
    from alharness.learners.settings import LearnerSettings

#: Columns of ``compare``: name of the figure in details or inspection, heading.
COMPARED = {
    "frechet_pixels": "FD pixels",
    "coverage_pixels": "coverage",
    "frechet_auto": "FD auto",
    "frechet_cls": "FD cls",
    "nearest_ratio_auto": "nearest",
    "entropy_after": "entropy",
    "entropy_of_matches": "matched",
    "agreement_searched": "agreement",
}

#: Sections of a spec that say what a generator is.
SECTIONS = ("generator", "autoencoder", "learner", "task")

#: Samples of each generator in the picture of ``compare``.
N_COMPARED = 12


@click.group()
def generator() -> None:
    """Train, inspect and compare image generators (WGAN-GP, WGAN-CT) of a data set.

    Runs train what they need by themselves; here it is done ahead, and looked at. A stopped
    training continues with the same command.

    \b
    alharness generator train mnist-two --profile paper
    alharness generator train mnist-two --set generator.steps=5000
    alharness generator inspect mnist-two --out pictures
    alharness generator compare mnist-two
    """


#: Options of all three commands.
_common = stacked(
    click.argument("task"),
    click.option("--profile", default="quick", show_default=True, help="quick or paper."),
    settings_option(
        "generator.NAME, autoencoder.NAME, learner.NAME (the reference classifier) or task.NAME."
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    data_root_option,
    runs_dir_option,
    click.option("--quiet", is_flag=True, help="Show results only."),
)


@generator.command()
@_common
@click.option(
    "--only",
    type=click.Choice(["generator", "autoencoder"]),
    default=None,
    help="Train one of the two networks only.",
)
def train(task: str, only: str | None, quiet: bool, runs_dir: Path, **options: Any) -> None:
    """Train the generator and the auto-encoder that runs on TASK will use."""
    from alharness.artefacts import Supply

    opened = _open(task, runs_dir=runs_dir, **options)
    made = []
    with closing(make_display(quiet=quiet)) as display:
        supply = Supply(opened.store, progress=display.progress)
        if only != "generator":
            made.append(opened.task.networks.obtain_autoencoder(supply).artefact_key)
        if only != "autoencoder":
            made.append(opened.task.networks.obtain_generator(supply).artefact_key)
    for key in made:
        _tell(opened.store.find(key))


@generator.command()
@_common
@click.option("--key", default=None, help="Another generator than that of the settings.")
@path_option("--out", file_okay=False, help="Folder to copy pictures and figures to.")
def inspect(
    task: str, key: str | None, out: Path | None, quiet: bool, runs_dir: Path, **options: Any
) -> None:
    """Measure a trained generator of TASK with the help of labels, and draw it.

    Trains a reference classifier on the whole pool (its features: FD cls; its entropy: what a
    latent search can reach), and the auto-encoder of the settings if there is none yet.
    """
    from alharness.artefacts import Supply
    from alharness.generative.generator import load_generator
    from alharness.generative.inspection import Subject, obtain_inspection, reference_settings

    opened = _open(task, runs_dir=runs_dir, **options)
    artefact = _chosen(opened, key)
    with closing(make_display(quiet=quiet)) as display:
        supply = Supply(opened.store, progress=display.progress)
        autoencoder = opened.task.networks.obtain_autoencoder(supply)
        subject = Subject(
            artefact=artefact,
            generator=load_generator(artefact, opened.task.pool.device),
            autoencoder=autoencoder,
            data=opened.task.data,
            pool=opened.task.pool,
            test=opened.task.data.open_test(opened.task.pool.device),
            reference=opened.reference or reference_settings(opened.task.pool.item_shape),
        )
        found = obtain_inspection(subject, supply)
    _tell(artefact)
    click.echo(figures_table(found.details["figures"]))
    where = found.path
    if out is not None:
        from alharness.files import copy

        for path in sorted(found.path.iterdir()):
            if path.suffix == ".png" or path.name == "figures.json":
                copy(path, out / path.name)
        where = out
    click.echo(f"Pictures and figures: {where}")


@generator.command()
@_common
@path_option(
    "--out",
    file_okay=False,
    help="Folder for the table (comparison.json) and samples of each generator (comparison.png).",
)
def compare(task: str, out: Path | None, quiet: bool, runs_dir: Path, **options: Any) -> None:
    """All generators of TASK in one table, the best by Fréchet distance first.

    Figures from FD auto on need an inspection ('alharness generator inspect TASK --key KEY').
    """
    from alharness.files import write_json

    opened = _open(task, runs_dir=runs_dir, **options)
    rows = _comparison(opened)
    if not rows:
        raise UserError(
            f"There is no generator of '{task}' in '{opened.store.root}'. "
            f"Train one with: alharness generator train {task}"
        )
    named = ("key", "recipe", "width", "steps", "seed")
    head = (*named, "took", *COMPARED.values())
    cells = [
        (
            *(str(row[name]) for name in named),
            duration(row["seconds"]),
            *(f"{row[name]:.4g}" if name in row else "-" for name in COMPARED),
        )
        for row in rows
    ]
    click.echo(table(cells, head))
    click.echo(
        "FD: Fréchet distance, smaller is better. nearest: well below 1 means memorised. entropy: "
        "what a latent search reaches, share of log C; matched: of the nearest real images."
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        table_file = out / "comparison.json"
        write_json(table_file, rows)
        _draw_comparison(opened, rows, out / "comparison.png")
        click.echo(f"Table and samples: {table_file}, {out / 'comparison.png'}")


@dataclass(frozen=True)
class _Opened:
    """A task whose generators are meant, and where they lie.

    Attributes:
        task: its data and pool, and the networks of a run on it.
        store: the artefacts.
        reference: the classifier that was asked for; None for that of an inspection.
    """

    task: OpenTask
    store: ArtefactStore
    reference: LearnerSettings | None

    @property
    def name(self) -> str:
        return self.task.bound.spec.task.name


def _open(
    task: str,
    *,
    profile: str,
    settings: Sequence[str],
    device: str,
    data_root: Path | None,
    runs_dir: Path,
) -> _Opened:
    """Check everything that was typed, then load the data.

    Raises:
        UserError: an unknown name or value, or missing data.
    """
    from alharness.api.running import places_of
    from alharness.comparison.comparison import BASELINE
    from alharness.engine.opening import open_task
    from alharness.files import merge
    from alharness.learners.settings import LearnerSettings
    from alharness.spec import bind, current_device

    given = parse_settings(settings)
    for section in given:
        if section not in SECTIONS:
            raise unknown_name("setting", section, SECTIONS)
        if not isinstance(given[section], Mapping):
            raise UserError(f"'{section}' is a section: expected {section}.NAME=VALUE.")
    # A run has a strategy; the baseline serves every task, and changes nothing about its networks.
    chosen = {"task": {"name": task}, "strategy": BASELINE, "profile": profile, "device": device}
    bound = bind(merge(given, chosen))
    click.get_current_context().with_resource(current_device(bound.spec.device))
    return _Opened(
        open_task(bound, places_of(runs_dir, data_root)),
        open_store(runs_dir),
        LearnerSettings.model_validate(given["learner"]) if "learner" in given else None,
    )


def _chosen(opened: _Opened, key: str | None) -> Artefact:
    """The generator that is meant; it is not trained here.

    Raises:
        UserError: it is not there, or belongs to other data.
    """
    from alharness.generative.generator import KIND, GeneratorMaker

    fingerprint = opened.task.pool.fingerprint
    if key is None:
        recipe = opened.task.networks.generator_recipe()
        key = GeneratorMaker(opened.task.pool, recipe, opened.name).key
        if not (opened.store.root / KIND / key).is_dir():
            raise UserError(
                f"The generator of these settings (recipe '{recipe.recipe}', {recipe.steps} steps) "
                f"is not trained yet. Train it with: alharness generator train {opened.name}, with "
                "the same --profile and --set; or choose one by --key."
            )
    found = opened.store.find(key)
    if found.kind != KIND or found.identity["task_fingerprint"] != fingerprint:
        raise UserError(
            f"'{key}' is not a generator of '{opened.name}' with these data but a {found.kind} of "
            f"'{found.details.get('task', '?')}'. See: alharness generator compare {opened.name}"
        )
    return opened.store.load(found.kind, found.key)


def _comparison(opened: _Opened) -> list[dict[str, Any]]:
    """One row per generator of the task's data; figures of its newest inspection beside its own."""
    from alharness.generative.generator import KIND
    from alharness.generative.inspection import newest_inspections

    inspected = newest_inspections(opened.store)
    rows = []
    for found in opened.store.finished(KIND):
        if found.identity["task_fingerprint"] != opened.task.pool.fingerprint:
            continue
        recipe = found.identity["recipe"]
        rows.append(
            {
                "key": found.key,
                **{name: recipe[name] for name in ("recipe", "width", "steps", "seed")},
                "seconds": found.seconds,
                **found.details["quality"],
                **inspected.get(found.key, {}),
            }
        )
    return sorted(rows, key=lambda row: float(row["frechet_pixels"]))


def _draw_comparison(opened: _Opened, rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Samples of every generator, in the order of the table, below real images."""
    import torch

    from alharness.generative.generator import KIND, load_generator
    from alharness.pictures.grids import save_rows

    spread = torch.linspace(
        0, opened.task.pool.n - 1, N_COMPARED
    ).long()  # pools may be sorted by class
    shown = [("real images", opened.task.pool.gather(spread))]
    for row in rows:
        generator = load_generator(opened.store.load(KIND, row["key"]), opened.task.pool.device)
        label = (
            f"{row['recipe']}, width {row['width']}\n{row['steps']} steps\n"
            f"FD pixels {row['frechet_pixels']:.3g}"
        )
        shown.append((label, generator.sample(N_COMPARED)))
    save_rows(path, shown)


def _tell(artefact: Artefact) -> None:
    """What an artefact is, how good and how dear it was."""
    recipe = artefact.identity["recipe"]
    click.echo(
        f"{artefact.kind} {artefact.key}  {recipe['recipe']}  {recipe['steps']} steps  "
        f"{duration(artefact.seconds)} on {artefact.details['device']}"
    )
    click.echo(figures_table(artefact.details["quality"]))
    for warning in artefact.details.get("warnings", []):
        click.echo(f"  warning: {warning}")
    click.echo(f"  {artefact.path / 'samples.png'}")
