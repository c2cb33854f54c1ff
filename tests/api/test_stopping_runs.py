"""Runs that a stopping rule ends, and runs on which rules are judged afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import alharness
from alharness.api.running import places_of
from alharness.cli import call
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.executors.sweep_files import read_sweep
from alharness.executors.sweeps import Choices, expand
from alharness.records import read_run
from alharness.records.records import RecordFile
from alharness.spec import resolve
from alharness.stopping import ends_at, named, seen_of

SETTINGS: dict[str, Any] = {
    "budget": 160,
    "query_size": 20,
    "initial_size": 20,
    "device": "cpu",
    "learner": {"kind": "linear"},
}


def going(tmp_path: Path, *, seed: int = 0, strategy: str = "margin", **settings: Any) -> Any:
    """A run on digits-ten with eight cycles at most."""
    given = {**SETTINGS, "seed": seed, **settings}
    return alharness.run(strategy, "digits-ten", runs_dir=tmp_path, tracking=False, **given)


def test_a_run_without_rules_keeps_a_stop_set_and_its_key(tmp_path: Path) -> None:
    asked = {**SETTINGS, "strategy": "margin", "task": "digits-ten"}
    assert resolve(asked).run_key == resolve({**asked, "stop": []}).run_key
    records = going(tmp_path).records
    assert len(records) == 8
    for record in records:
        figures = record.stop_set
        assert figures is not None
        assert figures.size == len(figures.predicted()) == 256
        assert len(record.model_dump_json(include={"stop_set"})) < 600  # a few hundred bytes
        assert record.stopped is None
        assert record.cross_validated is None
        # Paid by the harness: in no phase of the selection.
        assert record.time.stop_s is not None
        assert "stop" not in record.time.phases
    labelled = [record.stop_set.n_labelled for record in records]
    assert labelled == sorted(labelled)
    assert labelled[-1] > 0


def test_the_stop_set_is_one_for_all_strategies_of_a_seed(tmp_path: Path) -> None:
    first = {
        strategy: going(tmp_path, strategy=strategy, budget=40).records[0].stop_set
        for strategy in ("margin", "random")
    }
    assert first["margin"] == first["random"]
    other = going(tmp_path, seed=1, data_seed=0, budget=40).records[0]
    assert other.stop_set != first["margin"]  # drawn from the run's seed


@pytest.mark.parametrize(
    "rule",
    ["kappa:threshold=0.8,window=2", "classification-change:0.1", "confidence:1", "entropy:1.92",
     "overall-uncertainty:0.5", "budget:60", "target:0.8"],
)  # fmt: skip
def test_a_run_ends_where_its_rule_says_so_of_its_records(rule: str, tmp_path: Path) -> None:
    """In the run and afterwards on its records the rule is one function."""
    whole = going(tmp_path / "whole", **({"stop": "target:1"} if rule.startswith("target") else {}))
    stopped = going(tmp_path / "stopped", stop=rule)
    expected = ends_at(named(rule), whole.records)
    last = stopped.records[-1]
    assert expected is not None, "choose another border: this rule has to end the run"
    assert expected < 7
    assert last.cycle == ends_at(named(rule), stopped.records) == expected
    assert last.final
    assert last.query is None
    assert last.stopped.startswith(f"{named(rule).label}: ")
    # Up to there it is the run without: the same labels, classifiers and predictions.
    for ours, without in zip(stopped.records, whole.records, strict=False):
        assert seen_of(ours).before_asking() == seen_of(without).before_asking()
        assert ours.learner_digest == without.learner_digest
        assert ours.test == without.test


def test_the_first_of_several_rules_ends_a_run(tmp_path: Path) -> None:
    found = going(tmp_path, stop=["kappa", "budget:60", "budget:100"])
    assert found.records[-1].n_asked == 60
    assert found.records[-1].stopped == "budget(annotations=60): 60 of 60 annotations"


def test_a_rule_that_would_stop_at_the_end_stops_nothing(tmp_path: Path) -> None:
    last = going(tmp_path, stop="budget:160").records[-1]
    assert (last.n_asked, last.final, last.stopped) == (160, True, None)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_an_interrupted_run_stops_where_it_would_have(after: int, tmp_path: Path) -> None:
    rules = ["kappa:threshold=0.8,window=2", "target:0.95"]
    whole = going(tmp_path / "whole", stop=rules)
    assert whole.records[-1].stopped is not None
    spec = resolve({**SETTINGS, "strategy": "margin", "task": "digits-ten", "stop": rules})
    where = places_of(tmp_path / "parts", None)
    folder = execute(spec, where, max_cycles=after)
    assert len(folder.records()) == after
    assert not folder.is_finished()
    again = going(tmp_path / "parts", stop=rules)
    assert again.folder == folder.path  # the rule is in the key: the same command goes on
    assert [r.without_times() for r in again.records] == [r.without_times() for r in whole.records]


def test_a_stopped_run_is_finished_and_not_run_again(tmp_path: Path) -> None:
    first = going(tmp_path, stop="budget:60")
    again = going(tmp_path, stop="budget:60")
    assert again.records == first.records
    assert any("finished before" in note for note in again.notes)
    assert read_run(first.folder).state() == "finished"


def test_a_rule_and_its_parameters_are_in_the_key_and_the_spec(tmp_path: Path) -> None:
    asked = {**SETTINGS, "strategy": "margin", "task": "digits-ten"}
    keys = {
        resolve({**asked, "stop": stop}).run_key
        for stop in ([], "kappa", "kappa:0.98", ["kappa", "budget:60"], "budget:60")
    }
    assert len(keys) == 5
    same = [{"name": "kappa", "threshold": 0.99, "window": 3}]
    assert resolve({**asked, "stop": same}).run_key == resolve({**asked, "stop": "kappa"}).run_key
    found = going(tmp_path, stop="budget:60")
    config = found.folder / "spec.toml"
    assert 'name = "budget"' in config.read_text(encoding="utf-8")
    assert call(["run", "--config", str(config), "--runs-dir", str(tmp_path), "--no-tracking"]) == 0
    assert len(list(tmp_path.glob("digits-ten/margin/*/cycles.jsonl"))) == 1
    assert "stop" not in going(tmp_path, budget=40).folder.joinpath("spec.toml").read_text()


def test_a_run_from_before_there_was_a_stop_set_goes_on_without(tmp_path: Path) -> None:
    """Its records stay of one kind, and a rule says what it misses."""
    spec = resolve({**SETTINGS, "strategy": "margin", "task": "digits-ten"})
    where = places_of(tmp_path, None)
    folder = execute(spec, where, max_cycles=2)
    old = [record.model_copy(update={"stop_set": None}) for record in folder.records()]
    folder.cycles.unlink()
    file = RecordFile(folder.cycles)
    for record in old:
        file.append(record)
    execute(spec, where)
    assert [record.stop_set for record in folder.records()] == [None] * 8
    assert '"stop_set"' not in folder.cycles.read_text(encoding="utf-8")
    text = alharness.compare(tmp_path, stopping=["kappa", "budget:60"]).text()
    assert "Not judged on 1 of 1 runs: kappa. These runs have no predictions on a stop set" in text
    assert "budget(annotations=60)" in text


def test_rules_are_judged_on_runs_made_without_them(tmp_path: Path) -> None:
    runs = [going(tmp_path, seed=seed) for seed in (0, 1)]
    before = {run.folder: (run.folder / "cycles.jsonl").read_bytes() for run in runs}
    found = alharness.compare(*runs, stopping=["budget:60", "target:0.9"])
    (section,) = found.report.sections
    whole, budget = (item.as_dict() for item in section.stopping.judged)
    assert (whole["rule"], whole["fired"], whole["spent"]) == ("(none: whole budget)", 0, 160)
    accuracies = [[record.test.accuracy for record in run.records] for run in runs]
    lost = [max(values) - values[2] for values in accuracies]  # 20, 40, 60
    assert budget["rule"] == "budget(annotations=60)"
    assert (budget["runs"], budget["fired"], budget["spent"]) == (2, 2, 60)
    assert budget["lost"] == pytest.approx(sum(lost) / 2)
    assert budget["most_lost"] == pytest.approx(max(lost))
    near = [
        next(20 * (i + 1) for i, value in enumerate(values) if value >= max(values) - 0.005)
        for values in accuracies
    ]
    assert budget["hindsight"] == pytest.approx(sum(near) / 2)
    assert "Not judged on 2 of 2 runs: target(accuracy=0.9)" in found.text()
    assert json.loads(found.text("json"))["comparisons"][0]["stopping"][1]["spent"] == 60
    assert {run.folder: (run.folder / "cycles.jsonl").read_bytes() for run in runs} == before


def test_runs_that_a_rule_ended_are_complete_and_said_to_be(tmp_path: Path) -> None:
    going(tmp_path, strategy="margin", stop="budget:80")
    going(tmp_path, strategy="random", stop="budget:120")
    going(tmp_path, strategy="margin", stop="budget:120")
    with pytest.raises(UserError, match="'stop' is"):  # rules are part of the protocol
        alharness.compare(tmp_path)
    text = alharness.compare(tmp_path, split_by=["stop"]).text()
    assert "Complete: all 3 runs are finished." in text
    assert "1 of 1 runs of margin were ended by budget(annotations=80) at 80 of 160" in text


def test_csv_would_leave_the_verdicts_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    going(tmp_path, budget=40)
    more = ["--runs-dir", str(tmp_path), "--stopping", "budget:30"]
    assert call(["compare", *more, "--format", "csv"]) == 2
    assert "figures of merit alone" in capsys.readouterr().err
    assert call(["compare", *more, "--format", "md"]) == 0
    assert "budget(annotations=30)" in capsys.readouterr().out


def test_a_sweep_takes_rules_as_an_axis(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        'name = "rules"\n[base]\ntask = "digits-two"\n[[runs]]\nstrategy = ["random", "margin"]\n'
        'seed = [0]\nstop = ["kappa", "budget:40"]\n'
    )
    jobs = expand(read_sweep(file), Choices(), tmp_path)
    assert [[rule.name for rule in job.spec.stop] for job in jobs].count(["kappa"]) == 2
    assert len(jobs) == 4


MINE = '''
from alharness.stopping import Decision, Parameters, StoppingRule


class Mine(StoppingRule):
    """Stops at so many labels."""

    class Parameters(Parameters):
        labels: int = 60

    def decide(self, seen):
        n = seen[-1].n_labelled
        return Decision(n >= self.parameters.labels, f"{n} labels")
'''


def test_a_rule_of_ones_own_by_file(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(MINE)
    first = going(tmp_path / "runs", stop=f"{plugin}:Mine:labels=80")
    assert first.records[-1].stopped == f"{plugin}:Mine(labels=80): 80 labels"
    assert str(plugin) in first.run.spec.plugins  # an edit is another run
    plugin.write_text(MINE.replace("so many", "that many"))
    second = going(tmp_path / "runs", stop=f"{plugin}:Mine:labels=80")
    assert second.folder != first.folder


@pytest.mark.parametrize("words", [["list", "stopping"], ["show", "kappa"], ["check", "budget:30"]])
def test_the_commands_know_the_fourth_group(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(words) == 0
    told = {"list": "kappa", "show": "CoNLL 2009", "check": "0 failed"}[words[0]]
    assert told in capsys.readouterr().out


def test_real_mnist_with_a_rule(real_data: Path, tmp_path: Path) -> None:
    found = alharness.run(
        "margin", "mnist-two", runs_dir=tmp_path, data_root=real_data, tracking=False, device="cpu",
        budget=200, query_size=10, initial_size=10, learner={"kind": "linear"}, stop="kappa",
    )  # fmt: skip
    last = found.records[-1]
    assert last.stopped is not None
    assert last.n_asked < 200
    assert last.test.accuracy > 0.95
