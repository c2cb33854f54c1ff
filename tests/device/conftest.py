"""The pretended device as a fixture; it is there for one test and leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # pretended_cuda and tiny, for the tests beside them
sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))  # acceptance

from pretended_cuda import PretendedDevice, pretended_cuda  # noqa: E402


@pytest.fixture
def device() -> Iterator[PretendedDevice]:
    """One pretended CUDA device."""
    with pretended_cuda() as found:
        yield found
