"""How selection scales: time, work and memory of one selection against the size of the pool.

Two studies in one. *Selections*: strategies on ``augmented:`` pools of growing size, with the
task's own classifier and the networks of the source task (Fig. 6a, Table 2). *Matches*: indices on
growing numbers of feature rows, up to what memory bears (Sec. 3.2, 5.5), because 50 floats per image
fit where images do not.

Honest by construction: everything is prepared and warmed up before anything is timed; repeats are
interleaved over strategies and sizes, so that a busy minute of the machine hits all alike; what is
compared lies in one process. A measurement is one line of ``timing.jsonl``, written when it is
made: a stopped study goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alharness import numerics, registry, seeds
from alharness.artefacts import ArtefactStore, Supply
from alharness.availability import Availability
from alharness.engine import environment
from alharness.engine.opening import OpenTask, Places, networks_of, open_task, problem_of
from alharness.engine.stage import Stage, set_stage
from alharness.errors import UserError
from alharness.files import append_line, explained, write_json, write_text
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import Learner
from alharness.matching import build_index, features, match
from alharness.pool import ArrayPool, Pool, PoolWrapper
from alharness.progress import Progress, silent
from alharness.records import Ledger, each_once
from alharness.scaling.study import READ, Measurement, ScalingSpec, Study
from alharness.spec import RunSpec, current_device, resolve, resolve_device
from alharness.tasks.base import TaskData, load_data
from alharness.timing import Stopwatch, WorkCounters, synchronise


@numerics.exact()
def run_study(
    spec: ScalingSpec, places: Places, folder: Path, progress: Progress = silent
) -> Study:
    """Measure what is not measured yet and append it to the folder.

    Raises:
        UserError: the folder holds another study, or one of another machine, or cannot be written.
    """
    with current_device(resolve_device(spec.device)) as device:
        return _run_study(spec, places, folder, device, progress)


def _run_study(
    spec: ScalingSpec, places: Places, folder: Path, device: torch.device, progress: Progress
) -> Study:
    machine = {**environment.hardware(device), **environment.versions()}
    about = {
        "spec": spec.model_dump(mode="json"),
        "machine": machine,
        "arithmetic": numerics.describe(),
    }
    done: set[tuple[str, str, int, int, int]] = set()
    log = folder / "timing.jsonl"
    if (folder / "study.json").exists():
        before = Study.read(folder) if log.exists() else None
        if before is not None:
            _require_same(before, spec, machine, folder)
            done = {measurement.key for measurement in before.measurements}
            _rewrite(log, before.measurements)  # without a torn last line
    write_json(folder / "study.json", about)
    with explained(log):
        log.touch()
    for measurement in measure(spec, places, device, done, progress):
        append_line(log, measurement.model_dump_json())
    return Study.read(folder)


def _require_same(
    before: Study, spec: ScalingSpec, machine: Mapping[str, Any], folder: Path
) -> None:
    """A study may grow (sizes, strategies, repeats); its conditions may not change."""
    for name in ("task", "profile", "seed", "networks"):
        old, new = getattr(before.spec, name), getattr(spec, name)
        if old != new:
            raise UserError(
                f"The study in '{folder}' was measured with {name}={old}, now {name}={new} is asked "
                "for. Give another --out."
            )
    for name, old in before.machine.items():
        if machine.get(name) != old:
            raise UserError(
                f"The study in '{folder}' was measured with {name}={old}, here it is "
                f"{machine.get(name)}: times do not compare. Give another --out."
            )


def _rewrite(log: Path, measurements: tuple[Measurement, ...]) -> None:
    write_text(log, "".join(measurement.model_dump_json() + "\n" for measurement in measurements))


def measure(
    spec: ScalingSpec,
    places: Places,
    device: torch.device,
    done: set[tuple[str, str, int, int, int]],
    progress: Progress = silent,
) -> Iterator[Measurement]:
    """All measurements of a spec that are not in ``done``."""
    source = _Source(spec, places, device, progress)
    if spec.sizes and spec.strategies:
        yield from _selections(spec, source, done, progress)
    if spec.rows and spec.indices:
        yield from _matches(spec, source, done, progress)


class _Source:
    """The task whose pool is enlarged: its classifier and its networks serve every size.

    Networks that were trained anew for every size would measure the same training again and again.
    """

    def __init__(
        self, spec: ScalingSpec, places: Places, device: torch.device, progress: Progress
    ) -> None:
        self.spec, self.places, self.device, self.progress = spec, places, device, progress
        self.store = ArtefactStore(places.store_root)
        self.run_spec = run_spec_of(spec, device)
        self.task: OpenTask = open_task(self.run_spec, places, progress)

    def labelled(self, data: TaskData, n: int) -> LabelledSet:
        """The initial set of a pool of size n."""
        rng = seeds.rng(self.spec.seed, "timing", n)
        size = min(self.run_spec.initial_size, n // 2)
        drawn = np.unique(rng.integers(n, size=2 * size))  # O(size), not O(n)
        indices = np.sort(rng.permutation(drawn)[:size])
        targets = torch.from_numpy(np.asarray(data.pool_targets[indices], dtype=np.int64))
        return LabelledSet(torch.from_numpy(indices), targets, n_asked=size)

    def learner(self) -> Learner:
        """The task's classifier after the source's initial set."""
        pool = self.task.pool
        learner = learner_factory(self.run_spec.learner)(
            pool.item_shape, self.task.data.n_classes, self.device
        )
        learner.fit(self.labelled(self.task.data, pool.n), pool, seed=self.fit_seed)
        return learner

    @property
    def fit_seed(self) -> int:
        return seeds.derive(self.spec.seed, "fit", 0)

    def timed(self, name: str, data: TaskData, pool: Pool, learner: Learner) -> _Timed:
        """A strategy before a pool of some size, prepared with the networks of the source task.

        Args:
            learner: classifies, unless the strategy brings its own.
        """
        supply = Supply(self.store, Ledger(self.device), self.progress)
        stage = set_stage(
            registry.resolve_strategy(name),
            replace(problem_of(self.run_spec, self.task), pool=pool),
            networks_of(self.run_spec, self.task),
            supply,
            name=name,
        )
        labelled = self.labelled(data, pool.n)
        if stage.adapted:
            learner, _ = stage.fit(labelled, seed=self.fit_seed)
        return _Timed(name, stage, labelled, learner)

    def enlarged(self, n: int) -> tuple[TaskData, Pool]:
        """The pool at size n: varied images, in memory where they fit."""
        plugin = registry.resolve_task(f"augmented:{self.spec.task}:{n}")
        data = load_data(plugin, self.places.locations, self.progress)
        virtual = data.open_pool(self.device, self.run_spec.pool)
        if n * virtual.item_bytes > self.spec.resident_bytes:
            return data, _AttributedPool(virtual)
        items = torch.empty((n, *virtual.item_shape), dtype=torch.uint8, device=self.device)
        step = virtual.block_size()
        for start in range(0, n, step):
            stop = min(start + step, n)
            items[start:stop] = virtual.read_range(start, stop)
            self.progress(f"images of the pool of {n:,}", stop, n)
        return data, ArrayPool(
            items, self.device, pixel_max=data.pixel_max, fingerprint=virtual.fingerprint
        )


def run_spec_of(spec: ScalingSpec, device: torch.device) -> RunSpec:
    """The run whose selections are timed: task, profile, networks and sizes are those of a run."""
    few = {"steps": 1} if spec.networks == "untrained" else {}
    return resolve(
        {
            "task": spec.task,
            "strategy": (*spec.strategies, *registry.names(registry.STRATEGIES))[0],
            "profile": spec.profile,
            "device": device.type,
            "seed": spec.seed,
            "generator": few,
            "autoencoder": few,
        }
    )


class _AttributedPool(PoolWrapper):
    """A virtual pool whose computing of items stands apart from the selection that asks for them."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.stopwatch = Stopwatch(pool.device)

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        with self.stopwatch.aside(READ):
            return super().read(indices)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        with self.stopwatch.aside(READ):
            return super().read_range(start, stop)


@dataclass(frozen=True)
class _Timed:
    """A stage with a classifier and labels: can be asked again and again."""

    name: str
    stage: Stage
    labelled: LabelledSet
    learner: Learner

    def ask(self, query_size: int, repeat: int) -> Measurement:
        """One selection; ``repeat`` takes the cycle's place, so that each repeat draws anew."""
        pool = self.stage.problem.pool
        available = Availability(pool.n, self.labelled.indices)
        view = self.stage.view(self.labelled, self.learner, cycle=repeat, available=available)
        if isinstance(pool, _AttributedPool):
            pool.stopwatch = view.stopwatch
        with _peak_memory(pool.device) as peak:
            self.stage.ask(view, query_size, available)
        return Measurement(
            kind="select",
            name=self.name,
            n=pool.n,
            query_size=query_size,
            repeat=repeat,
            seconds=sum(view.stopwatch.seconds.values()),
            phases={**view.stopwatch.seconds, **view.stopwatch.apart},
            work=dict(sorted(view.work.counts.items())),
            peak_host_bytes=peak.host,
            peak_device_bytes=peak.device,
            residency=pool.residency,
        )


def _selections(
    spec: ScalingSpec,
    source: _Source,
    done: set[tuple[str, str, int, int, int]],
    progress: Progress,
) -> Iterator[Measurement]:
    wanted = [
        (name, n, q, repeat)
        for repeat in range(spec.repeats)  # outermost: all strategies and sizes take turns
        for n, name, q in itertools.product(spec.sizes, spec.strategies, spec.query_sizes)
        if q <= n // 2 and ("select", name, n, q, repeat) not in done
    ]
    if not wanted:
        return
    learner = source.learner()
    stages: dict[tuple[str, int], _Timed] = {}
    slowest: dict[str, float] = {}  # seconds of the last warm-up
    for n in dict.fromkeys(n for _, n, _, _ in wanted):
        data, pool = source.enlarged(n)
        for name in dict.fromkeys(name for name, size, _, _ in wanted if size == n):
            progress(f"prepare {name} on {n:,}", 0, 1)
            stage = stages[name, n] = source.timed(name, data, pool, learner)
            entries = each_once(stage.stage.ledger.entries)
            if ("prepare", name, n, 0, 0) not in done:
                yield Measurement(
                    kind="prepare",
                    name=name,
                    n=n,
                    query_size=0,
                    repeat=0,
                    seconds=sum(entry.seconds for entry in entries),
                    phases={entry.name: entry.seconds for entry in entries},
                    feature_bytes=next(
                        (e.details["bytes"] for e in entries if "bytes" in e.details), None
                    ),
                    residency=pool.residency,
                )
            # A selection of seconds warms itself up; doing it twice would double the study.
            if slowest.get(name, 0.0) < 1.0:
                slowest[name] = max(
                    stage.ask(q, repeat=spec.repeats).seconds
                    for q in spec.query_sizes
                    if q <= n // 2
                )
    for number, (name, n, q, repeat) in enumerate(wanted):
        yield stages[name, n].ask(q, repeat)
        progress(f"select {name} from {n:,}", number + 1, len(wanted))


def _matches(
    spec: ScalingSpec,
    source: _Source,
    done: set[tuple[str, str, int, int, int]],
    progress: Progress,
) -> Iterator[Measurement]:
    wanted = [
        (name, n, q, repeat)
        for repeat in range(spec.repeats)
        for n, name, q in itertools.product(spec.rows, spec.indices, spec.query_sizes)
        if q <= n // 2 and ("match", name, n, q, repeat) not in done
    ]
    if not wanted:
        return
    reduced = features.reduce_pool(source.task.pool, features.pixels(), progress=progress)
    queries = features.pool_features(source.task.test, reduced.space.extractor, reduced.space.pca)
    most = max(n for _, n, _, _ in wanted)
    rows = more_rows(reduced.features, most, spec.seed)
    indices = {}
    for name, n in dict.fromkeys((name, n) for name, n, _, _ in wanted):
        progress(f"index {name} of {n:,} rows", 0, 1)
        synchronise(source.device)
        start = time.perf_counter()
        indices[name, n] = build_index(name, rows[:n])
        synchronise(source.device)
        if ("prepare", name, n, 0, 0) not in done:
            yield Measurement(
                kind="prepare",
                name=name,
                n=n,
                query_size=0,
                repeat=0,
                seconds=time.perf_counter() - start,
            )
    taken = torch.arange(0, 100)
    for number, (name, n, q, repeat) in enumerate(wanted):
        index = indices[name, n]
        rng = seeds.torch_rng(spec.seed, "timing queries", repeat)
        points = queries[torch.randint(len(queries), (q,), generator=rng).to(queries.device)]
        if repeat == 0 or number == 0:
            match(index, points[:1], taken=taken)  # warm-up
        work, stopwatch = WorkCounters(), Stopwatch(source.device)
        with _peak_memory(source.device) as peak, stopwatch.phase("match"):
            match(index, points, taken=taken, work=work)
        yield Measurement(
            kind="match",
            name=name,
            n=n,
            query_size=q,
            repeat=repeat,
            seconds=stopwatch.seconds["match"],
            phases=dict(stopwatch.seconds),
            work=dict(work.counts),
            peak_host_bytes=peak.host,
            peak_device_bytes=peak.device,
        )
        progress(f"match {name} in {n:,} rows", number + 1, len(wanted))


def more_rows(features_NK: torch.Tensor, n: int, seed: int) -> torch.Tensor:
    """``n`` rows like those given: the rows themselves, then jittered copies, ``[n, K]``.

    The jitter is a tenth of each dimension's standard deviation: near-duplicates, as the paper's
    augmented pools hold them.
    """
    N = len(features_NK)
    rows = torch.empty(n, features_NK.shape[1], device=features_NK.device)
    spread = 0.1 * features_NK.std(dim=0)
    rng = seeds.torch_rng(seed, "timing rows")
    for start in range(0, n, N):
        stop = min(start + N, n)
        copies = features_NK[: stop - start]
        if start > 0:
            noise = torch.randn(copies.shape, generator=rng).to(copies.device)
            copies = copies + spread * noise
        rows[start:stop] = copies
    return rows


@dataclass
class _Peak:
    host: int | None = None
    device: int | None = None


@contextlib.contextmanager
def _peak_memory(device: torch.device) -> Iterator[_Peak]:
    """Growth of peak memory inside the block; host memory on Linux only."""
    peak = _Peak()
    before = _reset_host_peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield peak
    if device.type == "cuda":
        peak.device = torch.cuda.max_memory_allocated(device)
    if before is not None:
        peak.host = max(0, _status_bytes("VmHWM") - before)


def _reset_host_peak() -> int | None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
        return _status_bytes("VmRSS")
    except OSError:
        return None


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {name}")
