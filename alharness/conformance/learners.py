"""The checks that every classifier must pass, for ours and for anyone's: ``alharness check ./net.py:Net``.

In a third party's pytest::

    from alharness.conformance.learners import check_learner
    from alharness.learners.settings import LearnerSettings

    def test_contract():
        results = check_learner(LearnerSettings(kind="./net.py:Net"))
        assert not [result for result in results if result.outcome == "fail"]

Made-up items of three classes, a few training steps: sound, not good, is what is proven.
"""

from __future__ import annotations

import copy
import unittest
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from alharness import seeds
from alharness.border.author import Author
from alharness.border.fits import FitGuard, predictions_fault, report_fault
from alharness.border.state import changed, global_marks
from alharness.conformance.outcomes import CheckResult, Checks, outcomes
from alharness.errors import UserError, blamed
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.kinds import kind_of
from alharness.learners.learner import FitReport, Learner, take_state
from alharness.learners.settings import LearnerSettings
from alharness.pool import ArrayPool

N_ITEMS = 48
N_LABELLED = 31  # one more than a multiple of the batch size: a lone item ends each epoch
N_CLASSES = 3
#: Shapes tried in turn until the classifier takes one.
SHAPES = [(1, 8, 8), (3, 8, 8), (3, 32, 32), (1, 28, 28), (3, 64, 64), (12,)]
#: What makes training short; everything else is as set.
SHORT = {"width": 16, "min_steps": 4, "epochs": 1, "batch_size": 10}
#: Largest difference between two ways to the same float32 logits.
CLOSE = 1e-3


@dataclass(frozen=True)
class Subject:
    """A classifier under check.

    Attributes:
        settings: with little training.
        shape: of the items that it takes.
    """

    settings: LearnerSettings
    shape: tuple[int, ...]

    @cached_property
    def pool(self) -> ArrayPool:
        """Noisy patterns of three classes."""
        rng = seeds.rng(0, "conformance of learners", *self.shape)
        patterns = rng.uniform(0.2, 0.8, size=(N_CLASSES, *self.shape))
        noise = rng.normal(0, 0.4, size=(N_ITEMS, *self.shape))
        values = (patterns[self.targets.numpy()] + noise).clip(0, 1)
        images = len(self.shape) == 3
        return ArrayPool((values * 255).astype(np.uint8) if images else values.astype(np.float32))

    @cached_property
    def targets(self) -> torch.Tensor:
        return torch.arange(N_ITEMS) % N_CLASSES

    @cached_property
    def items(self) -> torch.Tensor:
        """Items that have no label."""
        return self.pool.gather(torch.arange(N_LABELLED, N_ITEMS))

    def labelled(self, targets: torch.Tensor | None = None, n: int = N_LABELLED) -> LabelledSet:
        """The first n items with their targets, or with others."""
        known = self.targets if targets is None else targets
        return LabelledSet(torch.arange(n), known[:n].clone(), n_asked=n)

    def fresh(self) -> Learner:
        return learner_factory(self.settings)(self.shape, N_CLASSES, torch.device("cpu"))

    def fitted(self, seed: int = 0, targets: torch.Tensor | None = None) -> Learner:
        learner = self.fresh()
        learner.fit(self.labelled(targets), self.pool, seed=seed)
        return learner

    @cached_property
    def usual(self) -> Learner:
        """One fitted learner, for checks that only look."""
        return self.fitted()


CHECKS: Checks[Subject] = Checks()


def check_learner(settings: LearnerSettings) -> list[CheckResult]:
    """Run all checks of the classifier that the settings name.

    Raises:
        UserError: no such classifier, or one that takes none of the items tried.
    """
    short = settings.model_copy(update=SHORT)
    if settings.pseudo_labels:  # fewer than there are, so that the seed decides which
        short = short.model_copy(update={"unlabelled": N_ITEMS // 6})
    subject = Subject(short, _suitable_shape(short))
    return outcomes(CHECKS, subject)


def _suitable_shape(settings: LearnerSettings) -> tuple[int, ...]:
    factory = learner_factory(settings)
    refusal: UserError | None = None
    for shape in SHAPES:
        try:
            with blamed(f"classifier '{settings.kind}'", "a classifier that can be made"):
                factory(shape, N_CLASSES, torch.device("cpu"))
        except UserError as error:
            refusal = refusal or error
        else:
            return shape
    tried = ", ".join(map(str, SHAPES))
    raise UserError(f"The classifier takes no items of the shapes tried ({tried}): {refusal}")


@CHECKS.named("fit-report")
def _fit_report(subject: Subject) -> None:
    """fit gives a report with steps and a finite loss"""
    report = subject.fresh().fit(subject.labelled(), subject.pool, seed=0)
    fault = report_fault(report, FitReport)
    assert fault is None, f"expected {fault[0]}, found {fault[1]}"
    assert report.steps >= 1, f"a fit of {report.steps} steps"
    assert np.isfinite(report.train_loss), f"the loss is {report.train_loss}"


@CHECKS.named("logits")
def _logits(subject: Subject) -> None:
    """one finite float32 logit per item and class; log_probs are their normalised logarithms"""
    learner, n = subject.usual, len(subject.items)
    logits = learner.logits(subject.items)
    assert tuple(logits.shape) == (n, N_CLASSES), f"logits of shape {tuple(logits.shape)}"
    assert logits.dtype == torch.float32, f"logits are {logits.dtype}"
    assert bool(logits.isfinite().all()), "a logit is not finite"
    log_p = learner.log_probs(subject.items)
    fault = predictions_fault(log_p, n, N_CLASSES)
    assert fault is None, f"expected {fault[0]}, found {fault[1]}"
    assert _near(log_p, logits.detach().log_softmax(dim=1)), "log_probs do not follow from logits"


@CHECKS.named("seed")
def _seed(subject: Subject) -> None:
    """the seed decides what is learned, whatever the global random state"""
    digests = []
    for state in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(state)
            digests.append(subject.fitted(seed=7).digest())
    assert digests[0] == digests[1], "with the same seed it learns something else each time"
    if subject.fresh().seeded:
        other = subject.fitted(seed=8).digest()
        assert other != digests[0], (
            "another seed changes nothing; a classifier that is meant to says seeded = False"
        )


@CHECKS.named("as-in-a-run")
def _as_in_a_run(subject: Subject) -> None:
    """a run of three cycles refuses no fit and no prediction: it carries no state, and leaves all as it is"""
    author = Author(kind_of(subject.settings).plugin, subject.settings.kind, "classifier")
    pools = subject.pool, subject.pool
    guard = FitGuard(author, *pools, N_CLASSES, FitReport, is_foreign=True, thorough=True)
    for n in (N_LABELLED // 3, N_LABELLED // 2, N_LABELLED):
        labelled = subject.labelled(n=n)
        learner, _ = guard.fit(subject.fresh, labelled, seed=n)
        guard.look(subject.fresh, learner, labelled, seed=n)


@CHECKS.named("global-randomness")
def _global_randomness(subject: Subject) -> None:
    """fit and predictions leave random states and settings that belong to everybody alone"""
    before = global_marks()
    subject.fitted().log_probs(subject.items)
    touched = changed(before, global_marks())
    assert not touched, f"{touched[0]} has changed"


@CHECKS.named("from-scratch")
def _from_scratch(subject: Subject) -> None:
    """a second fit starts from scratch"""
    learner = subject.fitted(seed=3)
    first = learner.digest()
    learner.fit(subject.labelled(subject.targets.flip(0)), subject.pool, seed=4)
    learner.fit(subject.labelled(), subject.pool, seed=3)
    assert learner.digest() == first, "what it learned before shows in the next fit"


@CHECKS.named("evaluation-mode")
def _evaluation_mode(subject: Subject) -> None:
    """after a fit it is in evaluation mode: the same items get the same logits, and nothing changes"""
    learner = subject.fitted()
    before = learner.digest()
    first = learner.logits(subject.items)
    assert torch.equal(first, learner.logits(subject.items)), "asked twice, it answers differently"
    learner.features(subject.items)
    learner.log_probs(subject.items)
    assert learner.digest() == before, "predicting changes its parameters"
    training = [
        name
        for value in vars(learner).values()
        if isinstance(value, nn.Module)
        for name, module in value.named_modules()
        if module.training
    ]
    assert not training, f"in training mode after a fit: {', '.join(training) or 'the network'}"


@CHECKS.named("each-item-by-itself")
def _each_item(subject: Subject) -> None:
    """an item's logits and features do not depend on the items it is seen with"""
    learner, items = subject.usual, subject.items
    for name, function in (("logits", learner.logits), ("features", learner.features)):
        together = function(items).detach()
        alone = torch.cat([function(item[None]).detach() for item in items])
        assert _near(together, alone), f"{name} depend on the other items of the batch"


@CHECKS.named("features")
def _features(subject: Subject) -> None:
    """one row of finite features per item, without gradients"""
    features = subject.usual.features(subject.items)
    assert features.ndim == 2, f"features of shape {tuple(features.shape)}"
    assert len(features) == len(subject.items), f"{len(features)} rows of features"
    assert bool(features.isfinite().all()), "a feature is not finite"
    assert not features.requires_grad, "features carry gradients"


@CHECKS.named("head")
def _head(subject: Subject) -> None:
    """the head's weights turn features into logits"""
    learner = subject.usual
    try:
        weight, bias = learner.head_weights()
    except UserError as reason:
        raise unittest.SkipTest(str(reason)) from None
    found = learner.features(subject.items) @ weight.T + bias
    assert _near(found, learner.logits(subject.items).detach()), (
        "features and head give other logits"
    )


@CHECKS.named("gradients")
def _gradients(subject: Subject) -> None:
    """logits carry gradients to the items"""
    learner = subject.usual
    if not learner.differentiable:
        raise unittest.SkipTest("is not differentiable by declaration")
    items = subject.items.clone().requires_grad_(True)
    learner.logits(items)[:, 0].sum().backward()
    assert items.grad is not None, (
        "logits carry no gradient; a classifier without says differentiable = False"
    )
    assert bool(items.grad.isfinite().all()), "a gradient is not finite"


@CHECKS.named("samples")
def _samples(subject: Subject) -> None:
    """sampled predictions are probabilities, the same for the same rng, and jointly drawn for all items"""
    learner, items = subject.fitted(), subject.items
    rng = torch.Generator().manual_seed(5)
    try:
        samples = learner.sample_log_probs(items, 4, rng)
    except UserError as reason:
        raise unittest.SkipTest(str(reason)) from None
    assert samples.shape[1:] == (len(items), N_CLASSES), f"samples of shape {tuple(samples.shape)}"
    assert _near(samples.logsumexp(dim=2), torch.zeros(samples.shape[:2])), "not normalised"
    assert not _near(samples[0], samples[1]), "all samples are equal"
    part = learner.sample_log_probs(items[3:8], 4, rng)
    assert _near(part, samples[:, 3:8]), "items of another block see other sets of parameters"
    before = learner.log_probs(items)
    assert _near(before, subject.fitted().log_probs(items)), "sampling changed its predictions"


@CHECKS.named("digest")
def _digest(subject: Subject) -> None:
    """the digest tells what was learned from other labels apart"""
    other = (subject.targets + 1) % N_CLASSES
    assert subject.fitted().digest() != subject.fitted(targets=other).digest(), (
        "trained on other labels it has the same digest: state() leaves parameters out"
    )


@CHECKS.named("state")
def _state(subject: Subject) -> None:
    """a fit that is given the state of another predicts as that one does"""
    held = copy.deepcopy(subject.usual)
    other = subject.fitted(1, (subject.targets + 1) % N_CLASSES)
    if not take_state(held, other):
        raise unittest.SkipTest("its state() has no memory that can be written")
    assert _near(held.log_probs(subject.items), other.log_probs(subject.items)), (
        "state() leaves out what it learned (a number, a buffer that is not persistent): on a GPU it is "
        "not carried to the next cycle, and each latent search is captured anew"
    )


@CHECKS.named("one-class")
def _one_class(subject: Subject) -> None:
    """works while one class only has a label"""
    learner = subject.fitted(targets=torch.ones_like(subject.targets))
    assert bool(learner.log_probs(subject.items).isfinite().all()), "a probability is not finite"


def _near(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=CLOSE, rtol=CLOSE)
