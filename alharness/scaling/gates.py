"""Gates on performance that do not depend on the machine, from the most to the least robust.

1. ``gate_work``: exact counters. 2. ``gate_reads``: what was really read of the pool, told or not.
3. ``gate_slope``: how time grows, in one process. 4. ``gate_ratio``: interleaved with a frozen
reference in one process. 5. ``gate_attribution``: a stopwatch that waits for the device.

Seconds of another day or machine are never compared: on shared machines they drift by half. A gate that
fails raises ``AssertionError`` with the numbers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from alharness.comparison.verdicts import Estimate
from alharness.pool import Pool, PoolWrapper
from alharness.scaling.estimates import slope
from alharness.timing import Stopwatch, synchronise

#: What an exponent of exact counts may differ from its claim.
EXACT = 0.02


def gate_work(
    counts: Mapping[int, Mapping[str, int]],
    *,
    constant: Sequence[str] = (),
    linear: Sequence[str] = (),
    absent: Sequence[str] = (),
) -> None:
    """Counters by pool size: which may not change, which grow as the pool, which may not occur.

    A counter that is none of them fails as well: new work must be declared.
    """
    sizes = sorted(counts)
    names = sorted({name for found in counts.values() for name in found})
    for name in names:
        values = {n: np.array([float(counts[n].get(name, 0))]) for n in sizes}
        told = {n: int(found[0]) for n, found in values.items()}
        if name in absent:
            assert not any(told.values()), f"{name} must not occur: {told}"
        elif name in constant:
            assert len(set(told.values())) == 1, f"{name} must not depend on the pool: {told}"
        elif name in linear:
            # Counts are exact: the slope of a proportional counter is 1 to the last digits.
            exponent = slope(values)
            assert exponent is not None, f"{name} needs three sizes: {told}"
            assert abs(exponent.value - 1) <= EXACT, f"{name} ~ n^{exponent.value:.3f}: {told}"
        else:
            raise AssertionError(f"undeclared work: {name} {told}")


class CountingPool(PoolWrapper):
    """A pool that counts what is read of it, whatever the reader says."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.n_read = 0

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        self.n_read += len(indices)
        return super().read(indices)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        self.n_read += stop - start
        return super().read_range(start, stop)


def gate_reads(pool: CountingPool, at_most: int) -> None:
    """No more items of the pool were read than allowed."""
    assert pool.n_read <= at_most, f"{pool.n_read:,} pool items read, {at_most:,} allowed"


def gate_slope(
    seconds: Mapping[int, Sequence[float]], *, at_most: float, at_least: float = -np.inf
) -> Estimate:
    """Time by pool size grows as n^b with b inside the bounds; at least four sizes."""
    assert len(seconds) >= 4, f"a slope needs four sizes, got {sorted(seconds)}"
    found = slope({n: np.asarray(values, dtype=np.float64) for n, values in seconds.items()})
    assert found is not None, "a time is not above 0"
    medians = {n: f"{statistics.median(values):.3g} s" for n, values in seconds.items()}
    assert at_least <= found.value <= at_most, (
        f"time ~ n^{found}, allowed {at_least} .. {at_most}: {medians}"
    )
    return found


def interleaved(
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    device: torch.device | str = "cpu",
    repeats: int = 7,
) -> tuple[list[float], list[float]]:
    """Seconds of both, taking turns after one untimed call each.

    On a CPU they are the process's CPU seconds: what other processes take is nobody's time, and neither is
    waiting, which ``alharness time`` measures by the wall clock.
    """
    clock = time.perf_counter if str(device).startswith("cuda") else time.process_time
    ours()
    reference()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        # In turns: what disturbs the machine for a second disturbs both.
        for function, spent in zip((ours, reference), times, strict=True):
            synchronise(device)
            start = clock()
            function()
            synchronise(device)
            spent.append(clock() - start)
    return times


def gate_ratio(
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    at_most: float,
    device: torch.device | str = "cpu",
    repeats: int = 7,
    retries: int = 2,
) -> float:
    """Ours takes at most so many times as long as the reference, in CPU seconds on a CPU.

    The median of the ratios of neighbours, which shared the machine's mood; the best of a few
    tries, since other processes can only slow one side down.
    """
    ratios = []
    for _ in range(1 + retries):
        a, b = interleaved(ours, reference, device=device, repeats=repeats)
        ratios.append(statistics.median(x / y for x, y in zip(a, b, strict=True)))
        if ratios[-1] <= at_most:
            return ratios[-1]
    told = ", ".join(f"{value:.2f}" for value in ratios)
    raise AssertionError(f"{told} times as long as the reference, allowed {at_most:.2f}")


def gate_attribution(
    launch: Callable[[], object],
    wait: Callable[[], object],
    device: torch.device | str,
    *,
    at_least: float = 0.8,
) -> float:
    """A stopwatch gives the time of work that a device does in the background to its own phase.

    Args:
        launch: starts work and returns at once, as a kernel launch does.
        wait: returns when all work is done.
        device: what the stopwatch synchronises with.
        at_least: share of the true time that the launching phase must be given.
    """
    launch()
    wait()  # warm
    stopwatch = Stopwatch(device)
    start = time.perf_counter()
    with stopwatch.phase("work"):
        launch()
    with stopwatch.phase("nothing"):
        pass
    wait()
    share = stopwatch.seconds["work"] / (time.perf_counter() - start)
    assert share >= at_least, (
        f"the phase that launched the work was given {100 * share:.0f} % of its time: "
        "no synchronise at the border"
    )
    return share
