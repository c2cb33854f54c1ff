"""One self-contained HTML file from comparisons, with figures and tables beside it as files.

Says first how much of the sweep it rests on. Sentences follow rules of fair comparison: no ranking without
baseline and bound, no "significant" below six pairs, no times across machines.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from alharness import __version__
from alharness.analysis import figures, metrics, statistics
from alharness.analysis.comparison import Comparison, Series
from alharness.analysis.figures import Cell, Chart, as_csv
from alharness.analysis.metrics import TARGETS, Row
from alharness.analysis.paper import Verdict
from alharness.analysis.runs import AXES, METRICS
from alharness.analysis.statistics import ALPHA, MIN_PAIRS, PairedTest

#: Fewest data sets for a critical-difference diagram.
MIN_TASKS = 3


@dataclass(frozen=True)
class Table:
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


@dataclass(frozen=True)
class Section:
    """One comparison, worked out."""

    comparison: Comparison
    anchor: str
    facts: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...]
    rows: tuple[Row, ...]

    @property
    def by_name(self) -> dict[str, Table | Chart]:
        items: list[Table | Chart] = [*self.tables, *self.charts]
        return {item.name: item for item in items}


@dataclass(frozen=True)
class Report:
    """A whole report, not yet written.

    Attributes:
        heading, note: of the sweep.
        status: one sentence on how complete it is.
        complete: whether every run that belongs to it is finished.
        sections: one per comparison.
        across: tables and charts over all data sets.
        claims: the paper's claims beside what was measured; empty unless asked for.
        provenance: hardware, versions, fingerprints.
    """

    heading: str
    note: str
    status: str
    complete: bool
    sections: tuple[Section, ...]
    across: tuple[Table | Chart, ...]
    claims: tuple[Verdict, ...]
    provenance: tuple[Table, ...]


def number(value: float | None, digits: int = 4) -> str:
    """A number for a table; a dash for what does not exist, a word for what was never reached."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "never"
    return f"{value:.{digits}f}"


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign."""
    return "–" if not math.isfinite(value) else f"{value:+.{digits}f}"


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


def build(
    found: Sequence[Comparison],
    *,
    heading: str,
    note: str = "",
    axis: str = "queries",
    metric: str = "accuracy",
    against: str | None = None,
    claims: Sequence[Verdict] = (),
) -> Report:
    """Work everything out.

    Args:
        found: comparisons.
        heading, note: of the sweep.
        axis: x-axis of curves, areas and positions.
        metric: test figure that strategies are compared by.
        against: strategy that the others are tested against; the random baseline by default.
        claims: the paper's claims, checked.
    """
    sections = tuple(
        _section(comparison, f"c{i}", axis, metric, against) for i, comparison in enumerate(found)
    )
    complete, status = _status(found)
    return Report(
        heading, note, status, complete, sections, _across(found, axis, metric), tuple(claims),
        _provenance(found),
    )  # fmt: skip


def _status(found: Sequence[Comparison]) -> tuple[bool, str]:
    """How complete the runs are, in a sentence."""
    n_finished = sum(len(c.runs) + len(c.bounds) for c in found)
    states: dict[str, int] = defaultdict(int)
    for comparison in found:
        for item in comparison.left_out:
            states[item.state] += 1
    repeated = states.pop("repeated", 0)
    total = n_finished + sum(states.values())
    more = f" {repeated} repeated runs count once." if repeated else ""
    if not states:
        return True, f"Complete: all {total} runs are finished.{more}"
    parts = [
        f"{states[name]} {name}" for name in ("failed", "unfinished", "not started") if states[name]
    ]
    return False, (
        f"Incomplete: {n_finished} of {total} runs are finished; {', '.join(parts)}. "
        f"Everything below rests on finished runs only.{more}"
    )


def _section(
    comparison: Comparison, anchor: str, axis: str, metric: str, against: str | None
) -> Section:
    rows: list[Row] = []
    tables: list[Table] = []
    charts: list[Chart | None] = []
    sentences: list[str] = []
    warnings = list(comparison.notes)
    if why := comparison.why_no_ranking():
        warnings.insert(0, why)
    if comparison.left_out:
        tables.append(
            Table(
                "left_out",
                "Runs that take no part",
                ("run", "state", "reason"),
                tuple((item.run, item.state, item.reason) for item in comparison.left_out),
            )
        )
    if comparison.series:
        rows = metrics.table(comparison, axis=axis, metric=metric, against=against)
        reference = against or (comparison.baseline.label if comparison.baseline else "")
        warnings += _seed_warnings(comparison)
        sentences = _sentences(rows, reference, metric)
        tables += [
            _results(comparison, rows, axis, metric),
            *_reached(comparison, rows, axis, reference),
            *_tests(rows, reference, metric),
        ]
        imbalanced = metrics.is_imbalanced(comparison)
        charts.append(figures.learning_curves(comparison, axis=axis, metric=metric))
        if imbalanced:
            warnings.append(
                "The classes of the test set are uneven: read balanced accuracy and average precision, "
                "not accuracy."
            )
            charts += [
                figures.learning_curves(comparison, axis=axis, metric=other)
                for other in ("balanced_accuracy", "average_precision")
                if other != metric
            ]
        if reference:
            base = comparison.find(reference)
            charts.append(figures.gain_curves(comparison, base, axis=axis, metric=metric))
            charts.append(figures.differences(rows, reference))
        charts += [figures.entropy_curves(comparison, axis=axis), figures.class_balance(comparison)]
        found = metrics.penalties(comparison, axis=axis, metric=metric)
        if found is not None:
            charts.append(figures.penalty_matrix(found))
        tables += _preparations(comparison)
        different = comparison.hardware_differences()
        if different:
            told = "; ".join(f"{key}: {', '.join(values)}" for key, values in different.items())
            warnings.append(
                f"Times are not shown, because the runs come from different machines or settings ({told})."
            )
        else:
            charts += [
                figures.accuracy_against_time(comparison, metric=metric),
                figures.selection_times(comparison),
            ]
            tables += [_times(comparison, rows), *_break_even(comparison)]
    return Section(
        comparison, anchor, tuple(_facts(comparison)), tuple(sentences), tuple(warnings),
        tuple(tables), tuple(chart for chart in charts if chart is not None), tuple(rows),
    )  # fmt: skip


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """What the comparison is about, in a few lines."""
    runs = [*comparison.runs, *comparison.bounds]
    if not runs:
        return []
    run = runs[0]
    task = run.environment.get("task", {})
    spec = run.spec
    seeds = sorted({run.pair for run in comparison.runs})
    learner = spec.get("learner", {})
    facts = [
        ("pool / test", f"{task.get('n_pool', '?')} / {task.get('n_test', '?')} items"),
        (
            "annotations",
            f"{spec.get('initial_size')} at the start, {spec.get('query_size')} per cycle, "
            f"{spec.get('budget')} in all",
        ),
        ("classifier", str(learner.get("kind", "?"))),
        ("profile", ", ".join(sorted({str(r.spec.get("profile", "?")) for r in runs}))),
        (
            "seeds",
            f"{len(seeds)} ({', '.join(str(pair[0]) for pair in seeds)})" if seeds else "none",
        ),
        ("data fingerprint", str(task.get("fingerprint", "?"))),
    ]
    facts += [(str(key), str(value)) for key, value in task.get("notes", {}).items()]
    return facts


def _seed_warnings(comparison: Comparison) -> list[str]:
    counts = {series.label: len(series.runs) for series in comparison.series}
    warnings = []
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{label} {n}" for label, n in counts.items())
        warnings.append(
            f"Strategies have different numbers of finished runs ({told}); tests use shared seeds."
        )
    fewest = min(counts.values())
    if fewest < MIN_PAIRS:
        warnings.append(
            f"Fewer than {MIN_PAIRS} seeds: nothing can be called significant here, whatever it looks like."
        )
    elif fewest < 10:
        warnings.append("Claims should rest on ten seeds or more.")
    return warnings


def _sentences(rows: Sequence[Row], reference: str, metric: str) -> list[str]:
    """What the tests say, one sentence per strategy, largest difference first."""
    tested = [(row.label, row.against) for row in rows if row.against is not None]
    tested.sort(key=lambda item: -abs(item[1].mean) if math.isfinite(item[1].mean) else 0.0)
    return [sentence(label, reference, test, metric) for label, test in tested]


def sentence(label: str, reference: str, test: PairedTest, metric: str = "accuracy") -> str:
    """A paired test in words that claim no more than it shows."""
    name = METRICS[metric]
    if test.n == 0:
        return f"{label} shares no seed with {reference}: nothing can be said."
    ahead = "above" if test.mean > 0 else "below"
    size = f"{abs(test.mean):.4f}"
    if test.significant:
        return (
            f"{label} is {ahead} {reference} by {size} of mean {name} over the budget "
            f"({test.n} pairs, Holm p {p_value(test.p_holm)}): significant."
        )
    text = (
        f"{label} is {ahead} {reference} by {size} on {test.n} {'pair' if test.n == 1 else 'pairs'}"
    )
    if test.n < MIN_PAIRS:
        return f"{text}: too few pairs to decide anything (at least {MIN_PAIRS} are needed)."
    if test.smallest > ALPHA:
        return (
            f"{text}: with so many comparisons {test.n} pairs could not reach the level "
            f"(smallest possible p {p_value(test.smallest)}); {_more(test)}"
        )
    return (
        f"{text}: not decided (Holm p {p_value(test.p_holm)}). A true difference of "
        f"{number(test.detectable)} would have been found in four of five such experiments; {_more(test)}"
    )


def _more(test: PairedTest) -> str:
    if test.more_pairs is None:
        return "no reachable number of seeds would decide a difference of this size."
    seeds = "one more seed" if test.more_pairs == 1 else f"about {test.more_pairs} more seeds"
    return f"{seeds} would decide one of the observed size."


def _results(comparison: Comparison, rows: Sequence[Row], axis: str, metric: str) -> Table:
    imbalanced = metrics.is_imbalanced(comparison)
    header = [
        "strategy",
        "runs",
        f"area under the curve ({AXES[axis][1]})",
        "95 % interval",
        f"final {METRICS[metric]}",
        "95 % interval",
    ]
    if comparison.can_rank:
        header.insert(0, "rank")
    if imbalanced:
        header += ["final balanced accuracy", "final average precision"]
    header += ["entropy of queries (nats)"]
    if any(row.synthetic for row in rows):
        header += ["synthetic labels"]
    cells = []
    for row in rows:
        line = [
            row.label, str(row.n), number(row.aubc), _range(row.aubc_low, row.aubc_high),
            number(row.final), _range(row.final_low, row.final_high),
        ]  # fmt: skip
        if comparison.can_rank:
            line.insert(0, str(row.rank) if row.rank is not None else "–")
        if imbalanced:
            line += [
                number(row.figures["balanced_accuracy"]),
                number(row.figures["average_precision"]),
            ]
        line += [number(row.entropy, 3)]
        if any(other.synthetic for other in rows):
            line += [f"{100 * row.synthetic:.0f} %"]
        cells.append(tuple(line))
    bound = comparison.bound(metric)
    if bound is not None:
        line = ["fully supervised (bound)", str(len(comparison.bounds)), "–", "–", number(bound)]
        line = ["", *line] if comparison.can_rank else line
        if imbalanced:
            line += [
                "–",
                number(comparison.bound("balanced_accuracy")),
                number(comparison.bound("average_precision")),
            ]
        cells.append(tuple(line + ["–"] * (len(header) - len(line))))
    order = (
        "ranked by area over the shared seeds" if comparison.can_rank else "in alphabetical order"
    )
    return Table("results", f"Results, {order}", tuple(header), tuple(cells))


def _range(low: float, high: float) -> str:
    return "–" if math.isnan(low) else f"{low:.4f} to {high:.4f}"


def _reached(comparison: Comparison, rows: Sequence[Row], axis: str, reference: str) -> list[Table]:
    """Labels to reach shares of the bound, and how many times fewer than the baseline."""
    if not any(row.reached for row in rows):
        return []
    header = ["strategy"]
    for target in TARGETS:
        header += [f"to {100 * target:.0f} % of the bound", f"{reference} needs"]
    cells = []
    for row in rows:
        line = [row.label]
        for target in TARGETS:
            ratio = row.efficiency.get(target, float("nan"))
            times = "more, if ever" if math.isinf(ratio) else f"{number(ratio, 2)} times"
            line += [number(row.reached[target], 0), "–" if math.isnan(ratio) else times]
        cells.append(tuple(line))
    caption = (
        f"Median {AXES[axis][1]} until a share of the fully supervised figure is first reached"
    )
    return [Table("labels_to_target", caption, tuple(header), tuple(cells))]


def _tests(rows: Sequence[Row], reference: str, metric: str) -> list[Table]:
    tested = [(row.label, row.against) for row in rows if row.against is not None]
    if not tested:
        return []
    cells = tuple(
        (
            label,
            str(test.n),
            signed(test.mean),
            "–" if math.isnan(test.low) else f"{test.low:+.4f} to {test.high:+.4f}",
            p_value(test.p) if test.n >= MIN_PAIRS else "–",
            p_value(test.p_holm) if test.n >= MIN_PAIRS else "–",
            _verdict(test),
            number(test.detectable) if math.isfinite(test.detectable) else "–",
            "–" if test.more_pairs is None else str(test.more_pairs),
        )
        for label, test in tested
    )
    header = (
        "strategy", "pairs", "mean difference", "95 % interval", "p", "p (Holm)", "verdict",
        "detectable difference", "more seeds to decide",
    )  # fmt: skip
    caption = (
        f"Paired comparison with {reference}: area under the {METRICS[metric]} curve, exact Wilcoxon test, "
        f"Holm's correction over {len(tested)} {'comparison' if len(tested) == 1 else 'comparisons'}"
    )
    return [Table("tests", caption, header, cells)]


def _verdict(test: PairedTest) -> str:
    if test.n < MIN_PAIRS:
        return "too few pairs"
    if not test.significant:
        return "not decided"
    return "significantly above" if test.mean > 0 else "significantly below"


def _preparations(comparison: Comparison) -> list[Table]:
    """One-off costs with the quality of what they built: read generative results beside them."""
    cells = []
    for series in comparison.series:
        entries: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for run in series.runs:
            for entry in run.preparation:
                entries[str(entry["name"])].append(entry)
        for name, found in entries.items():
            cells.append(
                (
                    series.label,
                    name,
                    seconds(float(np.mean([entry["seconds"] for entry in found]))),
                    f"{sum(bool(entry['cached']) for entry in found)} of {len(found)}",
                    _details([entry["details"] for entry in found]),
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
        Table("preparation", "Preparation and the quality of what it built", header, tuple(cells))
    ]


def _details(found: Sequence[Mapping[str, Any]]) -> str:
    from alharness.analysis.runs import flatten

    values: dict[str, list[Any]] = defaultdict(list)
    for details in found:
        for key, value in flatten(details).items():
            values[key].append(value)
    parts = []
    for key, each in values.items():
        if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in each):
            parts.append(f"{key} {float(np.mean(each)):.4g}")
        elif len({str(v) for v in each}) == 1 and len(str(each[0])) <= 24:
            parts.append(f"{key} {each[0]}")
    return ", ".join(parts)


def _times(comparison: Comparison, rows: Sequence[Row]) -> Table:
    by_label = {row.label: row for row in rows}
    counters = {series.label: metrics.work_per_query(series) for series in comparison.series}
    names = sorted({name for found in counters.values() for name in found})
    cells = []
    for series in comparison.series:
        row = by_label[series.label]
        fit = float(np.mean([record.time.fit_s for run in series.runs for record in run.records]))
        cells.append(
            (
                series.label,
                seconds(row.select_s),
                seconds(fit),
                seconds(row.preparation_s) if row.preparation_s else "none",
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
    return Table("times", "Time, and exact work per selection", header, tuple(cells))


def _break_even(comparison: Comparison) -> list[Table]:
    """After how many cycles a dear preparation has paid for itself."""
    prepared = [s for s in comparison.series if any(run.preparation_s > 0 for run in s.runs)]
    others = [s for s in comparison.series if metrics.select_seconds(s) > 0]
    if not prepared:
        return []
    cells = tuple(
        (first.label, *(_cycles(first, second) for second in others)) for first in prepared
    )
    caption = "Cycles after which the row's preparation has paid for itself against the column"
    return [Table("break_even", caption, ("strategy", *(s.label for s in others)), cells)]


def _cycles(first: Series, second: Series) -> str:
    if first is second:
        return ""
    value = metrics.break_even(first, second)
    if math.isnan(value):
        return "cheaper at first only"
    if value == 0:
        return "cheaper from the start"
    return "never" if math.isinf(value) else f"{value:,.0f}"


def _across(found: Sequence[Comparison], axis: str, metric: str) -> tuple[Table | Chart, ...]:
    """Friedman's test over data sets, from three on."""
    titles, scores = metrics.scores_over_tasks(found, axis=axis, metric=metric)
    if len(titles) < MIN_TASKS or len(scores) < 2:
        return ()
    test = statistics.rank_test(scores)
    cells = tuple(
        (label, *(number(abs(scores[label][i])) for i in range(len(titles))))
        for label in test.names
    )
    table = Table("across", "Mean area under the curve", ("strategy", *titles), cells)
    return figures.critical_difference(test), table


def _provenance(found: Sequence[Comparison]) -> tuple[Table, ...]:
    """Where the numbers come from: machines, versions, data, implementations."""
    machines: dict[tuple[str, str], int] = defaultdict(int)
    origins: set[tuple[str, str, str]] = set()
    for comparison in found:
        for run in [*comparison.runs, *comparison.bounds]:
            environment = run.environment
            hardware = ", ".join(f"{k} {v}" for k, v in environment.get("hardware", {}).items())
            versions = ", ".join(f"{k} {v}" for k, v in environment.get("versions", {}).items())
            machines[(hardware, versions)] += 1
            origin = environment.get("strategy", {}).get("distribution", "?")
            commit = str(environment.get("git_commit", ""))[:12]
            if str(environment.get("git_commit", "")).endswith("+changes"):
                commit += " with changes"
            origins.add((run.strategy, str(origin), commit))
    return (
        Table(
            "machines",
            "Hardware and versions",
            ("hardware", "versions", "runs"),
            tuple((*key, str(n)) for key, n in sorted(machines.items())),
        ),
        Table(
            "origins",
            "Implementations",
            ("strategy", "from", "commit"),
            tuple(sorted(origins)),
        ),
    )


def render(report: Report) -> str:
    """The report as one HTML page without any reference to the outside."""
    environment = Environment(
        loader=PackageLoader("alharness.analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg"] = lambda chart: Markup(_labelled_svg(chart))
    return environment.get_template("report.html.jinja").render(report=report, version=__version__)


def _labelled_svg(chart: Chart) -> str:
    """The picture with a name for screen readers; it scales with the page."""
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", chart.svg, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    width = re.search(r'viewBox="0 0 ([\d.]+)', chart.svg)
    style = f'style="max-width:{float(width[1]) * 4 / 3:.0f}px"' if width else ""
    return text.replace("<svg", f'<svg role="img" aria-label="{chart.name}" {style}', 1)


def write(report: Report, folder: Path) -> Path:
    """Write ``report.html``, ``figures/`` and ``tables/``; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for section in report.sections:
        sub = _safe(section.comparison.title) if len(report.sections) > 1 else ""
        for chart in section.charts:
            chart.write(folder / "figures" / sub)
        _write_text(folder / "tables" / sub / "figures_of_merit.csv", merit_csv([section]))
        for table in section.tables:
            _write_text(
                folder / "tables" / sub / f"{table.name}.csv", as_csv(table.header, table.rows)
            )
    for item in report.across:
        if isinstance(item, Chart):
            item.write(folder / "figures")
        else:
            _write_text(folder / "tables" / f"{item.name}.csv", as_csv(item.header, item.rows))
    if report.claims:
        _write_text(
            folder / "claims.json",
            json.dumps(
                [verdict.as_dict() for verdict in report.claims], indent=2, ensure_ascii=False
            )
            + "\n",
        )
    page = folder / "report.html"
    _write_text(page, render(report))
    return page


def merit_csv(sections: Sequence[Section]) -> str:
    """All figures of merit of all comparisons in full precision, one line per strategy."""
    header = ["comparison", *Row.columns()]
    lines: list[list[Cell]] = []
    for section in sections:
        for row in section.rows:
            values = row.values()
            lines.append([section.comparison.title, *(values[name] for name in header[1:])])
    return as_csv(header, lines)


def _safe(title: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in title).strip("-.")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
