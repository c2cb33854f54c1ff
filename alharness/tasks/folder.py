"""A user's own images, sorted into class folders: ``folder:PATH``.

``PATH`` is a folder or a zip archive with ``train/CLASS/*`` and ``test/CLASS/*``, or with
``CLASS/*`` alone, which is split by a seed of its own. What was converted is cached and converted
again when the files change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from alharness import seeds
from alharness.errors import UserError
from alharness.progress import Progress, silent
from alharness.tasks.base import DataLocations, Profile, TaskDefaults
from alharness.tasks.fitting import FitParameters, defaults_for_images, fit_of
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.class_folders import (
    LEFT_OUT,
    SPLITS,
    ClassFolders,
    plan_images,
    scan,
)
from alharness.tasks.originals.conversion import Plan
from alharness.tasks.originals.tree import shown
from alharness.tasks.selection import CachedTask, Selection


class FolderParameters(FitParameters):
    """``--set task.NAME=VALUE`` for ``folder:PATH``."""

    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the test set, without train and test folders"
    )
    split_seed: int = Field(0, description="seed of that split, apart from the run's seeds")


class Folder(CachedTask):
    """Your own images: folder:PATH with train and test folders of class folders, or class folders."""

    Parameters = FolderParameters
    source = "a folder or zip archive of images on this machine"
    takes_argument = True
    parameters: FolderParameters

    def identity(self) -> dict[str, str]:
        """The folder itself: one name means another folder in another place."""
        return {self.argument or "": str(self._path())}

    def defaults(self, profile: Profile) -> TaskDefaults:
        return defaults_for_images(profile)

    def __init__(self, name: str, argument: str | None = None, **parameters: object) -> None:
        super().__init__(name, argument, **parameters)
        path = argument or ""
        if shown(path) != path:
            raise UserError(
                f"folder:{shown(path)}: the path is not UTF-8. Rename the folder, or name it through a "
                "link."
            )

    def open_cache(self, locations: DataLocations, progress: Progress = silent) -> ImageCache:
        path = self._path()
        if not path.exists():
            raise UserError(
                f"folder:{self.argument} does not exist (looked for {path}). "
                "Expected folder:PATH with class folders of images."
            )
        folders = scan(path)
        origin = {path.name: folders.digest()}
        cache = self.own_cache(
            "folder",
            path,
            self.parameters,
            origin,
            lambda: self._plan(folders, origin, progress),
            locations,
            progress,
        )
        # What else lies in the folder may change without a change of the images.
        notes = {name: text for name, text in cache.meta["notes"].items() if name != LEFT_OUT}
        return replace(cache, meta={**cache.meta, "notes": {**notes, **folders.notes}})

    def selection(self, cache: ImageCache) -> Selection:
        return Selection(pool=["pool"], test="test", class_names=cache.label_names)

    def _path(self) -> Path:
        return Path(self.argument or "").expanduser().resolve()

    def _plan(self, folders: ClassFolders, origin: Mapping[str, str], progress: Progress) -> Plan:
        fit, how = fit_of(
            folders.all_names(),
            folders.tree.source,
            str(folders.tree.path),
            self.parameters,
            progress,
        )
        classes = folders.class_names
        if len(classes) < 2:
            raise UserError(
                f"{folders.tree.path} has one class only ({classes[0]}); expected at least two "
                "class folders. Add another one."
            )
        labels = {name: number for number, name in enumerate(classes)}
        ordered: dict[str, list[tuple[str, int]]] = {"pool": [], "test": []}
        for split, members in folders.members.items():
            for name, images in members.items():
                pairs = [(image, labels[name]) for image in images]
                if split:
                    ordered[split] += pairs
                else:
                    pool, test = self._split(name, pairs)
                    ordered["pool"] += pool
                    ordered["test"] += test
        notes = {"source": "a folder of images", "fit": how}
        if "" in folders.members:
            share, seed = self.parameters.test_fraction, self.parameters.split_seed
            notes[SPLITS] = f"test: {share:g} of each class, drawn with seed {seed}"
        return plan_images(folders, ordered, fit, classes, origin=origin, notes=notes)

    def _split(
        self, name: str, pairs: Sequence[tuple[str, int]]
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Pool and test images of one class: stratified, in the order of their names."""
        n_test = round(len(pairs) * self.parameters.test_fraction)
        if n_test == 0 or n_test == len(pairs):
            raise UserError(
                f"Class '{name}' of folder:{self.argument} has {len(pairs)} images: too few to "
                f"split off a test share of {self.parameters.test_fraction}. Add images or set "
                "task.test_fraction."
            )
        rng = seeds.rng(self.parameters.split_seed, "folder", name)
        chosen = set(rng.choice(len(pairs), n_test, replace=False).tolist())
        pool = [pair for position, pair in enumerate(pairs) if position not in chosen]
        return pool, [pair for position, pair in enumerate(pairs) if position in chosen]
