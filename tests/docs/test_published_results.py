"""Tables of published studies are what their records say: a digit that differs fails here."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "published.py"))


def test_there_are_published_studies_of_some_megabytes_at_most() -> None:
    sizes = [path.stat().st_size for path in (TOOL["RESULTS"] / "records").rglob("*.tar.xz")]
    # Some kilobytes a run, of which checksums and predictions on the stop set do not compress.
    assert max(sizes) < 1_500_000
    assert sum(sizes) < 12_000_000


@pytest.mark.parametrize("name", TOOL["STUDIES"])
def test_a_page_says_what_the_records_say(name: str) -> None:
    page = (TOOL["RESULTS"] / f"{name}.md").read_text(encoding="utf-8")
    assert page == TOOL["made"](name), "python tools/published.py"
