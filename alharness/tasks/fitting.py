"""How a user's own images, of any size and mode, become items of one shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from alharness.errors import UserError
from alharness.lazily import Image
from alharness.lazily import numpy as np
from alharness.progress import Progress
from alharness.tasks.base import DataLocations, TaskParameters
from alharness.tasks.originals.cache import ImageCache
from alharness.tasks.originals.conversion import Conversion, Reader, obtain_cache
from alharness.tasks.originals.images import (
    DEEP,
    WITH_ALPHA,
    Fit,
    Ground,
    deepest,
    depth_of,
    each_image,
    is_shortened,
    is_turned,
    kind,
    refuse_stacks,
    upper_bytes,
    upright_size,
)
from alharness.tasks.originals.tree import shown
from alharness.tasks.rows import Divided, Rows, SplitParameters
from alharness.tasks.selection import CachedTask, CachePart
from alharness.tasks.settings import row

#: Colours of 16 bit whose upper 8 stay below this come from less than 14 bit.
LITTLE = 64
#: Images of one size up to this side are kept as they are; all others become this large.
COMMON_SIZE = 64
#: Share of the pixels that may be cut off without a word.
WORTH_SAYING = 0.1
MODES = {"gray": ("L", 1), "rgb": ("RGB", 3)}


class FitParameters(TaskParameters):
    """``--set task.NAME=VALUE`` for images of one's own."""

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


class OwnImages(CachedTask):
    """A task of one's own images: ``NAME:PATH``, converted once and again when the files change.

    Class attributes:
        kept_as: what the folder of converted images begins with.
    """

    takes_argument = True
    kept_as: ClassVar[str]
    parameters: SplitParameters
    # Images that the paper does not have: small enough for a first run on any folder.
    paper = row(
        1000, 10, 100, kind="strided-cnn", width=32, batch_size=50, epochs=20, min_steps=1000
    )
    quick = row(200, 10, 50, kind="strided-cnn", width=16, batch_size=50, epochs=10, min_steps=200)

    @property
    def path(self) -> Path:
        """Folder, archive or file."""
        return Path(self.argument or "").expanduser().resolve()

    def identity(self) -> dict[str, str]:
        """The place itself: one name means another folder in another place."""
        return {self.argument or "": str(self.path)}

    def converted(
        self,
        origin: Mapping[str, str],
        make_plan: Callable[[], Conversion],
        locations: DataLocations,
        progress: Progress,
    ) -> ImageCache:
        """The cache of these files, converted again where they have changed.

        Args:
            origin: what tells these files from others.
            make_plan: looks at the files; called only when there is something to convert.
        """
        return obtain_cache(
            locations.kept(self.kept_as, self.path, self.parameters.model_dump()),
            make_plan,
            progress,
            accept=lambda cache: not locations.rebuild and cache.meta["origin"] == origin,
        )

    def selection(self, cache: ImageCache) -> CachePart:
        return CachePart(
            pool=["pool"],
            test="test",
            class_names=cache.label_names,
            blanks=self.parameters.wants_blanks,
        )


def plan_of(
    rows: Rows,
    found: Divided,
    source: Callable[[str], Path | bytes],
    reader: Callable[[Sequence[str], Fit], Reader],
    where: str,
    parameters: FitParameters,
    origin: Mapping[str, str],
    progress: Progress,
) -> Conversion:
    """The conversion of images of one's own.

    Args:
        rows: whose items are the names of images.
        found: what of them is what.
        source: gives an encoded image, or the path to it, by name.
        reader: converts images of these names.
        where: they lie, for messages.
        parameters: what the user wants.
        origin: what tells these files from others.
        progress: called with the number of images looked at.

    Raises:
        UserError: as ``fit_of``.
    """
    # In the order in which they lie: packed ones are unpacked once.
    lying = [rows.items[position] for position in np.sort(found.order)]
    fit, fitted = fit_of(lying, source, where, parameters, progress)
    names = [rows.items[position] for position in found.order]
    return Conversion(
        shape=(len(names), fit.channels, *fit.size),
        read=reader(names, fit),
        labels=found.targets[found.order],
        label_names=found.class_names,
        splits={"pool": len(found.pool), "test": len(found.test)},
        origin=origin,
        notes={**found.notes, **fitted},
        parallel=True,
    )


def fit_of(
    names: Sequence[str],
    source: Callable[[str], Path | bytes],
    where: str,
    parameters: FitParameters,
    progress: Progress,
) -> tuple[Fit, dict[str, str]]:
    """How images become items, and notes on it; reads the head of each.

    Args:
        names: of all images.
        source: gives an encoded image, or the path to it, by name.
        where: they lie, for messages.
        parameters: what the user wants.
        progress: called with the number of images looked at.

    Raises:
        UserError: unreadable images, stacks or mixed modes, by name.
    """
    kinds: dict[str, list[str]] = {}
    sizes: Counter[tuple[int, int]] = Counter()
    largest = 0
    shortened = 0
    turned = 0

    def look(number: int, image: Image.Image) -> None:
        nonlocal largest, shortened, turned
        if number % 1000 == 0:
            progress("look at the images", number, len(names))
        refuse_stacks(image)
        kinds.setdefault(kind(image), []).append(names[number])
        if is_shortened(image):
            shortened = max(shortened, upper_bytes(image))
        turned += is_turned(image)  # before: a TIFF that was turned no longer says so
        sizes[upright_size(image)] += 1
        if image.mode in DEEP:
            largest = max(largest, deepest(image))

    # All heads before the first conversion: what does not fit stops no work of hours.
    each_image(names, source, look, where)
    channels, convert = _mode(kinds, where, parameters)
    if 0 < shortened < LITTLE:
        raise UserError(
            f"{where}: the colour images of 16 bit use values up to {256 * shortened:,} "
            f"of 65,535 only, of which too little is left in 8 bit. Save them as 8 bit."
        )
    wanted = parameters.image_size
    # Small images of one size are kept to the pixel; all others become squares of one side.
    only = next(iter(sizes)) if len(sizes) == 1 else None
    keep = wanted is None and only is not None and max(only) <= COMMON_SIZE
    side = wanted or COMMON_SIZE
    white = parameters.white or depth_of(largest)
    fit = Fit(
        channels,
        only if keep and only is not None else (side, side),
        crop=None if keep else 0,
        convert=convert,
        ground=parameters.ground,
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
    return fit, {"fit": ", ".join(how), **_lost(sizes, fit, wanted)}


def _lost(sizes: Counter[tuple[int, int]], fit: Fit, wanted: int | None) -> dict[str, str]:
    """What a person would want to know before the pixels are gone."""
    notes = {}
    n = sizes.total()
    if fit.crop == 0:
        area = sum(count * height * width for (height, width), count in sizes.items())
        kept = sum(count * min(size) ** 2 for size, count in sizes.items())
        if kept < (1 - WORTH_SAYING) * area:
            notes["cut off"] = (
                f"the centre squares leave out {1 - kept / area:.0%} of the pixels; crop or pad the images "
                "before, if what matters lies at the sides"
            )
    usual, count = sizes.most_common(1)[0]
    if wanted is None and len(sizes) > 1 and count > 0.9 * n and max(usual) < COMMON_SIZE:
        notes["sizes"] = (
            f"{n - count:,} of {n:,} images are not {usual[0]}x{usual[1]}: so all become "
            f"{fit.size[0]}x{fit.size[1]}; task.image_size={max(usual)} keeps the others small"
        )
    return notes


def _mode(
    kinds: Mapping[str, list[str]], where: str, parameters: FitParameters
) -> tuple[int, bool]:
    """Channels of the items, and whether images are converted."""
    if parameters.mode != "auto":
        return MODES[parameters.mode][1], True
    for mode, channels in MODES.values():
        if set(kinds) == {mode}:
            return channels, False
    found = ", ".join(
        f"{mode} ({shown(names[0])}{f' and {len(names) - 1:,} more' if names[1:] else ''})"
        for mode, names in sorted(kinds.items(), key=lambda pair: (len(pair[1]), pair[0]))
    )
    raise UserError(
        f"{where}: expected all images to be gray (L) or all RGB; found {found}. "
        "Convert them all with --set task.mode=rgb or --set task.mode=gray."
    )
