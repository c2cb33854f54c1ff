"""The pages of commands and settings say what the program says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "tools" / "reference.py"))


@pytest.mark.parametrize("page", TOOL["PAGES"])
def test_the_page_is_what_the_program_says(page: str) -> None:
    made = TOOL["PAGES"][page]()
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == made, "python tools/reference.py"
