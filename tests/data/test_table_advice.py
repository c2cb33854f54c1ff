"""What a refused table advises, typed as a person types it, leads on."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from alharness.cli import call
from alharness.errors import UserError
from alharness.spec import parse_set, resolve
from alharness.tasks.base import DataLocations
from alharness.tasks.table import Table

NUMBERS = ["1.5", "2.25", "0.5", "3.75", "1.25", "2.5"] * 4


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def table(path: Path, column: list[str], separator: str = ",") -> Path:
    rows = [separator.join([text, "ab"[i % 2]]) for i, text in enumerate(column)]
    return write(path, [separator.join(["n", "label"]), *rows])


def previewed(path: Path, capsys: pytest.CaptureFixture[str], *settings: str) -> str:
    """What ``alharness data preview`` says, on whichever stream."""
    call(["data", "preview", f"table:{path}", *(w for text in settings for w in ("--set", text))])
    printed = capsys.readouterr()
    return printed.out + printed.err


COMMAS = [text.replace(".", ",") for text in NUMBERS]


@pytest.mark.parametrize(
    ("column", "separator", "advice"),
    [
        (COMMAS, ";", ["task.separator=';'", "task.decimal=,"]),  # a spreadsheet in Europe
        (COMMAS, "\t", ["task.separator=tab", "task.decimal=,"]),
        (NUMBERS, "|", ["task.separator='|'"]),
        (NUMBERS, "||", ["task.separator='||'"]),
        ([f"−{text}" for text in NUMBERS], ",", ["task.numbers=n"]),  # the typographer's minus
        ([f"({text})" for text in NUMBERS], ",", ["task.numbers=n"]),  # a bookkeeper's
        ([f"{i}.5 kg" for i in range(24)], ",", ["task.numbers=n"]),
        ([f"{text} €" for text in NUMBERS], ",", ["task.numbers=n"]),
        ([f"1'{100 + i}" for i in range(24)], ",", ["task.numbers=n"]),
    ],
)
def test_each_advice_leads_to_numbers(
    column: list[str],
    separator: str,
    advice: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = table(tmp_path / "t.csv", column, separator)
    followed: list[str] = []
    for typed in advice:
        assert typed in previewed(path, capsys, *followed)
        followed += shlex.split(typed)
    assert previewed(path, capsys, *followed).startswith("n: numbers (")


def test_minus_signs_of_all_kinds_are_read(tmp_path: Path) -> None:
    column = ["−1.5", "(2.5)", "-3.5", "4.5", "+5.5", "−6.5"] * 4
    path = table(tmp_path / "t.csv", column)
    task = Table("table", str(path), numbers="n", test_fraction=0.25)
    data = task.load(DataLocations(tmp_path, tmp_path / "cache"))
    scaled = {float(v) for v in [*data.pool_images[:, 0], *data.test_images[:, 0]]}
    steps = sorted(scaled)
    values = [-6.5, -3.5, -2.5, -1.5, 4.5, 5.5]
    assert len(steps) == len(values)
    unit = (steps[-1] - steps[0]) / (values[-1] - values[0])
    for step, value in zip(steps, values, strict=True):
        assert step - steps[0] == pytest.approx((value - values[0]) * unit, abs=1e-5)


def test_lines_above_the_table_are_told_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{text},{'ab'[i % 2]}" for i, text in enumerate(NUMBERS)]
    path = write(tmp_path / "t.csv", ["# exported on Monday, by hand", "# twice", "n,label", *rows])
    told = previewed(path, capsys)
    assert "has lines above its table" in told or "another number of fields" in told
    path = write(tmp_path / "u.csv", ["exported on Monday", "n,label", *rows])
    told = previewed(path, capsys)
    assert "has lines above its table" in told
    assert "from line 2 on" in told
    assert "space" not in told


@pytest.mark.parametrize(
    ("typed", "text"),
    [("2", "2"), ("true", "true"), ("1.5", "1.5"), ("-999", "-999"), ("2024-01-31", "2024-01-31")],
)
def test_a_text_that_looks_like_a_number_a_date_or_yes_is_a_text(typed: str, text: str) -> None:
    """A column of a table without names is called 2; a class may be called true."""
    for name in ("target", "drop", "gaps", "categories", "split_column", "classes"):
        given = parse_set(f"task.{name}={typed}")["task"]
        assert getattr(Table("table", "t.csv", **given).parameters, name) == text
    shared = parse_set(f"task.positive={typed}")
    spec = resolve({"task": {"name": "digits-two", **shared["task"]}, "strategy": "random"})
    assert spec.positive == text


def test_numbers_and_flags_of_a_task_stay_what_they_are() -> None:
    given = parse_set("task.test_fraction=0.3")["task"] | parse_set("task.split_seed=4")["task"]
    parameters = Table("table", "t.csv", **given).parameters
    assert (parameters.test_fraction, parameters.split_seed) == (0.3, 4)


def test_a_gap_that_no_cell_says_is_told(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", ["-999", *NUMBERS[1:]])
    task = Table("table", str(path), gaps="-99", missing="median")
    assert (
        "'-99', which no cell says"
        in task.load(DataLocations(tmp_path, tmp_path / "cache")).notes["columns"]
    )
    task = Table("table", str(path), gaps="-999", missing="median")
    assert "which no cell says" not in task.load(
        DataLocations(tmp_path, tmp_path / "cache")
    ).notes.get("columns", "")


@pytest.mark.parametrize("command", [["check"], ["data", "preview"]])
def test_an_unknown_setting_of_a_task_is_one_line(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call([*command, "digits-two", "--set", "colour=1"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("alharness: Unknown setting 'task.colour'")
    assert told.count("\n") == 1


def test_an_unknown_setting_is_told_by_whoever_makes_a_task() -> None:
    from alharness.registry import resolve_task

    with pytest.raises(UserError, match=r"Unknown setting 'task\.colour'"):
        resolve_task("digits-two", colour=1)
