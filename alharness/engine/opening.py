"""A run's task, opened: its data loaded, its pool on the device, and what a stage needs of both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from alharness.artefacts import Supply
from alharness.engine.places import Places
from alharness.engine.stage import Networks, Problem, Stage, set_stage
from alharness.oracle import Oracle, open_oracle
from alharness.oracle.questions import Asking
from alharness.pool import Forecast, Pool
from alharness.progress import Progress, silent
from alharness.records import RunFolder
from alharness.records.metrics import is_uneven
from alharness.spec import Bound
from alharness.tasks.base import TaskData, load_data


@dataclass(frozen=True)
class OpenTask:
    """A run's task with its data loaded and its pool opened on the device.

    Attributes:
        bound: the run.
        uneven: whether the pool's classes are, so that accuracy says little (R7).
        forecast: what was said of memory before the pool was opened; afterwards less is free.
    """

    bound: Bound
    data: TaskData
    pool: Pool
    test: Pool
    forecast: Forecast
    uneven: bool = False

    @property
    def problem(self) -> Problem:
        """What the run's strategy is set before."""
        spec, n_classes = self.bound.spec, self.data.n_classes
        return Problem(
            name=spec.task.name,
            pool=self.pool,
            test=self.test,
            n_classes=n_classes,
            learner=spec.learner,
            seed=spec.seed,
            kind=self.bound.kind,
        )

    @property
    def networks(self) -> Networks:
        """The run's generator and auto-encoder, on the task's own pool."""
        spec = self.bound.spec
        return Networks(spec.task.name, spec.profile, spec.generator, spec.autoencoder, self.pool)

    def oracle(
        self,
        supply: Supply,
        folder: RunFolder,
        *,
        asking: Asking | None = None,
    ) -> Oracle:
        """The run's oracle over the task's hidden targets.

        Args:
            folder: where a person finds what is asked.
            asking: how a person is asked.
        """
        spec = self.bound.spec
        return open_oracle(
            self.data,
            self.pool,
            self.test,
            supply,
            settings=spec.oracle,
            seed=spec.seed,
            data_seed=spec.data_seed,
            folder=folder.path,
            original=self.bound.task.original,
            asking=asking,
        )

    def stage(self, supply: Supply, select_timeout: float = 0.0) -> Stage:
        """The run's strategy before its problem, prepared."""
        return set_stage(
            self.bound.strategy,
            self.problem,
            self.networks,
            supply,
            name=self.bound.spec.strategy.name,
            select_timeout=select_timeout,
        )


def open_task(
    bound: Bound, places: Places, progress: Progress = silent, *, with_test: bool = True
) -> OpenTask:
    """Load the data of a run and open pool and test set on its device.

    Args:
        with_test: False lets go of the test set as soon as it is loaded, for what must not see it.
    """
    # Only a person can answer for an item without a class.
    answered = bound.spec.oracle.mode == "human"
    data = load_data(
        bound.task, places.locations, progress, blanks=answered, gaps=bound.kind.takes_gaps
    )
    if not with_test:
        data = replace(data, test_images=data.test_images[:0], test_targets=data.test_targets[:0])
    device = torch.device(bound.spec.device)
    # Asked before the pool takes its share: afterwards less is free.
    chosen = data.forecast(device, bound.spec.pool)
    pool = data.open_pool(device, bound.spec.pool, chosen=chosen)
    # Counted while the targets are here: a record says whether classes are uneven, and no more of them.
    known = data.pool_targets[data.pool_targets >= 0]
    uneven = is_uneven(np.bincount(known, minlength=data.n_classes).tolist())
    return OpenTask(bound, data, pool, data.open_test(device), chosen, uneven)
