"""The report says whether a strategy was proved to keep the contract (R18)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alharness.cli import call
from alharness.comparison.tables import _checks_beside, _contract
from alharness.records import Run, RunFacts, SpecFacts, keep_conformance, read_conformance
from alharness.records.facts import Choice, StrategyFacts

OURS = {"distribution": "alharness 1", "commit": "abc", "passed": 20, "skipped": 5, "failed": []}


def run(root: Path, commit: str = "abc") -> Run:
    spec = SpecFacts(task=Choice(name="task"), strategy=Choice(name="random"))
    facts = RunFacts(git_commit=commit, strategy=StrategyFacts(distribution="alharness 1"))
    return Run(root / "task" / "random" / "key", spec, facts)


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        (None, "not checked"),
        (OURS, "keeps it (20 checks)"),
        ({**OURS, "commit": "older"}, "keeps it (20 checks, at another commit)"),
        ({**OURS, "failed": ["distinct"]}, "FAILS distinct"),
        ({**OURS, "distribution": "alharness 0"}, "checked as alharness 0"),
    ],
)
def test_each_state_in_words(tmp_path: Path, kept: dict[str, Any] | None, expected: str) -> None:
    if kept is not None:
        keep_conformance(tmp_path, "random", kept)
    of_one_session = run(tmp_path)
    (session,) = of_one_session.sessions
    checks = _checks_beside(of_one_session.folder.parent)
    assert _contract(checks, of_one_session.strategy, session) == expected


def test_check_keeps_its_result_beside_the_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["check", "random", "--runs-dir", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()
    assert call(["check", "random", "--runs-dir", str(tmp_path)]) == 0
    assert "conformance.json" in capsys.readouterr().out
    found = read_conformance(tmp_path)["random"]
    assert found["failed"] == []
    assert found["passed"] > 10
    assert found["distribution"].startswith("alharness")
