"""A run as its folder tells it: settings, facts and records, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from alharness.artefacts.ledger import LedgerEntry, each_once
from alharness.lazily import numpy as np
from alharness.records.cycles import Cycles
from alharness.records.facts import NO_SPEC, RunFacts, Session, SpecFacts
from alharness.records.metrics import MACRO, OF_CLASS, axis_field, find_metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.float64]"
#: (seed, data seed): runs of different strategies with the same pair are compared one to one.
Pair = tuple[int, int]
#: What was labelled and learned, cycle by cycle: digests of both, accuracy and log loss.
Course = tuple[tuple[str, str, float, float], ...]


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it.

    Attributes:
        folder: where it lies.
        spec: its settings, ``spec.toml``; ``NO_SPEC`` where there is none.
        facts: what it was made on, ``env.json``; all defaults when the run never got so far.
        records: all complete cycles.
        failure: why its last attempt ended in an error; None when it did not.
        damage: why it cannot be read; then spec, facts and records say nothing.
    """

    folder: Path
    spec: SpecFacts = NO_SPEC
    facts: RunFacts = field(default_factory=RunFacts)
    records: Cycles = field(default_factory=Cycles)
    failure: str | None = None
    damage: str | None = None

    def __post_init__(self) -> None:
        # Any sequence of records will do, as in 0.2; the class is frozen.
        object.__setattr__(self, "records", Cycles.of(self.records))

    @property
    def has_spec(self) -> bool:
        """Whether it is known what the run was to do."""
        return self.spec is not NO_SPEC

    @property
    def task(self) -> str:
        return self.spec.task.name

    @property
    def strategy(self) -> str:
        """The strategy's name without its parameters."""
        return self.spec.strategy.name

    @property
    def parameters(self) -> dict[str, Any]:
        """The strategy's parameters."""
        return self.spec.strategy.parameters

    @property
    def pair(self) -> Pair:
        seed, data_seed = self.spec.seed, self.spec.data_seed
        return seed, seed if data_seed is None else data_seed

    @cached_property
    def course(self) -> Course:
        """Equal for runs of which one copies the other."""
        names = ("labelled_digest", "learner_digest", "test.accuracy", "test.log_loss")
        return tuple(zip(*map(self.records.column, names), strict=True))

    @property
    def start(self) -> str:
        """Digest of the initial labelled set: runs that share it are pairs. There must be a record."""
        return str(self.records.column("labelled_digest")[0])

    @cached_property
    def sessions(self) -> list[Session]:
        """What made its records, in their order."""
        return self.facts.sessions_of(len(self.records))

    @property
    def was_measured(self) -> bool:
        """Whether there was a test set: labels may be collected without one."""
        # By the column: a record would be made of all cycles of a run that was kept (``records/parsed.py``).
        return not self.records or not math.isnan(self.records.column("test.accuracy")[-1])

    @property
    def finished(self) -> bool:
        return bool(self.records) and bool(self.records.column("final")[-1])

    @property
    def is_bound(self) -> bool:
        """Whether the whole pool was labelled from the start: the fully supervised bound."""
        n_pool = self.facts.task.n_pool
        if n_pool is None or not self.records:
            return False
        return bool(self.records.column("n_labelled")[0] >= n_pool)

    @property
    def is_judged(self) -> bool:
        """Whether it chose by the test set's labels: an upper curve, which nothing is ranked against."""
        return self.facts.strategy.looks_at_test_labels

    @cached_property
    def protocol(self) -> dict[str, str]:
        """What has to agree between runs that are compared (R13)."""
        compared = self.facts.compared
        of = self.precision_of
        return {**compared, "average_precision": of} if compared and of else compared

    @property
    def precision_of(self) -> str:
        """What its average precision is of, ``macro`` or ``class NAME``; empty where nobody can tell.

        Before 0.3.0 nothing was recorded: it was class 1 of two classes, else the mean over classes.
        """
        if not self.records:
            return ""
        told = self.records.column("test.average_precision_of")[0]
        if told is not None:
            return str(told)
        task = self.facts.task
        n_classes = len(task.test_counts) or len(task.class_names)
        if n_classes != 2:
            return MACRO if n_classes else ""
        return f"{OF_CLASS}{task.class_names[1] if len(task.class_names) == 2 else 1}"

    def x(self, axis: str) -> Array:
        """Position of every cycle on an x-axis, ``[K]``."""
        return self.records.array(axis_field(axis))

    def y(self, metric: str) -> Array:
        """A test figure of every cycle, ``[K]``; NaN where it is not defined."""
        find_metric(metric)
        counts = self.facts.task.test_counts
        # Without a definition, the average precision of two classes is that of class 1. Where the test
        # set has none of it, records of 0.1.0 hold 0 instead of None: nothing was there to be found.
        if metric == "average_precision" and len(counts) == 2 and counts[1] == 0:
            told = self.records.column("test.average_precision_of")
            if told and told[0] is None:
                return np.full(len(self.records), np.nan)
        return self.records.array(f"test.{metric}")

    @cached_property
    def preparation(self) -> list[LedgerEntry]:
        """The ledger of one-off costs, each thing once."""
        told = self.records.column("time.preparation")[0] if self.records else None
        return each_once(LedgerEntry.model_validate(entry) for entry in told or [])

    @property
    def preparation_s(self) -> float:
        """What its preparation costs to build, whether or not this run found it ready made."""
        return float(sum(entry.seconds for entry in self.preparation))

    def state(self) -> str:
        """``finished``, ``failed``, ``unfinished``, ``not started`` or ``unreadable``."""
        if self.damage is not None:
            return "unreadable"
        if self.finished:
            return "finished"
        if self.failure is not None:
            return "failed"
        return "unfinished" if self.records else "not started"
