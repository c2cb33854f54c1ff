"""What a comparison is of, in a few lines: data, budget, classifier, seeds."""

from __future__ import annotations

from collections.abc import Sequence

from alharness.comparison.comparison import Comparison
from alharness.records import RunFolder, SpecFacts
from alharness.records.facts import DRAWN, RANDOM_START
from alharness.records.runs import Pair


def facts_of(comparison: Comparison) -> list[tuple[str, str]]:
    """What the comparison is about, in a few lines."""
    runs = [*comparison.runs, *comparison.bounds]
    if not runs:
        return []
    task, spec = runs[0].facts.task, runs[0].spec
    seeds = sorted({run.pair for run in comparison.runs})
    facts = [
        ("pool / test", f"{_told(task.n_pool)} / {_told(task.n_test)} items"),
        (
            "annotations",
            f"{spec.initial_size} at the start{_how_begun(spec)}, {spec.query_size} per cycle, "
            f"{spec.budget} in all",
        ),
        ("classifier", str(spec.learner.get("kind", "?"))),
        ("profile", ", ".join(sorted({r.spec.profile for r in runs}))),
        ("seeds", _seeds_told(seeds)),
        ("data fingerprint", _told(task.fingerprint)),
    ]
    unproven = [r for r in runs if not RunFolder(r.folder).is_proven(r.records)]
    if unproven:
        facts.append(
            (
                "without checksums",
                f"{len(unproven)} of {len(runs)} runs, made before there were any",
            )
        )
    facts += [(str(key), str(value)) for key, value in task.notes.items()]
    return facts


def _how_begun(spec: SpecFacts) -> str:
    """How the initial set was found, where it was not drawn uniformly."""
    if spec.initial.name == RANDOM_START.name:
        return ""
    return f" ({'chosen by ' if spec.initial.name not in DRAWN else ''}{spec.initial.name})"


def _told(fact: object) -> str:
    return "?" if fact is None else str(fact)


def _seeds_told(pairs: Sequence[Pair]) -> str:
    """``3 (0, 1, 2)``; where data seeds are others, both, and how many pairs they make."""
    if not pairs:
        return "none"
    seeds, data_seeds = (sorted({pair[k] for pair in pairs}) for k in (0, 1))
    told = f"{len(seeds)} ({', '.join(map(str, seeds))})"
    if all(seed == data_seed for seed, data_seed in pairs):
        return told
    listed = ", ".join(map(str, data_seeds))
    return f"{told}, data seeds {len(data_seeds)} ({listed}), {len(pairs)} pairs"
