"""Where a run ends before its budget: the stop set is looked at in every cycle, and the rules are asked.

The stop set costs a cycle the same whatever the pool's size: ``STOP_SET`` predictions, outside of the timed
selection. It is looked at in every run, so that rules can be judged afterwards on runs made without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from alharness import acquisition, seeds
from alharness.engine.stage import Stage
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.learner import FitReport, Learner
from alharness.pool import Pool
from alharness.records import CycleRecord, StopSetFigures
from alharness.stopping import NamedRule, Seen, ask, seen_of

#: Items of the stop set: with their classes as bytes some 500 characters of a record.
STOP_SET = 256
#: Folds of cross-validation.
FOLDS = 5


def draw_stop_set(n: int, seed: int) -> torch.Tensor:
    """The stop set of a pool of n items: indices in rising order, the same for every strategy."""
    drawn = seeds.rng(seed, "stop set").choice(n, size=min(STOP_SET, n), replace=False)
    return torch.from_numpy(np.sort(drawn).astype(np.int64))


@dataclass(frozen=True)
class Looked:
    """What a cycle adds to what stopping rules know.

    Attributes:
        stop_set: its classifier on the stop set.
        cross_validated: accuracy by cross-validation; None where no rule needs it, or labels are too few.
    """

    stop_set: StopSetFigures
    cross_validated: float | None = None


class Ending:
    """Asks the rules of one run, cycle by cycle; without rules it only looks.

    Args:
        n: items of the pool.
        seed: of the run.
        rules: any one of which ends the run.
        done: records of the cycles before, of a run that goes on.
    """

    def __init__(
        self,
        n: int,
        seed: int,
        rules: Sequence[NamedRule] = (),
        done: Sequence[CycleRecord] = (),
    ) -> None:
        self._indices = draw_stop_set(n, seed)
        self._rules = tuple(rules)
        self._seen = [seen_of(record) for record in done]
        self._needs = frozenset().union(*(named.rule.needs for named in self._rules))

    def look(
        self, stage: Stage, number: int, labelled: LabelledSet, learner: Learner, report: FitReport,
        *, seed: int,
    ) -> Looked:  # fmt: skip
        """Look at a cycle's classifier, and do what the rules need beside that.

        Args:
            seed: of the cycle's fit, from which those of cross-validation follow.
        """
        with stage.fits.author.blamed("predictions of the stop set"):
            figures = look_at(learner, stage.problem.pool, self._indices, labelled)
        estimate = None
        if "cross_validation" in self._needs:
            estimate = cross_validated(stage, labelled, seed=seed)
        self._seen.append(
            Seen(
                cycle=number,
                n_labelled=len(labelled),
                n_asked=labelled.n_asked,
                n_synthetic=labelled.n_synthetic,
                cost=labelled.cost,
                train_loss=report.train_loss,
                stop_set=figures,
                cross_validated=estimate,
            )
        )
        return Looked(figures, estimate)

    def reason(self) -> str | None:
        """The first rule that stops after the last cycle, and why; None where the run goes on."""
        for rule in self._rules:
            found = ask(rule, self._seen)
            if found.stop:
                return f"{rule.label}: {found.reason}" if found.reason else rule.label
        return None

    def asked(self, entropy: float) -> None:
        """What the last cycle asked about had this mean entropy (nats)."""
        last = self._seen[-1]
        self._seen[-1] = Seen(**{**vars(last), "asked_entropy": entropy})


def look_at(
    learner: Learner, pool: Pool, indices: torch.Tensor, labelled: LabelledSet
) -> StopSetFigures:
    """A classifier on the items of these indices: classes of all, certainty of those without a label."""
    size = pool.block_size()
    log_p_NC = torch.cat(
        [
            learner.log_probs(pool.gather(indices[i : i + size]))
            for i in range(0, len(indices), size)
        ]
    )
    known = torch.isin(indices, labelled.indices)
    open_NC = log_p_NC[~known.to(log_p_NC.device)].double()
    confidence = entropy = largest = None
    if len(open_NC):
        entropies = acquisition.entropy(open_NC)
        confidence = float(open_NC.max(dim=1).values.exp().mean())
        entropy, largest = float(entropies.mean()), float(entropies.max())
    n_classes = log_p_NC.shape[1]
    return StopSetFigures(
        size=len(indices),
        n_labelled=int(known.sum()),
        n_classes=n_classes,
        classes=StopSetFigures.packed(log_p_NC.argmax(dim=1).cpu().numpy(), n_classes),
        confidence=confidence,
        entropy=entropy,
        entropy_max=largest,
    )


def cross_validated(stage: Stage, labelled: LabelledSet, *, seed: int) -> float | None:
    """Share of labels that a classifier of the other four fifths predicts.

    Folds are drawn class by class, so that each has its share of every class. None where there are fewer
    than two labels a fold.
    """
    if len(labelled) < 2 * FOLDS:
        return None
    pool = stage.problem.pool
    targets = torch.cat([labelled.targets, labelled.item_targets]).numpy()
    order = seeds.rng(seed, "folds").permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    fold = np.empty(len(targets), dtype=np.int64)
    fold[order] = np.arange(len(targets)) % FOLDS
    right = 0
    for number in range(FOLDS):
        rest = labelled.part(torch.from_numpy(fold != number))
        held = labelled.part(torch.from_numpy(fold == number))
        try:
            learner, _ = stage.fit_alone(rest, seed=seeds.derive(seed, "fold", number))
        except UserError as error:
            raise UserError(
                f"{error} (in cross-validation, which a stopping rule of the run asks for)"
            ) from error
        items, wanted = held.training_data(pool)
        size = pool.block_size()
        for start in range(0, len(items), size):
            predicted = learner.log_probs(items[start : start + size]).argmax(dim=1)
            right += int((predicted == wanted[start : start + size]).sum())
    return right / len(targets)
