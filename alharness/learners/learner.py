"""The one trainer of classifiers: from scratch in each cycle, the same recipe for every strategy.

The paper (Sec. 4.2) trains from scratch in each cycle, without augmentation except on LSUN. Outside
``fit`` a learner is in evaluation mode and does not change.

Shape letters: N items, C classes, D features.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional

from alharness.labelled import LabelledSet
from alharness.learners.networks import Classifier, build_classifier, check_classifier
from alharness.pool import Pool


class LearnerSettings(BaseModel):
    """How classifiers are trained: one recipe per task, part of the protocol fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str = Field("linear", description="linear, mnist-cnn, all-cnn, strided-cnn or mlp")
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


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        steps: optimiser steps (iterations of L-BFGS for the linear model).
        train_loss: mean cross-entropy on the labelled set at the end (of the last epoch for networks).
        converged: for the linear model, whether the gradient fell below its tolerance.
    """

    steps: int
    train_loss: float
    converged: bool


class Learner(ABC):
    """A classifier h_theta of items ``[N, ...]`` on ``device``."""

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
        """Log probabilities ``[N, C]``, without gradients."""
        with torch.no_grad():
            return functional.log_softmax(self.logits(items), dim=-1)

    def digest(self) -> str:
        """SHA-256 (16 hex digits) of all parameters: equal if and only if the learner is unchanged."""
        sha = hashlib.sha256()
        for name, values in sorted(self.state().items()):
            sha.update(name.encode())
            sha.update(values.detach().cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()[:16]


#: What the loop asks for a learner; a strategy may hand over another one in ``prepare``.
LearnerFactory = Callable[[tuple[int, ...], int, torch.device], Learner]


class LinearLearner(Learner):
    """L2-regularised softmax regression on raw values, h(x) = Wx + b, trained to convergence.

    Minimises ``sum_i CE(h(x_i), y_i) + |W|^2 / (2 C)`` with an unpenalised bias: scikit-learn's
    objective. Two classes share one weight vector (logits 0 and w.x + b), because penalising two
    vectors would halve the effective regularisation.

    The objective is convex, so the seed plays no part. L-BFGS runs in float64: with 50 labels the
    optimum is flat in many directions and float32 stops the line search early.

    It is solved on the CPU, whatever the device, while the labelled items have at most ``CPU_VALUES``
    numbers: then the same labels give the same bits everywhere. Counted on 200 digits of ten classes,
    a fit on the device makes 6,929 host reads and 43,000 launches, a third of a second however fast the
    device is; solved here it makes two reads, of items and targets. One evaluation reads the items
    twice, at the limit 64 MB in float64: some 5 ms for one core.
    """

    #: Largest absolute gradient entry, relative to the number of labels, at which L-BFGS stops.
    TOLERANCE = 1e-7
    #: n x D up to which the CPU solves: 1,365 labels of 32x32x3, 5,349 of 28x28.
    CPU_VALUES = 1 << 22

    def __init__(
        self,
        item_shape: tuple[int, ...],
        n_classes: int,
        device: torch.device,
        settings: LearnerSettings | None = None,
    ) -> None:
        super().__init__(item_shape, n_classes, device)
        self.settings = settings or LearnerSettings()
        n_vectors = 1 if n_classes == 2 else n_classes
        self.weight = torch.zeros(n_vectors, math.prod(item_shape), device=device)
        self.bias = torch.zeros(n_vectors, device=device)

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        items, targets = labelled.training_data(pool, more_bytes=8)
        if items.numel() <= self.CPU_VALUES:
            items, targets = items.cpu(), targets.cpu()
        x_ND = items.flatten(1).double()
        where = x_ND.device
        weight = torch.zeros(self.weight.shape, dtype=x_ND.dtype, device=where, requires_grad=True)
        bias = torch.zeros(self.bias.shape, dtype=x_ND.dtype, device=where, requires_grad=True)
        n = len(targets)
        tolerance = self.TOLERANCE
        solver = torch.optim.LBFGS(
            [weight, bias],
            max_iter=self.settings.max_iterations,
            max_eval=2 * self.settings.max_iterations,
            tolerance_grad=tolerance,
            tolerance_change=0.0,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def objective() -> torch.Tensor:
            cross_entropy = functional.cross_entropy(
                _two_columns(functional.linear(x_ND, weight, bias)), targets, reduction="sum"
            )
            return (cross_entropy + weight.square().sum() / (2 * self.settings.c)) / n

        def closure() -> torch.Tensor:
            solver.zero_grad()
            loss = objective()
            loss.backward()
            return loss

        solver.step(closure)
        steps = int(solver.state[weight]["n_iter"])
        closure()
        assert weight.grad is not None
        assert bias.grad is not None
        gradient = max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))
        weight, bias = weight.detach().float(), bias.detach().float()
        logits_NC = _two_columns(functional.linear(items.flatten(1), weight, bias))
        loss = functional.cross_entropy(logits_NC, targets)
        self.weight, self.bias = weight.to(self.device), bias.to(self.device)
        # The line search ends where float64 cannot tell two objectives apart, sometimes short of
        # the tolerance; ten times the tolerance is still far below what a prediction can show.
        return FitReport(steps, float(loss), gradient <= 10 * tolerance)

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        return _two_columns(functional.linear(items.flatten(1), self.weight, self.bias))

    def features(self, items: torch.Tensor) -> torch.Tensor:
        return items.flatten(1)

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight, "bias": self.bias}


def _two_columns(logits: torch.Tensor) -> torch.Tensor:
    """The one logit of a binary model as two: class 0 has logit 0."""
    if logits.shape[-1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=-1)


class NetworkLearner(Learner):
    """A network trained by Adam for a fixed number of steps with a floor.

    ``steps = max(min_steps, epochs * ceil(n / batch_size))``: with 100 labels, 20 epochs would be
    40 steps, and an under-trained random baseline fakes gains of active learning (decisions 1.8).
    There is no early stopping and no look at the test set.
    """

    def __init__(
        self,
        item_shape: tuple[int, ...],
        n_classes: int,
        device: torch.device,
        settings: LearnerSettings,
    ) -> None:
        super().__init__(item_shape, n_classes, device)
        check_classifier(settings.kind, item_shape)
        self.settings = settings
        self.network: nn.Module  # there after ``fit``, which builds it under its own seed

    def build(self) -> nn.Module:
        """A fresh network; called under the fit's seed."""
        return build_classifier(
            self.settings.kind, self.item_shape, self.n_classes, self.settings.width
        ).to(self.device)

    def loss(
        self, items: torch.Tensor, targets: torch.Tensor, step: int, steps: int
    ) -> torch.Tensor:
        """Training loss of one batch; a learner with a further training signal overrides this."""
        return functional.cross_entropy(self.network(items), targets)

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        items, targets = labelled.training_data(pool)
        n = len(targets)
        settings = self.settings
        batch_size = min(settings.batch_size, n)
        per_epoch = math.ceil(n / batch_size)
        steps = max(settings.min_steps, settings.epochs * per_epoch)
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(seed)  # initial weights and dropout
            order = torch.Generator().manual_seed(seed)  # batches, drawn on the CPU
            self.network = self.build().train()
            optimiser = torch.optim.AdamW(
                self.network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
            )
            last_losses: list[torch.Tensor] = []
            permutation = torch.empty(0, dtype=torch.int64)
            for step in range(steps):
                at = step % per_epoch
                if at == 0:
                    permutation = torch.randperm(n, generator=order).to(self.device)
                batch = permutation[at * batch_size : (at + 1) * batch_size]
                images = items[batch]
                if settings.augment == "flip-crop":
                    images = flip_crop(images, order)
                loss = self.loss(images, targets[batch], step, steps)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                if step >= steps - per_epoch:
                    last_losses.append(loss.detach())
        self.network.eval().requires_grad_(False)
        return FitReport(steps, float(torch.stack(last_losses).mean()), True)

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(items)
        return logits

    def features(self, items: torch.Tensor) -> torch.Tensor:
        assert isinstance(self.network, Classifier)
        with torch.no_grad():
            return self.network.features(items)

    def state(self) -> dict[str, torch.Tensor]:
        return dict(self.network.state_dict())


def flip_crop(images: torch.Tensor, rng: torch.Generator, pad: int = 4) -> torch.Tensor:
    """Random horizontal flips and shifts of up to ``pad`` pixels, per image (LSUN; decisions 1.8)."""
    n, _, height, width = images.shape
    flips = torch.rand(n, generator=rng) < 0.5
    shifts = torch.randint(0, 2 * pad + 1, (n, 2), generator=rng)
    rows = (shifts[:, :1] + torch.arange(height)).to(images.device)
    columns = shifts[:, 1:] + torch.where(
        flips[:, None], torch.arange(width - 1, -1, -1), torch.arange(width)
    )
    padded = functional.pad(images, (pad, pad, pad, pad), mode="replicate")
    at = torch.arange(n, device=images.device)[:, None, None]
    picked = padded.permute(0, 2, 3, 1)[at, rows[:, :, None], columns.to(images.device)[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def learner_factory(settings: LearnerSettings) -> LearnerFactory:
    """The harness's own learners: linear, or a network of ``networks.py``."""

    def make(item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> Learner:
        if settings.kind == "linear":
            return LinearLearner(item_shape, n_classes, device, settings)
        return NetworkLearner(item_shape, n_classes, device, settings)

    return make
