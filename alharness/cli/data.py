"""``alharness data``: what data sets there are, and how they get here."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alharness.cli.display import make_display, table
from alharness.cli.options import (
    data_root_option,
    parse_settings,
    path_option,
    section_of,
    settings_option,
)
from alharness.errors import UserError, unknown_name

if TYPE_CHECKING:
    from alharness.progress import Progress
    from alharness.tasks.base import DataLocations, TaskPlugin
    from alharness.tasks.originals.cache import ImageCache
    from alharness.tasks.originals.dataset import Dataset

#: Rows and columns of the picture that ``preview`` draws.
PREVIEW = 8

_source_option = path_option(
    "--source", help="Folder or archive of the originals, instead of the data root."
)
_workers_option = click.option(
    "--workers", type=click.IntRange(min=1), default=None, help="Processes (default: all cores)."
)
_partial_option = click.option(
    "--partial", is_flag=True, help="Accept fewer or other files than the official ones; recorded."
)
_rebuild_option = click.option("--rebuild", is_flag=True, help="Convert again.")


@click.group()
def data() -> None:
    """Prepare, verify, import and list data sets.

    A data set is converted once into a uint8 cache (ALHARNESS_CACHE, by default
    ~/.cache/alharness) and never changed where it lies.
    """


@data.command("list")
@data_root_option
def list_data(data_root: Path | None) -> None:
    """List data sets: size, whether they are here, and the tasks that use them."""
    locations = _locations(data_root)
    rows = [
        (dataset.name, dataset.size, _state(dataset, locations), ", ".join(names))
        for dataset, names in _datasets().values()
    ]
    click.echo(table(sorted([*rows, *_ready_made()])))
    click.echo(
        f"Originals are looked for in {locations.data_root}, caches lie in {_caches(locations)}."
    )


@data.command()
@click.argument("name")
@_source_option
@data_root_option
@_workers_option
@_partial_option
@_rebuild_option
def prepare(
    name: str,
    source: Path | None,
    data_root: Path | None,
    workers: int | None,
    partial: bool,
    rebuild: bool,
) -> None:
    """Fetch NAME if it is not here, verify it and convert it; continues after a stop."""
    from alharness.tasks.base import load_data

    locations = _locations(data_root, download=source is None, rebuild=rebuild)
    found = _find(name)
    with _shown() as progress:
        if isinstance(found, tuple):
            task_name, plugin = found
            loaded = load_data(plugin, locations, progress)
            click.echo(f"{task_name}: {len(loaded.pool_targets):,} pool items are ready.")
            for note, text in loaded.notes.items():
                click.echo(f"  {note}: {text}")
            return
        _refuse_missing(source)
        before = _written(found, locations)
        cache = found.prepare(
            locations, progress, source=source, partial=partial, whole=not partial, workers=workers
        )
    if (cache.path, cache.written_ns) in before:
        click.echo(f"{found.name} was prepared before; --rebuild converts it again.")
    _describe(cache)


@data.command("import")
@click.argument("name")
@path_option(
    "--source",
    required=True,
    help="Folder or zip archive with {train,test}/CLASS/*.png (or jpg, ...).",
)
@data_root_option
@_workers_option
@_partial_option
@_rebuild_option
def import_images(
    name: str,
    source: Path,
    data_root: Path | None,
    workers: int | None,
    partial: bool,
    rebuild: bool,
) -> None:
    """Convert NAME from class folders of images, for instance CIFAR-10 as PNG or JPEG files."""
    _refuse_missing(source)
    found = _find(name)
    if isinstance(found, tuple):
        raise UserError(f"'{name}' needs no import. Use it as it is, or folder:PATH.")
    locations = _locations(data_root, rebuild=rebuild)
    for cache in [] if rebuild else found.caches(locations):
        if "imported" in cache.meta["notes"]:
            raise UserError(
                f"{found.title} is already prepared in {cache.path}. Use --rebuild to replace it."
            )
    with _shown() as progress:
        cache = found.prepare(
            locations,
            progress,
            source=source,
            partial=partial,
            workers=workers,
            as_images=True,
        )
    _describe(cache)


@data.command()
@click.argument("name")
@_source_option
@data_root_option
def verify(name: str, source: Path | None, data_root: Path | None) -> None:
    """Check counts and digests of NAME's cache and of its originals, where they are here."""
    _refuse_missing(source)
    found = _find(name)
    locations = _locations(data_root)
    if isinstance(found, tuple):
        from alharness.tasks.base import load_data
        from alharness.tasks.selection import CachedTask

        _, plugin = found
        with _shown() as progress:
            if isinstance(plugin, CachedTask):
                cache = plugin.open_cache(locations, progress)
                cache.verify(progress)
                findings = [f"cache {cache.path}: {len(cache.images):,} images, digests agree"]
            else:
                loaded = load_data(plugin, locations, progress)
                findings = [
                    f"{name}: {len(loaded.pool_targets):,} pool items and {len(loaded.test_targets):,} "
                    f"test items of {loaded.n_classes} classes go together; read afresh in each run"
                ]
    else:
        with _shown() as progress:
            findings = found.verify(locations, progress, source=source)
    for finding in findings:
        click.echo(finding)


@data.command()
@click.argument("name")
@path_option("--output", "-o", dir_okay=False, help="PNG file (default: NAME.png).")
@settings_option("A setting of the task, as in 'alharness run': task.numbers=price (repeatable).")
@data_root_option
def preview(
    name: str, output: Path | None, settings: tuple[str, ...], data_root: Path | None
) -> None:
    """Draw 64 pool items of the task NAME, evenly spaced, so that crop and labels can be looked at.

    Of a table: one line per column, with what it is taken for and what is doubtful.
    """
    import numpy as np
    import torch

    from alharness.pictures.sheets import Row, as_uint8, contact_sheet, save
    from alharness.registry import resolve_task
    from alharness.tasks.base import load_data

    given = section_of(parse_settings(settings), "task")
    plugin = resolve_task(name, **given)
    if lines := plugin.preview(_locations(data_root)):
        click.echo("\n".join(lines))
        return
    with _shown() as progress:
        loaded = load_data(plugin, _locations(data_root), progress)
    pool = loaded.open_pool(torch.device("cpu"))
    if len(pool.item_shape) != 3:
        raise UserError(
            f"'{name}' has items of shape {pool.item_shape}, which are no pictures; expected images "
            "[C, H, W]. Look at the file itself."
        )
    chosen = np.linspace(0, pool.n - 1, PREVIEW * PREVIEW).astype(np.int64)
    items = as_uint8(pool.gather(chosen))
    labels = [loaded.class_names[target] for target in loaded.pool_targets[chosen]]
    rows = [
        Row(
            f"from {chosen[start]:,}",
            list(items[start : start + PREVIEW]),
            labels[start : start + PREVIEW],
        )
        for start in range(0, PREVIEW * PREVIEW, PREVIEW)
    ]
    path = output or Path(f"{name.replace(':', '-').replace('/', '-')}.png")
    save(contact_sheet(rows), path)
    synthetic = " (synthetic)" if loaded.synthetic else ""
    click.echo(f"{len(chosen)} of {pool.n:,} items of {name}{synthetic} with their labels: {path}")


@data.command()
@click.argument("name")
@click.option(
    "--model",
    required=True,
    metavar="MODULE:NAME",
    help="A torch module, a function of images, or what gives one: package.module:name, ./file.py:name.",
)
@path_option("--out", dir_okay=False, required=True, help="The .npz file to write.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Items at a time.",
)
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N or auto.")
@click.option("--fresh", is_flag=True, help="Begin again where another call was stopped.")
@data_root_option
def embed(
    name: str,
    model: str,
    out: Path,
    batch_size: int,
    device: str,
    fresh: bool,
    data_root: Path | None,
) -> None:
    """Write a row of numbers for every item of the task NAME, as MODEL gives it for images in [0, 1].

    Pool and test set both: the file serves as --set strategy.features=npz:FILE of NAME, and as a data set of
    its own, npz:FILE. A stopped call goes on where it was.
    """
    from alharness.api.embedding import embed as embedded

    with _shown() as progress:
        found = embedded(
            name,
            model,
            out,
            locations=_locations(data_root),
            batch_size=batch_size,
            device=device,
            fresh=fresh,
            progress=progress,
        )
    before = f" ({found.n_found:,} of them were there)" if found.n_found else ""
    click.echo(
        f"{found.n_pool:,} pool items and {found.n_test:,} test items of {name} as rows of "
        f"{found.n_features:,} numbers{before}: {out}"
    )
    click.echo(f"  --set strategy.features=npz:{out}  on {name}")
    click.echo(f"  --dataset npz:{out}  as a data set of its own")


@data.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--count", type=click.IntRange(min=100), default=2000, show_default=True)
def draw(folder: Path, count: int) -> None:
    """Write drawn faces to FOLDER in CelebA's own layout (synthetic), to try the CelebA loader.

    Afterwards: alharness data prepare celeba --source FOLDER --partial
    """
    from alharness.files import explained
    from alharness.tasks.faces import write_as_celeba

    with explained(folder, cure="Choose another folder"), _shown() as progress:
        write_as_celeba(folder, count, progress)
    click.echo(f"{count:,} synthetic faces in CelebA's layout: {folder}")


def _locations(
    data_root: Path | None, *, download: bool = False, rebuild: bool = False
) -> DataLocations:
    from alharness.tasks.base import DataLocations

    return DataLocations.resolve(data_root, download=download, rebuild=rebuild)


def _caches(locations: DataLocations) -> Path:
    return locations.cache_root / "datasets"


def _refuse_missing(source: Path | None) -> None:
    if source is not None and not source.exists():
        raise UserError(f"--source {source} does not exist. Expected a folder or an archive.")


def _datasets() -> Mapping[str, tuple[Dataset, list[str]]]:
    """All data sets of installed tasks by name, each with its tasks."""
    from alharness import registry

    found: dict[str, tuple[Dataset, list[str]]] = {}
    for task_name in registry.names(registry.TASKS):
        try:
            dataset = registry.task_class(task_name).dataset
        except UserError:  # it is broken
            continue
        if dataset is not None:
            found.setdefault(dataset.name, (dataset, []))[1].append(task_name)
    return found


def _ready_made() -> Iterator[tuple[str, str, str, str]]:
    """A row for each installed task that needs no preparation: it brings its data, or reads the user's."""
    from alharness import registry

    for name in registry.names(registry.TASKS):
        try:
            found = registry.task_class(name)
        except UserError:
            yield name, "", "cannot be loaded", registry.provider(registry.TASKS, name)
            continue
        if found.dataset is None:
            typed = f"{name}:..." if found.takes_argument else name
            what = "yours" if found.takes_argument else "no download"
            summary = (inspect.getdoc(found) or "").split("\n\n")[0].replace("\n", " ")
            yield typed, what, "", summary


def _find(name: str) -> Dataset | tuple[str, TaskPlugin]:
    """The data set behind the name of a data set or of a task; a task without one stands for itself."""
    from alharness import registry

    datasets = _datasets()
    if name in datasets:
        return datasets[name][0]
    key = name.split(":", 1)[0]
    # Such names are tried, not looked up: nobody can list what lies in files.
    of_ones_own = "." in key or "/" in key  # package.module:Class or ./file.py:Class
    if not of_ones_own and key not in registry.names(registry.TASKS):
        raise unknown_name("data set", name, {*datasets, *registry.names(registry.TASKS)})
    plugin = registry.resolve_task(name)
    return plugin.dataset or (name, plugin)


def _state(dataset: Dataset, locations: DataLocations) -> str:
    try:
        caches = dataset.caches(locations)
    except UserError:
        return "damaged cache"
    if caches:
        return ", ".join(
            f"{len(cache.images):,} images ready"
            + ("" if cache.standing == "complete" else f" ({cache.standing})")
            for cache in caches
        )
    if not dataset.needs_originals:
        return "made when needed"
    return "originals here" if dataset.find(locations.data_root) is not None else "not here"


def _written(dataset: Dataset, locations: DataLocations) -> set[tuple[Path, int]]:
    """The caches that are there, and when they were written; none where one is damaged."""
    try:
        return {(cache.path, cache.written_ns) for cache in dataset.caches(locations)}
    except UserError:
        return set()


def _describe(cache: ImageCache) -> None:
    """What has been prepared, in two lines."""
    splits = ", ".join(
        f"{name} {stop - start:,}" for name, (start, stop) in cache.meta["splits"].items()
    )
    shape = "x".join(map(str, cache.images.shape[1:]))
    click.echo(f"{cache.path.name}: {splits}; {shape}; digest {cache.digest}")
    for key, value in cache.meta["notes"].items():
        click.echo(f"  {key}: {value}")
    if cache.partial:
        what = cache.meta["notes"].get("partial", "not the complete data set")
        click.echo(f"  PARTIAL: {what}; every record says so.")
    click.echo(f"  cache: {cache.path}")


@contextmanager
def _shown() -> Iterator[Progress]:
    """Progress, on standard error: what a command finds goes to standard output."""
    with closing(make_display(quiet=False, err=True)) as display:
        yield display.progress
