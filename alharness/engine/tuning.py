"""How good settings of a classifier are, by cross-validation on the starting labels alone (R5).

The labels are those that every run of the data seed begins with. The test set is let go of before
anything is trained, so that no choice can follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from alharness import numerics, seeds
from alharness.artefacts import ArtefactStore, Supply
from alharness.engine.initial import start
from alharness.engine.loop import Sizes
from alharness.engine.opening import open_task
from alharness.engine.places import Places
from alharness.engine.runner import Limits, chooser
from alharness.engine.stage import Stage
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.oracle import hidden
from alharness.progress import Progress, silent
from alharness.queries import Query
from alharness.records import Ledger, RunFolder
from alharness.spec import Bound, current_device
from alharness.strategy import CycleView, Strategy

#: Items that are predicted at once.
_BLOCK = 256


class NoStrategy(Strategy):
    """Stands where a run has its strategy: settings are chosen before any is asked."""

    def select(self, view: CycleView, query_size: int) -> Query:
        raise NotImplementedError("settings are chosen before anything is asked")


#: Its name in a spec.
NO_STRATEGY = f"{__name__}:{NoStrategy.__name__}"


def cross_validate(
    candidates: Sequence[Bound], places: Places, folds: int, progress: Progress = silent
) -> tuple[list[float], int]:
    """Log losses of candidates on the same folds of the same starting labels.

    Args:
        candidates: runs that differ in settings of the classifier alone, with ``NO_STRATEGY``.
        places: where data and artefacts lie.
        folds: parts that the labels are divided into, each with its share of every class.
        progress: told of each candidate.

    Returns:
        for each candidate the mean over the labels of the log loss (nats) of each under the classifier that
        was trained without its fold; and the number of labels.

    Raises:
        UserError: too few labels of a class, labels that a person has yet to give, a training that diverged.
    """
    spec = candidates[0].spec
    if spec.oracle.mode == "human":
        raise UserError(
            "With oracle.mode=human the starting labels are not there yet, and tuning needs them. Tune on "
            "data that have labels, or leave --oracle out."
        )
    # Gaps are let through only where every candidate takes them.
    strictest = next((c for c in candidates if not c.kind.takes_gaps), candidates[0])
    with numerics.exact(), current_device(spec.device):
        task = open_task(strictest, places, progress, with_test=False)
        supply = Supply(ArtefactStore(places.store_root), Ledger(task.pool.device), progress)
        oracle = task.oracle(supply, RunFolder(spec.folder(places.runs_dir)))
        task = replace(task, data=hidden(task.data, oracle))
        sizes = Sizes(spec.seed, spec.data_seed, spec.budget, spec.query_size, spec.initial_size)
        choose = chooser(task, supply, oracle, Limits(), [])
        begun = start(strictest.strategy, task.pool.n, oracle, sizes, choose)
        labelled = LabelledSet().extended(begun.initial)
        fold_P = folds_of(
            labelled.targets.numpy(), task.data.class_names, folds, seed=spec.data_seed
        )
        losses = []
        with oracle.vault.sealed():
            for done, candidate in enumerate(candidates, start=1):
                stage = replace(task, bound=candidate).stage(supply)
                losses.append(log_loss(stage, labelled, fold_P, seed=spec.data_seed))
                progress("tune", done, len(candidates), {"log_loss": losses[-1]})
    return losses, len(labelled)


def folds_of(
    targets: NDArray[np.int64], class_names: Sequence[str], folds: int, *, seed: int
) -> NDArray[np.int64]:
    """The fold of each label, int64 ``[P]``: stratified, and the same for the same seed.

    Args:
        targets: classes, int64 ``[P]``.
        class_names: one per class.

    Raises:
        UserError: fewer labels of a class than folds: some classifier would be asked for a class that
            it never saw, or never be asked for it.
    """
    counts = np.bincount(targets, minlength=len(class_names))
    rarest = int(counts.argmin())
    if counts[rarest] < folds:
        fewer = f"Use --folds {counts[rarest]}, a" if counts[rarest] > 1 else "Use a"
        raise UserError(
            f"{folds} folds need {folds} starting labels of every class; class '{class_names[rarest]}' has "
            f"{counts[rarest]} of {len(targets)}. {fewer} larger --initial-size, or --initial stratified."
        )
    found = np.empty(len(targets), dtype=np.int64)
    # Scikit-learn takes seeds of 32 bits.
    split = StratifiedKFold(folds, shuffle=True, random_state=seeds.derive(seed, "tune") % 2**32)
    for fold, (_, held) in enumerate(split.split(np.zeros(len(targets)), targets)):
        found[held] = fold
    return found


def log_loss(stage: Stage, labelled: LabelledSet, fold_P: NDArray[np.int64], *, seed: int) -> float:
    """Mean log loss (nats) of labels under classifiers that were trained without their fold.

    Args:
        stage: makes the classifiers.
        labelled: the starting labels, all of them of pool items.
        fold_P: the fold of each.
        seed: each fold's classifier has one of its own that follows from it, the same for all settings.
    """
    total = 0.0
    for fold in range(int(fold_P.max()) + 1):
        held = torch.from_numpy(fold_P == fold)
        learner, _ = stage.fit(labelled.part(~held), seed=seeds.derive(seed, "tune", fold))
        of_fold = labelled.part(held)
        for places, targets in zip(
            of_fold.indices.split(_BLOCK), of_fold.targets.split(_BLOCK), strict=True
        ):
            log_p_NC = learner.log_probs(stage.problem.pool.gather(places)).double().cpu()
            total -= float(log_p_NC.gather(1, targets[:, None]).sum())
    return total / len(labelled)
