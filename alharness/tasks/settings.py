"""What a run's settings say of its data, and what a data set says of a run. No torch: a spec holds them."""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar, Literal

from pydantic import Field

from alharness.frozen import Frozen
from alharness.learners.settings import LearnerSettings

Profile = Literal["quick", "paper"]


def as_typed(value: Any) -> Any:
    """A number, a date, or yes and no as the text that TOML read it from; anything else as it is."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float | date) else value


class TaskDefaults(Frozen):
    """One row of Table 1, and the classifier that belongs to it."""

    budget: int = Field(gt=0, description="annotations in all, the initial set included")
    query_size: int = Field(gt=0, description="annotations per cycle ('New')")
    initial_size: int = Field(gt=0, description="annotations before cycle 0 ('Initial')")
    learner: LearnerSettings


def row(budget: int, query_size: int, initial_size: int, **learner: Any) -> TaskDefaults:
    """A row of Table 1: its first three columns, then what differs in the classifier's settings."""
    return TaskDefaults(
        budget=budget,
        query_size=query_size,
        initial_size=initial_size,
        learner=LearnerSettings(**learner),
    )


class DefaultRows:
    """A task whose defaults are two rows.

    Class attributes:
        paper: Table 1's.
        quick: for minutes on a CPU: the same protocol with a smaller classifier and budget.
    """

    paper: ClassVar[TaskDefaults]
    quick: ClassVar[TaskDefaults]

    def defaults(self, profile: Profile) -> TaskDefaults:
        return self.paper if profile == "paper" else self.quick


class PoolSettings(Frozen):
    """Where the pool lives."""

    residency: Literal["auto", "device", "host", "memmap"] = Field(
        "auto", description="auto chooses from a forecast of memory and says so"
    )
    memory_mb: int | None = Field(
        None, gt=0, description="memory the pool may take; by default a share of what is free"
    )
