"""How often would a second laboratory repeat a verdict? ``replication.py RECORDS [--size 10 20]``.

Draws many small studies, seeds without replacement, from a large one's published records, judges each by
the policy of ``docs/protocol.md`` (exact Wilcoxon test, Holm's correction over the table), and counts how
often each verdict falls, how often two studies of disjoint seeds agree, and what the studies foretold
("repeated with probability"). Two studies of one large one share task, data and machine: laboratories
differ in more, so that the shares are upper bounds.

    python benchmarks/replication.py benchmarks/results/records/replication.tar.xz
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import alharness
from alharness.comparison.paired_tests import PairedTest, paired_tests
from alharness.comparison.series import Series

WORDS = {1: "above", 0: "not decided", -1: "below"}


def differences(records: Path, against: str) -> dict[str, NDArray[np.float64]]:
    """Area of each strategy less that of one, by strategy, ``[seeds]`` over the seeds that all have."""
    (section,) = alharness.compare(published=records).report.sections
    found = section.comparison
    base = found.find(against)
    pairs, areas = found.common_pairs(), found.areas("queries", "accuracy")

    def of(series: Series) -> NDArray[np.float64]:
        return np.array([areas[id(series.by_pair[pair])] for pair in pairs])

    return {item.label: of(item) - of(base) for item in found.series if item is not base}


def word(test: PairedTest) -> str:
    """A verdict of the table."""
    return WORDS[test.direction if test.significant else 0]


def study(gaps: Mapping[str, NDArray[np.float64]], at: NDArray[np.int64]) -> dict[str, PairedTest]:
    """The table that a study with these seeds would have printed."""
    return paired_tests({name: values[at] for name, values in gaps.items()})


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("records", type=Path)
    parser.add_argument("--against", default="random", help="a strategy")
    parser.add_argument(
        "--size", type=int, nargs="+", default=[6, 8, 10, 20], help="seeds of a study"
    )
    parser.add_argument("--studies", type=int, default=1000, help="pairs of studies")
    asked = parser.parse_args()
    gaps = differences(asked.records, asked.against)
    n = len(next(iter(gaps.values())))
    whole = paired_tests(gaps)
    print(f"{n} seeds, {asked.studies} pairs of studies with disjoint seeds\n")
    print(
        "| strategy | all seeds | seeds of a study | above | not decided | below | "
        "two studies agree | foretold |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    for size in asked.size:
        if 2 * size > n:
            raise SystemExit(
                f"--size {size}: two disjoint studies need {2 * size} seeds, there are {n}."
            )
        rng = np.random.default_rng(0)
        words: dict[str, Counter[str]] = {name: Counter() for name in gaps}
        agree: Counter[str] = Counter()
        foretold: dict[str, list[float]] = {name: [] for name in gaps}
        for _ in range(asked.studies):
            order = rng.permutation(n)
            first, second = study(gaps, order[:size]), study(gaps, order[size : 2 * size])
            for name in gaps:
                words[name][word(first[name])] += 1
                agree[name] += word(first[name]) == word(second[name])
                foretold[name].append(first[name].replication)
        for name in gaps:
            told = f"{whole[name].mean:+.4f} [{whole[name].low:+.4f}, {whole[name].high:+.4f}]"
            shares = " | ".join(
                f"{words[name][one] / asked.studies:.2f}"
                for one in ("above", "not decided", "below")
            )
            print(
                f"| {name} | {told} | {size} | {shares} | {agree[name] / asked.studies:.2f} | "
                f"{np.mean(foretold[name]):.2f} |"
            )


if __name__ == "__main__":
    main()
