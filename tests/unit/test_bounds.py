"""Lower bounds are told once, in pyproject.toml, and are those that the tests were run with."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / "lowest.py"))


def test_every_requirement_has_one_lower_bound(tool: dict[str, Any]) -> None:
    bounds = tool["bounds"]()
    assert {"torch", "mlflow", "numpy", "pytest", "hypothesis"} <= set(bounds)
    assert all(re.fullmatch(r"\d+(\.\d+)*", version) for version in bounds.values())


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("click>=8.1,!=8.3.0", ("click", "8.1")),
        ("Name[extra] >= 2.0 ; python_version < '3.14'", ("name", "2.0")),
        ("scikit-learn!=1.6,>=1.5", ("scikit-learn", "1.5")),
    ],
)
def test_a_bound_is_read_as_pip_reads_it(
    tool: dict[str, Any], requirement: str, expected: tuple[str, str]
) -> None:
    assert tool["lowest"](requirement) == expected


@pytest.mark.parametrize("requirement", ["click", "click==8.1", "click>=8,>=8.1", "click<9"])
def test_a_requirement_without_one_is_refused(tool: dict[str, Any], requirement: str) -> None:
    with pytest.raises(ValueError, match="expected one lower bound"):
        tool["lowest"](requirement)


def test_what_the_documents_say_was_tried_is_what_is_allowed(tool: dict[str, Any]) -> None:
    """A bound that is raised or lowered is tried again: ``tox -e lowest``."""
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    section = text.partition("## Lower bounds")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", section, flags=re.MULTILINE))
    assert told == tool["bounds"]()
