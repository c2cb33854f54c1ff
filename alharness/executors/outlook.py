"""What a sweep will be able to tell, before it costs hours: strategies, seeds, and what they can decide."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

from alharness.comparison.comparison import BASELINE, BOUND
from alharness.comparison.grouping import intended
from alharness.comparison.levels import ALPHA, MIN_PAIRS
from alharness.comparison.power import minimum_detectable
from alharness.comparison.protocol import differing_fields, split_value, told_value
from alharness.comparison.signed_ranks import smallest_p
from alharness.executors.sweeps import Job
from alharness.records import Run
from alharness.records.facts import RunFacts, StrategyFacts
from alharness.registry import STRATEGIES, find_strategy, identity_of
from alharness.spec import protocol_fields

#: Names that are listed one by one; of more, so many stand for all.
LISTED = 8


def outlook(jobs: Sequence[Job], split_by: Sequence[str] = ()) -> list[str]:
    """Some lines for each comparison of a sweep: what will be run, and what it can decide.

    Args:
        jobs: all runs of the sweep, made or not.
        split_by: settings that make comparisons of their own, as the sweep's file names them.
    """
    by_task: dict[str, list[Run]] = defaultdict(list)
    for run in _planned(jobs):
        by_task[run.task].append(run)
    groups: list[tuple[str, list[Run]]] = []
    refused = []
    for task, members in by_task.items():
        for title, runs in _split(task, members, split_by):
            fields = differing_fields(runs)
            groups += _split(title, runs, list(fields)) if fields else [(title, runs)]
            if fields:
                refused.append(
                    f"  ! {title}: runs differ in {', '.join(fields)}, and compare refuses them together: "
                    f"split_by = {json.dumps([*split_by, *fields])} at the top of the file, or --split-by."
                )
    lines = []
    for title, runs in groups[:LISTED]:
        lines += _of_comparison(title, runs)
    if len(groups) > LISTED:
        lines.append(f"and {len(groups) - LISTED} more comparisons (other data sets or settings)")
    return lines + refused


def _planned(jobs: Sequence[Job]) -> list[Run]:
    """Jobs as runs without records, which the comparison's own rules sort."""
    kinds: dict[str, Run] = {}
    found = []
    for job in jobs:
        # Runs that differ in their seeds alone are read off the first one.
        kind = job.spec.model_dump_json(exclude={"seed": True, "data_seed": True})
        if kind not in kinds:
            protocol = protocol_fields(job.spec, "")
            # A bound that looks at the test set's labels is compared with nobody, here as there.
            judged = find_strategy(job.spec.strategy.name).cls.looks_at_test_labels
            strategy = StrategyFacts(looks_at_test_labels=judged)
            facts = RunFacts(protocol=protocol, strategy=strategy)
            kinds[kind] = Run(job.folder.path, job.facts, facts)
        seeds = {"seed": job.spec.seed, "data_seed": job.spec.data_seed}
        spec = kinds[kind].spec.model_copy(update=seeds)
        found.append(replace(kinds[kind], folder=job.folder.path, spec=spec))
    return found


def _split(
    task: str, runs: Sequence[Run], split_by: Sequence[str]
) -> Iterator[tuple[str, list[Run]]]:
    """A task's runs by the settings that make comparisons of their own, under a title."""
    groups: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[tuple(split_value(run, name) for name in split_by)].append(run)
    for values, members in groups.items():
        told = [
            f"{name} {told_value(value, [key[place] for key in groups])}"
            for place, (name, value) in enumerate(zip(split_by, values, strict=True))
        ]
        yield ", ".join([task, *(told if len(groups) > 1 else ())]), members


def _of_comparison(title: str, runs: Sequence[Run]) -> list[str]:
    spec = runs[0].spec
    rest = [run for run in runs if run.strategy != BOUND and not run.is_judged]
    has_bound = any(run.strategy == BOUND for run in runs)
    upper = list(dict.fromkeys(run.strategy for run in runs if run.is_judged))
    planned = intended(rest)
    seeds = {name: {run.pair for run in members} for name, members in planned.items()}
    others = [name for name in seeds if name != BASELINE]
    pairs = [len(seeds[name] & seeds.get(BASELINE, set())) for name in others]
    lines = [
        f"{title}: {spec.initial_size} labels at the start, {spec.query_size} a cycle, "
        f"{spec.budget} in all; {len(runs)} runs",
        f"  strategies  {_listed([*seeds, *upper, *([BOUND] if has_bound else [])])}",
        f"  seeds       {_told({run.pair for run in rest or runs})}",
    ]
    if BASELINE not in seeds:
        lines.append(
            f"  ! '{BASELINE}' is missing: nothing is tested, unless compare --against names another one."
        )
    elif others:
        lines.append(f"  {decides(min(pairs), len(others))}")
        lines += _one_on_two_classes({name: members[0] for name, members in planned.items()})
    if not has_bound:
        lines.append(
            f"  ! '{BOUND}' is missing: nothing is ranked, and no label is told as a share of the bound. One "
            "seed of it is enough."
        )
    return lines


def _one_on_two_classes(runs: Mapping[str, Run]) -> list[str]:
    """Strategies whose scores order two classes alike: there compare counts them as one comparison."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for name, run in runs.items():
        order = _order_of_two_classes(run)
        if order is not None:
            groups[order].append(name)
    return [
        f"  {', '.join(names)} ask the same where there are two classes: they count once there."
        for names in groups.values()
        if len(names) > 1
    ]


def _order_of_two_classes(run: Run) -> Hashable | None:
    """What a strategy of ours asks for by its scores alone; None for any other one.

    The score of somebody's plug-in is not called here: a run watches it, and this does not.
    """
    import torch

    from alharness.strategy import NarrowingStrategy, ScoreStrategy

    if identity_of(STRATEGIES, run.strategy):
        return None
    plugin = innermost = find_strategy(run.strategy)
    while innermost.inner is not None:
        innermost = innermost.inner
    kind = innermost.cls
    if not issubclass(kind, ScoreStrategy) or kind.select is not ScoreStrategy.select:
        return None
    strategy, around = plugin.make(**run.parameters), list[str]()
    while isinstance(strategy, NarrowingStrategy):
        around.append(f"{type(strategy).__qualname__} {strategy.number} {strategy.own!r}")
        strategy = strategy.inner
    if not isinstance(strategy, kind) or kind.candidates is not ScoreStrategy.candidates:
        return None
    p = torch.linspace(0.5, 0.99, 50, dtype=torch.float64)
    by_class = [torch.stack(pair, 1).log() for pair in ((p, 1 - p), (1 - p, p))]
    of_first, of_second = (strategy.score(log_p) for log_p in by_class)
    if not torch.allclose(of_first, of_second):  # it prefers a class: data decide what it asks
        return None
    return (*around, *of_first.argsort().tolist())


def decides(n_pairs: int, n_comparisons: int) -> str:
    """What so many seeds can decide among so many comparisons with the baseline."""
    level = ALPHA / max(n_comparisons, 1)
    among = "1 comparison" if n_comparisons == 1 else f"{n_comparisons} comparisons"
    seeds = "1 seed" if n_pairs == 1 else f"{n_pairs} seeds"
    if n_pairs < MIN_PAIRS or smallest_p(n_pairs) > level:
        least = next(n for n in range(MIN_PAIRS, 64) if smallest_p(n) <= level)
        # Holm's first step asks for the strictest level.
        why = f"With {seeds} and {among} nothing can be significant"
        return f"! {why}: {least} seeds are the fewest that can."
    size = minimum_detectable(1.0, n_pairs, alpha=level)
    unit = "standard deviations of the paired differences"
    told = f": a difference of {size:.1f} {unit} is found in four of five studies"
    return f"{seeds} can decide {among}{told}."


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{len(names)}: {', '.join(names[:LISTED])}{more}"


def _told(pairs: set[tuple[int, int]]) -> str:
    """``6 (0 to 5)``."""
    seeds = sorted({seed for seed, _ in pairs})
    if seeds == list(range(seeds[0], seeds[-1] + 1)) and len(seeds) > 2:
        listed = f"{seeds[0]} to {seeds[-1]}"
    else:
        listed = _listed([str(seed) for seed in seeds]).partition(": ")[2]
    return f"{len(seeds)} ({listed})"
