"""Candidates judged on the test set, for a bound that declares it (``Strategy.looks_at_test_labels``).

No strategy gets this. Whoever declares the flag gets no label either, of the pool or of the test set, but
figures of the classifier that would be trained next; its runs are recorded as a bound by the same flag, so
that nobody has the one without the other. Hidden targets stay sealed: they were copied before, for such a
run alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from alharness.engine.evaluation import PrecisionOf, evaluate
from alharness.engine.opening import OpenTask
from alharness.engine.stage import Stage
from alharness.errors import UserError
from alharness.labelled import Annotation, LabelledSet
from alharness.oracle import Oracle
from alharness.records import TestFigures
from alharness.strategy import Judge


@dataclass(frozen=True)
class Judging:
    """Labels of pool and test set, for judging alone.

    Attributes:
        targets: what the oracle answers of every pool item, int64 ``[N]``.
        test_targets: classes of the test set, int64 ``[T]``.
        precision: what the average precision is of.
    """

    targets: torch.Tensor
    test_targets: NDArray[np.int64]
    precision: PrecisionOf | None = None

    def of(self, stage: Stage, labelled: LabelledSet, seed: int) -> Judge:
        """Test figures of the next cycle's classifier, given what would be asked in this one.

        Args:
            seed: of the next cycle's training: what is judged is what will be there.
        """

        def judge(indices: torch.Tensor) -> TestFigures:
            added = Annotation(
                indices=indices,
                targets=self.targets[indices],
                n_asked=len(indices),
                n_rejected=0,
                cost=0.0,
            )
            learner, _ = stage.fit(labelled.extended(added), seed=seed)
            return evaluate(learner, stage.problem.test, self.test_targets, self.precision)

        return judge


def open_judging(task: OpenTask, oracle: Oracle, precision: PrecisionOf) -> Judging:
    """The labels of a run whose strategy is a bound; called before anything of it is asked.

    Raises:
        UserError: there is no test set, or there are items that only a person can label.
    """
    targets = oracle.vault.reveal()
    if len(task.data.test_targets) == 0 or bool((targets < 0).any()):
        raise UserError(
            f"'{task.bound.spec.strategy.name}' is a bound that tries labels out on the test set: it needs "
            "one, and a label of every item of the pool. Leave it out here."
        )
    return Judging(targets, task.data.test_targets, precision)
