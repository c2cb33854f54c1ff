"""A classifier is trained under guard: what it gives, what it must leave alone, and what it may not keep.

Its report, its probabilities on a few items and all marks are looked at in every cycle. Whether an item's
probabilities depend on the items beside it, and whether two looks agree, in the first cycles of a session and
by sample. Whether a second classifier learns the same from the same labels costs a fit: a classifier that is
not the harness's own has to show it in the first cycles, unless its fits take long; ``alharness check``
always looks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from numbers import Integral, Real

# By name: see timing.
from time import perf_counter
from typing import Any, Protocol, TypeVar

import torch

from alharness.border.author import Author
from alharness.border.call import watched
from alharness.border.marks import label_marks_of, pool_marks, probe_of
from alharness.border.state import Marks
from alharness.errors import PluginError, UserError
from alharness.labelled import LabelledSet
from alharness.pool import Pool

#: Largest difference between two ways to the same float32 log probabilities; of a sum of probabilities to 1.
CLOSE = 1e-3
#: Cycles of a session in which predictions are looked at closely, and one in how many after them.
FIRST_LOOKS = 3
LOOK_ONE_IN = 4
#: Cycles of a session in which a foreign classifier is trained twice, unless a fit takes longer than LONG_S.
FIRST_FITS = 2
LONG_S = 2.0
#: Largest difference of two fits' probabilities: sums over threads come in any order, on a GPU more so.
SAME_FIT = {"cpu": 1e-3, "cuda": 0.05}


class Trainable(Protocol):
    """A learner, as far as the border asks."""

    def fit(self, labelled: LabelledSet, pool: Pool, *, seed: int) -> Any: ...

    def log_probs(self, items: torch.Tensor) -> torch.Tensor: ...

    def logits(self, items: torch.Tensor) -> torch.Tensor: ...

    def features(self, items: torch.Tensor) -> torch.Tensor: ...

    def digest(self) -> str: ...

    def state(self) -> dict[str, torch.Tensor]: ...


ALearner = TypeVar("ALearner", bound=Trainable)


class FitGuard:
    """Trains the classifiers of one run, cycle by cycle.

    Args:
        author: whom messages name.
        pool, test: the problem's items.
        n_classes: number of classes.
        report: what a fit must give.
        is_foreign: whether the classifier is not the harness's own.
        thorough: take every look in every cycle, however long it takes ('alharness check').
    """

    def __init__(
        self,
        author: Author,
        pool: Pool,
        test: Pool,
        n_classes: int,
        report: type,
        *,
        is_foreign: bool,
        thorough: bool = False,
    ) -> None:
        self.author, self.pool, self.test, self.n_classes = author, pool, test, n_classes
        self.report, self.is_foreign, self.thorough = report, is_foreign, thorough
        self._probe = probe_of(test if len(test) else pool)
        self._n_fits = 0

    def fit(
        self, make: Callable[[], ALearner], labelled: LabelledSet, seed: int
    ) -> tuple[ALearner, Any]:
        """A classifier of one's own, trained, and its report.

        Raises:
            PluginError: it raises, changes what it must not, or gives no report.
        """
        self._n_fits += 1
        began = perf_counter()
        learner, report = self._fit(make, labelled, seed)
        self._took = perf_counter() - began
        if (fault := report_fault(report, self.report)) is not None:
            self.author.refuse(*fault, call="fit")
        return learner, report

    def look(
        self, make: Callable[[], ALearner], learner: ALearner, labelled: LabelledSet, seed: int
    ) -> None:
        """Look at what a trained classifier predicts.

        Raises:
            PluginError: these are no log probabilities, or they depend on more than item, labels and seed.
        """
        with self.author.blamed("parameters by name from state"):
            if not learner.state():
                raise ValueError("none: no digest could tell this classifier from another")
        log_p = self.predicted(learner, self._probe)
        if not self.thorough and self._n_fits > FIRST_LOOKS and secrets.randbelow(LOOK_ONE_IN):
            return
        self._require_same(
            log_p,
            self.predicted(learner, self._probe),
            "the same log probabilities for the same items",
            "others when asked again: predictions are not deterministic",
        )
        alone = torch.cat([self.predicted(learner, item[None]) for item in self._probe])
        self._require_same(
            log_p,
            alone,
            "log probabilities of an item that do not depend on the items beside it",
            "others for an item that is seen alone",
        )
        if self.is_foreign:
            self._look_at_features(learner)
            self._look_at_logits(learner, log_p)
        early = self.is_foreign and self._n_fits <= FIRST_FITS and self._took < LONG_S
        if early or self.thorough:
            self._fit_again(make, learner, log_p, labelled, seed)

    def predicted(self, learner: Trainable, items: torch.Tensor) -> torch.Tensor:
        """Log probabilities of some items.

        Raises:
            PluginError: the classifier raises, or gives something else.
        """
        expected = f"log probabilities as a float32 tensor [{len(items)}, {self.n_classes}]"
        with self.author.blamed(expected):
            log_p = learner.log_probs(items)
        # The harness's own classifiers, and those that a test sets by hand, may count in float64.
        dtypes = (torch.float32,) if self.is_foreign else (torch.float32, torch.float64)
        fault = predictions_fault(log_p, len(items), self.n_classes, dtypes, type(items))
        if fault is not None:
            self.author.refuse(*fault, call="log_probs")
        return log_p

    def _look_at_features(self, learner: Trainable) -> None:
        """Those that compare items by their features take what comes: one row for all would be broadcast."""
        found = self._rows(learner, "features", "D")
        if found is None:
            return
        with self.author.blamed("features of a single item"):
            alone = torch.cat([learner.features(item[None]) for item in self._probe])
        if not torch.allclose(found, alone, rtol=CLOSE, atol=CLOSE):
            self.author.refuse(
                "features of an item that do not depend on the items beside it",
                "others for an item that is seen alone",
                call="features",
            )

    def _look_at_logits(self, learner: Trainable, log_p: torch.Tensor) -> None:
        """A search in an image space follows the logits, and what it finds is judged by the probabilities."""
        found = self._rows(learner, "logits", self.n_classes)
        if found is not None:
            self._require_same(
                found.log_softmax(dim=1),
                log_p,
                "log probabilities that follow from the logits",
                "others",
            )

    def _rows(self, learner: Trainable, call: str, width: int | str) -> torch.Tensor | None:
        """The probe's features or logits; None where the classifier has none and says so.

        Runs that want them end by its own words: an estimator of scikit-learn has no logits.
        """
        n = len(self._probe)
        expected = f"{call} as a float32 tensor [{n}, {width}]"
        try:
            with self.author.blamed(expected), torch.no_grad():
                found: torch.Tensor = getattr(learner, call)(self._probe)
        except PluginError:
            raise
        except UserError:
            return None
        fault = rows_fault(found, n, type(self._probe))
        if fault is None and found.shape[1] != width != "D":
            fault = f"shape {tuple(found.shape)}"
        if fault is not None:
            self.author.refuse(expected, fault, call=call)
        return found

    def _fit(
        self, make: Callable[[], ALearner], labelled: LabelledSet, seed: int
    ) -> tuple[ALearner, Any]:
        learner = watched(self.author, "__init__", "a classifier that can be made", make)
        report = watched(
            self.author,
            "fit",
            "a classifier that can be trained",
            lambda: learner.fit(labelled, self.pool, seed=seed),
            left=lambda: self._left_alone(labelled),
        )
        return learner, report

    def _left_alone(self, labelled: LabelledSet) -> Marks:
        return {
            **label_marks_of(labelled),
            **pool_marks("the pool", self.pool),
            **pool_marks("the test set", self.test),
        }

    def _fit_again(
        self,
        make: Callable[[], ALearner],
        learner: ALearner,
        log_p: torch.Tensor,
        labelled: LabelledSet,
        seed: int,
    ) -> None:
        digest = learner.digest()
        other, _ = self._fit(make, labelled, seed)
        if other.digest() == digest:
            return
        self._require_same(
            log_p,
            self.predicted(other, self._probe),
            "the same classifier for the same labels and seed",
            "another one when trained again: fit carries state from one classifier to the next, or is not "
            "deterministic (draw from its seed)",
            SAME_FIT.get(self.pool.device.type, CLOSE),
            call="fit",
        )
        # It may be trained in place: what both classifiers share would be the second one's now.
        if learner.digest() != digest:
            self.author.refuse(
                "classifiers that share nothing",
                "one that changes when another is trained",
                call="fit",
            )

    def _require_same(
        self,
        one: torch.Tensor,
        other: torch.Tensor,
        expected: str,
        found: str,
        within: float = CLOSE,
        call: str = "log_probs",
    ) -> None:
        if not torch.allclose(one, other, rtol=within, atol=within):
            apart = float((one.exp() - other.exp()).abs().max())
            self.author.refuse(
                expected, f"{found} (probabilities up to {apart:.2g} apart)", call=call
            )


def report_fault(given: Any, expected: type) -> tuple[str, str] | None:
    """What a report must be, and what this one is instead; a loss of NaN is told as divergence."""
    if not isinstance(given, expected):
        return "a FitReport from fit", f"a {type(given).__name__}"
    report: Any = given
    steps, loss, converged = report.steps, report.train_loss, report.converged
    if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 0:
        return "a number of steps in the report of fit", f"{steps!r}"
    if isinstance(loss, bool) or not isinstance(loss, Real):
        return "a number as train_loss in the report of fit", f"a {type(loss).__name__}"
    if type(converged).__name__ not in ("bool", "bool_"):  # Python's and numpy's
        found = f"a {type(converged).__name__}"
        return "True or False as converged in the report of fit", found
    return None


def rows_fault(found: Any, n: int, of_items: type[torch.Tensor] = torch.Tensor) -> str | None:
    """What rows of n items are instead of a finite float32 tensor ``[n, D]``; None where they are one."""
    if type(found) not in (torch.Tensor, of_items):
        return f"a {type(found).__name__}"
    if found.dtype != torch.float32:
        return f"{found.dtype}"
    if found.dim() != 2 or len(found) != n:
        return f"shape {tuple(found.shape)}"
    return None if bool(torch.isfinite(found).all()) else "numbers that are not finite"


def predictions_fault(
    log_p: Any,
    n: int,
    n_classes: int,
    dtypes: tuple[torch.dtype, ...] = (torch.float32,),
    of_items: type[torch.Tensor] = torch.Tensor,
) -> tuple[str, str] | None:
    """What log probabilities of n items must be, and what these are instead.

    Args:
        of_items: a kind of tensor that the harness handed in itself, and may get back.
    """
    expected = f"log probabilities as a float32 tensor [{n}, {n_classes}]"
    if type(log_p) not in (torch.Tensor, of_items):  # another subclass may answer anything
        return expected, f"a {type(log_p).__name__}"
    if log_p.dtype not in dtypes:
        return expected, f"{log_p.dtype}"
    if tuple(log_p.shape) != (n, n_classes):
        return expected, f"shape {tuple(log_p.shape)}"
    # One host read. A class may be impossible (-inf); anything else that is no number shows in the sum.
    apart = float((log_p.double().exp().sum(dim=1) - 1).abs().max()) if n else 0.0
    if not apart <= CLOSE:
        return "probabilities that sum to 1", f"sums that are up to {apart:.2g} away from it"
    return None
