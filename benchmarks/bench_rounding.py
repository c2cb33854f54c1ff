"""What ``generator.precision=bf16-all`` does to a generator: short trainings beside float32's, seed by seed.

    OMP_NUM_THREADS=1 python benchmarks/bench_rounding.py mnist-ten cifar10-ten

A CPU without instructions for bfloat16 is fifteen times slower in it. So each result of a step is rounded
to it and kept in float32: what is stored has eight bits and sums have 24, as on a card. Weights under the
optimiser and figures of single images or batches are not rounded. Minutes of CPU time per training.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from alharness.generative import wgan
from alharness.generative.generator import Generator
from alharness.generative.quality import label_free_quality
from alharness.generative.settings import GENERATOR_RECIPES, GeneratorRecipe
from alharness.generative.training import train
from alharness.generative.wgan import GeneratorTraining
from alharness.pool import ArrayPool
from alharness.progress import silent
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations

#: CelebA's recipe with its layer norms as small as a core bears, and that of `quick`, a third as long.
SHORT: dict[str, dict[str, Any]] = {
    "resnet-64": {
        "folded": True, "width": 8, "batch_size": 8, "steps": 300, "critic_steps": 3, "lr": 5e-4
    },
    "conv-narrow": {"steps": 600},
}  # fmt: skip
SEEDS = 3


class Stored(TorchDispatchMode):
    """Rounds what operations give to bfloat16."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not any(given.alias_info is not None for given in func._schema.returns):
            for given in result if isinstance(result, tuple) else (result,):
                # Losses and norms have fewer dimensions, and are float32 on a card, too.
                if (
                    isinstance(given, torch.Tensor)
                    and given.dim() > 1
                    and given.is_floating_point()
                ):
                    given.copy_(given.bfloat16())
        return result


def rounded(network: nn.Module) -> Callable[..., Any]:
    """``rounding.rounded`` in float32 that hold eight bits."""
    weights = {
        name: weight.bfloat16().float()
        for name, weight in network.named_parameters()
        if not isinstance(network.get_submodule(name.rpartition(".")[0]), nn.BatchNorm2d)
    }

    def compute(x: torch.Tensor, **options: Any) -> Any:
        return functional_call(network, weights, (x.bfloat16().float(),), options)

    return compute


class RoundedTraining(GeneratorTraining):
    """On a CPU what ``bf16-all`` is on a card."""

    _is_rounded = True

    def critic_step(self, *inputs: torch.Tensor) -> None:
        with Stored():
            super().critic_step(*inputs)

    def generator_step(self, *inputs: torch.Tensor) -> None:
        with Stored():
            super().generator_step(*inputs)


def images(task: str, side: int) -> ArrayPool | None:
    """A task's test images, at most 10,000, with a margin up to these sides; None of larger ones."""
    test = resolve_task(task).load(DataLocations.resolve()).open_test(torch.device("cpu"))
    raw = test.read(torch.arange(min(test.n, 10_000)))
    edge = (side - raw.shape[-1]) // 2
    return None if edge < 0 else ArrayPool(functional.pad(raw, (edge,) * 4))


def quality(kind: type[GeneratorTraining], pool: ArrayPool, recipe: GeneratorRecipe) -> str:
    """Of one training, and its CPU time."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        training = train(kind(pool, recipe), Path(folder), silent)
    networks = training.finished_generator(), training.critic
    generator = Generator(*networks, recipe, pool.item_shape, pool.device)
    found = label_free_quality(generator.sample, pool)
    return f"{time.process_time() - start:.0f} s: {found}"


def main(tasks: list[str]) -> None:
    wgan.rounded = rounded
    for name, changes in SHORT.items():
        for task in tasks:
            pool = images(task, 28 if name == "conv-narrow" else 32)
            for seed in range(SEEDS) if pool is not None else ():
                for kind in (GeneratorTraining, RoundedTraining):
                    recipe = GENERATOR_RECIPES[name].model_copy(update={**changes, "seed": seed})
                    told = quality(kind, pool, recipe)
                    print(f"{name}, {task}, seed {seed}, {kind.__name__}, {told}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
