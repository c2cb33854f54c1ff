"""Published records: small, equal bytes from equal runs, judged as the folders are, refused when damaged."""

from __future__ import annotations

import lzma
import tarfile
from pathlib import Path

import pytest

from alharness.cli import call
from alharness.comparison.runs import _declared, label_of
from alharness.errors import UserError
from alharness.records import read_runs
from alharness.records.published import publish, unpacked


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four finished runs and one that was stopped."""
    runs = tmp_path_factory.mktemp("study") / "runs"
    small = [
        "--budget",
        "30",
        "--query-size",
        "10",
        "--no-tracking",
        "--quiet",
        "--runs-dir",
        str(runs),
    ]
    for strategy in ("random", "margin"):
        for seed in ("0", "1"):
            assert call(["run", strategy, "digits-two", "--seed", seed, *small]) == 0
    stopped = next((runs / "digits-two" / "random").iterdir())
    copy = runs / "digits-two" / "random" / "0123456789ab"
    copy.mkdir()
    (copy / "spec.toml").write_bytes((stopped / "spec.toml").read_bytes())
    return runs


def test_the_same_table_comes_from_the_file_and_from_the_folders(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study.tar.xz"
    assert call(["runs", "publish", "--runs-dir", str(study), "--out", str(out)]) == 0
    assert "4 runs" in (told := capsys.readouterr().out)
    assert "1 are not finished" in told
    finished = [str(run.folder) for run in read_runs(study) if run.finished]
    assert call(["compare", *finished, "--format", "csv"]) == 0
    from_folders = capsys.readouterr().out
    assert call(["compare", str(out), "--format", "csv"]) == 0
    assert capsys.readouterr().out == from_folders


def test_equal_runs_are_equal_bytes(study: Path, tmp_path: Path) -> None:
    runs = read_runs(study)
    publish(runs, tmp_path / "a.tar.xz")
    publish(list(reversed(runs)), tmp_path / "b.tar.xz")
    assert (tmp_path / "a.tar.xz").read_bytes() == (tmp_path / "b.tar.xz").read_bytes()


def test_a_report_and_a_figure_are_made_from_the_file(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "study.tar.xz"
    publish(read_runs(study), out)
    page = tmp_path / "report"
    assert call(["report", str(out), "--no-tracking", "--out", str(page)]) == 0
    assert (page / "report.html").stat().st_size > 10_000
    assert call(["figure", str(out), "--out", str(tmp_path / "f.png")]) == 0


def test_a_changed_figure_is_noticed(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "study.tar.xz"
    publish(read_runs(study), out)
    with unpacked(out) as folder:
        victim = next(folder.glob("*/*/*/cycles.jsonl"))
        victim.write_text(victim.read_text().replace('"accuracy":0', '"accuracy":1', 1))
        damaged = [run for run in read_runs(folder) if run.damage is not None]
    assert [run.folder.name for run in damaged] == [victim.parent.name]


def test_env_and_spec_are_proved_by_the_last_record(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "study.tar.xz"
    publish(read_runs(study), out)
    with unpacked(out) as folder:
        spec = next(folder.glob("*/*/*/spec.toml"))
        spec.write_text(spec.read_text().replace("budget = 30", "budget = 31"))
        assert any(run.damage for run in read_runs(folder))


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_a_cut_file_is_one_line(study: Path, tmp_path: Path, cut: int) -> None:
    out = tmp_path / "study.tar.xz"
    publish(read_runs(study), out)
    out.write_bytes(out.read_bytes()[:cut])
    with pytest.raises(UserError, match="is damaged"), unpacked(out):
        pass


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "bad.tar.xz"
    with lzma.open(out, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("a/b/c/spec.toml")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(UserError, match="is damaged"), unpacked(out):
        pass


def test_what_cannot_be_published_is_said(study: Path, tmp_path: Path) -> None:
    runs = read_runs(study)
    with pytest.raises(UserError, match=r"one \.tar\.xz file"):
        publish(runs, tmp_path / "study.zip")
    with pytest.raises(UserError, match="None of the 1 runs is finished"):
        publish([run for run in runs if not run.finished], tmp_path / "study.tar.xz")


def test_runs_are_listed_and_removed(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs-dir", str(study)]
    assert call(["runs", "list", *where]) == 0
    shown = capsys.readouterr().out
    assert "4 finished, 1 not started" in shown
    names = [line.partition("digits")[2].rpartition("  ")[0] for line in shown.splitlines()[:-1]]
    assert names == sorted(names)  # by data set, strategy and seed, not by key
    assert call(["runs", "remove", *where]) == 2  # all of them? Nobody said so
    assert call(["runs", "remove", "--state", "not started", "--yes", *where]) == 0
    assert len(read_runs(study)) == 4


def test_a_strategy_that_is_not_here_is_called_as_it_was_where_its_runs_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "there" / "mine.py"
    mine.parent.mkdir()
    mine.write_text(
        "from alharness.strategy import Parameters, PoolQuery, Strategy\n\n\n"
        "class Knobs(Parameters):\n    step: int = 1\n    start: int = 0\n\n\n"
        "class Mine(Strategy):\n    Parameters = Knobs\n\n"
        "    def select(self, view, query_size):\n"
        "        every = view.unlabelled[:: self.parameters.step]\n"
        "        return PoolQuery(every[:query_size])\n"
    )
    monkeypatch.chdir(mine.parent)
    small = ["--budget", "30", "--query-size", "10", "--no-tracking", "--quiet"]
    for step in ("1", "2"):
        setting = ["--set", f"strategy.step={step}"]
        assert call(["run", "./mine.py:Mine", "digits-two", *small, *setting]) == 0
    here = [label_of(run) for run in read_runs(Path("runs"))]
    assert sorted(here) == ["./mine.py:Mine", "./mine.py:Mine(step=2)"]
    (elsewhere := tmp_path / "elsewhere").mkdir()
    publish(read_runs(Path("runs")), elsewhere / "study.tar.xz")
    monkeypatch.chdir(elsewhere)
    mine.unlink()
    _declared.cache_clear()
    with unpacked(elsewhere / "study.tar.xz") as folder:
        assert sorted(map(label_of, read_runs(folder))) == sorted(here)
