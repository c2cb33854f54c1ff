"""The checks that every task must pass, for ours and for anyone's: ``alharness check ./mine.py:Task``.

What a run refuses is refused here by the same function, ``tasks.base.load_data``; two loads are compared, in
this process one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from alharness.conformance.outcomes import CheckResult, Checks, outcomes
from alharness.errors import is_own
from alharness.learners.kinds import kind_of
from alharness.pool import digest
from alharness.tasks.base import DataLocations, TaskData, TaskDefaults, TaskPlugin, load_data


@dataclass(frozen=True)
class Subject:
    """A task under check.

    Attributes:
        make: a fresh instance of it.
        locations: where its data lie.
    """

    make: Callable[[], TaskPlugin]
    locations: DataLocations = field(default_factory=DataLocations.resolve)

    @cached_property
    def data(self) -> TaskData:
        """Loaded once, for checks that only look."""
        return load_data(self.make(), self.locations)


CHECKS: Checks[Subject] = Checks()


def check_task(make: Callable[[], TaskPlugin]) -> list[CheckResult]:
    """Run all checks of a task.

    Args:
        make: gives a fresh instance of it.

    Raises:
        UserError: data of the harness's own that are not here, or not whole: no fault of the task.
    """
    subject = Subject(make)
    if is_own(make()):
        _ = subject.data
    return outcomes(CHECKS, subject)


@CHECKS.named("load")
def _load(subject: Subject) -> None:
    """load gives items and labels that go together, and leaves all else as it is"""
    assert subject.data.n_classes >= 2, "fewer than two classes"


@CHECKS.named("same-data")
def _same_data(subject: Subject) -> None:
    """loaded again, it gives the same items and labels"""
    first, again = subject.data, load_data(subject.make(), subject.locations)
    assert _contents(first) == _contents(again), (
        "loaded again, it gives other items or labels: draw them from a fixed seed, and let nothing "
        "depend on the date or on earlier calls"
    )


def _contents(data: TaskData) -> tuple[str, ...]:
    arrays = (data.pool_targets, data.test_images, data.test_targets)
    # Items that are computed have no bytes to be read; who computes them names them.
    return digest(*arrays), data.fingerprint, data.pool_fingerprint


@CHECKS.named("apart")
def _apart(subject: Subject) -> None:
    """no item of the test set is in the pool"""
    shared = subject.data.n_shared
    assert not shared, (
        f"{shared:,} of {len(subject.data.test_targets):,} test items are in the pool too: what a "
        "strategy asks about is tested on"
    )


@CHECKS.named("classes")
def _classes(subject: Subject) -> None:
    """each class has an item in the pool"""
    absent = subject.data.notes.get("absent")
    assert absent is None, absent


@CHECKS.named("defaults")
def _defaults(subject: Subject) -> None:
    """its defaults fit its data, and name a classifier that there is"""
    for profile in ("quick", "paper"):
        defaults = subject.make().defaults(profile)
        assert isinstance(defaults, TaskDefaults), f"a {type(defaults).__name__}"
        n = subject.data.pool_images.shape[0]
        assert defaults.initial_size <= defaults.budget, "an initial set beyond the budget"
        assert defaults.initial_size <= n, f"an initial set of {defaults.initial_size} from {n}"
        kind_of(defaults.learner)


@CHECKS.named("problem")
def _problem(subject: Subject) -> None:
    """the shape and the number of classes that it tells beforehand are those of its data"""
    told = subject.make().problem
    if told is not None:
        data = subject.data
        found = tuple(data.pool_images.shape[1:]), data.n_classes
        assert told == found, f"tells {told}, has {found}"
