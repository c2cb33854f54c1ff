"""Tables of a comparison as text: figures of merit, tests, costs, and where the numbers come from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from alharness.comparison import metrics
from alharness.comparison.comparison import Comparison
from alharness.comparison.levels import MIN_PAIRS
from alharness.comparison.metrics import TARGETS, ResultRow
from alharness.comparison.paired_tests import PairedTest, n_corrected
from alharness.comparison.series import UPPER, Covered, Series
from alharness.errors import UserError
from alharness.files import flatten
from alharness.records import LedgerEntry, read_conformance
from alharness.records.facts import Session
from alharness.records.folder import CONFORMANCE
from alharness.records.metrics import AXES, as_column


@dataclass(frozen=True)
class TextTable:
    """Cells as text, ready to be shown; the first column is a name.

    Attributes:
        name: file name of the CSV without ending.
        caption: what is shown.
        header: column heads.
        rows: cells.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float | None, digits: int = 4) -> str:
    """A number for a table; a dash for what does not exist, a word for what was never reached."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    return f"{value:.{digits}f}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return "–" if not math.isfinite(value) else f"{value:+.4f}"


def p_value(value: float | None) -> str:
    """A p value: never 0, never more digits than mean something."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def seconds(value: float) -> str:
    """Seconds with a fitting unit."""
    if not math.isfinite(value):
        return "–"
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if value < 600 else f"{value / 60:.3g} min"


def left_out(comparison: Comparison) -> list[TextTable]:
    """Runs that take no part, with their reasons."""
    cells = tuple((item.run, item.state, item.reason) for item in comparison.left_out)
    header = ("run", "state", "reason")
    return [TextTable("left_out", "Runs that take no part", header, cells)] if cells else []


def results(comparison: Comparison, rows: Sequence[ResultRow], axis: str, metric: str) -> TextTable:
    ranked = any(row.rank is not None for row in rows)
    header = [
        "strategy",
        "runs",
        f"area under the curve ({AXES[axis][1]})",
        "95 % interval",
        f"final {comparison.words(metric)}",
        "95 % interval",
    ]
    if ranked:
        header.insert(0, "rank")
    # Accuracy alone hides what happens to the rare class (R7).
    uneven = [name for name in metrics.for_uneven_classes(comparison) if name != metric]
    header += [f"final {as_column(name, comparison.precision_of)}" for name in uneven]
    header += ["entropy of queries (nats)"]
    if any(row["synthetic_share"] for row in rows):
        header += ["synthetic labels"]
    cells = []
    for row in rows:
        line = [
            row.label, str(row["runs"]), number(row["aubc"]),
            _range(row["aubc_low"], row["aubc_high"]),
            number(row["final"]), _range(row["final_low"], row["final_high"]),
        ]  # fmt: skip
        if ranked:
            line.insert(0, str(row.rank))
        line += [number(row[name]) for name in uneven]
        line += [number(row["entropy"], 3)]
        if any(other["synthetic_share"] for other in rows):
            line += [f"{100 * row['synthetic_share']:.0f} %"]
        cells.append(tuple(line))
    bound = comparison.bound(metric)
    if bound is not None:
        line = ["fully supervised (bound)", str(len(comparison.bounds)), "–", "–", number(bound)]
        # No contender: it has no rank, no area and no interval.
        line = ["", *line] if ranked else line
        line += ["–", *(number(comparison.bound(name)) for name in uneven)] if uneven else []
        cells.append(tuple(line + ["–"] * (len(header) - len(line))))
    for item in comparison.upper:
        finals = [float(run.y(metric)[-1]) for run in item.runs]
        line = [
            f"{item.label} {UPPER}",
            str(len(item.runs)),
            "–",
            "–",
            number(float(np.mean(finals))),
        ]
        line = ["", *line] if ranked else line
        cells.append(tuple(line + ["–"] * (len(header) - len(line))))
    pairs = comparison.common_pairs()
    n = len(pairs)
    kind = "seeds" if all(seed == data_seed for seed, data_seed in pairs) else "pairs of seeds"
    shared = "the one seed" if n == 1 else f"the {n} {kind}"
    # The caption says on how much the order rests.
    order = f"ranked by area over {shared} that all share" if ranked else "in alphabetical order"
    caption = f"Results, {order}{_range_told(comparison.covered(axis), AXES[axis][1])}"
    return TextTable("results", caption, tuple(header), tuple(cells))


def _range_told(found: Covered, words: str) -> str:
    """What areas are taken over, in a caption, where that is not all of every curve."""
    if not found.has_area:
        return f"; no area, for the runs share no range of {words}"
    return f"; areas from {found.low:.12g} to {found.high:.12g} {words}" if found.shortened else ""


def _range(low: float, high: float) -> str:
    return "–" if math.isnan(low) else f"{low:.4f} to {high:.4f}"


def reached(
    comparison: Comparison, rows: Sequence[ResultRow], axis: str, reference: str
) -> list[TextTable]:
    """Labels to reach shares of the bound, and how many times fewer than the baseline, if there is one."""
    names = [f"{100 * target:.0f}" for target in TARGETS]
    if all(math.isnan(row[f"reached_{name}"]) for row in rows for name in names):
        return []
    header = ["strategy"]
    for name in names:
        header += [f"to {name} % of the bound", *([f"{reference} needs"] if reference else [])]
    cells = []
    for row in rows:
        line = [row.label]
        for name in names:
            ratio = row[f"efficiency_{name}"]
            times = "more, if ever" if math.isinf(ratio) else f"{number(ratio, 2)} times"
            line.append(number(row[f"reached_{name}"], 0))
            if reference:
                line.append("–" if math.isnan(ratio) else times)
        cells.append(tuple(line))
    caption = (
        f"Median {AXES[axis][1]} until a share of the fully supervised figure is first reached"
    )
    return [TextTable("labels_to_target", caption, tuple(header), tuple(cells))]


def tests(
    rows: Sequence[ResultRow],
    reference: str,
    name: str,
    looks: int = 1,  # noqa: PT028 # no test of pytest's
) -> list[TextTable]:
    tested = [(row.label, row.against) for row in rows if row.against is not None]
    if not tested:
        return []
    n_tests = n_corrected(test for _, test in tested)
    cells = tuple(
        (
            label,
            str(test.n),
            signed(test.mean),
            "–" if math.isnan(test.low) else f"{test.low:+.4f} to {test.high:+.4f}",
            p_value(test.p) if test.n >= MIN_PAIRS else "–",
            p_value(test.p_holm) if test.n >= MIN_PAIRS else "–",
            _verdict(test),
            number(test.replication, 2),
            number(test.detectable) if math.isfinite(test.detectable) else "–",
            "–" if test.more_pairs is None else str(test.more_pairs),
        )
        for label, test in tested
    )
    header = (
        "strategy", "pairs", "mean difference", "95 % interval", "p", "p (Holm)", "verdict",
        "repeated with probability", "detectable difference", "more seeds to decide",
    )  # fmt: skip
    caption = (
        f"Paired comparison with {reference}: area under the {name} curve, exact "
        f"Wilcoxon test, Holm's correction over {n_tests} "
        f"{'comparison' if n_tests == 1 else 'comparisons'}"
        f"{f', every p times {looks} for as many looks' if looks > 1 else ''}"
    )
    return [TextTable("tests", caption, header, cells)]


def _verdict(test: PairedTest) -> str:
    if test.n < MIN_PAIRS:
        return "too few pairs"
    if test.contradictory:
        return "mean and ranks disagree"
    if not test.significant:
        return "not decided"
    return "significantly above" if test.direction > 0 else "significantly below"


def preparations(comparison: Comparison) -> list[TextTable]:
    """One-off costs with the quality of what they built: read generative results beside them."""
    cells = []
    for series in comparison.series:
        entries: dict[str, list[LedgerEntry]] = defaultdict(list)
        for run in series.runs:
            for entry in run.preparation:
                entries[entry.name].append(entry)
        for name, found in entries.items():
            cells.append(
                (
                    series.label,
                    name,
                    seconds(float(np.mean([entry.seconds for entry in found]))),
                    f"{sum(entry.cached for entry in found)} of {len(found)}",
                    _details([entry.details for entry in found]),
                )
            )
    if not cells:
        return []
    header = (
        "strategy",
        "built",
        "time to build",
        "found ready made",
        "facts and quality (mean over runs)",
    )
    return [
        TextTable(
            "preparation", "Preparation and the quality of what it built", header, tuple(cells)
        )
    ]


def _details(found: Sequence[Mapping[str, Any]]) -> str:
    values: dict[str, list[Any]] = defaultdict(list)
    for details in found:
        for key, value in flatten(details).items():
            values[key].append(value)
    parts = []
    for key, each in values.items():
        # True is a number to Python, and its mean would mean nothing.
        if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in each):
            parts.append(f"{key} {float(np.mean(each)):.4g}")
        elif len({str(v) for v in each}) == 1 and len(str(each[0])) <= 24:
            parts.append(f"{key} {each[0]}")
    return ", ".join(parts)


def times(comparison: Comparison, rows: Sequence[ResultRow]) -> TextTable:
    by_label = {row.label: row for row in rows}
    counters = {series.label: metrics.work_per_query(series) for series in comparison.series}
    # Columns for every counter that anybody counts: 0 tells that a strategy does without.
    names = sorted({name for found in counters.values() for name in found})
    cells = []
    for series in comparison.series:
        row = by_label[series.label]
        fit = float(np.mean([s for run in series.runs for s in run.records.column("time.fit_s")]))
        cells.append(
            (
                series.label,
                seconds(row["select_s"]),
                seconds(fit),
                seconds(row["preparation_s"]) if row["preparation_s"] else "none",
                *(f"{counters[series.label].get(name, 0.0):,.0f}" for name in names),
            )
        )
    header = (
        "strategy",
        "per selection",
        "per training",
        "preparation",
        *(n.replace("_", " ") for n in names),
    )
    return TextTable("times", "Time, and exact work per selection", header, tuple(cells))


def break_even(comparison: Comparison) -> list[TextTable]:
    """After how many cycles a dear preparation has paid for itself."""
    prepared = [s for s in comparison.series if any(run.preparation_s > 0 for run in s.runs)]
    # Against those that prepare nothing: between two preparations nothing is paid back.
    others = [s for s in comparison.series if s not in prepared and metrics.select_seconds(s) > 0]
    if not prepared or not others:
        return []
    cells = tuple(
        (first.label, *(_cycles(first, second) for second in others)) for first in prepared
    )
    caption = "Cycles after which the row's preparation has paid for itself against the column"
    return [TextTable("break_even", caption, ("strategy", *(s.label for s in others)), cells)]


def _cycles(first: Series, second: Series) -> str:
    value = metrics.break_even(first, second)
    if math.isnan(value):
        return "cheaper at first only"
    if value == 0:
        return "cheaper from the start"
    return "never" if math.isinf(value) else f"{value:,.0f}"


def provenance(found: Sequence[Comparison]) -> tuple[TextTable, ...]:
    """Where the numbers come from: machines, versions, data, implementations."""
    machines: dict[tuple[str, str], int] = defaultdict(int)
    origins: set[tuple[str, str, str, str]] = set()
    n_continued = 0
    checks = cache(_checks_beside)  # one file for all runs of a root
    for comparison in found:
        for run in [*comparison.runs, *comparison.bounds]:
            places = set()
            home = run.folder.resolve() if run.folder.is_symlink() else run.folder
            for session in run.sessions:
                hardware = ", ".join(f"{k} {v}" for k, v in session.hardware.items())
                versions = ", ".join(f"{k} {v}" for k, v in session.versions.items())
                places.add((hardware, versions))
                contract = _contract(checks(home.parent), run.strategy, session)
                origins.add((run.strategy, session.distribution, session.checkout, contract))
            # Each machine once per run, however many sessions the run had on it.
            for place in places:
                machines[place] += 1
            n_continued += len(places) > 1
    caption = "Hardware and versions"
    if n_continued:
        runs = "1 run" if n_continued == 1 else f"{n_continued} runs"
        caption += f"; {runs}, begun on one and continued on another, in the line of each"
    return (
        TextTable(
            "machines",
            caption,
            ("hardware", "versions", "runs"),
            tuple((*key, str(n)) for key, n in sorted(machines.items())),
        ),
        TextTable(
            "origins",
            "Implementations",
            ("strategy", "from", "commit", "plug-in contract"),
            tuple(sorted(origins)),
        ),
    )


def _checks_beside(folder: Path) -> Any:
    """What ``alharness check`` said, by strategy, kept beside all runs (R18); None where it cannot be read.

    Args:
        folder: where the runs of a strategy lie, ``runs/<data set>/<strategy>``.
    """
    above = folder.resolve().parents
    try:
        return read_conformance(above[1]) if len(above) > 1 else {}
    except UserError:
        return None


def _contract(checks: Any, strategy: str, session: Session) -> str:
    """What a list of checks says of the code that a session ran."""
    try:
        found = checks.get(strategy)
        if found is None:
            return "not checked"
        if found["distribution"] != session.distribution:
            return f"checked as {found['distribution']}"
        if found["failed"]:
            return f"FAILS {', '.join(found['failed'])}"
        same = found["commit"] == session.git_commit
        return f"keeps it ({found['passed']} checks{'' if same else ', at another commit'})"
    except (KeyError, TypeError, AttributeError):
        # A list of checks is no record: its damage leaves the runs what they are.
        return f"unknown: '{CONFORMANCE}' is damaged"
