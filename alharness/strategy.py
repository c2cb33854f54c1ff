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
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from alharness import acquisition, seeds
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.learner import Learner, LearnerFactory, LearnerSettings
from alharness.pool import Pool
from alharness.progress import Progress, silent
from alharness.queries import ImageQuery, LineQuery, PoolQuery, Query
from alharness.records import Ledger
from alharness.timing import Stopwatch, WorkCounters

if TYPE_CHECKING:
    from alharness.artefacts import ArtefactStore
    from alharness.generative import (
        Autoencoder,
        AutoencoderSettings,
        Generator,
        GeneratorSettings,
    )

__all__ = [
    "Adaptation",
    "CycleView",
    "ImageQuery",
    "LineQuery",
    "Parameters",
    "PoolQuery",
    "Preparation",
    "Query",
    "ScoreStrategy",
    "Strategy",
]


class Parameters(BaseModel):
    """Parameters of a strategy (``--set strategy.NAME=VALUE``): frozen, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass
class Preparation:
    """What a strategy sees once, before cycle 0. There are no targets here either.

    Attributes:
        task: the task's name.
        n_classes: number of classes.
        class_names: their names.
        pool: the pool.
        test: the test images, for strategies that move the problem elsewhere (ADBA); no targets.
        device: where everything is computed.
        seed: the run's seed, for ``seeds.rng(seed, purpose)``.
        profile: ``quick`` or ``paper``.
        fingerprint: digest of the pool's items: part of every artefact's identity.
        learner_factory: makes the harness's classifier for this task.
        learner_settings: its recipe, for a strategy that brings a classifier of its own.
        artefacts: the store of costly things, shared by all strategies and seeds.
        ledger: where one-off costs are entered.
        progress: to be called during long work.
        generator_settings, autoencoder_settings: how the shared networks are trained.
    """

    task: str
    n_classes: int
    class_names: tuple[str, ...]
    pool: Pool
    test: Pool
    device: torch.device
    seed: int
    profile: str
    fingerprint: str
    learner_factory: LearnerFactory
    learner_settings: LearnerSettings
    artefacts: ArtefactStore
    ledger: Ledger
    generator_settings: GeneratorSettings
    autoencoder_settings: AutoencoderSettings
    progress: Progress = silent

    def generator(self) -> Generator:
        """The task's image generator with its critic, trained once and shared (Sec. 3.1)."""
        from alharness.generative import obtain_generator

        return obtain_generator(
            self.pool,
            self.generator_settings,
            self.artefacts,
            task=self.task,
            fingerprint=self.fingerprint,
            ledger=self.ledger,
            progress=self.progress,
        )

    def autoencoder(self) -> Autoencoder:
        """The task's auto-encoder, trained once and shared (Sec. 3.2)."""
        from alharness.generative import obtain_autoencoder

        return obtain_autoencoder(
            self.pool,
            self.autoencoder_settings,
            self.artefacts,
            task=self.task,
            fingerprint=self.fingerprint,
            ledger=self.ledger,
            progress=self.progress,
        )


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
        is_labelled: bool ``[N]`` on the CPU, true for pool items that cannot be asked about (again):
            labelled ones, and those that were asked and rejected. Do not write.
        asked: the same as pool indices, int64 on the CPU: what an index has to pass over, O(labelled).
        learner: the classifier of this cycle, in evaluation mode. Do not train.
        n_classes: number of classes.
        cycle: number of the cycle, from 0.
        seed: the run's seed.
        stopwatch: ``with view.stopwatch.phase("score"):`` names a phase of the selection.
        work: exact counters of work done.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        labelled: LabelledSet,
        is_labelled: torch.Tensor,
        learner: Learner,
        n_classes: int,
        cycle: int,
        seed: int,
        stopwatch: Stopwatch | None = None,
        work: WorkCounters | None = None,
        asked: torch.Tensor | None = None,
    ) -> None:
        self.pool = pool
        self.labelled = labelled
        self.is_labelled = is_labelled
        self.asked = labelled.indices if asked is None else asked
        self.learner = learner
        self.n_classes = n_classes
        self.cycle = cycle
        self.seed = seed
        self.stopwatch = stopwatch or Stopwatch(pool.device)
        self.work = work or WorkCounters()
        self._unlabelled: torch.Tensor | None = None
        n_asked = int(is_labelled.sum()) if asked is None else len(asked)  # O(pool) when not told
        self._n_unlabelled = len(is_labelled) - n_asked

    @property
    def device(self) -> torch.device:
        return self.pool.device

    @property
    def n_unlabelled(self) -> int:
        """How many pool items can still be asked about."""
        return self._n_unlabelled

    @property
    def unlabelled(self) -> torch.Tensor:
        """Pool indices without a label, ascending, int64 on the CPU.

        O(pool), once per cycle and only when asked for; its time is book-keeping of the harness
        (phase ``bookkeeping``) and not part of ``select_s``.
        """
        if self._unlabelled is None:
            with self.stopwatch.phase("bookkeeping"):
                self._unlabelled = (~self.is_labelled).nonzero().squeeze(1)
        return self._unlabelled

    def narrowed(self, candidates: torch.Tensor) -> CycleView:
        """The same view with ``candidates`` (pool indices, ascending) as all that is unlabelled."""
        narrow = copy.copy(self)
        narrow._unlabelled = candidates
        narrow._n_unlabelled = len(candidates)
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
            for part, items in self.pool.blocks(wanted):
                scores[at : at + len(part)] = score(items)
                at += len(part)
        self.work.add("pool_items_scored", len(wanted))
        self.work.add("bytes_read", len(wanted) * self.pool.item_bytes)
        return scores


def draw_unlabelled(view: CycleView, size: int, *purpose: str | int) -> torch.Tensor:
    """``size`` distinct unlabelled pool indices in random order, int64 on the CPU.

    Draws positions of the whole pool and drops those that cannot be asked about or are drawn
    already: O(size). Only when most of the pool is taken, or most of the rest is wanted, it
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
    is_labelled = view.is_labelled.numpy()
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < size:
        more = rng.integers(n, size=2 * (size - len(drawn)) + 16)
        together = np.concatenate([drawn, more[~is_labelled[more]]])
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
    #: For a strategy around another one: what follows the colon of its name, as a user reads it.
    takes: ClassVar[str] = ""
    #: Which tasks it can serve; a reason when it cannot (see ``unsuitable``).
    binary_only: ClassVar[bool] = False
    #: True for strategies that ask about synthetic items and need an oracle that can see.
    asks_synthetic: ClassVar[bool] = False
    #: True for the fully supervised bound only: the whole pool is labelled before cycle 0.
    labels_everything: ClassVar[bool] = False
    #: True when a query follows the order of the pool and not only what the items show.
    follows_order: ClassVar[bool] = False

    def __init__(self, **parameters: Any) -> None:
        self.parameters = type(self).Parameters(**parameters)

    @classmethod
    def parse(cls, argument: str) -> tuple[dict[str, Any], str]:
        """What follows the colon of the name, for classes that say in ``takes`` that they take it.

        Returns:
            keyword arguments for the constructor, and the name of the strategy that it gets as ``inner``.

        Raises:
            UserError: the argument is not of that form.
        """
        raise NotImplementedError(f"{cls.__name__} takes {cls.takes} and does not parse it")

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


class ScoreStrategy(Strategy):
    """Ask about the unlabelled items with the largest acquisition score: O(pool) in each cycle."""

    @abstractmethod
    def score(self, log_p_NC: torch.Tensor) -> torch.Tensor:
        """Acquisition score ``[N]`` of log probabilities ``[N, C]``; larger = ask sooner."""

    def work_bound(self, n_unlabelled: int, query_size: int) -> Mapping[str, int] | None:
        return {"pool_items_scored": n_unlabelled}

    def candidates(self, view: CycleView) -> torch.Tensor:
        """Pool indices to score: all unlabelled ones, ascending."""
        return view.unlabelled

    def select(self, view: CycleView, query_size: int) -> PoolQuery:
        candidates = self.candidates(view)
        with view.stopwatch.phase("score"):
            scores = view.scan(lambda items: self.score(view.learner.log_probs(items)), candidates)
        with view.stopwatch.phase("top_k"):
            chosen = acquisition.top_k(scores, query_size)
        return PoolQuery(candidates[chosen])


def check_query(query: Query, view: CycleView, query_size: int, name: str) -> None:
    """The harness's own check of every answer, so that no strategy is trusted with its own score.

    Raises:
        UserError: the query is not of a known kind or size, or asks about items that it must not.
    """
    if not isinstance(query, PoolQuery | ImageQuery | LineQuery):
        _refuse(name, "a PoolQuery, an ImageQuery or a LineQuery", f"a {type(query).__name__}")
    if len(query) != query_size:
        _refuse(name, f"{query_size} items", f"{len(query)}")
    if isinstance(query, PoolQuery):
        indices = query.indices
        if (
            not isinstance(indices, torch.Tensor)
            or indices.dtype != torch.int64
            or indices.ndim != 1
        ):
            found = getattr(indices, "dtype", type(indices).__name__)
            _refuse(name, "pool indices as a one-dimensional int64 tensor", f"{found}")
        if indices.device.type != "cpu":
            _refuse(name, "pool indices on the CPU", f"indices on {indices.device}")
        if int(indices.min()) < 0 or int(indices.max()) >= view.pool.n:
            _refuse(name, f"pool indices in 0 .. {view.pool.n - 1}", f"{_some(indices)}")
        if len(indices.unique()) != len(indices):
            _refuse(name, "distinct pool indices", f"duplicates among {_some(indices)}")
        asked = indices[view.is_labelled[indices]]
        if len(asked):
            _refuse(name, "unlabelled items only", f"items already asked about: {_some(asked)}")
    elif isinstance(query, ImageQuery):
        if tuple(query.items.shape[1:]) != tuple(view.pool.item_shape):
            expected = f"items of shape {tuple(view.pool.item_shape)}"
            _refuse(name, expected, f"shape {tuple(query.items.shape[1:])}")
        if not bool(query.items.isfinite().all()):
            _refuse(name, "finite values", "NaN or infinity in the synthetic items")


def _some(indices: torch.Tensor) -> str:
    listed = ", ".join(map(str, indices[:8].tolist()))
    return listed + (", ..." if len(indices) > 8 else "")


def _refuse(name: str, expected: str, found: str) -> NoReturn:
    raise UserError(
        f"The strategy '{name}' broke the contract: expected {expected}, found {found}. "
        f"'alharness check {name}' shows what is wrong."
    )
