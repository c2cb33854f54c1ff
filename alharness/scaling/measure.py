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
from typing import Any, Literal

import numpy as np
import psutil
import torch

from alharness import numerics, registry, seeds
from alharness.artefacts import ArtefactStore, Supply
from alharness.availability import Availability
from alharness.engine import environment
from alharness.engine.opening import OpenTask, open_task
from alharness.engine.places import Places
from alharness.engine.seat import Seat
from alharness.engine.stage import set_stage
from alharness.errors import UserError
from alharness.files import append_line, explained, write_json, write_text
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.learner import Learner
from alharness.matching import Index, build_index, features, match
from alharness.pool import ArrayPool, Pool, PoolWrapper
from alharness.progress import Progress, silent
from alharness.records import Ledger, each_once
from alharness.scaling.study import READ, Key, Measurement, ScalingSpec, Study
from alharness.spec import Bound, bind, current_device, resolve_device
from alharness.tasks.base import TaskData, load_data
from alharness.timing import Stopwatch, WorkCounters, effort, synchronise


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
    machine = {**environment.hardware(device), **environment.versions(), **_memory(device)}
    about = {
        "spec": spec.model_dump(mode="json"),
        "machine": machine,
        "arithmetic": numerics.describe(),
    }
    done: set[Key] = set()
    log = folder / "timing.jsonl"
    if (folder / "study.json").exists():
        before = Study.read(folder) if log.exists() else None
        if before is not None:
            _require_same(before, spec, machine, folder)
            done = {measurement.key for measurement in before.measurements}
            whole = (measurement.model_dump_json() + "\n" for measurement in before.measurements)
            write_text(log, "".join(whole))  # without a torn last line
    write_json(folder / "study.json", about)
    with explained(log):
        log.touch()
    for measurement in measure(spec, places, device, done, progress):
        append_line(log, measurement.model_dump_json())
    return Study.read(folder)


def _memory(device: torch.device) -> dict[str, int]:
    """Memory of the device that is timed: no time is told of what does not fit."""
    if device.type == "cuda":
        return {"memory_bytes": torch.cuda.get_device_properties(device).total_memory}
    return {"memory_bytes": psutil.virtual_memory().total}


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
    # In one table the times of two machines would be compared, whatever a note below it says.
    for name, old in before.machine.items():
        if machine.get(name) != old:
            raise UserError(
                f"The study in '{folder}' was measured with {name}={old}, here it is "
                f"{machine.get(name)}: times do not compare. Give another --out."
            )


def measure(
    spec: ScalingSpec,
    places: Places,
    device: torch.device,
    done: set[Key],
    progress: Progress = silent,
) -> Iterator[Measurement]:
    """All measurements of a spec that are not in ``done``."""
    source = _Source(spec, places, device, progress)
    for study in (_Selections(spec, source, progress), _Matches(spec, source, progress)):
        yield from _measured(study, spec, done, progress)


def _measured(
    study: _Selections | _Matches, spec: ScalingSpec, done: set[Key], progress: Progress
) -> Iterator[Measurement]:
    """One study: everything is prepared and warm before anything is timed."""
    wanted = [
        (name, n, q, repeat)
        # Repeats outermost: all names and sizes take turns, and a busy minute hits all alike.
        for repeat in range(spec.repeats)
        for n, name, q in itertools.product(study.sizes, study.names, spec.query_sizes)
        if q <= n // 2 and (study.kind, name, n, q, repeat) not in done
    ]
    if not wanted:
        return
    # In the study's order, so that a resumed one prepares as a whole one did.
    sizes = sorted({n for _, n, _, _ in wanted}, key=study.sizes.index)
    study.open(max(sizes))
    for n in sizes:
        for name in dict.fromkeys(name for name, size, _, _ in wanted if size == n):
            progress(f"prepare {name} for {n:,} {study.items}", 0, 1)
            prepared = study.prepare(name, n)
            if prepared.key not in done:
                yield prepared
            study.warm_up(name, n)
    for number, (name, n, q, repeat) in enumerate(wanted):
        yield study.ask(name, n, q, repeat)
        progress(f"{study.kind} by {name} from {n:,} {study.items}", number + 1, len(wanted))


class _Source:
    """The task whose pool is enlarged: its classifier and its networks serve every size.

    Networks that were trained anew for every size would measure the same training again and again.
    """

    def __init__(
        self, spec: ScalingSpec, places: Places, device: torch.device, progress: Progress
    ) -> None:
        self.spec, self.places, self.device, self.progress = spec, places, device, progress
        self.store = ArtefactStore(places.store_root)
        bound = run_of(spec, device)
        self.run_spec = bound.spec
        self.task: OpenTask = open_task(bound, places, progress)

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
        learner = learner_factory(self.run_spec.learner, self.task.bound.kind)(
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
            replace(self.task.problem, pool=pool),
            self.task.networks,
            supply,
            name=name,
        )
        labelled = self.labelled(data, pool.n)
        # Whoever moves the problem elsewhere needs a classifier of what lies there.
        if stage.adapted:
            learner, _ = stage.fit(labelled, seed=self.fit_seed)
        return _Timed(stage, labelled, learner, Availability(pool.n, labelled.indices))

    def enlarged(self, n: int) -> tuple[TaskData, Pool]:
        """The pool at size n: varied images, in memory where they fit."""
        plugin = registry.resolve_task(f"augmented:{self.spec.task}:{n}")
        data = load_data(plugin, self.places.locations, self.progress)
        virtual = data.open_pool(self.device, self.run_spec.pool)
        if n * virtual.item_bytes > self.spec.resident_bytes:
            return data, _AttributedPool(virtual)
        # Computed once where they fit: else every selection would pay for it.
        items = torch.empty((n, *virtual.item_shape), dtype=torch.uint8, device=self.device)
        step = virtual.block_size()
        for start in range(0, n, step):
            stop = min(start + step, n)
            items[start:stop] = virtual.read_range(start, stop)
            self.progress(f"images of the pool of {n:,}", stop, n)
        return data, ArrayPool(
            items, self.device, pixel_max=data.pixel_max, fingerprint=virtual.fingerprint
        )


def run_of(spec: ScalingSpec, device: torch.device) -> Bound:
    """The run whose selections are timed: task, profile, networks and sizes are those of a run."""
    # A selection takes as long with networks that learned nothing: shapes are the same.
    few = {"steps": 1} if spec.networks == "untrained" else {}
    return bind(
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


class _Timed(Seat):
    """A strategy's seat before a pool of some size."""

    def ask(self, query_size: int, repeat: int) -> Measurement:
        """One selection; ``repeat`` takes the cycle's place, so that each repeat draws anew."""
        pool = self.pool
        view = self.view(cycle=repeat)
        if isinstance(pool, _AttributedPool):
            pool.stopwatch = view.stopwatch
        with _peak_memory(pool.device) as peak:
            self.select(view, query_size)
        return Measurement(
            kind="select",
            name=self.stage.name,
            n=pool.n,
            query_size=query_size,
            repeat=repeat,
            seconds=sum(view.stopwatch.seconds.values()),
            cpu_s=None if view.stopwatch.effort is None else view.stopwatch.effort.cpu_s,
            phases={**view.stopwatch.seconds, **view.stopwatch.apart},
            work=dict(sorted(view.work.counts.items())),
            peak_host_bytes=peak.host,
            peak_device_bytes=peak.device,
            residency=pool.residency,
        )


class _Selections:
    """Strategies on pools of growing size (Fig. 6a, Table 2)."""

    kind: Literal["select"] = "select"
    items = "images"

    def __init__(self, spec: ScalingSpec, source: _Source, progress: Progress) -> None:
        self.spec, self.source, self.progress = spec, source, progress
        self.names, self.sizes = spec.strategies, spec.sizes
        self._stages: dict[tuple[str, int], _Timed] = {}
        self._pools: dict[int, tuple[TaskData, Pool]] = {}
        self._slowest: dict[str, float] = {}  # seconds of the last warm-up

    def open(self, largest: int) -> None:
        self._learner = self.source.learner()

    def prepare(self, name: str, n: int) -> Measurement:
        if n not in self._pools:
            self._pools[n] = self.source.enlarged(n)
        data, pool = self._pools[n]
        stage = self._stages[name, n] = self.source.timed(name, data, pool, self._learner)
        # What serves several sizes is built once and entered for each.
        entries = each_once(stage.stage.ledger.entries)
        return Measurement(
            kind="prepare",
            name=name,
            n=n,
            query_size=0,
            repeat=0,
            seconds=sum(entry.seconds for entry in entries),
            phases={entry.name: entry.seconds for entry in entries},
            feature_bytes=next((e.details["bytes"] for e in entries if "bytes" in e.details), None),
            residency=pool.residency,
        )

    def warm_up(self, name: str, n: int) -> None:
        # A selection of seconds warms itself up; doing it twice would double the study.
        if self._slowest.get(name, 0.0) < 1.0:
            self._slowest[name] = max(
                self.ask(name, n, q, self.spec.repeats).seconds
                for q in self.spec.query_sizes
                if q <= n // 2
            )

    def ask(self, name: str, n: int, query_size: int, repeat: int) -> Measurement:
        return self._stages[name, n].ask(query_size, repeat)


class _Matches:
    """Indices on growing numbers of feature rows (Sec. 3.2, 5.5)."""

    kind: Literal["match"] = "match"
    items = "rows"

    def __init__(self, spec: ScalingSpec, source: _Source, progress: Progress) -> None:
        self.source, self.progress, self.seed = source, progress, spec.seed
        self.names, self.sizes = spec.indices, spec.rows
        self._indices: dict[tuple[str, int], Index] = {}
        self._taken = torch.arange(0, 100)

    def open(self, largest: int) -> None:
        task = self.source.task
        reduced = features.reduce_pool(task.pool, features.pixels(), progress=self.progress)
        space = reduced.space
        self._queries = features.pool_features(task.test, space.extractor, space.pca)
        self._rows = more_rows(reduced.features, largest, self.seed)

    def prepare(self, name: str, n: int) -> Measurement:
        synchronise(self.source.device)
        start = time.perf_counter()
        self._indices[name, n] = build_index(name, self._rows[:n])
        synchronise(self.source.device)
        seconds = time.perf_counter() - start
        return Measurement(kind="prepare", name=name, n=n, query_size=0, repeat=0, seconds=seconds)

    def warm_up(self, name: str, n: int) -> None:
        match(self._indices[name, n], self._points(1, 0), taken=self._taken)

    def ask(self, name: str, n: int, query_size: int, repeat: int) -> Measurement:
        points = self._points(query_size, repeat)
        work, stopwatch = WorkCounters(), Stopwatch(self.source.device)
        with (
            _peak_memory(self.source.device) as peak,
            effort() as taken,
            stopwatch.phase("match"),
        ):
            match(self._indices[name, n], points, taken=self._taken, work=work)
        return Measurement(
            kind="match",
            name=name,
            n=n,
            query_size=query_size,
            repeat=repeat,
            seconds=stopwatch.seconds["match"],
            cpu_s=taken.cpu_s,
            phases=dict(stopwatch.seconds),
            work=dict(work.counts),
            peak_host_bytes=peak.host,
            peak_device_bytes=peak.device,
        )

    def _points(self, n: int, repeat: int) -> torch.Tensor:
        rng = seeds.torch_rng(self.seed, "timing queries", repeat)
        drawn = torch.randint(len(self._queries), (n,), generator=rng)
        return self._queries[drawn.to(self._queries.device)]


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
    # A peak is that of the process's whole life unless it is set back.
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
