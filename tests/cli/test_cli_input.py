"""Input as the world writes it: files of other editors, homes, empty variables, odd values, pipes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from alharness.cli import call
from alharness.cli.display import Live, bar_line
from alharness.cli.options import runs_dir_typed, typed
from alharness.cli.sweep_display import LiveSweepDisplay
from alharness.errors import UserError
from alharness.files import read_toml
from alharness.records import run_folders
from alharness.tasks.base import DataLocations

TOML = 'task = "digits-two"\nstrategy = "random"\nbudget = 20\ninitial_size = 20\n'
RUN = ["run", "--no-tracking", "--quiet", "--device", "cpu"]
SMALL = [
    "--strategy",
    "random",
    "--dataset",
    "digits-two",
    "--budget",
    "20",
    "--initial-size",
    "20",
]


@pytest.mark.parametrize(
    "content",
    [
        TOML.encode("utf-8-sig"),
        TOML.replace("\n", "\r\n").encode(),
        TOML.replace("\n", "\r\n").encode("utf-8-sig"),
    ],
    ids=["BOM", "CRLF", "both"],
)
def test_toml_of_other_editors_is_read(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    assert read_toml(path)["initial_size"] == 20
    assert call([*RUN, "--config", str(path), "--runs-dir", str(tmp_path / "runs")]) == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (TOML.encode("utf-16"), "UTF-16"),
        (TOML.encode("utf-16-be"), "UTF-16"),
        (("# caf\u00e9\n" + TOML).encode("latin-1"), "line 1 (a byte 0xe9)"),
        (b"task = \n", "not valid TOML"),
    ],
    ids=["UTF-16", "UTF-16 without mark", "Latin-1", "broken"],
)
def test_toml_that_is_none_is_one_line(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_toml(path)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "setting",
    ["device=3", "device=true", "device.x=3", "learner=3", "budget.x=3", "seed.a=1", "strategy=3",
     "strategy.name.x=1", "task=[1]", "profile.a=3", "oracle.mode.x=1", "learner.kind.a.b=3",
     "generator.steps={a=1}", "seed=2001-01-01"],
)  # fmt: skip
def test_a_setting_of_the_wrong_kind_is_one_line(
    setting: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sweep = ["sweep", "--strategies", "random", "--datasets", "digits-two", "--dry-run"]
    for command in ([*RUN, *SMALL], sweep):
        assert call([*command, "--runs-dir", str(tmp_path), "--set", setting]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("alharness: ")


def test_an_option_with_an_equals_sign_knows_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text(TOML)
    assert call([*RUN, "--config=~/spec.toml", "--runs-dir=~/mine"]) == 0
    assert len(run_folders(tmp_path / "mine")) == 1
    monkeypatch.setenv("ALHARNESS_RUNS", "~/theirs")
    assert call([*RUN, "--config=~/spec.toml"]) == 0
    assert len(run_folders(tmp_path / "theirs")) == 1
    assert not (tmp_path / "~").exists()


def test_an_empty_variable_is_as_one_that_is_not_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    names = ("ALHARNESS_CACHE", "ALHARNESS_DATA", "ALHARNESS_RUNS", "ALHARNESS_ARTEFACTS")
    for name in (*names, "MLFLOW_TRACKING_URI", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.setenv(name, "")
    found = DataLocations.resolve()
    assert found.cache_root == tmp_path / "home" / ".cache" / "alharness"
    assert found.data_root == found.cache_root / "data"
    assert call([*RUN, *SMALL]) == 0
    assert len(run_folders(tmp_path / "runs")) == 1


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list", "strategies"], ["run", *SMALL, "--no-tracking"]]
)
def test_a_reader_that_goes_away_is_no_error(arguments: list[str], tmp_path: Path) -> None:
    """``alharness ... | head -1``"""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "alharness", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize("text", ["runs/[bold]/x", "a[/x]b", "[red]", "it's :smile:", "[link=x]"])
def test_brackets_in_names_reach_the_terminal_as_they_are(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    live = Live()
    live._title = text
    live.progress(text, 1, 2, {text: 1.0})
    live.warn(text)
    live.close()
    sweep = LiveSweepDisplay([], [], quiet=False)
    sweep.say(text)
    sweep.texts[0] = text
    sweep.close()
    assert screen.getvalue().count(text) == 2  # what stays; the bar is gone
    bar = io.StringIO()
    Console(file=bar, width=200).print(bar_line(text, 1, 2, [text], 200))
    assert bar.getvalue().count(text) == 2


def test_printed_commands_are_quoted_and_complete() -> None:
    assert typed("ui", *runs_dir_typed(Path("runs"))) == "alharness ui"
    words = runs_dir_typed(Path("my runs"))
    assert typed("ui", *words) == "alharness ui --runs-dir 'my runs'"
