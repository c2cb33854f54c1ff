"""Which runs may stand beside each other, which are pairs, and what was left out.

A comparison holds finished runs of one task under one protocol. Runs of equal (seed, data seed) that
began with the same labelled set are pairs; everything that is left out is named with its reason.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from alharness.comparison.runs import Array, Course, Pair, Run, describe, display_label, flatten
from alharness.errors import UserError, unknown_name
from alharness.records import doubts

#: The strategy that every other one is measured against, unless the user says otherwise (R8).
BASELINE = "random"


@dataclass(frozen=True)
class Series:
    """One strategy of a comparison: its finished runs, at most one per pair of seeds.

    Attributes:
        label: what it is called in tables and figures.
        strategy: its name without parameters.
        runs: its runs, by seeds.
        name: its name with what tells it from others; the label, unless the user gave another one.
    """

    label: str
    strategy: str
    runs: tuple[Run, ...]
    name: str

    @cached_property
    def by_pair(self) -> dict[Pair, Run]:
        return {run.pair: run for run in self.runs}

    def curves(self, axis: str, metric: str) -> tuple[Array, Array]:
        """Positions ``[K]`` and values ``[R, K]`` of all runs on a shared grid."""
        grid = shared_grid(self.runs, axis)
        rows = [np.interp(grid, run.x(axis), run.y(metric)) for run in self.runs]
        return grid, np.array(rows)


def shared_grid(runs: Sequence[Run], axis: str) -> Array:
    """Every position that some run was evaluated at, within the range that all runs cover, ``[K]``.

    Runs of one schedule share their positions and nothing is interpolated; where an oracle rejects
    items, or a line is many labels, positions differ and curves are read off linearly between them.
    """
    positions = [run.x(axis) for run in runs]
    low = max(x[0] for x in positions)
    high = min(x[-1] for x in positions)
    grid = np.unique(np.concatenate(positions))
    shared: Array = grid[(grid >= low) & (grid <= high)]
    return shared


@dataclass(frozen=True)
class Covered:
    """The range of an axis that all runs cover: what areas are taken over.

    Attributes:
        low, high: its ends; there is no area where they do not lie apart.
        least, most: where the first run begins, and where the longest ends.
        begins, ends: a run that begins at ``low``, and one that ends at ``high``.
        n_ends: runs that end there.
    """

    low: float
    high: float
    least: float
    most: float
    begins: Run
    ends: Run
    n_ends: int

    @property
    def has_area(self) -> bool:
        return self.high > self.low

    @property
    def shortened(self) -> bool:
        """Whether some run was evaluated outside of it."""
        return (self.low, self.high) != (self.least, self.most)


def covered(runs: Sequence[Run], axis: str) -> Covered:
    """The range of an axis that all runs cover; at least one run."""
    # A cost is a sum of fractions: its last bits are no position of their own.
    firsts = [float(f"{run.x(axis)[0]:.12g}") for run in runs]
    lasts = [float(f"{run.x(axis)[-1]:.12g}") for run in runs]
    low, high = max(firsts), min(lasts)
    begins, ends = runs[firsts.index(low)], runs[lasts.index(high)]
    return Covered(low, high, min(firsts), max(lasts), begins, ends, lasts.count(high))


@dataclass(frozen=True)
class LeftOut:
    """A run that takes no part, and why."""

    run: str
    state: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Finished runs of one task under one protocol.

    Attributes:
        task: the task's name.
        split: values of the fields that separate this comparison from its neighbours.
        series: the strategies, sorted by label, without the bound.
        bounds: runs of the fully supervised bound.
        left_out: runs that belong here and take no part.
        notes: what a reader has to know before trusting a number.
    """

    task: str
    split: Mapping[str, str]
    series: tuple[Series, ...]
    bounds: tuple[Run, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        parts = [f"{key} {value}" for key, value in self.split.items()]
        return ", ".join([self.task, *parts])

    @property
    def runs(self) -> list[Run]:
        return [run for series in self.series for run in series.runs]

    @property
    def baseline(self) -> Series | None:
        """The random baseline under its default parameters; None when it was not run."""
        return next((series for series in self.series if series.name == BASELINE), None)

    def find(self, label: str) -> Series:
        """The series of a label or name."""
        for series in self.series:
            if label in (series.label, series.name):
                return series
        raise unknown_name("strategy in the comparison", label, [s.label for s in self.series])

    def bound(self, metric: str) -> float | None:
        """Mean test figure of the fully supervised runs; None without any, or where it is not defined."""
        values = [run.y(metric)[0] for run in self.bounds]
        return float(np.mean(values)) if values and np.isfinite(values).all() else None

    def defines(self, metric: str) -> bool:
        """Whether every run has a test figure in every cycle."""
        return all(np.isfinite(run.y(metric)).all() for run in [*self.runs, *self.bounds])

    def covered(self, axis: str) -> Covered:
        """What areas are taken over; there must be a run."""
        return covered(self.runs, axis)

    def has_areas(self, axis: str, metric: str) -> bool:
        """Whether curves can be held against each other: a figure that is defined, over some range."""
        return bool(self.series) and self.defines(metric) and self.covered(axis).has_area

    @property
    def can_rank(self) -> bool:
        """No ranking without the random baseline and the bound (R8)."""
        return self.baseline is not None and bool(self.bounds) and len(self.series) > 1

    def why_no_ranking(self) -> str:
        """What is missing for a ranking; empty when nothing is."""
        missing = []
        variants = [series.label for series in self.series if series.strategy == BASELINE]
        if self.baseline is None and not variants:
            missing.append(f"the random baseline (strategy '{BASELINE}')")
        if not self.bounds:
            missing.append("the fully supervised bound (a strategy that labels the whole pool)")
        if not missing and self.baseline is not None and len(self.series) < 2:
            missing.append("a second strategy")
        told = [f"{' and '.join(missing)} is missing here"] if missing else []
        if self.baseline is None and variants:
            told.append(
                f"the random baseline ran as {', '.join(variants)}, and none of them is plain '{BASELINE}': "
                "compare runs of one setting only (name their folders, or --split-by the field in brackets), "
                "or test against one with --against"
            )
        return f"No ranking: {'; '.join(told)}." if told else ""

    def common_pairs(self, series: Iterable[Series] | None = None) -> list[Pair]:
        """Pairs of seeds that all (given) strategies finished."""
        chosen = list(self.series if series is None else series)
        if not chosen:
            return []
        shared = set.intersection(*(set(item.by_pair) for item in chosen))
        return sorted(shared)

    def hardware_differences(self) -> dict[str, list[str]]:
        """Fields of the hardware that differ between runs or sessions: then times do not compare (R12)."""
        values: dict[str, set[str]] = defaultdict(set)
        for session in (session for run in self.runs for session in run.sessions):
            for key, value in session.hardware.items():
                values[key].add(str(value))
        return {key: sorted(found) for key, found in values.items() if len(found) > 1}


def comparisons(
    runs: Sequence[Run],
    *,
    split_by: Sequence[str] = (),
    expected: Sequence[Run] = (),
    labels: Mapping[str, str] | None = None,
) -> list[Comparison]:
    """Sort runs into comparisons, one per task and per value of the ``split_by`` fields.

    Args:
        runs: what was read.
        split_by: fields of the protocol that are meant to differ (an axis of a sweep), so that each
            value makes a comparison of its own.
        labels: strategy, with or without its parameters -> what it is called instead.
        expected: runs that should exist, without records; those not among ``runs`` are named missing.

    Raises:
        UserError: runs of one comparison differ in their protocol; the field is named (R13).
    """
    present = {run.folder.resolve() for run in runs}
    everything = [*runs, *(run for run in expected if run.folder.resolve() not in present)]
    readable = [run for run in everything if run.damage is None]
    _require_known(split_by, readable)
    by_task: dict[str, list[Run]] = defaultdict(list)
    for run in readable:
        by_task[run.task].append(run)
    found: list[Comparison] = []
    for task, members in sorted(by_task.items(), key=lambda item: _natural(item[0])):
        groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
        for run in members:
            groups[tuple(_split_value(run, name) for name in split_by)].append(run)
        for values, group in sorted(groups.items(), key=lambda item: [*map(_natural, item[0])]):
            split = {
                name: _told(value, [key[place] for key in groups])
                for place, (name, value) in enumerate(zip(split_by, values, strict=True))
                if len(groups) > 1
            }
            found.append(_comparison(task, split, group, labels or {}))
    _require_used(labels or {}, found)
    return _with_unreadable(found, [run for run in everything if run.damage is not None])


def _with_unreadable(found: Sequence[Comparison], damaged: Sequence[Run]) -> list[Comparison]:
    """Name runs that cannot be read beside those that lie in the same task's folder."""
    beside = {
        item.folder.resolve().parent.parent: comparison
        for comparison in reversed(found)
        for item in [*comparison.runs, *comparison.bounds]
    }
    added: dict[int, list[LeftOut]] = defaultdict(list)
    for run in damaged:
        folder = run.folder.resolve().parent.parent
        task = run.task if run.spec else folder.name
        home = next((c for c in found if run.spec and c.task == task), beside.get(folder))
        if home is None:
            home = beside[folder] = Comparison(task, {}, (), (), (), ())
            found = [*found, home]
        added[id(home)].append(LeftOut(describe(run), run.state(), str(run.damage)))
    return [
        replace(comparison, left_out=(*comparison.left_out, *added[id(comparison)]))
        for comparison in found
    ]


def _require_known(split_by: Sequence[str], runs: Sequence[Run]) -> None:
    """A field that no run has would split nothing, in silence."""
    known = {name for run in runs for name in [*run.protocol, *flatten(run.spec)]}
    for name in split_by:
        if runs and name not in known:
            raise unknown_name("field of the runs", name, known)


def _natural(text: str) -> list[tuple[int, str]]:
    """Numbers inside names in their order: 40000 before 160000."""
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _split_value(run: Run, name: str) -> str:
    """A field of the protocol, else of the spec (dotted)."""
    if name in run.protocol:
        return run.protocol[name]
    return str(flatten(run.spec).get(name, "-"))


def _comparison(
    task: str, split: Mapping[str, str], runs: Sequence[Run], labels: Mapping[str, str]
) -> Comparison:
    finished = [run for run in runs if run.finished]
    left_out = [
        LeftOut(describe(run), run.state(), _why_left_out(run)) for run in runs if not run.finished
    ]
    require_one_protocol(finished)
    bounds, copies = _bounds([run for run in finished if run.is_bound])
    rest = [run for run in finished if not run.is_bound]
    notes: list[str] = []
    series, dropped = _series(rest)
    series = _relabelled(series, labels)
    left_out += [*dropped, *copies]
    notes += [*_data_notes(series), *_start_notes(series), *_artefact_notes(series)]
    notes += _session_notes([*(run for item in series for run in item.runs), *bounds])
    if any(run.environment.get("task", {}).get("synthetic") for run in finished):
        notes.append("The data of this task are drawn or generated, not photographs.")
    return Comparison(task, dict(split), tuple(series), bounds, tuple(left_out), tuple(notes))


def _why_left_out(run: Run) -> str:
    if run.failure is not None:
        return run.failure
    if run.records:
        budget = run.spec.get("budget", "?")
        return f"{run.records[-1].n_asked} of {budget} annotations; run the sweep again to continue"
    return "no record yet"


def require_one_protocol(runs: Sequence[Run]) -> None:
    """Refuse runs whose protocol differs.

    Raises:
        UserError: names the fields, their values with a run for each, and the split that works.
    """
    names = sorted({name for run in runs for name in run.protocol})
    values = {name: [run.protocol.get(name, NOT_RECORDED) for run in runs] for name in names}
    differing = [name for name in names if len(set(values[name])) > 1]
    if not differing:
        return
    told = [_kinds_of_runs(name, values[name], runs) for name in differing]
    split = " ".join(f"--split-by {name}" for name in _sufficient_split(differing, values))
    raise UserError(
        f"Runs of '{runs[0].task}' with different protocols cannot be compared: {'; '.join(told)}. "
        f"Name the runs of one kind only, or compare each kind by itself: add {split}"
    )


#: What a run says of a field of the protocol that it does not have.
NOT_RECORDED = "(not recorded)"


def _kinds_of_runs(name: str, values: Sequence[str], runs: Sequence[Run]) -> str:
    """``'budget' is 60 in 3 runs ('runs/...'), 70 in 2 (...)``."""
    parts = []
    for value in sorted(set(values), key=_natural):
        of_kind = [run for run, own in zip(runs, values, strict=True) if own == value]
        count = "1 run" if len(of_kind) == 1 else f"{len(of_kind)} runs"
        parts.append(f"{_told(value, values)} in {count} ('{of_kind[0].folder}')")
    return f"'{name}' is {', '.join(parts)}"


def _sufficient_split(differing: Sequence[str], values: Mapping[str, Sequence[str]]) -> list[str]:
    """As few fields as a greedy choice finds whose values leave one protocol in every group."""
    rows = list(zip(*(values[name] for name in differing), strict=True))
    kinds = len(set(rows))
    chosen: list[str] = []

    def n_groups(names: Sequence[str]) -> int:
        places = [differing.index(name) for name in names]
        return len({tuple(row[place] for place in places) for row in rows})

    while n_groups(chosen) < kinds:
        rest = [name for name in differing if name not in chosen]
        chosen.append(max(rest, key=lambda name: n_groups([*chosen, name])))
    return chosen


def _told(value: str, values: Sequence[str]) -> str:
    """A value of the protocol for a reader: of one with parts, only the parts that differ."""
    parts = {text: _parts(text) for text in {value, *values}}
    if len(parts) < 2 or not all(found for found in parts.values()):
        return value
    names = sorted({name for found in parts.values() for name in found})
    differing = [name for name in names if len({found.get(name) for found in parts.values()}) > 1]
    return ", ".join(f"{name}={parts[value].get(name, '-')}" for name in differing) or value


def _parts(text: str) -> dict[str, str]:
    try:
        loaded = json.loads(text)
    except ValueError:
        return {}
    return (
        {key: str(part) for key, part in flatten(loaded).items()}
        if isinstance(loaded, dict)
        else {}
    )


#: Fields of a spec that do not make another strategy of it.
_NOT_STRATEGY = ("seed", "data_seed", "task.", "device")


def _series(runs: Sequence[Run]) -> tuple[list[Series], list[LeftOut]]:
    """Group runs into strategies; labels that would be equal are told apart by what differs."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[_identity(run)].append(run)
    by_label: dict[str, list[list[Run]]] = defaultdict(list)
    for group in groups.values():
        by_label[display_label(group[0].strategy, group[0].parameters)].append(group)
    series: list[Series] = []
    dropped: list[LeftOut] = []
    for label, alike in by_label.items():
        same, unused = _told_apart(alike)
        dropped += unused
        flats = [flatten(group[0].spec) for group in same]
        differing = sorted(
            key
            for key in {key for flat in flats for key in flat}
            if not key.startswith(_NOT_STRATEGY) and len({str(flat.get(key)) for flat in flats}) > 1
        )
        for group, flat in zip(same, flats, strict=True):
            extra = ", ".join(f"{key}={flat.get(key)}" for key in differing)
            kept, repeated = _once(group)
            dropped += repeated
            # Several times the same run would pass for several seeds: no spread, and a small p.
            courses: dict[Course, Run] = {}
            for pair in sorted(kept):
                first = courses.setdefault(kept[pair].course, kept[pair])
                if first is not kept[pair]:
                    dropped.append(LeftOut(describe(kept[pair]), "repeated", _copy_of(first)))
            runs_of = tuple(courses.values())
            name = f"{label} [{extra}]" if extra else label
            series.append(Series(name, group[0].strategy, runs_of, name))
    return sorted(series, key=lambda item: item.label), dropped


def _once(group: Sequence[Run]) -> tuple[dict[Pair, Run], list[LeftOut]]:
    """Runs of one strategy, one for each pair of seeds, and those that repeat another."""
    kept: dict[Pair, Run] = {}
    dropped = []
    for run in sorted(group, key=lambda run: str(run.folder)):
        first = kept.setdefault(run.pair, run)
        if first is not run:
            dropped.append(LeftOut(describe(run), "repeated", f"the same as '{first.folder}'"))
    return kept, dropped


def _bounds(runs: Sequence[Run]) -> tuple[tuple[Run, ...], list[LeftOut]]:
    """The bound's runs, one for each pair of seeds of every strategy that labels the whole pool.

    A classifier without chance makes the same bound from every seed; they are no copies, for nothing
    is tested by their number.
    """
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.strategy].append(run)
    found: list[Run] = []
    dropped: list[LeftOut] = []
    for group in groups.values():
        alike: dict[str, list[Run]] = defaultdict(list)
        for run in group:
            alike[_identity(run)].append(run)
        same, unused = _told_apart(list(alike.values()))
        dropped += unused
        for each in same:
            kept, repeated = _once(each)
            found += kept.values()
            dropped += repeated
    return tuple(found), dropped


#: Sections of a spec that a strategy may do without; all others are part of every run, at least of its times.
_OPTIONAL = ("generator.", "autoencoder.", "oracle.")


def _told_apart(groups: Sequence[list[Run]]) -> tuple[list[list[Run]], list[LeftOut]]:
    """Groups of one strategy's runs under several settings, without those that are copies of another.

    A setting that a strategy does not use (the generator's, of a strategy without one) makes another run of
    it and the same course. A group that consists of such copies is no group: its runs count once, as the
    others'. Where only some of its runs have a twin, nothing shows that the rest would, and it stays.
    """
    kept: list[list[Run]] = []
    dropped: list[LeftOut] = []
    # The larger ones first, so that a part of a sweep is found in the whole of it.
    for group in sorted(groups, key=lambda group: (-len(group), str(group[0].folder))):
        twins = next((found for other in kept if (found := _twins(group, other))), None)
        if twins is None:
            kept.append(group)
            continue
        dropped += [
            LeftOut(
                describe(run),
                "repeated",
                f"cycle by cycle the same as '{twin.folder}': the strategy does not use what differs",
            )
            for run, twin in zip(group, twins, strict=True)
        ]
    return kept, dropped


def _twins(group: Sequence[Run], other: Sequence[Run]) -> list[Run] | None:
    """For every run of a group its twin in the other; None where one has none.

    Twins have the same seeds, course, costs and prepared things, and differ in optional settings only.
    """
    one, two = flatten(group[0].spec), flatten(other[0].spec)
    differing = {key for key in {*one, *two} if one.get(key) != two.get(key)}
    if not all(key.startswith((*_OPTIONAL, *_NOT_STRATEGY)) for key in differing):
        return None
    known = {_deeds(run): run for run in other}
    found = [known[deeds] for run in group if (deeds := _deeds(run)) in known]
    return found if len(found) == len(group) else None


def _deeds(run: Run) -> tuple[object, ...]:
    """All that a run did, its times aside."""
    paid = tuple((r.n_asked, r.n_labelled, r.n_synthetic, r.cost) for r in run.records)
    prepared = tuple((entry.name, entry.key) for entry in run.preparation)
    return run.pair, run.course, paid, prepared


def _copy_of(first: Run) -> str:
    """Why a run with seeds of its own is the same as another one."""
    return (
        f"cycle by cycle the same as '{first.folder}': neither the initial set nor the strategy nor the "
        "classifier depends on what differs. Let data_seed vary with the seed"
    )


def _relabelled(series: Sequence[Series], labels: Mapping[str, str]) -> list[Series]:
    """Strategies under the labels that were given; what else is in a name stays."""
    found = []
    for item in series:
        label = labels.get(item.name)
        if label is None and item.strategy in labels:
            label = labels[item.strategy] + item.name.removeprefix(item.strategy)
        found.append(replace(item, label=label or item.name))
    shown = [item.label for item in found]
    for item in found:
        if shown.count(item.label) > 1:
            same = [f"'{other.name}'" for other in found if other.label == item.label]
            raise UserError(f"--label gives {' and '.join(same)} one name, '{item.label}'.")
    return sorted(found, key=lambda item: item.label)


def _require_used(labels: Mapping[str, str], found: Sequence[Comparison]) -> None:
    known = {name for c in found for s in c.series for name in (s.name, s.strategy)}
    for name in labels:
        if name not in known:
            raise unknown_name("strategy in the comparison", name, known)


def _identity(run: Run) -> str:
    flat = flatten(run.spec)
    kept = {key: flat[key] for key in flat if not key.startswith(_NOT_STRATEGY)}
    return json.dumps(kept, sort_keys=True, default=str)


def _data_notes(series: Sequence[Series]) -> list[str]:
    """Partial or foreign data, items in pool and test set, what was left out: each once."""
    found = {
        doubt: None
        for item in series
        for run in item.runs
        for doubt in doubts(run.environment.get("task", {}).get("notes", {}))
    }
    return [f"The data of these runs: {doubt}" for doubt in found]


def _start_notes(series: Sequence[Series]) -> list[str]:
    """Whether runs of equal seeds really started alike (R1)."""
    notes: list[str] = []
    labelled: dict[Pair, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    learners: dict[Pair, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for item in series:
        for run in item.runs:
            labelled[run.pair][run.records[0].labelled_digest].append(item.label)
            learners[run.pair][run.records[0].learner_digest].append(item.label)
    for pair, digests in sorted(labelled.items()):
        if len(digests) > 1:
            odd = _minority(digests)
            notes.append(
                f"Seed {pair[0]}: {', '.join(odd)} began with another labelled set than the rest; "
                "these runs are not paired."
            )
    own = sorted({label for digests in learners.values() for label in _minority(digests)})
    if own:
        notes.append(
            f"Cycle 0 has another classifier for {', '.join(own)}: the strategy trains its own, or its "
            "runs were made with other versions or hardware. Read differences with that in mind."
        )
    return notes


def _artefact_notes(series: Sequence[Series]) -> list[str]:
    """Whether the runs of a strategy rest on the same generator, auto-encoder and so on."""
    notes: list[str] = []
    for item in series:
        keys: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for run in item.runs:
            for entry in run.preparation:
                if entry.key is not None:
                    keys[entry.name][entry.key] += 1
        for name, found in keys.items():
            if len(found) > 1:
                told = ", ".join(f"{key} in {n}" for key, n in sorted(found.items()))
                notes.append(
                    f"The runs of {item.label} do not rest on the same {name} ({told}): their spread is "
                    "not that of seeds alone. Run the odd ones again with --fresh."
                )
    return notes


def _session_notes(runs: Sequence[Run]) -> list[str]:
    """Runs that went on elsewhere: such a one is nobody's, neither in its times nor to the last bit."""
    told = [f"{describe(run)}: {found}" for run in runs if (found := _changes(run))]
    if not told:
        return []
    more = f"; and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
    count = "One run was" if len(told) == 1 else f"{len(told)} runs were"
    return [
        f"{count} continued on other hardware, or with other versions or code, than begun "
        f"({'; '.join(told[:MOST_TOLD])}{more}): its figures may differ from those of a run at one go."
    ]


#: Runs that a note names, of many.
MOST_TOLD = 3


def _changes(run: Run) -> str:
    """What differs between the sessions of a run: ``threads 1, then 2``; empty when nothing does."""
    facts = [
        {
            **session.hardware,
            **session.versions,
            "commit": session.checkout,
            "strategy from": session.origin,
        }
        for session in run.sessions
    ]
    parts = []
    for name in dict.fromkeys(name for found in facts for name in found):
        values = [str(found.get(name, NOT_RECORDED)) for found in facts]
        changed = [v for i, v in enumerate(values) if i == 0 or v != values[i - 1]]
        if len(changed) > 1:
            parts.append(f"{name} {', then '.join(changed)}")
    return ", ".join(parts)


def _minority(digests: Mapping[str, list[str]]) -> list[str]:
    """Everybody outside the largest group."""
    largest = max(digests, key=lambda digest: len(digests[digest]))
    return [label for digest, labels in digests.items() if digest != largest for label in labels]


def paired(first: Series, second: Series) -> list[Pair]:
    """Pairs of seeds that both finished from the same labelled set."""
    return [
        pair
        for pair in sorted(set(first.by_pair) & set(second.by_pair))
        if first.by_pair[pair].records[0].labelled_digest
        == second.by_pair[pair].records[0].labelled_digest
    ]
