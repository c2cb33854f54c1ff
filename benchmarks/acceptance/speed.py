"""Speed: every figure against its target, from the paper or from what the device could do."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch

from acceptance.problems import fitted, mnist, noise_pool
from acceptance.report import (
    Found,
    NotMeasuredError,
    Place,
    at_least,
    at_most,
    holds,
    seconds,
)
from alharness import cli, numerics, registry
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import Learner, LearnerSettings
from alharness.matching import build_index, match
from alharness.pool import Pool
from alharness.strategy import CycleView
from alharness_strategies.core_set import k_centre

#: Recipes of a dry run: one of each kind of network.
OF_A_DRY_RUN = ("fc-8", "conv-narrow", "resnet-32-ct")

#: What is promised; ``roofline`` says what a card could do at best, and a test that no target is below it.
TARGETS = {
    "fit step": 0.3,  # ms
    "a million MNIST images": 1.5,  # s
    "LSUN-sized scan": 30.0,  # s
    "matching": 1.5,  # reads of the features
    "ASAL select": 0.1,  # s
    "CelebA's generator": 1.0,  # h
}

#: What CelebA's recipe must be told for it.
CELEBA: dict[str, Any] = {"folded": True, "precision": "bf16-all"}

BENCHMARKS = Path(__file__).resolve().parents[1]


# -- scans -------------------------------------------------------------------------------------------


def _network(task: str, dry: bool) -> LearnerSettings:
    """The paper's classifier of a task, narrow and hardly trained for a dry run."""
    found: LearnerSettings = registry.resolve_task(task).defaults("paper").learner
    few = {"min_steps": 2, "epochs": 1}
    return found.model_copy(update={**few, "width": 4} if dry else few)


def _scan(learner: Learner, pool: Pool) -> Callable[[], object]:
    labelled = LabelledSet(torch.arange(20), torch.arange(20) % 2, n_asked=20)
    view = CycleView(pool=pool, labelled=labelled, learner=learner, n_classes=2, cycle=0, seed=0)
    unlabelled = view.unlabelled

    def score(items: torch.Tensor) -> torch.Tensor:
        return learner.log_probs(items).max(dim=1).values

    return lambda: view.scan(score, unlabelled)


def scan_against_forward(place: Place) -> Found:
    """Reading, converting and collecting cost little beside the network itself."""
    pool = noise_pool(place.size(300_000, 200), (1, 28, 28), place.device)
    learner = fitted(pool, _network("mnist-ten", place.dry), 20)
    block = pool.gather(torch.arange(min(pool.n, pool.block_size())))

    def bare() -> None:
        with torch.no_grad():
            for start in range(0, pool.n, len(block)):
                learner.logits(block[: pool.n - start])

    share = seconds(bare) / seconds(_scan(learner, pool))
    return at_least(share, 0.8, "of bare")


def million_images(place: Place) -> Found:
    """A million MNIST images through the paper's network."""
    n = place.size(1_000_000, 300)
    pool = noise_pool(n, (1, 28, 28), place.device)
    learner = fitted(pool, _network("mnist-ten", place.dry), 20)
    scan = _scan(learner, pool)
    torch.cuda.reset_peak_memory_stats()
    taken = seconds(scan, repeats=3, warm_up=1)
    peak = torch.cuda.max_memory_allocated() / 1e9
    found = at_most(
        taken, TARGETS["a million MNIST images"], "s", f"peak {peak:.2f} GB of at most 6 GB"
    )
    return Found(**{**vars(found), "good": found.good and peak <= 6.0})


def lsun_sized(place: Place) -> Found:
    """Ten million 3x64x64 images on the device: 123 GB."""
    n, shape = place.size(10_000_000, 40), (3, 64, 64)
    place.need_memory(n * math.prod(shape) + place.size(8 << 30, 0))
    pool = noise_pool(n, shape, place.device)
    learner = fitted(pool, _network("lsun", place.dry), 20)
    return at_most(
        seconds(_scan(learner, pool), repeats=1, warm_up=0), TARGETS["LSUN-sized scan"], "s"
    )


# -- selections --------------------------------------------------------------------------------------


def matching(place: Place) -> Found:
    """Ten queries among 16 million rows of 50, in reads of the features; of some rows the CPU's matches."""
    n = place.size(16_000_000, 2_000)
    place.need_memory(place.size(3 * n * 50 * 4, 0))
    features = torch.empty(n, 50, device=place.device).normal_()
    queries = torch.empty(10, 50, device=place.device).normal_()
    index, taken = build_index("exact", features), torch.arange(100)
    some = features[: place.size(100_000, 500)]
    ours, theirs = (
        match(build_index("exact", rows), queries.to(rows.device), taken=taken)
        for rows in (some, some.cpu())
    )
    if not torch.equal(ours.indices, theirs.indices):
        return holds(False, "the CPU's matches", "GPU and CPU match differently", over=len(queries))
    read = seconds(features.sum)
    found = seconds(lambda: match(index, queries, taken=taken))
    how = "by products" if getattr(index, "_streamed", None) is None else "by Triton's kernel"
    note = f"{1e3 * found:.2f} ms {how}, a read {1e3 * read:.2f} ms; equal matches"
    return at_most(found / read, TARGETS["matching"], "reads", note)


def asal_select(place: Place) -> Found:
    """One ASAL selection from 16 million images; 44 s on the paper's TITAN X."""
    task, n = mnist(place), place.size(16_000_000, 400)
    out = place.scratch / "asal"
    command = [
        *("timing", "--dataset", task, "--strategies", "asal-gray", "--sizes", str(n)),
        *("--repeats", "3", "--untrained", "--device", "cuda", "--quiet"),
        *("--out", str(out), "--runs-dir", str(place.scratch / "timing-runs")),
    ]
    if place.dry:
        code = cli.call(command)
    else:  # in a process of its own: it can be stopped
        code = subprocess.run(
            [sys.executable, "-m", "alharness", *command],
            cwd=BENCHMARKS.parent,
            timeout=place.left_s(),
            check=False,
        ).returncode
    if code:
        return holds(False, "<= 0.1 s", f"alharness timing ended with {code}", over=1)
    lines = [json.loads(line) for line in (out / "timing.jsonl").read_text().splitlines()]
    taken = [line["seconds"] for line in lines if line["kind"] == "select"]
    return at_most(sorted(taken)[len(taken) // 2], TARGETS["ASAL select"], "s", f"of {n:,} images")


def core_set(place: Place) -> Found:
    """1,000 centres among 50,000 rows of 128, and the same as on the CPU."""
    n, k = place.size(50_000, 300), place.size(1_000, 20)
    rng = torch.Generator().manual_seed(0)
    rows, centres = torch.randn(n, 128, generator=rng), torch.randn(50, 128, generator=rng)
    there, given = rows.to(place.device), centres.to(place.device)
    picked = k_centre(there, given, k)
    if not torch.equal(picked, k_centre(rows, centres, k)):
        return holds(False, "the CPU's picks", "GPU and CPU choose differently", over=k)
    return at_most(seconds(lambda: k_centre(there, given, k), repeats=3), 0.4, "s", "equal picks")


# -- trainings ---------------------------------------------------------------------------------------


def fit_step(place: Place) -> Found:
    """A thousand steps of the MNIST network at batch 50."""
    steps, n = place.size(1_000, 2), place.size(500, 60)
    pool = noise_pool(n, (1, 28, 28), place.device)
    settings = _network("mnist-ten", place.dry).model_copy(
        update={"batch_size": 50, "min_steps": steps}
    )
    labelled = LabelledSet(torch.arange(n), torch.arange(n) % 2, n_asked=n)
    learner = learner_factory(settings)(pool.item_shape, 2, place.device)
    taken = seconds(lambda: learner.fit(labelled, pool, seed=0), repeats=3, warm_up=1)
    return at_most(1e3 * taken / steps, TARGETS["fit step"], "ms/step", f"{taken:.3f} s in all")


@contextmanager
def _timed_captures() -> Iterator[list[float]]:
    """Seconds of every graph capture in the ``with`` block."""
    found: list[float] = []
    graph = torch.cuda.graph

    @contextmanager
    def timed(*args: Any, **kwargs: Any) -> Iterator[None]:
        torch.cuda.synchronize()
        start = time.perf_counter()
        with graph(*args, **kwargs):
            yield
        torch.cuda.synchronize()
        found.append(time.perf_counter() - start)

    with mock.patch.object(torch.cuda, "graph", timed):
        yield found


def first_capture(place: Place) -> Found:
    """What the first capture of a generator's step costs beside the step."""
    case = _bench_generator()
    recipe, pool = case.case("fc-8")
    with _timed_captures() as captures:
        step = case.our_step("critic", recipe, pool)
        for _ in range(5):
            step()
    if not captures:
        raise NotMeasuredError("nothing was captured")
    return at_most(1e3 * captures[0], 20.0, "ms")


def _bench_generator() -> ModuleType:
    """The floor of a training step, as the benchmark computes it."""
    if importlib.util.find_spec("pytest") is None:
        raise NotMeasuredError("pytest is not installed, which the benchmark of the floors imports")
    spec = importlib.util.spec_from_file_location(
        "bench_generator", BENCHMARKS / "bench_generator.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wgan_step(name: str, step: str) -> Callable[[Place], Found]:
    """A step of one recipe against the operations or bytes that it cannot do without."""

    def measure(place: Place) -> Found:
        bench = _bench_generator()
        recipe, pool = bench.case(name)
        if place.dry:
            if name not in OF_A_DRY_RUN:
                raise NotMeasuredError("a dry run makes one recipe of each kind of network")
            recipe = recipe.model_copy(update={"width": 2, "batch_size": 2, "latent_dim": 4})
        with numerics.training(recipe.precision):
            ours = bench.our_step(step, recipe, pool)
            taken = seconds(ours, repeats=place.size(5, 1), warm_up=4)
            n_operations = bench.operations(bench.our_step(step, recipe, pool, capture=False))
            if place.dry:
                note = f"{n_operations:,} operations; the floor is a device's"
                return Found(1e3 * taken, True, ">= 0.2 of floor", "ms", is_time=True, note=note)
            training = bench.GeneratorTraining(pool, recipe)
            module = training.critic if step == "critic" else training.generator
            bytes_s = bench.adam_bytes(module) / bench.bandwidth()
            floor = max(n_operations / bench.matrix_rate(), bytes_s)
        note = f"{1e3 * taken:.3f} ms, floor {1e3 * floor:.3f} ms"
        return at_least(floor / taken, 0.2, "of floor", note)

    return measure


def celeba_within_an_hour(place: Place) -> Found:
    """All steps of CelebA's generator, as the settings that we promise the hour for have it."""
    bench = _bench_generator()
    recipe, pool = bench.case("resnet-64")
    recipe = recipe.model_copy(update=CELEBA)
    if place.dry:  # a CPU takes fifteen times as long in bfloat16
        small = {"width": 2, "batch_size": 2, "latent_dim": 4, "precision": "tf32"}
        recipe = recipe.model_copy(update=small)
    with numerics.training(recipe.precision):
        critic, generator = (
            seconds(bench.our_step(step, recipe, pool), repeats=place.size(5, 1), warm_up=4)
            for step in ("critic", "generator")
        )
    hours = recipe.steps * (recipe.critic_steps * critic + generator) / 3600
    return at_most(hours, TARGETS["CelebA's generator"], "h", f"{recipe.steps:,} steps")
