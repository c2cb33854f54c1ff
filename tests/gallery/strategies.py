"""Strategies that misbehave, each in one way.

``told``: what the one line of a run must say. ``caught_by``: the check of ``alharness check`` that must name
it (with ``raises`` where it is no assertion that fails).
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from typing import ClassVar

import numpy as np
import torch

from alharness.errors import PluginError, UserError
from alharness.learners.factory import learner_factory
from alharness.oracle import Oracle
from alharness.pool import ArrayPool
from alharness.strategy import (
    Adaptation,
    ImageQuery,
    PoolQuery,
    ScoreStrategy,
    Strategy,
)
from alharness.timing import Stopwatch


class Honest(Strategy):
    """Asks about the first items; what follows does one thing more."""

    def select(self, view, query_size):
        self.misbehave(view)
        query = PoolQuery(view.unlabelled[:query_size], **self.figures(view, query_size))
        return self.answer(view, query)

    def misbehave(self, view):
        """Before the query."""

    def figures(self, view, query_size):
        return {}

    def answer(self, view, query):
        return query


class Hoards(Honest):
    """Asks what it asked first in this process with as many labels: of one run it shows nothing."""

    kept: ClassVar = {}

    def answer(self, view, query):
        drawn = view.unlabelled[view.rng("draw").permutation(len(view.unlabelled))[: len(query)]]
        return PoolQuery(self.kept.setdefault(len(view.labelled.indices), drawn))


# What must stay as it is -----------------------------------------------------------------------


class ChangesTheLearner(Honest):
    told = "changed the classifier's parameters"
    caught_by = "learner-unchanged"

    def misbehave(self, view):
        for values in view.learner.state().values():
            values.add_(1e-3)


class PatchesTheLearnersClass(Honest):
    told = "changed the classifier's class"

    def misbehave(self, view):
        type(view.learner).better = lambda self: (
            self
        )  # would hold for every later run of the process


class ChangesTheFolder(Honest):
    told = "changed the working folder"

    def misbehave(self, view):
        os.chdir(tempfile.gettempdir())


class RaisesOnUnderflow(Honest):
    told = "changed numpy's handling of floating-point errors"

    def misbehave(self, view):
        np.seterr(all="raise")


class SwitchesOffOneDNN(Honest):
    told = "changed torch's use of oneDNN"

    def misbehave(self, view):
        torch.backends.mkldnn.enabled = False


class TakesThreadsInItsConstructor(Honest):
    told = (
        "expected a constructor that leaves all as it is, found changed torch's number of threads"
    )

    def __init__(self, **parameters):
        super().__init__(**parameters)
        torch.set_num_threads(torch.get_num_threads() + 1)


class ReplacesPredictions(Honest):
    told = "changed the classifier's methods"

    def misbehave(self, view):
        view.learner.logits = lambda items: torch.zeros(len(items), 2)


class ChangesTheTestSet(Honest):
    told = "changed the test set"

    def prepare(self, preparation):
        self.test = preparation.test

    def misbehave(self, view):
        self.test.read_range(0, 5).zero_()


class ChangesTheTestSetUnseenByTorch(ChangesTheTestSet):
    told = "changed the test set's items"

    def misbehave(self, view):
        self.test.read_range(0, 5).numpy()[:] = 0


class ChangesThePool(Honest):
    told = "changed the pool"

    def misbehave(self, view):
        view.pool.read_range(0, 5).zero_()


class ChangesThePoolInPrepare(Honest):
    told = "prepare to leave all as it is, found changed the pool"

    def prepare(self, preparation):
        preparation.pool.read_range(0, 5).numpy()[:] = 0


class ReplacesHowThePoolIsRead(Honest):
    told = "changed the pool"

    def misbehave(self, view):
        read = view.pool.read
        view.pool.read = lambda indices: read(indices) * 0


class ChangesLabels(Honest):
    told = "changed the labelled set's classes"

    def misbehave(self, view):
        view.labelled.targets[0] = 1 - view.labelled.targets[0]


class UnmarksWhatWasAsked(Honest):
    """Reaches the caller's own value through the frames and asks the same again."""

    told = "changed what was asked about"

    def misbehave(self, view):
        frame = sys._getframe()
        while "available" not in frame.f_locals:
            frame = frame.f_back
        frame.f_locals["available"].asked.fill_(view.pool.n - 1)


class AsksTheSameAgain(Honest):
    told = "items already asked about"

    def answer(self, view, query):
        view.available.asked.fill_(view.pool.n - 1)
        return PoolQuery(view.labelled.indices[: len(query)].clone())


class SaysItTouchedNothing(Honest):
    """A kind of query of its own, that names other items than it asks about."""

    told = "items already asked about"

    def answer(self, view, query):
        class Quiet(PoolQuery):
            touched = torch.empty(0, dtype=torch.int64)

        return Quiet(view.labelled.indices[: len(query)].clone())


# Hidden targets ----------------------------------------------------------------------------------


class AsksTheOracle(Honest):
    told = "the oracle is not asked while a strategy prepares or chooses"

    def answer(self, view, query):
        oracle = [found for found in gc.get_objects() if type(found) is Oracle][-1]
        answers = oracle.annotate(PoolQuery(view.unlabelled), cycle=0)
        return PoolQuery(view.unlabelled[answers.targets == 0][: len(query)])


class AsksTheOracleAndHidesIt(AsksTheOracle):
    told = "no look at hidden targets"

    def answer(self, view, query):
        try:
            return super().answer(view, query)
        except PermissionError:
            return query


class FollowsWhatLooksLikeTargets(Honest):
    told = "one that follows what looks like hidden targets"

    def answer(self, view, query):
        oracles = [found for found in gc.get_objects() if type(found) is Oracle]
        # Earlier runs of this process may have left oracles of other pools behind.
        seen = sum(found._targets for found in oracles if len(found._targets) == view.pool.n)
        order = torch.argsort(seen[view.unlabelled], stable=True)
        return PoolQuery(view.unlabelled[order[: len(query)]])


# Randomness, state and settings that are everybody's -----------------------------------------------


class SeedsTorch(Honest):
    told = "changed the global random state of torch"
    caught_by = "global-randomness"

    def misbehave(self, view):
        torch.manual_seed(0)


class DrawsFromNumpy(Honest):
    told = "changed the global random state of numpy"
    caught_by = "global-randomness"

    def misbehave(self, view):
        np.random.rand()  # noqa: NPY002


class DrawsFromRandom(Honest):
    told = "changed the global random state of random"

    def misbehave(self, view):
        random.random()


class SeedsInPrepare(Honest):
    told = "changed the global random state of torch"

    def prepare(self, preparation):
        torch.manual_seed(0)


class DrawsAndPutsBack(Honest):
    told = "the global random state"

    def answer(self, view, query):
        state = torch.get_rng_state()
        chosen = torch.randperm(len(view.unlabelled))[: len(query)]
        torch.set_rng_state(state)
        return PoolQuery(view.unlabelled[chosen])


class SetsTheDefaultType(Honest):
    told = "changed torch's default dtype"

    def misbehave(self, view):
        torch.set_default_dtype(torch.float64)


class LeavesAutocastOn(Honest):
    told = "changed torch's autocast"

    def misbehave(self, view):
        torch.set_autocast_enabled("cpu", True)


class HooksAllModules(Honest):
    told = "changed torch's hooks on all modules and optimisers"

    def misbehave(self, view):
        torch.nn.modules.module.register_module_forward_hook(lambda *values: None)


class ComputesWithFewerBits(Honest):
    told = "changed torch's precision"

    def misbehave(self, view):
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"


class IgnoresTheUser(Honest):
    told = "changed the handlers of signals"

    def misbehave(self, view):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


class HidesFiles(Honest):
    told = "changed the mask of new files' modes (umask)"

    def misbehave(self, view):
        os.umask(0o777)


class CarriesState(Honest):
    told = "carries state from call to call"
    caught_by = "same-seed-same-query"

    def answer(self, view, query):
        self.calls = getattr(self, "calls", 0) + 1
        return PoolQuery(view.unlabelled[self.calls : self.calls + len(query)])


# Time and work -------------------------------------------------------------------------------------


class HidesTime(Honest):
    told = "time is put apart by the harness alone"
    caught_by = "as-in-a-run"
    raises = RuntimeError

    def misbehave(self, view):
        with view.stopwatch.aside():
            time.sleep(0.01)


class NegativeSeconds(Honest):
    told = "object does not support item assignment"

    def misbehave(self, view):
        view.stopwatch.seconds["score"] = -1.0


class NegativeSecondsByTheBackDoor(Honest):
    told = "expected seconds that went by, found -1.0 s in the phase 'score'"

    def misbehave(self, view):
        view.stopwatch._seconds["score"] = -1.0


class ForgetsTime(Honest):
    told = "phases that add up"

    def misbehave(self, view):
        with view.stopwatch.phase("score"):
            time.sleep(0.2)
        view.stopwatch._seconds["score"] = 0.0


class BringsItsOwnWatch(Honest):
    told = "the view's own stopwatch and counters"

    def misbehave(self, view):
        view.stopwatch = Stopwatch()


class LeavesAPhaseOpen(Honest):
    told = "phases that end"

    def misbehave(self, view):
        self.kept = view.stopwatch.phase("score")
        self.kept.__enter__()


class WorksOn(Honest):
    """Moves its work into a thread that outlives select."""

    told = "select to end its work with its answer, found the thread"
    caught_by = "as-in-a-run"

    def misbehave(self, view):
        def work():
            until = time.thread_time() + 1.0
            while time.thread_time() < until:
                sum(range(1000))

        threading.Thread(target=work, daemon=True).start()


class NegativeWork(Honest):
    told = "work is counted in whole units, none of them negative"

    def misbehave(self, view):
        view.work.add("distances", -5)


# Figures -------------------------------------------------------------------------------------------


class DiagnosesNan(Honest):
    told = "a finite number in the diagnostic 'entropy', found nan"
    caught_by = "figures"

    def figures(self, view, query_size):
        return {"diagnostics": {"entropy": float("nan")}}


class DiagnosesInfinity(Honest):
    told = "a finite number in the diagnostic 'entropy', found inf"

    def figures(self, view, query_size):
        return {"diagnostics": {"entropy": torch.tensor(float("inf"))}}


class DiagnosesText(Honest):
    told = "a finite number in the diagnostic 'entropy', found '1.5', a str"

    def figures(self, view, query_size):
        return {"diagnostics": {"entropy": "1.5"}}


class KeepsObjects(Honest):
    told = "numbers in the array 'why', found dtype object"
    caught_by = "figures"

    def figures(self, view, query_size):
        return {"arrays": {"why": np.array([{}] * query_size, dtype=object)}}


class KeepsTooManyRows(Honest):
    told = "a first axis of the query's 20 items in the array 'scores'"

    def figures(self, view, query_size):
        return {"arrays": {"scores": np.zeros(query_size + 1)}}


class KeepsNan(Honest):
    told = "finite numbers in the array 'entropy', found NaN or infinity"

    def figures(self, view, query_size):
        return {"arrays": {"entropy": np.full(query_size, np.nan)}}


class KeepsOtherShapesLater(Honest):
    told = "as in earlier cycles"

    def figures(self, view, query_size):
        return {"arrays": {"scores": np.zeros((query_size, 1 + view.cycle))}}


class GivesAnotherTensor(Honest):
    """A class of its own may answer each who asks otherwise."""

    told = "pool indices as a one-dimensional int64 tensor, found Odd"
    caught_by = "query-type"

    def answer(self, view, query):
        class Odd(torch.Tensor):
            pass

        return PoolQuery(query.indices.as_subclass(Odd))


class AsksAboutDarkness(Honest):
    told = "values in [0, 1]"

    def answer(self, view, query):
        return ImageQuery(torch.full((len(query), *view.pool.item_shape), -3.0))


# Raising and leaving -------------------------------------------------------------------------------


class Divides(Honest):
    told = "found ZeroDivisionError: division by zero"
    caught_by = "query-type"
    raises = ZeroDivisionError

    def misbehave(self, view):
        return 1 / 0


class Exits(Honest):
    told = "found an exit with code 0"
    caught_by = "query-type"
    raises = PluginError

    def misbehave(self, view):
        sys.exit(0)


class ExitsInPrepare(Honest):
    told = "an Adaptation or None from prepare, found an exit with code 0"

    def prepare(self, preparation):
        sys.exit(0)


class ExitsWhenMade(Honest):
    told = "an instance from its constructor, found an exit with code 0"

    def __init__(self, **parameters):
        super().__init__(**parameters)
        sys.exit(0)


class WarnsWhereWarningsAreErrors(Honest):
    told = "found RuntimeWarning: careful"

    def misbehave(self, view):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.warn("careful", RuntimeWarning, stacklevel=1)


class RaisesWhatIsNoException(Honest):
    told = "found Halt: now"

    def misbehave(self, view):
        class Halt(BaseException):
            pass

        raise Halt("now\nand a second line")


class HandsOverNoClassifier(Honest):
    told = "a Learner from the learner_factory that prepare handed over, found a str"

    def prepare(self, preparation):
        return Adaptation(learner_factory=lambda *shape: "a classifier")


class TestsOnOthers(Honest):
    """Is tested on items of its own, with a classifier of its own: told, and no fault."""

    def prepare(self, preparation):
        test = ArrayPool(preparation.test.read_range(0, preparation.test.n).numpy() // 2)
        settings = preparation.learner_settings

        def longer(item_shape, n_classes, device):
            return learner_factory(settings)(item_shape, n_classes, device)

        return Adaptation(test=test, learner_factory=longer)


class RefusesByItself(Honest):
    told = "alharness: this one has its own words."

    def misbehave(self, view):
        raise UserError("this one has its own words.")


class ScoresATuple(ScoreStrategy):
    """The commonest slip: ``max`` over a dimension gives values and places."""

    told = "must give one number per item, ["

    def score(self, log_p_NC):
        return log_p_NC.exp().max(-1)


class ScoresAColumn(ScoreStrategy):
    told = "must give one number per item, [220]; it gave torch.float32 of shape [220, 1]"

    def score(self, log_p_NC):
        return log_p_NC.exp()[:, :1]


class ScoresNothing(ScoreStrategy):
    told = "ValueError: a score is NaN, from score ("

    def score(self, log_p_NC):
        return log_p_NC[:, 0] * torch.nan


class ScansForATuple(Strategy):
    told = "looks ("

    def select(self, view, query_size):
        def looks(items):
            return items.flatten(1).max(1)

        return PoolQuery(view.unlabelled[view.scan(looks).topk(query_size).indices])
