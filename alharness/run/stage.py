"""A strategy set before a problem: made in one place for a run, a timing study and a conformance check.

``Problem`` is what is classified, ``Networks`` the task's generator and auto-encoder with recipes that
leave nothing open. ``set_stage`` refuses what does not fit, prepares the strategy and moves the problem
where it wants it; the ``Stage`` then trains, shows a cycle's view and asks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from alharness.artefacts import Supply
from alharness.availability import Availability
from alharness.errors import UserError
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
from alharness.learners.learner import (
    FitReport,
    Learner,
    LearnerFactory,
    LearnerSettings,
    learner_factory,
)
from alharness.pool import Pool
from alharness.queries import Query
from alharness.records import Ledger
from alharness.strategy import Adaptation, CycleView, Preparation, Strategy, check_query


@dataclass(frozen=True)
class Problem:
    """What is classified, without targets.

    Attributes:
        name: of the task, for messages and artefacts.
        pool, test: its items.
        n_classes: number of classes.
        learner: how classifiers are trained.
        seed: the run's seed.
    """

    name: str
    pool: Pool
    test: Pool
    n_classes: int
    learner: LearnerSettings
    seed: int = 0


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
    """

    strategy: Strategy
    problem: Problem
    factory: LearnerFactory
    ledger: Ledger
    name: str = "strategy"
    adapted: bool = False

    def fit(self, labelled: LabelledSet, *, seed: int) -> tuple[Learner, FitReport]:
        """A classifier trained from scratch."""
        problem = self.problem
        learner = self.factory(problem.pool.item_shape, problem.n_classes, problem.pool.device)
        return learner, learner.fit(labelled, problem.pool, seed=seed)

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
            UserError: the answer breaks the contract.
        """
        with view.stopwatch.phase("other"):  # what the strategy leaves unnamed
            query = self.strategy.select(view, query_size)
        check_query(query, self.problem.pool, available, query_size, self.name)
        return query


def set_stage(
    strategy: Strategy, problem: Problem, networks: Networks, supply: Supply, *, name: str = ""
) -> Stage:
    """Prepare a strategy for a problem.

    Args:
        name: of the strategy as its user typed it; its class by default.

    Raises:
        UserError: the strategy cannot serve such a problem, or what it prepares with cannot be had.
    """
    name = name or type(strategy).__name__
    reason = strategy.unsuitable(problem.n_classes, problem.pool.item_shape)
    if reason is not None:
        raise UserError(f"'{name}' cannot serve the data set '{problem.name}': {reason}.")
    adaptation = strategy.prepare(
        Preparation(
            pool=problem.pool,
            test=problem.test,
            n_classes=problem.n_classes,
            seed=problem.seed,
            learner_settings=problem.learner,
            supply=supply,
            generator=lambda: networks.obtain_generator(supply),
            autoencoder=lambda: networks.obtain_autoencoder(supply),
        )
    )
    adapted = adaptation or Adaptation()
    return Stage(
        strategy,
        replace(problem, pool=adapted.pool or problem.pool, test=adapted.test or problem.test),
        adapted.learner_factory or learner_factory(problem.learner),
        supply.ledger,
        name,
        adaptation is not None,
    )
