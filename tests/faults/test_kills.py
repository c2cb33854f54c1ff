"""Killed at any moment and at any write, again and again: the same command goes on, and nothing is lost.

A story is a command and what it leaves. Each life of it begins in a new folder and is killed several
times before it may finish; what was complete at a kill must be there after it, and the end must be that
of a life without a kill. The campaigns: ``pytest tests/faults/test_kills.py -m slow`` (100 kills each;
``ALHARNESS_KILLS=1000`` for more). A conversion is killed in ``tests/data/test_conversion_kills.py``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from alharness.artefacts import ArtefactStore
from alharness.artefacts.store import META
from alharness.cli import call
from alharness.records import QueryLog, run_folders
from alharness.tracking import default_uri, open_tracking

N_LONG = int(os.environ.get("ALHARNESS_KILLS", "100"))

#: In the ordinary suite, and in the campaign.
times = pytest.mark.parametrize("times", [1, pytest.param(N_LONG, marks=pytest.mark.slow)])

SIZES = "--device cpu --quiet --query-size 5 --initial-size 20"


@dataclass(frozen=True)
class Story:
    """A command whose lives are ended early.

    Attributes:
        arguments: the command, without ``--runs-dir``.
        complete: what may not be lost of a folder, as named contents that only ever grow.
        result: what a finished folder says, without times.
        kills: how often one life is killed before it may finish.
        settings: see ``Nursery.start``.
        workers: kill its worker processes too.
    """

    arguments: str
    complete: Callable[[Path], Mapping[str, bytes]]
    result: Callable[[Path], Any]
    kills: int = 4
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    workers: bool = False

    def start(self, nursery: Any, root: Path, death: int = 0) -> Any:
        command = [*self.arguments.split(), "--runs-dir", str(root)]
        return nursery.start(command, root, death=death, settings=self.settings)


def killed(story: Story, nursery: Any, folder: Path, times: int, prepare: Any) -> None:
    """Kill a story so many times, half of them at a moment and half at a write."""
    rng = np.random.default_rng(int(os.environ.get("ALHARNESS_SEED", "0")))
    prepare(folder / "whole")
    whole = story.start(nursery, folder / "whole")
    assert whole.wait() == 0, whole.printed
    seconds = time.monotonic() - whole.began
    expected = story.result(folder / "whole")
    done = life = 0
    while done < times:
        life += 1
        root = folder / f"life{life}"
        prepare(root)
        before: Mapping[str, bytes] = {}
        for _ in range(min(story.kills, times - done)):
            child = _killed(story, nursery, root, rng, seconds, whole.n_writes)
            if child.wait() not in (-signal.SIGKILL, 1 if story.workers else -signal.SIGKILL):
                break  # it was faster
            done += 1
            after = story.complete(root)
            for name, content in before.items():
                assert after[name].startswith(content), f"{name} of life {life} lost records"
            before = after
        last = story.start(nursery, root)
        assert last.wait() == 0, last.printed
        assert "Traceback" not in last.printed
        after = story.complete(root)
        assert all(after[name].startswith(content) for name, content in before.items())
        found = story.result(root)
        assert found == expected, f"life {life} in {root} ended otherwise: {told(found, expected)}"
        print(
            f"{done} kills in {life} lives of {seconds:.1f} s and {whole.n_writes} writes",
            flush=True,
        )


def _killed(
    story: Story, nursery: Any, root: Path, rng: np.random.Generator, seconds: float, n: int
) -> Any:
    """A child that was killed, unless it was faster."""
    if rng.random() < 0.5:
        child = story.start(nursery, root, death=int(rng.integers(1, n + 1)))
        child.wait()
        return child
    child = story.start(nursery, root)
    if child.wait(float(rng.uniform(0, seconds))) is None:
        workers = psutil.Process(child.process.pid).children() if story.workers else []
        if workers and rng.random() < 0.5:
            workers[0].kill()
        else:
            child.process.kill()
        child.wait()
    return child


def told(found: Any, expected: Any, place: str = "") -> str:
    """Where two results differ first, in words."""
    if isinstance(found, dict | list | tuple) and type(found) is type(expected):
        pairs = found.items() if isinstance(found, dict) else enumerate(found)
        if len(found) == len(expected):
            for key, value in pairs:
                if value != expected[key]:
                    return told(value, expected[key], f"{place}/{key}")
    return f"{place}: {str(found)[:300]} instead of {str(expected)[:300]}"


def lines(root: Path) -> dict[str, bytes]:
    """Complete lines of all records, as they stand."""
    found = {}
    for path in root.rglob("cycles.jsonl"):
        content = path.read_bytes()
        found[str(path.relative_to(root))] = content[: content.rfind(b"\n") + 1]
    return found


def histories(root: Path) -> dict[str, Any]:
    """Every run below a folder: its records without times, and every row that was asked."""
    found = {}
    for folder in run_folders(root):
        assert folder.is_finished()
        log = QueryLog.read(folder.queries)
        rows = {
            (name, cycle): log.rows(name, cycle).tobytes()  # type: ignore[union-attr]
            for name in log.names()
            for cycle in log.cycles(name)
        }
        records = [record.without_times() for record in folder.records()]
        found[str(folder.path.relative_to(root))] = (records, rows)
    return found


def in_view(root: Path) -> dict[str, dict[int, float]]:
    """Accuracy by step of every run in MLflow, no point twice."""
    tracking = open_tracking(default_uri(root))
    found = {}
    for run in tracking.client.search_runs([tracking.experiment_id]):
        points = tracking.client.get_metric_history(run.info.run_id, "accuracy")
        assert len({point.step for point in points}) == len(points)
        found[run.data.tags["alharness.run_key"]] = {p.step: p.value for p in points}
    return found


def histories_and_view(root: Path) -> Any:
    """The records, which MLflow shows, at the latest after a sync."""
    assert call(["sync", "--runs-dir", str(root)]) == 0
    shown = {
        folder.path.name: {record.n_labelled: record.test.accuracy for record in folder.records()}
        for folder in run_folders(root)
    }
    assert in_view(root) == shown
    assert not list(root.glob("*.broken-*")), "no kill may break the view"
    return histories(root)


def artefacts(root: Path) -> dict[str, Any]:
    """What was trained: the bytes of all weights, and what was measured of them."""
    found = {}
    for artefact in ArtefactStore(root / "artefacts").finished():
        weights = {
            name: entry["sha256"]
            for name, entry in artefact.meta["files"].items()
            if name.endswith(".safetensors")
        }
        assert weights
        found[artefact.key] = (artefact.kind, weights, artefact.meta["identity"])
    assert len(found) == 2
    return found


def finished_artefacts(root: Path) -> dict[str, bytes]:
    store = ArtefactStore(root / "artefacts")
    return {artefact.key: (artefact.path / META).read_bytes() for artefact in store.finished()}


def nothing(root: Path) -> None:
    """A life that begins with no folder at all."""


FIRST = Story(
    f"run --dataset digits-two --strategy random --budget 30 {SIZES}",
    lines,
    histories_and_view,
    kills=1,
)
RUN = Story(
    f"run --dataset digits-two --strategy max-entropy --budget 60 {SIZES}",
    lines,
    histories_and_view,
)
TRAINING = Story(
    "generator train digits-two --device cpu --quiet --set generator.steps=300 --set generator.width=16"
    " --set autoencoder.steps=300 --set autoencoder.width=16",
    finished_artefacts,
    artefacts,
    settings={
        "alharness.generative.training:train": {"checkpoint_s": 0.1},
    },
)
SWEEP = Story(
    "sweep --strategies random,max-entropy --datasets digits-two --seeds 0-1 --no-tracking --threads 1"
    " --set budget=40 --set device=cpu",
    lines,
    histories,
    workers=True,
)


@times
@pytest.mark.timeout(7200)  # for the campaign
def test_killed_while_a_runs_folder_is_first_made(nursery: Any, times: int, tmp_path: Path) -> None:
    killed(FIRST, nursery, tmp_path, times, nothing)


@times
@pytest.mark.timeout(7200)
def test_a_run_killed(nursery: Any, times: int, tmp_path: Path, place_store: Any) -> None:
    killed(RUN, nursery, tmp_path, times, place_store)


@times
@pytest.mark.timeout(7200)
def test_training_of_networks_killed(nursery: Any, times: int, tmp_path: Path) -> None:
    killed(TRAINING, nursery, tmp_path, times, nothing)


@pytest.mark.slow  # the ordinary suite kills one in tests/analysis/test_executor_local.py
@pytest.mark.timeout(7200)
def test_a_sweep_killed(nursery: Any, tmp_path: Path) -> None:
    killed(SWEEP, nursery, tmp_path, N_LONG, nothing)
