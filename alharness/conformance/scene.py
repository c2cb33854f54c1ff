"""Made-up problems, and a strategy set before one of them.

Some ninety 8x8 images; generators and auto-encoders of a few training steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alharness import seeds
from alharness.artefacts import ArtefactStore, Supply
from alharness.availability import Availability
from alharness.border.answers import owned
from alharness.engine.seat import Seat
from alharness.engine.stage import Networks, Problem, set_stage
from alharness.errors import UserError, blamed, validating
from alharness.generative import AutoencoderSettings, GeneratorSettings
from alharness.labelled import LabelledSet
from alharness.learners.learner import Learner
from alharness.learners.settings import LearnerSettings
from alharness.oracle import Oracle
from alharness.pool import ArrayPool, Pool
from alharness.queries import Query
from alharness.strategy import Strategy

N_POOL = 96
N_TEST = 24
N_INITIAL = 18
QUERY_SIZE = 5
#: Problems tried in turn until the strategy finds one suitable: classes and item shape.
PROBLEMS = [(3, (1, 8, 8)), (3, (3, 8, 8)), (2, (1, 8, 8)), (2, (3, 8, 8))]


@dataclass(frozen=True)
class Sample:
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

    @property
    def n(self) -> int:
        """Items of the pool."""
        return len(self.images)

    def shown(self) -> tuple[bytes, bytes]:
        """What a classifier is trained on beside the images: positions and targets of the initial set."""
        return self.initial.numpy().tobytes(), self.targets[self.initial].numpy().tobytes()

    def with_equal_images(self) -> Sample:
        """The same task, all of whose pool looks alike."""
        return replace(self, images=np.full_like(self.images, 128))

    @classmethod
    def usual(cls, n_classes: int, shape: tuple[int, ...], n_pool: int = N_POOL) -> Sample:
        """Noisy, overlapping classes."""
        rng = seeds.rng(0, "conformance", n_classes, *shape)
        n = n_pool + N_TEST
        patterns = rng.uniform(0.2, 0.8, size=(n_classes, *shape))
        targets = rng.integers(n_classes, size=n)
        values = patterns[targets] + rng.normal(0, 0.15, size=(n, *shape))
        images = (values.clip(0, 1) * 255).round().astype(np.uint8)
        initial = np.sort(rng.permutation(n_pool)[:N_INITIAL])
        return cls(
            images[:n_pool],
            torch.from_numpy(targets[:n_pool]),
            images[n_pool:],
            torch.from_numpy(initial),
            n_classes,
        )


def _as_it_is(pool: Pool) -> Pool:
    return pool


#: Classifiers by all that their training follows.
Trained = dict[object, Learner]


class Scene(Seat):
    """A seat before a made-up task, with a fitted classifier; moves on as a run does.

    Args:
        strategy: a fresh instance.
        sample: the made-up task.
        root: where artefacts lie.
        kind: the classifier, as in ``learner.kind``.
        device: of pool and classifier.
        learner: classifies instead of one that is trained here.
        trained: classifiers that other scenes trained, by all that their training follows: first those that
            any strategy has, then those of one that puts a classifier or items of its own in their place.
            One is copied, or the one that is trained here put beside them. None: train anew.
        dropout: of a network that is sampled by it, for those who need samples; else they get an ensemble.
        seen_through: wraps the pool, for those who count what is read of it.
    """

    def __init__(
        self,
        strategy: Strategy,
        sample: Sample,
        root: Path,
        *,
        kind: str = "mlp",
        device: str = "cpu",
        learner: Learner | None = None,
        trained: tuple[Trained, Trained] | None = None,
        dropout: float = 0.0,
        seen_through: Callable[[Pool], Pool] = _as_it_is,
    ) -> None:
        self.sample = sample
        settings = LearnerSettings(
            kind=kind,
            width=16,
            min_steps=60,
            epochs=1,
            batch_size=16,
            members=3 if "samples" in strategy.learner_needs and not dropout else 1,
            dropout=dropout,
        )
        where = torch.device(device)
        pool = seen_through(ArrayPool(sample.images.copy(), where))
        problem = Problem(
            "conformance", pool, ArrayPool(sample.test.copy(), where), sample.n_classes, settings
        )
        networks = Networks(
            "conformance", "quick", GeneratorSettings(steps=5), AutoencoderSettings(steps=5), pool
        )
        stage = set_stage(strategy, problem, networks, Supply(ArtefactStore(root)))
        labelled = LabelledSet(
            indices=sample.initial,
            targets=sample.targets[sample.initial],
            n_asked=len(sample.initial),
        )
        if learner is None and trained is not None:
            found = trained[stage.adapted]
            shown = (sample.n_classes, sample.images.tobytes(), *sample.shown())
            key = (settings.model_dump_json(), device, seen_through, *shown)
            if key not in found:
                found[key] = stage.fit(labelled, seed=0)[0]
            learner = copy.deepcopy(found[key])
        learner = learner or stage.fit(labelled, seed=0)[0]
        super().__init__(stage, labelled, learner, Availability(sample.n, sample.initial))

    @property
    def strategy(self) -> Strategy:
        return self.stage.strategy

    def ask(self, size: int = QUERY_SIZE, *, cycle: int = 0, seed: int = 0) -> Query:
        """The strategy's query for a view of its own, checked as in a run.

        Raises:
            PluginError: ``select`` raises or ends the process, or the query breaks the contract.
        """
        return self.select(self.view(cycle=cycle, seed=seed), size)

    def answer(self, size: int = QUERY_SIZE) -> Any:
        """The strategy's query as it gives it, for checks that judge it themselves."""
        with self.stage.author.blamed("a query from select"):
            query = self.strategy.select(self.view(), size)
        return owned(query, self.stage.author)

    def extend(self, query: Query) -> None:
        """Let an all-knowing oracle annotate the query, and train anew."""
        annotator = _Bright(self.sample.n_classes)
        oracle = Oracle(
            self.sample.targets, self.sample.n_classes, annotator=lambda truth: annotator
        )
        self.labelled = self.labelled.extended(oracle.annotate(query, cycle=0))
        self.available = self.available.taking(query.touched)
        self.learner.fit(self.labelled, self.pool, seed=1)


class _Bright:
    """An annotator that calls an image by its brightness: any labels will do here."""

    def __init__(self, n_classes: int) -> None:
        self.n_classes = n_classes

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """One class with certainty, ``[B, C]``."""
        level = (images.flatten(1).mean(dim=1) * 100).round().long() % self.n_classes
        return torch.nn.functional.one_hot(level, self.n_classes).float()


@dataclass
class Bench:
    """One strategy under check: makes stages, always with a fresh instance of the strategy.

    Attributes:
        strategy_class, parameters: what makes the instances.
        root: where artefacts lie.
        classifiers: those that were trained of the made-up tasks as they are; benches may share them.
        sample: the made-up task.
    """

    strategy_class: type[Strategy]
    parameters: Mapping[str, Any]
    root: Path
    classifiers: Trained = field(default_factory=dict)
    sample: Sample = field(init=False)
    _own: Trained = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        strategy = self.strategy()
        reasons = []
        for n_classes, shape in PROBLEMS:
            with blamed(f"strategy '{self.name}'", "a reason or None from unsuitable"):
                reason = strategy.unsuitable(n_classes, shape)
            if reason is None:
                self.sample = Sample.usual(n_classes, shape)
                return
            reasons.append(reason)
        raise UserError(
            f"{self.name} finds none of the check's problems suitable "
            f"(8x8 images with 1 or 3 channels, 2 or 3 classes): {'; '.join(dict.fromkeys(reasons))}. "
            "Nothing was checked; a smaller sibling of the strategy, for such images, can be."
        )

    @property
    def name(self) -> str:
        return self.strategy_class.__name__

    def strategy(self) -> Strategy:
        """A fresh instance.

        Raises:
            UserError: a parameter is wrong, or the constructor raises.
        """
        with (
            blamed(f"strategy '{self.name}'", "an instance from its constructor"),
            validating(self.strategy_class.Parameters, "strategy"),
        ):
            return self.strategy_class(**self.parameters)

    def labelling(self, initial: torch.Tensor) -> Sample:
        """The made-up task with other items labelled."""
        return replace(self.sample, initial=initial)

    def scene(self, sample: Sample | None = None, *, anew: bool = False, **options: Any) -> Scene:
        """A scene before the made-up task or another one.

        Args:
            sample: the task; the usual one by default.
            anew: train a classifier, even if one was trained on the very same labels before. Whether its
                training follows what it must not is seen in no copy.
            options: of ``Scene``.
        """
        # Three quarters of a check would be trainings that all come to the same.
        trained = None if anew else (self.classifiers, self._own)
        return Scene(self.strategy(), sample or self.sample, self.root, trained=trained, **options)
