"""Virtual pools of any size: ``augmented:NAME:N`` is N random variations of another task's pool.

The paper enlarges CelebA the same way to measure selection time against pool size (Sec. 5.5,
Fig. 6a: 160k to 16M images); it does not say which augmentation. Here: a small rotation, scaling
and shift, a change of brightness, and a mirror image for colour pictures. Item i is a pure function
of (seed, i), computed on the device when it is asked for; nothing is stored. Its label is that of
its source image, i modulo the size of the source pool.

Meant for timing: the items are near-duplicates, so accuracies on it say little (decisions 9).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pydantic import Field

from alharness import seeds
from alharness.errors import UserError
from alharness.lazily import functional, torch
from alharness.lazily import numpy as np
from alharness.pool import Pool, VirtualPool
from alharness.tasks.base import TaskData, TaskParameters
from alharness.tasks.derived import DerivedTask, renamed

#: Where ``alharness list`` shows it.
FAMILY = "Made of another data set"

#: Raised when the same (seed, index) would give another image.
VERSION = 1
ROTATION = math.radians(10.0)
SCALING = 0.1
SHIFT = 0.08  # of the picture's side
BRIGHTNESS = 0.15


class AugmentedParameters(TaskParameters):
    """``--set task.NAME=VALUE`` for ``augmented:NAME:N``."""

    seed: int = Field(0, ge=0, description="seed of the augmentation, apart from the run's seeds")
    flip: bool | None = Field(
        None, description="mirror half of the images; by default colour pictures only"
    )


@dataclass(frozen=True)
class AugmentedItems:
    """The items of a virtual pool before there is a device (``pool.VirtualItems``).

    Attributes:
        source: the task whose pool is varied.
        n: number of items.
        seed: of the augmentation.
        flip: mirror half of the images.
    """

    source: TaskData
    n: int
    seed: int
    flip: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n, *self.source.pool_images.shape[1:])

    @property
    def source_bytes(self) -> int:
        return math.prod(self.source.pool_images.shape)

    def open(self, device: torch.device, fingerprint: str) -> Pool:
        source = self.source.open_pool(device)

        def compute(indices: torch.Tensor) -> torch.Tensor:
            images = source.gather(indices % source.n)
            varied = augment(images, indices, self.seed, flip=self.flip)
            # Stored pools are uint8: rounding also hides the last bits in which devices differ.
            return varied.mul_(self.source.pixel_max).round_().to(torch.uint8)

        return VirtualPool(
            self.n,
            source.item_shape,
            device,
            compute,
            pixel_max=self.source.pixel_max,
            fingerprint=fingerprint,
        )


def augment(images: torch.Tensor, indices: torch.Tensor, seed: int, *, flip: bool) -> torch.Tensor:
    """One random variation of each image.

    Args:
        images: float32 ``[B, C, H, W]`` in [0, 1].
        indices: what the variation follows from, int64 ``[B]`` on the CPU.
        seed: and this.
        flip: mirror half of the images.

    Returns:
        float32 ``[B, C, H, W]`` in [0, 1]; each depends on its own image and index only.
    """
    draws = seeds.uniforms(seeds.derive(seed, "augmented", VERSION), indices.numpy(), 6)
    signed = torch.from_numpy((2 * draws - 1).astype(np.float32)).T
    angle, scale = signed[0] * ROTATION, 1 + signed[1] * SCALING
    mirror = torch.where(signed[4] < 0, -1.0, 1.0) if flip else torch.ones_like(scale)
    # Where each pixel of the result comes from, in coordinates from -1 to 1: a 2x3 matrix each.
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    across = torch.stack([cos * mirror, -sin, 2 * SHIFT * signed[2]], dim=1)
    down = torch.stack([sin * mirror, cos, 2 * SHIFT * signed[3]], dim=1)
    matrices = torch.stack([across, down], dim=1).to(images.device)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    moved = functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    gain = (1 + BRIGHTNESS * signed[5]).to(images.device).reshape(-1, 1, 1, 1)
    return moved.mul_(gain).clamp_(0, 1)


class Augmented(DerivedTask):
    """A pool of any size: augmented:NAME:N is N random variations of NAME's pool, for timing."""

    Parameters = AugmentedParameters
    source = "computed from another data set (Fig. 6a); nothing is stored"
    takes_argument = True
    parameters: AugmentedParameters

    def __init__(self, name: str, argument: str | None = None, **parameters: object) -> None:
        super().__init__(name, argument, **parameters)
        inner, _, size = (argument or "").rpartition(":")
        digits = size.replace("_", "")
        if not inner or not digits.isdecimal() or int(digits) < 1:
            raise UserError(
                "Expected augmented:NAME:N, for instance augmented:mnist-two:1000000; found "
                f"'augmented:{argument}'."
            )
        self.inner_name, self.n = inner, int(digits)

    def derive(self, source: TaskData) -> TaskData:
        shape = source.pool_images.shape
        if len(shape) != 4:
            raise UserError(f"augmented:{self.inner_name} needs images; found items {shape[1:]}.")
        flip = self.parameters.flip
        items = AugmentedItems(
            source, self.n, self.parameters.seed, shape[1] == 3 if flip is None else flip
        )
        facts = (VERSION, self.n, items.seed, items.flip)
        return replace(
            renamed(source, f"{facts}"),
            pool_images=items,
            # Item i varies image i modulo the source's size, and has its label.
            pool_targets=source.pool_targets[np.arange(self.n) % shape[0]],
            notes={
                **source.notes,
                "augmented": f"{self.n:,} random variations of {shape[0]:,} images, for timing",
            },
        )
