"""Contact sheets: rows of small images with captions, as one picture for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from alharness.files import beside

_TILE, _GAP, _CAPTION = 84, 6, 16


@dataclass(frozen=True)
class Row:
    """A row of a contact sheet: images with a caption under each, and a title at its left."""

    title: str
    images: Sequence[NDArray[np.uint8]]
    captions: Sequence[str]


def as_uint8(images: torch.Tensor) -> NDArray[np.uint8]:
    """Images in [0, 1] as uint8 of the same shape."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def contact_sheet(rows: Sequence[Row], legend: str = "") -> Image.Image:
    """Rows of images ``[C, H, W]`` with captions, on white.

    Args:
        legend: what the captions say, in a sentence below the rows.
    """
    font: Any = ImageFont.load_default(size=12)
    left = 84
    n_columns = max(len(row.images) for row in rows)
    width = left + n_columns * (_TILE + _GAP) + _GAP
    told = _lines(legend, font, width - 2 * _GAP)
    below = len(rows) * (_TILE + _CAPTION + _GAP) + _GAP
    height = below + len(told) * _CAPTION
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for r, row in enumerate(rows):
        top = _GAP + r * (_TILE + _CAPTION + _GAP)
        draw.multiline_text((_GAP, top + _TILE // 3), row.title, fill="black", font=font)
        for c, image in enumerate(row.images):
            at = left + c * (_TILE + _GAP)
            # Nearest neighbour: a reader should see the pixels that the classifier sees.
            tile = picture(image).resize((_TILE, _TILE), Image.Resampling.NEAREST)
            sheet.paste(tile, (at, top))
            if c < len(row.captions):
                text = _fitting(row.captions[c], font)
                draw.text((at, top + _TILE + 1), text, fill="black", font=font)
    for number, line in enumerate(told):
        draw.text((_GAP, below - _GAP + number * _CAPTION), line, fill="black", font=font)
    return sheet


def _lines(text: str, font: Any, width: int) -> list[str]:
    """A sentence in lines of so many pixels."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _fitting(text: str, font: Any) -> str:
    """The caption, cut to the width of a tile."""
    while len(text) > 1 and font.getlength(text) > _TILE + _GAP - 2:
        text = text[:-1]
    return text


def picture(image: NDArray[np.uint8]) -> Image.Image:
    """One image ``[C, H, W]`` of one or three channels as a picture."""
    if image.shape[0] == 1:
        return Image.fromarray(image[0], mode="L").convert("RGB")
    return Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)), mode="RGB")


def save(sheet: Image.Image, path: Path) -> None:
    """Write beside and rename."""
    with beside(path) as partial:
        sheet.save(partial, format="PNG")
