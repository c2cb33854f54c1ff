"""What a sweep will be able to tell, before it costs hours: strategies, seeds, and what they can decide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from alharness.comparison.comparison import BASELINE, BOUND
from alharness.comparison.levels import ALPHA, MIN_PAIRS
from alharness.comparison.power import minimum_detectable
from alharness.comparison.runs import display_label
from alharness.comparison.signed_ranks import smallest_p
from alharness.executors.sweeps import Job

#: Names that are listed one by one; of more, so many stand for all.
LISTED = 8


def outlook(jobs: Sequence[Job]) -> list[str]:
    """Some lines for each comparison of a sweep: what will be run, and what it can decide.

    A comparison is what agrees in everything but strategy and seeds.
    """
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        groups[_setting(job)].append(job)
    lines = []
    for members in list(groups.values())[:LISTED]:
        lines += _of_comparison(members)
    if len(groups) > LISTED:
        lines.append(f"and {len(groups) - LISTED} more comparisons (other data sets or settings)")
    return lines


def _setting(job: Job) -> str:
    own = {"strategy": True, "seed": True, "data_seed": True, "plugins": True}
    return job.spec.model_dump_json(exclude=own)


def _of_comparison(jobs: Sequence[Job]) -> list[str]:
    spec = jobs[0].spec
    seeds: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for job in jobs:
        chosen = job.spec.strategy
        seeds[display_label(chosen.name, chosen.parameters)].add(
            (job.spec.seed, job.spec.data_seed)
        )
    bounds = [label for label in seeds if label == BOUND]
    others = [label for label in seeds if label not in (BASELINE, BOUND)]
    pairs = [len(seeds[label] & seeds.get(BASELINE, set())) for label in others]
    lines = [
        f"{spec.task.name}: {spec.initial_size} labels at the start, {spec.query_size} a cycle, "
        f"{spec.budget} in all; {len(jobs)} runs",
        f"  strategies  {_listed(list(seeds))}",
        f"  seeds       {_told({pair for each in seeds.values() for pair in each})}",
    ]
    if BASELINE not in seeds:
        lines.append(
            f"  ! '{BASELINE}' is missing: nothing is tested, unless compare --against names another one."
        )
    elif others:
        lines.append(f"  {decides(min(pairs), len(others))}")
    if not bounds:
        lines.append(
            f"  ! '{BOUND}' is missing: nothing is ranked, and no label is told as a share of the bound. One "
            "seed of it is enough."
        )
    return lines


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
