"""The linear classifier, which is solved: the same labels give the same weights, whatever the seed.

Shape letters: N items, C classes, D features.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alharness.lazily import functional, torch
from alharness.learners.balance import weights_of
from alharness.learners.learner import FitReport, Learner
from alharness.learners.settings import LearnerSettings

if TYPE_CHECKING:
    from alharness.labelled import LabelledSet
    from alharness.learners import newton
    from alharness.pool import Pool


class LinearLearner(Learner):
    """L2-regularised softmax regression on raw values, h(x) = Wx + b, trained to convergence.

    Minimises ``sum_i CE(h(x_i), y_i) + |W|^2 / (2 C)`` with an unpenalised bias: scikit-learn's
    objective, and with ``learner.class_weight=balanced`` each term counts as there. Two classes share one
    weight vector (logits 0 and w.x + b), because penalising two vectors would halve the effective
    regularisation.

    The objective is convex, so the seed plays no part. Both solvers work in float64: with 50 labels the
    optimum is flat in many directions and float32 stops a line search early. ``learner.solver`` says which:
    ``newton`` goes to the optimum in a tenth of the time, ``lbfgs`` is how versions before 0.3 stopped, some
    1e-6 of the objective above it.

    It is solved on the CPU, whatever the device, while the labelled items have at most ``CPU_VALUES``
    numbers: then the same labels give the same bits everywhere. A solver is a chain of small steps, each
    of which waits for a number: counted with L-BFGS on 200 digits of ten classes, a fit on the device makes
    6,929 host reads and 43,000 launches, a third of a second however fast the device is; solved here it
    makes two reads, of items and targets. One product reads the items at most twice, at the limit 64 MB in
    float64: some 5 ms for one core.
    """

    seeded = False
    weighs_classes = True

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
        from alharness.learners import newton

        # L-BFGS holds a copy in float64; Newton's method also inner products of the items, or a second copy.
        more_bytes = 8 if self.settings.solver == "lbfgs" else 16
        items, targets = labelled.training_data(pool, more_bytes=more_bytes)
        if items.numel() <= self.CPU_VALUES:
            items, targets = items.cpu(), targets.cpu()
        x_ND = items.flatten(1).to(torch.float64, copy=True)  # newton centres it in place
        penalty, bound = 1 / self.settings.c, self.settings.max_iterations
        weights_C = weights_of(targets, self.n_classes, self.settings.class_weight)
        if self.settings.solver == "lbfgs":
            solved = _lbfgs(x_ND, targets, self.n_classes, self.settings.c, bound, weights_C)
        else:
            solved = newton.solve(x_ND, targets, self.n_classes, penalty, bound, weights_C)
        weight, bias = solved.weight.float(), solved.bias.float()
        logits_NC = _two_columns(functional.linear(items.flatten(1), weight, bias))
        loss = functional.cross_entropy(logits_NC, targets)
        self.weight, self.bias = weight.to(self.device), bias.to(self.device)
        return FitReport(solved.iterations, float(loss), solved.converged)

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


#: Largest absolute gradient entry, relative to the number of labels, at which L-BFGS stops.
_LBFGS_TOLERANCE = 1e-7


def _lbfgs(
    x_ND: torch.Tensor,
    targets_N: torch.Tensor,
    n_classes: int,
    c: float,
    max_iterations: int,
    weights_C: torch.Tensor | None,
) -> newton.Solution:
    """The recipe of versions before 0.3, to the last bit: their runs go on with ``learner.solver=lbfgs``."""
    from alharness.learners import newton

    n, n_vectors = len(targets_N), 1 if n_classes == 2 else n_classes
    weight = x_ND.new_zeros(n_vectors, x_ND.shape[1]).requires_grad_()
    bias = x_ND.new_zeros(n_vectors).requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        max_eval=2 * max_iterations,
        tolerance_grad=_LBFGS_TOLERANCE,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> torch.Tensor:
        cross_entropy = functional.cross_entropy(
            _two_columns(functional.linear(x_ND, weight, bias)),
            targets_N,
            weight=None if weights_C is None else weights_C.double(),
            reduction="sum",
        )
        return (cross_entropy + weight.square().sum() / (2 * c)) / n

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = objective()
        loss.backward()
        return loss

    solver.step(closure)
    iterations = int(solver.state[weight]["n_iter"])
    closure()
    assert weight.grad is not None
    assert bias.grad is not None
    gradient = max(float(weight.grad.abs().max()), float(bias.grad.abs().max()))
    # The line search ends where float64 cannot tell two objectives apart, sometimes short of
    # the tolerance; ten times the tolerance is still far below what a prediction can show.
    converged = gradient <= 10 * _LBFGS_TOLERANCE
    return newton.Solution(weight.detach(), bias.detach(), iterations, converged)


def _two_columns(logits: torch.Tensor) -> torch.Tensor:
    """The one logit of a binary model as two: class 0 has logit 0."""
    if logits.shape[-1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=-1)
