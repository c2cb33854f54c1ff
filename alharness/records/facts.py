"""What a run says of itself beside its records, as typed values: ``spec.toml`` and ``env.json``.

Every reader of a run's folder (comparison, tracking, executors, commands) takes these. A field that an
earlier version did not write has its default here, which stands for what was the case then; a field
that a later version writes is kept as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from alharness.files import flatten

#: Fields of the protocol that runs do not write where they are as they always were.
UNWRITTEN = {"noise": "0.0", "stop": "none", "initial": '{"name": "random"}'}


class _Written(BaseModel):
    """A part of a run's files. ``model_fields_set`` tells what the file really says.

    The defaults below are constructed without being checked: a first check builds validators.
    """

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    def as_written(self) -> dict[str, Any]:
        """The values that the file has or gets, in the file's order; defaults are not added."""
        return self.model_dump(exclude_unset=True)


class Choice(_Written):
    """A plug-in by name, with its parameters beside the name."""

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters; in a resolved spec every one is there."""
        return dict(self.model_extra or {})

    def __str__(self) -> str:
        told = ", ".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self.name}({told})" if told else self.name


#: Starts that no strategy chooses: drawn from the pool, or from each class by its share.
DRAWN = ("random", "stratified")

#: How the initial set is found where nobody says it; left out of keys and protocols.
RANDOM_START = Choice.model_construct(name="random")


class SpecFacts(_Written):
    """``spec.toml`` as it stands: nothing is resolved, so no plug-in is needed.

    The fields have the order of the file.
    """

    protocol: int | None = None
    profile: str = "?"
    seed: int = 0
    data_seed: int | None = None
    budget: int | None = None
    query_size: int | None = None
    initial_size: int | None = None
    device: str = "?"
    task: Choice
    strategy: Choice
    initial: Choice = RANDOM_START
    learner: dict[str, Any] = {}
    pool: dict[str, Any] = {}
    oracle: dict[str, Any] = {}
    generator: dict[str, Any] = {}
    autoencoder: dict[str, Any] = {}
    plugins: dict[str, str] = {}
    stop: list[Choice] = []

    @field_validator("task", "strategy", "initial", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Every setting under its dotted name, as in ``--set``."""
        flat = flatten(self.as_written())
        if self.stop:
            flat["stop"] = ", ".join(map(str, self.stop))
        return flat


#: In place of a spec that is not there, or cannot be read.
NO_SPEC = SpecFacts.model_construct(
    task=Choice.model_construct(name="?"), strategy=Choice.model_construct(name="?")
)


class TaskFacts(_Written):
    """The data that a run was made on.

    Attributes:
        fingerprint: digest of images and labels.
        computed: whether the harness computed it; before 0.3 it was what a task of somebody's own claimed.
        uneven: whether the pool's classes are (R7); written only where they are.
        n_shared: items of the test set that are in the pool, too; None where nobody counted.
    """

    fingerprint: str | None = None
    pool_fingerprint: str | None = None  # of the images alone, since 0.3.0
    computed: bool = False
    uneven: bool = False
    n_shared: int | None = None
    class_names: list[Any] = []
    n_pool: int | None = None
    n_test: int | None = None
    test_counts: list[int] = []
    item_shape: list[int] = []
    residency: str = ""
    forecast: str = ""
    synthetic: bool = False
    notes: dict[str, Any] = {}


class StrategyFacts(_Written):
    """The run's strategy beside its name.

    Attributes:
        distribution: what it came from, with its version.
        caveat: a known fault that it tells.
        looks_at_test_labels: whether it was shown figures of the test set: a bound and no strategy.
        adapted: what ``prepare`` put in the place of the problem's own (pool, test set, classifier), with
            what tells it from others; empty for most.
        at_defaults: parameters of a foreign strategy that had their defaults: who reads its records need
            not have its code.
    """

    distribution: str = "?"
    caveat: str = ""
    looks_at_test_labels: bool = False
    at_defaults: list[str] = []
    adapted: dict[str, str] = {}


class StartFacts(_Written):
    """How the initial set was chosen, where a strategy chose it (``initial = STRATEGY``).

    Its cost is told here and in no time of a cycle: it is the same for all strategies that share the start.

    Attributes:
        distribution: what the choosing strategy came from.
        caveat: a known fault that it tells.
        select_s: seconds of its selection; None where none chose.
        prepare_s: seconds that this run spent on its preparation, artefacts built then included.
    """

    distribution: str = "?"
    caveat: str = ""
    select_s: float | None = None
    prepare_s: float | None = None


class Session(_Written):
    """What one session of a run ran on: a run may be stopped, and continued elsewhere (R12, R18).

    Attributes:
        started_ms: when it began, milliseconds since 1970.
        first_cycle: the first cycle that it could make.
        versions, hardware, arithmetic: name -> value.
        git_commit: of the checkout that alharness ran from; empty where there was none.
        distribution: what the strategy came from.
    """

    started_ms: int | None = None
    first_cycle: int = 0
    versions: dict[str, Any] = {}
    hardware: dict[str, Any] = {}
    arithmetic: dict[str, Any] = {}
    git_commit: str = ""
    distribution: str = "?"

    @property
    def checkout(self) -> str:
        """The commit in short, and whether files of alharness were edited."""
        edited = " with changes" if self.git_commit.endswith("+changes") else ""
        return self.git_commit[:12] + edited


class RunFacts(_Written):
    """``env.json``: what a run was made on, with one session for each time that it was started.

    ``versions``, ``hardware`` and ``git_commit`` are those of the first session.
    """

    protocol: dict[str, Any] = {}
    run_key: str = ""
    task: TaskFacts = TaskFacts.model_construct()
    strategy: StrategyFacts = StrategyFacts.model_construct()
    start: StartFacts = StartFacts.model_construct()
    versions: dict[str, Any] = {}
    hardware: dict[str, Any] = {}
    git_commit: str = ""
    sessions: list[Session] = []

    @property
    def compared(self) -> dict[str, str]:
        """What has to agree between runs that are compared (R13)."""
        written = {key: str(value) for key, value in self.protocol.items()}
        return {**UNWRITTEN, **written} if written else {}

    def sessions_of(self, n_records: int) -> list[Session]:
        """The sessions that made a run's records, in their order; a run of no session has one all the same.

        Args:
            n_records: how many records there are; sessions that ended before their first cycle made none.
        """
        firsts = [session.first_cycle for session in self.sessions]
        ends = [*firsts[1:], n_records]
        # A session that was stopped in its first cycle has left no record, and no time.
        made = [s for s, end in zip(self.sessions, ends, strict=False) if s.first_cycle < end]
        # 0.1.0 named the strategy's distribution once for the run, and its first files had no sessions.
        run = {
            "versions": self.versions,
            "hardware": self.hardware,
            "git_commit": self.git_commit,
            "distribution": self.strategy.distribution,
        }
        return [
            # Since 0.2.0 a session says all of it: nothing is filled in, and nothing checked again.
            session
            if run.keys() <= session.model_fields_set
            else Session.model_validate({**run, **session.as_written()})
            for session in made or [Session()]
        ]


def first_fault(error: Any) -> str:
    """The first of pydantic's complaints about a file, with its place, in one line."""
    found: Mapping[str, Any] = error.errors()[0]
    place = ".".join(str(part) for part in found["loc"])
    why = str(found["msg"]).lower()
    return f"{place}: {why}" if place else why
