"""The whole contract of a query strategy, which is all that a plug-in author needs to read.

A strategy is a class with ``select``; ``prepare`` is for what is costly and done once. It sees a
``CycleView``: the pool, what is labelled, the classifier, named randomness, a stopwatch and work
counters. It never sees targets of unlabelled items: it does not get them in any form.

    class LargestIndex(Strategy):
        '''Ask about the last unlabelled items of the pool.'''

        def select(self, view, query_size):
            return PoolQuery(view.unlabelled[-query_size:])

A strategy that only scores items derives from ``ScoreStrategy`` and writes ``score``.
``select`` must be a function of the view and of what ``prepare`` computed: the same view gives the
same query, in this process or in another, and no state is carried from cycle to cycle. That is what
makes a resumed run equal to an uninterrupted one. ``alharness check`` proves it.
"""

from __future__ import annotations

import copy
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, create_model, field_validator

from alharness import acquisition, seeds
from alharness.availability import Availability
from alharness.errors import UserError, is_library, shown
from alharness.frozen import Frozen
from alharness.lazily import numpy as np
from alharness.lazily import torch
from alharness.learners.learner import require_no_gaps
from alharness.matching import spaces
from alharness.pool.scanning import scan
from alharness.queries import ImageQuery, LineQuery, PoolQuery, Query
from alharness.timing import Stopwatch, WorkCounters

if TYPE_CHECKING:
    from alharness.artefacts import ArtefactStore, Supply
    from alharness.labelled import LabelledSet
    from alharness.learners.learner import Learner, LearnerFactory
    from alharness.learners.settings import LearnerSettings
    from alharness.pool import Pool
    from alharness.progress import Progress
    from alharness.records import Ledger, TestFigures

__all__ = [
    "Adaptation",
    "CommitteeParameters",
    "CommitteeStrategy",
    "CycleView",
    "FeatureParameters",
    "FeatureStrategy",
    "ImageQuery",
    "LineQuery",
    "Parameters",
    "PoolQuery",
    "Preparation",
    "Query",
    "ScoreStrategy",
    "Strategy",
]


class Parameters(Frozen):
    """Parameters of a strategy (``--set strategy.NAME=VALUE``): frozen, unknown names refused."""


@dataclass(frozen=True)
class Preparation:
    """What a strategy sees once, before cycle 0. There are no targets here.

    Attributes:
        pool: the pool; ``pool.fingerprint`` is part of the identity of whatever is made from it.
        test: the test images, for strategies that move the problem elsewhere (ADBA); no targets.
        n_classes: number of classes.
        seed: the run's seed, for ``seeds.rng(seed, purpose)``.
        learner_settings: how classifiers are trained. A strategy that trains some of its own (expected
            error reduction, a discriminator) keeps ``learner_factory(preparation.learner_settings)`` of
            ``alharness.learners.factory`` and calls ``fit`` of what it makes, in ``select``, timed.
        supply: where costly things are kept, what they cost is entered, and who is told of long work.
        generator: gives the task's image generator with its critic (``alharness.generative``), trained
            once and shared (Sec. 3.1).
        autoencoder: gives the task's auto-encoder, trained once and shared (Sec. 3.2).
        task_fingerprint: of the task's own pool, where the items were moved elsewhere (``learner.freeze``).
    """

    pool: Pool
    test: Pool
    n_classes: int
    seed: int
    learner_settings: LearnerSettings
    supply: Supply
    generator: Callable[[], Any]
    autoencoder: Callable[[], Any]
    task_fingerprint: str = ""

    @property
    def own_fingerprint(self) -> str:
        """Of the task's own pool, whatever it was moved to: what files of features are made of."""
        return self.task_fingerprint or self.pool.fingerprint

    @property
    def device(self) -> torch.device:
        """Where everything is computed."""
        return self.pool.device

    @property
    def artefacts(self) -> ArtefactStore:
        """The store of costly things, shared by all strategies and seeds."""
        return self.supply.store

    @property
    def ledger(self) -> Ledger:
        """Where one-off costs are entered."""
        return self.supply.ledger

    @property
    def progress(self) -> Progress:
        """To be called during long work."""
        return self.supply.progress


#: Pool indices that are not labelled yet, int64, to figures on the test set: see ``CycleView.judge``.
Judge = Callable[["torch.Tensor"], "TestFigures"]


@dataclass(frozen=True)
class Adaptation:
    """Another view of the problem, for a strategy that does not classify images (ADBA: codes).

    Attributes:
        pool, test: the same items in the same order, represented otherwise; None keeps the images.
        learner_factory: another classifier; None keeps the harness's.
    """

    pool: Pool | None = None
    test: Pool | None = None
    learner_factory: LearnerFactory | None = None


class CycleView:
    """All that a strategy may see in a cycle.

    Attributes:
        pool: the pool.
        labelled: what is labelled, with its targets.
        available: what can still be asked about; ``unlabelled`` and ``n_unlabelled`` are its short forms.
        learner: the classifier of this cycle, in evaluation mode. Do not train.
        n_classes: number of classes.
        cycle: number of the cycle, from 0.
        seed: the run's seed.
        stopwatch: ``with view.stopwatch.phase("score"):`` names a phase of the selection.
        work: exact counters of work done.
        judge: test figures of the next classifier if some items were labelled, for what declares
            ``looks_at_test_labels`` and is marked as a bound; None for every strategy.
    """

    judge: Judge | None = None

    def __init__(
        self,
        *,
        pool: Pool,
        labelled: LabelledSet,
        learner: Learner,
        n_classes: int,
        cycle: int,
        seed: int,
        available: Availability | None = None,
        stopwatch: Stopwatch | None = None,
        work: WorkCounters | None = None,
    ) -> None:
        self.pool = pool
        self.labelled = labelled
        self.available = available or Availability(pool.n, labelled.indices)
        self.learner = learner
        self.n_classes = n_classes
        self.cycle = cycle
        self.seed = seed
        self.stopwatch = stopwatch or Stopwatch(pool.device)
        self.work = work or WorkCounters()

    @property
    def device(self) -> torch.device:
        return self.pool.device

    @property
    def n_unlabelled(self) -> int:
        """How many pool items can still be asked about."""
        return len(self.available)

    @property
    def unlabelled(self) -> torch.Tensor:
        """Pool indices that can still be asked about, ascending, int64 on the CPU. Do not write.

        O(pool), once per cycle and only when asked for; its time is the harness's and not part of
        ``select_s``.
        """
        with self.stopwatch.aside():
            return self.available.indices

    def narrowed(self, candidates: torch.Tensor) -> CycleView:
        """The same view with ``candidates`` (pool indices, ascending) as all that can be asked about."""
        narrow = copy.copy(self)
        narrow.available = self.available.among(candidates)
        return narrow

    def rng(self, *purpose: str | int) -> np.random.Generator:
        """Numpy randomness for a purpose: a function of (seed, cycle, purpose)."""
        return seeds.rng(self.seed, "select", self.cycle, *purpose)

    def torch_rng(self, *purpose: str | int) -> torch.Generator:
        """Torch randomness (on the CPU) for a purpose: a function of (seed, cycle, purpose)."""
        return seeds.torch_rng(self.seed, "select", self.cycle, *purpose)

    def scan(
        self,
        score: Callable[[torch.Tensor], torch.Tensor],
        indices: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``score(items)`` for every unlabelled pool item, or for ``indices``, block by block.

        Args:
            score: float32 items ``[B, ...]`` to scores ``[B]``, called without gradients.
            indices: pool indices to look at, in any order; all unlabelled ones by default.

        Returns:
            float32 ``[len(indices)]`` in the order of ``indices`` (default: of ``unlabelled``).
        """
        wanted = self.unlabelled if indices is None else indices
        scores = torch.empty(len(wanted), device=self.device)
        at = 0
        with torch.no_grad():
            for part, found in scan(self.pool, score, wanted, work=self.work):
                _require_scores(score, found, len(part))
                scores[at : at + len(part)] = found
                at += len(part)
        self._count("pool_items_scored", len(wanted))
        return scores

    def rows(self, indices: torch.Tensor | None = None) -> torch.Tensor:
        """Pool items as flat rows, float32 ``[n, D]`` on the device, counted as featurised.

        Args:
            indices: pool indices in any order; all unlabelled ones by default. So in ``features``,
                ``log_probs`` and ``samples``.

        Raises:
            UserError: they have gaps (``task.missing=keep``).
        """
        found = self._gathered(lambda items: items.flatten(1), indices, "pool_items_featurised")
        require_no_gaps(found)
        return found

    def features(self, indices: torch.Tensor | None = None) -> torch.Tensor:
        """The classifier's features (input of its last layer), float32 ``[n, D]``, counted as featurised."""
        return self._gathered(self.learner.features, indices, "pool_items_featurised")

    def log_probs(self, indices: torch.Tensor | None = None) -> torch.Tensor:
        """The classifier's log probabilities ``[n, C]``, counted as scored."""
        return self._gathered(self.learner.log_probs, indices, "pool_items_scored")

    def samples(self, indices: torch.Tensor | None = None, n_samples: int = 20) -> torch.Tensor:
        """Log probabilities under several sets of the classifier's parameters, ``[S, n, C]``, as scored.

        Every item is judged by the same sets, which follow from seed and cycle. S is ``n_samples`` for a
        network with dropout; an ensemble has its members.

        Raises:
            UserError: this classifier has one set of parameters only.
        """
        rng = self.torch_rng("committee")

        def sampled(items: torch.Tensor) -> torch.Tensor:
            return self.learner.sample_log_probs(items, n_samples, rng)

        return self._gathered(sampled, indices, "pool_items_scored", dim=1)

    def _gathered(
        self,
        function: Callable[[torch.Tensor], torch.Tensor],
        indices: torch.Tensor | None,
        counter: str,
        *,
        dim: int = 0,
    ) -> torch.Tensor:
        """``function`` of items, block by block without gradients; items lie along ``dim`` of the result."""
        wanted = self.unlabelled if indices is None else torch.as_tensor(indices, dtype=torch.int64)
        gathered: torch.Tensor | None = None
        at = 0
        with torch.no_grad():
            for part, found in scan(self.pool, function, wanted, work=self.work):
                if not isinstance(found, torch.Tensor) or found.shape[dim : dim + 1] != (
                    len(part),
                ):
                    told = list(getattr(found, "shape", [])) or type(found).__name__
                    raise TypeError(f"{_place(function)} of {len(part)} items gave {told}")
                if gathered is None:
                    shape = list(found.shape)
                    shape[dim] = len(wanted)
                    # Filled block by block: joined at the end, the blocks would be held twice.
                    gathered = found.new_empty(shape)
                gathered.narrow(dim, at, len(part)).copy_(found)
                at += len(part)
            if gathered is None:  # one item of no account says the width of an empty result
                gathered = function(self.pool.gather(torch.tensor([0]))).narrow(dim, 0, 0)
        self._count(counter, len(wanted))
        return gathered

    def _count(self, counter: str, n: int) -> None:
        self.work.add(counter, n)
        self.work.add("bytes_read", n * self.pool.item_bytes)

    @contextmanager
    def sealed(self, *purpose: str | int) -> Iterator[None]:
        """Around foreign code that draws from the global generators of torch, numpy or random.

        They are seeded from (seed, cycle, purpose) inside and put back afterwards, so the query is a
        function of the view. Own code draws from ``rng`` and ``torch_rng``.
        """
        with seeds.sealed(seeds.derive(self.seed, "select", self.cycle, *purpose)):
            yield


def draw_unlabelled(view: CycleView, size: int, *purpose: str | int) -> torch.Tensor:
    """``size`` distinct unlabelled pool indices in random order, int64 on the CPU.

    Draws positions of the whole pool and drops those that cannot be asked about or are drawn
    already: O(size + labelled). Only when most of the pool is taken, or most of the rest is wanted, it
    permutes the rest instead.

    Args:
        view: the cycle's view.
        size: how many.
        purpose: names the randomness, as in ``view.rng``.

    Raises:
        ValueError: fewer than ``size`` items are unlabelled.
    """
    n, n_left = view.pool.n, view.n_unlabelled
    if size > n_left:
        raise ValueError(f"asked for {size} of {n_left} unlabelled items")
    rng = view.rng(*purpose)
    if 2 * size > n_left or 4 * n_left < n:
        return torch.from_numpy(rng.permutation(view.unlabelled.numpy())[:size])
    taken = view.available.taken.numpy()
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < size:
        more = rng.integers(n, size=2 * (size - len(drawn)) + 16)
        together = np.concatenate([drawn, more[~np.isin(more, taken)]])
        # Keeping the order of arrival makes every ordered subset equally likely.
        drawn = together[np.sort(np.unique(together, return_index=True)[1])]
    return torch.from_numpy(drawn[:size])


class Strategy(ABC):
    """A query strategy: ``prepare`` once, ``select`` in each cycle.

    The first line of the docstring is its summary in ``alharness list``. ``Parameters`` declares
    what ``--set strategy.NAME=VALUE`` may set, with defaults and descriptions.
    """

    Parameters: ClassVar[type[Parameters]] = Parameters
    #: Where the method comes from: paper and section, shown by ``alharness show``.
    source: ClassVar[str] = ""
    #: What follows the colon of its name, as a user reads it; ``STRATEGY`` in it for one around another one.
    takes: ClassVar[str] = ""
    #: For such a strategy: an argument with which it can be tried.
    example: ClassVar[str] = ""
    #: Which tasks it can serve; a reason when it cannot (see ``unsuitable``).
    binary_only: ClassVar[bool] = False
    #: What it needs of the classifier beyond predictions: ``gradients`` of the logits with respect to the
    #: items, ``samples`` of the parameters (``Learner.sample_log_probs``), ``activations`` of a network's
    #: hidden layers (``alharness.learners.loss_prediction``). Checked before data are loaded.
    learner_needs: frozenset[Literal["gradients", "samples", "activations"]] = frozenset()
    #: True for strategies that ask about synthetic items and need an oracle that can see.
    asks_synthetic: ClassVar[bool] = False
    #: True for the fully supervised bound only: the whole pool is labelled before cycle 0.
    labels_everything: ClassVar[bool] = False
    #: True for a bound that is no strategy: it is judged candidates on the test set (``view.judge``). The
    #: harness marks its runs by this flag, and no comparison ranks or tests them.
    looks_at_test_labels: ClassVar[bool] = False
    #: True when a query follows the order of the pool and not only what the items show.
    follows_order: ClassVar[bool] = False
    #: False for one whose ``select`` makes no optimiser of torch. The first one of a process costs a second
    #: and more of imports, which a run pays before anything is timed, unless nobody needs it.
    optimises: ClassVar[bool] = True

    def __init__(self, **parameters: Any) -> None:
        self.parameters = type(self).Parameters(**parameters)

    @classmethod
    def parse(cls, argument: str) -> tuple[dict[str, Any], str | None]:
        """What follows the colon of the name, for classes that say in ``takes`` that they take it.

        Returns:
            keyword arguments for the constructor, and the name of the strategy that it gets as ``inner``;
            None where the argument names no strategy (``peer:NAME``).

        Raises:
            UserError: the argument is not of that form.
        """
        raise NotImplementedError(f"{cls.__name__} takes {cls.takes} and does not parse it")

    def identity(self) -> Mapping[str, str]:
        """What its name and parameters leave open, such as the content of a file: part of a run's key.

        Called before data are loaded, so that a file that is not there is said first.
        """
        return {}

    @property
    def caveat(self) -> str:
        """A known fault that whoever reads its figures must know: told at every run, and by ``compare``."""
        return ""

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        """Why this strategy cannot serve such a task, or None when it can."""
        if self.binary_only and n_classes != 2:
            return f"it works for two classes only, the task has {n_classes}"
        return None

    def prepare(self, preparation: Preparation) -> Adaptation | None:
        """Costly one-off work, entered in the ledger; may move the problem to another space."""
        return None

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int] | None:
        """The most that one ``select`` adds to the work counters it names; None declares nothing.

        ``alharness check`` holds the counters of ``view.work`` against it.
        """
        return None

    @abstractmethod
    def select(self, view: CycleView, query_size: int) -> Query:
        """The next query of ``query_size`` items: the only call that is timed per cycle."""


def _require_scores(score: Callable[..., Any], found: Any, n: int) -> None:
    """One number for each item, in the words of whoever wrote ``score``.

    Raises:
        TypeError: anything else.
    """
    if isinstance(found, torch.Tensor) and found.shape == (n,) and not found.is_complex():
        return
    kind = type(found)
    told = f"a {kind.__module__}.{kind.__qualname__}"
    if isinstance(found, torch.Tensor):
        told = f"{found.dtype} of shape {list(found.shape)}"
    raise TypeError(f"{_place(score)} must give one number per item, [{n}]; it gave {told}")


def _place(function: Callable[..., Any]) -> str:
    """A function with the file and line where its author finds it."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    name = getattr(function, "__name__", "score")
    if code is None or is_library(code.co_filename):
        return str(name)
    return f"{name} ({shown(code.co_filename)}, line {code.co_firstlineno})"


class ScoreStrategy(Strategy):
    """Ask about the unlabelled items with the largest acquisition score: O(pool) in each cycle."""

    @abstractmethod
    def score(self, log_p_NC: torch.Tensor) -> torch.Tensor:
        """Acquisition score ``[N]`` of log probabilities ``[N, C]``; larger = ask sooner.

        They lie in memory by item or by class, as the classifier made them: ``reshape``, not ``view``.
        """

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int] | None:
        return {"pool_items_scored": n_unlabelled}

    def candidates(self, view: CycleView) -> torch.Tensor:
        """Pool indices to score: all unlabelled ones, ascending."""
        return view.unlabelled

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        candidates = self.candidates(view)

        @functools.wraps(self.score)  # whose file and line a fault is told with
        def score(items: torch.Tensor) -> torch.Tensor:
            return self.score(view.learner.log_probs(items))

        with view.stopwatch.phase("score"):
            scores = view.scan(score, candidates)
        with view.stopwatch.phase("top_k"):
            try:
                chosen = acquisition.top_k(scores, query_size)
            except ValueError as error:
                raise ValueError(f"{error}, from {_place(self.score)}") from error
        return PoolQuery(candidates[chosen])


class CommitteeParameters(Parameters):
    """What may be set with ``--set strategy.NAME=VALUE``."""

    n_samples: int = Field(
        20, ge=2, description="sets of parameters drawn by dropout; an ensemble has its members"
    )


class CommitteeStrategy(Strategy):
    """Ask by what several sets of the classifier's parameters say of each item: O(pool) per cycle."""

    Parameters: ClassVar[type[Parameters]] = CommitteeParameters
    parameters: CommitteeParameters
    learner_needs = frozenset({"samples"})

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int] | None:
        return {"pool_items_scored": n_unlabelled}

    def scan(
        self, view: CycleView, score: Callable[[torch.Tensor], torch.Tensor], dim: int = 0
    ) -> torch.Tensor:
        """``score`` of the predictions for every unlabelled item, block by block.

        Args:
            view: the cycle's view.
            score: log probabilities ``[S, B, C]`` to a tensor that has the items along ``dim``.
            dim: where the blocks are joined.
        """
        candidates, n_samples = view.unlabelled, self.parameters.n_samples
        # One state for all blocks: every item is judged by the same committee.
        rng = view.torch_rng("committee")

        def judged(items: torch.Tensor) -> torch.Tensor:
            return score(view.learner.sample_log_probs(items, n_samples, rng))

        return view._gathered(judged, candidates, "pool_items_scored", dim=dim)


class FeatureParameters(Parameters):
    """Parameters of a strategy that compares items by their features, taken from ``matching.spaces``."""

    features: str = Field(
        spaces.AUTO,
        description="where items lie: classifier, items, autoencoder or npz:FILE (a row for each pool item); "
        "auto: the strategy's own",
        json_schema_extra={"added": "0.3"},
    )

    @field_validator("features")
    @classmethod
    def _known(cls, value: str) -> str:
        return spaces.require_known(value)


class FeatureStrategy(Strategy):
    """A strategy that compares items by features: in its own space, or in that of ``strategy.features``.

    ``prepare`` opens the space; ``select`` takes rows from it: ``self.space.of(view, indices)``.
    """

    Parameters: ClassVar[type[Parameters]] = FeatureParameters
    parameters: FeatureParameters
    #: What ``features=auto`` stands for; empty: an auto-encoder's code of images, rows as they are.
    own_features: ClassVar[str] = "classifier"
    #: Whether rows of a file and of the classifier are scaled to length 1.
    unit: ClassVar[bool] = False
    #: Opened by ``prepare``.
    space: spaces.Space = spaces.Space("classifier", "")

    def __init__(self, **parameters: Any) -> None:
        super().__init__(**parameters)
        field = type(self.parameters).model_fields.get("pca_dims")
        if field is not None and self.n_components != field.default:
            spaces.require_reducible("strategy.pca_dims", self.parameters.features)

    @property
    def n_components(self) -> int | None:
        """Dimensions after PCA of items and codes (``pca_dims``); None leaves items as they are."""
        found: int | None = getattr(self.parameters, "pca_dims", None)
        return found

    def identity(self) -> Mapping[str, str]:
        return spaces.features_identity(self.parameters.features)

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        return super().unsuitable(n_classes, item_shape) or spaces.unsuitable(
            self.parameters.features, item_shape
        )

    def prepare(self, preparation: Preparation) -> Adaptation | None:
        name = spaces.chosen(self.parameters.features, self.own_features, preparation.pool)
        self.space = spaces.open_space(name, preparation, self.n_components, unit=self.unit)
        return None


@functools.cache
def joined(own: type[Parameters], inner: type[Parameters]) -> type[Parameters]:
    """Parameters of a strategy around another one: both's; one name that both have sets both."""
    if issubclass(inner, own):
        return inner
    if issubclass(own, inner):
        return own
    return create_model(f"{own.__name__}And{inner.__name__}", __base__=(inner, own))


class NarrowingStrategy(Strategy):
    """A strategy that lets another one choose among some candidates: ``NAME:NUMBER:STRATEGY``.

    Subclasses name themselves in ``takes_as`` (``subset``, for messages) and find the ``candidates``. Its
    ``Parameters``, where it has any, are set beside those of the other one.

    Args:
        inner: a strategy that chooses among ``view.unlabelled``, as every ``ScoreStrategy`` does.
        number: what stands behind the name.
        parameters: its own.

    Raises:
        UserError: ``inner`` does not choose among the candidates, or the number is not positive.
    """

    #: The name as it is typed, and what its number counts.
    takes_as: ClassVar[str]
    counts: ClassVar[str]

    def __init__(self, inner: Strategy, number: int, **parameters: Any) -> None:
        super().__init__(**parameters)
        if number < 1:
            raise UserError(
                f"{self.takes_as} needs a positive number of {self.counts}; found {number}."
            )
        self.inner = inner
        self.number = number
        self.own = self.parameters
        # What a record says of the run: settings of both, under the names that they are set by.
        self.parameters = inner.parameters
        if type(self.own).model_fields:
            both = joined(type(self.own), type(inner.parameters))
            self.parameters = both(**{**dict(inner.parameters), **dict(self.own)})
        self.learner_needs = inner.learner_needs
        if inner.asks_synthetic or inner.labels_everything or inner.looks_at_test_labels:
            raise self._refusal()

    @classmethod
    def parse(cls, argument: str) -> tuple[dict[str, Any], str | None]:
        number, _, inner = argument.partition(":")
        if not number.isdecimal() or int(number) < 1 or not inner:
            raise UserError(
                f"Expected {cls.takes_as}:{cls.takes}, for instance {cls.takes_as}:500:max-entropy; "
                f"found '{cls.takes_as}:{argument}'."
            )
        return {"number": int(number)}, inner

    def _refusal(self) -> UserError:
        return UserError(
            f"{self.takes_as}:{self.number} expects a strategy that chooses among view.unlabelled, "
            f"such as max-entropy; {type(self.inner).__name__} does not. Use it without "
            f"'{self.takes_as}:'."
        )

    def identity(self) -> Mapping[str, str]:
        return self.inner.identity()

    @property
    def caveat(self) -> str:
        return self.inner.caveat

    def unsuitable(self, n_classes: int, item_shape: tuple[int, ...]) -> str | None:
        return self.inner.unsuitable(n_classes, item_shape)

    def prepare(self, preparation: Preparation) -> Adaptation | None:
        return self.inner.prepare(preparation)

    @abstractmethod
    def candidates(self, view: CycleView, at_least: int) -> torch.Tensor:
        """Pool indices that the other strategy may choose among, int64, ascending, on the CPU."""

    def select(self, view: CycleView, query_size: int) -> Query:
        with view.stopwatch.phase("candidates"):
            candidates = self.candidates(view, query_size)
        query = self.inner.select(view.narrowed(candidates), query_size)
        if not isinstance(query, PoolQuery) or not bool(
            torch.isin(query.indices, candidates).all()
        ):
            raise self._refusal()
        return query
