"""Runs that take long, or many at once: memory does not grow, answers are kept, places are shared."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from alharness.artefacts import ArtefactStore
from alharness.cli import call
from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.records import CycleRecord, RunFolder, run_folders
from alharness.spec import RunSpec, resolve
from alharness.tasks.base import DataLocations
from alharness.tracking import RunView, default_uri, open_tracking


class Scales:
    """Weighs the process after every cycle."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.bytes: list[int] = []

    def started(self, spec: RunSpec, folder: RunFolder, done: Sequence[CycleRecord]) -> None:
        pass

    def cycle(self, record: CycleRecord) -> None:
        gc.collect()
        self.bytes.append(self.process.memory_info().rss)

    def finished(self, folder: RunFolder, records: Sequence[CycleRecord]) -> None:
        pass


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("strategy", ["random", "max-entropy", "core-set", "badge"])
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_memory_does_not_grow_over_two_hundred_cycles(
    strategy: str, kind: str, tmp_path: Path, place_store: Any
) -> None:
    spec = resolve(
        {
            "task": "digits-two",
            "strategy": strategy,
            "device": "cpu",
            "learner": {"kind": kind} if kind == "linear" else {"kind": kind, "min_steps": 20},
            "budget": 220,
            "query_size": 1,
            "initial_size": 20,
        }
    )
    uri = place_store(tmp_path)
    scales, said = Scales(), list[str]()
    observer = RunView(uri, "memory", said.append)
    places = Places(tmp_path, DataLocations.resolve())
    execute(spec, places, observers=[observer, scales])
    assert len(scales.bytes) == 201
    middle, end = np.median(scales.bytes[50:100]), np.median(scales.bytes[-50:])
    print(f"{strategy}, {kind}: {(end - middle) / 1e6:.1f} MB in 100 cycles")
    # 100 more labels of 64 floats, their rows and records are a few hundred kilobytes.
    assert end - middle < 4e6


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_runs_at_once_on_an_empty_folder_make_one_generator_and_one_database(
    nursery: Any, tmp_path: Path
) -> None:
    command = "run --dataset digits-two --strategy asal-auto --device cpu --quiet --budget 30"
    command += " --query-size 10 --initial-size 20 --set generator.steps=100"
    command += f" --set autoencoder.steps=100 --runs-dir {tmp_path} --seed "
    children = [
        nursery.start(f"{command}{number}".split(), tmp_path / str(number)) for number in range(20)
    ]
    for child in children:
        assert child.wait() == 0, child.printed
        assert "Traceback" not in child.printed
    store = ArtefactStore(tmp_path / "artefacts")
    assert len(store.finished("generator")) == 1
    assert len(store.finished("autoencoder")) == 1
    assert store.unfinished() == []
    assert not list(tmp_path.glob("*.broken-*"))
    assert not list(tmp_path.glob("*.partial*"))
    folders = run_folders(tmp_path)
    assert len(folders) == 20
    assert all(folder.is_finished() for folder in folders)
    # Whoever waited too long for the others said so; the view is whole after a sync.
    assert call(["sync", "--runs-dir", str(tmp_path)]) == 0
    tracking = open_tracking(default_uri(tmp_path))
    shown = {
        run.data.tags["alharness.run_key"]: [
            point.step for point in tracking.client.get_metric_history(run.info.run_id, "accuracy")
        ]
        for run in tracking.client.search_runs([tracking.experiment_id])
    }
    assert shown == {folder.path.name: [20, 30] for folder in folders}


HUMAN = (
    "run --strategy max-entropy --dataset digits-two --oracle human --initial-size 20 --device cpu"
)
HUMAN += " --query-size 3 --budget 26 --no-tracking --quiet"


def fill(table: Path, *answers: str) -> None:
    """As a person does it: from the first row on, as far as the answers go."""
    lines = table.read_text(encoding="utf-8").splitlines()
    for number, answer in enumerate(answers, start=3):
        lines[number] = f"{lines[number].split(',')[0]},{answer}"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("step", [15, pytest.param(1, marks=pytest.mark.slow)])
def test_a_person_who_is_interrupted_keeps_every_answer(
    nursery: Any, step: int, tmp_path: Path
) -> None:
    """The command dies at each of its writes, with a table that is empty, half full and full."""
    answers = {"cycle_0000.csv": ("5", "7", "skip"), "cycle_0001.csv": ("5", "5", "7")}

    def life(root: Path, deadly: bool) -> list[dict[str, Any]]:
        command = [*HUMAN.split(), "--runs-dir", str(root)]

        def until(code: int) -> None:
            """Give the command again and again, each time it lives for more writes."""
            death = 1 if deadly else 0
            while True:
                child = nursery.start(command, root, death=death)
                found = child.wait()
                for table in root.rglob("cycle_*.csv"):
                    if table.name in held:
                        assert table.read_bytes() == held[table.name], "a table was written again"
                if found >= 0:
                    assert found == code, child.printed
                    return
                death += step

        held: dict[str, bytes] = {}
        for name, given in answers.items():
            until(2)
            (table,) = root.rglob(name)
            for n in (1, 3):
                fill(table, *given[:n])
                held[name] = table.read_bytes()
                if n == 1:
                    until(2)
        until(0)
        (folder,) = run_folders(root)
        return [record.without_times() for record in folder.records()]

    assert life(tmp_path / "deadly", True) == life(tmp_path / "calm", False)
