"""``alharness generator`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from alharness.cli import call

SMALL = ["--device", "cpu", "--set", "generator.steps=20", "--set", "autoencoder.steps=20"]
FAST_REFERENCE = [
    *("--set", "learner.kind=mlp", "--set", "learner.epochs=1", "--set", "learner.min_steps=60"),
]


def generator(runs: Path, command: str, *arguments: str) -> int:
    more = [] if command == "compare" else SMALL
    return call(["generator", command, "digits-two", "--runs-dir", str(runs), *more, *arguments])


def test_train_inspect_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator(tmp_path, "train") == 0
    out = capsys.readouterr().out
    assert "train generator  20/20" in out or "train generator" in out
    assert "frechet_pixels" in out
    assert "explained" in out
    assert generator(tmp_path, "train", "--quiet") == 0  # found, not trained again
    assert "train generator" not in capsys.readouterr().out

    pictures = tmp_path / "pictures"
    assert generator(tmp_path, "inspect", "--out", str(pictures), *FAST_REFERENCE) == 0
    out = capsys.readouterr().out
    figures = json.loads((pictures / "figures.json").read_text())
    for name in ("frechet_auto", "frechet_cls", "entropy_after", "agreement_searched"):
        assert name in figures
        assert name in out
    assert figures["entropy_after"] >= figures["entropy_before"]
    assert sorted(path.name for path in pictures.iterdir()) == [
        "curve.png",
        "figures.json",
        "interpolation.png",
        "samples.png",
        "searched.png",
    ]

    assert generator(tmp_path, "train", "--set", "generator.seed=1", "--only", "generator") == 0
    capsys.readouterr()
    saved = tmp_path / "compared"
    assert generator(tmp_path, "compare", "--out", str(saved)) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["key", "recipe", "width"]
    assert sum(line.split()[1:2] == ["fc-8"] for line in lines) == 2
    rows = json.loads((saved / "comparison.json").read_text())
    assert [row["frechet_pixels"] for row in rows] == sorted(row["frechet_pixels"] for row in rows)
    assert {row["seed"] for row in rows} == {0, 1}
    assert sum("frechet_cls" in row for row in rows) == 1  # one of the two was inspected
    with Image.open(saved / "comparison.png") as picture:
        assert picture.height > 250  # three rows: real images, two generators


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("inspect", [], "not trained yet. Train it with: alharness generator train digits-two"),
        ("compare", [], "There is no generator of 'digits-two'"),
        ("train", ["--set", "generator.stepps=3"], "Did you mean 'generator.steps'"),
        ("train", ["--set", "generator.steps=-3"], "generator.steps"),
        ("train", ["--set", "generatr.steps=3"], "Did you mean 'generator'"),
        ("train", ["--set", "generator.recipe=conv28"], "Did you mean 'conv-28'"),
        ("train", ["--profile", "papr"], "Did you mean 'paper'"),
        ("train", ["--device", "tpu"], "Unknown device 'tpu'"),
        ("inspect", ["--key", "abc"], "No artefact 'abc'"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    command: str,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert generator(tmp_path, command, *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error


def test_an_unknown_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["generator", "train", "digits-tow", "--runs-dir", str(tmp_path)]) == 2
    assert "Did you mean 'digits-two'" in capsys.readouterr().err


def test_a_generator_of_other_data_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generator(tmp_path, "train", "--only", "generator", "--quiet") == 0
    key = capsys.readouterr().out.split()[1]
    arguments = ["generator", "inspect", "digits-ten", "--runs-dir", str(tmp_path), "--key", key]
    assert call([*arguments, *SMALL]) == 2
    assert "is not a generator of 'digits-ten'" in capsys.readouterr().err
