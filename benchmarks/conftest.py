"""What all benchmarks share: devices, a timer that waits for the device, the frozen references.

``tox -e bench`` times, ``tox -e regress`` runs the gates (marker ``regress``). Gates compare counters,
slopes and ratios within one run; a time of another day counts only on the same machine.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from alharness import environment
from alharness.timing import synchronise

HERE = Path(__file__).parent


@pytest.fixture(
    params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device there is."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture(scope="session")
def plain() -> ModuleType:
    """The frozen yardsticks of ``reference/plain.py``."""
    spec = importlib.util.spec_from_file_location("plain", HERE / "reference" / "plain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    """pytest-benchmark knows neither processor model nor GPU: times belong to both."""
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine_info["alharness"] = {**environment.hardware(where), **environment.versions()}


def pytest_configure(config: pytest.Config) -> None:
    """Benchmarks on CUDA wait for the device before the clock is read."""
    if torch.cuda.is_available() and hasattr(config.option, "benchmark_timer"):
        config.option.benchmark_timer = _synchronised


def _synchronised() -> float:
    synchronise("cuda")
    return time.perf_counter()
