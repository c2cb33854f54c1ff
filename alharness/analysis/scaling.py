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
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from alharness import registry, seeds
from alharness.artefacts import ArtefactStore
from alharness.errors import UserError
from alharness.files import write_json, write_text
from alharness.generative import Autoencoder, Generator
from alharness.labelled import LabelledSet
from alharness.learners.learner import Learner, LearnerFactory, learner_factory
from alharness.matching import build_index, features, match
from alharness.pool import ArrayPool, Pool, PoolWrapper
from alharness.progress import Progress, silent
from alharness.records import Ledger
from alharness.run import environment
from alharness.run.opening import OpenTask, Places, open_task
from alharness.spec import RunSpec, resolve, resolve_device
from alharness.strategy import CycleView, Preparation, Strategy, check_query
from alharness.tasks.base import TaskData
from alharness.timing import Stopwatch, WorkCounters, synchronise

#: Phase of computing the items of a virtual pool: a stand-in for images in memory, not selection.
READ = "virtual_items"
#: Phases that are not part of the selection's time.
NOT_SELECTION = ("bookkeeping", READ)


class ScalingSpec(BaseModel):
    """What to measure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field("mnist-two", description="data set whose pool is enlarged")
    strategies: tuple[str, ...] = ("random", "max-entropy", "asal-auto")
    sizes: tuple[int, ...] = Field((10_000, 30_000, 100_000), description="pool sizes in images")
    query_sizes: tuple[int, ...] = Field((10,), description="items per selection")
    indices: tuple[str, ...] = Field((), description="indices of the study of matches")
    rows: tuple[int, ...] = Field((), description="feature rows of the study of matches")
    repeats: int = Field(5, ge=1, description="timed selections per strategy, size and query size")
    profile: Literal["quick", "paper"] = "quick"
    device: str = "auto"
    seed: int = 0
    networks: Literal["trained", "untrained"] = Field(
        "trained", description="untrained: generator and encoder after one step, shapes only"
    )
    resident_bytes: int = Field(
        4 << 30, ge=0, description="images of a pool are kept in memory up to here, else computed"
    )


class Measurement(BaseModel):
    """One line of ``timing.jsonl``.

    Attributes:
        kind: ``select`` or ``match`` (timed), ``prepare`` (one-off cost, repeat is 0).
        name: the strategy, or the index.
        n: pool items, or feature rows.
        query_size: items per selection; 0 for a preparation.
        repeat: number of the repetition.
        seconds: of the selection, or of building everything that had to be prepared.
        phases: seconds by phase; by ledger entry for a preparation.
        work: exact counters.
        peak_host_bytes: growth of the process's peak memory, where the system tells.
        peak_device_bytes: peak of device memory.
        feature_bytes: of the pool's features, for a preparation that computed some.
        residency: where the pool's items live.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["select", "match", "prepare"]
    name: str
    n: int
    query_size: int
    repeat: int
    seconds: float
    phases: dict[str, float] = {}
    work: dict[str, int] = {}
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None
    feature_bytes: int | None = None
    residency: str = ""

    @property
    def key(self) -> tuple[str, str, int, int, int]:
        """What was measured: not measured again when a study goes on."""
        return self.kind, self.name, self.n, self.query_size, self.repeat


@dataclass(frozen=True)
class Study:
    """A finished or stopped study, as read from its folder."""

    spec: ScalingSpec
    machine: Mapping[str, Any]
    measurements: tuple[Measurement, ...]

    @classmethod
    def read(cls, folder: Path) -> Study:
        """The study in a folder.

        Raises:
            UserError: no study there, or a damaged line.
        """
        try:
            about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
            lines = (folder / "timing.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError as error:
            raise UserError(
                f"'{folder}' holds no timing study ({Path(error.filename).name} is missing). "
                "Measure one with: alharness timing --out FOLDER"
            ) from None
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(Measurement.model_validate_json(line))
            except ValueError as error:
                if number == len(lines):
                    break  # the line that a kill tore
                raise UserError(f"{folder / 'timing.jsonl'}: line {number} is damaged.") from error
        return cls(ScalingSpec(**about["spec"]), about["machine"], tuple(found))


def run_study(
    spec: ScalingSpec, places: Places, folder: Path, progress: Progress = silent
) -> Study:
    """Measure what is not measured yet and append it to the folder.

    Raises:
        UserError: the folder holds another study, or one of another machine.
    """
    device = torch.device(resolve_device(spec.device))
    machine = {**environment.hardware(device), **environment.versions()}
    about = {"spec": spec.model_dump(mode="json"), "machine": machine}
    folder.mkdir(parents=True, exist_ok=True)
    done: set[tuple[str, str, int, int, int]] = set()
    log = folder / "timing.jsonl"
    if (folder / "study.json").exists():
        before = Study.read(folder) if log.exists() else None
        if before is not None:
            _require_same(before, spec, machine, folder)
            done = {measurement.key for measurement in before.measurements}
            _rewrite(log, before.measurements)  # without a torn last line
    write_json(folder / "study.json", about)
    log.touch()
    for measurement in measure(spec, places, device, done, progress):
        with log.open("a", encoding="utf-8") as file:
            file.write(measurement.model_dump_json() + "\n")
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
    """The task whose pool is enlarged: its classifier and its networks serve every size."""

    def __init__(
        self, spec: ScalingSpec, places: Places, device: torch.device, progress: Progress
    ) -> None:
        self.spec, self.places, self.device, self.progress = spec, places, device, progress
        self.artefacts = ArtefactStore(places.store_root)
        few = {"steps": 1} if spec.networks == "untrained" else {}
        self.run_spec: RunSpec = resolve(
            {
                "task": spec.task,
                "strategy": "random" if not spec.strategies else spec.strategies[0],
                "profile": spec.profile,
                "device": device.type,
                "seed": spec.seed,
                "generator": few,
                "autoencoder": few,
            }
        )
        self.task: OpenTask = open_task(self.run_spec, places, progress)

    def factory(self) -> LearnerFactory:
        return learner_factory(self.run_spec.learner)

    def labelled(self, data: TaskData, n: int) -> LabelledSet:
        """The initial set of a pool of size n."""
        rng = seeds.rng(self.spec.seed, "timing", n)
        size = min(self.run_spec.initial_size, n // 2)
        drawn = np.unique(rng.integers(n, size=2 * size))  # O(size), not O(n)
        indices = np.sort(rng.permutation(drawn)[:size])
        targets = torch.from_numpy(np.asarray(data.pool_targets[indices], dtype=np.int64))
        return LabelledSet(torch.from_numpy(indices), targets, n_asked=size)

    def fitted(self, factory: LearnerFactory, pool: Pool, labelled: LabelledSet) -> Learner:
        learner = factory(pool.item_shape, self.task.data.n_classes, self.device)
        learner.fit(labelled, pool, seed=seeds.derive(self.spec.seed, "fit", 0))
        return learner

    def preparation(self, pool: Pool, ledger: Ledger) -> Preparation:
        """What a strategy may prepare with, on the source's own pool."""
        spec = self.run_spec
        return Preparation(
            task=self.spec.task,
            n_classes=self.task.data.n_classes,
            class_names=self.task.data.class_names,
            pool=pool,
            test=self.task.test,
            device=self.device,
            seed=self.spec.seed,
            profile=self.spec.profile,
            fingerprint=pool.fingerprint,
            learner_factory=self.factory(),
            learner_settings=spec.learner,
            artefacts=self.artefacts,
            ledger=ledger,
            generator_settings=spec.generator.for_profile(spec.profile, pool.item_shape),
            autoencoder_settings=spec.autoencoder.for_profile(spec.profile, pool.item_shape),
            progress=self.progress,
        )

    def enlarged(self, n: int) -> tuple[TaskData, Pool]:
        """The pool at size n: varied images, in memory where they fit."""
        plugin = registry.resolve_task(f"augmented:{self.spec.task}:{n}")
        data = plugin.load(self.places.locations, self.progress)
        virtual = data.open_pool(self.device, self.run_spec.pool)
        if n * virtual.item_bytes > self.spec.resident_bytes:
            return data, virtual
        items = torch.empty((n, *virtual.item_shape), dtype=torch.uint8, device=self.device)
        step = virtual.block_size()
        for start in range(0, n, step):
            stop = min(start + step, n)
            items[start:stop] = virtual.read_range(start, stop)
            self.progress(f"images of the pool of {n:,}", stop, n)
        return data, ArrayPool(
            items, self.device, pixel_max=data.pixel_max, fingerprint=virtual.fingerprint
        )


@dataclass
class _SharedNetworks(Preparation):
    """A preparation on an enlarged pool that takes generator and encoder from the source task.

    Training them anew for every size would measure the same training again and again.
    """

    source: Preparation | None = None

    def generator(self) -> Generator:
        assert self.source is not None
        return self.source.generator()

    def autoencoder(self) -> Autoencoder:
        assert self.source is not None
        return self.source.autoencoder()


class _AttributedPool(PoolWrapper):
    """A virtual pool whose computing of items is a phase of its own."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self.stopwatch = Stopwatch(pool.device)

    def read(self, indices: torch.Tensor) -> torch.Tensor:
        with self.stopwatch.phase(READ):
            return super().read(indices)

    def read_range(self, start: int, stop: int) -> torch.Tensor:
        with self.stopwatch.phase(READ):
            return super().read_range(start, stop)


class _Stage:
    """One strategy before one pool, prepared: can be asked again and again."""

    def __init__(
        self, source: _Source, name: str, data: TaskData, pool: Pool, learner: Learner
    ) -> None:
        self.name, self.seed, self.n_classes = name, source.spec.seed, data.n_classes
        self.strategy: Strategy = registry.resolve_strategy(name)
        self.ledger = Ledger(source.device)
        own = source.preparation(pool, self.ledger)
        base = source.preparation(source.task.pool, self.ledger)
        shared = _SharedNetworks(**vars(own), source=base)
        reason = self.strategy.unsuitable(data.n_classes, pool.item_shape)
        if reason is not None:
            raise UserError(f"'{name}' cannot be timed on '{source.spec.task}': {reason}.")
        adaptation = self.strategy.prepare(shared)
        self.pool = _AttributedPool(pool) if pool.residency == "virtual" else pool
        self.learner = learner
        self.labelled = source.labelled(data, pool.n)
        if adaptation is not None:
            self.pool = adaptation.pool or self.pool
            factory = adaptation.learner_factory or source.factory()
            self.learner = source.fitted(factory, self.pool, self.labelled)
        self.is_labelled = torch.zeros(pool.n, dtype=torch.bool)
        self.is_labelled[self.labelled.indices] = True

    def ask(self, query_size: int, repeat: int) -> Measurement:
        """One selection; ``repeat`` takes the cycle's place, so that each repeat draws anew."""
        view = CycleView(
            pool=self.pool,
            labelled=self.labelled,
            is_labelled=self.is_labelled,
            learner=self.learner,
            n_classes=self.n_classes,
            cycle=repeat,
            seed=self.seed,
        )
        if isinstance(self.pool, _AttributedPool):
            self.pool.stopwatch = view.stopwatch
        with _peak_memory(self.pool.device) as peak, view.stopwatch.phase("other"):
            query = self.strategy.select(view, query_size)
        check_query(query, view, query_size, self.name)
        phases = dict(view.stopwatch.seconds)
        return Measurement(
            kind="select",
            name=self.name,
            n=self.pool.n,
            query_size=query_size,
            repeat=repeat,
            seconds=sum(s for phase, s in phases.items() if phase not in NOT_SELECTION),
            phases=phases,
            work=dict(sorted(view.work.counts.items())),
            peak_host_bytes=peak.host,
            peak_device_bytes=peak.device,
            residency=self.pool.residency,
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
    learner = source.fitted(
        source.factory(), source.task.pool, source.labelled(source.task.data, source.task.pool.n)
    )
    stages: dict[tuple[str, int], _Stage] = {}
    slowest: dict[str, float] = {}  # seconds of the last warm-up
    for n in dict.fromkeys(n for _, n, _, _ in wanted):
        data, pool = source.enlarged(n)
        for name in dict.fromkeys(name for name, size, _, _ in wanted if size == n):
            progress(f"prepare {name} on {n:,}", 0, 1)
            stage = stages[name, n] = _Stage(source, name, data, pool, learner)
            entries = stage.ledger.entries
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
            phases=stopwatch.seconds,
            work=work.counts,
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
