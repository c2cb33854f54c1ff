"""Pools, timing studies, checks and the command line on the pretended device."""

from __future__ import annotations

import unittest
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended_cuda import PretendedDevice, pretended_cuda
from tiny import images, run, spec

from alharness import cli, conformance, registry
from alharness.api.running import places_of
from alharness.engine import environment
from alharness.errors import UserError
from alharness.pool import ArrayPool, Forecast, PinnedPool, Pool, StreamedPool
from alharness.pool.residency import SHARING, free_bytes
from alharness.progress import silent
from alharness.spec import resolve
from alharness.tasks.base import TaskData

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
    elif where == "host":
        pool = PinnedPool(items.numpy(), "cuda")
    else:
        pool = ArrayPool(items, "cuda")
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


@cache
def digits() -> TaskData:
    return registry.resolve_task("digits-two").load(places_of(Path(), None).locations, silent)


def digits_forecast() -> Forecast:
    """Of the digits' pool, with what is free on the device now."""
    return digits().forecast(torch.device("cuda"), spec("random", "linear", "cpu").pool)


@cache
def least_memory_for_the_pool() -> int:
    """Bytes of device memory, give or take a tenth of the pool, with which it is put there."""
    too_little, enough = 0, 1 << 30
    with pretended_cuda() as device:
        while enough - too_little > 1000:
            device.memory.total = middle = (too_little + enough) // 2
            try:
                fits = digits_forecast().residency == "device"
            except UserError:
                fits = False
            too_little, enough = (too_little, middle) if fits else (middle, enough)
    return enough


def test_a_pool_that_the_device_cannot_hold_stays_on_the_host(tmp_path: Path) -> None:
    with pretended_cuda() as device:
        device.memory.total = least_memory_for_the_pool() - 1000
        folder = run(spec("random", "linear", "cuda"), tmp_path, max_cycles=1)
    assert folder.facts().task.residency == "host"


def test_the_record_says_where_the_pool_was_put(tmp_path: Path) -> None:
    """With memory for just this pool, a forecast that is made when it is there finds no room."""
    with pretended_cuda() as device:
        device.memory.total = least_memory_for_the_pool()
        expected = str(digits_forecast())
        folder = run(spec("random", "linear", "cuda"), tmp_path, max_cycles=1)
    about = folder.facts().task
    assert about.residency == "device"
    assert about.forecast == expected


# -- checks and studies ------------------------------------------------------------------------------


def checked() -> list[object]:
    """Every installed strategy; ASAL's variants and ADBA take long."""
    found = []
    for name in registry.names(registry.STRATEGIES):
        if name == "asal-vgg":  # needs a file of weights
            continue
        slow = name.endswith(("-rerank", "-random-latent")) or name.startswith(("adba", "vaal"))
        marks = [pytest.mark.slow] if slow else []
        found.append(pytest.param(name, marks=marks, id=name))
    return found


@pytest.mark.parametrize("name", checked())
def test_the_device_check_of_every_strategy(name: str, device: PretendedDevice) -> None:
    cls = registry.strategy_class(name)
    if hasattr(cls, "module"):  # a published strategy of another library
        pytest.importorskip(cls.module.split(".")[0])
    plugin = registry.find_strategy(f"{name}:{cls.example}" if cls.takes else name)
    found = conformance.checks(plugin.cls, **plugin.keywords())
    (check,) = (check for check in found if str(check) == "device")
    try:
        check()
    except unittest.SkipTest as reason:
        pytest.fail(f"with a device there is nothing to skip: {reason}")


def test_a_timing_study_measures_there(device: PretendedDevice, tmp_path: Path) -> None:
    command = "timing --dataset digits-two --strategies random,asal-gray --sizes 300,600"
    options = "--indices exact --rows 500,1000 --repeats 1 --untrained --device cuda --quiet"
    out = tmp_path / "study"
    folders = ["--out", str(out), "--runs-dir", str(tmp_path)]
    assert cli.call([*command.split(), *options.split(), *folders]) == 0
    lines = (out / "timing.jsonl").read_text().splitlines()
    assert sum('"kind":"select"' in line for line in lines) == 2 * 2
    assert sum('"kind":"match"' in line for line in lines) == 2
    assert all('"peak_device_bytes":null' not in line for line in lines if '"select"' in line)
    assert device.counts.synchronisations > 0


# -- what a user types -------------------------------------------------------------------------------


def test_auto_is_the_device_where_there_is_one() -> None:
    left_open = {"task": "digits-two", "strategy": "random"}
    for asked in (left_open, {**left_open, "device": "auto"}):
        with pretended_cuda():
            assert resolve(asked).device == "cuda"
        assert resolve(asked).device == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_card_is_named_by_its_number_and_a_run_is_the_same_on_each(
    device: PretendedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, first = (spec("random", "linear", name) for name in ("cuda", "cuda:0"))
    assert run(first, tmp_path).path == usual.folder(tmp_path)  # the same key
    with pytest.raises(UserError, match="no device 'cuda:1' here: the last of 1 is cuda:0"):
        spec("random", "linear", "cuda:1")
    entered = []
    # Undone before the pretended device goes, and not after it.
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        patch.setattr(torch.cuda, "device", lambda found: nullcontext(entered.append(found)))
        run(spec("random", "linear", "cuda:1"), tmp_path / "second")
    assert torch.device("cuda", 1) in entered  # its graphs are captured there


@pytest.mark.parametrize(("sharing", "part"), [("1", 900), ("2", 400), ("4", 150)])
def test_workers_that_share_a_card_count_on_their_part_of_it(
    sharing: str, part: int, device: PretendedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARING["cuda"], sharing)
    device.memory.total = 1000
    held = torch.zeros(100, dtype=torch.uint8, device="cuda")
    assert free_bytes(held.device) == part  # of the whole, less what this process holds


@pytest.mark.parametrize(("sharing", "part"), [("1", 900), ("2", 400)])
def test_what_an_earlier_run_let_go_is_free(
    sharing: str, part: int, device: PretendedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's allocator keeps it from the card, for the next one of this process."""
    monkeypatch.setenv(SHARING["cuda"], sharing)
    held = torch.zeros(100, dtype=torch.uint8, device="cuda")
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (600, 1000))
        patch.setattr(torch.cuda, "memory_reserved", lambda device: 400)
        assert free_bytes(held.device) == part


def test_the_record_names_driver_and_libraries(
    device: PretendedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Module  550.54.15  Tue\n")
    monkeypatch.setattr(environment, "DRIVERS", (tmp_path / "none", tmp_path / "version"))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    found = environment.hardware(torch.device("cuda"))
    assert {key: found[key] for key in ("driver", "cuda", "cudnn")} == {
        "driver": "550.54.15",
        "cuda": "12.8",
        "cudnn": 91002,
    }
    assert ("hip" in found) is (torch.version.hip is not None)


def test_the_command_trains_a_generator_there(device: PretendedDevice, tmp_path: Path) -> None:
    command = (
        "generator train digits-two --only generator --device cuda --set generator.steps=3 --quiet"
    )
    settings = "--set generator.width=4 --set generator.batch_size=4"
    folders = ["--runs-dir", str(tmp_path)]
    assert cli.call([*command.split(), *settings.split(), *folders]) == 0
    assert device.counts.launches > 100


def test_a_run_says_how_many_shared_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretended_cuda():
        alone = run(spec("random", "linear", "cuda"), tmp_path / "alone", max_cycles=1)
        monkeypatch.setenv(SHARING["cuda"], "3")
        shared = run(spec("random", "linear", "cuda"), tmp_path / "shared", max_cycles=1)
    assert "runs_on_card" not in alone.facts().sessions[0].hardware
    assert shared.facts().sessions[0].hardware["runs_on_card"] == 3
