"""The one loop of gradient steps, and the one order of batches: who trains brings a loss.

Bits depend on the order of random draws: a batch is drawn when its step begins, and what its loss draws
comes after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch


def epochs_of(
    n: int, batch_size: int, rng: torch.Generator, device: torch.device | str = "cpu"
) -> Iterator[torch.Tensor]:
    """Batches without end: each epoch a new permutation of ``0 .. n-1``, its last batch what is left.

    Args:
        n: items.
        batch_size: items per batch, at most n.
        rng: draws a permutation when its epoch begins, on the CPU.
        device: where the indices go, once per epoch.

    Yields:
        int64 ``[B]``.
    """
    while True:
        permutation = torch.randperm(n, generator=rng).to(device)
        for at in range(math.ceil(n / batch_size)):
            yield permutation[at * batch_size : (at + 1) * batch_size]


def descend(
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[int], torch.Tensor],
    steps: int,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Gradient steps, one by one; what is not consumed is not taken.

    Args:
        optimiser: over what is trained.
        loss_of: the loss of a step, a scalar with gradients.
        steps: how many.
        schedule: of the step size, moved on after each step.

    Yields:
        the step's number, from 0, and its loss without gradients: reading it waits for the device.
    """
    for step in range(steps):
        loss = loss_of(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if schedule is not None:
            schedule.step()
        yield step, loss.detach()
