"""Made-up problems, and a strategy set before one of them.

Some ninety 8x8 images; generators and auto-encoders of a few training steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alharness import seeds
from alharness.conformance.queries import touched
from alharness.errors import UserError
from alharness.labelled import LabelledSet
from alharness.learners.learner import Learner, LearnerSettings, learner_factory
from alharness.oracle import Oracle
from alharness.pool import ArrayPool, Pool
from alharness.queries import Query
from alharness.records import Ledger
from alharness.strategy import CycleView, Preparation, Strategy

N_POOL = 96
N_TEST = 24
N_INITIAL = 18
QUERY_SIZE = 5
#: Problems tried in turn until the strategy finds one suitable: classes and item shape.
PROBLEMS = [(3, (1, 8, 8)), (3, (3, 8, 8)), (2, (1, 8, 8)), (2, (3, 8, 8))]


@dataclass(frozen=True)
class Problem:
    """A made-up task: classes are blurred patterns under noise.

    Attributes:
        images, test: uint8 ``[N, C, 8, 8]``.
        targets: int64 ``[N]``.
        initial: pool indices of the initial set, scattered over the pool.
    """

    images: np.ndarray[Any, np.dtype[np.uint8]]
    targets: torch.Tensor
    test: np.ndarray[Any, np.dtype[np.uint8]]
    initial: torch.Tensor
    n_classes: int

    @classmethod
    def usual(cls, n_classes: int, shape: tuple[int, ...]) -> Problem:
        """Noisy, overlapping classes."""
        rng = seeds.rng(0, "conformance", n_classes, *shape)
        n = N_POOL + N_TEST
        patterns = rng.uniform(0.2, 0.8, size=(n_classes, *shape))
        targets = rng.integers(n_classes, size=n)
        values = patterns[targets] + rng.normal(0, 0.15, size=(n, *shape))
        images = (values.clip(0, 1) * 255).round().astype(np.uint8)
        initial = np.sort(rng.permutation(N_POOL)[:N_INITIAL])
        return cls(
            images[:N_POOL],
            torch.from_numpy(targets[:N_POOL]),
            images[N_POOL:],
            torch.from_numpy(initial),
            n_classes,
        )


class Stage:
    """A strategy before a problem: prepared, with a fitted classifier, ready to be asked."""

    def __init__(
        self,
        strategy: Strategy,
        problem: Problem,
        root: Path,
        *,
        kind: str = "mlp",
        device: str = "cpu",
        learner: Learner | None = None,
    ) -> None:
        self.strategy = strategy
        self.problem = problem
        settings = LearnerSettings(kind=kind, width=16, min_steps=60, epochs=1, batch_size=16)
        where = torch.device(device)
        pool = ArrayPool(problem.images.copy(), where)
        preparation = _preparation(problem, pool, settings, root)
        adaptation = strategy.prepare(preparation)
        factory = preparation.learner_factory
        self.pool: Pool = pool
        self.test: Pool = preparation.test
        if adaptation is not None:
            self.pool = adaptation.pool or pool
            self.test = adaptation.test or self.test
            factory = adaptation.learner_factory or factory
        self.labelled = LabelledSet(
            indices=problem.initial,
            targets=problem.targets[problem.initial],
            n_asked=len(problem.initial),
        )
        self.asked = torch.empty(0, dtype=torch.int64)
        self.is_labelled = torch.zeros(self.pool.n, dtype=torch.bool)
        self.take(problem.initial)
        if learner is None:
            learner = factory(self.pool.item_shape, problem.n_classes, where)
            learner.fit(self.labelled, self.pool, seed=0)
        self.learner = learner

    @property
    def n_unlabelled(self) -> int:
        return int((~self.is_labelled).sum())

    def take(self, indices: torch.Tensor) -> None:
        """Pool items cannot be asked about any more, whether they got a label or not."""
        self.asked = torch.cat([self.asked, indices])
        self.is_labelled = self.is_labelled.clone()
        self.is_labelled[indices] = True

    def view(self, *, cycle: int = 0, seed: int = 0) -> CycleView:
        """What the strategy may see."""
        return CycleView(
            pool=self.pool,
            labelled=self.labelled,
            is_labelled=self.is_labelled,
            asked=self.asked,
            learner=self.learner,
            n_classes=self.problem.n_classes,
            cycle=cycle,
            seed=seed,
        )

    def ask(self, size: int = QUERY_SIZE, *, cycle: int = 0, seed: int = 0) -> Query:
        """The strategy's query, as it gives it."""
        return self.strategy.select(self.view(cycle=cycle, seed=seed), size)

    def extend(self, query: Query) -> None:
        """Let an all-knowing oracle annotate the query, and train anew."""
        annotator = _Bright(self.problem.n_classes)
        oracle = Oracle(self.problem.targets, self.problem.n_classes, annotator=lambda: annotator)
        self.labelled = self.labelled.extended(oracle.annotate(query, cycle=0))
        self.take(touched(query))
        self.learner.fit(self.labelled, self.pool, seed=1)


class _Bright:
    """An annotator that calls an image by its brightness: any labels will do here."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """One class with certainty, ``[B, C]``."""
        level = (images.flatten(1).mean(dim=1) * 100).round().long() % self.n_classes
        return torch.nn.functional.one_hot(level, self.n_classes).float()


def _preparation(
    problem: Problem, pool: Pool, settings: LearnerSettings, root: Path
) -> Preparation:
    from alharness.artefacts import ArtefactStore
    from alharness.generative import AutoencoderSettings, GeneratorSettings

    return Preparation(
        task="conformance",
        n_classes=problem.n_classes,
        class_names=tuple(f"class {label}" for label in range(problem.n_classes)),
        pool=pool,
        test=ArrayPool(problem.test.copy(), pool.device),
        device=pool.device,
        seed=0,
        profile="quick",
        fingerprint=pool.fingerprint,
        learner_factory=learner_factory(settings),
        learner_settings=settings,
        artefacts=ArtefactStore(root),
        ledger=Ledger(),
        generator_settings=GeneratorSettings(steps=5),
        autoencoder_settings=AutoencoderSettings(steps=5),
    )


@dataclass
class Bench:
    """One strategy under check: makes stages, always with a fresh instance of the strategy."""

    strategy_class: type[Strategy]
    parameters: Mapping[str, Any]
    root: Path
    problem: Problem = field(init=False)

    def __post_init__(self) -> None:
        strategy = self.strategy()
        reasons = []
        for n_classes, shape in PROBLEMS:
            reason = strategy.unsuitable(n_classes, shape)
            if reason is None:
                self.problem = Problem.usual(n_classes, shape)
                return
            reasons.append(reason)
        raise UserError(
            f"{self.strategy_class.__name__} finds none of the check's problems suitable "
            f"(8x8 images with 1 or 3 channels, 2 or 3 classes): {'; '.join(dict.fromkeys(reasons))}."
        )

    def strategy(self) -> Strategy:
        return self.strategy_class(**self.parameters)

    def stage(self, problem: Problem | None = None, **options: Any) -> Stage:
        return Stage(self.strategy(), problem or self.problem, self.root, **options)
