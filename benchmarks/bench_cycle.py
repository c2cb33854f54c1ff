"""The selection of whole cycles on growing pools: what depends on the pool and what must not."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.scaling.gates import gate_slope, gate_work
from alharness.scaling.measure import run_study
from alharness.scaling.study import ScalingSpec, Study
from alharness.spec import resolve
from alharness.tasks.base import DataLocations

SIZES = (1_000, 3_000, 10_000, 30_000)
STRATEGIES = ("random", "max-entropy", "subset:500:max-entropy", "asal-gray", "asal-auto")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Selections from variations of scikit-learn's digits, with untrained networks."""
    root = tmp_path_factory.mktemp("study")
    spec = ScalingSpec(
        task="digits-two",
        strategies=STRATEGIES,
        sizes=SIZES,
        repeats=5,
        device="cpu",
        networks="untrained",
    )
    return run_study(spec, Places(root / "runs", DataLocations.resolve()), root / "timing")


def counts(study: Study, name: str) -> dict[int, dict[str, int]]:
    return {m.n: m.work for m in study.measurements if m.name == name and m.kind == "select"}


def seconds(study: Study, name: str, *phases: str) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for m in study.measurements:
        if m.name == name and m.kind == "select":
            found[m.n].append(sum(m.phases[phase] for phase in phases) if phases else m.seconds)
    return found


@pytest.mark.parametrize("name", STRATEGIES)
def test_cycles(benchmark: Any, tmp_path: Path, name: str) -> None:
    """Five whole cycles of a run with its records; generator and features are ready made."""
    spec = resolve(
        {
            "task": "digits-two",
            "strategy": name,
            "device": "cpu",
            "budget": 90,
            "generator": {"steps": 5},
            "autoencoder": {"steps": 5},
        }
    )
    places = Places(tmp_path, DataLocations.resolve())
    benchmark.pedantic(
        execute, (spec, places), {"fresh": True}, rounds=3, warmup_rounds=1, iterations=1
    )


@pytest.mark.regress
def test_max_entropy_works_on_every_item(study: Study) -> None:
    gate_work(counts(study, "max-entropy"), linear=["pool_items_scored", "bytes_read"])


@pytest.mark.regress
@pytest.mark.parametrize("name", ["asal-gray", "asal-auto"])
def test_asal_works_on_the_pool_in_matching_only(study: Study, name: str) -> None:
    found = {
        n: {key: value for key, value in work.items() if key != "distances"}
        for n, work in counts(study, name).items()
    }
    gate_work(found, constant=["images_generated"], linear=["feature_rows_read"])


@pytest.mark.regress
@pytest.mark.parametrize("name", ["asal-gray", "asal-auto"])
def test_asal_takes_no_longer_in_larger_pools_apart_from_matching(study: Study, name: str) -> None:
    gate_slope(seconds(study, name, "other", "generate", "features"), at_most=0.25)


@pytest.mark.regress
def test_a_random_subset_is_scored_in_constant_work(study: Study) -> None:
    gate_work(counts(study, "subset:500:max-entropy"), constant=["pool_items_scored", "bytes_read"])
