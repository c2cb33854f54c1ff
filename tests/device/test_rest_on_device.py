"""Pools, timing studies, checks and the command line on the pretended device."""

from __future__ import annotations

import unittest
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended_cuda import PretendedDevice, pretended_cuda
from tiny import images, run, spec

from alharness import cli, conformance, registry
from alharness.cli.options import places
from alharness.pool import ArrayPool, Pool, StreamedPool, residency
from alharness.progress import silent
from alharness.spec import resolve

# -- pools -------------------------------------------------------------------------------------------


def streamed(tmp_path: Path, n: int) -> StreamedPool:
    path = tmp_path / "pool.npy"
    np.save(path, images(n, (1, 8, 8)).numpy())
    return StreamedPool(np.load(path, mmap_mode="r"), "cuda")


def read(pool: Pool, indices: torch.Tensor | None = None) -> torch.Tensor:
    return torch.cat([items.cpu() for _, items in pool.blocks(indices, block_size=7)])


@pytest.mark.parametrize("where", ["device", "host", "memmap"])
def test_a_pool_gives_its_items_from_wherever_they_lie(
    where: str, device: PretendedDevice, tmp_path: Path
) -> None:
    items = images(40, (1, 8, 8))
    pool: Pool
    if where == "memmap":
        pool = streamed(tmp_path, 40)
    else:
        pool = ArrayPool(items, "cuda", residency=where)
    expected = items.float() / 255
    some = torch.tensor([3, 39, 0, 17])
    assert pool.gather(some).is_cuda
    assert torch.equal(pool.gather(some).cpu(), expected[some])
    assert torch.equal(read(pool), expected)
    assert torch.equal(read(pool, some), expected[some])


def test_a_streamed_pass_goes_through_pinned_memory(
    device: PretendedDevice, tmp_path: Path
) -> None:
    pool = streamed(tmp_path, 40)
    with device.counting() as counts:
        for _ in pool.blocks(block_size=8):
            pass
    assert (counts.sent, counts.sent_pageable, counts.host_reads) == (5, 0, 0)


def test_a_pool_that_the_device_cannot_hold_stays_on_the_host(tmp_path: Path) -> None:
    with pretended_cuda(memory_bytes=1 << 20) as device:
        folder = run(spec("random", "linear", "cuda", task="augmented:digits-two:400"), tmp_path)
        assert folder.is_finished()
        assert device.memory.peak <= 1 << 20


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="issue 13 A.3: the forecast is made again with the pool loaded",
)
def test_the_record_says_where_the_pool_was_put(tmp_path: Path) -> None:
    """With memory for just this pool, a forecast that is made when it is there finds no room."""
    wanted = spec("random", "linear", "cpu")
    data = registry.resolve_task("digits-two").load(places(tmp_path, None).locations, silent)
    with pretended_cuda() as device:
        there = torch.device("cuda")
        needed = data.forecast(there, wanted.pool).device_bytes
        device.memory.total = int(needed / residency.SHARE) + 1000
        assert "device" in str(data.forecast(there, wanted.pool))
        folder = run(spec("random", "linear", "cuda"), tmp_path, max_cycles=1)
    about = folder.environment()["task"]
    assert about["residency"] == "device"
    assert "device" in about["forecast"], about["forecast"]


# -- checks and studies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if name.endswith(("-rerank", "-random-latent"))
        else name
        for name in registry.names(registry.STRATEGIES)
        if name != "subset"
    ],
)
def test_the_device_check_of_every_strategy(name: str, device: PretendedDevice) -> None:
    (check,) = (c for c in conformance.checks(registry.strategy_class(name)) if str(c) == "device")
    try:
        check()
    except unittest.SkipTest as reason:
        pytest.fail(f"with a device there is nothing to skip: {reason}")


def test_a_timing_study_measures_there(device: PretendedDevice, tmp_path: Path) -> None:
    command = "timing --dataset digits-two --strategies random,max-entropy,asal-gray --sizes 300,600"
    options = "--indices exact --rows 500,1000 --repeats 2 --untrained --device cuda --quiet"
    out = tmp_path / "study"
    folders = ["--out", str(out), "--runs-dir", str(tmp_path)]
    assert cli.call([*command.split(), *options.split(), *folders]) == 0
    lines = (out / "timing.jsonl").read_text().splitlines()
    assert sum('"kind":"select"' in line for line in lines) == 3 * 2 * 2
    assert sum('"kind":"match"' in line for line in lines) == 2 * 2
    assert all('"peak_device_bytes":null' not in line for line in lines if '"select"' in line)
    assert device.counts.synchronisations > 0


# -- what a user types -------------------------------------------------------------------------------


def test_auto_is_the_device_where_there_is_one() -> None:
    asked = {"task": "digits-two", "strategy": "random", "device": "auto"}
    with pretended_cuda():
        assert resolve(asked).device == "cuda"
    assert resolve(asked).device == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_command_trains_a_generator_there(device: PretendedDevice, tmp_path: Path) -> None:
    command = "generator train digits-two --device cuda --set generator.steps=3 --quiet"
    settings = "--set generator.width=4 --set generator.batch_size=4"
    folders = ["--runs-dir", str(tmp_path)]
    assert cli.call([*command.split(), *settings.split(), *folders]) == 0
    assert device.counts.launches > 100
