"""Graphs on the pretended device: never begun where they would fail, gone when their owner goes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from pretended_cuda import PretendedDevice
from pretended_cuda.graphs import Graph

from alharness import acquisition
from alharness.generative.latent_search import ClassifierSearch, LatentSearch, search
from alharness.learners.capture import CapturedStep
from alharness.learners.learner import FitReport, Learner

HOST = torch.randn(5, generator=torch.Generator().manual_seed(0))


def times(n: int, step: Callable[[torch.Tensor], None], x: torch.Tensor) -> None:
    for _ in range(n):
        step(x)


def a_mask_as_an_index(x: torch.Tensor) -> None:
    x[x > 0] = 0.0


def a_copy_of_pinned_memory(x: torch.Tensor) -> None:
    x.copy_(HOST.pin_memory(), non_blocking=True)


def a_generator_of_its_own(x: torch.Tensor) -> None:
    x.add_(torch.rand(5, generator=torch.Generator("cuda"), device="cuda"))


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (lambda x: x.mul_(float(x.sum())), "the host reads a result"),
        (lambda x: x.add_(len(x.nonzero())), "nonzero"),
        (a_mask_as_an_index, "the host waits for the device"),
        (lambda x: x.add_(HOST.to("cuda")), "the host waits"),
        (a_copy_of_pinned_memory, "copy between host and device"),
        (lambda x: x.add_(torch.tensor([1.0] * 5, device="cuda")), "the host waits"),
        (lambda x: x.cpu(), "the host waits"),
        (a_generator_of_its_own, "generator that the graph does not know"),
    ],
    ids=["item", "nonzero", "mask", "pageable", "pinned", "constant", "to-host", "generator"],
)
def test_what_no_graph_can_hold_is_found_without_a_capture(
    step: Callable[[torch.Tensor], None], told: str, device: PretendedDevice
) -> None:
    x, eager = torch.ones(5, device="cuda"), torch.ones(5, device="cuda")
    captured = CapturedStep(step, or_eagerly="a step")
    with pytest.warns(UserWarning, match=f"a step without a CUDA graph.*{told}"):
        times(6, captured, x)
    times(6, step, eager)
    assert torch.equal(x, eager)  # no step was broken off, and none was repeated
    assert device.counts.captures == 0
    assert not device.is_poisoned
    with pytest.raises(RuntimeError, match="no CUDA graph can hold this step"):
        times(4, CapturedStep(step), x)


def test_a_step_may_draw_from_the_devices_generator_and_from_a_registered_one(
    device: PretendedDevice,
) -> None:
    rng = torch.Generator("cuda")

    def step(x: torch.Tensor) -> None:
        x.add_(torch.rand(5, generator=rng, device="cuda") + torch.rand(5, device="cuda"))

    times(6, CapturedStep(step, rng), torch.ones(5, device="cuda"))
    assert device.counts.captures == 1


def test_a_capture_that_breaks_poisons_the_pretended_device_as_it_does_cuda(
    device: PretendedDevice,
) -> None:
    x = torch.ones(5, device="cuda")
    broken = pytest.raises(RuntimeError, match="previous error during capture")
    with broken, torch.cuda.graph(torch.cuda.CUDAGraph()):
        float(x.sum())
    with pytest.raises(RuntimeError, match="Offset increment outside graph capture"):
        torch.rand(5, device="cuda")
    with pytest.raises(RuntimeError, match="captures_underway"):
        torch.cuda.empty_cache()


# -- memory ------------------------------------------------------------------------------------------


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Iterator[weakref.WeakSet[Graph]]:
    """Graphs that there are; Python's cyclic collector does not run meanwhile."""
    graphs: weakref.WeakSet[Graph] = weakref.WeakSet()
    begin = Graph.__init__

    def begun(graph: Graph) -> None:
        begin(graph)
        graphs.add(graph)

    monkeypatch.setattr(Graph, "__init__", begun)
    gc.collect()
    gc.disable()
    yield graphs
    gc.enable()


def test_the_graph_of_a_search_goes_with_the_search(
    device: PretendedDevice, alive: weakref.WeakSet[Graph]
) -> None:
    before = device.memory.held
    for _ in range(2):
        search(
            lambda z: z * 2.0,
            lambda images: -images.square().sum(dim=1),
            torch.randn(20, 8).to("cuda"),
            steps=6,
        )
    assert device.counts.captures == 2
    assert len(alive) == 0
    assert device.memory.held == before


# -- classifiers whose state is not all in state() -----------------------------------------------------


class Calibrated(Learner):
    """Its temperature is a Python number, its centre is made anew by each fit."""

    def __init__(self, seed: int, *, temperature: float, centre: float) -> None:
        super().__init__((8,), 3, torch.device("cuda"))
        rng = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(3, 8, generator=rng).to("cuda")
        self.temperature = temperature
        self.centre = torch.full((8,), centre).to("cuda")

    def fit(self, *_: object, **__: object) -> FitReport:
        raise NotImplementedError

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        return (items - self.centre) @ self.weight.T / self.temperature

    def features(self, items: torch.Tensor) -> torch.Tensor:
        return items

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight}


@pytest.mark.parametrize(
    ("temperatures", "centres", "captures"),
    [
        ((1.0, 10.0, 3.0), (0.0, 0.0, 0.0), 3),
        ((1.0, 1.0, 1.0), (0.0, 1.0, 1.0), 2),  # a cycle like the one before needs no new graph
        ((1.0, 1.0, 1.0), (0.5, 0.5, 0.5), 1),
    ],
    ids=["temperature", "centre", "all-in-state"],
)
def test_what_a_classifier_keeps_outside_of_its_state_is_not_that_of_the_first_cycle(
    temperatures: tuple[float, ...],
    centres: tuple[float, ...],
    captures: int,
    device: PretendedDevice,
) -> None:
    mix = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).to("cuda")

    def searcher(learner: Learner, *, cuda_graph: bool = True) -> LatentSearch:
        def score(images: torch.Tensor) -> torch.Tensor:
            return acquisition.entropy(learner.logits(images).log_softmax(-1))

        return LatentSearch(
            lambda z: (z @ mix).tanh(), score, steps=12, lr=0.1, cuda_graph=cuda_graph
        )

    captured = ClassifierSearch(searcher)
    for cycle, (temperature, centre) in enumerate(zip(temperatures, centres, strict=True)):
        learner = Calibrated(cycle, temperature=temperature, centre=centre)
        z0 = torch.randn(5, 8, generator=torch.Generator().manual_seed(cycle)).to("cuda")
        found, expected = captured(learner, z0), searcher(learner, cuda_graph=False)(z0)
        assert torch.equal(found.z, expected.z)
        assert torch.equal(found.score_after, expected.score_after)
    assert device.counts.captures == captures
