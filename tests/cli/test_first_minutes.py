"""What somebody types in the first minutes, and what it costs hours not to be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from alharness.cli import call
from alharness.comparison.levels import ALPHA
from alharness.comparison.signed_ranks import smallest_p
from alharness.executors.outlook import decides
from alharness.plugins import STRATEGIES, listings
from alharness.spec import as_called, resolve
from alharness.spec.devices import called

SMALL = ["--set", "budget=40", "--set", "min_steps=5", "--device", "cpu"]

STUDY = """\
[base]
{word} = "digits-two"
budget = 60

[[runs]]
strategy = ["random", "margin", "max-entropy", "badge"]
seed = "{seeds}"
"""


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("gpu", "cuda"), ("GPU", "cuda"), ("gpu:1", "cuda:1"), ("rocm", "cuda"), ("cpu", "cpu")],
)
def test_gpu_means_what_torch_calls_cuda(asked: str, meant: str) -> None:
    assert called(asked) == meant


def test_a_gpu_that_is_not_here_is_told_as_one(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert call(["run", "margin", "digits-two", "--device", "gpu"]) == 2
    assert "No CUDA device is available here" in capsys.readouterr().err


def test_a_run_without_names_shows_one_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run"]) == 2
    assert "alharness run margin digits-ten" in capsys.readouterr().err


def test_strategies_are_listed_by_family_with_what_it_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert any("needs a generator" in head for head in heads)
    place = lines.index("Disagreement (needs learner.dropout, or an ensemble):")
    assert [line.split()[0] for line in lines[place + 1 : place + 4]] == [
        "bald",
        "batch-bald",
        "qbc",
    ]
    # Each once, and all of ours in a family.
    ours = [e for e in listings(STRATEGIES) if e.distribution.startswith("alharness ")]
    assert all(entry.family for entry in ours)
    named = [line.split()[0] for line in lines if line.startswith("  ")]
    assert sorted(named) == sorted(entry.name for entry in listings(STRATEGIES))


def test_a_file_may_call_the_task_a_dataset_as_the_commands_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for word in ("task", "dataset"):
        path = tmp_path / word / "study.toml"
        path.parent.mkdir()
        path.write_text(STUDY.format(word=word, seeds="0-9"))
        assert call(["sweep", str(path), "--dry-run", "--runs-dir", str(tmp_path / "runs")]) == 0
        told.append(capsys.readouterr().out.splitlines()[1:])
    assert told[0] == told[1]
    by_task = resolve({"task": "digits-two", "strategy": "random"})
    assert resolve({"dataset": "digits-two", "strategy": "random"}).run_key == by_task.run_key
    # A name in one word, and what belongs to it in the other.
    both = as_called({"dataset": ["npz:a", "npz:b"], "task": {"positive": "yes"}})
    assert both == {"task": [{"name": f"npz:{n}", "positive": "yes"} for n in "ab"]}
    path.write_text(
        STUDY.format(word="dataset", seeds="0") + 'task = "digits-ten"\ndataset = "x"\n'
    )
    assert call(["sweep", str(path), "--dry-run"]) == 2
    assert "'dataset' and 'task' are one setting" in capsys.readouterr().err


def test_a_dry_run_fits_a_screen_and_says_what_its_seeds_can_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    where = ["--runs-dir", str(tmp_path / "runs")]
    path.write_text(STUDY.format(word="task", seeds="0-99"))
    assert call(["sweep", str(path), "--dry-run", *where]) == 0
    out = capsys.readouterr().out
    assert "400 runs" in out
    assert len(out.splitlines()) <= 24
    assert "100 seeds can decide 3 comparisons: a difference of 0." in out
    path.write_text(STUDY.format(word="task", seeds="0-2"))
    assert call(["sweep", str(path), "--dry-run", *where]) == 0
    out = capsys.readouterr().out
    assert (
        "With 3 seeds and 3 comparisons nothing can be significant: 7 seeds are the fewest" in out
    )
    assert "'full' is missing" in out


def told_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], strategies: list[str], more: str
) -> list[str]:
    """What a dry run says of strategies x 10 seeds on two digits, from the line that heads them on."""
    path = tmp_path / "study.toml"
    path.write_text(
        f'[base]\ntask = "digits-two"\n[[runs]]\nstrategy = {strategies}\nseed = "0-9"\n{more}'
    )
    assert call(["sweep", str(path), "--dry-run", "--runs-dir", str(tmp_path / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    return lines[next(i for i, line in enumerate(lines) if line.startswith("digits-two")) :]


def test_a_dry_run_counts_the_comparisons_that_compare_will_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["random", "core-set", "asal-auto"]
    lines = told_before(tmp_path, capsys, names, "generator = {seed = [0, 1]}")
    assert lines[1] == (
        "  strategies  4: random, core-set, asal-auto [generator.seed=0], asal-auto [generator.seed=1]"
    )
    assert lines[3].startswith("  10 seeds can decide 3 comparisons")
    assert sum(line.startswith("digits-two:") for line in lines) == 1


def test_a_dry_run_names_what_is_one_comparison_on_two_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["random", "margin", "max-entropy", "subset:50:margin", "subset:60:max-entropy"]
    lines = told_before(tmp_path, capsys, names, "")
    told = [line for line in lines if "they count once there" in line]
    assert told == [
        "  margin, max-entropy ask the same where there are two classes: they count once there."
    ]


def test_a_dry_run_counts_no_bound_among_the_comparisons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = '[[runs]]\nstrategy = ["greedy-bound", "full"]\nseed = 0'
    lines = told_before(tmp_path, capsys, ["random", "margin"], block)
    assert lines[1] == "  strategies  4: random, margin, greedy-bound, full"
    assert lines[2] == "  seeds       10 (0 to 9)"
    assert lines[3].startswith("  10 seeds can decide 1 comparison:")


def test_a_dry_run_says_that_compare_will_refuse_a_mix_of_protocols(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = told_before(tmp_path, capsys, ["random", "margin"], "budget = [60, 80]")
    assert [line for line in lines if line.startswith("digits-two")] == [
        "digits-two, budget 60: 20 labels at the start, 10 a cycle, 60 in all; 20 runs",
        "digits-two, budget 80: 20 labels at the start, 10 a cycle, 80 in all; 20 runs",
    ]
    assert any('compare refuses them together: split_by = ["budget"]' in line for line in lines)
    named = (tmp_path / "study.toml").read_text()
    (tmp_path / "study.toml").write_text(f'split_by = ["budget"]\n{named}')
    assert call(["sweep", str(tmp_path / "study.toml"), "--dry-run"]) == 0
    assert "refuses" not in capsys.readouterr().out


@pytest.mark.parametrize("n_comparisons", [1, 2, 3, 10, 40])
def test_the_fewest_seeds_are_those_of_the_exact_test(n_comparisons: int) -> None:
    level = ALPHA / n_comparisons
    enough = next(n for n in range(6, 20) if smallest_p(n) <= level)
    assert f"{enough} seeds are the fewest" in decides(enough - 1, n_comparisons)
    assert "nothing" not in decides(enough, n_comparisons)


@pytest.mark.usefixtures("sweeps_here")
def test_a_sweep_says_before_its_hours_what_it_cannot_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--runs-dir", str(tmp_path), "--no-tracking", *SMALL]
    names = ["--strategies", "random,margin", "--datasets", "digits-two", "--seeds", "0"]
    assert call(["sweep", *names, *where]) == 0
    out = capsys.readouterr().out
    assert out.index("nothing can be significant") < out.index("1/2")
    # What is finished already has nothing to be warned of.
    assert call(["sweep", *names, *where]) == 0
    assert "nothing can be significant" not in capsys.readouterr().out


def test_the_status_of_a_sweep_is_one_command_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["--strategies", "random", "--datasets", "digits-two", "--seeds", "0-1", *SMALL]
    runs = ["--runs-dir", str(tmp_path)]
    assert call(["run", "random", "digits-two", "--no-tracking", "--quiet", *SMALL, *runs]) == 0
    assert call(["sweep", "status", *names, *runs]) == 0
    out = capsys.readouterr().out
    assert "2 runs, 1 finished, 0 to continue, 1 to start" in out
    assert "Carry on:  alharness sweep --strategies random --datasets digits-two" in out
    assert len(list(tmp_path.glob("*/*/*"))) == 1
    # A run that was stopped after a cycle is one to continue.
    (folder,) = tmp_path.glob("*/*/*")
    lines = (folder / "cycles.jsonl").read_text().splitlines(keepends=True)
    (folder / "cycles.jsonl").write_text(lines[0])
    assert call(["sweep", "status", *names, *runs]) == 0
    out = capsys.readouterr().out
    assert "to continue: digits-two / random / seed 0  20 of 40 annotations" in out
