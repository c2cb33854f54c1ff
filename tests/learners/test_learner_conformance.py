"""Every installed classifier, and anyone's, keeps the contract; a broken one is caught."""

from __future__ import annotations

from pathlib import Path

import pytest

from alharness.conformance.learners import check_learner
from alharness.errors import UserError
from alharness.learners.learner import LearnerSettings
from alharness.plugins import LEARNERS, names

MINE = '''
"""A third party's classifiers."""
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from torch import nn

from alharness.learners.learner import FitReport, Learner


class Net(nn.Module):
    """A small network with dropout and batch normalisation."""

    def __init__(self, item_shape, n_classes):
        super().__init__()
        self.conv = nn.Conv2d(item_shape[0], 8, 3, stride=2)
        self.norm = nn.BatchNorm2d(8)
        self.hidden = nn.LazyLinear(12)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(12, n_classes)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu().flatten(1)
        return self.fc(self.drop(self.hidden(x).relu()))


def rows(item_shape, n_classes):
    """A network as a function."""
    size = 1
    for side in item_shape:
        size *= side
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 9), nn.Tanh(), nn.Linear(9, n_classes))


forest = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=5))
boosted = HistGradientBoostingClassifier(max_iter=5)


class Mean(Learner):
    """Nearest mean of a class, as a Learner of its own."""

    seeded = False

    def fit(self, labelled, pool, *, seed):
        items, targets = labelled.training_data(pool)
        x = items.flatten(1)
        self.means = torch.stack(
            [x[targets == c].mean(0) if (targets == c).any() else x.mean(0) + 1
             for c in range(self.n_classes)]
        )
        return FitReport(1, 0.0, True)

    def logits(self, items):
        return -torch.cdist(items.flatten(1), self.means)

    def features(self, items):
        return items.flatten(1)

    def state(self):
        return {"means": self.means}


class Restless(Mean):
    """Draws from the global state, moves with every prediction, and looks at the batch."""

    def fit(self, labelled, pool, *, seed):
        report = super().fit(labelled, pool, seed=seed)
        self.means += torch.rand_like(self.means)
        return report

    def logits(self, items):
        self.means = self.means + 0.01
        return super().logits(items) - items.mean()


class Forgetful(Mean):
    """Remembers nothing in its state."""

    def state(self):
        return {"none": torch.zeros(1)}


class Calibrated(Mean):
    """Sharpens its predictions by a number that its state does not show."""

    def fit(self, labelled, pool, *, seed):
        report = super().fit(labelled, pool, seed=seed)
        self.temperature = 0.1 * (1 + seed)
        return report

    def logits(self, items):
        return super().logits(items) / self.temperature
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def failed(**settings: object) -> dict[str, str]:
    results = check_learner(LearnerSettings(**settings))  # type: ignore[arg-type]
    assert sum(result.outcome == "pass" for result in results) >= 8 or any(
        result.outcome == "fail" for result in results
    )
    return {result.name: result.detail for result in results if result.outcome == "fail"}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[pytest.mark.slow] if kind == "resnet18" else [])
        for kind in names(LEARNERS)
    ],
)
def test_an_installed_classifier_keeps_the_contract(kind: str) -> None:
    assert not failed(kind=kind)


@pytest.mark.parametrize("name", ["Net", "rows", "forest", "boosted", "Mean"])
def test_anyones_classifier_keeps_the_contract(mine: Path, name: str) -> None:
    assert not failed(kind=f"{mine}:{name}")


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "mlp", "dropout": 0.5},
        {"kind": "mlp", "members": 3},
        {"kind": "linear", "members": 3},
        {"kind": "sklearn.neighbors:KNeighborsClassifier"},
        {"kind": "sklearn.neighbors:KNeighborsClassifier", "members": 3},
        {"kind": "sklearn.naive_bayes:GaussianNB"},
    ],
    ids=str,
)
def test_so_do_ensembles_dropout_and_estimators(settings: dict[str, object]) -> None:
    assert not failed(**settings)


def test_dropout_and_members_can_be_sampled(mine: Path) -> None:
    for settings in (
        {"kind": "mnist-cnn"},
        {"kind": f"{mine}:Net"},
        {"kind": f"{mine}:rows", "dropout": 0.2},
        {"kind": "linear", "members": 2},
    ):
        results = check_learner(LearnerSettings(**settings))  # type: ignore[arg-type]
        assert {r.name: r.outcome for r in results}["samples"] == "pass", settings


def test_broken_classifiers_are_caught(mine: Path) -> None:
    assert {"seed", "global-randomness", "evaluation-mode", "each-item-by-itself"} <= set(
        failed(kind=f"{mine}:Restless")
    )
    assert set(failed(kind=f"{mine}:Forgetful")) == {"digest"}
    assert {"state"} <= set(failed(kind=f"{mine}:Calibrated")) <= {"state", "seed"}


def test_a_classifier_that_takes_nothing_says_why(tmp_path: Path) -> None:
    path = tmp_path / "none.py"
    path.write_text("def net(item_shape, n_classes):\n    raise ValueError('no')\n")
    with pytest.raises(UserError, match=r"takes no items of the shapes tried.*ValueError: no"):
        check_learner(LearnerSettings(kind=f"{path}:net"))
