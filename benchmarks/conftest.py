"""What all benchmarks share: devices, a timer that waits for the device, the frozen references.

``tox -e bench`` times, ``tox -e regress`` runs the gates (marker ``regress``). Gates compare counters,
slopes and ratios within one run. Times of another day count on the same kind of machine only:

    tox -e bench -- --benchmark-save=before
    tox -e bench -- --benchmark-compare --benchmark-compare-fail=median:30%

Saved times lie in ``.benchmarks/FINGERPRINT``, one folder per processor, number of cores and of
threads, and GPU, so that a comparison finds those of such a machine; a file from elsewhere is refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from alharness import numerics
from alharness.engine import environment
from alharness.timing import synchronise

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _arithmetic() -> Iterator[None]:
    """What runs compute with is what is measured."""
    with numerics.exact():
        yield


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
    machine_info["alharness"] = {**machine(), **environment.versions()}


def machine() -> dict[str, Any]:
    """What a time depends on: processor, cores, threads, GPU. Versions may differ: they are compared."""
    found = environment.hardware(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    found.pop("cuda", None)  # a version
    return found


def pytest_configure(config: pytest.Config) -> None:
    """Benchmarks on CUDA wait for the device before the clock is read; times are kept by machine."""
    if not hasattr(config.option, "benchmark_timer"):
        return  # pytest-benchmark is switched off
    if torch.cuda.is_available():
        config.option.benchmark_timer = _synchronised
    if config.option.benchmark_storage == "file://./.benchmarks":
        digest = hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()[:12]
        config.option.benchmark_storage = f"file://{config.rootpath}/.benchmarks/{digest}"


def pytest_benchmark_compare_machine_info(
    machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    """Times of another machine are no baseline.

    Raises:
        pytest.UsageError: the saved times come from elsewhere.
    """
    theirs = compared_benchmark["machine_info"].get("alharness", {})
    for name, here in machine().items():
        if theirs.get(name) != here:
            raise pytest.UsageError(
                f"The saved times were measured with {name}={theirs.get(name)}, here it is {here}: "
                "times of two machines do not compare. Save new ones with --benchmark-save=NAME."
            )


def _synchronised() -> float:
    synchronise("cuda")
    return time.perf_counter()
