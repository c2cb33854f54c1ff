"""What a sweep is: a file's blocks (or options) that expand to runs, and where these stand."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from alharness.engine.folders import require_own
from alharness.errors import UserError, unknown_name, validating
from alharness.executors.sweep_files import Sweep
from alharness.files import merge, no_collections
from alharness.records import Run, RunFolder, SpecFacts, read_run
from alharness.records.parsed import ParsedRuns
from alharness.records.reader import read_or_mark
from alharness.spec import RunSpec, as_called, resolve
from alharness.tasks.settings import Profile

PROFILES: tuple[str, ...] = get_args(Profile)


@dataclass(frozen=True)
class Choices:
    """What options of the command line change about a sweep.

    Attributes:
        strategies: keep only these of the file's strategies.
        datasets: take these instead of the file's task.
        seeds: take these in every block that has more than one seed.
        settings: laid over everything else.
    """

    strategies: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        index: its number in the sweep.
        spec: what to run, with this machine's device where the device was left open.
        runs_dir: root of all run folders.
        device: the device as it was asked for, where another machine carries the run out: ``auto`` is
            settled there. Empty where this one does.
    """

    index: int
    spec: RunSpec
    runs_dir: Path
    device: str = ""

    def on(self, device: str) -> Job:
        """The same run on another device: another run key, another folder."""
        spec = RunSpec.model_validate({**self.spec.model_dump(mode="json"), "device": device})
        return replace(self, spec=spec)

    def portable(self) -> dict[str, Any]:
        """The spec as plain values, for whoever carries it out."""
        values = self.spec.model_dump(mode="json")
        return {**values, "device": self.device or values["device"]}

    def candidates(self) -> list[Job]:
        """The runs that this one may turn out to be: one per device where that is open."""
        return self._candidates

    @cached_property
    def _candidates(self) -> list[Job]:
        if self.device != "auto":
            return [self]
        return [self, self.on("cpu" if self.spec.device == "cuda" else "cuda")]

    def present(self) -> Job:
        """The one of the candidates that has been carried out; this machine's where none was."""
        return next((run for run in self.candidates() if run.folder.cycles.exists()), self)

    @property
    def facts(self) -> SpecFacts:
        """The spec as its folder tells it when the run exists."""
        return SpecFacts.model_validate(self.spec.model_dump(mode="json"))

    @cached_property
    def folder(self) -> RunFolder:
        """Its path is a hash of the whole spec: worked out once."""
        return RunFolder(self.spec.home(self.runs_dir) / self.run_key)

    @cached_property
    def run_key(self) -> str:
        """The hash of the whole spec."""
        return self.spec.run_key

    @property
    def name(self) -> str:
        from alharness.comparison.runs import display_label

        spec = self.spec
        label = display_label(spec.strategy.name, spec.strategy.parameters)
        seeds = f"seed {spec.seed}"
        if spec.data_seed != spec.seed:
            seeds += f", data seed {spec.data_seed}"
        return f"{spec.task.name} / {label} / {seeds}"


@no_collections()
def read_jobs(jobs: Iterable[Job]) -> list[tuple[Job, Run]]:
    """Jobs, each on the device that it was carried out on, with what their folders tell.

    A run that cannot be read says why.
    """
    with ParsedRuns(read_run) as parsed:
        present = [job.present() for job in jobs]
        return [(job, read_or_mark(job.folder.path, job.facts, parsed.of)) for job in present]


def retitled(sweep: Sweep, choices: Choices) -> Sweep:
    """The sweep of a file under a title that says which data sets stand in for its own.

    A figure's file names its data in the title; a report of other data must not pass for it.
    """
    given = [item for block in (sweep.base, *sweep.runs) for item in _values(block.get("task", []))]
    own = [item.get("name") if isinstance(item, Mapping) else item for item in given]
    others = [name for name in choices.datasets if name not in own]
    if not others:
        return sweep
    title = f"{sweep.heading} (on other data: {', '.join(others)})"
    return sweep.model_copy(update={"title": title})


def parse_seeds(text: str | int) -> list[int]:
    """``0-4,7`` -> [0, 1, 2, 3, 4, 7].

    Raises:
        UserError: anything else.
    """
    seeds: list[int] = []
    for part in str(text).split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not found:
            raise UserError(
                f"Seeds are numbers and ranges, for instance 0-9 or 0-4,7; found '{text}'."
            )
        first = int(found[1])
        last = int(found[2]) if found[2] else first
        if last < first:
            raise UserError(f"The range of seeds '{part.strip()}' ends before it begins.")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


@no_collections()
def expand(sweep: Sweep, choices: Choices, runs_dir: Path, *, elsewhere: bool = False) -> list[Job]:
    """All runs of a sweep, resolved, without repetitions, in the order of the file's blocks.

    In a block all strategies of a seed come before the next seed, so that pairs are complete early.

    Args:
        sweep: what the file says.
        choices: what the command line changes about it.
        runs_dir: root of all run folders.
        elsewhere: another machine carries the runs out; it settles the device, and this one need not
            have it.

    Raises:
        UserError: anything that does not resolve; nothing has been started then.
    """
    profile = str(choices.settings.get("profile", sweep.base.get("profile", "quick")))
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    if unknown := set(sweep.profiles) - set(PROFILES):
        raise unknown_name("profile", sorted(unknown)[0], PROFILES)
    _require_settings(sweep.base, "[base]")
    for block in sweep.runs:
        _require_settings(block, "a [[runs]] block")
    specs: dict[str, tuple[RunSpec, str]] = {}
    met: set[str] = set()
    known: dict[str, tuple[RunSpec, str]] = {}
    tasks = [{"task": {"name": name}} for name in choices.datasets] or [{}]
    for block in sweep.runs:
        if block.get("profile", profile) != profile:
            continue  # a block that names a profile belongs to that profile only
        found: dict[str, tuple[RunSpec, str]] = {}
        for combination in _product(block, choices.seeds):
            for task in tasks:
                layers = (sweep.base, sweep.profiles.get(profile, {}), combination, task)
                settings = lay_over(*layers, {"profile": profile}, choices.settings)
                chosen = settings.get("strategy")
                name = str(chosen.get("name", "")) if isinstance(chosen, Mapping) else ""
                met.add(name)
                if not name or not choices.strategies or name in choices.strategies:
                    spec, device = _of_seed(settings, known, elsewhere=elsewhere)
                    found[spec.run_key] = spec, device
        for key, pair in sorted(
            found.items(), key=lambda item: (item[1][0].seed, item[1][0].data_seed)
        ):
            specs.setdefault(key, pair)
    for wanted in choices.strategies:
        if wanted not in met:
            raise unknown_name("strategy of this sweep", wanted, met)
    if not specs:
        raise UserError(
            f"The sweep '{sweep.name}' has no run under the profile '{profile}': every [[runs]] block names "
            "another one. Give --profile, or add a block without."
        )
    jobs = []
    for index, (key, (spec, device)) in enumerate(specs.items()):
        jobs.append(job := Job(index, spec, runs_dir, device))
        vars(job)["run_key"] = (
            key  # hashed above to tell repetitions: a third of a run's price here
        )
    return jobs


def _of_seed(
    settings: Mapping[str, Any], known: dict[str, tuple[RunSpec, str]], *, elsewhere: bool
) -> tuple[RunSpec, str]:
    """A run's spec and device; runs that differ in their seeds alone are resolved once (3 ms each)."""
    seeds = {key: value for key, value in settings.items() if key in ("seed", "data_seed")}
    rest = {key: value for key, value in settings.items() if key not in seeds}
    text = json.dumps(rest, sort_keys=True, default=repr)
    if text not in known:
        known[text] = _resolved(settings, elsewhere=elsewhere)
    spec, device = known[text]
    seed = seeds.get("seed", 0)
    values = {**spec.model_dump(mode="json"), "seed": seed, "data_seed": seed, **seeds}
    with validating(RunSpec):
        return RunSpec.model_validate(values), device


def _resolved(settings: Mapping[str, Any], *, elsewhere: bool) -> tuple[RunSpec, str]:
    """A run's spec, and the device that was asked for where another machine carries it out."""
    settings = as_called(settings)
    device = str(settings.get("device", "auto"))
    if not elsewhere:
        return resolve(settings), ""
    if device.startswith("cuda"):  # not needed here
        spec = resolve({**settings, "device": "cpu"})
        with validating(RunSpec):
            values = {**spec.model_dump(mode="json"), "device": device}
            return RunSpec.model_validate(values), device
    return resolve(settings), device


def lay_over(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """``merge``, but another plug-in than the lower layer's starts from its own defaults."""
    laid: dict[str, Any] = {}
    for layer in layers:
        sections = _nested(layer)
        for key in ("task", "strategy"):
            choice = sections.get(key)
            if isinstance(choice, str):
                choice = sections[key] = {"name": choice}
            below = laid.get(key)
            known = below.get("name") if isinstance(below, Mapping) else None
            named = choice.get("name") if isinstance(choice, Mapping) else None
            if known is not None and named not in (None, known):
                laid.pop(key, None)
        laid = merge(laid, sections)
    return laid


def _nested(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names, as ``--set`` takes them and as quoted keys of TOML have them, as sections."""
    nested: dict[str, Any] = {}
    for key, value in layer.items():
        section, dot, rest = key.partition(".")
        added = _nested({rest: value}) if dot else value
        before = nested.get(section)
        # A name and its parameters, in either order.
        if isinstance(before, str) and isinstance(added, Mapping):
            nested[section] = {"name": before}
        elif isinstance(before, Mapping) and isinstance(added, str):
            added = {"name": added}
        nested = merge(nested, {section: added})
    return nested


def _require_settings(block: Mapping[str, Any], place: str) -> None:
    """What belongs to the whole file is no setting of runs.

    Raises:
        UserError: it stands in a block.
    """
    for key in block:
        if key in Sweep.model_fields:
            raise UserError(
                f"'{key}' belongs at the top of a sweep's file, above [base] and [[runs]]; found it in "
                f"{place}."
            )


def _product(block: Mapping[str, Any], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The product of a block's lists; ``seeds`` replace its own where it has more than one."""
    axes: list[list[tuple[str, Any]]] = []
    for key, value in block.items():
        values = _values(value)
        if not values:
            raise UserError(
                f"'{key}' of a [[runs]] block is an empty list, and so the block has no run. Give at least "
                "one value, or leave the block out."
            )
        if key in ("seed", "data_seed"):
            values = _seed_values(value)
            if key == "seed" and seeds and len(values) > 1:
                values = list(seeds)
        axes.append([(key, item) for item in values])
    for combination in itertools.product(*axes):
        yield dict(combination)


def _seed_values(value: Any) -> list[int]:
    items = value if isinstance(value, list) else [value]
    return list(dict.fromkeys(seed for item in items for seed in parse_seeds(item)))


def _values(value: Any) -> list[Any]:
    """One axis: lists are alternatives, also inside sections; anything else is one value."""
    if isinstance(value, list):
        return [inner for item in value for inner in _values(item)]
    if isinstance(value, Mapping):
        inner = [[(key, item) for item in _values(part)] for key, part in value.items()]
        return [dict(combination) for combination in itertools.product(*inner)]
    return [value]


@dataclass(frozen=True)
class SweepState:
    """Where the runs of a sweep stand.

    Attributes:
        finished, unfinished, open: jobs by state; ``open`` ones have no record.
        expected_s: seconds of work left, from finished runs of the same task, strategy and profile.
        measured: how many of the jobs left that expectation rests on a measurement for.
    """

    finished: tuple[Job, ...]
    unfinished: tuple[Job, ...]
    open: tuple[Job, ...]
    expected_s: float
    measured: int

    @property
    def left(self) -> tuple[Job, ...]:
        return tuple(sorted((*self.unfinished, *self.open), key=lambda job: job.index))


@no_collections()
def standing(jobs: Sequence[Job], *, fresh: bool = False) -> SweepState:
    """Look at the run folders of a sweep."""
    groups: dict[str, list[Job]] = {"finished": [], "unfinished": [], "open": []}
    costs: dict[tuple[str, str, str], list[float]] = {}
    homes: dict[Path, bool] = {}
    with ParsedRuns(read_run) as parsed:
        for asked in jobs:
            # Where no run of the strategy lies, a run's key (a hash of all its settings) is not needed.
            home = asked.spec.home(asked.runs_dir)
            if home not in homes:
                homes[home] = not fresh and home.is_dir()
            job, run = _furthest(asked, parsed) if homes[home] else (asked, None)
            if run is not None and run.finished:
                groups["finished"].append(job)
                costs.setdefault(_kind(job), []).append(_seconds(run))
            else:
                groups["unfinished" if run is not None and run.records else "open"].append(asked)
    left = [*groups["unfinished"], *groups["open"]]
    known = [sum(costs[_kind(job)]) / len(costs[_kind(job)]) for job in left if _kind(job) in costs]
    return SweepState(
        tuple(groups["finished"]),
        tuple(groups["unfinished"]),
        tuple(groups["open"]),
        sum(known),
        len(known),
    )


def _furthest(job: Job, parsed: ParsedRuns) -> tuple[Job, Run | None]:
    """A run and what can be read of it, on the device where it is finished or has most records."""
    own = _readable(job, parsed)
    if own is not None and own.finished:
        return job, own
    found = [(job, own), *((other, _readable(other, parsed)) for other in job.candidates()[1:])]
    return max(
        found, key=lambda pair: (pair[1] is not None and pair[1].finished, _n_records(pair[1]))
    )


def _n_records(run: Run | None) -> int:
    return 0 if run is None else len(run.records)


def _readable(job: Job, parsed: ParsedRuns) -> Run | None:
    """What can be read of a run; one that is damaged fails by itself, when it is carried out."""
    if not job.folder.cycles.exists():
        return None
    try:
        run = parsed.of(job.folder.path)
        require_own(job.folder, job.spec, job.runs_dir, found=run.spec)
    except (UserError, OSError):
        return None
    return run


def _seconds(run: Run) -> float:
    """What a finished run took: its cycles, and what it paid for preparations."""
    parts = ("fit_s", "evaluate_s", "select_s", "harness_s")
    taken = sum(value or 0.0 for name in parts for value in run.records.column(f"time.{name}"))
    return float(taken + sum(entry.load_s for entry in run.preparation))


def _kind(job: Job) -> tuple[str, str, str]:
    return job.spec.task.name, job.spec.strategy.name, job.spec.profile
