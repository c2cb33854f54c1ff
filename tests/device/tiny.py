"""Runs so small that every strategy can have one on a device that computes operation by operation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from pretended_cuda import Counts, PretendedDevice

from alharness.api.running import places_of
from alharness.border.guard import Guard
from alharness.engine.runner import execute
from alharness.records import QueryLog, RunFolder
from alharness.spec import RunSpec, resolve
from alharness.timing import Stopwatch

#: Classifiers. The CNN is one without dropout: its masks are another device's random numbers.
LEARNERS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "max_iterations": 10},
    "cnn": {"kind": "strided-cnn", "width": 4},
}
FEW_STEPS = {"min_steps": 8, "epochs": 1, "batch_size": 10}
NETWORKS = {
    "generator": {"steps": 3, "width": 8, "batch_size": 8},
    "autoencoder": {"steps": 3, "width": 8, "batch_size": 8},
}
#: Parameters of strategies whose defaults mean thousands of steps.
PARAMETERS: dict[str, dict[str, Any]] = {
    "adba": {"encoder_steps": 3, "refine_steps": 3},
    "adba-boundary": {"encoder_steps": 3, "refine_steps": 3},
    "gaal": {"latent_steps": 4},
    "greedy-bound": {"n_candidates": 3},
    "vaal": {"train_steps": 3, "batch_size": 8},
}
#: Strategies that compare several sets of parameters.
COMMITTEES = ("bald", "batch-bald", "qbc")


def spec(name: str, learner: str, device: str, **settings: Any) -> RunSpec:
    """Two queries of five digits; ``settings`` as in a spec file."""
    committee = {"members": 2} if name in COMMITTEES else {}
    return resolve(
        {
            "task": "digits-two",
            "strategy": {"name": name, **parameters_of(name)},
            "device": device,
            "seed": 1,
            "initial_size": 30,
            "query_size": 5,
            "budget": 40,
            "learner": LEARNERS[learner] | FEW_STEPS | committee,
            **NETWORKS,
            **settings,
        }
    )


def parameters_of(strategy: str) -> Mapping[str, Any]:
    """What makes a strategy small."""
    if strategy.startswith("asal"):
        return {"latent_steps": 4}
    return PARAMETERS.get(strategy, {})


def run(wanted: RunSpec, root: Path, **options: Any) -> RunFolder:
    """A run below ``root``."""
    return execute(wanted, places_of(root, None), **options)


def course(folder: RunFolder) -> list[Any]:
    """All of a run that another one can be compared with bit by bit."""
    return [
        (record.n_labelled, record.query.digest if record.query else None, record.test.model_dump())
        for record in folder.records()
    ]


def assert_similar(one: RunFolder, other: RunFolder) -> None:
    """Two runs ask about nearly the same: pool items but for a tie, synthetic ones but for rounding."""
    logs = QueryLog.read(one.queries), QueryLog.read(other.queries)
    assert len(one.records()) == len(other.records())
    for cycle in range(-1, len(one.records()) - 1):
        ours, theirs = (log.rows("asked", cycle) for log in logs)
        if ours is not None and theirs is not None:
            shared = len(np.intersect1d(ours, theirs))
            assert shared >= len(ours) - 1, (
                f"cycle {cycle}: {shared} of {len(ours)} items are the same: {ours} and {theirs}"
            )
        ours, theirs = (log.rows("items", cycle) for log in logs)
        if ours is not None and theirs is not None:
            apart = np.abs(ours.astype(float) - theirs.astype(float))
            scale = max(1.0, float(np.abs(ours).max()))
            assert (apart > 0.05 * scale).mean() < 0.1, f"cycle {cycle}: synthetic items differ"


def images(n: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """uint8 noise ``[n, *shape]``."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, *shape), generator=rng, dtype=torch.uint8)


@contextmanager
def counted_selections(device: PretendedDevice) -> Iterator[list[dict[str, Counts]]]:
    """Counts by phase of every selection made in the ``with`` block, as a stopwatch has seconds."""
    found: list[dict[str, Counts]] = []
    names: list[str] = []
    phase = Stopwatch.phase
    since = device.counts.copy()

    def border() -> None:
        nonlocal since
        if names:
            before = found[-1].get(names[-1], Counts())
            found[-1][names[-1]] = before.plus(device.counts.since(since))
        since = device.counts.copy()

    @contextmanager
    def counted(stopwatch: Stopwatch, name: str) -> Iterator[None]:
        border()
        if not names:
            found.append({})
        names.append(name)
        with phase(stopwatch, name):
            try:
                yield
            finally:
                border()
                names.pop()

    # Asking again with the same view, as a guard does at times, would count as further selections.
    once = mock.patch.object(Guard, "_may_look", return_value=False)
    with once, mock.patch.object(Stopwatch, "phase", counted):
        yield found


def together(selection: Mapping[str, Counts]) -> Counts:
    """Counts of a whole selection."""
    total = Counts()
    for counts in selection.values():
        total = total.plus(counts)
    return total
