"""What a stopping rule is: the whole contract of a ``StoppingRule``, and what it sees of each cycle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import BaseModel

from alharness.frozen import Frozen
from alharness.records.records import CycleRecord, StopSetFigures

#: What a rule may need beyond the figures that every record has -> in words.
NEEDS: Mapping[str, str] = {
    "stop_set": "predictions on a stop set",
    "cross_validation": "accuracy by cross-validation on the labels",
}


class Parameters(Frozen):
    """Parameters of a stopping rule (``--stop RULE:NAME=VALUE``): frozen, unknown names refused."""


@dataclass(frozen=True)
class Seen:
    """What is known of one cycle when it is decided whether it is the last: nothing of the test set.

    Attributes:
        cycle: its number, from 0.
        n_labelled: labels that its classifier was trained on.
        n_asked: annotations spent so far.
        n_synthetic: labels of synthetic items among ``n_labelled``.
        cost: of all annotations so far.
        train_loss: mean cross-entropy of its classifier on the labels.
        stop_set: its classifier on the run's stop set; None where the run keeps none.
        cross_validated: accuracy by cross-validation on the labels; None where nobody asked for it.
        asked_entropy: mean entropy (nats) of the items that the cycle asked about; None in the cycle
            that is decided about, which has asked nothing yet.
    """

    cycle: int
    n_labelled: int
    n_asked: int
    n_synthetic: int
    cost: float
    train_loss: float
    stop_set: StopSetFigures | None = None
    cross_validated: float | None = None
    asked_entropy: float | None = None

    def before_asking(self) -> Seen:
        """The same when it is decided whether to ask."""
        return replace(self, asked_entropy=None)


def seen_of(record: CycleRecord) -> Seen:
    """What a rule may know of a cycle that was recorded."""
    return Seen(
        cycle=record.cycle,
        n_labelled=record.n_labelled,
        n_asked=record.n_asked,
        n_synthetic=record.n_synthetic,
        cost=record.cost,
        train_loss=record.fit.train_loss,
        stop_set=record.stop_set,
        cross_validated=record.cross_validated,
        asked_entropy=record.query.entropy_mean if record.query is not None else None,
    )


@dataclass(frozen=True)
class Decision:
    """A rule's answer.

    Attributes:
        stop: whether labelling has gone on long enough.
        reason: the figure that decided and its border, for people: ``mean kappa 0.9830, border 0.99``.
    """

    stop: bool
    reason: str = ""


class StoppingRule(ABC):
    """When labelling has gone on long enough.

    ``decide`` is a function of what it is given and of the parameters: it keeps nothing between calls
    and draws no random number. A rule that is asked about recorded cycles therefore says what it would
    have said in the run, and a run that was interrupted stops where it would have stopped.

    Class attributes:
        Parameters: the model of its parameters; a value without a name is that of the first.
        needs: keys of ``NEEDS``. A run whose rule needs ``cross_validation`` trains for it in each cycle.
        source: the paper.
    """

    Parameters: ClassVar[type[BaseModel]] = Parameters
    needs: ClassVar[frozenset[str]] = frozenset()
    source: ClassVar[str] = ""

    def __init__(self, **parameters: Any) -> None:
        self.parameters: Any = self.Parameters(**parameters)

    @abstractmethod
    def decide(self, seen: Sequence[Seen]) -> Decision:
        """Whether the last of these cycles is the run's last.

        Args:
            seen: all cycles so far, the first first; never empty. The last one has asked nothing yet.
        """
