"""Every column of ``compare``, ``report`` and ``load_runs`` against runs made up by hand.

Each also where less is better. What is expected is computed here from the numbers below, by scipy or
by plain sums, and by nothing of ours.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import alharness
from alharness.comparison import cautions, figures, metrics, stopping, tables
from alharness.comparison.comparison import Comparison, comparisons
from alharness.comparison.tables import TextTable
from alharness.pictures.canvas import new_figure
from alharness.records import LedgerEntry, read_runs
from alharness.records.metrics import METRICS

N_SEEDS, N_CYCLES = 7, 4
STRATEGIES = ("margin", "random")
#: Positions of the four classifiers: of an oracle that rejects two of ten items, and asks for pictures.
ASKED, LABELLED, SYNTHETIC = (50, 60, 70, 76), (50, 58, 66, 71), (0, 3, 6, 10)
COST = (25.0, 30.5, 36.0, 39.0)
SIZES, ENTROPY = (10, 10, 6), (0.6, 0.5, 0.2)
SELECT_S, FIT_S = (9.0, 0.2, 0.4), (1.0, 2.0, 3.0, 4.0)
BOUND = {
    "accuracy": 0.9,
    "balanced_accuracy": 0.85,
    "macro_f1": 0.8,
    "average_precision": 0.95,
    "log_loss": 0.1,
}
X = {"queries": ASKED, "labels": LABELLED, "cost": COST}


def curve(metric: str, strategy: str, seed: int) -> list[float]:
    """Made up so that no two metrics rank alike and no two seeds are equal."""
    rng = np.random.default_rng([sorted(METRICS).index(metric), STRATEGIES.index(strategy), seed])
    ahead = 0.02 if (strategy == "margin") == (metric != "macro_f1") else 0.0
    values = np.array([0.6, 0.7, 0.8, 0.86]) + ahead + rng.uniform(-0.02, 0.02, N_CYCLES)
    values[0] = 0.6 + 0.001 * seed  # all start alike
    return [float(v) for v in (1.5 * (1 - values) if metric == "log_loss" else values)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, runs_maker: Any) -> Path:
    """Run folders with the numbers above."""
    make_run = runs_maker(tmp_path_factory.mktemp("columns") / "runs")
    for strategy in STRATEGIES:
        for seed in range(N_SEEDS):
            folder = make_run(strategy, seed, [0.5] * N_CYCLES, start=f"start {seed}")
            edit(folder, strategy, seed)
    path = make_run("full", 0, [0.5] * N_CYCLES, bound=True) / "cycles.jsonl"
    record = json.loads(path.read_text())
    record["test"].update(BOUND)
    path.write_text(json.dumps(record) + "\n")
    return make_run.root


@pytest.fixture
def comparison(root: Path) -> Comparison:
    return comparisons(read_runs(root))[0]


def edit(folder: Path, strategy: str, seed: int) -> None:
    """Fills a run's records with the numbers above."""
    path = folder / "cycles.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for cycle, record in enumerate(records):
        record["test"].update({name: curve(name, strategy, seed)[cycle] for name in METRICS})
        record.update(
            n_asked=ASKED[cycle], n_labelled=LABELLED[cycle], n_synthetic=SYNTHETIC[cycle], cost=COST[cycle]
        )  # fmt: skip
        record["time"].update(fit_s=FIT_S[cycle], evaluate_s=100.0, harness_s=200.0)
        if record["query"] is not None:
            record["query"].update(size=SIZES[cycle], entropy_mean=ENTROPY[cycle])
            record["time"].update(
                select_s=SELECT_S[cycle], annotate_s=50.0,
                phases={"score": SELECT_S[cycle] / 4, "pick": 3 * SELECT_S[cycle] / 4},
            )  # fmt: skip
            record["work"] = {"pool_items_scored": 100 * (cycle + 1)}
    records[0]["time"]["preparation"] = [
        {"name": "generator", "seconds": 30.0, "cached": seed > 0, "load_s": 2.0},
        {"name": "features", "seconds": 12.0, "cached": False, "load_s": 12.0},
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def area(metric: str, strategy: str, seed: int, x: Sequence[float]) -> float:
    y = curve(metric, strategy, seed)
    trapezoids = [(y[i] + y[i + 1]) / 2 * (x[i + 1] - x[i]) for i in range(len(x) - 1)]
    return sum(trapezoids) / (x[-1] - x[0])


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    found = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    return float(found[0]), float(found[1])


def reached(metric: str, strategy: str, share: float, x: Sequence[float]) -> float:
    """Median of the first evaluated position at or above a share of the bound."""
    each = []
    for seed in range(N_SEEDS):
        y = curve(metric, strategy, seed)
        each.append(next((x[i] for i in range(N_CYCLES) if y[i] >= share * BOUND[metric]), np.inf))
    return statistics.median(each)


def expected(metric: str, strategy: str, axis: str) -> dict[str, float]:
    x, seeds = X[axis], range(N_SEEDS)
    areas = {name: [area(metric, name, seed, x) for seed in seeds] for name in STRATEGIES}
    finals = [curve(metric, strategy, seed)[-1] for seed in seeds]
    less = metric == "log_loss"
    means = {name: float(np.mean(values)) for name, values in areas.items()}
    first = min(means, key=means.__getitem__) if less else max(means, key=means.__getitem__)
    row = {
        "runs": 7.0,
        "rank": 1.0 if strategy == first else 2.0,
        "aubc": means[strategy],
        **dict(zip(("aubc_low", "aubc_high"), mean_interval(areas[strategy]), strict=True)),
        "aubc_from": float(x[0]),
        "aubc_to": float(x[-1]),
        "final": float(np.mean(finals)),
        **dict(zip(("final_low", "final_high"), mean_interval(finals), strict=True)),
        "select_s": 0.3,  # the first of the session is left out
        "preparation_s": 42.0,
        "entropy": (10 * 0.6 + 10 * 0.5 + 6 * 0.2) / 26,
        "synthetic_share": 10 / 71,
        **{
            name: float(np.mean([curve(name, strategy, seed)[-1] for seed in seeds]))
            for name in METRICS
        },
    }
    for share in (95, 98, 99):
        own = reached(metric, strategy, share / 100, x)
        base = reached(metric, "random", share / 100, x)
        row[f"reached_{share}"] = np.nan if less else own
        row[f"efficiency_{share}"] = np.nan if less or np.isinf(own) else base / own
    if strategy == "random":
        names = "pairs pairs_above pairs_below difference difference_low difference_high p p_holm"
        more = "replication detectable more_pairs"
        return row | dict.fromkeys([*names.split(), *more.split()], np.nan)
    gaps = np.subtract(areas["margin"], areas["random"])
    low, high = mean_interval(list(gaps))
    p = float(stats.wilcoxon(gaps, method="exact").pvalue)
    return row | {
        "pairs": 7.0,
        "pairs_above": float((gaps > 0).sum()),
        "pairs_below": float((gaps < 0).sum()),
        "difference": float(gaps.mean()),
        "difference_low": low,
        "difference_high": high,
        "p": p,
        "p_holm": p,  # a family of one
    }


@pytest.mark.parametrize("axis", X)
@pytest.mark.parametrize("metric", METRICS)
def test_every_figure_of_merit_is_what_the_records_say(
    comparison: Comparison, metric: str, axis: str
) -> None:
    rows = {row.label: row for row in metrics.table(comparison, axis=axis, metric=metric)}
    assert set(rows) == set(STRATEGIES)
    for name, row in rows.items():
        wanted = expected(metric, name, axis)
        # What other seeds would say is simulated; tests of statistics hold it.
        left = {"replication", "detectable", "more_pairs"} if name == "margin" else set()
        assert set(row.merits) - set(wanted) == left
        for column, value in wanted.items():
            assert row[column] == pytest.approx(value, rel=1e-9, nan_ok=True), (name, column)


def test_the_best_stands_first_and_ties_share_a_place(comparison: Comparison) -> None:
    for metric in METRICS:
        order = [row.label for row in metrics.table(comparison, metric=metric)]
        best = min if metric == "log_loss" else max
        means = {
            name: np.mean([area(metric, name, seed, ASKED) for seed in range(N_SEEDS)])
            for name in STRATEGIES
        }
        assert order[0] == best(means, key=means.__getitem__)


@pytest.mark.parametrize("metric", METRICS)
def test_who_is_better_beats_the_other_whichever_way_is_better(make_run: Any, metric: str) -> None:
    """Penalties: gains of the better one, also where better is less; one position of three is a tie."""
    gaps = {"good": (0.0, 0.1, 0.0, 0.1), "random": (0.0, 0.0, 0.0, 0.0)}
    for name, each in gaps.items():
        for seed in range(8):
            folder = make_run(name, seed, [0.5] * N_CYCLES, start=f"start {seed}")
            path = folder / "cycles.jsonl"
            records = [json.loads(line) for line in path.read_text().splitlines()]
            for record, gap in zip(records, each, strict=True):
                noise = 0.001 * ((seed * 7 + record["cycle"]) % 5)
                record["test"][metric] = (
                    0.5 + (gap if METRICS[metric].better == "more" else -gap) + noise
                )
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = metrics.penalties(comparisons(read_runs(make_run.root))[0], metric=metric)
    assert found is not None
    wins = dict(zip(found.labels, found.matrix.tolist(), strict=True))
    assert found.labels == ("good", "random")
    assert wins == {"good": [0.0, pytest.approx(2 / 3)], "random": [0.0, 0.0]}
    assert found.losses.tolist() == [0.0, pytest.approx(2 / 3)]


def test_seconds_phases_and_work_of_a_selection(comparison: Comparison) -> None:
    series = comparison.find("margin")
    assert metrics.select_seconds(series) == pytest.approx(0.3)
    assert metrics.phase_seconds(series) == pytest.approx({"score": 0.075, "pick": 0.225})
    assert metrics.work_per_query(series) == {"pool_items_scored": 200.0}
    waited = metrics.total_seconds(series.runs[0], preparation_s=42.0)
    # Until classifier k: k + 1 fits and k selections.
    assert waited == pytest.approx([43.0, 54.0, 57.2, 61.6])


def test_every_column_of_the_table_of_cycles(root: Path) -> None:
    frame = alharness.load_runs(root)
    assert len(frame) == len(STRATEGIES) * N_SEEDS * N_CYCLES + 1
    run = frame[(frame["strategy"] == "margin") & (frame["seed"] == 3)]
    wanted: dict[str, Sequence[Any]] = {
        "task": ["digits-two"] * 4,
        "label": ["margin"] * 4,
        "data_seed": [3] * 4,
        "state": ["finished"] * 4,
        "cycle": [0, 1, 2, 3],
        "n_labelled": LABELLED,
        "n_asked": ASKED,
        "n_synthetic": SYNTHETIC,
        "cost": COST,
        "labelled_digest": ["start 3"] * 4,
        "fit.steps": [10] * 4,
        "fit.train_loss": [0.1] * 4,
        "fit.converged": [True] * 4,
        **{f"test.{name}": curve(name, "margin", 3) for name in METRICS},
        "query.size": [*SIZES, np.nan],
        "query.entropy_mean": [*ENTROPY, np.nan],
        "query.entropy_median": [0.1, 0.1, 0.1, np.nan],
        "annotation.n_asked": [10.0, 10.0, 10.0, np.nan],
        "annotation.n_rejected": [0.0, 0.0, 0.0, np.nan],
        "annotation.n_labels": [10.0, 10.0, 10.0, np.nan],
        "annotation.cost": [10.0, 10.0, 10.0, np.nan],
        "work.pool_items_scored": [100, 200, 300, 100],
        "time.fit_s": FIT_S,
        "time.evaluate_s": [100.0] * 4,
        "time.harness_s": [200.0] * 4,
        "time.select_s": [*SELECT_S, np.nan],
        "time.annotate_s": [50.0, 50.0, 50.0, np.nan],
        "time.bookkeeping_s": [0.0] * 4,
        "time.phases.score": [2.25, 0.05, 0.1, np.nan],
        "time.phases.pick": [6.75, 0.15, 0.3, np.nan],
        "time.preparation_s": [42.0, 0.0, 0.0, 0.0],
        "time.preparation_paid_s": [14.0, 0.0, 0.0, 0.0],
        "final": [False, False, False, True],
    }
    for column, values in wanted.items():
        found = run[column].tolist()
        if isinstance(values[0], float):
            assert found == pytest.approx(list(values), nan_ok=True), column
        else:
            assert all(a == b or (a != a and b != b) for a, b in zip(found, values, strict=True)), (
                column
            )
    # Whatever else a record has is no figure: who and when, texts, and what was not measured here.
    other = {
        name for name in frame.columns if name.partition(".")[0] in ("test", "time", "query", "fit")
    }
    assert other - set(wanted) == {
        "query.kind", "query.digest", "time.cold", "time.fit_cpu_s", "time.select_cpu_s", "time.load",
        "time.paused_s", "time.stop_s", "fit.n_pseudo", "fit.n_unlabelled",
    }  # fmt: skip


def test_a_median_of_an_even_number_of_seeds_lies_between_two(
    make_run: Callable[..., Path],
) -> None:
    for seed, values in enumerate(
        [(0.5, 0.9, 0.9), (0.5, 0.5, 0.9), (0.9, 0.9, 0.9), (0.5, 0.5, 0.5)]
    ):
        make_run("random", seed, values)
    series = comparisons(read_runs(make_run.root))[0].series[0]  # type: ignore[attr-defined]
    assert (
        metrics.median_reached(series, "queries", "accuracy", 0.9) == 65
    )  # of 50, 60, 70 and never


def cells_of(table: TextTable) -> dict[str, dict[str, str]]:
    """name -> head -> cell; a head that is there twice counts the second one."""
    found = {}
    at = 1 if table.header[0] == "rank" else 0
    for row in table.rows:
        assert len(row) == len(table.header)
        found[row[at]] = {
            head + "'" * table.header[:i].count(head): cell
            for i, (head, cell) in enumerate(zip(table.header, row, strict=True))
        }
    return found


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_every_cell_of_the_table_of_results(comparison: Comparison, metric: str) -> None:
    rows = metrics.table(comparison, metric=metric)
    words = comparison.words(metric)
    cells = cells_of(tables.results(comparison, rows, "queries", metric))
    assert list(cells)[:2] == [row.label for row in rows]
    for name in STRATEGIES:
        wanted = expected(metric, name, "queries")
        assert cells[name] == {
            "rank": f"{wanted['rank']:.0f}",
            "strategy": name,
            "runs": "7",
            "area under the curve (annotations)": f"{wanted['aubc']:.4f}",
            "95 % interval": f"{wanted['aubc_low']:.4f} to {wanted['aubc_high']:.4f}",
            f"final {words}": f"{wanted['final']:.4f}",
            "95 % interval'": f"{wanted['final_low']:.4f} to {wanted['final_high']:.4f}",
            "entropy of queries (nats)": f"{wanted['entropy']:.3f}",
            "synthetic labels": "14 %",  # 10 of 71
        }
    bound = cells["fully supervised (bound)"]
    assert (bound["rank"], bound["runs"], bound[f"final {words}"]) == (
        "",
        "1",
        f"{BOUND[metric]:.4f}",
    )
    assert set(bound.values()) == {"", "1", "–", "fully supervised (bound)", f"{BOUND[metric]:.4f}"}


def test_every_cell_of_the_tables_of_labels_and_tests(comparison: Comparison) -> None:
    rows = metrics.table(comparison, metric="accuracy")
    (reached_,) = tables.reached(comparison, rows, "queries", "random")
    cells = cells_of(reached_)
    for name in STRATEGIES:
        wanted = expected("accuracy", name, "queries")
        told = {"strategy": name}
        for i, share in enumerate((95, 98, 99)):
            own, ratio = wanted[f"reached_{share}"], wanted[f"efficiency_{share}"]
            told[f"to {share} % of the bound"] = "never" if np.isinf(own) else f"{own:.0f}"
            told["random needs" + "'" * i] = (
                "–"
                if np.isnan(ratio)
                else "more, if ever"
                if np.isinf(ratio)
                else f"{ratio:.2f} times"
            )
        assert cells[name] == told
    (tests_,) = tables.tests(rows, "random", "accuracy", looks=3)
    wanted = expected("accuracy", "margin", "queries")
    (row,) = tests_.rows
    assert row[:7] == (
        "margin", "7", f"{wanted['difference']:+.4f}",
        f"{wanted['difference_low']:+.4f} to {wanted['difference_high']:+.4f}",
        f"{wanted['p']:.3f}", f"{wanted['p_holm']:.3f}", "significantly above",
    )  # fmt: skip
    assert "over 1 comparison, every p times 3 for as many looks" in tests_.caption
    (once,) = tables.tests(rows, "random", "accuracy")
    assert once.caption.endswith("over 1 comparison")


def test_every_cell_of_the_tables_of_times(comparison: Comparison) -> None:
    rows = metrics.table(comparison, metric="accuracy")
    cells = cells_of(tables.times(comparison, rows))
    told = {
        "per selection": "300 ms", "per training": "2.5 s", "preparation": "42 s",
        "pool items scored": "200",
    }  # fmt: skip
    assert cells == {name: {"strategy": name, **told} for name in STRATEGIES}
    (prepared,) = tables.preparations(comparison)
    assert [row[:4] for row in prepared.rows] == [
        line
        for name in STRATEGIES
        for line in ((name, "generator", "30 s", "6 of 7"), (name, "features", "12 s", "0 of 7"))
    ]


def chart_rows(chart: Any) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """(strategy, position) -> the other columns."""
    assert chart is not None
    return {row[:2]: row[2:] for row in chart.rows}


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_every_row_of_the_figures_of_curves(comparison: Comparison, metric: str) -> None:
    """Mean, minimum, maximum and number of runs at each position."""
    curves = {
        name: np.array([curve(metric, name, seed) for seed in range(N_SEEDS)])
        for name in STRATEGIES
    }
    drawn = chart_rows(figures.learning_curves(comparison, axis="labels", metric=metric))
    end = (BOUND[metric],) * 3
    assert drawn.pop(("fully supervised", "")) == (*end, 1)
    wanted = {
        (name, x): (v.mean(), v.min(), v.max(), N_SEEDS)
        for name, rows in curves.items()
        for x, v in zip(LABELLED, rows.T, strict=True)
    }
    assert set(drawn) == set(wanted)
    for key, values in wanted.items():
        assert drawn[key] == pytest.approx(values)
    gains = chart_rows(
        figures.gain_curves(comparison, comparison.find("random"), axis="cost", metric=metric)
    )
    for x, v in zip(COST, (curves["margin"] - curves["random"]).T, strict=True):
        assert gains.pop(("margin", x)) == pytest.approx((v.mean(), v.min(), v.max(), N_SEEDS))
    assert gains == {}
    # Until classifier k: the preparation in full, k + 1 fits and k selections.
    timed = chart_rows(figures.accuracy_against_time(comparison, metric=metric))
    for x, v in zip((43.0, 54.0, 57.2, 61.6), curves["random"].T, strict=True):
        (key,) = [key for key in timed if key[0] == "random" and abs(key[1] - x) < 1e-9]
        assert timed[key] == pytest.approx((v.mean(), v.min(), v.max(), N_SEEDS))
    assert len(timed) == 2 * N_CYCLES


def test_every_row_of_the_other_figures(comparison: Comparison) -> None:
    entropies = chart_rows(figures.entropy_curves(comparison))
    assert len(entropies) == 2 * len(ENTROPY)
    for name in STRATEGIES:
        for x, e in zip(ASKED[:-1], ENTROPY, strict=True):
            assert entropies[name, x] == pytest.approx((e, e, e, N_SEEDS))
    phases = chart_rows(figures.selection_times(comparison))
    for name in STRATEGIES:
        assert phases[name, "score"] == (pytest.approx(0.075),)
        assert phases[name, "pick"] == (pytest.approx(0.225),)
    wanted = expected("accuracy", "margin", "queries")
    drawn = figures.differences(metrics.table(comparison, metric="accuracy"), "random")
    assert drawn is not None
    ((label, *row),) = drawn.rows
    assert label == "margin"
    assert row == pytest.approx(
        [wanted["difference"], wanted["difference_low"], wanted["difference_high"], 7]
    )
    shares = chart_rows(figures.class_balance(comparison))
    assert shares == {
        (name, of): (0.5,) for name in (*STRATEGIES, "(test set)") for of in ("zero", "one")
    }


def test_every_column_of_the_table_of_stopping_rules(comparison: Comparison) -> None:
    stops = (
        stopping.Stop(True, 20.0, 30.0, 0.8, 0.1),
        stopping.Stop(False, 40.0, 20.0, 0.9, 0.0),
        stopping.Stop(True, 30.0, 10.0, 0.7, 0.5),
    )
    judged = stopping.Judged("margin", "kappa", stops)
    assert judged.as_dict() == {
        "strategy": "margin", "rule": "kappa", "runs": 3, "fired": 2, "spent": 30.0, "hindsight": 20.0,
        "figure": pytest.approx(0.8), "lost": pytest.approx(0.2), "most_lost": 0.5,
    }  # fmt: skip
    (told,) = stopping.table(stopping.Verdicts((judged,)), comparison, "queries", "accuracy")
    assert told.rows == (("margin", "kappa", "2 of 3", "30", "20", "0.8000", "0.2000", "0.5000"),)
    assert len(told.header) == 8


def test_seeds_have_a_band_and_differences_have_none(comparison: Comparison) -> None:
    def bands(chart: Any) -> int:
        figure = new_figure(*chart.size)
        chart.draw(figure)
        (axes,) = figure.axes
        return len(axes.collections)

    assert bands(figures.learning_curves(comparison)) == len(STRATEGIES)
    assert bands(figures.gain_curves(comparison, comparison.find("random"))) == 0


def test_an_annotator_that_sees_less_than_the_classifiers_is_told() -> None:
    """Entries of other things that were prepared are none of its figures, whatever they hold."""

    def run(accuracy: list[float], *entries: LedgerEntry) -> SimpleNamespace:
        columns = {"test.accuracy": accuracy}
        records = SimpleNamespace(column=columns.__getitem__)
        return SimpleNamespace(records=records, preparation=entries)

    def entry(name: str, accuracy: float) -> LedgerEntry:
        return LedgerEntry(
            name=name, seconds=1.0, cached=False, load_s=0.0, details={"test_accuracy": accuracy}
        )

    def told(annotator: float) -> list[str]:
        runs = [run([0.5, 0.8], entry("annotator", annotator), entry("autoencoder", 0.1))]
        comparison = SimpleNamespace(runs=runs, bounds=[run([0.9])])
        return cautions.annotator_warnings(comparison)  # type: ignore[arg-type]

    (warning,) = told(0.85)
    assert "right in 85.0% of the test images" in warning
    assert "reach 90.0%" in warning
    assert told(0.9) == []
