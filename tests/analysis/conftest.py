"""Run folders as a run leaves them, made up: what analysis reads, without training anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from alharness.files import write_json
from alharness.pictures.charts import Chart
from alharness.records import (
    INITIAL,
    AnnotationFigures,
    CycleRecord,
    FitFigures,
    QueryFigures,
    QueryLog,
    RunFolder,
    TestFigures,
    Times,
)

POOL = 1000


class RunsMaker:
    """Writes run folders below ``root``; everything has a default that a test may change."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(
        self,
        strategy: str = "random",
        seed: int = 0,
        accuracy: Sequence[float] = (0.7, 0.8, 0.9),
        *,
        task: str = "digits-two",
        parameters: Mapping[str, Any] | None = None,
        bound: bool = False,
        finished: bool = True,
        initial_size: int = 50,
        query_size: int = 10,
        entropy: float = 0.1,
        select_s: float = 0.01,
        preparation: Sequence[Mapping[str, Any]] = (),
        labels_per_query: int = 1,
        n_classes: int = 2,
        undefined: Sequence[str] = (),
        precision_of: str | None = None,
        start: str | None = None,
        learner: str | None = None,
        protocol: Mapping[str, str] | None = None,
        hardware: Mapping[str, Any] | None = None,
        sessions: Sequence[Mapping[str, Any]] = ({},),
        task_facts: Mapping[str, Any] | None = None,
        spec: Mapping[str, Any] | None = None,
        failure: str | None = None,
        diagnostics: Mapping[str, float] | None = None,
        rows: Mapping[str, Sequence[int]] | None = None,
    ) -> Path:
        n_cycles = len(accuracy) - 1
        budget = initial_size + n_cycles * query_size
        resolved = {
            "task": {"name": task},
            "strategy": {"name": strategy, **(parameters or {})},
            "profile": "quick",
            "seed": seed,
            "data_seed": seed,
            "budget": budget,
            "query_size": query_size,
            "initial_size": initial_size,
            **(spec or {}),
        }
        key = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:16]
        folder = RunFolder(self.root / task / strategy.replace(":", "-") / key)
        folder.path.mkdir(parents=True)
        folder.spec.write_text(tomli_w.dumps(resolved))
        write_json(
            folder.env,
            {
                "protocol": {
                    "budget": str(budget),
                    "query_size": str(query_size),
                    **(protocol or {}),
                },
                "versions": {"alharness": "0.1.0"},
                "hardware": {"cpu": "a processor", "threads": 1, **(hardware or {})},
                "task": {
                    "fingerprint": f"data of {task}",
                    "class_names": ["zero", "one"],
                    "n_pool": POOL,
                    "n_test": 100,
                    "test_counts": [50, 50],
                    "synthetic": False,
                    **(task_facts or {}),
                },
                "strategy": {"distribution": "alharness 0.1.0"},
                "sessions": list(map(dict, sessions)),
            },
        )
        log = QueryLog()
        log.add(INITIAL, {"indices": np.arange(initial_size)})
        for cycle in range(n_cycles):
            log.add(cycle, {name: np.array(values) for name, values in (rows or {}).items()})
        log.write(folder.queries)
        if failure is not None:
            write_json(folder.path / "failure.json", {"reason": failure})
        values = accuracy[:1] if bound else accuracy
        lines = []
        for cycle, value in enumerate(values):
            last = cycle == len(values) - 1
            lines.append(
                CycleRecord(
                    cycle=cycle,
                    n_labelled=POOL
                    if bound
                    else initial_size + cycle * query_size * labels_per_query,
                    n_asked=POOL if bound else initial_size + cycle * query_size,
                    n_synthetic=0,
                    cost=float(initial_size + cycle * query_size),
                    labelled_digest=start or f"start-{seed}-{cycle}",
                    learner_digest=learner or f"learner-{seed}-{cycle}",
                    fit=FitFigures(steps=10, train_loss=0.1, converged=True),
                    test=TestFigures(
                        accuracy=value,
                        balanced_accuracy=value - 0.1,
                        macro_f1=value - 0.1,
                        average_precision=value - 0.2,
                        log_loss=1 - value,
                        average_precision_of=precision_of,
                    ).model_copy(update=dict.fromkeys(undefined)),
                    query=None
                    if last and finished
                    else QueryFigures(
                        kind="pool",
                        size=query_size,
                        entropy_mean=entropy,
                        entropy_median=entropy,
                        digest="d",
                        diagnostics=dict(diagnostics or {}),
                    ),
                    annotation=None
                    if last and finished
                    else AnnotationFigures(
                        n_asked=query_size,
                        n_rejected=0,
                        n_labels=query_size,
                        cost=float(query_size),
                        class_histogram=[
                            query_size // 2,
                            query_size - query_size // 2,
                            *[0] * (n_classes - 2),
                        ],
                    ),
                    work={"pool_items_scored": 100},
                    time=Times(
                        fit_s=0.1,
                        evaluate_s=0.01,
                        select_s=None if last and finished else select_s,
                        annotate_s=None if last and finished else 0.0,
                        harness_s=0.0,
                        phases={} if last and finished else {"score": select_s},
                        preparation=list(map(dict, preparation)) if cycle == 0 else None,
                    ),
                    ts_ms=1_800_000_000_000 + cycle,
                    final=last and finished,
                ).model_dump_json()
            )
        folder.cycles.write_text("".join(line + "\n" for line in lines))
        return folder.path


@pytest.fixture(scope="session")
def runs_maker() -> type[RunsMaker]:
    """For fixtures that make their runs once for a whole file."""
    return RunsMaker


@pytest.fixture
def make_run(tmp_path: Path) -> RunsMaker:
    """``make_run(strategy, seed, accuracies, ...)`` writes one run folder below ``tmp_path/runs``."""
    return RunsMaker(tmp_path / "runs")


def sweep_of(make_run: RunsMaker) -> Callable[..., Path]:
    """Writes whole comparisons with a known gain of every strategy over ``random``, and the bound."""

    def make(
        gains: Mapping[str, float],
        n_seeds: int = 8,
        *,
        noise: float = 0.004,
        task: str = "digits-two",
        n_cycles: int = 8,
        **settings: Any,
    ) -> Path:
        rng = np.random.default_rng(len(task))
        base = 0.95 - 0.25 * np.exp(-np.arange(n_cycles + 1) / 2.5)
        for seed in range(n_seeds):
            shared = rng.normal(0, noise, n_cycles + 1)
            for name, gain in gains.items():
                curve = base + gain * (1 - np.exp(-np.arange(n_cycles + 1))) + shared
                curve[1:] += rng.normal(0, noise, n_cycles)
                generator = name.startswith("asal")
                make_run(
                    name,
                    seed,
                    [float(v) for v in np.clip(curve, 0, 1)],
                    task=task,
                    entropy=0.2 if gain > 0 else 0.1,
                    select_s=0.02 if generator else 0.2 if name == "max-entropy" else 0.001,
                    preparation=[
                        {
                            "name": "generator",
                            "seconds": 3.0,
                            "cached": seed > 0,
                            "load_s": 0.1,
                            "details": {"frechet_distance": 12.5, "steps": 2500},
                        }
                    ]
                    if generator
                    else [],
                    **settings,
                )
        make_run("full", 0, [0.97] * (n_cycles + 1), task=task, bound=True, **settings)
        return make_run.root

    return make


@pytest.fixture(scope="session")
def sweep_maker() -> Callable[[Path], Callable[..., Path]]:
    """``sweep_maker(root)`` is a ``make_sweep`` for fixtures that make their runs once for a whole file."""
    return lambda root: sweep_of(RunsMaker(root))


@pytest.fixture
def make_sweep(make_run: RunsMaker) -> Callable[..., Path]:
    """A whole comparison with a known gain of every strategy over ``random``, and the bound."""
    return sweep_of(make_run)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without their pictures, which take seconds."""
    monkeypatch.setattr(Chart, "svg", "<svg></svg>")
    monkeypatch.setattr(Chart, "png", b"")


BROKEN = '''
import os, signal
from alharness.strategy import PoolQuery, Strategy

class Raises(Strategy):
    """Raises in its second cycle."""
    def select(self, view, query_size):
        if view.cycle == 1:
            raise KeyError("lost item")
        return PoolQuery(view.unlabelled[:query_size])

class Dies(Strategy):
    """Takes its process, and whatever runs in it, with it in its second cycle."""
    def select(self, view, query_size):
        if view.cycle == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return PoolQuery(view.unlabelled[:query_size])
'''


@pytest.fixture
def broken() -> Callable[[Path], object]:
    """Writes two strategies that end badly: ``Raises`` and ``Dies``."""
    return lambda path: path.write_text(BROKEN)
