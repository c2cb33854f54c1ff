"""A user's own images, sorted into class folders: ``folder:PATH``.

``PATH`` is a folder or a zip archive with ``train/CLASS/*`` and ``test/CLASS/*``, or with
``CLASS/*`` alone, which is split by a seed of its own. What was converted is cached and converted
again when the files change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from alharness.errors import UserError
from alharness.progress import Progress, silent
from alharness.tasks.base import DataLocations
from alharness.tasks.fitting import FitParameters, OwnImages, plan_of
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.class_folders import ClassFolders, scan
from alharness.tasks.originals.conversion import Conversion
from alharness.tasks.originals.images import ImageFiles
from alharness.tasks.originals.tree import shown
from alharness.tasks.rows import LEFT_OUT, Rows, SplitParameters, divided


class FolderParameters(SplitParameters, FitParameters):  # in this order: it names caches
    """``--set task.NAME=VALUE`` for ``folder:PATH``."""


class Folder(OwnImages):
    """Your own images: folder:PATH with train and test folders of class folders, or class folders."""

    Parameters = FolderParameters
    source = "a folder or zip archive of images on this machine"
    parameters: FolderParameters

    def __init__(self, name: str, argument: str | None = None, **parameters: object) -> None:
        super().__init__(name, argument, **parameters)
        path = argument or ""
        if shown(path) != path:
            raise UserError(
                f"folder:{shown(path)}: the path is not UTF-8. Rename the folder, or name it through a "
                "link."
            )

    def open_cache(self, locations: DataLocations, progress: Progress = silent) -> ImageCache:
        path = self.path
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

    def _plan(
        self, folders: ClassFolders, origin: Mapping[str, str], progress: Progress
    ) -> Conversion:
        members = [
            (image, class_name, split)
            for split, classes in folders.members.items()
            for class_name, images in classes.items()
            for image in images
        ]
        images, labels, splits = zip(*members, strict=True)
        rows = Rows(
            items=images,
            labels=np.array(labels),
            split=None if "" in folders.members else np.array(splits),
            notes={"source": "a folder of images"},
        )
        return plan_of(
            rows,
            divided(rows, self.parameters, f"folder:{self.argument}", "folder"),
            folders.tree.source,
            lambda names, fit: ImageFiles(folders.tree, tuple(names), fit),
            str(folders.tree.path),
            self.parameters,
            origin,
            progress,
        )
