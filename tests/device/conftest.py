"""The pretended device as a fixture; it is there for one test and leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pretended_cuda and tiny, for the tests beside them

from pretended_cuda import PretendedDevice, pretended_cuda


@pytest.fixture
def device() -> Iterator[PretendedDevice]:
    """One pretended CUDA device."""
    with pretended_cuda() as found:
        yield found
