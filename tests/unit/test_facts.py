"""What a run says of itself is one typed value, written and read in one place."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alharness.engine import describing
from alharness.engine.describing import describe
from alharness.engine.opening import open_task
from alharness.engine.places import Places
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.files import read_toml
from alharness.records import RunFacts, RunFolder, SpecFacts, read_run
from alharness.spec import bind, resolve
from alharness.tasks.base import DataLocations

OLD = Path(__file__).parents[1] / "golden" / "stopped-run-of-0.1.0.tar"

#: The fields of ``env.json`` in their order, as version 0.2.0 wrote them; later ones stand between.
FIELDS = "sealed protocol run_key task strategy versions hardware git_commit sessions sha256"
TASK = "fingerprint class_names n_pool n_test test_counts item_shape residency forecast synthetic notes"
SESSION = "started_ms first_cycle versions hardware arithmetic git_commit distribution"


SETTINGS: dict[str, Any] = {
    "task": "digits-two", "strategy": "random", "budget": 40, "initial_size": 20, "query_size": 20,
    "device": "cpu", "learner": {"kind": "linear"},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    places = Places(tmp_path_factory.mktemp("runs"), DataLocations.resolve())
    return execute(resolve(SETTINGS), places)


@pytest.fixture
def old(tmp_path: Path) -> RunFolder:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    (spec,) = tmp_path.rglob("spec.toml")
    return RunFolder(spec.parent)


def test_the_fields_stand_in_the_file_in_their_order(folder: RunFolder) -> None:
    values = json.loads(folder.env.read_text())
    for part, names in ((values, FIELDS), (values["task"], TASK), (values["sessions"][0], SESSION)):
        assert [name for name in part if name in names.split()] == names.split()


def test_facts_that_are_written_again_are_the_same_bytes(folder: RunFolder) -> None:
    before = folder.env.read_bytes()
    folder.write_facts(folder.facts())
    assert folder.env.read_bytes() == before


def test_settings_stand_under_their_names_in_the_order_of_the_file(folder: RunFolder) -> None:
    facts = folder.spec_facts()
    assert facts is not None
    spec = read_toml(folder.spec)
    assert facts.as_written() == spec
    assert list(facts.as_written()) == list(spec)
    assert facts.settings["learner.kind"] == "linear"


def test_a_run_of_0_1_0_says_of_its_one_session_what_it_said_of_the_run(old: RunFolder) -> None:
    facts = old.facts()
    assert facts.as_written() == json.loads(old.env.read_text())
    (session,) = facts.sessions_of(len(old.records()))
    assert session.distribution == "alharness 0.1.0"
    assert (session.hardware, session.git_commit) == (facts.hardware, facts.git_commit)
    assert facts.compared["noise"] == "0.0", "what was not written was as it always was"


@pytest.mark.parametrize(
    ("claims_now", "computed", "goes_on"),
    [("theirs", False, True), ("another", False, False), ("theirs", True, False)],
    ids=["own data of before 0.3", "own data that claim something else", "a run since 0.3"],
)
def test_a_run_goes_on_under_the_name_that_its_data_gave_themselves_before_0_3(
    claims_now: str, computed: bool, goes_on: bool, tmp_path: Path
) -> None:
    bound = bind(SETTINGS)
    task = open_task(bound, Places(tmp_path, DataLocations.resolve()))
    task = replace(task, data=replace(task.data, claimed=claims_now))
    run = RunFolder(tmp_path)
    before = {"fingerprint": "theirs", "computed": computed}
    run.write_facts(RunFacts.model_validate({"task": before}))
    if goes_on:
        describe(bound.spec, run, task, resumed_at=1)
        assert (run.facts().task.fingerprint, run.facts().task.computed) == ("theirs", False)
    else:
        with pytest.raises(UserError, match="was made on data with fingerprint theirs"):
            describe(bound.spec, run, task, resumed_at=1)


def test_what_a_later_version_writes_is_kept() -> None:
    later: dict[str, Any] = {"run_key": "a", "sessions": [{"first_cycle": 0, "weather": "fine"}]}
    assert RunFacts.model_validate({**later, "mood": {"x": 1}}).as_written() == {
        **later,
        "mood": {"x": 1},
    }


@pytest.mark.parametrize(
    ("firsts", "n_records", "made"),
    [([0, 4], 6, [0, 4]), ([0, 0, 3], 6, [0, 3]), ([0, 6], 6, [0]), ([], 6, [0])],
    ids=["two", "one that ended before its first cycle", "one that made none", "none told"],
)
def test_sessions_are_those_that_made_records(
    firsts: list[int], n_records: int, made: list[int]
) -> None:
    facts = RunFacts.model_validate({"sessions": [{"first_cycle": first} for first in firsts]})
    assert [session.first_cycle for session in facts.sessions_of(n_records)] == made


def test_a_field_of_another_form_is_named(folder: RunFolder, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.spec.write_bytes(folder.spec.read_bytes())
    run.env.write_text('{"task": {"n_pool": "many"}}')
    with pytest.raises(UserError, match=r"env\.json' is damaged \(task\.n_pool: .*integer"):
        read_run(run.path)


def test_a_spec_may_name_a_plug_in_without_parameters() -> None:
    spec = SpecFacts.model_validate({"task": "digits-two", "strategy": {"name": "x", "k": 3}})
    assert (spec.task.name, spec.strategy.parameters) == ("digits-two", {"k": 3})


def test_libraries_of_every_plug_in_that_takes_part_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of = {("a", "mine"): {"numba": "1"}, ("b", "task"): {"numba": "1", "lmdb": "2"}, ("b", "x"): {}}
    monkeypatch.setattr(describing.plugins, "libraries_of", lambda *named: of[named])
    spec: Any = SimpleNamespace(named=tuple(of))
    assert describing._libraries(spec) == {"numba": "1", "lmdb": "2"}
