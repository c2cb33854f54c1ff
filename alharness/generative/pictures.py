"""Grids of images as PNG files."""

from __future__ import annotations

from pathlib import Path

import torch


def grid(images: torch.Tensor, columns: int, *, gap: int = 2) -> torch.Tensor:
    """Images ``[B, C, H, W]`` in [0, 1] as one picture, uint8 ``[rows, columns, 3]``, row by row."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    sheet = torch.full(
        (3, rows * (height + gap) - gap, columns * (width + gap) - gap), 255, dtype=torch.uint8
    )
    pixels = (images.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    if channels == 1:
        pixels = pixels.expand(-1, 3, -1, -1)
    for number, image in enumerate(pixels[:, :3]):
        top = (number // columns) * (height + gap)
        left = (number % columns) * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet.permute(1, 2, 0)


def save_grid(path: Path, images: torch.Tensor, columns: int = 8) -> None:
    """Write a grid as PNG, beside and renamed; small images are enlarged without smoothing."""
    from PIL import Image

    sheet = grid(images, columns)
    factor = max(1, 448 // max(sheet.shape[:2]))
    picture = Image.fromarray(sheet.numpy())
    if factor > 1:
        size = (picture.width * factor, picture.height * factor)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    beside = path.with_name(path.name + ".new")
    picture.save(beside, format="PNG")
    beside.replace(path)
