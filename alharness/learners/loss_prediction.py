"""Classifiers that also predict their own loss on an item.

D. Yoo, I. S. Kweon, "Learning Loss for Active Learning", CVPR 2019. A small module reads the
network's hidden activations and predicts one number per item; it is trained to order the items of
each batch by their loss. Constants as in the public re-implementation (decisions 6).

Differs from the paper: the networks and their optimiser are the harness's (Adam, from scratch in each
cycle), and every ReLU's output is read instead of four residual stages. A linear classifier has no
hidden activations: it is trained as ever, and then a module on the item itself learns to order its
losses.

Shape letters: B items, P pairs.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Hashable
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.headed import Classifier, HeadedNetwork
from alharness.learners.kinds import NetworkKind, kind_of
from alharness.learners.learner import FitReport, Learner, LearnerFactory
from alharness.learners.linear import LinearLearner
from alharness.learners.network import NetworkLearner
from alharness.learners.settings import LearnerSettings
from alharness.learners.training import adam, descend_through
from alharness.pool import Pool

HIDDEN = 128
MARGIN = 1.0
WEIGHT = 1.0  # lambda of the ranking loss beside the cross-entropy
#: Share of the training after which the module no longer moves the classifier (epoch 120 of 200).
CUT_AT = 0.6


class LearningLossLearner(Learner):
    """A classifier that predicts its own loss."""

    @abstractmethod
    def predicted_loss(self, items: torch.Tensor) -> torch.Tensor:
        """Predicted loss ``[B]`` up to scale and shift, differentiable; larger: worse predicted."""


def ranking_loss(predicted_B: torch.Tensor, losses_B: torch.Tensor) -> torch.Tensor:
    """Mean hinge loss of the order of pairs (i, B-1-i); the middle item of an odd batch has no pair.

    0 for a batch of one.
    """
    n_pairs = len(losses_B) // 2
    if n_pairs == 0:
        return predicted_B.sum() * 0.0
    order_P = torch.sign((losses_B - losses_B.flip(0))[:n_pairs].detach())
    gap_P = (predicted_B - predicted_B.flip(0))[:n_pairs]
    return functional.relu(MARGIN - order_P * gap_P).mean()


class LossModule(nn.Module):
    """Activations of several layers to one predicted loss per item.

    Args:
        sizes: channels (or units) of each layer that is read.
    """

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(size, HIDDEN) for size in sizes)
        self.out = nn.Linear(HIDDEN * len(sizes), 1)

    def forward(self, activations: list[torch.Tensor]) -> torch.Tensor:
        read = [
            functional.relu(branch(_pooled(values)))
            for branch, values in zip(self.branches, activations, strict=True)
        ]
        return cast(torch.Tensor, self.out(torch.cat(read, dim=1))).squeeze(1)


def _pooled(values: torch.Tensor) -> torch.Tensor:
    """Global average over the pixels of ``[B, C, H, W]``."""
    return values.mean(dim=(2, 3)) if values.ndim == 4 else values


class WatchedClassifier(Classifier):
    """A classifier with a loss module that reads what its ReLUs put out."""

    def __init__(self, classifier: Classifier, item_shape: tuple[int, ...]) -> None:
        super().__init__(classifier.body, classifier.head)
        with torch.no_grad():
            _, activations = self.watched(torch.zeros(1, *item_shape))
        self.loss_module = LossModule([values.shape[1] for values in activations])

    def watched(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features of layer l-1, and the output of every ReLU."""
        activations = []
        for layer in cast(nn.Sequential, self.body):
            images = layer(images)
            if isinstance(layer, nn.ReLU):
                activations.append(images)
        return images, activations


class LearningLossNetwork(NetworkLearner, LearningLossLearner):
    """A network trained on cross-entropy and on the order of its own losses."""

    def build(self) -> HeadedNetwork:
        plain = super().build().cpu()  # what is added is initialised there, too
        if not isinstance(plain, Classifier) or not isinstance(plain.body, nn.Sequential):
            raise UserError(
                f"Learning loss reads the ReLUs of the harness's own networks; '{self.settings.kind}' is "
                "another one. Use learner.kind=mlp, mnist-cnn, all-cnn or strided-cnn."
            )
        return WatchedClassifier(plain, self.item_shape).to(self.device)

    def loss(
        self, items: torch.Tensor, targets: torch.Tensor, step: int, steps: int
    ) -> torch.Tensor:
        network = cast(WatchedClassifier, self.network)
        features, activations = network.watched(items)
        losses = functional.cross_entropy(network.head(features), targets, reduction="none")
        if step >= CUT_AT * steps:
            activations = [values.detach() for values in activations]
        return losses.mean() + WEIGHT * ranking_loss(network.loss_module(activations), losses)

    def kind_of_step(self, step: int, steps: int) -> tuple[Hashable, ...]:
        return (step >= CUT_AT * steps,)

    def predicted_loss(self, items: torch.Tensor) -> torch.Tensor:
        network = cast(WatchedClassifier, self.network)
        predicted: torch.Tensor = network.loss_module(network.watched(items)[1])
        return predicted


class LearningLossLinear(LinearLearner, LearningLossLearner):
    """The linear classifier, unchanged, and a module that learns to order its losses."""

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        report = super().fit(labelled, pool, seed=seed)
        items, targets = labelled.training_data(pool)
        items = items.flatten(1)
        with torch.no_grad():
            losses = functional.cross_entropy(self.logits(items), targets, reduction="none")
        n = len(targets)
        batch_size = min(self.settings.batch_size, n)
        per_epoch = math.ceil(n / batch_size)
        steps = max(self.settings.min_steps, self.settings.epochs * per_epoch)
        order = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.loss_module = LossModule([items.shape[1]])
        self.loss_module = self.loss_module.to(self.device).train()
        optimiser = adam(self.loss_module.parameters(), self.settings.lr, self.device)

        def drawn(step: int) -> tuple[torch.Tensor]:
            return (torch.randperm(n, generator=order)[:batch_size].to(self.device),)

        def loss_of(batch: torch.Tensor) -> torch.Tensor:
            predicted = self.loss_module([items.index_select(0, batch)])
            return ranking_loss(predicted, losses.index_select(0, batch))

        for _ in descend_through(optimiser, drawn, loss_of, steps):
            pass
        self.loss_module.eval().requires_grad_(False)
        return report

    def predicted_loss(self, items: torch.Tensor) -> torch.Tensor:
        predicted: torch.Tensor = self.loss_module([items.flatten(1)])
        return predicted

    def state(self) -> dict[str, torch.Tensor]:
        module = {f"loss_module.{k}": v for k, v in self.loss_module.state_dict().items()}
        return {**super().state(), **module}


def learning_loss_factory(settings: LearnerSettings) -> LearnerFactory:
    """The harness's learners with a loss module each.

    Raises:
        UserError: another classifier, or settings that learning loss does not have.
    """
    kind = kind_of(settings)
    reason = kind.lacking(settings, {"activations"})
    if reason is not None:
        raise UserError(f"Learning loss cannot work with this classifier: {reason}.")

    def make(item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> Learner:
        if isinstance(kind, NetworkKind):
            return LearningLossNetwork(item_shape, n_classes, device, settings, kind=kind)
        return LearningLossLinear(item_shape, n_classes, device, settings)

    return make
