"""Settings -> classifiers, made from scratch in each cycle.

The paper (Sec. 4.2) trains from scratch in each cycle, without augmentation except on LSUN. Outside
``fit`` a learner is in evaluation mode and does not change. The recipe is the same for every strategy.
"""

from __future__ import annotations

import torch

from alharness.learners.ensemble import Ensemble
from alharness.learners.estimator import EstimatorLearner
from alharness.learners.kinds import EstimatorKind, Kind, LearnerKind, NetworkKind, kind_of
from alharness.learners.learner import Learner, LearnerFactory
from alharness.learners.linear import LinearLearner
from alharness.learners.network import NetworkLearner
from alharness.learners.pseudo import PseudoLabelLearner
from alharness.learners.settings import LearnerSettings


def learner_factory(settings: LearnerSettings, kind: Kind | None = None) -> LearnerFactory:
    """What makes the classifiers of a recipe, an ensemble of them where it has several members.

    With ``freeze`` they are linear heads on the rows that ``frozen.embed`` makes of the items.

    Args:
        kind: what the settings name, where that was found already (``kinds.kind_of``).

    Raises:
        UserError: no such classifier, or settings that it does not have.
    """
    found = kind or kind_of(settings)

    head = PseudoLabelLearner if settings.pseudo_labels else LinearLearner

    def one(item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> Learner:
        if settings.freeze:
            return head(item_shape, n_classes, device, settings)
        if isinstance(found, NetworkKind):
            return NetworkLearner(item_shape, n_classes, device, settings, kind=found)
        if isinstance(found, EstimatorKind):
            return EstimatorLearner(item_shape, n_classes, device, found, settings.class_weight)
        assert isinstance(found, LearnerKind)
        # By class, not by name: a name of somebody's own may stand for it, too.
        if found.cls is LinearLearner:
            return head(item_shape, n_classes, device, settings)
        options = {"settings": settings} if found.takes_settings else {}
        return found.cls(item_shape, n_classes, device, **options)

    def several(item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> Learner:
        members = [one(item_shape, n_classes, device) for _ in range(settings.members)]
        return Ensemble(item_shape, n_classes, device, members)

    return one if settings.members == 1 else several
