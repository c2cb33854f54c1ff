"""Table 1 as defaults, and what every installed task must say about itself."""

from __future__ import annotations

import pytest

from alharness import registry
from alharness.plugins import LEARNERS, names
from alharness.tasks.base import TaskPlugin

#: Budget, New, Initial, classifier (paper, Table 1; CelebA's initial set after decisions T1).
TABLE_1 = {
    "mnist-two": (500, 10, 50, "linear"),
    "cifar10-two": (1000, 10, 50, "linear"),
    "mnist-ten": (10_000, 50, 100, "mnist-cnn"),
    "cifar10-ten": (30_000, 1000, 1000, "all-cnn"),
    "celeba-blond-hair": (2000, 10, 100, "strided-cnn"),
    "celeba-wearing-hat": (2000, 10, 100, "strided-cnn"),
    "celeba-bangs": (2000, 10, 100, "strided-cnn"),
    "celeba-eyeglasses": (2000, 10, 100, "strided-cnn"),
    "svhn": (50_000, 1000, 1000, "all-cnn"),
    "lsun": (30_000, 1000, 1000, "strided-cnn"),
}
#: "AL Cycles" of Table 1.
CYCLES = {
    "mnist-two": 45,
    "cifar10-two": 95,
    "mnist-ten": 198,
    "cifar10-ten": 29,
    "celeba-bangs": 190,
    "svhn": 49,
    "lsun": 29,
}


#: What stands behind the colon of data sets that want something there.
ARGUMENTS = {
    "folder": ":somewhere",
    "augmented": ":digits-two:1000",
    "long-tail": ":10:digits-two",
    "npz": ":somewhere.npz",
    "parquet": ":somewhere",
    "table": ":somewhere.csv",
    "torchvision": ":MNIST",
}


def open_task(name: str) -> TaskPlugin:
    return registry.resolve_task(name + ARGUMENTS.get(name, ""))


@pytest.mark.parametrize("name", TABLE_1)
def test_paper_profile_is_table_1(name: str) -> None:
    defaults = open_task(name).defaults("paper")
    found = (defaults.budget, defaults.query_size, defaults.initial_size, defaults.learner.kind)
    assert found == TABLE_1[name]
    if name in CYCLES:
        n_cycles = (defaults.budget - defaults.initial_size) / defaults.query_size
        assert n_cycles == CYCLES[name]


@pytest.mark.parametrize("name", registry.names(registry.TASKS))
def test_every_task_has_sound_defaults_and_says_where_its_data_come_from(name: str) -> None:
    task = open_task(name)
    assert task.source
    assert (type(task).__doc__ or "").strip()
    for profile in ("quick", "paper"):
        defaults = task.defaults(profile)  # type: ignore[arg-type]
        assert 0 < defaults.initial_size < defaults.budget
        assert defaults.learner.kind in names(LEARNERS)
        # Augmentation belongs to LSUN alone (Sec. 4.2).
        assert (defaults.learner.augment != "none") == (name == "lsun")
    quick, paper = task.defaults("quick"), task.defaults("paper")
    assert quick.budget <= paper.budget


def test_celeba_shares_one_data_set_and_mnist_too() -> None:
    celeba = {open_task(name).dataset for name in TABLE_1 if name.startswith("celeba")}
    mnist = {open_task(name).dataset for name in TABLE_1 if name.startswith("mnist")}
    assert len(celeba) == len(mnist) == 1
