"""Keys, artefacts and stopped runs of version 0.1.0 (3acf572) survive every move of code.

``stopped-run-of-0.1.0.tar`` is a run folder with its artefacts, stopped after one cycle of asal-auto on
digits-two by that version; ``keys-of-0.1.0.json`` holds its whole course, and run and artefact keys of
every task.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from alharness import registry
from alharness.api.running import places_of
from alharness.artefacts import artefact_key
from alharness.engine.runner import execute
from alharness.generative.making import networks_identity
from alharness.spec import resolve

HERE = Path(__file__).parent
GOLDEN: dict[str, Any] = json.loads((HERE / "keys-of-0.1.0.json").read_text(encoding="utf-8"))

#: What the stopped run was begun with.
STOPPED = {
    "task": "digits-two",
    "strategy": "asal-auto",
    "device": "cpu",
    "budget": 35,
    "query_size": 5,
    "initial_size": 20,
    "learner": {"solver": "lbfgs"},  # the recipe of that version, which it does not record
    "generator": {"steps": 5, "width": 8, "latent_dim": 8},
    "autoencoder": {"steps": 5, "width": 8, "code_dim": 8},
}
RUN_KEYS = [key for key in GOLDEN["keys"] if key.split()[1] not in ("generator", "autoencoder")]
ARTEFACT_KEYS = [key for key in GOLDEN["keys"] if key not in RUN_KEYS]


def shape_of(task: str) -> tuple[int, ...]:
    if task.startswith("digits"):
        return (1, 8, 8)
    if "mnist" in task:
        return (1, 28, 28)
    return (3, 32, 32) if task.startswith(("cifar", "svhn")) else (3, 64, 64)


def test_run_keys_stay() -> None:
    for name in RUN_KEYS:
        task, strategy, profile = name.split()
        given = {"task": task, "strategy": strategy, "profile": profile, "device": "cpu", "seed": 3}
        spec = resolve(given)
        if spec.learner.kind == "linear":
            spec = resolve({**given, "learner": {"solver": "lbfgs"}})
        assert spec.run_key == GOLDEN["keys"][name], name


def test_artefact_keys_stay() -> None:
    for name in ARTEFACT_KEYS:
        task, kind, profile = name.split()
        shape = shape_of(task)
        spec = resolve({"task": task, "strategy": "random", "profile": profile, "device": "cpu"})
        if kind == "generator":
            recipe = spec.generator.resolve(profile, shape, task)
            identity = networks_identity(recipe, shape, "fingerprint")
        else:
            other = spec.autoencoder.resolve(profile, shape, task)
            identity = networks_identity(other, shape, "fingerprint")
        assert artefact_key(kind, identity) == GOLDEN["keys"][name], name


@pytest.mark.parametrize("task", ["digits-two", "digits-ten"])
def test_fingerprints_of_data_stay(task: str, tmp_path: Path) -> None:
    data = registry.resolve_task(task).load(places_of(tmp_path, None).locations)
    assert data.fingerprint == GOLDEN["fingerprints"][task]


def test_a_stopped_run_of_the_old_version_goes_on(tmp_path: Path) -> None:
    with tarfile.open(HERE / "stopped-run-of-0.1.0.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    spec = resolve(STOPPED)
    where = places_of(tmp_path / "runs", None)
    before = (spec.folder(where.runs_dir) / "cycles.jsonl").read_text(encoding="utf-8")
    artefacts = sorted(where.store_root.glob("*/*/meta.json"))

    newton = resolve({**STOPPED, "learner": {"solver": "newton"}})
    assert newton.folder(where.runs_dir) != spec.folder(
        where.runs_dir
    )  # never goes on with another
    folder = execute(spec, where)

    assert folder.cycles.read_text(encoding="utf-8").startswith(before)  # not begun anew
    assert sorted(where.store_root.glob("*/*/meta.json")) == artefacts  # nothing was built anew
    found = [
        {
            "n_labelled": record.n_labelled,
            "labelled": record.labelled_digest,
            "query": record.query.digest if record.query else None,
            "accuracy": round(record.test.accuracy, 6),
        }
        for record in folder.records()
    ]
    assert found == GOLDEN["course"]
    asked = [record for record in folder.records() if record.query]
    assert [record.is_cold for record in asked] == [True, True, False]  # the first of two sessions
