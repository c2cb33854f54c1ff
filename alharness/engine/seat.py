"""A seat before a stage: whoever asks a strategy (a run, a check, a timing study, a test) asks it here."""

from __future__ import annotations

from dataclasses import dataclass

from alharness.availability import Availability
from alharness.engine.stage import Stage
from alharness.labelled import LabelledSet
from alharness.learners.learner import Learner
from alharness.pool import Pool
from alharness.queries import Query
from alharness.strategy import CycleView, Judge


@dataclass
class Seat:
    """A prepared strategy before its problem, with labels and a classifier: can be asked again and again.

    Attributes:
        stage: the prepared strategy.
        labelled, learner: what is labelled, and the classifier trained on it.
        available: what can be asked about.
        judge: for a bound that looks at the test set's labels; None for every strategy.
    """

    stage: Stage
    labelled: LabelledSet
    learner: Learner
    available: Availability
    judge: Judge | None = None

    @property
    def pool(self) -> Pool:
        """The problem's items, as the strategy wants them."""
        return self.stage.problem.pool

    def view(self, *, cycle: int = 0, seed: int | None = None) -> CycleView:
        """What the strategy may see in a cycle; the run's seed by default."""
        view = self.stage.view(
            self.labelled, self.learner, cycle=cycle, available=self.available, seed=seed
        )
        view.judge = self.judge
        return view

    def select(self, view: CycleView, size: int) -> Query:
        """The strategy's query for a view, timed in ``view.stopwatch`` and checked as in a run.

        Raises:
            PluginError: the strategy raises, takes too long, or its answer breaks the contract.
        """
        return self.stage.ask(view, size, self.available)
