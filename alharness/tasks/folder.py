"""A user's own images, sorted into class folders: ``folder:PATH``.

``PATH`` is a folder or a zip archive with ``train/CLASS/*`` and ``test/CLASS/*``, or with
``CLASS/*`` alone, which is split by a seed of its own. What was converted is cached and converted
again when the files change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pydantic import Field

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.progress import Progress, silent
from alharness.tasks.base import DataLocations, TaskData
from alharness.tasks.fitting import FitParameters, OwnImages, plan_of
from alharness.tasks.image_tables import classes_in_names, read_image_table, seen_beside
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.class_folders import ClassFolders, scan
from alharness.tasks.originals.conversion import Conversion
from alharness.tasks.originals.images import ImageFiles, is_image
from alharness.tasks.originals.tree import Contents, FileTree, listed, shown
from alharness.tasks.rows import LEFT_OUT, Divided, Rows, SplitParameters, divided
from alharness.tasks.selection import select

#: Where ``alharness list`` shows it.
FAMILY = "Your own data (needs a path)"


class FolderParameters(SplitParameters, FitParameters):  # in this order: it names caches
    """``--set task.NAME=VALUE`` for ``folder:PATH``."""

    table: str | None = Field(
        None,
        json_schema_extra={"added": "0.3.0"},
        description="file beside the images that says their classes or their split, for instance "
        "metadata.csv (file_name, label) or train_test_split.txt; relative to the folder",
    )


class Folder(OwnImages):
    """Your own images: folder:PATH with train and test folders of class folders, or class folders."""

    Parameters = FolderParameters
    source = "a folder or zip archive of images on this machine"
    kept_as = "folder"
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
        return self._opened(locations, progress)[0]

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        cache, rows = self._opened(locations, progress)
        data = select(cache, self.selection(cache))
        if not self.parameters.wants_blanks:
            return data
        return replace(data, pool_names=self._divided(rows).named_pool(rows.items))

    def original(self, name: str) -> Path | bytes:
        return FileTree(self.path).source(name)

    def _opened(self, locations: DataLocations, progress: Progress) -> tuple[ImageCache, Rows]:
        """The cache, and what was read of the folder without opening an image."""
        path = self.path
        if not path.exists():
            raise UserError(
                f"folder:{self.argument} does not exist (looked for {path}). "
                "Expected folder:PATH with class folders of images."
            )
        tree = FileTree(path)
        listing = tree.listing()
        images = sorted(name for name in listing.files if is_image(name))
        beside = seen_beside(path, [name for name in listing.files if not is_image(name)])
        if self.parameters.table is not None:
            return self._by_table(tree, listing, images, locations, progress)
        try:
            return self._by_folders(listing, beside, locations, progress)
        except UserError as error:
            hint = ""
            if beside:
                hint = (
                    f" {beside[0]} lies there: set task.table={beside[0]} if it says the classes."
                )
            elif words := classes_in_names(images):
                hint = (
                    f" Their names begin with {listed(words)}: sort them into folders of these names, or "
                    "give a table of file_name and label with task.table."
                )
            # What lies beside explains the failure more often than the folders do.
            if not hint:
                raise
            raise UserError(f"{error}{hint}") from error

    def _by_folders(
        self,
        listing: Contents,
        beside: Sequence[str],
        locations: DataLocations,
        progress: Progress,
    ) -> tuple[ImageCache, Rows]:
        """Classes, and the split where there is one, as folders say them."""
        path = self.path
        folders = scan(path, blanks=self.parameters.wants_blanks, listing=listing)
        said = [name for name in beside if PurePosixPath(name).stem == "train_test_split"]
        if said:
            told = f"{said[0]} is not used; task.table={said[0]} takes it"
            folders = replace(folders, notes={**folders.notes, "author's split": told})
        origin = {path.name: folders.digest()}
        rows = self._rows_of(folders)
        cache = self.converted(
            origin, lambda: self._plan(rows, folders.tree, origin, progress), locations, progress
        )
        # What else lies in the folder may change without a change of the images.
        notes = {name: text for name, text in cache.meta["notes"].items() if name != LEFT_OUT}
        return replace(cache, meta={**cache.meta, "notes": {**notes, **folders.notes}}), rows

    def _by_table(
        self,
        tree: FileTree,
        contents: Contents,
        images: Sequence[str],
        locations: DataLocations,
        progress: Progress,
    ) -> tuple[ImageCache, Rows]:
        """Classes, or the split, out of a table beside the images."""
        where = f"folder:{self.argument}"
        if tree.is_archive:
            raise UserError(
                f"{where} is an archive: unpack it, to take classes or splits from task.table."
            )
        path = (self.path / (self.parameters.table or "")).resolve()
        table = read_image_table(path, where)
        found = table.by_image(images, f"task.table={path.name} of {where}")
        chosen = sorted((image, name) for name, image in found.items())
        splits = [table.splits.get(name, "train") for _, name in chosen]
        labels = [
            # A table may say the split alone: then folders say the classes.
            table.labels[name] if table.labels else PurePosixPath(image).parent.name
            for image, name in chosen
        ]
        notes = {"source": "a folder of images", "table": path.name}
        if n_more := len(images) - len(chosen):
            notes[LEFT_OUT] = f"{n_more:,} images that {path.name} does not name"
        rows = Rows(
            items=[image for image, _ in chosen],
            labels=np.array(labels, dtype=np.str_),
            known=np.array([bool(label.strip()) for label in labels], dtype=bool),
            split=np.array(splits) if table.splits else None,
            notes=notes,
        )
        # Other classes under the same images are another data set.
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        origin = {
            self.path.name: contents.digest([image for image, _ in chosen]),
            path.name: digest,
        }
        cache = self.converted(
            origin, lambda: self._plan(rows, tree, origin, progress), locations, progress
        )
        return cache, rows

    def _rows_of(self, folders: ClassFolders) -> Rows:
        """The images with the class and the part that their folders say."""
        members = [
            (image, class_name, split)
            for split, classes in folders.members.items()
            for class_name, images in classes.items()
            for image in images
        ]
        has_parts = bool(folders.members) and "" not in folders.members
        members += [(image, "", "train") for image in folders.blank]
        images, labels, splits = zip(*members, strict=True)
        return Rows(
            items=images,
            labels=np.array(labels),
            known=np.array([bool(label) for label in labels]) if folders.blank else None,
            split=np.array(splits) if has_parts else None,
            notes={"source": "a folder of images"},
        )

    def _plan(
        self, rows: Rows, tree: FileTree, origin: Mapping[str, str], progress: Progress
    ) -> Conversion:
        return plan_of(
            rows,
            self._divided(rows),
            tree.source,
            lambda names, fit: ImageFiles(tree, tuple(names), fit),
            str(tree.path),
            self.parameters,
            origin,
            progress,
        )

    def _divided(self, rows: Rows) -> Divided:
        return divided(rows, self.parameters, f"folder:{self.argument}", "folder")
