"""``alharness timing`` and ``alharness claims`` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alharness.cli import call

TINY = (
    "timing --dataset digits-two --strategies random,max-entropy --sizes 500,1e3,2_000 "
    "--query-sizes 10 --rows 200,400 --indices exact --repeats 2 --device cpu --untrained"
)


def test_a_study_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--out", str(tmp_path / "timing"), "--runs-dir", str(tmp_path / "runs")]
    assert call([*TINY.split(), *places]) == 0
    shown = capsys.readouterr().out
    assert "exponent of the time" in shown
    assert "pool_items_scored ~ n^1.0" in shown
    made = {path.name for path in (tmp_path / "timing").iterdir()}
    assert {"study.json", "timing.jsonl", "table.csv", "slopes.csv", "select_time.png"} <= made
    before = (tmp_path / "timing" / "timing.jsonl").read_text()
    assert call([*TINY.split(), *places, "--quiet"]) == 0
    assert (tmp_path / "timing" / "timing.jsonl").read_text() == before, "measured again"

    assert call(["claims", "check", str(tmp_path / "timing")]) == 0
    verdicts = capsys.readouterr().out
    assert "not measured      asal-sublinear" in verdicts
    assert "holds             exact-one-read" in verdicts
    assert "measured on" in verdicts

    # A broken promise is exit code 1.
    claims = tmp_path / "claims.toml"
    claims.write_text(
        '[[claim]]\nid = "impossible"\nwhere = "ours"\ntext = "no work at all"\nmust = true\n'
        'kind = "share_of_pool"\nname = "max-entropy"\ncounter = "pool_items_scored"\n'
        "accept = [0.0, 0.1]\n",
        encoding="utf-8",
    )
    assert call(["claims", "check", str(tmp_path / "timing"), "--claims", str(claims)]) == 1
    assert "claims that must hold and fail: impossible" in capsys.readouterr().err


def test_images_beyond_the_memory_given_are_computed(tmp_path: Path) -> None:
    command = (
        "timing --dataset digits-two --strategies random --sizes 500 --repeats 1 --device cpu "
        "--untrained --quiet --indices= --resident-gb 0"
    )
    out = tmp_path / "timing"
    assert call([*command.split(), "--out", str(out), "--runs-dir", str(tmp_path / "runs")]) == 0
    found = [json.loads(line) for line in (out / "timing.jsonl").read_text().splitlines()]
    assert {m["residency"] for m in found if m["kind"] == "select"} == {"virtual"}


def test_claims_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["claims", "list"]) == 0
    shown = capsys.readouterr().out
    assert "kdtree-logarithmic  (Sec. 3.2, Table 2)" in shown


def test_published_timings_are_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the files alone: nothing is measured, and nothing but them is looked at."""
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    monkeypatch.chdir(tmp_path)
    assert call(["claims", "check", "--published", str(results), "--quiet"]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["holds", "exact-one-read", "(ours)"] in told
    assert any(line[:2] == ["fails", "kdtree-logarithmic"] for line in told)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("timing --sizes 1e4,many", "expected whole numbers above 0"),
        ("timing --sizes 0", "expected whole numbers above 0"),
        ("timing --sizes= --rows=", "Nothing to measure"),
        ("timing --dataset digits-tow --sizes 500", "Did you mean 'digits-two'"),
        ("timing --dataset digits-two --strategies randon --sizes 500", "Did you mean 'random'"),
        (
            "timing --dataset digits-two --strategies random --sizes= --rows 200 --indices exakt",
            "Did you mean 'exact'",
        ),
        ("claims check nowhere", "holds no timing study"),
        ("claims check --published nowhere", "no published timing studies"),
        ("claims check elsewhere --published nowhere", "leave --measure and other folders out"),
        ("claims list --claims nowhere.toml", "No claims at"),
    ],
)
def test_bad_input_is_one_line(
    arguments: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(arguments.split()) == 2
    assert message in capsys.readouterr().err
