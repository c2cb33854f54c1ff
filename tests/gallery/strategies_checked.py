"""Strategies that misbehave where only ``alharness check`` looks, each in one way.

``caught_by``: the check that must name it (with ``raises`` where it is no assertion that fails).
"""

from __future__ import annotations

import gc
import sys

import numpy as np
import torch
from pydantic import Field

from alharness import acquisition
from alharness.errors import PluginError
from alharness.oracle import Oracle
from alharness.strategy import (
    ImageQuery,
    Parameters,
    PoolQuery,
    ScoreStrategy,
    Strategy,
)

# What the checks find, in cycle 0 and in situations that a run may not come to ----------------------


class Duplicates(Strategy):
    """Asks about the first item several times."""

    caught_by = "distinct"

    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[:1].repeat(query_size))


class OneTooMany(Strategy):
    """Asks about one item more."""

    caught_by = "exact-count"

    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[: query_size + 1])


class Positions(ScoreStrategy):
    """Returns positions among the unlabelled items."""

    caught_by = "pool-indices"

    def score(self, log_p_NC):
        return acquisition.entropy(log_p_NC)

    def select(self, view, query_size):
        scores = view.scan(lambda items: self.score(view.learner.log_probs(items)))
        return PoolQuery(acquisition.top_k(scores, query_size))


class ForgetsWhatIsLabelled(Strategy):
    """Scores the whole pool, labelled items too."""

    caught_by = "unlabelled-only"

    def select(self, view, query_size):
        everything = torch.arange(view.pool.n)
        scores = view.scan(lambda items: -view.learner.log_probs(items).amax(1), everything)
        return PoolQuery(
            torch.cat([view.labelled.indices[:2], acquisition.top_k(scores, query_size)])[
                :query_size
            ]
        )


class AsksTheUnanswerableAgain(Strategy):
    """Takes what has no label for what was not asked about."""

    caught_by = "rejected-items"

    def select(self, view, query_size):
        everything = torch.arange(view.pool.n)
        rest = everything[~torch.isin(everything, view.labelled.indices)]
        return PoolQuery(rest[:query_size])


class BeyondThePool(Strategy):
    """Counts from the end of pool and test set together."""

    caught_by = "never-test-items"

    def select(self, view, query_size):
        return PoolQuery(torch.arange(view.pool.n, view.pool.n + query_size))


class AsksAboutTestImages(Strategy):
    """Keeps the test images it was shown."""

    caught_by = "never-test-items"

    def prepare(self, preparation):
        self.test = preparation.test

    def select(self, view, query_size):
        return ImageQuery(self.test.gather(torch.arange(query_size)))


class PeeksThroughTheCollector(Strategy):
    """Finds the oracle among all living objects and asks about items of class 0."""

    caught_by = "hidden-targets"

    def select(self, view, query_size):
        oracles = [found for found in gc.get_objects() if type(found) is Oracle]
        if not oracles:
            return PoolQuery(view.unlabelled[:query_size])
        oracle = oracles[-1]
        zeros = view.unlabelled[oracle._targets[view.unlabelled] == 0]
        return PoolQuery(
            torch.cat([zeros, view.unlabelled[~torch.isin(view.unlabelled, zeros)]])[:query_size]
        )


class PeeksIntoTheCaller(Strategy):
    """Looks for targets in the frames below."""

    caught_by = "hidden-targets"

    def select(self, view, query_size):
        frame = sys._getframe()
        while frame.f_back is not None and "targets" not in frame.f_locals:
            frame = frame.f_back
        targets = frame.f_locals.get("targets")
        if targets is None:
            return PoolQuery(view.unlabelled[:query_size])
        order = torch.argsort(targets[view.unlabelled], stable=True)
        return PoolQuery(view.unlabelled[order[:query_size]])


class OrdersByHash(Strategy):
    """Takes an order from string hashes, which every process salts anew."""

    caught_by = "other-process"

    def select(self, view, query_size):
        order = sorted(view.unlabelled.tolist(), key=lambda index: hash(f"item {index}"))
        return PoolQuery(torch.tensor(order[:query_size]))


class LeavesTrainingMode(Strategy):
    """Turns dropout on and forgets to turn it off."""

    caught_by = "evaluation-mode"

    def select(self, view, query_size):
        network = getattr(view.learner, "network", None)
        if network is not None:
            network.train()
        return PoolQuery(view.unlabelled[:query_size])


class MarksItemsItself(Strategy):
    """Writes into the harness's mask."""

    caught_by = "view-unchanged"

    def select(self, view, query_size):
        chosen = view.unlabelled[:query_size]
        view.available.is_taken[chosen] = True
        return PoolQuery(chosen)


class TakesTheFirst(Strategy):
    """Depends on where an item stands, and does not say so."""

    caught_by = "permutation"

    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[:query_size])


class UnderstatesItsWork(ScoreStrategy):
    """Declares less than it does."""

    caught_by = "work-bound"

    def score(self, log_p_NC):
        return acquisition.entropy(log_p_NC)

    def work_bound(self, n_unlabelled, query_size):
        return {"pool_items_scored": query_size}


class ReadsInSecret(Strategy):
    """Reads the pool past the counters."""

    caught_by = "work-bound"

    def select(self, view, query_size):
        brightness = view.pool.gather(view.unlabelled).flatten(1).sum(dim=1)
        return PoolQuery(view.unlabelled[acquisition.top_k(brightness, query_size)])


class FixedSize(Strategy):
    """Cannot ask about fewer than three items."""

    caught_by = "query-size-one"

    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[: max(3, query_size)])


class KeepsOneBack(Strategy):
    """Never asks about the last item of the pool."""

    caught_by = "whole-rest"

    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[:-1][:query_size])


class NeedsEveryClass(Strategy):
    """Divides by the number of labels of each class."""

    caught_by = "empty-class"
    raises = ZeroDivisionError

    def select(self, view, query_size):
        counts = torch.bincount(view.labelled.targets, minlength=view.n_classes).tolist()
        share = sum(1 / count for count in counts)
        return PoolQuery(view.unlabelled[: query_size if share else 0])


class ScalesByTheSpread(Strategy):
    """Divides brightness by its spread, which is zero when all images are equal."""

    caught_by = "constant-images"
    raises = ValueError  # a score is NaN

    def select(self, view, query_size):
        brightness = view.scan(lambda items: items.flatten(1).amax(dim=1))
        spread = brightness.max() - brightness.min()
        scores = (brightness - brightness.min()) / spread
        return PoolQuery(view.unlabelled[acquisition.top_k(scores, query_size)])


class FollowsTheClock(Strategy):
    """Draws from nothing that anybody could repeat."""

    caught_by = "same-seed-same-query"

    def select(self, view, query_size):
        order = np.random.default_rng().permutation(len(view.unlabelled))
        return PoolQuery(view.unlabelled[torch.from_numpy(order[:query_size])])


class FollowsTheClockLater(Strategy):
    """Honest at first, and drawn from nothing that anybody could repeat after that."""

    caught_by = "same-seed-same-query"
    from_cycle = 2

    def select(self, view, query_size):
        late = view.cycle >= self.from_cycle
        rng = np.random.default_rng() if late else view.rng("order")
        order = rng.permutation(len(view.unlabelled))
        return PoolQuery(view.unlabelled[torch.from_numpy(order[:query_size])])


class FollowsTheClockMuchLater(FollowsTheClockLater):
    """The same, after the cycles that are gone through one by one."""

    from_cycle = 10


class KnowsItsFirstCycle(Strategy):
    """Answers by when it was first asked, which a resumed run cannot know; not in cycles 0 and 1."""

    caught_by = "same-seed-same-query"

    def select(self, view, query_size):
        self.first = getattr(self, "first", view.cycle)
        start = self.first if view.cycle >= 2 else 0
        return PoolQuery(view.unlabelled[start : start + query_size])


class DrawsFromTorchsStateLater(Strategy):
    """Draws from a state that it does not own once a few cycles are over."""

    caught_by = "as-in-a-run"
    raises = PluginError

    def select(self, view, query_size):
        if view.cycle >= 2:
            torch.rand(1)
        return PoolQuery(view.unlabelled[:query_size])


# What does nothing -------------------------------------------------------------------------------


class Settings(Parameters):
    share: float = Field(0.5, gt=0, le=1)


class IgnoresItsParameter(Strategy):
    """Has a parameter that nothing follows."""

    caught_by = "parameters"
    Parameters = Settings

    def select(self, view, query_size):
        return PoolQuery(view.unlabelled[:query_size])


class SeedsItsOwn(Strategy):
    """Asks for random numbers, and draws others that are the same for every seed."""

    caught_by = "seed"

    def select(self, view, query_size):
        view.rng("order")
        order = np.random.default_rng(0).permutation(len(view.unlabelled))
        return PoolQuery(view.unlabelled[torch.from_numpy(order[:query_size])])
