"""``alharness check`` catches what it names, and says so on the command line."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import unittest
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from pydantic import BaseModel, Field, create_model

from alharness import conformance
from alharness.cli import call
from alharness.conformance import check_strategy
from alharness.conformance.checks import _moved
from alharness.conformance.effects import other_values
from alharness.errors import UserError
from alharness.learners.learner import LearnerSettings, NetworkLearner
from alharness.strategy import CycleView, Parameters, PoolQuery, ScoreStrategy, Strategy

SAMPLES = Path(__file__).parents[1] / "gallery" / "strategies.py"
#: Those that a run need not find.
CHECKED = SAMPLES.with_name("strategies_checked.py")


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"gallery_of_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that another process can be told where a class is
    spec.loader.exec_module(module)
    return module


BROKEN = [
    found
    for path in (SAMPLES, CHECKED)
    for _, found in inspect.getmembers(_load(path), inspect.isclass)
    if hasattr(found, "caught_by")
]


@pytest.mark.parametrize("sample", BROKEN, ids=lambda sample: sample.__name__)
def test_a_broken_sample_is_caught_by_the_check_that_names_it(sample: type[Strategy]) -> None:
    (check,) = [
        check
        for check in conformance.checks(sample)
        if check.name == sample.caught_by  # type: ignore[attr-defined]
    ]
    with pytest.raises(getattr(sample, "raises", AssertionError)):
        check()


class Sound(ScoreStrategy):
    """Asks where the largest probability is smallest."""

    def score(self, log_p_NC):  # type: ignore[no-untyped-def]
        return -log_p_NC.amax(dim=1)


@pytest.mark.parametrize("check", conformance.checks(Sound), ids=str)
def test_the_checks_run_one_by_one_in_a_third_partys_pytest(
    check: conformance.BoundCheck,
) -> None:
    check()


class Settings(Parameters):
    share: float = Field(0.5, gt=0, le=1)
    power: int = Field(0, ge=0, json_schema_extra={"seen_elsewhere": "on large pools"})
    note: str = ""


class Declares(Strategy):
    """One parameter shows beside another value of ``turn`` alone, one says where it shows, one is a text."""

    class Parameters(Settings):
        turn: bool = False

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        start = int(self.parameters.share * 10) if self.parameters.turn else 0
        return PoolQuery(view.unlabelled[start : start + query_size])


def test_a_parameter_may_show_beside_another_one_or_elsewhere() -> None:
    (parameters,) = (check for check in conformance.checks(Declares) if check.name == "parameters")
    with pytest.raises(unittest.SkipTest, match="no other value of note can be guessed"):
        parameters()


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (Field(5, ge=1), [1, 11, 6, 4]),
        (Field(0, ge=0), [1]),
        (Field(3, ge=2, le=4), [2, 4]),
    ],
)
def test_other_values_are_those_that_a_declaration_allows(field: Any, values: list[int]) -> None:
    model = create_model("Model", number=(int, field))
    assert list(other_values(model, "number", field.default)) == values


def test_other_values_of_every_kind() -> None:
    class Model(BaseModel):
        share: float = Field(0.5, gt=0, le=1)
        way: Literal["a", "b", "c"] = "b"
        on: bool = True
        most: int | None = None
        text: str = ""

    found = {
        name: list(other_values(Model, name, f.default)) for name, f in Model.model_fields.items()
    }
    assert found["share"] == [0.25, 0.05, 0.3, 1.0]
    assert found["way"] == ["a", "c"]
    assert found["on"] == [False]
    assert found["most"] == [0, 3, 2]
    assert found["text"] == []


class NoSmallImages(Strategy):
    """Suits nothing that the checks have."""

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        return "images must be 64x64"

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        raise AssertionError("never asked")


def test_a_strategy_that_suits_no_problem_says_why() -> None:
    with pytest.raises(UserError, match="images must be 64x64"):
        check_strategy(NoSmallImages)


def test_the_command_prints_a_table_and_exits_with_1_on_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["check", f"{CHECKED}:Duplicates"]) == 1
    table = capsys.readouterr().out
    assert "FAIL  distinct" in table
    assert "5 items, only 1 of them distinct" in table
    assert "ok    query-type" in table


def test_an_error_is_told_once_with_its_file_and_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["check", f"{SAMPLES}:Divides"]) == 1
    table = capsys.readouterr().out
    assert table.count("ZeroDivisionError") == 1
    assert "found ZeroDivisionError: division by zero" in table
    assert "gallery/strategies.py, line " in table
    assert "FAIL  as query-type, " in table


def test_leaving_with_0_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["check", f"{SAMPLES}:Exits"]) == 1
    assert "found an exit with code 0" in capsys.readouterr().out


def test_who_is_not_deterministic_is_not_called_a_peeker(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["check", f"{CHECKED}:FollowsTheClock"]) == 1
    lines = capsys.readouterr().out.splitlines()
    (hidden,) = (line for line in lines if "hidden-targets" in line)
    assert "not deterministic" in hidden
    assert "peeks" not in hidden


def test_a_wrong_parameter_is_refused_as_a_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["check", "max-entropy", "--set", "steps=3"]) == 2
    assert "Unknown setting 'strategy.steps'" in capsys.readouterr().err


def test_the_command_exits_with_0_for_a_sound_strategy(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["check", "max-entropy"]) == 0
    assert "0 failed" in capsys.readouterr().out


def test_the_command_checks_a_strategy_over_a_random_subset(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(["check", "subset:20:max-entropy"]) == 0
    assert "0 failed" in capsys.readouterr().out


def test_the_command_names_the_nearest_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["check", "max-entropie"]) == 2
    assert "Did you mean 'max-entropy'?" in capsys.readouterr().err


def test_a_learner_taken_to_another_device_leaves_the_first_one_alone() -> None:
    settings = LearnerSettings(kind="mlp", width=4, min_steps=1, epochs=1)
    learner = NetworkLearner((1, 8, 8), 2, torch.device("cpu"), settings)
    learner.network = learner.build().eval()
    moved = _moved(learner, torch.device("meta"))
    assert moved.device.type == "meta"
    assert {values.device.type for values in moved.state().values()} == {"meta"}
    assert {values.device.type for values in learner.state().values()} == {"cpu"}
