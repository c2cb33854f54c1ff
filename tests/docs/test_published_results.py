"""Tables of published studies are what their records say: a digit that differs fails here."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "published.py"))


def test_there_are_published_studies_of_some_megabytes_at_most() -> None:
    assert TOOL["studies"]()
    size = sum(path.stat().st_size for path in (TOOL["RESULTS"] / "records").iterdir())
    assert size < 8_000_000


@pytest.mark.parametrize("name", TOOL["studies"]())
def test_a_page_says_what_the_records_say(name: str) -> None:
    page = (TOOL["RESULTS"] / f"{name}.md").read_text(encoding="utf-8")
    assert page == TOOL["made"](name), "python tools/published.py"
