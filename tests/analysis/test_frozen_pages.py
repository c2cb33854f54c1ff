"""What is said of made-up studies stays what it is: every word, digit and border of it.

Other tests compute single figures by hand; here whole pages stand in ``frozen/``, so that a wrong sign, a
forgotten setting or another border shows wherever a page has it. ``ALHARNESS_GOLDEN=write`` writes them
anew: read the difference before it is committed, for each line of it is something that a reader is told.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alharness.comparison import evidence, points_text
from alharness.comparison.claims import check_paper
from alharness.comparison.comparison import comparisons
from alharness.comparison.evidence import Gain
from alharness.comparison.formats import as_latex, as_markdown, as_table
from alharness.comparison.points import points
from alharness.comparison.report import Report, build
from alharness.pictures.canvas import new_figure
from alharness.pictures.charts import Chart
from alharness.records import StopSetFigures, read_runs
from alharness.scaling import claims, costs, estimates, figures
from alharness.scaling.study import Measurement, ScalingSpec, Study
from alharness.stopping import all_rules

HERE = Path(__file__).parent / "frozen"
N_SEEDS, N_CYCLES = 7, 5
RISE = np.array([0.62, 0.74, 0.81, 0.85, 0.87])


def edit(folder: Path, change: Callable[[int, dict[str, Any]], None]) -> None:
    """Lets a function change each record of a run."""
    path = folder / "cycles.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for cycle, record in enumerate(records):
        change(cycle, record)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def curve(strategy: str, seed: int, gain: float) -> list[float]:
    """All of a seed begin alike; digits of their own, so that nothing ties by accident."""
    rng = np.random.default_rng([*strategy.encode(), seed])
    values = RISE + np.array([0.0, *(gain + 0.012 * rng.standard_normal(N_CYCLES - 1))])
    values[0] += 0.003 * seed
    return [round(float(v), 6) for v in values]


def usual(make_run: Any, gains: Mapping[str, float], *, bounds: int = 2, **settings: Any) -> None:
    """Seven seeds of each strategy, and the bound."""
    for name, gain in gains.items():
        for seed in range(N_SEEDS):
            made = {"start": f"start {seed}", "learner": f"first {seed}", **settings}
            folder = make_run(name, seed, curve(name, seed, gain), **made)

            def change(
                cycle: int, record: dict[str, Any], seed: int = seed, name: str = name
            ) -> None:
                test, time = record["test"], record["time"]
                test["log_loss"] = round(1.9 * (1 - test["accuracy"]) ** 1.5, 6)
                test["macro_f1"] = round(test["accuracy"] ** 2, 6)
                record["ts_ms"] += 1000 * seed
                time["fit_s"] = 0.5 + cycle
                if record["query"] is not None:
                    time["select_s"] = (0.05 + 0.01 * cycle) * len(name) / 6
                    time["phases"] = {"score": time["select_s"] / 4, "pick": time["select_s"] / 2}
                    record["query"]["entropy_mean"] = 0.3 / (cycle + 1) + 0.01 * seed
                record["work"] = {"pool_items_scored": 950 - 10 * cycle, "distances": 7 * len(name)}
                rank = [(i * (cycle + 3) * len(name) + seed) % 5 > cycle for i in range(40)]
                record["stop_set"] = StopSetFigures(
                    size=40, n_labelled=cycle, n_classes=2,
                    classes=StopSetFigures.packed([int(r) for r in rank], 2),
                    confidence=min(0.99, 0.8 + 0.05 * cycle + 0.002 * seed),
                    entropy=0.4 / (cycle + 1), entropy_max=0.69 / (cycle + 1),
                ).model_dump()  # fmt: skip

            edit(folder, change)
    for seed in range(bounds):
        values = [0.9 + 0.01 * seed] * N_CYCLES
        make_run("full", seed, values, bound=True, learner=f"b {seed}", **settings)


def even(make_run: Any) -> Report:
    """Three strategies beside random sampling; one asks as another does, one is a hair better."""
    usual(make_run, {"random": 0.0, "margin": 0.025, "badge": 0.002})
    for seed in range(N_SEEDS):
        make_run(
            "asal-gray", seed, curve("asal", seed, -0.02), entropy=0.2 + 0.01 * seed,
            start=f"start {seed}", learner=f"own {seed}", select_s=0.02,
            diagnostics={"synthetic_entropy": 0.6, "match_depth_mean": 1.5 + seed},
            rows={"array.synthetic_label": [0, 1, 1, 0, seed % 2], "targets": [0, 1, 0, 0, 1]},
            preparation=[
                {
                    "name": "generator", "seconds": 30.0 + seed, "cached": seed > 1, "load_s": 0.25,
                    "details": {"key": "abc", "frechet": 12.5 + seed, "kind": "wgan", "ok": True},
                }
            ],
        )  # fmt: skip
    return build(
        comparisons(read_runs(make_run.root)),
        heading="Even classes",
        note="made up",
        looks=2,
        rules=all_rules(),
        inspections={"abc": {"frechet_auto": 1.5, "coverage_cls": 0.25}},
    )


def uneven(make_run: Any) -> Report:
    """Classes of nine to one, costs of fractions, runs that ended early, broke off, moved or slept."""
    facts = {"test_counts": [90, 10], "uneven": True, "notes": {"caution": "half of the data"}}
    usual(make_run, {"random": 0.0, "margin": 0.03, "qbc": -0.01}, task_facts=facts)
    for folder in sorted(make_run.root.glob("*/*/*")):
        spec = (folder / "spec.toml").read_text()
        if 'name = "qbc"' in spec:
            edit(folder, lambda cycle, record: record.update(cost=record["cost"] * 1.1 + 0.3))
    more = {"spec": {"budget": 200}, "protocol": {"budget": "90"}, "task_facts": facts}
    make_run("entropy", 0, [0.7, 0.8], finished=False, **more)
    make_run("entropy", 1, [0.7], finished=False, failure="MemoryError: too big", **more)
    moved = [{"hardware": {"threads": 1}}, {"first_cycle": 2, "hardware": {"threads": 2}}]
    folder = make_run("badge", 0, curve("badge", 0, 0.0), task_facts=facts, sessions=moved)

    def slept(cycle: int, record: dict[str, Any]) -> None:
        record["time"].update(paused_s=12.5 if cycle in (1, 2) else None, load=1.5 + cycle)
        record["n_synthetic"] = 3 * cycle

    edit(folder, slept)
    return build(
        comparisons(read_runs(make_run.root)), heading="Uneven", axis="cost", metric="log_loss",
        against="margin",
    )  # fmt: skip


def across(make_run: Any) -> Report:
    """Three tasks with their ranks; on the first one what the paper claims is held against the runs."""
    for task, gain in (("mnist-two", 0.03), ("cifar10-two", 0.0), ("svhn-two", -0.01)):
        usual(make_run, {"random": 0.0, "asal-auto": gain, "asal-gray": 0.02}, task=task)
    # A seed that others lack counts for nobody's mean.
    make_run("random", 7, curve("random", 7, 0.2), task="mnist-two", start="start 7")
    more = {"asal-disc": 0.022, "gaal": -0.03, "adba": -0.05}
    usual(make_run, more, task="mnist-two", bounds=0)
    found = comparisons(read_runs(make_run.root))
    gain = Gain(task="mnist-two", value=0.03, low=0.01, high=0.05, seeds=(90, 91))
    verdicts = check_paper(found, gains=[gain], looks=2)
    return build(found, heading="Tasks", claims=[v for v in verdicts if v.word != "not measured"])


def nested(make_run: Any) -> Report:
    """A strategy on three generators of other seeds, each with its own quality."""
    usual(make_run, {"random": 0.0, "margin": 0.01})
    for generator in range(3):
        for seed in range(4):
            make_run(
                "asal-gray", seed, curve(f"asal {generator}", seed, 0.01 * generator),
                start=f"start {seed}", spec={"generator": {"seed": generator}},
                learner=f"own {generator} {seed}",
                preparation=[
                    {
                        "name": "generator", "seconds": 900.0, "cached": seed > 0, "load_s": 1.0,
                        "details": {"key": f"key {generator}"},
                    }
                ],
            )  # fmt: skip
    quality = {f"key {i}": {"frechet_auto": 5.0 - i, "agreement_searched": 0.5} for i in range(2)}
    return build(
        comparisons(read_runs(make_run.root)), heading="Generators", axis="labels",
        inspections=quality,
    )  # fmt: skip


STUDIES: Mapping[str, Callable[[Any], Report]] = {
    "even": even,
    "uneven": uneven,
    "across": across,
    "nested": nested,
}


def value_of(cell: object) -> str:
    """Six digits of a number; what the last ones are depends on the machine."""
    if isinstance(cell, float) and not cell.is_integer():
        return "nan" if math.isnan(cell) else f"{cell:.6g}"
    return str(cell)


def table_of(item: Any) -> Iterator[str]:
    yield f"[{item.name}] {item.caption}"
    for row in (item.header, *item.rows):
        yield "  " + " | ".join(map(value_of, row))
    if isinstance(item, Chart):
        yield from drawn(item)


def drawn(chart: Chart) -> Iterator[str]:
    """What is in a picture: each line, bar, area and word, where it is and how it looks."""
    figure = new_figure(*chart.size)
    chart.draw(figure)
    yield f"({chart.name}: {' x '.join(map(value_of, chart.size))} inches)"
    for axes in figure.axes:
        about = (
            axes.get_title(),
            axes.get_xlabel(),
            axes.get_ylabel(),
            axes.get_xscale(),
            axes.get_yscale(),
        )
        yield "  axes " + " | ".join(about)
        for line in axes.get_lines():
            x, y = (places(values) for values in (line.get_xdata(), line.get_ydata()))
            style = (
                line.get_color(),
                line.get_marker(),
                line.get_linewidth(),
                line.get_markerfacecolor(),
            )
            yield f"    line {line.get_label()} {style} {line.is_dashed()}: {x}; {y}"
        for area in axes.collections:
            corners = np.concatenate(
                [path.vertices for path in area.get_paths()] or [np.empty((0, 2))]
            )
            yield f"    area {area.get_alpha()}: {places(corners[:, 0])}; {places(corners[:, 1])}"
        for bar in axes.patches:
            colour = [round(float(part), 2) for part in bar.get_facecolor()]
            yield f"    bar {places(bounds(bar))} {colour}"
        for image in axes.images:
            yield f"    image {places(np.asarray(image.get_array()).ravel())}"
        for text in axes.texts:
            yield f"    text {text.get_text()!r} at {places(text.get_position())} {text.get_ha()}"
        told = axes.get_legend()
        if told is not None:
            yield f"    legend {[text.get_text() for text in told.get_texts()]}"


def bounds(bar: Any) -> tuple[float, ...]:
    """Left, bottom, width and height of a rectangle; of another patch nothing."""
    return bar.get_bbox().bounds if hasattr(bar, "get_bbox") else ()


def places(values: Any) -> str:
    """Up to three numbers, and of more their ends, number and sum."""
    found = [float(v) for v in np.asarray(values, dtype=np.float64)]
    if len(found) <= 3:
        return " ".join(f"{v:.4g}" for v in found)
    total = sum(v for v in found if math.isfinite(v))
    return f"{len(found)} from {found[0]:.4g} to {found[-1]:.4g}, in all {total:.5g}"


def texts(report: Report) -> Iterator[str]:
    """What a terminal, a page and a paper show of it, with a table at chosen positions."""
    yield as_table(report, 100)
    yield as_markdown(report)
    yield as_latex(report)
    parts = points(report, [60.0, 88.3])
    for write in (points_text.as_table, points_text.as_markdown, points_text.as_latex,
                  points_text.as_points_csv, points_text.as_json):  # fmt: skip
        yield write(parts, report.status)


def told(report: Report) -> Iterator[str]:
    """All that a report holds, line by line."""
    yield f"{report.heading} | {report.note} | {report.status} | {report.complete} | {report.metric}"
    for section in report.sections:
        yield f"== {section.comparison.title}, {section.metric}"
        yield section.headline
        yield from (f"{name}: {value}" for name, value in section.facts)
        yield from section.sentences
        yield from (f"! {text}" for text in section.warnings)
        # Of several data sets each has the tables of the one: ranks over them and claims are what is new.
        alone = len(report.sections) == 1
        for item in (*section.tables, *section.charts) if alone else ():
            yield from table_of(item)
        for row in section.rows:
            yield "  " + ", ".join(f"{k}={value_of(v)}" for k, v in row.values().items())
    for item in (*report.across, *report.provenance):
        yield from table_of(item)
    for verdict in report.claims:
        yield f"{verdict.claim.id}: {verdict.word}, {verdict.evidence} ({verdict.replication})"


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_says_what_it_said(
    study: str, make_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "N_REPEATS", 20)  # of exact tests, for each claim
    report = STUDIES[study](make_run)
    lines = [*told(report), *(texts(report) if study == "uneven" else ())]
    held_against(study, "\n".join(lines).replace(str(make_run.root), "RUNS") + "\n")


def timed() -> Study:
    """Four sizes of three strategies and an index, with noise in each of four repeats."""
    rng = np.random.default_rng(0)
    found = []
    for n in (1_000, 10_000, 100_000, 1_000_000):
        scans = {"max-entropy": (2e-5 * n, n), "core-set": (8e-5 * n**0.9, n - 10)}
        scans["subset"] = (1e-5 * n, n // 2)  # no more than half of the pool: no scan of it
        for name, (seconds, scored) in {
            **scans,
            "asal-auto": (0.9, 0),
            "asal-cls": (1.1, 0),
        }.items():
            prepared = 0.0 if name in scans else 60.0 + 1e-3 * n
            features = 200 * n if name == "asal-auto" else None
            about = {"name": name, "n": n}
            found.append(
                Measurement(
                    kind="prepare", query_size=0, repeat=0, seconds=prepared, feature_bytes=features, **about
                )
            )  # fmt: skip
            for query_size in (10, 100):
                for repeat in range(4):
                    spent = round(seconds * query_size**0.1 * rng.uniform(0.8, 1.3), 7)
                    work = {"images_generated": 70, "pool_items_featurised": n // 2}
                    scan = {"pool_items_scored": scored, "distances": 3 * scored}
                    found.append(
                        Measurement(
                            kind="select", query_size=query_size, repeat=repeat, seconds=spent,
                            work=scan if name in scans else work,
                            phases={
                                "score" if name in scans else "generate": spent / 2,
                                **({"pick": spent / 3} if repeat else {}),  # not in every repeat
                            },
                            peak_host_bytes=8 * n * (repeat + 1), cpu_s=spent / 2, **about,
                        )
                    )  # fmt: skip
        for repeat in range(4):
            spent = round(1e-4 * n**0.5 * rng.uniform(0.8, 1.3), 7)
            more = {"work": {"distances": 40 + int(n**0.2) + repeat}, "seconds": spent}
            found.append(
                Measurement(kind="match", name="kdtree", n=n, query_size=10, repeat=repeat, **more)
            )
    machine = {"cpu": "a processor", "threads": 2, "torch": "2.6", "memory_bytes": 16 << 30}
    return Study(ScalingSpec(task="digits-two"), machine, tuple(found))


def test_a_timing_study_says_what_it_said(make_run: Any) -> None:
    study = timed()
    for name, end in (
        ("random", 0.7),
        ("max-entropy", 0.9),
        ("asal-auto", 0.85),
        ("asal-cls", 0.8),
    ):
        for seed in range(2):
            make_run(name, seed, (0.5, 0.6, end + 0.01 * seed))
    lines: list[str] = claims.hardware({"cnn": study})
    for header, rows in (
        (estimates.HEADER, estimates.table(study)),
        (estimates.SLOPE_HEADER, estimates.slopes(study)),
        (estimates.TABLE_2_HEADER, estimates.table_2(study)),
    ):
        lines += [" | ".join(map(value_of, row)) for row in (header, *rows)]
    lines += [str(row) for chart in figures.charts(study) for row in table_of(chart)]
    (comparison,) = comparisons(read_runs(make_run.root))
    found = costs.costs(comparison, study, sizes=(10_000, 300_000, 100_000_000))
    lines += [*table_of(costs.table(found)), *table_of(costs.chart(found))]
    lines += [
        ", ".join(map(value_of, vars(cost).values())) for row in found.values() for cost in row
    ]
    lines += [
        f"{verdict.claim.id}: {verdict.word}, {verdict.evidence}, {verdict.estimate}"
        for verdict in claims.check_all(
            claims.ClaimsFile.read(claims.FILE).claims, {"cnn": study, "rivals": study}
        )
        if verdict.word != "not measured"
    ]
    held_against("timing", "\n".join(lines) + "\n")


def held_against(name: str, text: str) -> None:
    path = HERE / f"{name}.txt"
    if os.environ.get("ALHARNESS_GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text.splitlines() == path.read_text(encoding="utf-8").splitlines()
