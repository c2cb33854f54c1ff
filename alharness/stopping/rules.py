"""The rules that are shipped: by agreement, confidence and entropy on the stop set, by budget or target.

"Overall" and "all" are meant of the stop set, a fixed random sample of the pool, where the papers scan the
whole pool: the cost of a cycle does not grow with the pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import Field

from alharness.lazily import numpy as np
from alharness.records.records import StopSetFigures
from alharness.stopping.rule import Decision, Parameters, Seen, StoppingRule

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Figures are sums of fractions: a border that is met in exact arithmetic is met.
SLACK = 1e-9

ON_STOP_SET = frozenset({"stop_set"})


def cohen_kappa(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Agreement of two classifiers beyond chance, by their own class shares; at most 1.

    0 where both put all items into one class: chance explains that agreement whole, and such a classifier
    has not begun to learn (Cohen's formula is 0/0 there).
    """
    n_classes = int(max(first.max(), second.max())) + 1
    agreed = float((first == second).mean())
    shares = [np.bincount(part, minlength=n_classes) / len(part) for part in (first, second)]
    by_chance = float(shares[0] @ shares[1])
    return 0.0 if by_chance >= 1.0 - SLACK else (agreed - by_chance) / (1.0 - by_chance)


def _changes(
    seen: Sequence[Seen],
    window: int,
    measure: Callable[[NDArray[np.int64], NDArray[np.int64]], float],
) -> list[float] | None:
    """A measure of the last ``window`` pairs of neighbouring cycles; None while there are fewer."""
    figures = [cycle.stop_set for cycle in seen[-window - 1 :]]
    known = [one.predicted() for one in figures if one is not None]
    if len(known) <= window:
        return None
    return [measure(a, b) for a, b in pairwise(known)]


class Kappa(StoppingRule):
    """Stop once the predictions on the stop set are stable: mean kappa of neighbouring cycles (Bloodgood).

    Kappa is Cohen's, between the classifiers of two neighbouring cycles; its mean over the last ``window``
    pairs must reach ``threshold``. Differs from the paper: a stop set of 256 items, there 2,000.
    """

    source = "Bloodgood and Vijay-Shanker, CoNLL 2009"
    needs = ON_STOP_SET

    class Parameters(Parameters):
        threshold: float = Field(0.99, gt=0, le=1, description="mean kappa at which it stops")
        window: int = Field(3, ge=1, description="pairs of neighbouring cycles")

    def decide(self, seen: Sequence[Seen]) -> Decision:
        """Stop where the mean kappa reaches the threshold."""
        p = self.parameters
        kappas = _changes(seen, p.window, cohen_kappa)
        if kappas is None:
            return Decision(False, f"{len(seen)} of {p.window + 1} cycles that it compares")
        mean = float(np.mean(kappas))
        return Decision(
            mean >= p.threshold - SLACK, f"mean kappa {mean:.4f}, border {p.threshold:g}"
        )


class ClassificationChange(StoppingRule):
    """Stop once no prediction on the stop set changes from one cycle to the next.

    Differs from the paper: of the stop set, there of the whole unlabelled pool.
    """

    source = "Zhu, Wang and Hovy, COLING 2008"
    needs = ON_STOP_SET

    class Parameters(Parameters):
        share: float = Field(0.0, ge=0, lt=1, description="of predictions that may change")
        window: int = Field(
            1, ge=1, description="pairs of neighbouring cycles, all of which must hold"
        )

    def decide(self, seen: Sequence[Seen]) -> Decision:
        """Stop where at most this share has changed."""
        p = self.parameters
        shares = _changes(seen, p.window, lambda a, b: float((a != b).mean()))
        if shares is None:
            return Decision(False, f"{len(seen)} of {p.window + 1} cycles that it compares")
        most = max(shares)
        return Decision(most <= p.share + SLACK, f"{most:.2%} changed, at most {p.share:.2%} may")


class Confidence(StoppingRule):
    """Stop once the confidence on the stop set falls several cycles in a row: it has passed its peak.

    Confidence is the mean of the largest class probability over the items of the stop set that have no
    label. Differs from the paper: probabilities, there margins of a support vector machine.
    """

    source = "Vlachos, Computer Speech and Language 22, 2008"
    needs = ON_STOP_SET

    class Parameters(Parameters):
        falls: int = Field(
            3, ge=1, description="cycles in a row, each less confident than the last"
        )

    def decide(self, seen: Sequence[Seen]) -> Decision:
        """Stop after so many falls."""
        values = _of_stop_set(seen, lambda figures: figures.confidence)
        steps = [after < before for before, after in pairwise(values)]
        falls = next((n for n, fell in enumerate(reversed(steps)) if not fell), len(steps))
        wanted = self.parameters.falls
        return Decision(falls >= wanted, f"confidence fell {falls} times in a row, of {wanted}")


class Entropy(StoppingRule):
    """Stop once the classifier is certain of every item of the stop set (max-confidence).

    Certain is an entropy (nats) of at most ``threshold`` for each item that has no label.
    Differs from the paper: of the stop set, there of the whole unlabelled pool.
    """

    source = "Zhu and Hovy, EMNLP-CoNLL 2007 (max-confidence)"
    needs = ON_STOP_SET

    class Parameters(Parameters):
        threshold: float = Field(0.001, ge=0, description="entropy in nats")

    def decide(self, seen: Sequence[Seen]) -> Decision:
        """Stop where the largest entropy is no larger."""
        threshold = self.parameters.threshold
        largest = _last(seen, lambda figures: figures.entropy_max)
        if largest is None:
            return Decision(False, NOTHING_LEFT)
        return Decision(
            largest <= threshold + SLACK,
            f"largest entropy {largest:.4f} nats, border {threshold:g}",
        )


class OverallUncertainty(StoppingRule):
    """Stop once the mean entropy on the stop set is small.

    Entropy is divided by log C, so that 1 is a guess; over the items that have no label. Differs from the
    paper: of the stop set, there of the whole unlabelled pool, which no constant-time strategy could afford.
    """

    source = "Zhu, Wang and Hovy, COLING 2008; Zhu et al., ACM TSLP 6(3), 2010"
    needs = ON_STOP_SET

    class Parameters(Parameters):
        threshold: float = Field(0.05, ge=0, le=1, description="mean entropy, as a share of log C")

    def decide(self, seen: Sequence[Seen]) -> Decision:
        """Stop where the mean entropy is no larger."""
        threshold = self.parameters.threshold
        mean = _last(seen, lambda figures: figures.entropy)
        figures = seen[-1].stop_set
        if mean is None or figures is None:
            return Decision(False, NOTHING_LEFT)
        share = mean / math.log(max(figures.n_classes, 2))
        return Decision(
            share <= threshold + SLACK, f"mean entropy {share:.4f} of log C, border {threshold:g}"
        )


class Budget(StoppingRule):
    """Stop at so many annotations, the initial set included: what the others are held against."""

    class Parameters(Parameters):
        annotations: int = Field(gt=0, description="annotations in all")

    def decide(self, seen: Sequence[Seen]) -> Decision:
        """Stop where they are spent."""
        spent, limit = seen[-1].n_asked, self.parameters.annotations
        return Decision(spent >= limit, f"{spent} of {limit} annotations")


class Target(StoppingRule):
    """Stop at an accuracy by cross-validation on the labels themselves.

    Five folds: five more fits in each cycle, whose time is ``time.stop_s``. The labels are those that the
    strategy chose, not a random sample: hard ones make the estimate low, few ones make it rough.
    """

    source = "five-fold cross-validation on the labelled set"
    needs = frozenset({"cross_validation"})

    class Parameters(Parameters):
        accuracy: float = Field(gt=0, le=1, description="accuracy by cross-validation")
        window: int = Field(1, ge=1, description="cycles in a row that must reach it")

    def decide(self, seen: Sequence[Seen]) -> Decision:
        """Stop where it is reached."""
        p = self.parameters
        values = [cycle.cross_validated for cycle in seen[-p.window :]]
        known = [value for value in values if value is not None]
        if len(known) < p.window:
            return Decision(False, f"{len(known)} of {p.window} cycles with an estimate")
        least = min(known)
        return Decision(
            least >= p.accuracy - SLACK,
            f"accuracy {least:.4f} by cross-validation, border {p.accuracy:g}",
        )


NOTHING_LEFT = "every item of the stop set has a label"


def _last(seen: Sequence[Seen], figure: Callable[[StopSetFigures], float | None]) -> float | None:
    figures = seen[-1].stop_set
    return None if figures is None else figure(figures)


def _of_stop_set(
    seen: Sequence[Seen], figure: Callable[[StopSetFigures], float | None]
) -> list[float]:
    """A figure of all cycles that have one."""
    values = [figure(cycle.stop_set) for cycle in seen if cycle.stop_set is not None]
    return [value for value in values if value is not None]
