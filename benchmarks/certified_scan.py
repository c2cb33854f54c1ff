"""Could a scan be scored in TF32 and rescored in float32 where a proven bound leaves it undecided? No.

    OMP_NUM_THREADS=1 python benchmarks/certified_scan.py digits-ten      (or mnist-ten, where its data are)

TF32 keeps 10 bits of both factors of a product, so a layer y = W x errs by at most 2^-10 (1 + 2^-12) |W| |x|,
taken by elements, hence by 2^-10 (1 + 2^-12) S(|W|) |x| in length, where S is the largest singular value.
ReLU, the largest of a window and a mean move no two inputs further apart, the layers behind by S(W) each:

    |error of the logits| <= sum over layers l of  prod over m > l of S(W_m)  2^-10 (1 + 2^-12) S(|W_l|) |x_l|

The best class's log-probability moves by sqrt(2) of that. This bound costs no second pass. One that follows
each element needs |W| |x|, a pass more: 6.6 s for 16 million MNIST images at best, where float32 takes 8.1
and TF32 alone 3.3 (``acceptance/roofline.py``); with gradients a third pass, 9.9 s.

Printed are the error there is (factors rounded to 10 bits, the nearest), the bound, in logits, and the share
of items that could be among the k least certain ones and would have to be scored again.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator

import torch
from torch import nn

from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.learner import LearnerSettings, NetworkLearner
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations

N_LABELLED, N_ITEMS, STEPS = 100, 1_000, 150
KINDS = {"mnist-cnn": 128, "strided-cnn": 32, "all-cnn": 24}
FACTOR = 2.0**-10 * (1 + 2.0**-12)


def rounded(values: torch.Tensor) -> torch.Tensor:
    """To 10 bits behind the first, the nearest, of ties the even one."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def multiplied(
    layer: nn.Conv2d | nn.Linear, x: torch.Tensor, weight: torch.Tensor, *, bias: bool = True
) -> torch.Tensor:
    """A layer with other weights."""
    moved = layer.bias if bias else None
    if isinstance(layer, nn.Linear):
        return nn.functional.linear(x, weight, moved)
    return nn.functional.conv2d(x, weight, moved, layer.stride, layer.padding)


def through(
    network: nn.Module, x: torch.Tensor, *, tf32: bool
) -> Iterator[tuple[nn.Conv2d | nn.Linear | None, torch.Tensor]]:
    """Each layer with products and its input, then None and the logits."""
    for layer in [*network.body, network.head]:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            yield layer, x
            factors = (x, layer.weight)
            x, weight = map(rounded, factors) if tf32 else factors
            x = multiplied(layer, x, weight)
        else:
            x = layer(x)
    yield None, x


def largest_singular_value(
    layer: nn.Conv2d | nn.Linear, x: torch.Tensor, weight: torch.Tensor
) -> float:
    """By power iteration, so from below: a proof would need a little more."""
    rng, square = torch.Generator().manual_seed(0), torch.tensor(0.0)
    v = torch.randn(1, *x.shape[1:], generator=rng).abs()
    for _ in range(20):
        v = (v / v.norm()).requires_grad_()
        with torch.enable_grad():
            half = multiplied(layer, v, weight, bias=False).square().sum() / 2
        (v,) = torch.autograd.grad(half, v)
        square = v.norm()
    return math.sqrt(float(square))


@torch.no_grad()
def measure(kind: str, task: str) -> str:
    data = resolve_task(task).load(DataLocations.resolve())
    pool = data.open_pool(torch.device("cpu"))
    order = torch.randperm(pool.n, generator=torch.Generator().manual_seed(0))
    labelled, seen = order[:N_LABELLED], order[N_LABELLED : N_LABELLED + N_ITEMS]
    settings = LearnerSettings(kind=kind, width=KINDS[kind], min_steps=STEPS, epochs=1)
    learner = NetworkLearner(pool.item_shape, 10, torch.device("cpu"), settings)
    targets = torch.as_tensor(data.pool_targets)[labelled]
    with torch.enable_grad():
        learner.fit(LabelledSet(labelled, targets, n_asked=N_LABELLED), pool, seed=0)
    network, images = learner.network.eval(), pool.gather(seen)
    *layers, (_, logits) = through(network, images, tf32=False)
    *_, (_, in_tf32) = through(network, images, tf32=True)
    bound, behind = torch.zeros(len(images)), 1.0
    for layer, x in reversed(layers):
        of_sizes = largest_singular_value(layer, x, layer.weight.abs())
        bound += behind * FACTOR * of_sizes * x.flatten(1).norm(dim=1)
        behind *= largest_singular_value(layer, x, layer.weight)
    score = in_tf32.log_softmax(dim=1).amax(dim=1)
    error = math.sqrt(2) * bound
    shares = [
        float((score - error <= (score + error).kthvalue(k).values).float().mean()) for k in (1, 10)
    ]
    apart = (logits - in_tf32).norm(dim=1)
    return (
        f"| {kind}, {task} | {len(layers)} | {float(apart.max()):.2g} | {float(bound.median()):.3g} | "
        f"{shares[0]:.0%} | {shares[1]:.0%} |"
    )


def main(task: str) -> None:
    print("| network | layers | error, at most | proven, median | undecided for 1 | for 10 |")
    print("|---|---|---|---|---|---|")
    for kind in KINDS:
        try:
            print(measure(kind, task), flush=True)
        except UserError as error:  # all-cnn needs more than 8 x 8 pixels
            print(f"| {kind}, {task} | {error} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:] or ["digits-ten"])
