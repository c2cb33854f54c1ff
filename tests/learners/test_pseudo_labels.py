"""Pseudo-labels: the linear head learns from unlabelled items, and says how many it read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import alharness
from alharness.conformance.learners import check_learner
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.settings import LearnerSettings
from alharness.pool import ArrayPool
from alharness.spec import resolve

SETTINGS = LearnerSettings(kind="linear", pseudo_labels=0.8)


def moons(n: int = 300, seed: int = 0) -> tuple[ArrayPool, torch.Tensor]:
    """Rows of three overlapping classes."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(3, size=n)
    rows = rng.normal(np.eye(3)[targets] * 2, 0.8).astype(np.float32)
    return ArrayPool(rows), torch.from_numpy(targets.astype(np.int64))


def first(targets: torch.Tensor, n: int = 20) -> LabelledSet:
    return LabelledSet(torch.arange(n), targets[:n], n_asked=n)


class Reading(ArrayPool):
    """Notes which items are read."""

    def __init__(self, rows: Any) -> None:
        super().__init__(rows)
        self.noted: list[torch.Tensor] = []

    def gather(self, indices: torch.Tensor) -> torch.Tensor:
        self.noted.append(indices.clone())
        return super().gather(indices)


def fitted(settings: LearnerSettings, pool: ArrayPool, labelled: LabelledSet, seed: int = 0) -> Any:
    learner = learner_factory(settings)(pool.item_shape, 3, torch.device("cpu"))
    return learner, learner.fit(labelled, pool, seed=seed)


def test_it_is_self_training_of_one_round() -> None:
    """scikit-learn's self-training does the same, written by others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.semi_supervised import SelfTrainingClassifier

    pool, targets = moons()
    learner, report = fitted(SETTINGS, pool, first(targets))
    rows = pool.gather(torch.arange(pool.n)).numpy()
    known = np.full(pool.n, -1)
    known[:20] = targets[:20].numpy()
    theirs = SelfTrainingClassifier(
        LogisticRegression(C=1.0, tol=1e-8, max_iter=5000), threshold=0.8, max_iter=1
    ).fit(rows.astype(np.float64), known)
    assert report.n_unlabelled == pool.n - 20  # the whole pool is smaller than the sample
    assert report.n_pseudo == int((theirs.transduction_[20:] >= 0).sum()) > 20
    ours = learner.log_probs(torch.from_numpy(rows)).exp().numpy()
    assert np.abs(ours - theirs.predict_proba(rows.astype(np.float64))).max() < 1e-5
    alone, _ = fitted(LearnerSettings(kind="linear"), pool, first(targets))
    assert not np.allclose(ours, alone.log_probs(torch.from_numpy(rows)).exp().numpy(), atol=1e-2)


def test_what_is_read_is_what_is_told() -> None:
    rows, targets = moons()
    pool = Reading(rows.gather(torch.arange(rows.n)).numpy())
    settings = SETTINGS.model_copy(update={"unlabelled": 50})
    _, report = fitted(settings, pool, first(targets))
    read = torch.cat(pool.noted).unique()
    assert (read >= 20).sum() == report.n_unlabelled == 50
    assert 0 < report.n_pseudo <= 50


def test_the_sample_follows_from_the_seed_and_leaves_labelled_items_out() -> None:
    pool, targets = moons()
    settings = SETTINGS.model_copy(update={"unlabelled": 40})
    one, again, other = (fitted(settings, pool, first(targets), seed)[0] for seed in (1, 1, 2))
    assert one.digest() == again.digest() != other.digest()
    everything = LabelledSet(torch.arange(pool.n), targets, n_asked=pool.n)
    _, report = fitted(settings, pool, everything)
    assert (report.n_unlabelled, report.n_pseudo) == (0, 0)


def test_nothing_certain_is_the_labels_alone() -> None:
    pool, targets = moons()
    sure = SETTINGS.model_copy(update={"pseudo_labels": 1.0})
    learner, report = fitted(sure, pool, first(targets))
    alone, _ = fitted(LearnerSettings(kind="linear"), pool, first(targets))
    assert report.n_pseudo == 0
    assert learner.digest() == alone.digest()


def test_it_keeps_the_contract_of_a_classifier() -> None:
    settings = LearnerSettings(kind="linear", pseudo_labels=0.5)
    assert [r for r in check_learner(settings) if r.outcome == "fail"] == []


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        ({"kind": "mlp", "pseudo_labels": 0.9}, "learner.pseudo_labels is for the linear model"),
        ({"kind": "sklearn.svm:SVC", "pseudo_labels": 0.9}, "learner.pseudo_labels is for the linear"),
        ({"kind": "linear", "pseudo_labels": 0.9, "members": 3}, "trains one classifier"),
        ({"kind": "linear", "unlabelled": 50}, "learner.unlabelled says how many"),
        ({"kind": "linear", "pseudo_labels": 1.5}, "learner.pseudo_labels"),
    ],
)  # fmt: skip
def test_what_would_not_be_read_is_refused(learner: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve({"task": "digits-ten", "strategy": "margin", "learner": learner})


def test_keys_of_runs_without_stay() -> None:
    asked = {"task": "digits-ten", "strategy": "margin", "learner": {"kind": "linear"}}
    off = {"pseudo_labels": 0.0, "unlabelled": 2000, "warm_start": False}
    key = resolve(asked).run_key
    assert resolve({**asked, "learner": {"kind": "linear", **off}}).run_key == key
    assert resolve({**asked, "learner": {"kind": "linear", "pseudo_labels": 0.9}}).run_key != key


def test_a_run_records_what_its_fits_read(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "runs_dir": tmp_path, "tracking": False, "device": "cpu", "budget": 60, "query_size": 20,
        "initial_size": 20,
    }  # fmt: skip
    with_ = alharness.run(
        "margin", "digits-ten", learner={"kind": "linear", "pseudo_labels": 0.5}, **given
    )
    without = alharness.run("margin", "digits-ten", learner={"kind": "linear"}, **given)
    n_pool = with_.run.facts.task.n_pool
    assert [r.fit.n_unlabelled for r in with_.records] == [n_pool - 20 * (i + 1) for i in range(3)]
    assert all(0 < r.fit.n_pseudo <= r.fit.n_unlabelled for r in with_.records)
    assert all("n_pseudo" not in r.fit.model_dump() for r in without.records)
    with pytest.raises(UserError, match="'learner' is"):  # one recipe for all that are compared
        alharness.compare(tmp_path)
