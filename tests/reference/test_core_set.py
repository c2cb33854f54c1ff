"""Greedy k-centre against the obvious version, on data that tempts it to take short cuts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alharness import numerics
from alharness.timing import WorkCounters
from alharness_strategies.core_set import k_centre

_PATH = Path(__file__).parents[2] / "benchmarks" / "reference" / "core_set.py"
_SPEC = importlib.util.spec_from_file_location("reference_core_set", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
reference: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)

RNG = np.random.default_rng(0)


def gaussian() -> NDArray[np.float32]:
    return RNG.normal(size=(3000, 24)).astype(np.float32)


def clustered() -> NDArray[np.float32]:
    means = 5 * RNG.normal(size=(12, 24))
    return (means[RNG.integers(12, size=3000)] + RNG.normal(size=(3000, 24))).astype(np.float32)


def rectified_far_from_zero() -> NDArray[np.float32]:
    low = RNG.normal(size=(3000, 4)) @ RNG.normal(size=(4, 24))
    return (np.maximum(low, 0) + 100).astype(np.float32)


def grid_full_of_ties() -> NDArray[np.float32]:
    return RNG.integers(0, 3, size=(3000, 6)).astype(np.float32)


def many_duplicates() -> NDArray[np.float32]:
    return RNG.normal(size=(40, 8)).astype(np.float32)[RNG.integers(40, size=3000)]


def constant() -> NDArray[np.float32]:
    return np.full((500, 7), 0.3, dtype=np.float32)


DATA = [
    gaussian,
    clustered,
    rectified_far_from_zero,
    grid_full_of_ties,
    many_duplicates,
    constant,
]


@pytest.mark.parametrize("make", DATA, ids=lambda make: make.__name__)
@pytest.mark.parametrize("n_active", [5, 64, None])
def test_the_picks_equal_the_float64_reference(make: Any, n_active: int | None) -> None:
    values = make()
    features, centres = values[30:], values[:30]
    got = k_centre(torch.from_numpy(features), torch.from_numpy(centres), 120, n_active=n_active)
    assert got.tolist() == reference.k_centre(features, centres, 120)


def test_without_centres_the_first_row_comes_first() -> None:
    features = gaussian()[:200]
    got = k_centre(torch.from_numpy(features), torch.empty(0, 24), 20)
    assert got[0] == 0
    assert got.tolist() == reference.k_centre(features, np.empty((0, 24), np.float32), 20)


def test_all_rows_can_be_chosen() -> None:
    features = torch.from_numpy(grid_full_of_ties()[:150])
    got = k_centre(features, features[:1], 150)
    assert sorted(got.tolist()) == list(range(150))


def test_known_picks_on_a_line() -> None:
    line = torch.tensor([[0.0], [1.0], [4.0], [10.0], [7.0]])
    assert k_centre(line, torch.tensor([[0.0]]), 3).tolist() == [3, 2, 4]


def test_most_picks_read_no_features() -> None:
    """The obvious version reads all rows once per pick: 200 x 2970."""
    values = torch.from_numpy(gaussian())
    work = WorkCounters()
    k_centre(values[30:], values[:30], 200, n_active=1024, work=work)
    assert work.counts["feature_rows_read"] < 6 * 2970


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    values = torch.from_numpy(gaussian()[:50])
    values[7, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        k_centre(values, values[:3], 5)


def test_more_than_there_is_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="asked for 6 of 5 rows"):
        k_centre(torch.zeros(5, 2), torch.zeros(1, 2), 6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cpu_and_gpu_choose_alike() -> None:
    values = torch.from_numpy(clustered())
    on_cpu = k_centre(values[30:], values[:30], 100)
    on_gpu = k_centre(values[30:].cuda(), values[:30].cuda(), 100)
    assert on_cpu.tolist() == on_gpu.tolist()


def test_the_bounds_are_computed_exactly_whatever_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that allows TF32 would break the bound on their rounding."""
    told = []
    product = torch.addmm

    def noting(*arguments: Any, **named: Any) -> torch.Tensor:
        told.append(numerics.describe()["matmul"])
        return product(*arguments, **named)

    monkeypatch.setattr(torch, "addmm", noting)
    rows = torch.from_numpy(clustered()[:300])
    with numerics.training("tf32"):
        k_centre(rows[20:], rows[:20], 5)
    assert set(told) == {"float32"}
