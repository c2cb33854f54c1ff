"""The batches of a fit, drawn before its first step: a device is sent all of them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

import torch
from torch.nn import functional

from alharness.learners.training import epochs_of

#: Pixels by which ``flip-crop`` moves an image at most (decisions 1.8).
PAD = 4


@dataclass(frozen=True)
class Batches:
    """Which items each step sees, and how they are moved.

    Attributes:
        rows: positions among the labelled items, int64 ``[B]`` for each step; the last of an epoch is
            what is left.
        moves: flip, and shift down and right, of each item: int64 ``[B, 3]`` for each step; empty where
            items stay as they are.
    """

    rows: tuple[torch.Tensor, ...]
    moves: tuple[torch.Tensor, ...]

    @classmethod
    def draw(
        cls,
        n: int,
        batch_size: int,
        steps: int,
        rng: torch.Generator,
        *,
        moved: bool,
        in_company: bool,
    ) -> Batches:
        """Draw step by step: a permutation when its epoch begins, then each batch's moves.

        Args:
            n: labelled items.
            batch_size: at most n.
            steps: how many batches.
            rng: on the CPU.
            moved: whether images are flipped and shifted.
            in_company: a lone item gets the epoch's first one beside it: statistics of a batch of one
                are undefined.
        """
        per_epoch = math.ceil(n / batch_size)
        rows, moves = [], []
        for step, batch in enumerate(islice(epochs_of(n, batch_size, rng), steps)):
            # Kept while its epoch lasts: who keeps a lone last item company must be of the same epoch.
            if step % per_epoch == 0:
                first = batch[:1]
            if len(batch) == 1 and in_company:
                batch = torch.cat([first, batch])
            rows.append(batch)
            if moved:
                moves.append(draw_moves(len(batch), rng))
        return cls(tuple(rows), tuple(moves))

    @property
    def sizes(self) -> list[int]:
        """Items of each step."""
        return [len(rows) for rows in self.rows]

    def table(self, batch_size: int) -> torch.Tensor:
        """Rows and moves of all steps, int64 ``[S, B, 1]`` or ``[S, B, 4]``; short ones padded with 0."""
        found = torch.zeros((len(self.rows), batch_size, 4 if self.moves else 1), dtype=torch.int64)
        for step, rows in enumerate(self.rows):
            found[step, : len(rows), 0] = rows
            if self.moves:
                found[step, : len(rows), 1:] = self.moves[step]
        return found


def draw_moves(n: int, rng: torch.Generator, pad: int = PAD) -> torch.Tensor:
    """Flips (0 or 1) and shifts (0 to twice ``pad``, down and right) of n images, int64 ``[n, 3]``."""
    # Flips first, then shifts: recorded runs drew in this order.
    flips = torch.rand(n, generator=rng) < 0.5
    shifts = torch.randint(0, 2 * pad + 1, (n, 2), generator=rng)
    return torch.cat([flips[:, None].long(), shifts], dim=1)


def flip_crop(images: torch.Tensor, moves: torch.Tensor, pad: int = PAD) -> torch.Tensor:
    """Images ``[B, C, H, W]`` flipped left to right and shifted (LSUN; decisions 1.8).

    Args:
        moves: ``draw_moves``, where the images are.
        pad: pixels by which their borders are continued.
    """
    height, width = images.shape[2:]
    right = torch.arange(width, device=images.device)
    rows = moves[:, 1:2] + torch.arange(height, device=images.device)
    columns = moves[:, 2:3] + torch.where(moves[:, :1] > 0, right.flip(0), right)
    padded = functional.pad(images, (pad, pad, pad, pad), mode="replicate")
    at = torch.arange(len(images), device=images.device)[:, None, None]
    picked = padded.permute(0, 2, 3, 1)[at, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)
