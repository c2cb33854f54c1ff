"""Where several libraries implement one method, the same view gives the same items.

Views and pairs are those of the page that ``benchmarks/audit_peers.py`` writes.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from alharness import registry

ROOT = Path(__file__).parents[2]
AUDIT: dict[str, Any] = runpy.run_path(str(ROOT / "benchmarks" / "audit_peers.py"))
EQUAL = [pair for pair in AUDIT["PAIRS"] if not pair.verdict]


@pytest.mark.parametrize("pair", EQUAL, ids=lambda pair: f"{pair.ours}-{pair.theirs}")
@pytest.mark.parametrize("n_labelled", AUDIT["CYCLES"])
def test_the_same_items(pair: Any, n_labelled: int) -> None:
    cls = registry.strategy_class(pair.theirs)
    pytest.importorskip(cls.module.split(".")[0], reason=cls.install)  # type: ignore[attr-defined]
    ask = AUDIT["ask"]
    assert set(ask(pair.ours, n_labelled)) == set(ask(pair.theirs, n_labelled, pair.method))


def test_two_published_ones_at_least_stand_beside_each_plain_method() -> None:
    beside = {pair.ours: 0 for pair in EQUAL}
    for pair in EQUAL:
        beside[pair.ours] += 1
    assert {name for name, n in beside.items() if n < 2} <= {"core-set", "qbc"}


def test_the_page_holds_every_pair() -> None:
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    for pair in AUDIT["PAIRS"]:
        assert f"| `{pair.ours}` | `{pair.theirs}" in page
