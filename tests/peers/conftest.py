"""The view of ``benchmarks/audit_peers.py``: one cycle of the digits before a network with dropout."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from alharness.strategy import CycleView

AUDIT = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "audit_peers.py"))


@pytest.fixture
def view() -> Callable[[int], CycleView]:
    """The view of a cycle with so many labels, fresh."""
    make: Callable[[int], CycleView] = AUDIT["view"]
    return make
