"""Fits side by side: the same bits whoever the partners are, and nobody pays for another's mistake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alharness import timing
from alharness.errors import UserError
from alharness.executors import packed as runs
from alharness.labelled import LabelledSet
from alharness.learners import packed
from alharness.learners.factory import learner_factory
from alharness.learners.learner import Learner, LearnerSettings
from alharness.learners.loss_prediction import learning_loss_factory
from alharness.pool import ArrayPool
from alharness.spec import resolve

CPU = torch.device("cpu")


def settings(kind: str = "mlp", **others: Any) -> LearnerSettings:
    small = {"width": 8, "min_steps": 6, "epochs": 2, "batch_size": 10, "dropout": 0.3, "pack": 3}
    return LearnerSettings(**{"kind": kind, **small, **others})


def fitted(n: int, seed: int, recipe: LearnerSettings | None = None) -> Learner:
    recipe = recipe or settings()
    shape = (1, 8, 8) if recipe.kind == "mlp" else (3, 16, 16)
    rng = torch.Generator().manual_seed(0)
    pool = ArrayPool(torch.randint(0, 256, (40, *shape), generator=rng, dtype=torch.uint8))
    learner = learner_factory(recipe)(shape, 2, CPU)
    learner.fit(LabelledSet(torch.arange(n), torch.arange(n) % 2, n_asked=n), pool, seed=seed)
    return learner


def together(*work: Callable[[], Any]) -> list[Any]:
    """What each function gives, or raises, when they are runs that meet."""
    meeting, found = runs.Meeting(), [None] * len(work)
    gate = threading.Barrier(len(work))

    def one(number: int) -> None:
        gate.wait()
        try:
            with meeting.run():
                found[number] = work[number]()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lanes each training had."""
    sizes: list[int] = []
    train = packed.train_together

    def counted(lanes: list[packed.Lane]) -> list[torch.Tensor]:
        sizes.append(len(lanes))
        return train(lanes)

    monkeypatch.setattr(runs, "train_together", counted)
    return sizes


@pytest.mark.parametrize(
    "recipe",
    [settings(), settings("strided-cnn", width=2, augment="flip-crop")],
    ids=["mlp", "flip-crop"],
)
def test_the_partners_make_no_difference(recipe: LearnerSettings, met: list[int]) -> None:
    """Three runs with other seeds and other numbers of labels, of which one has two cycles more."""
    alone = [fitted(n, seed, recipe).digest() for n, seed in ((23, 1), (8, 2), (30, 3), (35, 3))]

    def one_cycle(n: int, seed: int) -> Callable[[], str]:
        return lambda: fitted(n, seed, recipe).digest()

    def two_cycles() -> list[str]:
        return [fitted(n, 3, recipe).digest() for n in (30, 35)]

    first, second, third = together(one_cycle(23, 1), one_cycle(8, 2), two_cycles)
    assert [first, second, *third] == alone
    assert sum(met) == 4
    assert max(met) >= 2


def test_only_networks_of_one_kind_are_trained_side_by_side(met: list[int]) -> None:
    wide = settings(width=9)
    alone = [fitted(20, 1).digest(), fitted(20, 1, wide).digest()]
    assert together(lambda: fitted(20, 1).digest(), lambda: fitted(20, 1, wide).digest()) == alone
    assert met == [1, 1]


def test_a_fit_that_fails_is_its_own_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fitted(20, 1).digest()
    table = packed.Batches.table

    def broken(batches: Any, size: int) -> torch.Tensor:
        if len(batches.rows[0]) == 9:
            raise ValueError("nine items")
        return table(batches, size)

    monkeypatch.setattr(packed.Batches, "table", broken)
    good, bad = together(lambda: fitted(20, 1).digest(), lambda: fitted(9, 1).digest())
    assert good == expected
    assert isinstance(bad, ValueError)


def test_a_run_that_ends_or_fails_before_its_fit_is_not_waited_for() -> None:
    def fails() -> None:
        raise KeyError("a partner")

    expected = fitted(20, 1).digest()
    good, bad, empty = together(lambda: fitted(20, 1).digest(), fails, lambda: "nothing to train")
    assert good == expected
    assert isinstance(bad, KeyError)
    assert empty == "nothing to train"


def test_time_in_which_others_have_the_turn_is_not_the_runs() -> None:
    def timed(pause: float) -> tuple[float, float]:
        begin = timing.now()
        time.sleep(pause)
        own = timing.now() - begin
        begin = timing.now()
        fitted(20, 1)
        return own, timing.now() - begin

    pauses = (0.0, 0.4, 0.4)
    for (own, fit_s), pause in zip(
        together(*(lambda pause=pause: timed(pause) for pause in pauses)), pauses, strict=True
    ):
        assert pause <= own < pause + 0.2  # nobody else computed meanwhile
        assert 0 < fit_s < 0.3  # its share; others' pauses took longer


def test_a_mask_is_a_hash_of_seed_step_layer_and_position() -> None:
    assert packed.hashed(torch.tensor([1, 0xFFFFFFFF])).tolist() == [0x514E28B7, 0x81F16F39]
    network = packed._with_hashed_dropout(
        torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.3), torch.nn.Dropout(0.3))
    )
    layer = network.get_submodule("1")

    def mask(seed: int, step: int, number: int) -> torch.Tensor:
        keys = packed._keys(network, packed._words(seed), torch.tensor(step))
        layer.key = keys[f"{number}.key"]
        return layer(torch.ones(100, 100)) > 0

    masks = [mask(0, 0, 1), mask(1, 0, 1), mask(0, 1, 1), mask(0, 0, 2)]
    assert torch.equal(masks[0], mask(0, 0, 1))
    for number, one in enumerate(masks):
        assert abs(one.float().mean() - 0.7) < 0.02
        for other in masks[:number]:  # independent: .7 x .7 + .3 x .3 agree
            assert abs((one == other).float().mean() - 0.58) < 0.02


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"kind": "linear"}, "the classifier 'linear'"),
        ({"kind": "resnet18"}, "the classifier 'resnet18'"),
        ({"kind": "mlp", "freeze": True}, "a frozen network's head"),
    ],
)
def test_what_cannot_be_packed_is_refused_before_anything_is_loaded(
    given: dict[str, Any], what: str
) -> None:
    with pytest.raises(UserError, match=f"{what} is none of them") as refused:
        resolve({"task": "digits-two", "strategy": "random", "learner": {**given, "pack": 5}})
    assert "\n" not in str(refused.value)


def test_a_foreign_network_is_refused(tmp_path: Path) -> None:
    source = "from torch import nn\ndef own(shape, n):\n    return nn.Linear(64, n)\n"
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(UserError, match="trains the harness's own networks side by side"):
        learner_factory(settings(f"{tmp_path / 'mine.py'}:own", dropout=0.0))


def test_a_strategys_own_classifier_is_trained_by_itself(met: list[int]) -> None:
    def learn() -> str:
        learner = learning_loss_factory(settings())((1, 8, 8), 2, CPU)
        pool = ArrayPool(torch.arange(40 * 64, dtype=torch.uint8).reshape(40, 1, 8, 8))
        labelled = LabelledSet(torch.arange(20), torch.arange(20) % 2, n_asked=20)
        learner.fit(labelled, pool, seed=0)
        return learner.digest()

    assert together(learn, learn) == [learn(), learn()]
    assert met == []


def test_the_pack_is_part_of_a_runs_key_and_no_pack_changes_none() -> None:
    asked = {"task": "digits-two", "strategy": "random"}
    keys = [
        resolve({**asked, "learner": {"kind": "mlp", **pack}}).run_key
        for pack in ({}, {"pack": 1}, {"pack": 2}, {"pack": 5})
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
