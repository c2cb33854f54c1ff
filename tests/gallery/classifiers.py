"""Classifiers that misbehave, each in one way, as they may stand in somebody's file.

``kind``: of misbehaviour. ``told``: what the one line of a run must say. ``caught_by``: the check of
``alharness check`` that must name it, where it is not ``as-in-a-run``.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import ClassVar

import torch

from alharness.learners.learner import FitReport, Learner


class Honest(Learner):
    """The nearest mean of a class; what follows does one thing more."""

    seeded = False

    def fit(self, labelled, pool, *, seed):
        items = pool.gather(labelled.indices).flatten(1)
        self.misbehave(labelled, pool)
        means = [
            items[labelled.targets == number].mean(dim=0)
            if bool((labelled.targets == number).any())
            else items.mean(dim=0) * 0
            for number in range(self.n_classes)
        ]
        self.means = torch.stack(means)
        return self.report(FitReport(1, 0.5, True))

    def misbehave(self, labelled, pool):
        """While it is trained."""

    def report(self, report):
        return report

    def logits(self, items):
        return -(torch.cdist(items.flatten(1), self.means) ** 2)

    def features(self, items):
        return items.flatten(1).detach()

    def state(self):
        return {"means": self.means}


class KeepsState(Honest):
    """Starts each fit where the last one ended."""

    kind = "state kept"
    told = "the same classifier for the same labels and seed"
    last = None

    def fit(self, labelled, pool, *, seed):
        report = super().fit(labelled, pool, seed=seed)
        if KeepsState.last is not None:
            self.means = 0.5 * self.means + 0.5 * KeepsState.last
        KeepsState.last = self.means * 0.9
        return report


class Hoards(Honest):
    """The first means of this process that were of as many labels: of one run it shows nothing."""

    kept: ClassVar = {}

    def fit(self, labelled, pool, *, seed):
        report = super().fit(labelled, pool, seed=seed)
        self.means = self.kept.setdefault(len(labelled.indices), self.means)
        return report


class OverwritesLabels(Honest):
    kind = "labels overwritten"
    told = "fit to leave all as it is, found changed the labelled set's classes"

    def misbehave(self, labelled, pool):
        labelled.targets[0] = 1 - labelled.targets[0]


class OverwritesItems(Honest):
    kind = "items overwritten"
    told = "fit to leave all as it is, found changed the pool"

    def misbehave(self, labelled, pool):
        pool.read_range(0, 3).zero_()


class PredictsByBatch(Honest):
    kind = "predictions by batch"
    told = "log probabilities of an item that do not depend on the items beside it"

    def logits(self, items):
        logits = super().logits(items)
        return logits - logits.mean(dim=0) if len(items) > 1 else logits


class IsNotNormalised(Honest):
    kind = "unnormalised"
    told = "probabilities that sum to 1"

    def log_probs(self, items):
        return self.logits(items) / 10


class HasOneRowOfFeatures(Honest):
    """Forgets the items: all of them would be equally far from each other."""

    kind = "wrong shape"
    told = "expected features as a float32 tensor [8, D], found shape (1, 64)"
    caught_by = "features"

    def features(self, items):
        return super().features(items)[:1]


class HasDoubleFeatures(Honest):
    kind = "float64"
    told = "expected features as a float32 tensor [8, D], found torch.float64"
    caught_by = "features"

    def features(self, items):
        return super().features(items).double()


class HasFeaturesByBatch(Honest):
    kind = "predictions by batch"
    told = "features of an item that do not depend on the items beside it"
    caught_by = "each-item-by-itself"

    def features(self, items):
        found = super().features(items)
        return found - found.mean(dim=0)


class HasOtherLogits(Honest):
    """Its probabilities are of another temperature than its logits."""

    kind = "unnormalised"
    told = "expected log probabilities that follow from the logits, found others"
    caught_by = "logits"

    def log_probs(self, items):
        return (self.logits(items) / 10).log_softmax(dim=1)


class IsTooWide(Honest):
    kind = "wrong width"
    told = "log probabilities as a float32 tensor"

    def logits(self, items):
        logits = super().logits(items)
        return torch.cat([logits, logits[:, :1] - 50], dim=1)


class IsFlat(Honest):
    kind = "wrong shape"
    told = "log probabilities as a float32 tensor"

    def log_probs(self, items):
        return super().log_probs(items)[:, 0]


class IsDouble(Honest):
    kind = "float64"
    told = "found torch.float64"

    def logits(self, items):
        return super().logits(items).double()


class GivesAnotherTensor(Honest):
    kind = "tensor subclass"
    told = "found a Odd"

    def log_probs(self, items):
        class Odd(torch.Tensor):
            pass

        return super().log_probs(items).as_subclass(Odd)


class Exits(Honest):
    kind = "exit"
    told = "found an exit with code 0"
    caught_by = "fit-report"

    def misbehave(self, labelled, pool):
        sys.exit(0)


class Raises(Honest):
    kind = "exception"
    told = "found ZeroDivisionError: division by zero"
    caught_by = "fit-report"

    def misbehave(self, labelled, pool):
        return 1 / 0


class RaisesWhenItPredicts(Honest):
    kind = "exception"
    told = "found KeyError: 'nothing'"
    caught_by = "logits"

    def logits(self, items):
        return {}["nothing"]


class RaisesForASelection(Honest):
    """Only where a strategy asks for many items."""

    kind = "exception"
    told = "found ValueError: too many at once"
    caught_by = None

    def log_probs(self, items):
        frame = sys._getframe()
        while (frame := frame.f_back) is not None:
            if frame.f_code.co_name == "select":
                raise ValueError("too many at once")
        return super().log_probs(items)


class RaisesWhenMade(Honest):
    kind = "exception"
    told = "found RuntimeError: not today"
    caught_by = "fit-report"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        raise RuntimeError("not today")


class ReportsNothing(Honest):
    kind = "no report"
    told = "a FitReport from fit, found a NoneType"
    caught_by = "fit-report"

    def report(self, report):
        return None


class ReportsNegativeSteps(Honest):
    kind = "wrong report"
    told = "a number of steps in the report of fit, found -3"
    caught_by = "fit-report"

    def report(self, report):
        return FitReport(-3, 0.5, True)


class IsStochastic(Honest):
    kind = "stochastic"
    told = "the same log probabilities for the same items"

    def logits(self, items):
        noise = torch.randn(
            len(items),
            self.n_classes,
            generator=torch.Generator().manual_seed(time.time_ns() % 2**31),
        )
        return super().logits(items) + noise


class HasNoState(Honest):
    kind = "empty state"
    told = "parameters by name from state"
    caught_by = "digest"

    def state(self):
        return {}


class SetsTheDefaultType(Honest):
    kind = "global settings"
    told = "changed torch's default dtype"

    def misbehave(self, labelled, pool):
        torch.set_default_dtype(torch.float64)


class LeavesAutocastOn(Honest):
    kind = "global settings"
    told = "changed torch's autocast"

    def misbehave(self, labelled, pool):
        torch.set_autocast_enabled("cpu", True)


class Draws(Honest):
    kind = "global randomness"
    told = "changed the global random state of random"

    def misbehave(self, labelled, pool):
        random.random()


class WorksOn(Honest):
    """Goes on training in a thread."""

    kind = "threads"
    told = "fit to end its work when it returns"

    def misbehave(self, labelled, pool):
        def work():
            until = time.thread_time() + 1.0
            while time.thread_time() < until:
                sum(range(1000))

        threading.Thread(target=work, daemon=True).start()
