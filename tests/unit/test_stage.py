"""One stage for runs, timing studies and checks: they cannot drift apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from alharness import registry
from alharness.artefacts import ArtefactStore, Supply, artefact_key
from alharness.availability import Availability
from alharness.engine.opening import OpenTask
from alharness.engine.stage import Stage, set_stage
from alharness.errors import UserError
from alharness.generative.making import networks_identity
from alharness.labelled import LabelledSet
from alharness.scaling.measure import run_of
from alharness.scaling.study import ScalingSpec
from alharness.spec import Bound, bind
from alharness.strategy import CycleView, PoolQuery, Strategy

#: Table 1, with the drawn faces and the digits that stand in for it here.
TASKS = [
    name for name in registry.names(registry.TASKS) if not registry.task_class(name).takes_argument
]


@dataclass
class Shaped:
    """A task as far as recipes ask: its images' shape."""

    item_shape: tuple[int, ...]
    fingerprint: str = "fingerprint"


def opened(bound: Bound, shape: tuple[int, ...]) -> OpenTask:
    """A run's task as if it were opened."""
    pool: Any = Shaped(shape)
    data: Any = type("Data", (), {"n_classes": 10})
    return OpenTask(bound, data, pool, None, None)  # type: ignore[arg-type]


def shape_of(task: str) -> tuple[int, ...]:
    if task.startswith("digits"):
        return (1, 8, 8)
    if "mnist" in task:
        return (1, 28, 28)
    return (3, 32, 32) if task.startswith(("cifar", "svhn")) else (3, 64, 64)


def artefact_keys(bound: Bound) -> dict[str, str]:
    task = opened(bound, shape_of(bound.spec.task.name))
    pool, networks = task.pool, task.networks
    of_generator = networks_identity(networks.generator_recipe(), pool.item_shape, pool.fingerprint)
    of_autoencoder = networks_identity(
        networks.autoencoder_recipe(), pool.item_shape, pool.fingerprint
    )
    return {
        "generator": artefact_key("generator", of_generator),
        "autoencoder": artefact_key("autoencoder", of_autoencoder),
    }


@pytest.mark.parametrize("profile", ["quick", "paper"])
@pytest.mark.parametrize("task", TASKS)
def test_a_run_and_a_timing_study_prepare_with_the_same_artefacts(task: str, profile: Any) -> None:
    run = bind({"task": task, "strategy": "asal-auto", "profile": profile, "device": "cpu"})
    study = ScalingSpec(task=task, profile=profile, strategies=("asal-auto",), device="cpu")
    assert artefact_keys(run_of(study, torch.device("cpu"))) == artefact_keys(run)


def test_table_1_names_the_generator_of_a_timing_study_too() -> None:
    study = ScalingSpec(task="cifar10-ten", profile="paper", strategies=("asal-auto",))
    networks = opened(run_of(study, torch.device("cpu")), (3, 32, 32)).networks
    assert networks.generator_recipe().recipe == "resnet-32-ct"


class Keeps(Strategy):
    """Keeps what it was prepared with."""

    source = "test"

    def prepare(self, preparation: Any) -> None:
        self.preparation = preparation

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        view.available.is_taken[:] = False  # a mask of its own
        view.available.asked[:] = -1
        return PoolQuery(view.labelled.indices[:query_size])


def staged(blobs: Any, tmp_path: Path) -> Stage:
    supply = Supply(ArtefactStore(tmp_path))
    return set_stage(Keeps(), blobs.problem, None, supply, name="./mine.py:Keeps")  # type: ignore[arg-type]


def test_a_preparation_holds_what_strategies_use_and_no_more(blobs: Any, tmp_path: Path) -> None:
    stage = staged(blobs, tmp_path)
    assert len(vars(stage.strategy.preparation)) <= 12  # type: ignore[attr-defined]
    assert not stage.adapted


def test_what_a_strategy_does_to_its_view_does_not_hide_what_was_asked(
    blobs: Any, tmp_path: Path
) -> None:
    stage = staged(blobs, tmp_path)
    taken = torch.arange(20)
    everything = LabelledSet().extended(blobs.oracle.annotate(PoolQuery(taken), cycle=-1))
    learner, _ = stage.fit(everything, seed=0)
    available = Availability(blobs.problem.pool.n, taken)
    view = stage.view(everything, learner, cycle=0, available=available)
    with pytest.raises(UserError, match=r"'\./mine\.py:Keeps' broke .* items already asked about"):
        stage.ask(view, 5, available)
    assert torch.equal(available.taken, torch.arange(20))


def test_run_and_study_set_the_same_problem() -> None:
    run = bind({"task": "digits-ten", "strategy": "random", "device": "cpu", "seed": 3})
    study = ScalingSpec(task="digits-ten", strategies=("random",), seed=3, device="cpu")
    timed = run_of(study, torch.device("cpu"))
    assert opened(run, (1, 8, 8)).problem == opened(timed, (1, 8, 8)).problem
