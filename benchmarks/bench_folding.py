"""Residual blocks by fewer operations: CPU time of a training step, folded over plain, in turns; and quality.

    OMP_NUM_THREADS=1 python benchmarks/bench_folding.py
    OMP_NUM_THREADS=1 python benchmarks/bench_folding.py mnist-ten cifar10-ten

The second trains both forms on a task's test images (at most 10,000), for some minutes each, from the same
seeds, and prints what ``alharness generator compare`` measures of them.

Both trainings of a recipe live in one process and take steps in turns, so that whatever else the machine does
meets both; the ratio of the medians is printed. Recipes without residual blocks have the same steps.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from alharness import numerics
from alharness.generative.generator import Generator
from alharness.generative.quality import label_free_quality
from alharness.generative.settings import GENERATOR_RECIPES, WRITTEN_FOR
from alharness.generative.training import train
from alharness.generative.wgan import GeneratorTraining
from alharness.pool import ArrayPool
from alharness.progress import silent
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations

#: Width and batch that a core does in well under a second a step.
SIZES = {"conv-28": (32, 16), "resnet-32": (32, 8), "resnet-64": (16, 8)}
STEPS = 9
#: Trainings that a core bears: both forms of a task and seed in a minute and a half of CPU time.
SHORT = {"width": 8, "batch_size": 8, "steps": 300, "critic_steps": 3}
SEEDS = 3


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


def quality(task: str) -> None:
    """Short trainings of both forms, seed by seed."""
    test = resolve_task(task).load(DataLocations.resolve()).open_test(torch.device("cpu"))
    raw = test.read(torch.arange(min(test.n, 10_000)))
    edge = (32 - raw.shape[-1]) // 2  # MNIST's 28 pixels have a margin of two
    pool = ArrayPool(torch.nn.functional.pad(raw, (edge,) * 4))
    for seed in range(SEEDS):
        for folded in (False, True):
            changes = {**SHORT, "folded": folded, "seed": seed}
            recipe = GENERATOR_RECIPES["resnet-32"].model_copy(update=changes)
            with tempfile.TemporaryDirectory() as folder:
                training = train(GeneratorTraining(pool, recipe), Path(folder), silent)
            networks = training.finished_generator(), training.critic
            generator = Generator(*networks, recipe, pool.item_shape, pool.device)
            figures = label_free_quality(generator.sample, pool)
            print(f"{task}, seed {seed}, {'folded' if folded else 'plain'}: {figures}", flush=True)


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
    for name in sys.argv[1:]:
        quality(name)
    if not sys.argv[1:]:
        main()
