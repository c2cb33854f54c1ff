"""Runs sorted into strategies: which are one, which repeat another, and what each is called."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from alharness.comparison.runs import describe, label_of
from alharness.comparison.series import LeftOut, Series
from alharness.errors import UserError
from alharness.records import Run
from alharness.records.facts import DRAWN
from alharness.records.runs import Course, Pair

#: Fields of a spec that do not make another strategy of it.
_NOT_STRATEGY = ("seed", "data_seed", "task.", "device")

#: Those of them that are whole fields of a spec's file.
_OF_ONE_RUN = {"seed", "data_seed", "device"}

#: Sections of a spec that a strategy may do without; all others are part of every run, at least of its times.
_OPTIONAL = ("generator.", "autoencoder.", "oracle.")


def series_of(runs: Sequence[Run]) -> tuple[list[Series], list[LeftOut]]:
    """Group runs into strategies; labels that would be equal are told apart by what differs."""
    series: list[Series] = []
    dropped: list[LeftOut] = []
    for label, alike in _by_label(runs).items():
        # A setting that changes nothing must not double the number of seeds.
        same, unused = _told_apart(alike)
        dropped += unused
        for name, group in _named(label, same):
            kept, repeated = _once(group)
            dropped += repeated
            # Several times the same run would pass for several seeds: no spread, and a small p.
            courses: dict[Course, Run] = {}
            # In order of seeds, so that the copy that stays is the same in every report.
            for pair in sorted(kept):
                first = courses.setdefault(kept[pair].course, kept[pair])
                if first is not kept[pair]:
                    dropped.append(LeftOut(describe(kept[pair]), "repeated", _copy_of(first)))
            runs_of = tuple(courses.values())
            series.append(Series(name, group[0].strategy, runs_of, name))
    return sorted(series, key=lambda item: item.label), dropped


def intended(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that are still to be made, by the names under which ``series_of`` will show them.

    Without records nothing shows that a setting changed nothing: what a strategy cannot use, by its
    contract, makes no group here. One that could use it and does not is found when its runs are there.
    """
    found: dict[str, list[Run]] = {}
    for label, alike in _by_label(runs).items():
        kept: list[list[Run]] = []
        for group in sorted(alike, key=len, reverse=True):
            if not any(_will_repeat(group, other) for other in kept):
                kept.append(group)
        found.update(_named(label, kept))
    return found


def _will_repeat(group: Sequence[Run], other: Sequence[Run]) -> bool:
    """Whether a group's runs will be those of another one, under settings that their strategy cannot use."""
    from alharness.registry import find_strategy

    first, pairs = group[0], {run.pair for run in other}
    # A strategy that chooses the initial set prepares things, too.
    unused = find_strategy(first.strategy).unused if first.spec.initial.name in DRAWN else ()
    unused = (*unused, *_NOT_STRATEGY)
    return all(key.startswith(unused) for key in _differing([group, other])) and all(
        run.pair in pairs for run in group
    )


def bound_runs(runs: Sequence[Run]) -> tuple[tuple[Run, ...], list[LeftOut]]:
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
        same, unused = _told_apart(_by_identity(group))
        dropped += unused
        for each in same:
            kept, repeated = _once(each)
            found += kept.values()
            dropped += repeated
    return tuple(found), dropped


def _by_label(runs: Sequence[Run]) -> dict[str, list[list[Run]]]:
    """Groups of equal settings; a label names strategy and parameters, and may stand for several."""
    by_label: dict[str, list[list[Run]]] = defaultdict(list)
    for group in _by_identity(runs):
        by_label[label_of(group[0])].append(group)
    return by_label


def _named(label: str, groups: Sequence[list[Run]]) -> Iterator[tuple[str, list[Run]]]:
    """Groups of one label, each told from the others by the settings in which they differ."""
    differing = [key for key in _differing(groups) if not key.startswith(_NOT_STRATEGY)]
    for group in groups:
        flat = group[0].spec.settings
        extra = ", ".join(f"{key}={flat.get(key)}" for key in differing)
        yield (f"{label} [{extra}]" if extra else label), group


def _differing(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Settings, by their dotted names, in which groups differ."""
    flats = [group[0].spec.settings for group in groups]
    keys = sorted({key for flat in flats for key in flat})
    return [key for key in keys if len({str(flat.get(key)) for flat in flats}) > 1]


def _by_identity(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs of one strategy, settings and all, together."""
    groups: dict[str, list[Run]] = defaultdict(list)
    known: dict[str, str] = {}
    for run in runs:
        # The settings of thousands of runs differ by their seeds alone: each kind is taken apart once.
        written = str(run.spec.model_dump(exclude_unset=True, exclude=_OF_ONE_RUN))
        if written not in known:
            known[written] = _identity(run)
        groups[known[written]].append(run)
    return list(groups.values())


def _identity(run: Run) -> str:
    flat = run.spec.settings
    kept = {key: flat[key] for key in flat if not key.startswith(_NOT_STRATEGY)}
    return json.dumps(kept, sort_keys=True, default=str)


def _once(group: Sequence[Run]) -> tuple[dict[Pair, Run], list[LeftOut]]:
    """Runs of one strategy, one for each pair of seeds, and those that repeat another."""
    kept: dict[Pair, Run] = {}
    dropped = []
    for run in sorted(group, key=lambda run: str(run.folder)):
        first = kept.setdefault(run.pair, run)
        if first is not run:
            dropped.append(LeftOut(describe(run), "repeated", f"the same as '{first.folder}'"))
    return kept, dropped


def _copy_of(first: Run) -> str:
    """Why a run with seeds of its own is the same as another one."""
    return (
        f"cycle by cycle the same as '{first.folder}': neither the initial set nor the strategy nor the "
        "classifier depends on what differs. Let data_seed vary with the seed"
    )


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
    allowed = (*_OPTIONAL, *_NOT_STRATEGY)
    if not all(key.startswith(allowed) for key in _differing([group, other])):
        return None
    # By all that they did: equal accuracies alone would join strategies that differ.
    known = {_deeds(run): run for run in other}
    found = [known[deeds] for run in group if (deeds := _deeds(run)) in known]
    return found if len(found) == len(group) else None


def _deeds(run: Run) -> tuple[object, ...]:
    """All that a run did, its times aside."""
    names = ("n_asked", "n_labelled", "n_synthetic", "cost")
    paid = tuple(zip(*map(run.records.column, names), strict=True))
    prepared = tuple((entry.name, entry.key) for entry in run.preparation)
    return run.pair, run.course, paid, prepared


def relabelled(series: Sequence[Series], labels: Mapping[str, str]) -> list[Series]:
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
