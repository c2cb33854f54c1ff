"""Residual blocks by fewer operations: CPU time of a training step, folded over plain, in turns.

    OMP_NUM_THREADS=1 python benchmarks/bench_folding.py

Both trainings of a recipe live in one process and take steps in turns, so that whatever else the machine does
meets both; the ratio of the medians is printed. Recipes without residual blocks have the same steps.
"""

from __future__ import annotations

import statistics
import time

import torch

from alharness import numerics
from alharness.generative.settings import GENERATOR_RECIPES, WRITTEN_FOR
from alharness.generative.wgan import GeneratorTraining
from alharness.pool import ArrayPool

#: Width and batch that a core does in well under a second a step.
SIZES = {"conv-28": (32, 16), "resnet-32": (32, 8), "resnet-64": (16, 8)}
STEPS = 9


def training(name: str, *, folded: bool) -> GeneratorTraining:
    width, batch_size = SIZES[name]
    changes = {"width": width, "batch_size": batch_size, "folded": folded}
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, *WRITTEN_FOR[name]), generator=rng, dtype=torch.uint8)
    return GeneratorTraining(ArrayPool(images), GENERATOR_RECIPES[name].model_copy(update=changes))


def seconds(of: GeneratorTraining, step: str) -> float:
    inputs = of.draw(1)[0]
    start = time.process_time()
    if step == "critic":
        of.critic_step(inputs.reals[0], inputs.critic_z[0], inputs.mix[0])
    else:
        of.generator_step(inputs.generator_z)
    return time.process_time() - start


def main() -> None:
    for name in SIZES:
        both = [training(name, folded=folded) for folded in (False, True)]
        for step in ("critic", "generator"):
            with numerics.exact():
                taken = [[seconds(of, step) for of in both] for _ in range(STEPS)][1:]
            plain, folded = (statistics.median(times) for times in zip(*taken, strict=True))
            print(
                f"{name} {step}: {folded / plain:.2f} ({1e3 * folded:.0f} of {1e3 * plain:.0f} ms)"
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
