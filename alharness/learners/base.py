"""What a classifier is: the whole contract of a ``Learner``, and the settings it is trained with.

Whoever brings a network or a scikit-learn estimator needs none of this (see ``kinds``). A classifier
of another sort derives from ``Learner`` and is named like any other: ``--set
learner.kind=./mine.py:Mine``. ``alharness check ./mine.py:Mine`` proves that it keeps the contract.

Shape letters: N items, C classes, D features, S samples of the parameters.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional

from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.pool import Pool


class LearnerSettings(BaseModel):
    """How classifiers are trained: one recipe per task, part of the protocol fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field(
        "linear", description="a name of 'alharness list learners', module:Class or ./file.py:Class"
    )
    c: float = Field(
        1.0, gt=0, description="inverse L2 strength of the linear model (decisions 8.2)"
    )
    width: int = Field(128, ge=1, description="width of the network")
    lr: float = Field(1e-3, gt=0, description="Adam's step size")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of the network")
    batch_size: int = Field(50, ge=1, description="images per optimiser step")
    epochs: int = Field(20, ge=0, description="passes over the labelled set")
    min_steps: int = Field(
        1000, ge=1, description="floor on optimiser steps: few labels must not mean few steps"
    )
    max_iterations: int = Field(1000, ge=1, description="L-BFGS iterations of the linear model")
    augment: Literal["none", "flip-crop"] = Field(
        "none", description="flip-crop on LSUN only (Sec. 4.2)"
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the network's features dropped before its last layer in training",
        json_schema_extra={"added": "0.2"},
    )
    members: int = Field(
        1,
        ge=1,
        description="classifiers that are trained side by side and averaged",
        json_schema_extra={"added": "0.2"},
    )
    weights: str = Field(
        "",
        description="where the network starts: a file of weights, or torchvision's name for them",
        json_schema_extra={"added": "0.2"},
    )
    pack: int = Field(
        1,
        ge=1,
        description="networks of so many runs trained side by side (alharness sweep --executor packed)",
        json_schema_extra={"added": "0.2"},
    )
    freeze: bool = Field(
        False,
        description="compute the network's features once and train a linear head on them",
        json_schema_extra={"added": "0.2"},
    )


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        steps: optimiser steps (iterations of L-BFGS for the linear model).
        train_loss: mean cross-entropy on the labelled set at the end (of the last epoch for networks).
        converged: for the linear model, whether the gradient fell below its tolerance; for networks,
            whether the loss ended no worse than that of a guess, log C.
    """

    steps: int
    train_loss: float
    converged: bool


class Learner(ABC):
    """A classifier h_theta of items ``[N, ...]`` on ``device``.

    Class attributes:
        differentiable: whether ``logits`` carries gradients to the items, which a search for synthetic
            items needs.
        seeded: whether ``fit`` depends on its seed. Members of an ensemble that do not are trained on
            resampled labels, because they would be equal otherwise.
    """

    differentiable: ClassVar[bool] = True
    seeded: bool = True

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
        sha = hashlib.sha256()
        for name, values in sorted(self.state().items()):
            sha.update(name.encode())
            sha.update(values.detach().cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()[:16]


#: What to do about a classifier that cannot be sampled.
SAMPLES_REMEDY = (
    "Set learner.members=5 for an ensemble, or learner.dropout=0.5 for a network with dropout."
)

#: What the loop asks for a learner; a strategy may hand over another one in ``prepare``.
LearnerFactory = Callable[[tuple[int, ...], int, torch.device], Learner]
