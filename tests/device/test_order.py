"""With queues that run late, or by chance, the program finds the same; a missing wait is caught."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretended_cuda import STICKY, Order, RaceError, pretended_cuda
from pretended_cuda.graphs import Graph
from tiny import course, images, run, spec
from torch import nn
from torch.nn import functional

from alharness.pool import PinnedPool, Pool, StreamedPool

#: As late as it may, and three interleavings by chance.
SEEDS = [None, 0, 1, 2]


@pytest.fixture(params=SEEDS, ids=lambda seed: "late" if seed is None else f"chance-{seed}")
def order(request: pytest.FixtureRequest) -> Iterator[Order]:
    with pretended_cuda(order=Order(request.param)) as device:
        assert device.order is not None
        yield device.order


def on_it(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device="cuda")


# -- the model ---------------------------------------------------------------------------------------


def test_work_waits_for_whoever_reads_it() -> None:
    with pretended_cuda(order=Order()) as device:
        total = on_it(1, 2) + 1
        assert device.order is not None
        assert device.order.n_late == 0
        assert total.tolist() == [2, 3]
        assert device.order.n_late > 0


def test_a_network_learns_as_on_the_host(order: Order) -> None:
    def learn(place: str) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 2)
        )
        network.to(place)
        items, targets = (
            torch.rand(6, 1, 8, 8).to(place),
            torch.tensor([0, 1, 0, 1, 1, 0]).to(place),
        )
        optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
        for _ in range(3):
            loss = functional.cross_entropy(network(items), targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return [value.detach().cpu() for value in network.state_dict().values()]

    for ours, theirs in zip(learn("cpu"), learn("cuda"), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_numbers_follow_from_the_order_of_the_launches(seed: int | None) -> None:
    def drawn() -> list[list[float]]:
        torch.cuda.manual_seed(3)
        rng = torch.Generator("cuda").manual_seed(4)
        one = torch.rand(3, device="cuda")
        two = torch.rand(3, generator=rng, device="cuda")
        three = functional.dropout(one, 0.5) + torch.rand(3, device="cuda")
        four = torch.empty(3, device="cuda").normal_(generator=rng)
        return [values.tolist() for values in (four, three, two, one)]

    with pretended_cuda():
        at_once = drawn()
    with pretended_cuda(order=Order(seed)):
        assert drawn() == at_once


def beside(*, waits: bool, back: bool) -> torch.Tensor:
    """A sum on another stream of what this one has made, with both waits or without one."""
    stream, here = torch.cuda.Stream(), torch.cuda.current_stream()
    values = on_it(1, 2) * 3
    if waits:
        stream.wait_stream(here)
    with torch.cuda.stream(stream):
        total = values + 1
    if back:
        here.wait_stream(stream)
    return total * 2


def test_streams_that_wait_for_each_other_are_in_order(order: Order) -> None:
    assert beside(waits=True, back=True).tolist() == [8, 14]


@pytest.mark.parametrize("waits", [True, False])
def test_a_missing_wait_between_streams_is_caught(order: Order, waits: bool) -> None:
    with pytest.raises(RaceError, match=r"does not wait for stream \d \((mul|add)"):
        beside(waits=waits, back=not waits)


def test_an_event_is_a_wait_for_what_was_launched_before_it(order: Order) -> None:
    stream, event = torch.cuda.Stream(), torch.cuda.Event()
    first = on_it(1) * 2
    event.record()
    second = on_it(1) * 3
    stream.wait_event(event)
    with torch.cuda.stream(stream):
        assert (first + 1).tolist() == [3]
        with pytest.raises(RaceError):
            second + 1


def test_memory_that_goes_back_while_another_stream_uses_it_is_caught(order: Order) -> None:
    stream, here = torch.cuda.Stream(), torch.cuda.current_stream()
    values = on_it(1, 2)
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        values + 1
    del values
    with pytest.raises(RaceError, match="went back"):
        torch.zeros(2, device="cuda")


def test_a_result_that_the_host_takes_too_early_is_caught(order: Order) -> None:
    there, pinned = on_it(1, 2), torch.zeros(2).pin_memory()
    pinned.copy_(there * 2, non_blocking=True)
    with pytest.raises(RaceError, match="host"):
        pinned + 1
    torch.cuda.current_stream().synchronize()
    assert (pinned + 1).tolist() == [3, 5]


def test_pinned_memory_that_is_written_before_its_copy_is_caught() -> None:
    with pretended_cuda(order=Order()):
        pinned = torch.ones(4).pin_memory()
        there = pinned.to("cuda", non_blocking=True)
        pinned.numpy()[:] = 5  # past all of torch's hooks
        with pytest.raises(RaceError, match="written while its copy"):
            there.cpu()


def test_a_replay_is_in_its_streams_order(order: Order) -> None:
    total, step = on_it(0, 0), on_it(1, 2)
    graph = Graph()
    with torch.cuda.graph(graph):
        total.add_(step * 2)
    graph.replay()
    step.fill_(5)
    graph.replay()
    assert total.tolist() == [12, 14]
    graph.replay()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), pytest.raises(RaceError, match="a graph"):
        step.add_(1)


# -- captures and threads ----------------------------------------------------------------------------


def beside_a_capture(mode: str) -> tuple[torch.Tensor, list[BaseException]]:
    """Another thread sends a pageable copy while this one captures."""
    total, failed = on_it(0), list[BaseException]()

    def send() -> None:
        try:
            (torch.ones(1).to("cuda") + 1).cpu()
        except RuntimeError as error:
            failed.append(error)

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode=mode):
        total.add_(1)
        thread = threading.Thread(target=send)
        thread.start()
        thread.join()
    graph.replay()
    return total, failed


def test_a_capture_of_one_thread_leaves_the_others_alone() -> None:
    with pretended_cuda():
        total, failed = beside_a_capture("thread_local")
        assert failed == []
        assert total.tolist() == [1]  # what the other thread launched is not in the graph


def test_a_global_capture_forbids_other_threads_what_it_forbids_its_own() -> None:
    with pretended_cuda():
        _, failed = beside_a_capture("global")
        assert "capturing" in str(failed[0])


# -- the program -------------------------------------------------------------------------------------


def pools(tmp_path: Path) -> list[Pool]:
    items = images(60, (1, 8, 8)).numpy()
    np.save(tmp_path / "pool.npy", items)
    return [
        PinnedPool(items, "cuda"),
        StreamedPool(np.load(tmp_path / "pool.npy", mmap_mode="r"), "cuda"),
    ]


def test_pools_that_send_their_blocks_are_in_order(order: Order, tmp_path: Path) -> None:
    expected = images(60, (1, 8, 8)).float() / 255
    some = torch.tensor([3, 59, 0, 17, 40, 12])
    for pool in pools(tmp_path):
        read = torch.cat([items for _, items in pool.blocks(block_size=7)]).cpu()
        assert torch.equal(read, expected)
        pool.limit_blocks(2)
        assert torch.equal(pool.gather(some).cpu(), expected[some])
    assert order.n_checked > 0


def test_a_ring_without_its_wait_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_cuda(order=Order()):
        _, pool = pools(tmp_path)
        monkeypatch.setattr(torch.cuda.Event, "synchronize", lambda event: None)
        with pytest.raises(RaceError):
            torch.cat([items for _, items in pool.blocks(block_size=4)]).cpu()


def same(name: str, learner: str, tmp_path: Path, **how: Any) -> bool:
    """Whether a run is the one of a device that computes at once."""
    found = []
    for number, options in enumerate(({}, how)):
        with pretended_cuda(**options):
            found.append(course(run(spec(name, learner, "cuda"), tmp_path / str(number))))
    return found[0] == found[1]


RUNS = [
    ("asal-gray", "linear"),
    ("max-entropy", "cnn"),
    pytest.param("asal-cls", "cnn", marks=pytest.mark.slow),
    pytest.param("core-set", "cnn", marks=pytest.mark.slow),
    pytest.param("badge", "cnn", marks=pytest.mark.slow),
    pytest.param("vaal", "cnn", marks=pytest.mark.slow),
    pytest.param("gaal", "linear", marks=pytest.mark.slow),
    pytest.param("adba", "linear", marks=pytest.mark.slow),
    pytest.param("learning-loss", "cnn", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "learner"), RUNS)
@pytest.mark.parametrize(
    "seed", [None, *(pytest.param(n, marks=pytest.mark.slow) for n in range(3))]
)
def test_a_run_is_the_same_in_every_order(
    name: str, learner: str, seed: int | None, tmp_path: Path
) -> None:
    assert same(name, learner, tmp_path, order=Order(seed))


# -- rounding, errors that stay, operations that do not repeat ------------------------------------------


def test_another_chips_rounding_changes_last_bits_and_repeats() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(20, 30), torch.rand(30, 10)
    with pretended_cuda(rounds_otherwise=True):
        found = [(a.to("cuda") @ b.to("cuda")).cpu() for _ in range(2)]
    assert torch.equal(*found)
    assert not torch.equal(found[0], a @ b)
    torch.testing.assert_close(found[0], a @ b, rtol=1e-6, atol=0)


def test_an_error_of_the_device_stays() -> None:
    with pretended_cuda(breaks_at=1):
        values = on_it(1, 2)
        values = values + 1
        with pytest.raises(STICKY, match="illegal memory access"):
            values + 1
        for call in (values.cpu, torch.cuda.synchronize, torch.cuda.empty_cache):
            with pytest.raises(STICKY, match="illegal memory access"):
                call()


def test_an_operation_that_does_not_repeat_is_refused() -> None:
    with pretended_cuda():
        x = torch.rand(1, 1, 4, 4, device="cuda", requires_grad=True)
        with pytest.raises(RuntimeError, match="deterministic"):
            functional.interpolate(x, scale_factor=2, mode="bilinear").sum().backward()
        torch.zeros(3, dtype=torch.long, device="cuda").index_add_(
            0, torch.tensor([1, 1], device="cuda"), torch.tensor([2, 3], device="cuda")
        )  # whole numbers add up to the same in any order
