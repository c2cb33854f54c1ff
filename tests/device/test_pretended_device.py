"""The pretended device refuses what a device refuses, and counts what makes one wait."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pretended_cuda import PretendedDevice, pretended_cuda
from torch import nn
from torch.nn import functional


def on_it(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device="cuda")


# -- it is there, and goes ---------------------------------------------------------------------------


def test_torch_says_that_there_is_one_device(device: PretendedDevice) -> None:
    assert torch.cuda.is_available()
    assert torch.cuda.device_count() == 1
    tensor = torch.zeros(3).to("cuda")
    assert str(tensor.device) == "cuda:0"
    assert tensor.is_cuda
    assert str((tensor + 1).device) == "cuda:0"
    assert tensor.cpu().device.type == "cpu"


def test_nothing_is_left_behind() -> None:
    places = [torch.cuda, torch._C, torch.autograd, torch, threading.Thread]
    if hasattr(torch, "accelerator"):
        places.append(torch.accelerator)
    before = [dict(vars(place)) for place in places]
    with pretended_cuda():
        assert torch.cuda.is_available()
    after = [dict(vars(place)) for place in places]
    for old, new in zip(before, after, strict=True):
        assert {name for name in new if new[name] is not old.get(name)} == set()
        assert set(old) == set(new)
    assert type(torch.zeros(1) + 1) is torch.Tensor
    assert not torch.zeros(1).is_pinned()


def test_it_goes_after_an_error_too() -> None:
    is_available = torch.cuda.is_available
    with pytest.raises(KeyError), pretended_cuda():
        raise KeyError
    assert torch.cuda.is_available is is_available


def test_threads_see_it_too(device: PretendedDevice) -> None:
    found: list[torch.Tensor] = []

    def work() -> None:
        found.append(torch.empty(2, pin_memory=True).fill_(3).to("cuda", non_blocking=True))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].is_cuda
    assert device.counts.sent_pageable == 0


def test_a_network_learns_as_on_the_host(device: PretendedDevice) -> None:
    torch.manual_seed(0)
    host = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    there = copy.deepcopy(host).to("cuda")
    images, targets = torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 0, 1, 1, 0])
    for network in (host, there):
        place = next(network.parameters()).device
        optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
        for _ in range(3):
            loss = functional.cross_entropy(network(images.to(place)), targets.to(place))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    for ours, theirs in zip(host.parameters(), there.parameters(), strict=True):
        assert theirs.is_cuda
        torch.testing.assert_close(ours, theirs.cpu(), rtol=1e-4, atol=1e-5)


# -- what it refuses ---------------------------------------------------------------------------------


def test_tensors_of_two_devices_do_not_mix(device: PretendedDevice) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        on_it(1, 2) + torch.ones(2)
    with pytest.raises(RuntimeError, match="same device"):
        torch.cat([on_it(1), torch.ones(1)])
    with pytest.raises(RuntimeError, match="same device"):
        on_it(1, 2).index_select(0, torch.tensor([0]))
    with pytest.raises(RuntimeError, match="same device"):
        torch.zeros(()).add_(on_it(1)[0])
    assert (on_it(1, 2) * torch.tensor(3.0)).is_cuda  # a single number may come from the host


def test_the_host_cannot_be_indexed_by_the_device(device: PretendedDevice) -> None:
    with pytest.raises(RuntimeError, match="indices should be"):
        torch.arange(3)[torch.tensor([1], device="cuda")]
    assert on_it(1, 2)[
        torch.tensor([1])
    ].is_cuda  # but the device by the host, at the cost of a copy
    assert device.counts.sent_pageable == 2 + 1


def test_numpy_does_not_see_device_memory(device: PretendedDevice) -> None:
    with pytest.raises(TypeError, match="convert cuda:0"):
        on_it(1).numpy()
    with pytest.raises(TypeError, match="convert cuda:0"):
        np.asarray(on_it(1))


def test_each_device_has_its_own_generators(device: PretendedDevice) -> None:
    host, there = torch.Generator(), torch.Generator("cuda")
    assert there.device == torch.device("cuda:0")
    with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
        torch.rand(2, generator=host, device="cuda")
    with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
        on_it(1, 2).normal_(generator=host)
    with pytest.raises(RuntimeError, match="'cpu' device type for generator"):
        torch.rand(2, generator=there)
    with pytest.raises(RuntimeError, match="'cpu' device type for generator"):
        torch.zeros(2).uniform_(generator=there)
    assert torch.rand(2, generator=there, device="cuda").is_cuda


def test_the_devices_randomness_leaves_the_hosts_alone(device: PretendedDevice) -> None:
    torch.manual_seed(5)
    torch.rand(3, device="cuda")
    functional.dropout(on_it(1, 2, 3))
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))


def test_convolutions_need_cudnn(device: PretendedDevice) -> None:
    image, kernel = torch.ones(1, 1, 4, 4, device="cuda"), torch.ones(1, 1, 3, 3, device="cuda")
    assert functional.conv2d(image, kernel).is_cuda
    with (
        torch.backends.cudnn.flags(enabled=False),
        pytest.raises(RuntimeError, match="cuDNN is switched off"),
    ):
        functional.conv2d(image, kernel)


def test_deterministic_cudnn_has_no_dilated_convolution(device: PretendedDevice) -> None:
    image, kernel = torch.ones(1, 1, 6, 6, device="cuda"), torch.ones(1, 1, 3, 3, device="cuda")
    with torch.backends.cudnn.flags(enabled=True, deterministic=True):
        functional.conv2d(image, kernel)
        assert device.counts.slow_convolutions == 0
        functional.conv2d(image, kernel, dilation=2)
        assert device.counts.slow_convolutions == 1


def test_a_fused_optimiser_wants_equal_strides(device: PretendedDevice) -> None:
    network = nn.Conv2d(2, 4, 3).to("cuda", memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), fused=True)

    def step() -> None:
        network(torch.rand(1, 2, 4, 4, device="cuda")).sum().backward()
        optimiser.step()

    step()
    moments = optimiser.state[network.weight]
    moments["exp_avg"] = moments["exp_avg"].contiguous()
    with pytest.raises(RuntimeError, match="same dtype, device, and layout"):
        step()


def test_memory_has_an_end_and_comes_back() -> None:
    with pretended_cuda(memory_bytes=1 << 20) as device:
        held = torch.empty(1 << 19, dtype=torch.uint8, device="cuda")
        view = held[1:]
        assert torch.cuda.mem_get_info()[0] == 1 << 19
        with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
            torch.empty((1 << 19) + 1, dtype=torch.uint8, device="cuda")
        del held
        assert device.memory.held == 1 << 19  # a view holds what it looks at
        del view
        assert device.memory.held == 0
        assert torch.cuda.max_memory_allocated() == 1 << 19


# -- graphs ------------------------------------------------------------------------------------------


def captured(function: Callable[[], object], *generators: torch.Generator) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        function()
    return graph


def test_a_capture_computes_nothing_and_a_replay_all(device: PretendedDevice) -> None:
    total, step = on_it(0, 0), on_it(1, 2)
    graph = captured(lambda: total.add_(step * 2))
    assert total.tolist() == [0, 0]
    graph.replay()
    assert total.tolist() == [2, 4]
    step.fill_(5)
    graph.replay()
    assert total.tolist() == [12, 14]


def test_a_captured_training_step_is_the_step(device: PretendedDevice) -> None:
    def trained(capture: bool) -> torch.Tensor:
        torch.manual_seed(0)
        network = nn.Linear(3, 2).to("cuda")
        optimiser = torch.optim.Adam(network.parameters(), fused=True, capturable=True)
        images = torch.rand(4, 3).to("cuda")

        def step() -> None:
            optimiser.zero_grad(set_to_none=True)
            network(images).square().mean().backward()
            optimiser.step()

        step()
        repeat = captured(step).replay if capture else step
        for _ in range(3):
            repeat()
        return network.weight.detach().cpu()

    assert torch.equal(trained(True), trained(False))


REFUSED: dict[str, Callable[[torch.Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0]),
    "bool": lambda x: bool(x[0] > 0),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to the host": lambda x: x.to("cpu"),
    "copy to the host": lambda x: torch.ones(2).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "repeats": lambda x: x.repeat_interleave(x.long()),
    "pageable copy": lambda x: x.copy_(torch.ones(2)),
    "pageable": lambda _: torch.ones(2).to("cuda"),
    "new constant": lambda _: torch.tensor([1.0], device="cuda"),
    "index from the host": lambda x: x[torch.tensor([0])],
    "synchronize": lambda _: torch.cuda.synchronize(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_capture_refuses_the_hosts_hand(name: str, device: PretendedDevice) -> None:
    values = on_it(1, 0)
    # As on CUDA, the end of the broken capture fails as well, and what broke it is the cause.
    with pytest.raises(RuntimeError, match="previous error during capture") as caught:
        captured(lambda: REFUSED[name](values))
    assert "capturing" in str(caught.value.__cause__)
    assert not torch.cuda.is_current_stream_capturing()  # a capture that fails is over
    REFUSED[name](values)  # outside it is slow and allowed


def test_a_capture_takes_pinned_memory(device: PretendedDevice) -> None:
    target, pinned = on_it(0, 0), torch.tensor([3.0, 4.0]).pin_memory()
    captured(lambda: target.copy_(pinned, non_blocking=True)).replay()
    assert target.tolist() == [3, 4]


def test_a_capture_draws_from_registered_generators_only(device: PretendedDevice) -> None:
    rng = torch.Generator("cuda")
    drawn = torch.zeros(2, device="cuda")
    with pytest.raises(RuntimeError, match="register"):
        captured(lambda: drawn.uniform_(generator=rng))
    graph = captured(lambda: drawn.uniform_(generator=rng), rng)
    rng.manual_seed(7)
    graph.replay()
    first = drawn.tolist()
    graph.replay()
    assert drawn.tolist() != first
    rng.manual_seed(7)
    graph.replay()
    assert drawn.tolist() == first


def test_a_graph_keeps_the_hosts_number(device: PretendedDevice) -> None:
    factor, target = torch.tensor(2.0), on_it(1)
    graph = captured(lambda: target.mul_(factor))
    factor.fill_(100)
    graph.replay()
    assert target.tolist() == [2]


# -- counts ------------------------------------------------------------------------------------------


def test_host_reads_are_counted_where_they_happen(device: PretendedDevice) -> None:
    values = on_it(3, 1, 2)
    with device.counting() as counts:
        values.sort()
        values[1:].view(2, 1)
    assert counts.host_reads == 0
    assert counts.launches == 1  # a view is no kernel
    with device.counting() as counts:
        float(values.max())
        values.cpu()
        values.nonzero()
        values.tolist()
        functional.one_hot(values.long(), 4)  # told how many classes: no need to look
    assert counts.host_reads == 4
    assert sum(counts.reads_at.values()) == 4
    assert all("test_pretended" in place for place in counts.reads_at)


def test_copies_are_counted_by_kind(device: PretendedDevice) -> None:
    host = torch.ones(3)
    with device.counting() as counts:
        host.to("cuda")
        host.pin_memory().to("cuda", non_blocking=True)
        torch.empty(3, pin_memory=True)[1:].to("cuda", non_blocking=True)
    assert (counts.sent, counts.sent_pageable) == (3, 1)
    with device.counting() as counts:
        host.pin_memory().to("cuda")  # pinned, and waited for
    assert (counts.sent, counts.sent_pageable) == (1, 1)


def test_a_replay_is_one_launch(device: PretendedDevice) -> None:
    values = on_it(1)
    with device.counting() as counts:
        graph = captured(lambda: values.add_(1).mul_(2).sub_(1))
    assert (counts.launches, counts.captures) == (0, 1)
    with device.counting() as counts:
        graph.replay()
    assert (counts.launches, counts.replays) == (1, 1)
