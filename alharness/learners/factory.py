"""Settings -> classifiers: what is refused, and what makes them, from scratch in each cycle.

The paper (Sec. 4.2) trains from scratch in each cycle, without augmentation except on LSUN. Outside
``fit`` a learner is in evaluation mode and does not change. The recipe is the same for every strategy.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from alharness.errors import UserError
from alharness.learners import networks
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
from alharness.learners.learner import SAMPLES_REMEDY, Learner, LearnerFactory
from alharness.learners.linear import LinearLearner
from alharness.learners.network import NetworkLearner, dropout_layers
from alharness.learners.networks import Classifier
from alharness.learners.settings import LearnerSettings
from alharness.learners.weights import weights_identity
from alharness.plugins import LEARNERS, identity_of


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
