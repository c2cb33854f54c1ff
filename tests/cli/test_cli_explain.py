"""``--explain`` tells the formats of sweep files and claims files by the models that read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alharness.cli import call
from alharness.executors import sweep_files
from alharness.executors.sweep_files import Sweep, read_sweep
from alharness.executors.sweeps import Choices, expand
from alharness.scaling import claims
from alharness.scaling.claims import MEASUREMENTS, ClaimsFile, NamedStudy, ScalingClaim
from alharness.spec import SECTIONS, TOP_LEVEL


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert call(list(words)) == 0
    return capsys.readouterr().out


def keys(text: str) -> list[str]:
    """First words of the indented lines."""
    return [
        line.split()[0] for line in text.splitlines() if line.startswith("  ") and line[2] != " "
    ]


@pytest.mark.parametrize("words", [["sweep", "--explain"], ["sweep", "start", "--explain"]])
def test_a_sweep_file_is_described_key_by_key(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(capsys, *words)
    expected = [*Sweep.model_fields, "task", "strategy", "initial", *TOP_LEVEL]
    expected += [f"{name}.NAME" for name in SECTIONS if name not in ("task", "strategy", "initial")]
    assert keys(text)[: len(expected)] == expected
    assert max(map(len, text.splitlines())) <= 82


@pytest.mark.parametrize("words", [["claims", "--explain"], ["claims", "check", "--explain"]])
def test_a_claims_file_is_described_key_by_key(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(capsys, *words)
    expected = [*ScalingClaim.model_fields, *MEASUREMENTS, *NamedStudy.model_fields]
    assert keys(text)[: len(expected)] == expected
    named = [line.split() for line in text.splitlines() if re.match(r"  \w", line)]
    assert [words for words in named if len(words) == 1] == []


def test_the_example_of_a_sweep_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(sweep_files.EXAMPLE)
    assert all(
        line in told(capsys, "sweep", "--explain") for line in sweep_files.EXAMPLE.splitlines()
    )
    jobs = expand(read_sweep(file), Choices(), tmp_path)
    assert len(jobs) == 10 * (2 + 2) + 1
    assert {job.spec.learner.dropout for job in jobs} == {0.5}
    paper = expand(read_sweep(file), Choices(settings={"profile": "paper"}), tmp_path)
    assert {job.spec.learner.min_steps for job in paper} == {1000}


def test_the_example_of_a_claims_file_is_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(claims.EXAMPLE)
    read = ClaimsFile.read(file)
    assert [claim.id for claim in read.claims] == ["gini-looks-once"]
    assert [study.name for study in read.studies] == ["mine"]
