"""Tasks that are made of another task: its pool enlarged (``augmented``) or thinned (``long-tail``)."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import replace

from alharness.progress import Progress, silent
from alharness.tasks.base import (
    DataLocations,
    Profile,
    TaskData,
    TaskDefaults,
    TaskPlugin,
    load_data,
)


class DerivedTask(TaskPlugin):
    """A task whose data are another one's with something done to them.

    Attributes:
        inner_name: of that other task; it is opened by name and stands in ``source_task``.
    """

    inner_name: str

    def made_from(self) -> str:
        return self.inner_name

    def identity(self) -> dict[str, str]:
        return self.source_task.identity()

    def defaults(self, profile: Profile) -> TaskDefaults:
        return self.source_task.defaults(profile)

    def load(self, locations: DataLocations, progress: Progress = silent) -> TaskData:
        return self.derive(load_data(self.source_task, locations, progress))

    @abstractmethod
    def derive(self, source: TaskData) -> TaskData:
        """This task's data from the other one's.

        Raises:
            UserError: they cannot be made from these.
        """


def renamed(source: TaskData, facts: str) -> TaskData:
    """A task's data under fingerprints that follow from its own and from what is done to it, in words."""

    def digest(fingerprint: str) -> str:
        return hashlib.sha256(f"{fingerprint} {facts}".encode()).hexdigest()[:16]

    return replace(
        source,
        fingerprint=digest(source.fingerprint),
        pool_fingerprint=digest(source.pool_fingerprint),
    )
