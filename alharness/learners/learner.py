"""The harness's own classifiers: linear, or a network; from scratch in each cycle.

The paper (Sec. 4.2) trains from scratch in each cycle, without augmentation except on LSUN. Outside
``fit`` a learner is in evaluation mode and does not change. The recipe is the same for every strategy.

Shape letters: N items, C classes, D features, S samples of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import nn
from torch.nn import functional

from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners import networks
from alharness.learners.base import (
    SAMPLES_REMEDY,
    FitReport,
    Learner,
    LearnerFactory,
    LearnerSettings,
)
from alharness.learners.ensemble import Ensemble
from alharness.learners.estimator import EstimatorLearner
from alharness.learners.kinds import (
    EstimatorKind,
    Kind,
    LearnerKind,
    NetworkKind,
    build_network,
    find_kind,
)
from alharness.learners.network import NetworkLearner, dropout_layers
from alharness.learners.networks import Classifier
from alharness.learners.weights import weights_identity
from alharness.plugins import LEARNERS, identity_of
from alharness.pool import Pool

__all__ = [
    "FitReport",
    "Learner",
    "LearnerFactory",
    "LearnerSettings",
    "LinearLearner",
    "NetworkLearner",
    "learner_factory",
]


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

    seeded = False

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

    def log_probs(self, items: torch.Tensor) -> torch.Tensor:
        # Class by class, so that the items lie side by side: a vector unit takes sixteen items at a time,
        # where it would find ten classes. Of 50,000 rows of 64 in ten classes the softmax takes .4 ms
        # instead of 8.3, the product 3.2 instead of 4.9.
        with torch.no_grad():
            logits_CN = torch.addmm(self.bias[:, None], self.weight, items.flatten(1).T)
            if self.n_classes == 2:
                logits_CN = torch.cat([torch.zeros_like(logits_CN), logits_CN])
            return functional.log_softmax(logits_CN, dim=0).T

    def features(self, items: torch.Tensor) -> torch.Tensor:
        return items.flatten(1)

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight, "bias": self.bias}

    def head_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        return _two_columns(self.weight.T).T, _two_columns(self.bias[None])[0]


def _two_columns(logits: torch.Tensor) -> torch.Tensor:
    """The one logit of a binary model as two: class 0 has logit 0."""
    if logits.shape[-1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=-1)


def learner_factory(settings: LearnerSettings) -> LearnerFactory:
    """What makes the classifiers of a recipe, an ensemble of them where it has several members.

    With ``freeze`` they are linear heads on the rows that ``frozen.embed`` makes of the items.

    Raises:
        UserError: no such classifier, or settings that it does not have.
    """
    kind = check_settings(settings)

    def one(item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> Learner:
        if settings.freeze:
            return LinearLearner(item_shape, n_classes, device, settings)
        if isinstance(kind, NetworkKind):
            return NetworkLearner(item_shape, n_classes, device, settings)
        if isinstance(kind, EstimatorKind):
            return EstimatorLearner(item_shape, n_classes, device, kind)
        options = {"settings": settings} if kind.takes_settings else {}
        return kind.cls(item_shape, n_classes, device, **options)

    def several(item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> Learner:
        members = [one(item_shape, n_classes, device) for _ in range(settings.members)]
        return Ensemble(item_shape, n_classes, device, members)

    return one if settings.members == 1 else several


def check_settings(settings: LearnerSettings) -> Kind:
    """Find the kind, and refuse settings that it would ignore. Loads no data and builds nothing.

    Raises:
        UserError: no such classifier, or settings that it does not have.
    """
    kind = find_kind(settings.kind)
    own = isinstance(kind, LearnerKind) and kind.cls is not LinearLearner and kind.takes_settings
    # A class that takes the settings may read them; only the harness freezes.
    forms = ("freeze",) if own else ("dropout", "weights", "freeze")
    asked = [name for name in forms if getattr(settings, name)]
    if asked and not isinstance(kind, NetworkKind):
        raise UserError(
            f"learner.{asked[0]} is for networks; the classifier '{settings.kind}' is none. Use one, "
            f"for instance learner.kind=mlp, or leave learner.{asked[0]} out."
        )
    if settings.pack > 1 and (settings.freeze or not _is_packable(kind)):
        what = "a frozen network's head" if settings.freeze else f"the classifier '{settings.kind}'"
        raise UserError(
            f"learner.pack trains the harness's own networks side by side, and {what} is none of them. Use "
            "learner.kind=mlp, mnist-cnn, all-cnn or strided-cnn, or leave learner.pack (--executor packed) "
            "out."
        )
    if settings.freeze and settings.dropout:
        raise UserError(
            "learner.freeze trains a linear head, which has no dropout. Use learner.members=5 for "
            "several heads, or leave learner.dropout out."
        )
    if settings.freeze and settings.augment != "none":
        raise UserError(
            "learner.freeze computes features once, so that images cannot be augmented. Set "
            "learner.augment=none, or leave learner.freeze out."
        )
    return kind


def _is_packable(kind: Kind) -> bool:
    """Whether several networks can go through one: no foreign Python, no statistics of a batch."""
    return isinstance(kind, NetworkKind) and kind.make.__module__ == networks.__name__


def sources(settings: LearnerSettings) -> dict[str, str]:
    """What the settings rest on and do not hold: foreign source and weights, for a run's key.

    Raises:
        UserError: a file that is not there.
    """
    found = identity_of(LEARNERS, settings.kind)
    if settings.weights:
        found["learner.weights"] = weights_identity(settings.kind, settings.weights)
    return found


def lacking(
    settings: LearnerSettings,
    needs: Collection[str],
    problem: tuple[tuple[int, ...], int] | None = None,
) -> str | None:
    """What a strategy needs of its classifier and will not get, as a reason; None when all is there.

    Args:
        needs: ``gradients`` (of the logits with respect to the items), ``samples`` (of the parameters)
            and ``activations`` (of a network's hidden layers).
        problem: item shape and number of classes, once they are known: a network is built for them to
            see whether it has dropout of its own.

    Raises:
        UserError: no such classifier, or settings that it does not have.
    """
    kind = check_settings(settings)
    if "gradients" in needs:
        if settings.freeze:
            return (
                "it searches for images by gradients of the classifier, which learner.freeze moves to "
                "features; leave learner.freeze out"
            )
        own = isinstance(kind, LearnerKind) and not kind.cls.differentiable
        if own or isinstance(kind, EstimatorKind):
            return (
                f"it searches for images by gradients of the classifier, and '{settings.kind}' has "
                "none; use a network, for instance learner.kind=mlp"
            )
    if "activations" in needs:
        if not isinstance(kind, NetworkKind) and settings.kind != "linear":
            return (
                f"it trains a module beside a network, and '{settings.kind}' is none; use "
                "learner.kind=mlp, mnist-cnn, all-cnn, strided-cnn or linear"
            )
        if settings.members > 1 or settings.freeze:
            name = "members=1" if settings.members > 1 else "freeze=false"
            return f"it trains a module beside one whole network; set learner.{name}"
        if isinstance(kind, NetworkKind) and problem is not None:
            with torch.random.fork_rng(devices=[]):
                network = build_network(kind, *problem, width=settings.width)
            if not (isinstance(network, Classifier) and isinstance(network.body, nn.Sequential)):
                return (
                    f"it reads the ReLUs of the harness's own networks, and '{settings.kind}' is "
                    "another one; use learner.kind=mlp, mnist-cnn, all-cnn or strided-cnn"
                )
    if (
        "samples" in needs
        and settings.members == 1
        and not _can_be_sampled(settings, kind, problem)
    ):
        return (
            f"it needs several sets of parameters, and '{settings.kind}' has one. "
            f"{SAMPLES_REMEDY.rstrip('.')}"
        )
    return None


def _can_be_sampled(
    settings: LearnerSettings, kind: Kind, problem: tuple[tuple[int, ...], int] | None
) -> bool:
    """Whether one classifier has several sets of parameters; a network may as long as none is built."""
    if isinstance(kind, LearnerKind):
        return kind.cls.sample_log_probs is not Learner.sample_log_probs
    if isinstance(kind, EstimatorKind) or settings.freeze:
        return False
    if settings.dropout or problem is None:
        return True
    with torch.random.fork_rng(devices=[]):
        network = build_network(kind, *problem, width=settings.width)
    return bool(dropout_layers(network))
