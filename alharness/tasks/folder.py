"""A user's own images, sorted into class folders: ``folder:PATH``.

``PATH`` is a folder or a zip archive with ``train/CLASS/*`` and ``test/CLASS/*``, or with
``CLASS/*`` alone, which is split by a seed of its own. What was converted is cached and converted
again when the files change.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import Field

from alharness import seeds
from alharness.errors import UserError
from alharness.learners.learner import LearnerSettings
from alharness.progress import Progress, silent
from alharness.tasks.base import (
    DataLocations,
    Profile,
    TaskData,
    TaskDefaults,
    TaskParameters,
    TaskPlugin,
)
from alharness.tasks.cache import CacheMissingError, ImageCache
from alharness.tasks.class_folders import ClassFolders, plan_images, scan
from alharness.tasks.conversion import Plan, obtain_cache
from alharness.tasks.dataset import Selection, select
from alharness.tasks.readers import Fit

#: Images of one size up to this side are kept as they are; all others become this large.
COMMON_SIZE = 64
MODES = {"gray": ("L", 1), "rgb": ("RGB", 3)}


class FolderParameters(TaskParameters):
    """``--set task.NAME=VALUE`` for ``folder:PATH``."""

    image_size: int | None = Field(
        None, ge=4, description="side of the square items; by default the images' own, or 64"
    )
    mode: Literal["auto", "gray", "rgb"] = Field(
        "auto", description="auto wants all images alike; gray and rgb convert what differs"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of the test set, without train and test folders"
    )
    split_seed: int = Field(0, description="seed of that split, apart from the run's seeds")


class Folder(TaskPlugin):
    """Your own images: folder:PATH with train and test folders of class folders, or class folders."""

    Parameters = FolderParameters
    source = "a folder or zip archive of images on this machine"
    takes_argument = True

    def identity(self) -> dict[str, str]:
        """The folder itself: one name means another folder in another place."""
        return {self.argument or "": str(Path(self.argument or "").expanduser().resolve())}

    parameters: FolderParameters

    def defaults(self, profile: Profile) -> TaskDefaults:
        # Not in the paper: small enough for a first run on any folder.
        if profile == "paper":
            learner = LearnerSettings(
                kind="strided-cnn", width=32, batch_size=50, epochs=20, min_steps=1000
            )
            return TaskDefaults(budget=1000, query_size=10, initial_size=100, learner=learner)
        learner = LearnerSettings(
            kind="strided-cnn", width=16, batch_size=50, epochs=10, min_steps=200
        )
        return TaskDefaults(budget=200, query_size=10, initial_size=50, learner=learner)

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        path = Path(self.argument or "").expanduser()
        if not path.exists():
            raise UserError(
                f"folder:{self.argument} does not exist (looked for {path.resolve()}). "
                "Expected folder:PATH with class folders of images."
            )
        folders = scan(path)
        names = folders.all_names()
        origin = {path.name: folders.tree.listing_digest(names)}
        key = repr((path.resolve().as_posix(), self.parameters.model_dump()))
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        cache_path = locations.cache_root / "datasets" / f"folder-{path.stem}-{digest}"
        try:
            changed = ImageCache.open(cache_path).meta["origin"] != origin
        except CacheMissingError:
            changed = False
        cache = obtain_cache(
            cache_path,
            lambda: self._plan(folders, names, origin, progress),
            progress,
            rebuild=changed,
        )
        selection = Selection(pool=["pool"], test="test", class_names=cache.label_names)
        return select(cache, selection)

    def _plan(
        self,
        folders: ClassFolders,
        names: Sequence[str],
        origin: Mapping[str, str],
        progress: Progress,
    ) -> Plan:
        fit = self._fit(folders, names, progress)
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
                    ordered["pool" if split == "train" else "test"] += pairs
                else:
                    pool, test = self._split(name, pairs)
                    ordered["pool"] += pool
                    ordered["test"] += test
        if not ordered["pool"] or not ordered["test"]:
            raise UserError(
                f"{folders.tree.path} has a train or a test folder but not both. Add the other one, "
                "or put the class folders side by side to have them split."
            )
        return plan_images(
            folders,
            ordered,
            fit,
            classes,
            origin=origin,
            notes={
                "source": "a folder of images",
                "fit": f"{fit.channels} channels, {fit.size[0]}x{fit.size[1]}"
                + (", centre square" if fit.crop is not None else ""),
            },
        )

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

    def _fit(self, folders: ClassFolders, names: Sequence[str], progress: Progress) -> Fit:
        """How these images become items; reads the head of each file.

        Raises:
            UserError: unreadable images or mixed modes, by name.
        """
        modes: dict[str, str] = {}
        sizes: Counter[tuple[int, int]] = Counter()
        for number, name in enumerate(names):
            if number % 1000 == 0:
                progress("look at the images", number, len(names))
            try:
                # A lazy open reads the head of a file only; from an archive it reads the member.
                if folders.tree.is_archive:
                    image = Image.open(io.BytesIO(folders.tree.read(name)))
                else:
                    image = Image.open(folders.tree.path / name)
                with image:
                    modes.setdefault(image.mode, name)
                    sizes[(image.height, image.width)] += 1
            except Exception as error:  # decoders raise a dozen types for damaged files
                raise UserError(
                    f"{folders.tree.path}/{name} cannot be read as an image "
                    f"({str(error) or type(error).__name__}). Replace or remove it."
                ) from error
        channels, convert = self._mode(folders, modes)
        wanted = self.parameters.image_size
        only = next(iter(sizes)) if len(sizes) == 1 else None
        if wanted is None and only is not None and max(only) <= COMMON_SIZE:
            return Fit(channels, only, crop=None, convert=convert)
        side = wanted or COMMON_SIZE
        return Fit(channels, (side, side), crop=0, convert=convert)

    def _mode(self, folders: ClassFolders, modes: Mapping[str, str]) -> tuple[int, bool]:
        """Channels of the items, and whether images are converted."""
        if self.parameters.mode != "auto":
            return MODES[self.parameters.mode][1], True
        for mode, channels in MODES.values():
            if set(modes) == {mode}:
                return channels, False
        found = ", ".join(f"{mode} ({name})" for mode, name in sorted(modes.items()))
        raise UserError(
            f"{folders.tree.path}: expected all images to be gray (L) or all RGB; found {found}. "
            "Convert them all with --set task.mode=rgb or --set task.mode=gray."
        )
