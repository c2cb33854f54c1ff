"""What makes a GPU wait, counted: gates on host reads, copies and launches that need no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pretended_cuda import Counts, PretendedDevice
from tiny import LEARNERS, counted_selections, images, run, spec, together

from alharness.generative.latent_search import LatentSearch
from alharness.labelled import LabelledSet
from alharness.learners.capture import WARM_UP_CALLS
from alharness.learners.factory import learner_factory
from alharness.learners.learner import Learner, LearnerSettings
from alharness.pool import ArrayPool, PinnedPool, Pool
from alharness.progress import silent
from alharness.strategy import CycleView
from alharness_strategies import inversion


@pytest.fixture(autouse=True)
def _arithmetic_of_a_run() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, benchmark=False):
        yield


def digits(n: int = 40) -> Pool:
    return ArrayPool(images(n, (1, 8, 8)), "cuda")


def labelled(n: int = 20) -> LabelledSet:
    return LabelledSet(torch.arange(n), torch.arange(n) % 2, n_asked=n)


def learner(kind: str, **settings: int) -> Learner:
    found = LearnerSettings(**{**LEARNERS[kind], "epochs": 1, "batch_size": 10, **settings})
    return learner_factory(found)((1, 8, 8), 2, torch.device("cuda"))


def fit(device: PretendedDevice, kind: str, **settings: int) -> Counts:
    pool, given = digits(), labelled()
    made = learner(kind, **settings)
    with device.counting() as counts:
        made.fit(given, pool, seed=0)
    return counts


# -- fits --------------------------------------------------------------------------------------------


def test_a_networks_fit_reads_nothing_inside_its_steps(device: PretendedDevice) -> None:
    few, many = (fit(device, "cnn", min_steps=steps) for steps in (8, 24))
    assert many.host_reads == few.host_reads <= 2, many.reads_at


def test_a_networks_fit_sends_its_batches_once(device: PretendedDevice) -> None:
    few, many = (fit(device, "cnn", min_steps=steps) for steps in (8, 24))
    assert many.sent == few.sent


def test_a_networks_step_is_a_replay(device: PretendedDevice) -> None:
    few, many = (fit(device, "cnn", min_steps=steps) for steps in (8, 24))
    assert many.captures == few.captures == 1
    assert (many.launches - few.launches) / 16 <= 4  # the inputs are copied in


def test_a_linear_fit_reads_a_constant_number(device: PretendedDevice) -> None:
    few, many = (fit(device, "linear", max_iterations=n) for n in (3, 30))
    assert many.host_reads == few.host_reads <= 8, many.reads_at


# -- scans -------------------------------------------------------------------------------------------


def scan(device: PretendedDevice, n: int, block: int) -> Counts:
    pool = digits(n)
    pool.block_size = lambda: block  # type: ignore[method-assign]
    made = learner("cnn", min_steps=2)
    made.fit(labelled(), pool, seed=0)
    view = CycleView(pool=pool, labelled=labelled(), learner=made, n_classes=2, cycle=0, seed=0)
    unlabelled = view.unlabelled
    with device.counting() as counts:
        view.scan(lambda items: made.log_probs(items).max(dim=1).values, unlabelled)
    return counts


def test_a_scan_reads_nothing_and_sends_each_block_at_most_once(device: PretendedDevice) -> None:
    few, many = scan(device, 60, 10), scan(device, 100, 10)
    assert few.host_reads == many.host_reads == 0, many.reads_at
    assert many.sent - few.sent <= 4  # blocks more
    assert few.sent_pageable == many.sent_pageable == 0  # nobody waits for a block's copy
    assert many.launches - few.launches <= 4 * 40


def test_a_scan_of_pinned_memory_waits_for_no_copy(device: PretendedDevice) -> None:
    pool = PinnedPool(images(60, (1, 8, 8)).numpy(), "cuda")
    with device.counting() as counts:
        for _ in pool.blocks(block_size=10):
            pass
    assert counts.sent == 6
    assert counts.sent_pageable == counts.host_reads == 0


def test_items_that_an_array_pool_keeps_on_the_host_are_pinned(device: PretendedDevice) -> None:
    pool = ArrayPool(images(60, (1, 8, 8)), "cuda", residency="host")
    with device.counting() as counts:
        for _ in pool.blocks(block_size=10):
            pass
    assert counts.sent == 6
    assert counts.sent_pageable == counts.host_reads == 0


@pytest.mark.parametrize("step", [2, 5])  # read with what is between, and picked on the host
def test_a_scan_of_a_part_of_pinned_memory_waits_for_no_copy(
    step: int, device: PretendedDevice
) -> None:
    pool = PinnedPool(images(60, (1, 8, 8)).numpy(), "cuda")
    with device.counting() as counts:
        for _ in pool.blocks(torch.arange(0, 60, step), block_size=10):
            pass
    assert counts.sent_pageable == counts.host_reads == 0


# -- selections --------------------------------------------------------------------------------------


def selections(
    device: PretendedDevice, strategy: str, root: Path, task: str = "digits-two"
) -> list[dict[str, Counts]]:
    wanted = spec(strategy, "linear", "cuda", task=task, budget=45)
    with counted_selections(device) as found:
        run(wanted, root)
    assert len(found) >= 3  # what is asked to warm up comes before
    return found[-3:]


def test_max_entropy_reads_the_same_number_whatever_the_pool(
    device: PretendedDevice, tmp_path: Path
) -> None:
    small, large = (
        together(selections(device, "max-entropy", tmp_path, f"augmented:digits-two:{n}")[1])
        for n in (400, 1200)
    )
    assert small.host_reads == large.host_reads <= 12, large.reads_at


@pytest.mark.parametrize("strategy", ["asal-gray", "asal-disc"])
def test_asal_reads_a_constant_number_per_selection(
    strategy: str, device: PretendedDevice, tmp_path: Path
) -> None:
    found = [together(one) for one in selections(device, strategy, tmp_path)]
    # The search opens more groups of neighbours where near ones are taken: a few reads.
    reads = [counts.host_reads for counts in found]
    assert max(reads) - min(reads) <= 8, [counts.reads_at for counts in found]
    assert max(reads) <= 60


def test_asal_captures_once_per_run(device: PretendedDevice, tmp_path: Path) -> None:
    found = [together(one) for one in selections(device, "asal-gray", tmp_path)]
    assert [counts.captures for counts in found[1:]] == [0, 0]


def test_asals_latent_search_reads_nothing_inside_its_steps(
    device: PretendedDevice, tmp_path: Path
) -> None:
    def search(steps: int) -> Counts:
        strategy = {"name": "asal-gray", "latent_steps": steps}
        wanted = spec("asal-gray", "linear", "cuda", strategy=strategy)
        with counted_selections(device) as found:
            run(wanted, tmp_path)
        return together(found[-1])

    few, many = search(4), search(40)
    assert abs(many.host_reads - few.host_reads) <= 8, many.reads_at
    assert many.launches - few.launches <= 2 * 36  # a replay per step


def test_adbas_codes_are_refined_on_one_graph_for_blocks_of_a_size(
    device: PretendedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images that codes are to give are an input of the graph."""
    monkeypatch.setattr(inversion, "BLOCK", 8)
    mix = torch.linspace(-1, 1, 4 * 64).reshape(4, 64).to("cuda")

    def decode(z: torch.Tensor) -> torch.Tensor:
        return (z @ mix).sigmoid().reshape(-1, 1, 8, 8)

    def encoded() -> torch.Tensor:
        generator: Any = SimpleNamespace(decode=decode)
        encoder: Any = lambda items: items.flatten(1)[:, :4]  # noqa: E731
        return inversion.encode(generator, encoder, digits(36), 12, silent)[0]

    with device.counting() as counts:
        replayed = encoded()
    assert counts.captures == 2  # four blocks of eight images, and what is left
    assert counts.replays == 4 * 12 + 12 - 2 * WARM_UP_CALLS
    eagerly = partial(LatentSearch, cuda_graph=False)
    monkeypatch.setattr(inversion, "LatentSearch", eagerly)
    assert torch.equal(replayed, encoded())


def test_core_sets_reads_do_not_grow_with_the_pool(device: PretendedDevice, tmp_path: Path) -> None:
    small, large = (
        together(selections(device, "core-set", tmp_path, f"augmented:digits-two:{n}")[1])
        for n in (400, 1200)
    )
    assert large.host_reads - small.host_reads <= 8, (small.reads_at, large.reads_at)
