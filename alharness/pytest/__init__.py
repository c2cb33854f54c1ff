"""Fixtures for the tests of one's own strategy: what a selection costs, as a gate.

In ``conftest.py``::

    pytest_plugins = ["alharness.pytest"]

Then ``selection`` sets a strategy before a made-up problem of any size, and ``benchmark_selection`` hands
its selection to pytest-benchmark. Counts of work are exact and the same on every machine: gate those
first, and seconds only against each other in one process.
"""

from __future__ import annotations

from alharness.pytest.selections import (
    Asked,
    Selection,
    benchmark_selection,
    selection,
)
from alharness.scaling.gates import gate_ratio, gate_slope, gate_work

__all__ = [
    "Asked",
    "Selection",
    "benchmark_selection",
    "gate_ratio",
    "gate_slope",
    "gate_work",
    "selection",
]
