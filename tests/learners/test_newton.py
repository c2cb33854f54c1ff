"""The solver of the linear classifier: it reaches the optimum, in either space, and never runs away."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch.nn import functional

from alharness.labelled import LabelledSet
from alharness.learners import newton
from alharness.learners.learner import LearnerSettings
from alharness.learners.linear import LinearLearner
from alharness.pool import ArrayPool

VALUES, CLASSES = load_digits(return_X_y=True)


def digits(n: int, n_classes: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    wanted = np.flatnonzero(n_classes > CLASSES)[:n]
    return torch.from_numpy(VALUES[wanted] / 16), torch.from_numpy(CLASSES[wanted]).long()


def gradient(
    x_ND: torch.Tensor, y_N: torch.Tensor, n_classes: int, c: float, found: newton.Solution
) -> float:
    """Largest entry of the objective's gradient, by autograd, per label."""
    weight = found.weight.clone().requires_grad_()
    bias = found.bias.clone().requires_grad_()
    logits = functional.linear(x_ND, weight, bias)
    if n_classes == 2:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    loss = functional.cross_entropy(logits, y_N, reduction="sum") + weight.square().sum() / (2 * c)
    slopes = torch.autograd.grad(loss, [weight, bias])
    return max(float(slope.abs().max()) for slope in slopes) / len(y_N)


@pytest.mark.parametrize(("n", "n_classes"), [(30, 2), (300, 2), (50, 10), (64, 10), (400, 10)])
@pytest.mark.parametrize("c", [1.0, 1e-3, 1e3])
def test_the_gradient_vanishes_at_what_is_found(n: int, n_classes: int, c: float) -> None:
    """With fewer items than features and with more."""
    x, y = digits(n, n_classes)
    found = newton.solve(x.clone(), y, n_classes, 1 / c, 10_000)
    assert found.converged
    assert gradient(x, y, n_classes, c, found) < 2e-8


@pytest.mark.parametrize("n_classes", [2, 10])
def test_it_is_at_or_below_scikit_learns_optimum(n_classes: int) -> None:
    x, y = digits(200, n_classes)
    found = newton.solve(x.clone(), y, n_classes, 1.0, 1000)
    reference = LogisticRegression(tol=1e-10, max_iter=10_000).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(found.weight.numpy(), reference.coef_, atol=2e-5)


def test_items_that_repeat_or_have_constant_features_are_no_trouble() -> None:
    """The row space is smaller than the number of items; the coefficients are not unique, the weights are."""
    x, y = digits(20)
    wide = torch.cat([x, torch.zeros(len(x), 500), torch.ones(len(x), 3)], dim=1)
    repeated, classes = wide.repeat(5, 1), y.repeat(5)
    found = newton.solve(repeated.clone(), classes, 10, 1.0, 1000)
    assert found.converged
    assert gradient(repeated, classes, 10, 1.0, found) < 2e-8
    once = newton.solve(x.repeat(5, 1), classes, 10, 1.0, 1000)  # 100 x 64: by features
    torch.testing.assert_close(found.weight[:, :64], once.weight, atol=1e-6, rtol=0)
    assert not found.weight[:, 64:].any()


def test_the_same_labels_give_the_same_bits() -> None:
    x, y = digits(80)
    one, two = (newton.solve(x.clone(), y, 10, 1.0, 1000) for _ in range(2))
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)


@pytest.mark.parametrize("penalty", [1e-4, 1e-8, 1e-12])
@pytest.mark.parametrize("n_classes", [2, 10])
def test_separable_classes_do_not_run_away(n_classes: int, penalty: float) -> None:
    """Without a penalty to speak of the optimum lies far out: products are bounded, values finite."""
    x, y = digits(60, n_classes)
    found = newton.solve(x.clone(), y, n_classes, penalty, 500)
    assert found.weight.isfinite().all()
    assert found.iterations <= 500 + newton.PRODUCTS
    logits = functional.linear(x, found.weight, found.bias)
    guessed = (logits[:, 0] > 0).long() if n_classes == 2 else logits.argmax(dim=1)
    assert torch.equal(guessed, y)


@pytest.mark.parametrize("present", [[3], [0, 1], [2, 5, 9]])
def test_classes_without_a_label_become_improbable_and_nothing_overflows(
    present: list[int],
) -> None:
    """Their bias has no optimum: it falls until the gradient is below the tolerance."""
    x, y = digits(200)
    keep = torch.isin(y, torch.tensor(present))
    found = newton.solve(x[keep].clone(), y[keep], 10, 1.0, 1000)
    assert found.converged
    p = functional.linear(x[keep], found.weight, found.bias).softmax(dim=1)
    absent = [c for c in range(10) if c not in present]
    assert float(p[:, absent].max()) < 1e-5
    assert found.bias.isfinite().all()


def test_a_bound_on_the_iterations_is_kept_and_said() -> None:
    x, y = digits(100)
    found = newton.solve(x.clone(), y, 10, 1.0, 1)
    assert not found.converged
    assert found.iterations < 20


def fitted(solver: str) -> tuple[LinearLearner, bool]:
    x, y = digits(120)
    pool = ArrayPool(x.float().numpy())
    labelled = LabelledSet(indices=torch.arange(120), targets=y, n_asked=120)
    learner = LinearLearner(
        (64,), 10, torch.device("cpu"), LearnerSettings.model_validate({"solver": solver})
    )
    report = learner.fit(labelled, pool, seed=0)
    return learner, report.converged


def test_both_solvers_predict_the_same_and_leave_the_pool_as_it_is() -> None:
    items = torch.from_numpy(VALUES[200:400] / 16).float()
    before = items.clone()
    log_p = []
    for solver in ("newton", "lbfgs"):
        learner, converged = fitted(solver)
        assert converged
        log_p.append(learner.log_probs(items))
    torch.testing.assert_close(log_p[0], log_p[1], atol=2e-4, rtol=0)
    assert torch.equal(items, before)


def test_a_solved_classifier_carries_gradients_to_the_items() -> None:
    learner, _ = fitted("newton")
    items = torch.rand(3, 64, requires_grad=True)
    learner.logits(items).sum().backward()
    assert items.grad is not None
