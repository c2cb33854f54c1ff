"""ADBA: active decision boundary annotation.

M. Huijser, J. C. van Gemert, "Active Decision Boundary Annotation with Deep Generative Models", ICCV
2017: classify in the generator's latent space; take the most uncertain pool item; show images along
the line through its code that is perpendicular to the decision boundary; have annotated where the
class changes.

Differs from the paper: codes come from ASAL's WGAN-GP and an encoder with refinement
(``inversion.py``) instead of adversarially learned inference, without standardisation because
z ~ N(0, I) already; several lines per cycle, through the most uncertain items. ``adba`` is the variant
of the ASAL paper (Sec. 5.3): eleven labelled codes per line and the harness's linear classifier.
``adba-boundary`` is the original's: a labelled item and a boundary point per line, and a linear
classifier with a hinge term for the one and a squared term for the other; its L2 strength is .001
here (1.0 there, applied only once boundary points exist), and it is trained by a fixed number of
full-batch Adam steps.

Shape letters: Q lines, P points of a line, L latent dimensions, B items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from alharness import acquisition
from alharness.labelled import LabelledSet
from alharness.lazily import functional, torch
from alharness.learners.learner import FitReport, Learner, LearnerFactory
from alharness.learners.settings import LearnerSettings
from alharness.learners.training import adam, descend_through
from alharness.pool import ArrayPool, Pool
from alharness.strategy import (
    Adaptation,
    CycleView,
    LineQuery,
    Parameters,
    Preparation,
    Strategy,
)
from alharness_strategies.inversion import obtain_codes

if TYPE_CHECKING:
    from alharness.generative import Generator

#: Where ``alharness list`` shows it.
FAMILY = "Synthetic images that are labelled themselves (needs a generator, trained once, and an annotator)"


class AdbaParameters(Parameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    n_points: int = Field(11, ge=2, description="images per line (Sec. 5.3)")
    encoder_steps: int = Field(1000, ge=1, description="training steps of the encoder")
    refine_steps: int = Field(100, ge=0, description="gradient steps per code (decisions 4)")
    n_pictures: int = Field(3, ge=0, description="lines per cycle kept for the picture")


class Adba(Strategy):
    """Ask where the class changes along lines of synthetic images; classify in latent space."""

    Parameters: ClassVar[type[Parameters]] = AdbaParameters
    parameters: AdbaParameters
    source = "Huijser & van Gemert 2017; Mayer & Timofte 2020, Sec. 5.3"
    learner_needs = frozenset({"gradients"})
    binary_only = True
    asks_synthetic = True
    #: What an annotated line is worth.
    answer: ClassVar[Literal["labels", "boundary"]] = "labels"

    generator: Generator
    radius: float

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        if len(item_shape) != 3:
            return f"it generates images, the task's items have shape {item_shape}"
        return super().unsuitable(n_classes, item_shape)

    def prepare(self, preparation: Preparation) -> Adaptation:
        self.generator = preparation.generator()
        codes = obtain_codes(
            self.generator,
            preparation.pool,
            preparation.test,
            preparation.supply,
            encoder_steps=self.parameters.encoder_steps,
            refine_steps=self.parameters.refine_steps,
        )
        # The sphere of the codes, as in the original: no code lies outside it.
        self.radius = float(codes.pool.norm(dim=1).max())
        return Adaptation(
            pool=ArrayPool(codes.pool, preparation.device),
            test=ArrayPool(codes.test, preparation.device),
            # Codes are rows: no network of the task's fits them.
            learner_factory=self.learner_factory(preparation),
        )

    def learner_factory(self, preparation: Preparation) -> LearnerFactory:
        """The harness's linear classifier, on codes, solved as the task's is."""
        from alharness.learners.factory import learner_factory  # networks, and so torch

        task = preparation.learner_settings
        return learner_factory(LearnerSettings(kind="linear", c=task.c, solver=task.solver))

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int]:
        n_images = query_size * self.parameters.n_points
        return {"pool_items_scored": n_unlabelled, "images_generated": n_images}

    def select(self, view: CycleView, query_size: int) -> LineQuery:
        candidates = view.unlabelled
        with view.stopwatch.phase("score"):
            # Two classes: the code nearest to the boundary is the one of largest entropy.
            nearness = view.scan(lambda codes: -decision(view.learner, codes).abs(), candidates)
        with view.stopwatch.phase("top_k"):
            chosen = candidates[acquisition.top_k(nearness, query_size)]
        with view.stopwatch.phase("lines"):
            codes_QL = view.pool.gather(chosen)
            points_QPL = chords(
                codes_QL, uphill(view.learner, codes_QL), self.radius, self.parameters.n_points
            )
        with view.stopwatch.phase("generate"), torch.no_grad():
            images = self.generator.decode(points_QPL.flatten(0, 1))
            images_QP = images.unflatten(0, points_QPL.shape[:2]).cpu()
        view.work.add("images_generated", len(images))
        shown = (images_QP[: self.parameters.n_pictures] * 255).round().to(torch.uint8)
        return LineQuery(
            points_QPL.cpu(),
            images_QP,
            chosen,
            answer=self.answer,
            diagnostics={"distance_mean": float(-nearness.topk(query_size).values.mean())},
            arrays={"lines": shown.numpy()},
        )


def decision(learner: Learner, codes: torch.Tensor) -> torch.Tensor:
    """w.z + b: how much more class 1 is favoured than class 0, ``[B]``."""
    logits = learner.logits(codes)
    return logits[:, 1] - logits[:, 0]


def uphill(learner: Learner, codes_QL: torch.Tensor) -> torch.Tensor:
    """Unit vectors perpendicular to the decision boundary, towards class 1, ``[Q, L]``.

    A classifier that has seen one class only may have no direction at all; then the first axis.
    """
    with torch.enable_grad():
        at = codes_QL.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(decision(learner, at).sum(), at)
    norm = gradient.norm(dim=1, keepdim=True)
    first_axis = torch.zeros_like(gradient)
    first_axis[:, 0] = 1.0
    return torch.where(norm > 0, gradient / norm, first_axis)


def chords(
    codes_QL: torch.Tensor, directions_QL: torch.Tensor, radius: float, n_points: int
) -> torch.Tensor:
    """Points ``[Q, P, L]`` at equal distances on the lines ``z + t d`` inside a sphere around 0.

    From the end that ``d`` points to (class 1) to the other one.

    Args:
        codes_QL: points inside the sphere.
        directions_QL: unit vectors.
        radius: of the sphere.
        n_points: points per line, both ends included.
    """
    along = (codes_QL * directions_QL).sum(dim=1, keepdim=True)
    # |z + t d| = r  <=>  t^2 + 2 t z.d + |z|^2 - r^2 = 0
    room = along.square() - codes_QL.square().sum(dim=1, keepdim=True) + radius**2
    # The farthest code lies on the sphere, by rounding outside of it.
    half = room.clamp_min(0).sqrt()
    t_QP = -along + half * torch.linspace(1, -1, n_points, device=codes_QL.device)
    return codes_QL[:, None] + t_QP[:, :, None] * directions_QL[:, None]


class AdbaBoundary(Adba):
    """ADBA with boundary points: ask where the class changes, and pull the boundary there."""

    source = "Huijser & van Gemert 2017"
    answer = "boundary"

    def learner_factory(self, preparation: Preparation) -> LearnerFactory:
        """A linear classifier that boundary points pull."""
        return BoundaryLearner


class BoundaryLearner(Learner):
    """f(z) = w.z + b with ``hinge(y f(z)) / 2 + f(boundary)^2 / 2``, means over each set.

    Both terms are convex: the seed plays no part.
    """

    STEPS = 300
    LR = 0.02
    DECAY = 0.98  # per ten steps
    L2 = 1e-3

    def __init__(self, item_shape: tuple[int, ...], n_classes: int, device: torch.device) -> None:
        super().__init__(item_shape, n_classes, device)
        self.weight = torch.zeros(math.prod(item_shape), device=device)
        self.bias = torch.zeros((), device=device)

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> FitReport:
        codes, targets = labelled.training_data(pool)
        # Boundary points come with the first annotated line: cycle 0 has none.
        signs = 2.0 * targets - 1.0
        boundary = labelled.extras.get("boundary", torch.empty(0, codes.shape[1])).to(pool.device)
        weight = torch.zeros_like(self.weight, requires_grad=True)
        bias = torch.zeros_like(self.bias, requires_grad=True)
        optimiser = adam([weight, bias], self.LR, pool.device)
        falling = torch.optim.lr_scheduler.StepLR(optimiser, step_size=10, gamma=self.DECAY)

        def loss_of() -> torch.Tensor:
            hinge = functional.relu(1 - signs * (codes @ weight + bias)).mean()
            loss = 0.5 * hinge + self.L2 * weight.square().sum()
            if len(boundary):
                loss = loss + 0.5 * (boundary @ weight + bias).square().mean()
            return loss

        for _ in descend_through(optimiser, lambda _: (), loss_of, self.STEPS, falling):
            pass
        self.weight, self.bias = weight.detach(), bias.detach()
        with torch.no_grad():
            cross_entropy = functional.cross_entropy(self.logits(codes), targets)
        return FitReport(self.STEPS, float(cross_entropy), True)

    def logits(self, items: torch.Tensor) -> torch.Tensor:
        value = items.flatten(1) @ self.weight + self.bias
        return torch.stack([torch.zeros_like(value), value], dim=1)

    def features(self, items: torch.Tensor) -> torch.Tensor:
        return items.flatten(1)

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight, "bias": self.bias}
