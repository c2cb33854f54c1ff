"""A user's own images, sorted into class folders: ``folder:PATH``.

``PATH`` is a folder or a zip archive with ``train/CLASS/*`` and ``test/CLASS/*``, or with
``CLASS/*`` alone, which is split by a seed of its own. What was converted is cached and converted
again when the files change.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from alharness import seeds
from alharness.errors import UserError
from alharness.learners.learner import LearnerSettings
from alharness.progress import Progress, silent
from alharness.tasks.base import DataLocations, Profile, TaskDefaults, TaskParameters
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.class_folders import (
    LEFT_OUT,
    SPLITS,
    ClassFolders,
    plan_images,
    scan,
)
from alharness.tasks.originals.conversion import Plan, obtain_cache
from alharness.tasks.originals.images import (
    DEEP,
    WITH_ALPHA,
    Fit,
    Ground,
    deepest,
    depth_of,
    is_shortened,
    is_turned,
    kind,
    opened,
    reason,
    refuse_stacks,
    unusable,
    upper_bytes,
    upright_size,
)
from alharness.tasks.originals.tree import shown
from alharness.tasks.selection import CachedTask, Selection

#: Colours of 16 bit whose upper 8 stay below this come from less than 14 bit.
LITTLE = 64
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
    white: int | None = Field(
        None,
        gt=0,
        le=65_535,
        description="value of 16-bit images that is white; by default the largest of the smallest "
        "depth (8, 10, 12, 14, 16 bit) that holds all of them",
    )
    ground: Ground = Field("white", description="what transparent images are laid on")
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
        key = repr((path.as_posix(), self.parameters.model_dump()))
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        # A file's name has 255 bytes at most, and a suffix of ours may follow.
        stem = path.stem.encode()[:100].decode(errors="ignore")
        cache = obtain_cache(
            locations.cache_root / "datasets" / f"folder-{stem}-{digest}",
            lambda: self._plan(folders, origin, progress),
            progress,
            accept=lambda cache: not locations.rebuild and cache.meta["origin"] == origin,
        )
        # What else lies in the folder may change without a change of the images.
        notes = {name: text for name, text in cache.meta["notes"].items() if name != LEFT_OUT}
        return replace(cache, meta={**cache.meta, "notes": {**notes, **folders.notes}})

    def selection(self, cache: ImageCache) -> Selection:
        return Selection(pool=["pool"], test="test", class_names=cache.label_names)

    def _path(self) -> Path:
        return Path(self.argument or "").expanduser().resolve()

    def _plan(self, folders: ClassFolders, origin: Mapping[str, str], progress: Progress) -> Plan:
        fit, how = self._fit(folders, progress)
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

    def _fit(self, folders: ClassFolders, progress: Progress) -> tuple[Fit, str]:
        """How these images become items, and the same in words; reads the head of each file.

        Raises:
            UserError: unreadable images, stacks or mixed modes, by name.
        """
        names = folders.all_names()
        kinds: dict[str, list[str]] = {}
        sizes: Counter[tuple[int, int]] = Counter()
        largest = 0
        shortened = 0
        bad: list[str] = []
        turned = 0
        for number, name in enumerate(names):
            if number % 1000 == 0:
                progress("look at the images", number, len(names))
            try:
                with opened(folders.tree.source(name)) as image:
                    refuse_stacks(image)
                    kinds.setdefault(kind(image), []).append(name)
                    if is_shortened(image):
                        shortened = max(shortened, upper_bytes(image))
                    turned += is_turned(image)  # before: a TIFF that was turned no longer says so
                    sizes[upright_size(image)] += 1
                    if image.mode in DEEP:
                        largest = max(largest, deepest(image))
            except Exception as error:  # decoders raise a dozen types for damaged files
                bad.append(reason(name, error))
        if bad:
            raise unusable(bad, str(folders.tree.path))
        channels, convert = self._mode(folders, kinds)
        if 0 < shortened < LITTLE:
            raise UserError(
                f"{folders.tree.path}: the colour images of 16 bit use values up to {256 * shortened:,} "
                f"of 65,535 only, of which too little is left in 8 bit. Save them as 8 bit."
            )
        wanted = self.parameters.image_size
        only = next(iter(sizes)) if len(sizes) == 1 else None
        keep = wanted is None and only is not None and max(only) <= COMMON_SIZE
        side = wanted or COMMON_SIZE
        white = self.parameters.white or depth_of(largest)
        fit = Fit(
            channels,
            only if keep and only is not None else (side, side),
            crop=None if keep else 0,
            convert=convert,
            ground=self.parameters.ground,
            white=white,
        )
        how = [f"{channels} channels, {fit.size[0]}x{fit.size[1]}"]
        if not keep:
            how.append("centre square")
        if turned:
            how.append(f"{turned:,} turned upright (EXIF)")
        if shortened:
            how.append("colours of 16 bit: the upper 8")
        if largest:
            how.append(f"0 .. {white:,} becomes 0 .. 255")
        if any("transparency" in found or found.split()[0] in WITH_ALPHA for found in kinds):
            how.append(f"transparent ones on {fit.ground}")
        return fit, ", ".join(how)

    def _mode(self, folders: ClassFolders, kinds: Mapping[str, list[str]]) -> tuple[int, bool]:
        """Channels of the items, and whether images are converted."""
        if self.parameters.mode != "auto":
            return MODES[self.parameters.mode][1], True
        for mode, channels in MODES.values():
            if set(kinds) == {mode}:
                return channels, False
        found = ", ".join(
            f"{mode} ({shown(names[0])}{f' and {len(names) - 1:,} more' if names[1:] else ''})"
            for mode, names in sorted(kinds.items(), key=lambda pair: (len(pair[1]), pair[0]))
        )
        raise UserError(
            f"{folders.tree.path}: expected all images to be gray (L) or all RGB; found {found}. "
            "Convert them all with --set task.mode=rgb or --set task.mode=gray."
        )
