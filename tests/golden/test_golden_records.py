"""Golden records: a refactor must ask the same questions and learn the same from the answers.

The files beside this test hold the whole course of short CPU runs: the digest of every query and the
number of correct test items. They were written by ``ALHARNESS_GOLDEN=write``; a change that moves
them on purpose says so in CHANGELOG.md. They were written with L-BFGS, which stops a little above the
optimum that Newton's method reaches: both ask the same. Queries are decided by float32 and float64
arithmetic on well separated scores, which has been the same on every machine so far.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from alharness.api.running import places_of
from alharness.engine.runner import execute
from alharness.files import flatten, merge
from alharness.spec import resolve

HERE = Path(__file__).parent

RUNS = {
    "random": ("digits-two", {}),
    "max-entropy": ("digits-two", {}),
    "margin": ("digits-ten", {"learner": {"kind": "linear"}, "budget": 120, "query_size": 20}),
    "core-set": ("digits-ten", {"learner": {"kind": "linear"}, "budget": 120, "query_size": 20}),
    "subset:100:max-entropy": ("digits-two", {}),
}


@pytest.mark.parametrize("solver", ["lbfgs", "newton"])
@pytest.mark.parametrize("strategy", RUNS)
def test_the_same_course_as_ever(strategy: str, solver: str, tmp_path: Path) -> None:
    task, settings = RUNS[strategy]
    asked = {"task": task, "strategy": strategy, "seed": 1, "device": "cpu"}
    spec = resolve(merge(asked, settings, {"learner": {"solver": solver}}))
    folder = execute(spec, places_of(tmp_path, None))
    found = [
        {
            "n_labelled": record.n_labelled,
            "labelled": record.labelled_digest,
            "query": record.query.digest if record.query else None,
            "accuracy": round(record.test.accuracy, 6),
            "entropy": round(record.query.entropy_mean, 4) if record.query else None,
        }
        for record in folder.records()
    ]
    path = HERE / f"{task}-{strategy.replace(':', '-')}.json"
    if os.environ.get("ALHARNESS_GOLDEN") == "write":
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    expected = json.loads(path.read_text(encoding="utf-8"))
    for ours, golden in zip(found, expected, strict=True):
        entropies = ours.pop("entropy"), golden.pop("entropy")
        assert ours == golden
        if entropies[0] is not None:
            assert entropies[0] == pytest.approx(entropies[1], abs=2e-4)


#: Of a machine, a moment or a version, and no figure of the run.
FLEETING = {
    "versions", "hardware", "arithmetic", "git_commit", "started_ms", "distribution", "ts_ms", "files",
    "forecast", "sha256", "rows", "learner_digest", "steps", "classes", "load",
    "paused_s",
}  # fmt: skip


def without(told: Any, *, times: bool = False) -> Any:
    """What is told without what differs from one machine, or one hour, to the next; of seconds, whether."""
    if isinstance(told, dict):
        return {
            key: without(value, times=times or key == "time")
            for key, value in told.items()
            if key not in FLEETING
        }
    if isinstance(told, list):
        return [without(value, times=times) for value in told]
    if times and isinstance(told, float):
        return "seconds"
    return float(f"{told:.4g}") if isinstance(told, float) else told


@pytest.mark.parametrize("strategy", ["margin", "badge"])
def test_all_that_a_run_writes_of_itself(strategy: str, tmp_path: Path) -> None:
    """Facts and records, field by field: with an annotator that slips, and a start by classes."""
    asked = {
        "task": "digits-ten", "strategy": strategy, "seed": 2, "data_seed": 5, "device": "cpu", "budget": 75,
        "query_size": 20, "initial_size": 30, "initial": "stratified", "oracle": {"noise": 0.2},
        "learner": {"kind": "linear"},
    }  # fmt: skip
    folder = execute(resolve(asked), places_of(tmp_path, None))
    facts = json.loads(folder.env.read_text())
    found = {
        "facts": without(facts),
        "records": [without(record.model_dump(mode="json")) for record in folder.records()],
    }
    path = HERE / f"all-of-{strategy}.json"
    if os.environ.get("ALHARNESS_GOLDEN") == "write":
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(path.read_text(encoding="utf-8"))
    ours, then = flatten(listed(found)), flatten(listed(golden))
    assert ours.keys() == then.keys()
    for place, value in ours.items():
        is_near = isinstance(value, float)
        assert value == (pytest.approx(then[place], rel=2e-3) if is_near else then[place]), place


def listed(told: Any) -> Any:
    """Lists as tables by number, so that each value has a place of its own."""
    if isinstance(told, list):
        told = {str(number): value for number, value in enumerate(told)}
    return {key: listed(value) for key, value in told.items()} if isinstance(told, dict) else told
