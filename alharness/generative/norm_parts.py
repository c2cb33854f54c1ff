"""How the layer norm's kernels divide an image; known without Triton, too, for counts of what they move."""

from __future__ import annotations

import torch

#: Numbers of a tile, eight for each of a block's threads (16 bytes of bfloat16), and tiles of a part.
TILE, TILES = 1024, 8
#: Sums of a part, at most.
N_SUMS = 5


def n_parts(x: torch.Tensor) -> int:
    """Parts of each image ``[B, C, H, W]``: so many blocks work on one."""
    columns: int = 1 << (x.shape[1] - 1).bit_length()
    return -(-x.shape[2] * x.shape[3] // (max(1, TILE // columns) * TILES))
