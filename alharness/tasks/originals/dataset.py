"""A data set as the world ships it: where its originals are found, how they become an image cache.

Several tasks may stand on one data set (``mnist-two`` and ``mnist-ten``, CelebA's four): it is
converted once and its cache is shared. ``alharness data`` works on data sets.

Caches of the complete data set, of images imported for it and of a part (or of other files under its
names) lie apart, so that none is ever taken for another. Where originals are at hand, a cache is used
only if it was made from them.
"""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from alharness.errors import UserError
from alharness.lazily import numpy as np
from alharness.progress import Progress, silent
from alharness.tasks.originals.cache import (
    CacheDamagedError,
    CacheMissingError,
    ImageCache,
    knows,
)
from alharness.tasks.originals.conversion import Conversion, building_anew, convert, locked, noting
from alharness.tasks.originals.locations import DataLocations
from alharness.tasks.originals.tree import file_facts, in_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What the readers of archives raise, beside the usual, for damage.
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
#: What a cache may be (``Conversion.standing``), and what its folder's name ends with; the first one that
#: is there is used where no originals say otherwise.
STANDINGS = {"complete": "", "imported": "-imported", "partial": "-partial"}


class Dataset(ABC):
    """A data set and its conversion.

    Attributes:
        name: what ``alharness data prepare`` takes.
        title: one line for people.
        size: what fetching costs, for instance ``12 MB``.
        files: what is looked for, in words.
        digests: MD5 of each original that is taken in the makers' own content only.
        counts: official number of items in each split, where fewer are taken when that is allowed.
        needs_originals: false for what is made on this machine.
    """

    name: str
    title: str
    size: str
    files: str
    digests: Mapping[str, str] = MappingProxyType({})
    counts: Mapping[str, int] = MappingProxyType({})
    needs_originals: bool = True

    @abstractmethod
    def find(self, root: Path) -> Path | None:
        """The originals below ``root`` (a data root, or what ``--source`` names), or None."""

    @abstractmethod
    def parts(self, originals: Path) -> Sequence[Path]:
        """The files (or folders) that the originals consist of: a look at them tells of changes."""

    @abstractmethod
    def plan(self, originals: Path, *, partial: bool, progress: Progress) -> Conversion:
        """Verify the originals and say how to convert them.

        Args:
            originals: what ``find`` gave.
            partial: accept fewer items than the official ones; nothing to a data set with digests.
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

    def plan_import(self, path: Path, *, partial: bool, progress: Progress) -> Conversion:
        """How to convert the data set from class folders of images (``alharness data import``).

        Raises:
            UserError: this data set has no such form, or the images are not what they should be.
        """
        raise UserError(
            f"{self.title} cannot be imported from class folders. Use 'alharness data prepare "
            f"{self.name} --source DIR' with {self.files}, or the data set folder:PATH."
        )

    def cache_path(self, locations: DataLocations, standing: str = "complete") -> Path:
        """Where the converted images lie."""
        return locations.cache_root / "datasets" / f"{self.name}{STANDINGS[standing]}"

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
        whole: bool = False,
        workers: int | None = None,
        as_images: bool = False,
    ) -> ImageCache:
        """The cache of the originals that are at hand, converted now if it is not there.

        Without originals the best cache that is there is used: it says what it holds.

        Args:
            locations: where originals and caches lie.
            progress: called with the number of images done.
            source: folder or archive of the originals, instead of the data root.
            partial: accept fewer or other items than the official data set has.
            whole: accept nothing but the complete data set.
            workers: processes; by default one per core.
            as_images: ``source`` holds class folders of images (``alharness data import``).

        Raises:
            UserError: originals missing or bad, or the cache cannot be written.
        """
        if partial and self.digests and not as_images:
            raise UserError(
                f"{self.title} is taken as its makers published it: there is no part of it to accept. "
                "Leave --partial out; data of your own are folder:PATH, npz:PATH or torchvision:NAME."
            )
        # In the order of their worth: the first that fits is the best that there is.
        standings = ["complete"] if whole else list(STANDINGS)
        found = None
        if source is None:
            found = self.find(locations.data_root)
        elif not as_images:
            found = self.originals(locations, source)
        # Originals that are at hand decide which cache is theirs; without any the best one will do.
        stamp = self._stamp(found) if found is not None else None
        if not locations.rebuild and not as_images:
            cache, _ = self._present(locations, stamp, standings, progress)
            if cache is not None:
                return cache
        # Looked at without the lock first: many runs open a cache at once, and few make one.
        with locked(self.cache_path(locations)):
            damaged: list[CacheDamagedError] = []
            if not locations.rebuild and not as_images:
                cache, damaged = self._present(locations, stamp, standings, progress)
                if cache is not None:  # another process has made it meanwhile
                    return cache
            with building_anew(damaged, progress):
                if as_images and source is not None:
                    plan = self.plan_import(source, partial=partial, progress=progress)
                else:
                    found = found or self.originals(locations, source)
                    stamp = self._stamp(found)
                    # A damaged cache of a part was allowed to be one when it was made.
                    allowed = partial or knows(self.cache_path(locations, "partial"), stamp)
                    plan = self._planned(found, locations, allowed and not whole, progress)
            path = self.cache_path(locations, plan.standing)
            # Originals that were moved or copied have another stamp and the same content.
            cache = None if locations.rebuild else self._made_from(plan, path, progress)
            cache = cache or convert(path, plan, progress, workers)
            if stamp is not None:
                cache.remember(stamp)
            return noting(damaged, cache)

    def _present(
        self,
        locations: DataLocations,
        originals: str | None,
        standings: Sequence[str],
        progress: Progress,
    ) -> tuple[ImageCache | None, list[CacheDamagedError]]:
        """The cache that was made from these originals, or the first one if there are none."""
        damaged = []
        for standing in standings:
            try:
                cache = ImageCache.open(self.cache_path(locations, standing), progress)
            except CacheMissingError:
                continue
            except CacheDamagedError as error:
                damaged.append(error)
                if originals is None:  # another cache is no substitute
                    return None, damaged
                continue
            if not self.needs_originals:
                if not self.is_stale(cache):
                    return cache, damaged
            elif originals is None or cache.knows(originals):
                return cache, damaged
        return None, damaged

    def _planned(
        self, found: Path, locations: DataLocations, partial: bool, progress: Progress
    ) -> Conversion:
        try:
            return self.plan(found, partial=partial, progress=progress)
        except UserError as error:
            path = self.cache_path(locations)
            if not path.is_dir():
                raise
            raise UserError(
                f"{error} (The cache {path} was made of other files; it is used where --data-root "
                "and ALHARNESS_DATA name no folder with these.)"
            ) from error

    @staticmethod
    def _made_from(plan: Conversion, path: Path, progress: Progress) -> ImageCache | None:
        """The cache in its place if it was made from what the plan would convert."""
        try:
            cache = ImageCache.open(path, progress)
        except (CacheMissingError, CacheDamagedError):
            return None
        same = cache.meta["origin"] == dict(plan.origin) and cache.standing == plan.standing
        return cache if same else None

    def _stamp(self, originals: Path) -> str:
        """A digest of place, sizes, times and inodes of the originals: O(parts), nothing is read."""
        facts = [(str(path.resolve()), file_facts(path.stat())) for path in self.parts(originals)]
        return hashlib.sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()[:16]

    def caches(self, locations: DataLocations) -> list[ImageCache]:
        """All caches that are there, the complete one first; never converts.

        Raises:
            CacheDamagedError: one of them is damaged.
        """
        found = []
        for standing in STANDINGS:
            try:
                found.append(ImageCache.peek(self.cache_path(locations, standing)))
            except CacheMissingError:
                continue
        return found

    def verify(
        self, locations: DataLocations, progress: Progress = silent, *, source: Path | None = None
    ) -> list[str]:
        """Read caches and originals and compare counts and digests.

        Returns:
            what was found, line by line.

        Raises:
            UserError: damaged or foreign files, or nothing to verify.
        """
        findings = []
        caches = self.caches(locations)
        for cache in caches:
            cache.verify(progress)
            standing = "" if cache.standing == "complete" else f" ({cache.standing})"
            findings.append(
                f"cache {cache.path}: {len(cache.images):,} images{standing}, digests agree"
            )
        root = source or locations.data_root
        found = self.find(root)
        # Who was allowed a part when it was prepared is not refused it now.
        partial_allowed = any(cache.partial for cache in caches)
        if found is not None:
            plan = self.plan(found, partial=partial_allowed, progress=progress)
        elif source is not None:
            plan = self.plan_import(source, partial=partial_allowed, progress=progress)
        elif not caches:
            raise UserError(
                f"Nothing to verify: there is neither a cache of {self.title} nor {self.files} "
                f"in {root}. Run 'alharness data prepare {self.name}' ({self.size})."
            )
        else:
            return [*findings, f"originals: not in {root}"]
        state = "as they should be" if plan.standing == "complete" else plan.standing
        findings.append(f"originals {found or source}: {plan.shape[0]:,} images, {state}")
        if caches and not any(cache.meta["origin"] == dict(plan.origin) for cache in caches):
            made_from = ", ".join(caches[0].meta["origin"])
            findings.append(f"note: the cache was made from other files ({made_from})")
        return findings

    def is_stale(self, cache: ImageCache) -> bool:
        """Whether a whole cache must be built anew all the same; what is drawn may be drawn otherwise."""
        return False

    def official(self, name: str, content: bytes, where: Path) -> bytes:
        """The content of the original ``name``, if it is what the makers published.

        The very bytes whose digest was compared are given to a library's reader: it meets no others.

        Raises:
            UserError: it is another content.
        """
        found = hashlib.md5(content).hexdigest()
        if found != self.digests[name]:
            raise UserError(
                f"{name} in {where} is not the official file (expected MD5 {self.digests[name]}, found "
                f"{found} of {len(content):,} bytes): truncated, changed, or another data set in this "
                "form. Fetch it again; data of your own are folder:PATH, npz:PATH or torchvision:NAME."
            )
        return content

    def check_counts(self, found: dict[str, int], where: Path, partial: bool) -> bool:
        """Whether the counts are the official ones.

        Raises:
            UserError: they differ and ``partial`` was not allowed.
        """
        if found == self.counts:
            return True
        if partial:
            return False
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


@contextmanager
def unpacking(originals: str | Path) -> Iterator[None]:
    """What reading and unpacking raise for originals that are truncated, as a line that names them."""
    try:
        yield
    except (OSError, EOFError, RuntimeError, ValueError, *DAMAGED) as error:
        raise UserError(
            f"{originals} cannot be read ({in_words(error)}): truncated or changed. Fetch it again."
        ) from error


def md5(path: Path) -> str:
    """MD5 of a file: what the data sets' makers published, not a protection."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
