"""Small tables of two classes, how tests read them, and what a refusal advises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from alharness.errors import UserError
from alharness.registry import resolve_task
from alharness.tasks.base import DataLocations, TaskData

RNG = np.random.default_rng(1)
N = 60
Y = np.repeat(["a", "b"], N // 2)
X = np.round(RNG.normal(size=N) + 3 * (Y == "a"), 3)
WHOLE = RNG.integers(10, 60, N)


def load(path: Path, **parameters: Any) -> TaskData:
    locations = DataLocations(path.parent, path.parent / "cache")
    return resolve_task(f"table:{path}", **parameters).load(locations)


def write(path: Path, **columns: Any) -> Path:
    pandas.DataFrame({"x": X, **columns, "label": columns.get("label", Y)}).to_csv(
        path, index=False
    )
    return path


def refused(path: Path, **parameters: Any) -> str:
    with pytest.raises(UserError) as told:
        load(path, **parameters)
    assert "\n" not in str(told.value)
    return str(told.value)


def advised(message: str) -> list[dict[str, str]]:
    """The settings that a message advises, one at a time."""
    found = re.findall(r"task\.(\w+)=('[^']+'|\"[^\"]+\"|[^\s.;()]+)", message)
    return [{name: value.removesuffix(",").strip("'\"") or value[0]} for name, value in found]
