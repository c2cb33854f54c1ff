"""What a training step of each generator costs, beside its floor and an obvious PyTorch loop.

The floor is what the device could do at best: the step's operations (counted by torch, double
backward included) over the matrix rate that this device reaches in the same minute, or the weights'
and moments' bytes over its memory bandwidth, whichever is longer. "Obvious" is the loop of a
tutorial with the same networks: three passes of the critic, Adam as it comes, a loss printed in
every step.

    pytest benchmarks/bench_generator.py --benchmark-enable --benchmark-only

Every row tells the ratio to the floor and to the obvious loop; absolute times compare only on one
machine. A step that takes seconds (the large networks on a CPU) is repeated less often.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from alharness import numerics
from alharness.generative import wgan
from alharness.generative.networks import build_critic, build_generator
from alharness.generative.settings import GENERATOR_RECIPES, WRITTEN_FOR, GeneratorRecipe
from alharness.generative.wgan import GeneratorTraining
from alharness.pool import ArrayPool
from alharness.timing import synchronise

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

#: Seconds of a call above which it is timed once instead of five times.
LONG_S = 1.0


def case(name: str) -> tuple[GeneratorRecipe, ArrayPool]:
    images = np.random.default_rng(0).integers(
        0, 256, size=(1_000, *WRITTEN_FOR[name]), dtype=np.uint8
    )
    return GENERATOR_RECIPES[name], ArrayPool(images, DEVICE)


class ObviousLoop:
    """The same networks and losses, written as a tutorial writes them."""

    def __init__(self, recipe: GeneratorRecipe, pool: ArrayPool) -> None:
        torch.manual_seed(0)
        self.recipe = recipe
        self.images = pool.gather(torch.arange(pool.n))
        if recipe.signed:
            self.images = self.images * 2 - 1
        self.generator = build_generator(recipe, pool.item_shape).to(DEVICE)
        self.critic = build_critic(recipe, pool.item_shape).to(DEVICE)
        options: dict[str, Any] = {"lr": recipe.lr, "betas": (recipe.beta1, recipe.beta2)}
        self.generator_adam = torch.optim.Adam(self.generator.parameters(), **options)
        self.critic_adam = torch.optim.Adam(self.critic.parameters(), **options)

    def critic_step(self) -> None:
        recipe = self.recipe
        index = torch.randint(len(self.images), (recipe.batch_size,))
        real = self.images[index.to(DEVICE)]
        fake = self.generator(torch.randn(len(real), recipe.latent_dim).to(DEVICE)).detach()
        alpha = torch.rand(len(real), 1, 1, 1).to(DEVICE)
        mixed = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
        gradient = torch.autograd.grad(self.critic(mixed).sum(), mixed, create_graph=True)[0]
        penalty = ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
        loss = self.critic(fake).mean() - self.critic(real).mean() + recipe.penalty * penalty
        if recipe.consistency:
            first, second = self.critic.features(real), self.critic.features(real)
            apart = (self.critic.head(first) - self.critic.head(second)).squeeze(1) ** 2
            apart = apart + 0.1 * ((first - second) ** 2).mean(dim=1)
            loss = loss + torch.clamp(recipe.consistency * apart, min=0).mean()
        self.critic_adam.zero_grad()
        loss.backward()
        self.critic_adam.step()
        loss.item()

    def generator_step(self) -> None:
        size = self.recipe.batch_size * self.recipe.generator_batch_factor
        z = torch.randn(size, self.recipe.latent_dim).to(DEVICE)
        loss = -self.critic(self.generator(z)).mean()
        self.generator_adam.zero_grad()
        loss.backward()
        self.generator_adam.step()
        loss.item()


def our_step(
    step: str, recipe: GeneratorRecipe, pool: ArrayPool, *, capture: bool | None = None
) -> Callable[[], None]:
    """One critic or generator step of the real training, inputs drawn ahead."""
    training = GeneratorTraining(pool, recipe, capture=capture)
    inputs = training.draw(1)[0]

    def critic() -> None:
        training._critic_step(inputs.reals[0], inputs.critic_z[0], inputs.mix[0])

    def generator() -> None:
        training._generator_step(inputs.generator_z)

    return critic if step == "critic" else generator


def seconds(
    function: Callable[[], object],
    *,
    repeats: int = 5,
    best: bool = False,
) -> float:
    """Median (or least) seconds of one call, synchronised."""
    for _ in range(4 if DEVICE.type == "cuda" else 1):  # graphs are captured in the first calls
        warm_s = once(function)
    if warm_s > LONG_S:
        repeats = 1
    found = [once(function) for _ in range(repeats)]
    return min(found) if best else statistics.median(found)


def once(function: Callable[[], object]) -> float:
    """Seconds of one call, synchronised."""
    synchronise(DEVICE)
    start = time.perf_counter()
    function()
    synchronise(DEVICE)
    return time.perf_counter() - start


def matrix_rate() -> float:
    """Operations per second of float32 products that fill the device: the better of two libraries.

    Matrix products and convolutions come from different libraries; on an AMD processor the
    convolutions are the faster ones by half.
    """
    n = 8_192 if DEVICE.type == "cuda" else 2_048
    a, b = torch.rand(n, n, device=DEVICE), torch.rand(n, n, device=DEVICE)
    product = 2 * n**3 / seconds(lambda: torch.mm(a, b), best=True)
    images = 4_096 if DEVICE.type == "cuda" else 64
    x = torch.rand(images, 64, 32, 32, device=DEVICE)
    weight = torch.rand(64, 64, 5, 5, device=DEVICE)
    n_operations = 2 * images * 64 * 64 * 25 * 32**2
    convolved = n_operations / seconds(lambda: conv2d(x, weight, padding=2), best=True)
    return max(product, convolved)


def bandwidth() -> float:
    """Bytes per second that the device reads and writes."""
    values = torch.rand(1 << (28 if DEVICE.type == "cuda" else 24), device=DEVICE)
    return 2 * 4 * len(values) / seconds(lambda: values.add_(1.0), best=True)


class Operations(TorchDispatchMode):
    """Counts multiplications and additions of matrix products and convolutions.

    torch's own ``FlopCounterMode`` follows modules too and fails on a gradient of a gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.n += count(*args, **(kwargs or {}), out_val=result)
        return result


def operations(function: Callable[[], None]) -> int:
    """Operations of one call."""
    with Operations() as counter:
        function()
    return counter.n


def adam_bytes(module: torch.nn.Module) -> int:
    """Read: weight, gradient, two moments; written: weight, two moments."""
    return 7 * 4 * sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("step", ["critic", "generator"])
@pytest.mark.parametrize("name", WRITTEN_FOR)
def test_step(benchmark: Any, name: str, step: str) -> None:
    recipe, pool = case(name)
    with numerics.training(recipe.precision):  # for the floor and the obvious loop as well
        measure_step(benchmark, recipe, pool, step)


def measure_step(benchmark: Any, recipe: GeneratorRecipe, pool: ArrayPool, step: str) -> None:
    ours = our_step(step, recipe, pool)
    obvious = ObviousLoop(recipe, pool)
    theirs = {"critic": obvious.critic_step, "generator": obvious.generator_step}[step]

    # Counted on an eager step: a captured graph hides its operations.
    n_operations = operations(our_step(step, recipe, pool, capture=False))
    moved = adam_bytes(obvious.critic if step == "critic" else obvious.generator)
    floor_s = max(n_operations / matrix_rate(), moved / bandwidth())
    ratios = []
    for _ in range(3):  # interleaved: the machine drifts for both alike
        ratios.append(seconds(ours) / seconds(theirs))

    def timed() -> None:
        ours()
        synchronise(DEVICE)

    rounds = 1 if once(timed) > LONG_S else 5
    benchmark.pedantic(timed, rounds=rounds, warmup_rounds=rounds - 1, iterations=1)
    taken = benchmark.stats.stats.median if benchmark.enabled else math.nan
    benchmark.extra_info.update(
        device=torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        gflop=n_operations / 1e9,
        floor_ms=1e3 * floor_s,
        share_of_floor=floor_s / taken,
        against_obvious=statistics.median(ratios),
    )
    if benchmark.enabled and step == "critic":
        hours = recipe.steps * recipe.critic_steps * taken / 3600
        benchmark.extra_info["hours_of_critic_steps"] = hours


@pytest.mark.regress
@pytest.mark.parametrize("name", ["fc-8", pytest.param("fc", marks=pytest.mark.slow)])
def test_a_chunk_is_not_slower_than_the_obvious_loop(name: str) -> None:
    """Drawing, sending and checking included: at most 1.3 times the tutorial's loop, one retry."""
    recipe, pool = case(name)
    training, obvious = GeneratorTraining(pool, recipe), ObviousLoop(recipe, pool)

    def one_step_of_obvious() -> None:
        for _ in range(recipe.critic_steps):
            obvious.critic_step()
        obvious.generator_step()

    def chunk_of_obvious() -> None:
        for _ in range(wgan.CHUNK_STEPS):
            one_step_of_obvious()

    ratio = math.inf
    for _ in range(2):
        pairs = [
            seconds(training.run_chunk, repeats=1) / seconds(chunk_of_obvious, repeats=1)
            for _ in range(2)
        ]
        ratio = min(ratio, *pairs)
        if ratio <= 1.3:
            break
    assert ratio <= 1.3
