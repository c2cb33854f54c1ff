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

import pytest

from alharness.api.running import places_of
from alharness.engine.runner import execute
from alharness.files import merge
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
