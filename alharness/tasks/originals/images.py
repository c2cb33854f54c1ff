"""What an image is: how an encoded picture becomes an item, and what is refused.

A conversion that loses something is defined here, or it does not happen: the orientation that a
camera wrote down is applied, transparent pictures are laid on a stated ground, 16 bit is scaled by
its range; floats and stacks of pictures are refused.

Light on purpose (numpy and Pillow only): every conversion worker imports this module afresh.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from alharness.errors import UserError
from alharness.lazily import Image, ImageOps
from alharness.lazily import numpy as np
from alharness.tasks.originals.tree import NAMED, FileTree, in_words, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Formats whose names Pillow knows without being able to decode them itself: drawings for other
#: programs, films, tables.
NO_PICTURES = frozenset({"EPS", "WMF", "MPEG", "HDF5", "GRIB", "BUFR", "IPTC"})
#: Files that hold more than one picture of which the first is the whole one: a phone's photograph
#: with its preview, a drawing with its layers.
FIRST_IS_WHOLE = frozenset({"MPO", "PSD"})
WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
#: Modes of more than 8 bit that hold whole numbers.
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION = 0x0112  # EXIF
#: The value that is white in pictures of 16 bit, unless all of them stay below a smaller depth's.
WHITE_16 = 65_535

Ground = Literal["white", "black"]


@cache
def image_suffixes() -> frozenset[str]:
    """Every suffix whose files Pillow decodes, in lower case with the dot."""
    Image.init()
    known = Image.registered_extensions().items()
    return frozenset(
        suffix for suffix, name in known if name in Image.OPEN and name not in NO_PICTURES
    )


def is_image(name: str) -> bool:
    """Whether the suffix is an image's."""
    return PurePosixPath(name).suffix.lower() in image_suffixes()


@contextmanager
def opened(content: bytes | Path) -> Iterator[Image.Image]:
    """An encoded image, not decoded yet; one of absurdly many pixels is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damage that Pillow can live with
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            yield image


def kind(image: Image.Image) -> str:
    """The mode, whether some of it is transparent and what Pillow shortens, in words.

    To be asked before the image is decoded.
    """
    if is_shortened(image):
        return f"{image.mode} of 16 bit"
    if image.mode not in WITH_ALPHA and _is_transparent(image):
        return f"{image.mode} with transparency"
    return image.mode


def is_shortened(image: Image.Image) -> bool:
    """Whether this is a colour picture of 16 bit, of which Pillow keeps the upper 8."""
    # Pillow opens 16-bit colours as 8-bit without a word; the decoder's arguments still say it.
    raw = " ".join(str(part.args) for part in getattr(image, "tile", ()))
    return image.mode not in DEEP and ";16" in raw


def _is_transparent(image: Image.Image) -> bool:
    palette = image.palette.mode if image.mode == "P" and image.palette is not None else ""
    return image.mode in WITH_ALPHA or "transparency" in image.info or palette.endswith("A")


def refuse_stacks(image: Image.Image) -> None:
    """Refuse animations and stacks: which of their pictures is meant, nobody can know.

    Raises:
        ValueError: in words.
    """
    n = int(getattr(image, "n_frames", 1))
    if n > 1 and image.format not in FIRST_IS_WHOLE:
        raise ValueError(f"it holds {n} pictures; save the one that is meant, or each as a file")


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(H, W) as the picture is meant to be looked at."""
    # From 5 on height and width change places.
    if _orientation(image) > 4:
        image = upright(image)
    return image.height, image.width


def is_turned(image: Image.Image) -> bool:
    """Whether a camera was held otherwise than the picture is stored."""
    return _orientation(image) > 1


def upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says."""
    if _orientation(image) == 1:
        image.load()  # a TIFF turns itself here
        return image
    return ImageOps.exif_transpose(image)


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing about the orientation
        return 1
    return found if found in range(1, 9) else 1


def deepest(image: Image.Image) -> int:
    """The largest value of a picture of whole numbers of more than 8 bit.

    Raises:
        ValueError: values that 16 bit cannot hold.
    """
    low, high = image.getextrema()
    if low < 0 or high > WHITE_16:  # type: ignore[operator]
        raise ValueError(f"values from {low} to {high} have no stated white; save it as 16 bit")
    return int(high)  # type: ignore[arg-type]


def depth_of(largest: int) -> int:
    """The white of the smallest usual depth (8, 10, 12, 14, 16 bit) that holds a value."""
    return next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if largest < 2**bits)


def upper_bytes(image: Image.Image) -> int:
    """The largest colour value of a picture of which the upper 8 of 16 bit are kept."""
    bands = image.convert("RGB").getextrema()
    return max(int(high) for _, high in bands)  # type: ignore[misc]


@dataclass(frozen=True)
class Fit:
    """How an image becomes an item.

    Attributes:
        channels: 1 (gray) or 3 (RGB).
        size: (H, W) of the item.
        crop: side of the centre square that is cut out first; 0: the largest one; None: no crop,
            and images must already have the item's size.
        convert: change the mode of images that have another one; otherwise they are refused.
        expects: (H, W) that images must have before the crop; None: any.
        ground: what transparent pictures are laid on.
        white: value of pictures of more than 8 bit that becomes 255.
    """

    channels: int
    size: tuple[int, int]
    crop: int | None = None
    convert: bool = False
    expects: tuple[int, int] | None = None
    ground: Ground = "white"
    white: int = WHITE_16

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """The item, uint8 ``[C, H, W]``.

        Raises:
            ValueError: wrong mode or size, or more than one picture, in words.
        """
        refuse_stacks(image)
        # Before it is turned: that decodes the picture, which then no longer says what it was.
        found = kind(image)
        image = self._in_mode(upright(image), found)
        height, width = self.size
        expected = self.size if self.crop is None else self.expects
        if expected is not None and (image.height, image.width) != expected:
            raise ValueError(
                f"expected {expected[0]}x{expected[1]} pixels, found {image.height}x{image.width}"
            )
        if self.crop is not None:
            side = self.crop or min(image.width, image.height)
            if side > min(image.width, image.height):
                raise ValueError(f"{image.height}x{image.width} pixels are too few to cut {side}")
            left, top = (image.width - side) // 2, (image.height - side) // 2
            # Pillow's bilinear filter averages when it shrinks: no aliasing.
            image = image.resize(
                (width, height), Image.Resampling.BILINEAR, (left, top, left + side, top + side)
            )
        pixels = np.asarray(image, dtype=np.uint8)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def _in_mode(self, image: Image.Image, found: str) -> Image.Image:
        mode = "L" if self.channels == 1 else "RGB"
        if found == mode:
            return image
        if not self.convert:
            raise ValueError(f"expected mode {mode}, found {found}")
        if image.mode in DEEP:
            if deepest(image) > self.white:
                raise ValueError(f"values up to {deepest(image)} are above white, {self.white}")
            # By its white, and rounded: Pillow's own conversion cuts off what lies above 255.
            values = np.asarray(image).astype(np.float64) * (255 / self.white)
            return Image.fromarray(np.rint(values).astype(np.uint8)).convert(mode)
        if image.mode == "F":
            raise ValueError("floats have no stated white; save it as 8 or 16 bit")
        if _is_transparent(image):
            layer = image.convert("RGBA")
            ground = Image.new("RGBA", layer.size, self.ground)
            image = Image.alpha_composite(ground, layer)
        return image.convert(mode)


@dataclass(frozen=True)
class ImageFiles:
    """A conversion's reader of encoded images (``conversion.Reader``).

    Attributes:
        tree: where the images lie.
        names: their names, by position.
        fit: how they become items.
    """

    tree: FileTree
    names: tuple[str, ...]
    fit: Fit

    def __call__(self, start: int, stop: int) -> NDArray[np.uint8]:
        names = self.names[start:stop]
        return decode_all(names, self.tree.read, self.fit, str(self.tree.path))


def decode_all(
    names: Sequence[str], read: Callable[[str], bytes], fit: Fit, where: str
) -> NDArray[np.uint8]:
    """Encoded images as items, uint8 ``[B, C, H, W]``.

    Raises:
        UserError: images that cannot be read or do not fit, by name.
    """
    items = np.empty((len(names), fit.channels, *fit.size), dtype=np.uint8)

    def place(position: int, image: Image.Image) -> None:
        items[position] = fit(image)

    each_image(names, read, place, where)
    return items


def each_image(
    names: Sequence[str],
    source: Callable[[str], Path | bytes],
    use: Callable[[int, Image.Image], None],
    where: str,
) -> None:
    """Open one image after the other; those that cannot be used are told together.

    Args:
        names: of all images.
        source: gives an encoded image, or the path to it, by name.
        use: gets an image's position and the image, open until it returns.
        where: they lie, for messages.

    Raises:
        UserError: images that cannot be opened, or that ``use`` refuses, by name.
    """
    bad: list[str] = []
    for position, name in enumerate(names):
        try:
            with opened(source(name)) as image:
                use(position, image)
        except UserError:  # of the file that holds it
            raise
        except Exception as error:  # decoders raise a dozen types for damaged files
            bad.append(reason(name, error))
    if bad:
        raise unusable(bad, where)


def reason(name: str, error: Exception) -> str:
    """An image and what is wrong with it, on one line."""
    text = in_words(error)
    if "cannot identify image file" in text:
        text = "cannot be read as an image: damaged, empty or something else"
    return f"{shown(name)} ({text})"


def unusable(bad: Sequence[str], where: str) -> UserError:
    """The error for images that cannot be used: the first few by name."""
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return UserError(
        f"Unusable images in {where}: {'; '.join(bad[:NAMED])}{more}. "
        "Replace or remove them, then run the same command again."
    )
