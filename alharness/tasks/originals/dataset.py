"""A data set as the world ships it: where its originals are found, how they become an image cache.

Several tasks may stand on one data set (``mnist-two`` and ``mnist-ten``, CelebA's four): it is
converted once and its cache is shared. ``alharness data`` works on data sets.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alharness.errors import UserError
from alharness.progress import Progress, silent
from alharness.tasks.originals.cache import CacheMissingError, ImageCache
from alharness.tasks.originals.conversion import Plan, obtain_cache
from alharness.tasks.originals.locations import DataLocations


class Dataset(ABC):
    """A data set and its conversion.

    Attributes:
        name: what ``alharness data prepare`` takes.
        title: one line for people.
        size: what fetching costs, for instance ``12 MB``.
        files: what is looked for, in words.
        counts: official number of items in each split.
        needs_originals: false for what is made on this machine.
    """

    name: str
    title: str
    size: str
    files: str
    counts: Mapping[str, int]
    needs_originals: bool = True

    @abstractmethod
    def find(self, root: Path) -> Path | None:
        """The originals below ``root`` (a data root, or what ``--source`` names), or None."""

    @abstractmethod
    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Plan:
        """Verify the originals and say how to convert them.

        Args:
            originals: what ``find`` gave.
            partial: accept fewer items than the official ones, and unknown digests.
            progress: called during long reading.

        Raises:
            UserError: damaged, incomplete or foreign files, by name.
        """

    def fetch(self, root: Path) -> None:
        """Download the originals to ``root`` with an integrity check.

        Raises:
            UserError: this data set cannot be fetched automatically, or the download failed.
        """
        raise UserError(
            f"{self.title} cannot be fetched automatically. Get {self.files} ({self.size}) and run "
            f"'alharness data prepare {self.name} --source DIR'."
        )

    def plan_import(self, path: Path, *, partial: bool, progress: Progress) -> Plan:
        """How to convert the data set from class folders of images (``alharness data import``).

        Raises:
            UserError: this data set has no such form, or the images are not what they should be.
        """
        raise UserError(
            f"{self.title} cannot be imported from class folders. Use 'alharness data prepare "
            f"{self.name} --source DIR' with {self.files}, or the data set folder:PATH."
        )

    def cache_path(self, locations: DataLocations) -> Path:
        """Where the converted images lie."""
        return locations.cache_root / "datasets" / self.name

    def originals(self, locations: DataLocations, source: Path | None = None) -> Path:
        """The originals, fetched first where ``locations.download`` allows it.

        Raises:
            UserError: they are not there: what is missing, where it was looked for, how to get it.
        """
        root = source or locations.data_root
        found = self.find(root)
        if found is None and locations.download and source is None:
            self.fetch(locations.data_root)
            found = self.find(locations.data_root)
        if found is None:
            raise UserError(
                f"{self.title} not found: looked in {root} for {self.files}. "
                f"Run 'alharness data prepare {self.name}' ({self.size}), or give the folder that "
                "holds it with --data-root or ALHARNESS_DATA."
            )
        return found

    def prepare(
        self,
        locations: DataLocations,
        progress: Progress = silent,
        *,
        source: Path | None = None,
        partial: bool = False,
        workers: int | None = None,
        rebuild: bool = False,
        as_images: bool = False,
    ) -> ImageCache:
        """The cache, converted now if it is not there.

        Args:
            locations: where originals and caches lie.
            progress: called with the number of images done.
            source: folder or archive of the originals, instead of the data root.
            partial: accept fewer items than the official data set has.
            workers: processes; by default one per core.
            rebuild: convert although there is a cache.
            as_images: ``source`` holds class folders of images (``alharness data import``).

        Raises:
            UserError: originals missing or bad, or the cache cannot be written.
        """

        def make_plan() -> Plan:
            if as_images and source is not None:
                return self.plan_import(source, partial=partial, progress=progress)
            originals = self.originals(locations, source)
            return self.plan(originals, partial=partial, progress=progress)

        path = self.cache_path(locations)
        if not rebuild:  # a damaged cache is refused here, and replaced by a rebuild
            cache = self.cached(locations)
            rebuild = cache is not None and self.is_stale(cache)
        return obtain_cache(path, make_plan, progress, workers=workers, rebuild=rebuild)

    def cached(self, locations: DataLocations) -> ImageCache | None:
        """The cache if it is there, and None otherwise; never converts."""
        try:
            return ImageCache.open(self.cache_path(locations))
        except CacheMissingError:
            return None

    def verify(
        self, locations: DataLocations, progress: Progress = silent, *, source: Path | None = None
    ) -> list[str]:
        """Read cache and originals and compare counts and digests.

        Returns:
            what was found, line by line.

        Raises:
            UserError: damaged or foreign files, or nothing to verify.
        """
        findings = []
        cache = self.cached(locations)
        if cache is not None:
            cache.verify(progress)
            partial = " (partial)" if cache.partial else ""
            findings.append(
                f"cache {cache.path}: {len(cache.images):,} images{partial}, digests agree"
            )
        root = source or locations.data_root
        found = self.find(root)
        partial_allowed = cache is not None and cache.partial
        if found is not None:
            plan = self.plan(found, partial=partial_allowed, progress=progress)
        elif source is not None:
            plan = self.plan_import(source, partial=partial_allowed, progress=progress)
        elif cache is None:
            raise UserError(
                f"Nothing to verify: there is neither a cache of {self.title} nor {self.files} "
                f"in {root}. Run 'alharness data prepare {self.name}' ({self.size})."
            )
        else:
            return [*findings, f"originals: not in {root}"]
        findings.append(f"originals {found or source}: {plan.shape[0]:,} images, as they should be")
        if cache is not None and dict(cache.meta["origin"]) != dict(plan.origin):
            made_from = ", ".join(cache.meta["origin"])
            findings.append(f"note: the cache was made from other files ({made_from})")
        return findings

    def is_stale(self, cache: ImageCache) -> bool:
        """Whether a whole cache must be built anew all the same; what is drawn may be drawn otherwise."""
        return False

    def check_counts(self, found: dict[str, int], where: Path, partial: bool) -> bool:
        """Whether the data are partial.

        Raises:
            UserError: counts differ from the official ones and ``partial`` was not allowed.
        """
        if found == self.counts:
            return False
        if partial:
            return True
        expected = ", ".join(f"{split} {n:,}" for split, n in self.counts.items())
        seen = ", ".join(f"{split} {n:,}" for split, n in found.items())
        raise UserError(
            f"{self.title} in {where} is not complete: expected {expected} images; found {seen}. "
            "Unpack or fetch it again; --partial accepts it as it is and says so in every record."
        )


def check_targets(
    targets: NDArray[np.int64],
    class_names: Sequence[str],
    where: str,
    cure: str = "Fetch the originals again.",
) -> None:
    """Refuse labels out of range and classes without an image.

    Raises:
        UserError: with the label or the class.
    """
    counts = np.bincount(targets[targets >= 0], minlength=len(class_names))
    if len(counts) > len(class_names) or (targets < 0).any():
        wrong = int(targets.min()) if (targets < 0).any() else int(targets.max())
        raise UserError(
            f"Labels of {where} must lie in 0 .. {len(class_names) - 1}; found {wrong}. "
            f"The label file belongs to something else or is damaged. {cure}"
        )
    for name, count in zip(class_names, counts, strict=True):
        if count == 0:
            raise UserError(
                f"Class '{name}' has no image in {where}; expected at least one of each of "
                f"{len(class_names)} classes. {cure}"
            )


@contextmanager
def fetching(dataset: Dataset, root: Path) -> Iterator[None]:
    """A download inside the block, with its failures as errors that a user can mend."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{dataset.title} could not be fetched to {root}: {error}. Check the network and that "
            f"the folder is writable, or bring {dataset.files} there yourself ({dataset.size}) and "
            f"run 'alharness data prepare {dataset.name} --source DIR'."
        ) from error


def md5(path: Path) -> str:
    """MD5 of a file: what the data sets' makers published, not a protection."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
