"""A strategy set before a problem: made in one place for a run, a timing study and a conformance check.

``Problem`` is what is classified, ``Networks`` the task's generator and auto-encoder with recipes that
leave nothing open. ``set_stage`` refuses what does not fit, prepares the strategy and moves the problem
where it wants it; the ``Stage`` then trains, shows a cycle's view and asks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

# By name: see timing.
from time import perf_counter

import torch

from alharness.artefacts import Supply
from alharness.availability import Availability
from alharness.border.answers import check_query
from alharness.border.author import Author
from alharness.border.call import watched
from alharness.border.fits import FitGuard
from alharness.border.limits import refuse_late, time_limit
from alharness.border.marks import contents, pool_marks
from alharness.border.state import Marks
from alharness.errors import UserError, is_own
from alharness.generative import (
    Autoencoder,
    AutoencoderSettings,
    Generator,
    GeneratorSettings,
    obtain_autoencoder,
    obtain_generator,
)
from alharness.generative.settings import AutoencoderRecipe, GeneratorRecipe
from alharness.labelled import LabelledSet
from alharness.learners.factory import learner_factory
from alharness.learners.frozen import embed
from alharness.learners.kinds import Kind, kind_of
from alharness.learners.learner import FitReport, Learner, LearnerFactory
from alharness.learners.network import NetworkLearner
from alharness.learners.settings import LearnerSettings
from alharness.pool import Pool
from alharness.queries import Query
from alharness.records import Ledger
from alharness.strategy import Adaptation, CycleView, Preparation, Strategy
from alharness.timing import effort, synchronise

#: Parameters of a classifier by name.
State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Problem:
    """What is classified, without targets.

    Attributes:
        name: of the task, for messages and artefacts.
        pool, test: its items.
        n_classes: number of classes.
        learner: how classifiers are trained.
        seed: the run's seed.
        kind: what ``learner.kind`` names, where it was found already.
    """

    name: str
    pool: Pool
    test: Pool
    n_classes: int
    learner: LearnerSettings
    seed: int = 0
    kind: Kind | None = None


@dataclass(frozen=True)
class Networks:
    """The generator and the auto-encoder of a task, trained on its pool when first asked for.

    Attributes:
        task: the task's name: Table 1 names a generator for some.
        profile: ``quick`` or ``paper``: which recipes fill what the settings leave open.
        generator, autoencoder: what the user set.
        pool: what they are trained on; for a pool of variations, the pool that is varied.
    """

    task: str
    profile: str
    generator: GeneratorSettings
    autoencoder: AutoencoderSettings
    pool: Pool

    def generator_recipe(self) -> GeneratorRecipe:
        """All numbers of the generator's training."""
        return self.generator.resolve(self.profile, self.pool.item_shape, self.task)

    def autoencoder_recipe(self) -> AutoencoderRecipe:
        """All numbers of the auto-encoder's training."""
        return self.autoencoder.resolve(self.profile, self.pool.item_shape, self.task)

    def obtain_generator(self, supply: Supply) -> Generator:
        """The trained generator."""
        return obtain_generator(self.pool, self.generator_recipe(), supply, task=self.task)

    def obtain_autoencoder(self, supply: Supply) -> Autoencoder:
        """The trained auto-encoder."""
        return obtain_autoencoder(self.pool, self.autoencoder_recipe(), supply, task=self.task)


@dataclass(frozen=True)
class Stage:
    """A prepared strategy before its problem.

    Attributes:
        strategy: prepared.
        problem: as the strategy wants it: images, or what it moved them to.
        factory: makes a fresh classifier.
        ledger: what the preparation cost.
        name: of the strategy as its user typed it, for messages.
        adapted: whether the strategy changed the problem or the classifier.
        select_timeout: seconds after which a selection is ended; 0 lets it take its time.
        changes: what the strategy put in the place of the problem's own, each with what tells it from others.
    """

    strategy: Strategy
    problem: Problem
    factory: LearnerFactory
    ledger: Ledger
    name: str = "strategy"
    adapted: bool = False
    select_timeout: float = 0.0
    changes: Mapping[str, str] = field(default_factory=dict)

    @property
    def author(self) -> Author:
        """Whom messages name."""
        return Author(self.strategy, self.name)

    def fit(
        self, labelled: LabelledSet, *, seed: int, before: State | None = None
    ) -> tuple[Learner, FitReport]:
        """A classifier trained from scratch.

        Args:
            before: parameters of the cycle before, where it is to start there (learner.warm_start).

        Raises:
            UserError: the training diverged, or a strategy's own classifier is none.
        """
        learner, report = self.fits.fit(partial(self._fresh, before), labelled, seed)
        with self.fits.author.blamed("parameters and predictions that are tensors"):
            seen = self.problem.test if len(self.problem.test) else self.problem.pool
            is_finite = _is_finite(learner, report, seen)
        if not is_finite:
            raise self.diverged(report)
        return learner, report

    def fit_alone(self, labelled: LabelledSet, *, seed: int) -> tuple[Learner, FitReport]:
        """A classifier of some of the labels, for an estimate: the run's own are looked at more closely.

        Raises:
            UserError: the training diverged.
            PluginError: the classifier raises.
        """
        learner = self._fresh()
        with self.fits.author.blamed("a FitReport from fit"):
            report = learner.fit(labelled, self.problem.pool, seed=seed)
            is_finite = _is_finite(learner, report, self.problem.test)
        if not is_finite:
            raise self.diverged(report)
        return learner, report

    def look_at(
        self, learner: Learner, labelled: LabelledSet, *, seed: int, before: State | None = None
    ) -> None:
        """Look at a classifier that ``fit`` gave: its predictions, and that they follow from its labels.

        Raises:
            PluginError: they are none, or follow from something else.
        """
        self.fits.look(partial(self._fresh, before), learner, labelled, seed)

    def _fresh(self, before: State | None = None) -> Learner:
        problem = self.problem
        learner = self.factory(problem.pool.item_shape, problem.n_classes, problem.pool.device)
        if not isinstance(learner, Learner):
            self.author.refuse(
                "a Learner from the learner_factory that prepare handed over",
                f"a {type(learner).__name__}",
                call="prepare",
            )
        if before is not None:
            assert isinstance(learner, NetworkLearner)  # no other kind takes learner.warm_start
            learner.warm = before
        return learner

    @cached_property
    def fits(self) -> FitGuard:
        """Watches whoever made the classifier: the strategy, where it brought one of its own."""
        problem, author, plugin = self.problem, self.author, None
        if not self.adapted:
            plugin = problem.kind.plugin if problem.kind is not None else None
            author = Author(plugin, problem.learner.kind, "classifier")
        return FitGuard(
            author,
            problem.pool,
            problem.test,
            problem.n_classes,
            FitReport,
            is_foreign=plugin is not None and not is_own(plugin),
        )

    def diverged(self, report: FitReport) -> UserError:
        """What to say of a classifier whose training ended in no numbers."""
        settings = self.problem.learner
        name, value = ("c", settings.c) if settings.kind == "linear" else ("lr", settings.lr)
        return UserError(
            f"The training of the classifier '{settings.kind}' diverged: after {report.steps} steps "
            f"(loss {report.train_loss:g}) its predictions are no finite numbers. Lower "
            f"learner.{name}, now {value:g}."
        )

    def view(
        self,
        labelled: LabelledSet,
        learner: Learner,
        *,
        cycle: int,
        available: Availability | None = None,
        seed: int | None = None,
    ) -> CycleView:
        """What the strategy may see in a cycle; of what can be asked about it gets its own copy."""
        if available is not None:
            available = replace(available, asked=available.asked.clone())
        return CycleView(
            pool=self.problem.pool,
            labelled=labelled,
            available=available,
            learner=learner,
            n_classes=self.problem.n_classes,
            cycle=cycle,
            seed=self.problem.seed if seed is None else seed,
        )

    def ask(self, view: CycleView, query_size: int, available: Availability) -> Query:
        """The strategy's query, timed in ``view.stopwatch`` and checked.

        Args:
            available: what can be asked about: the caller's value, which the strategy never held.

        Raises:
            PluginError: the strategy raises, ends the process or takes too long; or its answer breaks
                the contract.
        """
        author, cycle = self.author, view.cycle
        stopwatch, work = view.stopwatch, view.work
        synchronise(view.device)
        opening = perf_counter()
        with (
            effort() as taken,
            author.blamed(f"a query from select in cycle {cycle}", self.fits.author),
            time_limit(self.select_timeout, author, cycle),
            stopwatch.phase("other"),  # what the strategy leaves unnamed
        ):
            start = perf_counter()
            query = self.strategy.select(view, query_size)
            took = perf_counter() - start
        elapsed = perf_counter() - opening
        stopwatch.effort = taken
        if view.stopwatch is not stopwatch or view.work is not work:
            author.refuse("the view's own stopwatch and counters", "others", cycle=cycle)
        fault = stopwatch.fault(took, elapsed) or work.fault()
        if fault is not None:
            author.refuse(*fault, cycle=cycle)
        if 0 < self.select_timeout < elapsed:
            refuse_late(self.select_timeout, author, cycle)
        return check_query(query, self.problem.pool, available, query_size, author, cycle)


def _is_finite(learner: Learner, report: FitReport, items: Pool) -> bool:
    """Whether loss, parameters and what is predicted from them are numbers."""
    values = [*learner.state().values(), learner.log_probs(items.gather(torch.arange(1)))]
    return math.isfinite(report.train_loss) and all(
        bool(value.isfinite().all()) for value in values if value.is_floating_point()
    )


def set_stage(
    strategy: Strategy,
    problem: Problem,
    networks: Networks,
    supply: Supply,
    *,
    name: str = "",
    select_timeout: float = 0.0,
) -> Stage:
    """Prepare a strategy for a problem.

    Args:
        name: of the strategy as its user typed it; its class by default.
        select_timeout: seconds after which a selection is ended; 0 lets it take its time.

    Raises:
        UserError: the strategy cannot serve such a problem, or what it prepares with cannot be had.
        PluginError: the strategy breaks the contract while it prepares.
    """
    author = Author(strategy, name or type(strategy).__name__)
    kind = problem.kind or kind_of(problem.learner)
    task_fingerprint = problem.pool.fingerprint  # before frozen features take its place
    shape = (problem.pool.item_shape, problem.n_classes)
    lack = kind.lacking(problem.learner, strategy.learner_needs, shape)
    if lack is not None:
        raise UserError(f"'{author.name}' cannot work with this classifier: {lack}.")
    if problem.learner.freeze:
        pool, test = embed(
            problem.learner, problem.pool, problem.test, problem.n_classes, supply, kind
        )
        problem = replace(problem, pool=pool, test=test)
    # Of what it will see: frozen features in place of images, where that was asked for.
    with author.blamed("a reason or None from unsuitable"):
        reason = strategy.unsuitable(problem.n_classes, problem.pool.item_shape)
    if reason is not None:
        raise UserError(f"'{author.name}' cannot serve the data set '{problem.name}': {reason}.")
    preparation = Preparation(
        pool=problem.pool,
        test=problem.test,
        n_classes=problem.n_classes,
        seed=problem.seed,
        learner_settings=problem.learner,
        supply=supply,
        generator=lambda: networks.obtain_generator(supply),
        autoencoder=lambda: networks.obtain_autoencoder(supply),
        task_fingerprint=task_fingerprint,
    )
    # A second call, where the first is in doubt, must not find what that one left in the object.
    unprepared = copy.copy(strategy)
    adaptation = watched(
        author,
        "prepare",
        "an Adaptation or None from prepare",
        lambda: strategy.prepare(preparation),
        again=lambda: unprepared.prepare(preparation),
        left=lambda: _left_alone(problem),
    )
    if not isinstance(adaptation, Adaptation | None):
        author.refuse("an Adaptation or None", f"a {type(adaptation).__name__}", call="prepare")
    adapted = adaptation or Adaptation()
    if adapted.learner_factory is not None and problem.learner.class_weight != "none":
        raise UserError(
            f"'{author.name}' brings a classifier of its own, which has no weights of classes. Leave "
            "learner.class_weight out."
        )
    if adapted.learner_factory is not None and problem.learner.warm_start:
        raise UserError(
            f"'{author.name}' trains a classifier of its own, which starts from scratch in each cycle. Leave "
            "learner.warm_start out."
        )
    moved = replace(
        problem,
        pool=adapted.pool or problem.pool,
        test=problem.test if adapted.test is None else adapted.test,
        kind=kind,
    )
    for part in ("pool", "test"):
        n, found = getattr(problem, part).n, getattr(moved, part).n
        if n != found:
            author.refuse(f"a {part} of the same {n} items", f"one of {found}", call="prepare")
    return Stage(
        strategy,
        moved,
        adapted.learner_factory or learner_factory(problem.learner, kind),
        supply.ledger,
        author.name,
        adaptation is not None,
        select_timeout,
        _changes(problem, adapted),
    )


def _changes(problem: Problem, adapted: Adaptation) -> dict[str, str]:
    """What an adaptation puts in the place of the problem's own, by what a reader calls it."""
    found = {}
    for name, own, other in (
        ("pool", problem.pool, adapted.pool),
        ("test set", problem.test, adapted.test),
    ):
        if other is not None and other is not own:
            found[name] = (
                f"items of shape {tuple(other.item_shape)}, checksum {contents(other):08x}"
            )
    factory = adapted.learner_factory
    if factory is not None:
        named = factory if hasattr(factory, "__qualname__") else type(factory)
        found["classifier"] = f"{named.__module__}.{named.__qualname__}"
    return found


def _left_alone(problem: Problem) -> Marks:
    return {
        **pool_marks("the pool", problem.pool),
        **pool_marks("the test set", problem.test),
        "the pool's items": contents(problem.pool),
        "the test set's items": contents(problem.test),
    }
