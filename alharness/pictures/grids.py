"""Pictures of generators as PNG files: grids of images, interpolations, training curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from alharness.files import beside

if TYPE_CHECKING:
    from alharness.pictures.canvas import Figure


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
    # Digits of 8x8 would be a stamp; whole factors keep pixels square.
    factor = max(1, 448 // max(sheet.shape[:2]))
    picture = Image.fromarray(sheet.numpy())
    if factor > 1:
        size = (picture.width * factor, picture.height * factor)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    with beside(path) as partial:
        picture.save(partial, format="PNG")


def interpolate(
    decode: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor, columns: int
) -> torch.Tensor:
    """Images on straight lines from latent 0 to 1, 2 to 3, ...: a row of ``columns`` per pair."""
    weights = torch.linspace(0.0, 1.0, columns, device=latents.device)[None, :, None]
    lines = torch.lerp(latents[0::2, None], latents[1::2, None], weights)
    with torch.no_grad():
        return decode(lines.flatten(0, 1))


def save_curve(path: Path, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> None:
    """Draw a training curve, one panel per column over the first one, as PNG."""
    from alharness.pictures.canvas import new_figure, style

    # A recipe without consistency term has a column of zeros.
    shown = [at for at in range(1, len(columns)) if any(row[at] for row in rows)]
    with style():
        figure = new_figure(6.0, 1.8 * max(1, len(shown)))
        panels = figure.subplots(max(1, len(shown)), 1, squeeze=False)[:, 0]
        for panel, at in zip(panels, shown, strict=False):
            panel.plot([row[0] for row in rows], [row[at] for row in rows], linewidth=1.0)
            panel.set_ylabel(columns[at].replace("_", " "))
            panel.grid(alpha=0.3)
        panels[-1].set_xlabel(columns[0])
        _save_figure(figure, path)


def save_rows(path: Path, rows: Sequence[tuple[str, torch.Tensor]]) -> None:
    """Draw labelled rows of images ``[B, C, H, W]`` in [0, 1] under each other, as PNG."""
    from alharness.pictures.canvas import new_figure, style

    with style():
        figure = new_figure(9.0, 0.2 + 0.75 * len(rows))
        panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for panel, (label, images) in zip(panels, rows, strict=True):
            panel.imshow(grid(images, columns=len(images)).numpy(), interpolation="nearest")
            panel.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
            panel.set_xticks([])
            panel.set_yticks([])
            for side in panel.spines.values():
                side.set_visible(False)
        _save_figure(figure, path)


def _save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, beside and renamed."""
    with beside(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
