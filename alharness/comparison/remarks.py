"""What a reader of a comparison must know of its runs: their data, starts, artefacts and sessions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from alharness.comparison.protocol import NOT_RECORDED
from alharness.comparison.runs import describe
from alharness.comparison.series import Series, unit_of
from alharness.records import Run, doubts
from alharness.records.runs import Pair

#: Runs that a note names, of many.
MOST_TOLD = 3


def data_notes(series: Sequence[Series]) -> list[str]:
    """Partial or foreign data, items in pool and test set, known faults of strategies: each once."""
    found = {
        doubt: None
        for item in series
        for run in item.runs
        for doubt in doubts(run.facts.task.notes)
    }
    faults = {
        run.facts.strategy.caveat: None
        for item in series
        for run in item.runs
        if run.facts.strategy.caveat
    }
    return [
        *(f"The data of these runs: {doubt}" for doubt in found),
        *(f"Known of {fault}." for fault in faults),
    ]


def stop_notes(series: Sequence[Series]) -> list[str]:
    """Runs that a stopping rule ended: they are finished, and what lies beyond was never run."""
    notes = []
    for item in series:
        stopped = [run for run in item.runs if run.records.column("stopped")[-1] is not None]
        if not stopped:
            continue
        spent = sorted(run.records.column("n_asked")[-1] for run in stopped)
        told = [str(run.records.column("stopped")[-1]) for run in stopped]
        rules = sorted({text.partition(": ")[0] for text in told})
        at = f"{spent[0]}" if spent[0] == spent[-1] else f"{spent[0]} to {spent[-1]}"
        notes.append(
            f"{len(stopped)} of {len(item.runs)} runs of {item.label} were ended by {', '.join(rules)} at "
            f"{at} of {stopped[0].spec.budget} annotations: they are complete, and their curves end there."
        )
    return notes


def start_notes(series: Sequence[Series]) -> list[str]:
    """Whether runs of equal seeds really started alike (R1)."""
    notes: list[str] = []
    labelled: dict[Pair, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    learners: dict[Pair, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for item in series:
        for run in item.runs:
            labelled[run.pair][run.start].append(item.label)
            learners[run.pair][run.records.column("learner_digest")[0]].append(item.label)
    # Pairs are formed by digests; here it is said which seeds lost theirs.
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


def artefact_notes(series: Sequence[Series]) -> list[str]:
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


def unit_notes(series: Sequence[Series]) -> list[str]:
    """What all seeds of a strategy share: then its verdicts are about that one, not about the method."""
    shared: dict[str, list[str]] = defaultdict(list)
    for item in series:
        if unit := unit_of(item):
            shared[unit].append(item.label)
    return [
        f"{', '.join(labels)}: {unit}. Intervals and tests speak of other seeds with it, not of another "
        "one: for that, run with --set generator.seed=1 and so on, and there is an interval over generators."
        for unit, labels in shared.items()
    ]


#: Milliseconds between runs in which somebody may have looked at results.
PAUSE_MS = 15 * 60_000


def look_notes(runs: Sequence[Run], looks: int) -> list[str]:
    """Seeds that were begun when all others were finished, after a pause: perhaps for what these showed."""
    begun: dict[Pair, int] = {}
    ended: dict[Pair, int] = {}
    for run in runs:
        started = [s.started_ms for s in run.facts.sessions[:1] if s.started_ms is not None]
        if run.records and started:
            begun[run.pair] = min(started[0], begun.get(run.pair, started[0]))
            ended[run.pair] = max(
                started[0], run.records.column("ts_ms")[-1], ended.get(run.pair, 0)
            )
    ordered = sorted(begun, key=lambda pair: begun[pair])
    late: list[Pair] = []
    over = 0  # when all pairs before had ended
    for place, pair in enumerate(ordered):
        if place and begun[pair] - over > PAUSE_MS:
            late = ordered[place:]  # of several pauses, the last one
        over = max(over, ended[pair])
    if not late or looks > 1:
        return []
    told = ", ".join(str(seed) for seed, _ in sorted(late))
    return [
        f"Seeds {told} were begun after all others were finished. If results had been looked at by then, "
        "say so with --looks 2: each look spends an equal part of the level."
    ]


def session_notes(runs: Sequence[Run]) -> list[str]:
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


def pause_notes(series: Sequence[Series]) -> list[str]:
    """Cycles in which the process was stopped or the machine slept: their times are nobody's."""
    notes = []
    for item in series:
        paused = [
            seconds
            for run in item.runs
            for seconds in run.records.column("time.paused_s")
            if seconds
        ]
        if paused:
            notes.append(
                f"{item.label}: in {len(paused)} cycles the process was stopped, or the machine slept (up "
                f"to {max(paused):.1f} s); they are left out of all times."
            )
    return notes


#: Equal work whose times differ by more than this says something of the machine, not of the strategy.
MOST_APART = 4 / 3

#: Seconds of selection in a run below which its times are the clock's and the cache's.
LEAST_S = 0.02


def time_notes(series: Sequence[Series]) -> list[str]:
    """Whether runs of a strategy took unlike times for equal work (by counters): then times say little."""
    apart: list[tuple[float, str]] = []
    for item in series:
        low, high = _ends_of_equal_work(item.runs)
        if low >= LEAST_S and high > MOST_APART * low:
            apart.append((high / low, f"{item.label} {low:.2g} to {high:.2g} s"))
    if not apart:
        return []
    worst = max(apart)
    loads = [
        load
        for item in series
        for run in item.runs
        for load in run.records.column("time.load")
        if load is not None
    ]
    told = f"; the machine's load was {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    return [
        f"Times are not comparable: the same counted work took {worst[0]:.1f} times as long in one run as in "
        f"another ({worst[1]}{told}). {len(apart)} of {len(series)} strategies differ by more than a third. "
        "Measure times alone: 'alharness timing', or a sweep with --jobs 1 on a quiet machine."
    ]


def shared_card_notes(series: Sequence[Series]) -> list[str]:
    """Selections on a card that computed for several runs at once."""
    at_once = {
        session.hardware.get("runs_on_card", 1)
        for item in series
        for run in item.runs
        for session in run.sessions
    }
    if at_once <= {1}:
        return []
    told = " or ".join(map(str, sorted(at_once)))
    return [
        f"Runs shared a card ({told} at once), which computes for them in turns: their seconds hold the "
        "others' work and are no times of a strategy. Measure times alone: 'alharness timing', or a sweep "
        "with --jobs 1."
    ]


def _ends_of_equal_work(runs: Sequence[Run]) -> tuple[float, float]:
    """Least and most seconds of selection over the cycles in which all runs counted the same work."""
    counted = [run.records.by_name("work") for run in runs]
    names = sorted(set().union(*counted))
    # One run has nobody to differ from, and without counters nothing shows that work was equal.
    if len(runs) < 2 or not names:
        return 0.0, 0.0
    # Cycle by cycle the values of all counters, None for one that a run has not. Cycles count from 0.
    works = [
        list(zip(*(found.get(name) or [None] * len(run.records) for name in names), strict=True))
        for run, found in zip(runs, counted, strict=True)
    ]
    equal = [
        cycle
        for cycle in sorted(set.intersection(*(set(run.records.timed) for run in runs)))
        if any(count is not None for count in works[0][cycle])
        and all(work[cycle] == works[0][cycle] for work in works)
    ]
    seconds = [run.records.column("time.select_s") for run in runs]
    sums = [sum(found[cycle] or 0.0 for cycle in equal) for found in seconds]
    return min(sums), max(sums)


def preparation_notes(series: Sequence[Series]) -> list[str]:
    """What strategies put in the place of the problem's own: their figures follow from it, too."""
    found: dict[str, set[str]] = defaultdict(set)
    for item in series:
        for run in item.runs:
            found[item.label].update(run.facts.strategy.adapted)
    return [
        f"{label} was prepared with {', '.join(sorted(parts))} of its own in place of the data set's or the "
        "protocol's: its figures follow from that, too."
        for label, parts in found.items()
        if parts
    ]


def _changes(run: Run) -> str:
    """What differs between the sessions of a run: ``threads 1, then 2``; empty when nothing does."""
    if len(run.sessions) < 2:
        return ""
    facts = [
        {
            **session.hardware,
            **session.versions,
            "commit": session.checkout,
            "strategy from": session.distribution,
        }
        for session in run.sessions
    ]
    parts = []
    for name in dict.fromkeys(name for found in facts for name in found):
        values = [str(found.get(name, NOT_RECORDED)) for found in facts]
        # Going back to the first machine is a change as well.
        changed = [v for i, v in enumerate(values) if i == 0 or v != values[i - 1]]
        if len(changed) > 1:
            parts.append(f"{name} {', then '.join(changed)}")
    return ", ".join(parts)


def _minority(digests: Mapping[str, list[str]]) -> list[str]:
    """Everybody outside the largest group."""
    largest = max(digests, key=lambda digest: len(digests[digest]))
    return [label for digest, labels in digests.items() if digest != largest for label in labels]
