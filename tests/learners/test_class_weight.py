"""``learner.class_weight=balanced``: rare classes count as much as frequent ones, or it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from alharness import UserError
from alharness.labelled import Annotation, LabelledSet
from alharness.learners.balance import weights_of
from alharness.learners.factory import learner_factory
from alharness.learners.kinds import kind_of
from alharness.learners.settings import LearnerSettings
from alharness.pool import ArrayPool
from alharness.spec import resolve

FOREST = "sklearn.ensemble:RandomForestClassifier"


def uneven(n_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes, the last of which has 6 of 120 items."""
    rng = np.random.default_rng(3)
    frequent = rng.integers(n_classes - 1, size=114)
    targets = np.concatenate([frequent, np.full(6, n_classes - 1)])
    rows = rng.normal(size=(120, 4)) + 0.8 * np.eye(n_classes, 4)[targets]
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(targets)


def trained(n_classes: int, **settings: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    rows, targets = uneven(n_classes)
    labelled = LabelledSet().extended(
        Annotation(torch.arange(120), targets, n_asked=120, n_rejected=0, cost=120.0)
    )
    made = learner_factory(LearnerSettings(**settings))((4,), n_classes, torch.device("cpu"))
    made.fit(labelled, ArrayPool(rows), seed=0)
    return made, rows, targets


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("solver", ["newton", "lbfgs"])
def test_the_linear_model_is_scikit_learns(n_classes: int, solver: str) -> None:
    ours, rows, targets = trained(
        n_classes, kind="linear", solver=solver, class_weight="balanced", c=0.7
    )
    theirs = LogisticRegression(C=0.7, class_weight="balanced", tol=1e-10, max_iter=10_000)
    theirs.fit(rows.double().numpy(), targets.numpy())
    expected = theirs.predict_proba(rows.double().numpy())
    assert np.abs(ours.log_probs(rows).exp().numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("kind", ["linear", "mlp", FOREST])
def test_the_rare_class_is_found_more_often(kind: str) -> None:
    settings = {"kind": kind, "epochs": 1, "min_steps": 300, "width": 8}
    plain, rows, targets = trained(2, **settings)
    weighted, *_ = trained(2, **settings, class_weight="balanced")
    rare = rows[targets == 1]
    before, after = (made.log_probs(rare)[:, 1].exp().mean() for made in (plain, weighted))
    assert after != before
    if kind != FOREST:  # which knows its own items by heart, weighted or not
        assert after > before + 0.1


def test_weights_are_those_of_scikit_learn_over_the_classes_that_have_a_label() -> None:
    found = weights_of(torch.tensor([0, 0, 0, 2]), 4, "balanced")
    assert found is not None
    assert found.tolist() == pytest.approx([4 / 6, 0, 2, 0])
    assert weights_of(torch.tensor([0, 1]), 2, "none") is None


def test_the_setting_names_a_run_anew_only_where_it_is_used() -> None:
    base = {"task": "digits-ten", "strategy": "random"}
    plain, said, weighted = (
        resolve({**base, "learner": learner})
        for learner in ({}, {"class_weight": "none"}, {"class_weight": "balanced"})
    )
    assert plain.run_key == said.run_key != weighted.run_key


@pytest.mark.parametrize(
    "kind", ["sklearn.neighbors:KNeighborsClassifier", "sklearn.naive_bayes:GaussianNB"]
)
def test_a_classifier_without_weights_refuses_the_setting(kind: str) -> None:
    with pytest.raises(UserError, match="has no weights of classes"):
        kind_of(LearnerSettings(kind=kind, class_weight="balanced"))


def test_a_strategys_own_classifier_refuses_it(blobs: Any) -> None:
    from dataclasses import replace

    from alharness.artefacts import Supply
    from alharness.engine.stage import set_stage
    from alharness.registry import resolve_strategy

    settings = LearnerSettings(kind="linear", class_weight="balanced")
    problem = replace(blobs.problem, learner=settings)
    with pytest.raises(UserError, match="brings a classifier of its own"):
        set_stage(resolve_strategy("learning-loss"), problem, None, Supply(None))  # type: ignore[arg-type]
