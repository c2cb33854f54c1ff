"""Gradient steps in a loop, and the one order of batches: who trains brings a loss.

Bits depend on the order of random draws: where batches and losses draw from one generator, a batch is
drawn when its step begins, and what its loss draws comes after it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

from alharness.lazily import torch


def epochs_of(n: int, batch_size: int, rng: torch.Generator) -> Iterator[torch.Tensor]:
    """Batches without end: each epoch a new permutation of ``0 .. n-1``, its last batch what is left.

    Args:
        n: items.
        batch_size: items per batch, at most n.
        rng: draws a permutation when its epoch begins, on the CPU.

    Yields:
        int64 ``[B]`` on the CPU.
    """
    while True:
        permutation = torch.randperm(n, generator=rng)
        for at in range(math.ceil(n / batch_size)):
            yield permutation[at * batch_size : (at + 1) * batch_size]


def descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One gradient step down a loss."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


def replayed(step: Callable[..., None], device: torch.device, name: str) -> Callable[..., None]:
    """A step to be taken again and again: on CUDA a graph for each shape of its inputs, else as it is.

    Args:
        step: changes tensors in place; from call to call nothing but its inputs may differ, tensors all.
        device: where it computes.
        name: what a warning calls it, where no graph can hold it.
    """
    if device.type != "cuda":
        return step
    from alharness.learners.capture import CapturedStep  # which needs torch

    graphs: dict[tuple[torch.Size, ...], CapturedStep] = {}  # a last batch is shorter

    def take(*inputs: torch.Tensor) -> None:
        shapes = tuple(values.shape for values in inputs)
        if shapes not in graphs:
            graphs[shapes] = CapturedStep(step, or_eagerly=name)
        graphs[shapes](*inputs)

    return take


def adam(
    parameters: Iterable[torch.Tensor],
    lr: float,
    device: torch.device,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    fused: bool | None = None,
) -> torch.optim.Optimizer:
    """Adam for ``replayed`` steps: on CUDA its state and step size lie where a graph can change them.

    Args:
        parameters: what is trained.
        lr: the step size.
        device: where they lie.
        betas: how slowly the averages of the gradient and of its square move; torch's by default.
        fused: torch's choice on a CPU, whose last bits hang on it; on CUDA always one kernel.
    """
    if device.type != "cuda":
        return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=fused)
    step_size = torch.tensor(lr, device=device)
    return torch.optim.Adam(parameters, lr=step_size, betas=betas, fused=True, capturable=True)


def descend_through(
    optimiser: torch.optim.Optimizer,
    inputs_of: Callable[[int], tuple[torch.Tensor, ...]],
    loss_of: Callable[..., torch.Tensor],
    steps: int,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Gradient steps, one by one, between which nothing but tensors differs: ``replayed`` on CUDA.

    Args:
        optimiser: over what is trained (``adam``).
        inputs_of: what a step is about; drawn in the order of the steps.
        loss_of: the loss of these tensors, a scalar with gradients, and of nothing else that changes.
        steps: how many; what is not consumed is not taken.
        schedule: of the step size, moved on after each step.

    Yields:
        the step's number, from 0, and its loss without gradients: reading it waits for the device.
    """
    device = optimiser.param_groups[0]["params"][0].device
    last = torch.zeros((), device=device)

    def step_through(*inputs: torch.Tensor) -> None:
        loss = loss_of(*inputs)
        descend(optimiser, loss)
        last.copy_(loss.detach())

    take = replayed(step_through, device, "a training")
    for step in range(steps):
        take(*inputs_of(step))
        if schedule is not None:
            schedule.step()
        yield step, last.clone()


def descend_all(
    optimiser: torch.optim.Optimizer, loss_of: Callable[[int], torch.Tensor], steps: int
) -> torch.Tensor:
    """So many gradient steps, each down the loss of its number; their losses ``[S]``.

    They are written into one tensor. A tensor of its own kept from each step lies in the heap between
    what the next steps give back, whose room is then too small for what they ask for: .1 to .2 MB a step with
    mnist-cnn (glibc), 4 GB for a fit on all of MNIST.
    """
    losses = torch.empty(0)
    for step in range(steps):
        loss = loss_of(step)
        descend(optimiser, loss)
        if step == 0:
            losses = loss.new_empty(steps)
        losses[step] = loss.detach()
    return losses


def descend_on_device(
    optimiser: torch.optim.Optimizer,
    loss_of: Callable[[int, torch.Tensor], torch.Tensor],
    kinds: Sequence[Hashable | None],
    device: torch.device,
) -> torch.Tensor:
    """The steps of ``descend_all`` on a CUDA device, all of them; those of a kind are one graph, replayed.

    A small network's kernels take less time than launching them one by one. A kind of which there are too
    few steps to be worth a graph (``WORTH_CAPTURING``), such as the last, shorter batch of each of a few
    epochs, is launched as ever, and computes the same.

    Args:
        optimiser: over what is trained; its state lies on the device (``capturable``).
        loss_of: the loss of a step, from its number as Python knows it, which a graph does not, and as
            the device does, int64 ``[1]``.
        kinds: of each step: steps of one kind differ in nothing but what the device's number picks. None
            for a step that nobody can tell that of.
        device: where all of it lies.

    Returns:
        the loss of every step, float32 ``[S]``, on the device.
    """
    from alharness.learners.capture import WORTH_CAPTURING, CapturedStep  # which needs torch

    losses = torch.zeros(len(kinds), device=device)
    at = torch.zeros(1, dtype=torch.int64, device=device)

    def step_as(number: int) -> None:
        loss = loss_of(number, at)
        descend(optimiser, loss)
        losses.index_copy_(0, at, loss.detach().reshape(1))
        at.add_(1)

    def captured(number: int) -> CapturedStep:
        return CapturedStep(lambda: step_as(number), or_eagerly="the training of a classifier")

    n_steps = Counter(kinds)
    graphs: dict[Hashable, CapturedStep] = {}
    for number, kind in enumerate(kinds):
        if kind is None or n_steps[kind] < WORTH_CAPTURING:
            step_as(number)
        else:
            if kind not in graphs:
                graphs[kind] = captured(number)
            graphs[kind]()
    return losses
