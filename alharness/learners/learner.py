"""What a classifier is: the whole contract of a ``Learner``.

Whoever brings a network or a scikit-learn estimator needs none of this (see ``kinds``). A classifier
of another sort derives from ``Learner`` and is named like any other: ``--set
learner.kind=./mine.py:Mine``. ``alharness check ./mine.py:Mine`` proves that it keeps the contract.

Shape letters: N items, C classes, D features, S samples of the parameters.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from alharness.errors import UserError
from alharness.lazily import from_files, functional, torch

if TYPE_CHECKING:
    from alharness.labelled import LabelledSet
    from alharness.learners.settings import LearnerSettings as LearnerSettings
    from alharness.pool import Pool


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        steps: optimiser steps (iterations of L-BFGS for the linear model).
        train_loss: mean cross-entropy on the labelled set at the end (of the last epoch for networks).
        converged: for the linear model, whether the gradient fell below its tolerance; for networks,
            whether the loss ended no worse than that of a guess, log C.
        n_unlabelled: pool items without a label that the fit read; None for one that reads labels alone.
        n_pseudo: of these, those that it took a label of its own for.
    """

    steps: int
    train_loss: float
    converged: bool
    n_unlabelled: int | None = None
    n_pseudo: int | None = None


class Learner(ABC):
    """A classifier h_theta of items ``[N, ...]`` on ``device``.

    Class attributes:
        differentiable: whether ``logits`` carries gradients to the items, which a search for synthetic
            items needs.
        weighs_classes: whether ``fit`` reads ``settings.class_weight``.
        seeded: whether ``fit`` depends on its seed. Members of an ensemble that do not are trained on
            resampled labels, because they would be equal otherwise.
        takes_gaps: whether rows may have NaN where nothing is there (``task.missing=keep``).
    """

    differentiable: ClassVar[bool] = True
    weighs_classes: ClassVar[bool] = False
    seeded: bool = True
    takes_gaps: ClassVar[bool] = False

    def __init__(self, item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> None:
        self.item_shape = item_shape
        self.n_classes = n_classes
        self.device = device

    @abstractmethod
    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        """Train from scratch; everything random follows from ``seed``."""

    @abstractmethod
    def logits(self, items: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, C]`` in evaluation mode, differentiable with respect to the items."""

    @abstractmethod
    def features(self, items: torch.Tensor) -> torch.Tensor:
        """Input of the last layer, ``[N, D]`` (F_CLS; the item itself for a linear model)."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """All parameters by name."""

    def log_probs(self, items: torch.Tensor) -> torch.Tensor:
        """Log probabilities ``[N, C]``, without gradients; in memory by item or by class."""
        with torch.no_grad():
            return functional.log_softmax(self.logits(items), dim=-1)

    def sample_log_probs(self, items: torch.Tensor, n: int, rng: torch.Generator) -> torch.Tensor:
        """Log probabilities under several sets of parameters, ``[S, N, C]``, without gradients.

        All items are seen under the same S sets, so that joint predictions of several items can be
        formed. ``rng`` is not advanced: calls for several blocks of items with the same one agree.

        Args:
            items: float32 ``[N, ...]``.
            n: how many sets are wanted. A network with dropout draws so many; an ensemble has its
                members and gives all of them, whatever ``n``.
            rng: on the CPU; its state decides which sets.

        Raises:
            UserError: this classifier has one set of parameters only.
        """
        raise UserError(
            f"The classifier {type(self).__name__} has one set of parameters and cannot be sampled. "
            f"{SAMPLES_REMEDY}"
        )

    def head_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight ``[C, D]`` and bias ``[C]`` with ``logits = features @ weight.T + bias``.

        Raises:
            UserError: this classifier's last layer is not linear.
        """
        raise UserError(
            f"The classifier {type(self).__name__} has no linear last layer. Use a network, for "
            "instance learner.kind=mlp, or learner.kind=linear."
        )

    def digest(self) -> str:
        """SHA-256 (16 hex digits) of all parameters: equal if and only if the learner is unchanged."""
        return digest_of(self.state())


def digest_of(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 (16 hex digits) of parameters by name, as a classifier that has them tells it."""
    sha = hashlib.sha256()
    for name, values in sorted(state.items()):
        sha.update(name.encode())
        sha.update(values.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()[:16]


def take_state(held: Learner, learner: Learner) -> bool:
    """Copy all of a classifier's ``state()`` into another's memory; False where it has no place there.

    Equal states are equal classifiers only where nothing learned lies outside of them (a temperature, a
    centre): whoever needs that has to compare what the two predict.
    """
    if type(held) is not type(learner):
        return False
    places, weights, again = held.state(), learner.state(), held.state()
    if places.keys() != weights.keys() or any(
        place.shape != weights[name].shape
        or place.dtype != weights[name].dtype
        or place.data_ptr() != again[name].data_ptr()  # a copy of the weight, not the weight
        for name, place in places.items()
    ):
        return False
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(weights[name])
    return True


#: What to do about a classifier that cannot be sampled.
SAMPLES_REMEDY = (
    "Set learner.members=5 for an ensemble, or learner.dropout=0.5 for a network with dropout."
)

#: What the loop asks for a learner; a strategy may hand over another one in ``prepare``.
LearnerFactory = Callable[[tuple[int, ...], int, "torch.device"], Learner]

#: Classes of the reference (docs/api.md) that are found here; their files import this one.
__getattr__ = from_files(
    __name__,
    {
        "LearnerSettings": "alharness.learners.settings",
        "LinearLearner": "alharness.learners.linear",
        "NetworkLearner": "alharness.learners.network",
    },
)


def require_no_gaps(rows: torch.Tensor) -> None:
    """Refuse rows with NaN where distances are wanted.

    Raises:
        UserError: some are there.
    """
    if bool(rows.isnan().any()):
        raise UserError(
            "This strategy compares rows with each other, and task.missing=keep leaves gaps in them. Use a "
            "strategy that reads predictions (margin, max-entropy), or set task.missing=median."
        )
