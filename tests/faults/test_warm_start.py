"""A network that starts from the cycle before: what is carried along survives every interruption."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from alharness.api.running import places_of
from alharness.artefacts import read_tensors, write_tensors
from alharness.cli import call
from alharness.engine.recording import Keeper
from alharness.engine.runner import execute
from alharness.errors import UserError
from alharness.learners.learner import digest_of
from alharness.records import RunFolder
from alharness.records.records import RecordFile
from alharness.spec import RunSpec, resolve

#: With batch normalisation: its running means are carried along, too.
NETWORK = '''
from torch import nn


def net(item_shape, n_classes):
    """A small network with running means."""
    n = item_shape[0] * item_shape[1] * item_shape[2]
    return nn.Sequential(
        nn.Flatten(), nn.Linear(n, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, n_classes)
    )
'''


def spec_of(kind: str = "mlp", **learner: Any) -> RunSpec:
    short = {"kind": kind, "width": 16, "min_steps": 20, "epochs": 1, "warm_start": True}
    return resolve(
        {
            "task": "digits-ten", "strategy": "margin", "device": "cpu", "budget": 100,
            "query_size": 20, "initial_size": 20, "learner": {**short, **learner},
        }
    )  # fmt: skip


def kept(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.path.glob("classifier_*"))


@pytest.fixture(params=["mlp", "net.py"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A network of ours, and one of somebody's own."""
    if request.param == "mlp":
        return "mlp"
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return f"{path}:net"


def test_the_first_cycle_is_from_scratch_and_the_others_are_not(tmp_path: Path) -> None:
    warm = execute(spec_of(), places_of(tmp_path, None)).records()
    cold = execute(spec_of(warm_start=False), places_of(tmp_path, None)).records()
    assert warm[0].learner_digest == cold[0].learner_digest
    assert warm[0].query == cold[0].query
    assert warm[1].labelled_digest == cold[1].labelled_digest
    assert warm[1].learner_digest != cold[1].learner_digest
    # Twenty more steps on twenty: the loss goes on where it was.
    assert warm[1].fit.train_loss < cold[1].fit.train_loss


@pytest.mark.parametrize("after", [1, 2, 4])
def test_an_interrupted_run_ends_in_the_same_bits(kind: str, after: int, tmp_path: Path) -> None:
    spec = spec_of(kind)
    whole = execute(spec, places_of(tmp_path / "whole", None))
    parts = execute(spec, places_of(tmp_path / "parts", None), max_cycles=after)
    assert kept(parts) == [f"classifier_{after - 1:04d}.safetensors"]
    execute(spec, places_of(tmp_path / "parts", None))
    assert [r.without_times() for r in parts.records()] == [
        r.without_times() for r in whole.records()
    ]
    assert kept(parts) == kept(whole) == []  # nothing of it is needed any more


@pytest.mark.parametrize(
    ("owner", "name"), [(Keeper, "keep"), (RecordFile, "append"), (RunFolder, "drop_classifiers")]
)
def test_a_kill_between_any_two_writes(
    owner: type, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the parameters of a cycle, between them and its line, and between line and tidying."""
    spec, calls = spec_of(), iter(range(100))
    whole = execute(spec, places_of(tmp_path / "whole", None)).records()
    plain = getattr(owner, name)

    class Killed(BaseException):
        """Nobody catches it."""

    def dying(*given: Any, **more: Any) -> Any:
        if next(calls) == 2:
            raise Killed
        return plain(*given, **more)

    where = places_of(tmp_path / "parts", None)
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, dying)
        with pytest.raises(Killed):
            execute(spec, where)
    folder = execute(spec, where)
    assert [r.without_times() for r in folder.records()] == [r.without_times() for r in whole]
    assert kept(folder) == []


@pytest.mark.parametrize("how", ["gone", "other", "torn"])
def test_other_parameters_are_never_gone_on_from(how: str, tmp_path: Path) -> None:
    spec, where = spec_of(), places_of(tmp_path, None)
    folder = execute(spec, where, max_cycles=2)
    file = folder.classifier(1)
    before = folder.cycles.read_bytes()
    if how == "gone":
        file.unlink()
    elif how == "torn":
        file.write_bytes(file.read_bytes()[:-7])
    else:
        held = read_tensors(file)
        next(iter(held.values())).view(-1)[0] += 1
        write_tensors(file, held)
    with pytest.raises(UserError) as told:
        execute(spec, where)
    assert str(file) in str(told.value)
    assert folder.cycles.read_bytes() == before
    execute(spec, where, fresh=True)
    assert folder.is_finished()


def test_a_stopped_runs_parameters_are_those_of_its_record(tmp_path: Path) -> None:
    folder = execute(spec_of(), places_of(tmp_path, None), max_cycles=2)
    assert digest_of(read_tensors(folder.classifier(1))) == folder.records()[1].learner_digest


def test_a_run_without_keeps_no_parameters(tmp_path: Path) -> None:
    folder = execute(spec_of(warm_start=False), places_of(tmp_path, None), max_cycles=2)
    assert kept(folder) == []


def test_a_copied_folder_goes_on(tmp_path: Path) -> None:
    """What is needed lies in the run's folder alone."""
    spec = spec_of()
    folder = execute(spec, places_of(tmp_path / "here", None), max_cycles=2)
    there = spec.folder(tmp_path / "there")
    shutil.copytree(folder.path, there)
    shutil.rmtree(tmp_path / "here")
    assert execute(spec, places_of(tmp_path / "there", None)).is_finished()


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"kind": "linear"}, "learner.warm_start is for networks; the classifier 'linear' is none"),
        ({"kind": "sklearn.naive_bayes:GaussianNB"}, "learner.warm_start is for networks"),
        ({"kind": "mlp", "members": 3}, "members of an ensemble differ by where they start"),
        ({"kind": "mlp", "freeze": True, "weights": "x.safetensors"}, "is solved and has no start"),
    ],
)
def test_what_has_no_start_is_refused(learner: dict[str, Any], message: str) -> None:
    given = {"task": "digits-ten", "strategy": "margin"}
    with pytest.raises(UserError, match=message):
        resolve({**given, "learner": {**learner, "warm_start": True}})


def test_a_strategy_with_a_classifier_of_its_own_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "learning-loss", "digits-ten", "--no-tracking", "--runs-dir", str(tmp_path)]
    short = ["--set", "learner.kind=mlp", "--set", "learner.warm_start=true"]
    assert call([*words, *short]) == 2
    assert "trains a classifier of its own" in capsys.readouterr().err
