"""Our loop and entropy selection against three other libraries on the same classifier.

modAL, scikit-activeml and small-text, asked for entropy sampling by scikit-learn's logistic regression
on its digits, all gave the curve below (read from outputs of theirs before this repository existed; they are
not installed here). Ours must give the same, label for label.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from alharness.engine.loop import History, Sizes, run
from alharness.engine.stage import Problem, Stage
from alharness.labelled import LabelledSet
from alharness.learners.learner import FitReport, Learner, LearnerSettings
from alharness.oracle import Oracle
from alharness.pool import ArrayPool, Pool
from alharness.queries import PoolQuery
from alharness.records import Ledger
from alharness_strategies.max_entropy import MaxEntropy

CURVE = [0.817, 0.856, 0.822, 0.848, 0.884, 0.894, 0.899, 0.913, 0.911, 0.915, 0.920]


class ScikitLearn(Learner):
    """scikit-learn's logistic regression behind our interface."""

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        items, targets = labelled.training_data(pool)
        self.model = LogisticRegression(max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.model.fit(items.double().numpy(), targets.numpy())
        return FitReport(int(self.model.n_iter_[0]), 0.0, True)

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.model.predict_log_proba(items.double().numpy()))

    def features(self, items: torch.Tensor) -> torch.Tensor:
        return items

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": torch.from_numpy(self.model.coef_)}


def test_entropy_sampling_reproduces_the_curve_of_three_libraries() -> None:
    values, targets = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(values))
    in_pool, in_test = order[:1200], order[1200:]
    initial = torch.from_numpy(rng.choice(1200, size=50, replace=False))
    rows = (values / 16).astype(np.float32)
    pool, test = ArrayPool(rows[in_pool]), ArrayPool(rows[in_test])
    problem = Problem("digits", pool, test, 10, LearnerSettings())
    oracle = Oracle(targets[in_pool], 10)
    history = History(oracle.annotate(PoolQuery(initial), cycle=-1), initial)
    sizes = Sizes(seed=0, data_seed=0, budget=150, query_size=10, initial_size=50)
    stage = Stage(MaxEntropy(), problem, ScikitLearn, Ledger())
    cycles = list(run(stage, oracle, targets[in_test].astype(np.int64), sizes, history))
    assert [round(cycle.test.accuracy, 3) for cycle in cycles] == CURVE
    assert [len(cycle.labelled) for cycle in cycles] == list(range(50, 151, 10))
