"""A person as the oracle, from the command line: asked, interrupted, answered, finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from alharness.cli import call


def command(tmp_path: Path) -> list[str]:
    return [
        *("run", "--strategy", "max-entropy", "--dataset", "digits-two", "--oracle", "human"),
        *("--initial-size", "20", "--query-size", "3", "--budget", "26", "--no-tracking"),
        *("--runs-dir", str(tmp_path / "runs"), "--device", "cpu"),
    ]


def fill(table: Path, *answers: str) -> None:
    lines = table.read_text().splitlines()
    for number, answer in enumerate(answers, start=3):
        lines[number] = f"{lines[number].split(',')[0]},{answer}"
    table.write_text("\n".join(lines) + "\n")


def test_a_run_waits_for_a_person_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command(tmp_path)) == 2
    assert "3 of 3 annotations are missing" in capsys.readouterr().err
    (first,) = (tmp_path / "runs").rglob("cycle_0000.csv")
    assert first.with_suffix(".png").is_file()

    fill(first, "5", "seven")
    assert call(command(tmp_path)) == 2
    assert "line 5: expected 5, 7 or skip; found 'seven'" in capsys.readouterr().err

    fill(first, "5", "7", "skip")
    assert call(command(tmp_path)) == 2
    second = first.with_name("cycle_0001.csv")
    assert str(second) in capsys.readouterr().err

    fill(second, "5", "5", "7")
    assert call(command(tmp_path)) == 0
    assert "25 labels" in capsys.readouterr().out  # one was skipped, and was paid for
