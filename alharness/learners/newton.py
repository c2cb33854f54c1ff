"""Softmax regression to its optimum: Newton's method, each step by conjugate gradients.

Truncated Newton (J. Nocedal, S. Wright, "Numerical Optimization", 2nd ed., Algorithm 7.1; for logistic
regression C.-J. Lin, R. Weng, S. Keerthi, JMLR 2008) in the row space of the items: with few labels of
many features the weights are combinations of the items, and every product is with the N x N matrix of the
items' inner products instead of twice with N x D numbers. Nothing is drawn and nothing is kept from an
earlier fit: the same labels give the same weights.

Shape letters: N items, D features, V weight vectors (one of two classes, otherwise one per class).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

#: Euclidean norm of the gradient, relative to the number of labels, at which the solver stops. What is left
#: of the objective is below 1e-16 N^2 C: the optimum, as float64 can tell.
TOLERANCE = 1e-8
#: How far conjugate gradients reduce the residual of a Newton step at least: far from the optimum an exact
#: step is wasted, near it the tolerance falls with the gradient, so that convergence is superlinear.
FORCING = 0.25
#: Products for one Newton step at most; a step that is cut short still leads downhill.
PRODUCTS = 300
#: How far a step may move a logit. Where classes are separable the curvature vanishes faster than the
#: gradient, and the quadratic model says nothing of a probability that changes by more than e^50.
LARGEST_MOVE = 50.0
#: Armijo's condition: the share of the predicted decrease that a step must bring.
SUFFICIENT = 1e-4


@dataclass(frozen=True)
class Solution:
    """Where a solver ended.

    Attributes:
        weight, bias: float64 ``[V, D]`` and ``[V]``.
        iterations: L-BFGS iterations, or products of conjugate gradients; one reads the items twice at most.
        converged: whether the gradient fell below the solver's tolerance.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    iterations: int
    converged: bool


class _Space(Protocol):
    """Coordinates of weights and bias, and what the solver needs to know of them."""

    def pull(self, values_VN: torch.Tensor) -> torch.Tensor:
        """Coordinates of the derivative with respect to the parameters, given that to the logits."""

    def push(self, at: torch.Tensor) -> torch.Tensor:
        """Logits of all items ``[V, N]``."""

    def inner(self, at: torch.Tensor, logits_VN: torch.Tensor, other: torch.Tensor) -> float:
        """Inner product of two sets of parameters; ``logits_VN`` are those of the first."""

    def penalised(self, at: torch.Tensor) -> torch.Tensor:
        """The same parameters without the bias."""

    def weights(self, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights ``[V, D]`` and bias ``[V]``."""


class _Features:
    """Coordinates are the parameters themselves; the bias is the weight of a constant feature, 1."""

    def __init__(self, x_ND: torch.Tensor) -> None:
        self.x = torch.cat([x_ND, torch.ones_like(x_ND[:, :1])], dim=1)
        self.is_weight = torch.ones_like(self.x[0])
        self.is_weight[-1] = 0

    def pull(self, values_VN: torch.Tensor) -> torch.Tensor:
        return values_VN @ self.x

    def push(self, at: torch.Tensor) -> torch.Tensor:
        return at @ self.x.T

    def inner(self, at: torch.Tensor, logits_VN: torch.Tensor, other: torch.Tensor) -> float:
        return float(torch.dot(at.flatten(), other.flatten()))

    def penalised(self, at: torch.Tensor) -> torch.Tensor:
        return at * self.is_weight

    def weights(self, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return at[:, :-1], at[:, -1]


class _Items:
    """Coordinates are coefficients of the items, with a constant feature, 1: the row space.

    The items are centred, so the bias alone is the combination of all of them with equal coefficients.
    """

    def __init__(self, x_ND: torch.Tensor) -> None:
        self.x = x_ND
        self.inner_NN = torch.addmm(x_ND.new_ones(()), x_ND, x_ND.T)

    def pull(self, values_VN: torch.Tensor) -> torch.Tensor:
        return values_VN

    def push(self, at: torch.Tensor) -> torch.Tensor:
        return at @ self.inner_NN

    def inner(self, at: torch.Tensor, logits_VN: torch.Tensor, other: torch.Tensor) -> float:
        return float(torch.dot(logits_VN.flatten(), other.flatten()))

    def penalised(self, at: torch.Tensor) -> torch.Tensor:
        return at - at.mean(dim=1, keepdim=True)

    def weights(self, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return at @ self.x, at.sum(dim=1)


@torch.no_grad()
def solve(
    x_ND: torch.Tensor,
    targets_N: torch.Tensor,
    n_classes: int,
    penalty: float,
    max_products: int,
    weights_C: torch.Tensor | None = None,
) -> Solution:
    """Minimise ``sum_i CE(W x_i + b, y_i) + penalty |W|^2 / 2``, the bias unpenalised.

    Args:
        x_ND: float64; overwritten, so that there is no second copy.
        targets_N: classes, int64, on the same device.
        n_classes: two classes share one weight vector.
        penalty: positive.
        weights_C: what a label of each class counts; None: 1, without a multiplication.
        max_products: conjugate-gradient iterations in all; the last Newton step is taken all the same.
    """
    n, n_features = x_ND.shape
    # Brightness, which all items share, would be nearly parallel to the bias: centred, a problem on images
    # takes half the products. The bias, which is free, makes up for it at the end.
    mean_D = x_ND.mean(dim=0)
    x_ND -= mean_D
    space: _Space = _Items(x_ND) if n <= n_features else _Features(x_ND)
    weights_N = None if weights_C is None else weights_C.to(x_ND)[targets_N]
    model: _Binary | _Softmax
    kept = (targets_N, weights_N)
    model = _Binary(*kept) if n_classes == 2 else _Softmax(*kept, n_classes)

    at = space.pull(torch.zeros_like(model.y_VN))
    logits_VN = torch.zeros_like(model.y_VN)
    objective = model.loss(logits_VN)
    products = 0
    while True:
        p_VN = model.probabilities(logits_VN)
        downhill = space.pull(model.downhill(p_VN)).sub(space.penalised(at), alpha=penalty)
        of_downhill = space.push(downhill)
        squared = space.inner(downhill, of_downhill, downhill)
        converged = squared <= (TOLERANCE * n) ** 2
        if converged or products >= max_products:
            break
        step, of_step, predicted, used = _newton_step(
            space, model, p_VN, penalty, downhill, of_downhill, squared, n
        )
        products += used
        share = min(1.0, LARGEST_MOVE / max(float(of_step.abs().max()), 1e-300))
        while True:
            there = at.add(step, alpha=share)
            logits_VN = space.push(there)
            penalised = space.penalised(there)
            reached = model.loss(logits_VN) + penalty / 2 * space.inner(there, logits_VN, penalised)
            needed = SUFFICIENT * share * predicted
            # Near the optimum two objectives differ by their rounding; the full step is right there.
            if reached <= objective - needed or share * predicted <= 1e-12 * objective:
                break
            share /= 2
        at, objective = there, reached
    weight_VD, bias_V = space.weights(at)
    return Solution(weight_VD, bias_V - weight_VD @ mean_D, products, converged)


def _newton_step(
    space: _Space,
    model: _Binary | _Softmax,
    p_VN: torch.Tensor,
    penalty: float,
    residual: torch.Tensor,
    of_residual: torch.Tensor,
    squared: float,
    n: int,
) -> tuple[torch.Tensor, torch.Tensor, float, int]:
    """Conjugate gradients on ``Hessian step = residual``, a minus gradient.

    Args:
        residual, of_residual: coordinates and logits; overwritten.
        squared: squared length of the residual.

    Returns:
        the step, its logits, the decrease of the objective per share of the step, products used.
    """
    goal = min(FORCING, (squared**0.5 / n) ** 0.5) ** 2 * squared
    step, of_step = torch.zeros_like(residual), torch.zeros_like(of_residual)
    towards, of_towards = residual.clone(), of_residual.clone()
    predicted, used = 0.0, 0
    while used < PRODUCTS:
        used += 1
        curved = space.pull(model.curvature(p_VN, of_towards))
        curved = curved.add(space.penalised(towards), alpha=penalty)
        curvature = space.inner(towards, of_towards, curved)
        if not curvature > 0:  # only rounding is left in this direction
            break
        length = squared / curvature
        predicted += length * squared
        step.add_(towards, alpha=length)
        of_step.add_(of_towards, alpha=length)
        residual.sub_(curved, alpha=length)
        of_residual = space.push(residual)
        before, squared = squared, space.inner(residual, of_residual, residual)
        if squared <= goal:
            break
        torch.add(residual, towards, alpha=squared / before, out=towards)
        torch.add(of_residual, of_towards, alpha=squared / before, out=of_towards)
    return step, of_step, predicted, used


class _Binary:
    """Logistic regression: the logit of class 1, ``[1, N]``; items count by their weights, if any."""

    def __init__(self, targets_N: torch.Tensor, weights_N: torch.Tensor | None) -> None:
        self.y_VN = targets_N.double()[None]
        self.weights_N = weights_N

    def loss(self, logits_VN: torch.Tensor) -> float:
        return float(self._weighted(functional.softplus(logits_VN) - self.y_VN * logits_VN).sum())

    def downhill(self, p_VN: torch.Tensor) -> torch.Tensor:
        """Minus the derivative of the loss with respect to the logits."""
        return self._weighted(self.y_VN - p_VN)

    def _weighted(self, values_VN: torch.Tensor) -> torch.Tensor:
        return values_VN if self.weights_N is None else values_VN * self.weights_N

    def probabilities(self, logits_VN: torch.Tensor) -> torch.Tensor:
        return logits_VN.sigmoid()

    def curvature(self, p_VN: torch.Tensor, direction_VN: torch.Tensor) -> torch.Tensor:
        """Second derivative of the loss with respect to the logits, times a direction."""
        return self._weighted(p_VN * (1 - p_VN) * direction_VN)


class _Softmax:
    """Several classes, the class first: items lie side by side, so a vector unit takes many at a time."""

    def __init__(
        self, targets_N: torch.Tensor, weights_N: torch.Tensor | None, n_classes: int
    ) -> None:
        self.y_VN = functional.one_hot(targets_N, n_classes).T.double().contiguous()
        self.weights_N = weights_N

    def loss(self, logits_VN: torch.Tensor) -> float:
        if self.weights_N is not None:
            own_N = (logits_VN * self.y_VN).sum(dim=0)
            return float(torch.dot(logits_VN.logsumexp(dim=0) - own_N, self.weights_N))
        own = torch.dot(logits_VN.flatten(), self.y_VN.flatten())
        return float(logits_VN.logsumexp(dim=0).sum() - own)

    def downhill(self, p_VN: torch.Tensor) -> torch.Tensor:
        """Minus the derivative of the loss with respect to the logits."""
        difference_VN = self.y_VN - p_VN
        return difference_VN if self.weights_N is None else difference_VN * self.weights_N

    def probabilities(self, logits_VN: torch.Tensor) -> torch.Tensor:
        return logits_VN.softmax(dim=0)

    def curvature(self, p_VN: torch.Tensor, direction_VN: torch.Tensor) -> torch.Tensor:
        """Second derivative of the loss with respect to the logits, times a direction."""
        weighted_VN = p_VN * direction_VN
        curved_VN = torch.addcmul(weighted_VN, p_VN, weighted_VN.sum(dim=0), value=-1)
        return curved_VN if self.weights_N is None else curved_VN * self.weights_N
