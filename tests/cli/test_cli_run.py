"""The command line as a user types it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from alharness.cli import call
from alharness.records import run_folders

SMALL = ["--budget", "40", "--query-size", "10", "--initial-size", "20", "--device", "cpu"]


def run(tmp_path: Path, *arguments: str, tracking: bool = False) -> int:
    more = [] if tracking else ["--no-tracking"]
    return call(["run", "--runs-dir", str(tmp_path / "runs"), *arguments, *more])


def test_one_plain_line_per_cycle_and_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--strategy", "max-entropy", "--dataset", "digits-two", *SMALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("digits-two  max-entropy  seed 0  profile quick  cpu")
    header = next(i for i, line in enumerate(lines) if line.split()[:2] == ["cycle", "labels"])
    rows = [line.split() for line in lines[header + 1 : header + 4]]
    assert [row[:2] for row in rows] == [["0", "20"], ["1", "30"], ["2", "40"]]
    assert rows[2][4] == "-"
    (folder,) = run_folders(tmp_path / "runs")
    assert any(str(folder.path) in line for line in lines)
    assert [float(row[2]) for row in rows] == [
        pytest.approx(record.test.accuracy, abs=5e-5) for record in folder.records()
    ]


def test_what_is_doubtful_in_the_data_is_told_above_the_table_of_cycles(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "\n".join(f"{i},{i * 7 % 11},{'ab'[i * 7 % 11 > 5]}" for i in range(60))
    (tmp_path / "rows.csv").write_text(f"number,x,kind\n{rows}\n")
    arguments = [f"table:{tmp_path / 'rows.csv'}", "--set", "task.target=kind", "--budget", "30"]
    arguments += ["--set", "learner.kind=linear", "--initial-size", "20", "--no-tracking"]
    monkeypatch.setattr(sys, "stderr", sys.stdout)  # as on a terminal: one stream
    assert call(["run", "random", *arguments, "--runs-dir", str(tmp_path / "runs")]) == 0
    told = capfd.readouterr().out
    assert told.index("column 'number' numbers the rows") < told.index("cycle     labels")


def test_quiet_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--strategy", "random", "--dataset", "digits-two", *SMALL, "--quiet"]
    assert run(tmp_path, *arguments) == 0
    assert capfd.readouterr() == ("", "")


def test_settings_from_file_option_and_set_in_that_order(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(
        'seed = 1\nbudget = 30\nquery_size = 10\ninitial_size = 20\ntask = "digits-two"\n'
        '[strategy]\nname = "random"\n[learner]\nc = 0.5\n'
    )
    arguments = ["--config", str(config), "--seed", "2", "--set", "learner.c=0.25", "--quiet"]
    assert run(tmp_path, *arguments, "--device", "cpu") == 0
    (folder,) = run_folders(tmp_path / "runs")
    text = folder.spec.read_text()
    assert "seed = 2" in text
    assert "c = 0.25" in text
    assert "budget = 30" in text
    assert (
        run(tmp_path, "--config", str(folder.spec), "--quiet") == 0
    )  # its own spec is the same run
    assert len(run_folders(tmp_path / "runs")) == 1


def test_a_plugin_file_runs_without_installing(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from alharness.strategy import PoolQuery, Strategy\n\n\n"
        "class Newest(Strategy):\n"
        "    def select(self, view, query_size):\n"
        "        return PoolQuery(view.unlabelled[-query_size:])\n"
    )
    arguments = ["--strategy", f"{plugin}:Newest", "--dataset", "digits-two", *SMALL, "--quiet"]
    assert run(tmp_path, *arguments) == 0
    (folder,) = run_folders(tmp_path / "runs")
    assert folder.is_finished()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "asal-atuo", "--dataset", "digits-two"], "Did you mean 'asal-auto'"),
        (["--strategy", "random", "--dataset", "digit-two"], "Did you mean 'digits-two'"),
        (["--strategy", "random"], "Use --dataset"),
        (["--dataset", "digits-two"], "Use --strategy"),
        (["--strategy", "random", "--dataset", "digits-two", "--seed", "x"], "'--seed'"),
        (["--strategy", "random", "--dataset", "digits-two", "--budget", "5"], "initial size 20"),
        (
            ["--strategy", "random", "--dataset", "digits-two", "--budget", "9999"],
            "larger than the pool",
        ),
        (
            # Pictures have no end, so that a budget may go beyond the pool; the start may not.
            [
                "--strategy",
                "gaal",
                "--dataset",
                "digits-two",
                "--budget",
                "9999",
                "--initial-size",
                "9999",
            ],
            "The initial set (9999) is larger than the pool (",
        ),
        (["--strategy", "random", "--dataset", "digits-two", "--set", "learner.x=1"], "learner.x"),
        (["--strategy", "random", "--dataset", "digits-two", "--set", "oops"], "KEY=VALUE"),
        (["--strategy", "random", "--dataset", "digits-two", "--sed", "1"], "--seed"),
        (["--strategy", "random", "--dataset", "digits-two", "--config", "no.toml"], "no.toml"),
        (["--strategy", "adba", "--dataset", "digits-ten"], "two classes"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_2(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(tmp_path, *arguments, "--device", "cpu") == 2
    error = capfd.readouterr().err.strip()
    assert message in error
    assert error.startswith("alharness: ")
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error


def test_missing_data_says_where_it_looked_and_how_to_get_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALHARNESS_CACHE", str(tmp_path / "cache"))
    arguments = ["--strategy", "random", "--dataset", "mnist-two", "--data-root", str(tmp_path)]
    assert run(tmp_path, *arguments) == 2
    error = capfd.readouterr().err
    assert str(tmp_path) in error
    assert "alharness data prepare" in error
    assert "MB" in error


def test_an_unwritable_place_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    assert run(tmp_path, "--strategy", "random", "--dataset", "digits-two", *SMALL) == 2
    assert "Choose another place with --runs-dir" in capfd.readouterr().err


def test_unknown_commands_are_met_with_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    assert call(["rnu"]) == 2
    assert "Did you mean 'run'" in capfd.readouterr().err


def test_list_shows_summaries(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["list"]) == 0
    strategies = capsys.readouterr().out
    assert call(["list", "dataset"]) == 0  # the singular, too
    datasets = capsys.readouterr().out
    for name in ("random", "max-entropy", "core-set", "gaal", "adba", "asal-gray", "asal-cls"):
        (line,) = [line for line in strategies.splitlines() if line.split()[:1] == [name]]
        assert len(line.split()) > 3, "a name without a summary"
    assert "mnist-two" in datasets
    assert "celeba-bangs" in datasets


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("asal-auto", ["latent_steps", "100", "pca_dims", "Source:"]),
        ("margin", ["no parameters of its own", "alharness show settings"]),
        ("mnist-two", ["budget          500           500", "min_steps"]),
        ("folder", ["folder:"]),
        ("settings", ["learner.NAME", "generator.NAME", "oracle.NAME", "residency"]),
    ],
)
def test_show_tells_parameters_defaults_and_source(
    capsys: pytest.CaptureFixture[str], name: str, expected: list[str]
) -> None:
    assert call(["show", name]) == 0
    out = capsys.readouterr().out
    for text in expected:
        assert text in out


def test_help_takes_well_under_half_a_second_of_cpu_time() -> None:
    """CPU time of the child by the system's accounting, which other processes do not stretch."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "alharness", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
