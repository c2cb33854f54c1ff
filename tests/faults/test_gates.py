"""Deliberate faults in performance, each caught by the gate that should catch it."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from alharness import timing
from alharness.engine.places import Places
from alharness.labelled import LabelledSet
from alharness.learners.learner import LearnerSettings, NetworkLearner
from alharness.pool import ArrayPool
from alharness.scaling import gates
from alharness.scaling.measure import run_study
from alharness.scaling.study import ScalingSpec, Study
from alharness.strategy import CycleView
from alharness.tasks.base import DataLocations
from alharness_strategies.max_entropy import MaxEntropy

N = 1_500


def scene() -> CycleView:
    rng = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (N, 1, 28, 28), dtype=torch.uint8, generator=rng)
    settings = LearnerSettings(kind="mlp", width=512)
    learner = NetworkLearner((1, 28, 28), 10, torch.device("cpu"), settings)
    learner.network = learner.build().eval().requires_grad_(False)
    return CycleView(
        pool=gates.CountingPool(ArrayPool(raw)),
        labelled=LabelledSet(),
        learner=learner,
        n_classes=10,
        cycle=0,
        seed=0,
    )


def one_more_pass(view: CycleView) -> None:
    """The slowed scan: everything is read and computed once more, and nothing told."""
    MaxEntropy().select(view, 10)
    for _, items in view.pool.blocks():
        view.learner.log_probs(items)


@pytest.mark.parametrize(("repeats", "tries"), [(3, 1), (5, 2)])
def test_a_ratio_is_taken_so_often_in_turns_after_one_untimed_call_each(
    monkeypatch: pytest.MonkeyPatch, repeats: int, tries: int
) -> None:
    """By a clock that moves with the calls: ours takes 3 s in the first try and 1 s later, the other 2 s."""
    at, calls = [0.0], []
    monkeypatch.setattr(gates, "time", SimpleNamespace(process_time=lambda: at[0]))

    def takes(name: str) -> Callable[[], None]:
        def call() -> None:
            first_try = calls.count("ours") < 1 + repeats
            at[0] += 2.0 if name == "other" else 3.0 if first_try and tries > 1 else 1.0
            calls.append(name)

        return call

    found = gates.gate_ratio(takes("ours"), takes("other"), at_most=1.0, repeats=repeats)
    assert found == 0.5
    assert calls == ["ours", "other"] * (1 + repeats) * tries
    with pytest.raises(AssertionError, match=r"0\.50, 0\.50 times as long"):
        gates.gate_ratio(takes("ours"), takes("other"), at_most=0.4, repeats=repeats, retries=1)


def test_an_honest_scan_passes_and_a_slowed_one_fails_against_the_reference() -> None:
    view, frozen = scene(), scene()

    def reference() -> None:
        MaxEntropy().select(frozen, 10)

    gates.gate_ratio(lambda: MaxEntropy().select(view, 10), reference, at_most=1.5, retries=4)
    with pytest.raises(AssertionError, match="times as long as the reference"):
        gates.gate_ratio(lambda: one_more_pass(view), reference, at_most=1.5)


def test_a_pass_that_nobody_tells_of_is_counted() -> None:
    honest, slowed = scene(), scene()
    MaxEntropy().select(honest, 10)
    one_more_pass(slowed)
    assert isinstance(honest.pool, gates.CountingPool)
    assert isinstance(slowed.pool, gates.CountingPool)
    gates.gate_reads(honest.pool, at_most=N)
    with pytest.raises(AssertionError, match="3,000 pool items read, 1,500 allowed"):
        gates.gate_reads(slowed.pool, at_most=N)


FAULTY = '''
import torch
from pydantic import Field
from alharness_strategies.asal import AsalGray, AsalParameters

class FewSteps(AsalParameters):
    latent_steps: int = Field(5)

class Honest(AsalGray):
    """A short search, so that the rest can be seen."""

    Parameters = FewSteps

class TellsOfAScan(Honest):
    """An O(n) step: scores the whole pool and says so."""

    def select(self, view, query_size):
        view.scan(lambda items: items.flatten(1).sum(1))
        return super().select(view, query_size)

class SortsThePool(Honest):
    """An O(n) step that no counter sees."""

    def synthesise(self, view, n):
        for _ in range(20):
            torch.arange(view.pool.n, dtype=torch.float32).sin().sort()
        return super().synthesise(view, n)
'''


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("gates")
    path = root / "faulty.py"
    path.write_text(FAULTY, encoding="utf-8")
    spec = ScalingSpec(
        task="digits-two",
        strategies=(f"{path}:Honest", f"{path}:TellsOfAScan", f"{path}:SortsThePool"),
        sizes=(1_000, 4_000, 16_000, 64_000),
        repeats=3,
        device="cpu",
        networks="untrained",
    )
    return run_study(spec, Places(root / "runs", DataLocations.resolve()), root / "timing")


def counters(study: Study, name: str) -> dict[int, dict[str, int]]:
    return {
        m.n: {key: value for key, value in m.work.items() if key != "distances"}
        for m in study.measurements
        if m.name.endswith(name) and m.kind == "select"
    }


def beside_matching(study: Study, name: str) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for m in study.measurements:
        if m.name.endswith(name) and m.kind == "select":
            found[m.n].append(m.seconds - m.phases["match"])
    return found


def gate_asal_work(study: Study, name: str) -> None:
    gates.gate_work(
        counters(study, name), constant=["images_generated"], linear=["feature_rows_read"]
    )


def test_asal_passes_its_gates(study: Study) -> None:
    gate_asal_work(study, "Honest")
    gates.gate_slope(beside_matching(study, "Honest"), at_most=0.3)


def test_a_scan_in_asal_is_caught_by_the_counters(study: Study) -> None:
    with pytest.raises(AssertionError, match="undeclared work: bytes_read"):
        gate_asal_work(study, "TellsOfAScan")


def test_a_silent_o_n_step_in_asal_is_caught_by_the_slope(study: Study) -> None:
    gate_asal_work(study, "SortsThePool")  # the counters know nothing of it
    with pytest.raises(AssertionError, match="time ~ n"):
        gates.gate_slope(beside_matching(study, "SortsThePool"), at_most=0.3)


class Device:
    """A device that works in the background, as a GPU does: launching returns at once."""

    def __init__(self) -> None:
        self.queue = ThreadPoolExecutor(1)
        self.last: Future[None] | None = None
        self.thread = threading.current_thread()

    def launch(self) -> None:
        self.last = self.queue.submit(time.sleep, 0.05)

    def wait(self, device: object = None) -> None:
        if self.last is not None:
            self.last.result()


def test_a_removed_synchronise_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    monkeypatch.setattr(timing, "synchronise", device.wait)
    assert gates.gate_attribution(device.launch, device.wait, "fake") > 0.8

    def removed(device: object) -> None:
        """Returns at once: what is timed is the launch."""

    monkeypatch.setattr(timing, "synchronise", removed)
    with pytest.raises(AssertionError, match="no synchronise at the border"):
        gates.gate_attribution(device.launch, device.wait, "fake")
    device.queue.shutdown()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_stopwatch_waits_for_the_gpu() -> None:
    a = torch.randn(4096, 4096, device="cuda")

    def launch() -> None:
        for _ in range(20):
            a @ a

    gates.gate_attribution(launch, torch.cuda.synchronize, "cuda")


def test_a_slope_needs_four_sizes() -> None:
    with pytest.raises(AssertionError, match="four sizes"):
        gates.gate_slope({1: [1.0], 2: [2.0], 3: [3.0]}, at_most=1.0)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({1: {"a": 1}, 2: {"a": 2}, 4: {"a": 4}}, "must not depend on the pool"),
        ({1: {"b": 1}, 2: {"b": 1}, 4: {"b": 1}}, "undeclared work: b"),
    ],
)
def test_work_that_grows_or_is_new_fails(counts: dict[int, dict[str, int]], reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        gates.gate_work(counts, constant=["a"])


def test_turns_are_taken() -> None:
    order: list[str] = []

    def turn(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    first, second = gates.interleaved(turn("a"), turn("b"), repeats=3)
    assert order == ["a", "b"] * 4
    assert len(first) == len(second) == 3
    assert statistics.median(first) >= 0


def test_what_only_waits_takes_no_time_of_a_cpu() -> None:
    """So that other processes, which make everybody wait, decide no gate."""
    waiting, idle = gates.interleaved(lambda: time.sleep(0.05), lambda: None, repeats=3)
    assert max(waiting) < 0.025
    assert max(idle) < 0.025


def test_a_ratio_is_measured_as_often_as_it_was_asked() -> None:
    """One untimed call of each, then so many; a ratio that is met is not measured again."""
    calls: list[str] = []
    busy = [list(range(2000)) for _ in range(20)]

    def work(name: str, times: int) -> None:
        calls.append(name)
        for _ in range(times):
            for values in busy:
                sorted(values, reverse=True)

    gates.gate_ratio(lambda: work("ours", 1), lambda: work("theirs", 8), at_most=1.0, repeats=3)
    assert calls == ["ours", "theirs"] * 4
